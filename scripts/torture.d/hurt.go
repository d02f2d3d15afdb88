package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"

	"hb/scripts/torture.d/damage"
	"hb/scripts/torture.d/load"
	"hb/scripts/torture.d/oracle"
	"hb/source/mysqld/mysqldtest"
)

// hurtDirectories damages copies of directories, one thing in each, and demands that
// hb notices. For a directory that was recovered, hb verify must; for one that
// another tool could have made, without hb's manifest, hb apply must, or come to
// the same pages as without the damage.
func (r *round) hurtDirectories(ctx context.Context, copies []copied) error {
	i := slices.IndexFunc(copies, func(c copied) bool { return c.exact })
	if i < 0 || r.damage[0] == damage.None {
		return nil
	}
	rnd := rand.New(rand.NewPCG(r.loadSeed, 0))
	whole := copies[i].dir
	if code, said, err := r.command(ctx, r.hb.plain, "", "verify", "--no-defaults", whole); err != nil || code != 0 {
		return errors.Join(err, fmt.Errorf("hb verify of a directory that hb apply made ended with %d:\n%s", code, said))
	}
	if err := r.hurtRecovered(ctx, whole, rnd); err != nil {
		return err
	}
	if r.damage[1] == damage.HardLinks {
		return r.refusesLinks(ctx)
	}
	return r.hurtForeign(ctx, whole, rnd)
}

// copyDir copies a directory, to be removed by the caller.
func (r *round) copyDir(ctx context.Context, from, to string, options ...string) error {
	text, err := exec.CommandContext(ctx, "cp", append(append([]string{"-a"}, options...), from, to)...).CombinedOutput()
	if err != nil {
		return fmt.Errorf("copy %s: %w: %s", from, err, text)
	}
	return nil
}

// hurtRecovered damages a copy of a recovered directory.
func (r *round) hurtRecovered(ctx context.Context, whole string, rnd *rand.Rand) error {
	dir := filepath.Join(r.dir, "recovered and hurt")
	if err := r.copyDir(ctx, whole, dir); err != nil {
		return err
	}
	d := damage.Named(r.damage[0])
	what, err := d.Do(r.pageSize(), dir, rnd)
	if err != nil {
		return &ownError{d.Name, err}
	}
	if what != "" {
		code, said, err := r.command(ctx, r.hb.plain, "", "verify", "--no-defaults", dir)
		if err != nil {
			return err
		}
		if code == 0 || code == 2 {
			return fmt.Errorf("hb verify of a recovered directory with damage (%s: %s) ended with %d:\n%s", d.Name, what, code, said)
		}
	}
	return os.RemoveAll(dir)
}

// hurtForeign damages an extracted directory that has no manifest of hb's.
func (r *round) hurtForeign(ctx context.Context, whole string, rnd *rand.Rand) error {
	dir := filepath.Join(r.dir, "extracted and hurt")
	if err := r.extract(ctx, dir); err != nil {
		return err
	}
	for _, name := range []string{"hb-archive.json", "hb-manifest.json"} {
		if err := os.Remove(filepath.Join(dir, name)); load.IgnoreGone(err) != nil {
			return err
		}
	}
	d := damage.Named(r.damage[1])
	what, err := d.Do(r.pageSize(), dir, rnd)
	if err != nil {
		return &ownError{d.Name, err}
	}
	if what == "" {
		return os.RemoveAll(dir)
	}
	code, said, err := r.command(ctx, r.hb.plain, "", "apply", "--no-defaults", dir)
	if err != nil {
		return err
	}
	if code == 2 {
		return fmt.Errorf("hb apply of a directory with damage (%s: %s) ended with 2:\n%s", d.Name, what, said)
	}
	if code == 0 && d.Name != "foreign: page flipped" { // what the redo does not touch apply does not read
		if err := oracle.SameTablespaces(whole, dir, !slices.Contains(mysqldtest.MariaDB, r.server)); err != nil {
			return fmt.Errorf("hb apply of a directory with damage (%s: %s) ended with 0, and %w", d.Name, what, err)
		}
	}
	return os.RemoveAll(dir)
}

// refusesLinks demands that hb apply leaves alone a directory whose files are another's
// too.
func (r *round) refusesLinks(ctx context.Context) error {
	dir, linked := filepath.Join(r.dir, "extracted once more"), filepath.Join(r.dir, "linked")
	if err := r.extract(ctx, dir); err != nil {
		return err
	}
	before, err := oracle.Digests(dir)
	if err != nil {
		return err
	}
	if err := r.copyDir(ctx, dir, linked, "-l"); err != nil {
		return err
	}
	code, said, err := r.command(ctx, r.hb.plain, "", "apply", "--no-defaults", linked)
	if err != nil {
		return err
	}
	after, err := oracle.Digests(dir)
	if err != nil {
		return err
	}
	for name := range before {
		if before[name] != after[name] {
			return fmt.Errorf("hb apply of a copy of hard links ended with %d, and changed %s of the first:\n%s", code, name, said)
		}
	}
	return errors.Join(os.RemoveAll(dir), os.RemoveAll(linked))
}

// hurtArchive demands that hb accepts the archive neither without its end nor
// with one bit changed.
func (r *round) hurtArchive(ctx context.Context) error {
	st, err := os.Stat(r.archive())
	if err != nil {
		return err
	}
	last, err := manifestAt(r.archive(), st.Size())
	if err != nil {
		return err
	}
	at := func(share float64) int64 { return int64(share * float64(st.Size())) }
	return errors.Join(
		r.refuses(ctx, fmt.Sprintf("cut after %d of %d bytes", at(r.at[2]), st.Size()), func(f *os.File) io.Reader { return io.LimitReader(f, at(r.at[2])) }),
		r.refuses(ctx, fmt.Sprintf("cut before its manifest, at %d of %d bytes", last, st.Size()), func(f *os.File) io.Reader { return io.LimitReader(f, last) }),
		r.refuses(ctx, fmt.Sprintf("with a bit of byte %d of %d changed", at(r.at[3]), st.Size()), func(f *os.File) io.Reader { return &flipped{f, at(r.at[3])} }))
}

// manifestAt is where the manifest of an archive without stages begins, before which
// every other file has ended; of another archive it is the last byte.
func manifestAt(name string, size int64) (_ int64, err error) {
	f, err := os.Open(name)
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	end := make([]byte, min(size, 8<<20))
	if _, err := f.ReadAt(end, size-int64(len(end))); err != nil {
		return 0, err
	}
	if at := bytes.Index(end, []byte("XBSTCK01\x00P\x10\x00\x00\x00hb-manifest.json")); at >= 0 {
		return size - int64(len(end)) + int64(at), nil
	}
	return size - 1, nil
}

// refuses demands that hb verify and hb extract refuse what they read of the archive.
func (r *round) refuses(ctx context.Context, what string, of func(*os.File) io.Reader) error {
	dir := filepath.Join(r.dir, "refused")
	for _, args := range [][]string{{"verify"}, {"extract", "-C", dir}} {
		f, err := os.Open(r.archive())
		if err != nil {
			return err
		}
		cmd := exec.CommandContext(ctx, r.hb.plain, append(args, "--no-defaults", r.identity())...)
		cmd.Stdin = of(f)
		code, said, err := r.runLogged(cmd, args[0])
		if err == nil && code == 0 {
			err = fmt.Errorf("hb %s accepts the archive %s:\n%s", args[0], what, said)
		}
		if err := errors.Join(err, f.Close(), os.RemoveAll(dir)); err != nil {
			return err
		}
	}
	return nil
}

// flipped changes one bit of what is read.
type flipped struct {
	r    io.Reader
	left int64 // bytes before it
}

func (f *flipped) Read(p []byte) (int, error) {
	n, err := f.r.Read(p)
	if f.left >= 0 && f.left < int64(n) {
		p[f.left] ^= 4
	}
	f.left -= int64(n)
	return n, err
}
