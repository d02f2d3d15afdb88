package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"

	"hb/source/mysqld/mysqldtest"
)

// hurtDirectories damages copies of directories, one thing in each, and demands that
// hb notices. For a directory that was recovered, hb verify must; for one that
// another tool could have made, without hb's manifest, hb apply must, or come to
// the same pages as without the damage.
func (r *round) hurtDirectories(ctx context.Context, copies []copied) error {
	i := slices.IndexFunc(copies, func(c copied) bool { return c.exact })
	if i < 0 || r.damage[0] == noDamage {
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
	if r.damage[1] == hardLinks {
		return r.hardLinks(ctx)
	}
	return r.hurtForeign(ctx, whole, rnd)
}

// A dirDamage does one thing to a directory, and says what. "" means that there was
// nothing to do it to.
type dirDamage struct {
	name string
	do   func(r *round, dir string, rnd *rand.Rand) (string, error)
}

const (
	noDamage  = "nothing hurt" // then nothing is done to the other directory either
	hardLinks = "foreign: hard links"
)

var dirDamages = []dirDamage{ // of recovered directories
	{noDamage, nil},
	{"file removed", removeAny},
	{"file cut", cutAny},
	{"page zeroed", zeroUsed},
	{"byte changed", changeAny},
	{"undo tablespace removed", removeUndo},
}

var foreignDamages = []dirDamage{
	{"foreign: file cut", cutAny},
	{"foreign: undo tablespace removed", removeUndo},
	{"foreign: page flipped", flipUsed},
	{hardLinks, nil},
}

func damageNamed(name string) dirDamage {
	for _, d := range slices.Concat(dirDamages, foreignDamages) {
		if d.name == name {
			return d
		}
	}
	return dirDamage{}
}

// filesOf lists the files of a directory for which is holds, by relative name.
func filesOf(dir string, is func(name string, size int64) bool) (out []string, err error) {
	return out, filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() {
			return err
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		name, err := filepath.Rel(dir, path)
		if err == nil && is(name, info.Size()) {
			out = append(out, name)
		}
		return err
	})
}

// isPages reports whether a file consists of InnoDB's pages.
func isPages(name string) bool {
	base := filepath.Base(name)
	return filepath.Ext(base) == ".ibd" || filepath.Ext(base) == ".ibu" || strings.HasPrefix(base, "ibdata") || strings.HasPrefix(base, "undo")
}

// pickFile picks one of the files.
func pickFile(dir string, rnd *rand.Rand, is func(name string, size int64) bool) (name, path string, err error) {
	names, err := filesOf(dir, is)
	if err != nil || len(names) == 0 {
		return "", "", err
	}
	name = pick(rnd, names)
	return name, filepath.Join(dir, name), nil
}

// noted are the files of a recovered directory that are compared with nothing: the
// note of what belongs there.
func noted(name string) bool { return name != "hb-applied.json" }

func removeAny(_ *round, dir string, rnd *rand.Rand) (string, error) {
	kind := rnd.IntN(3)
	name, path, err := pickFile(dir, rnd, func(name string, _ int64) bool {
		switch kind {
		case 0:
			return noted(name)
		case 1:
			return strings.HasPrefix(filepath.Base(name), "ib_logfile") || strings.Contains(name, "#innodb_redo")
		}
		return isPages(name)
	})
	if err != nil || name == "" {
		return "", err
	}
	return name + " removed", os.Remove(path)
}

func cutAny(r *round, dir string, rnd *rand.Rand) (string, error) {
	page := int64(r.pageSize())
	name, path, err := pickFile(dir, rnd, func(name string, size int64) bool { return isPages(name) && size > 2*page })
	if err != nil || name == "" {
		return "", err
	}
	f, err := os.Open(path)
	if err != nil {
		return "", err
	}
	pages, err := usedPage(f, r.pageSize(), rnd.Float64())
	if err = errors.Join(err, f.Close()); err != nil {
		return "", err
	}
	if pages == 0 {
		pages = 1
	}
	return fmt.Sprintf("%s cut to %d pages", name, pages), os.Truncate(path, pages*page)
}

// victimFile is the victim's tablespace in a directory, "" if it was dropped.
func victimFile(dir string) (string, error) {
	names, err := filesOf(dir, func(name string, _ int64) bool {
		return filepath.Dir(name) == victimDB && strings.HasPrefix(filepath.Base(name), "v") && filepath.Ext(name) == ".ibd"
	})
	if err != nil || len(names) == 0 {
		return "", err
	}
	return names[0], nil
}

// zeroUsed zeroes a leaf of the victim's: a page that is in use for certain.
func zeroUsed(r *round, dir string, rnd *rand.Rand) (string, error) {
	return hurtVictim(r, dir, rnd, func(f *os.File, page int64, size int) error { return zero(f, page, size) })
}

// flipUsed changes a bit of a leaf of the victim's.
func flipUsed(r *round, dir string, rnd *rand.Rand) (string, error) {
	return hurtVictim(r, dir, rnd, flip)
}

func hurtVictim(r *round, dir string, rnd *rand.Rand, how func(f *os.File, page int64, size int) error) (string, error) {
	name, err := victimFile(dir)
	if err != nil || name == "" {
		return "", err
	}
	f, err := os.OpenFile(filepath.Join(dir, name), os.O_RDWR, 0)
	if err != nil {
		return "", err
	}
	page, err := usedPage(f, r.pageSize(), rnd.Float64())
	if err != nil || page == 0 {
		return "", errors.Join(err, f.Close())
	}
	return fmt.Sprintf("page %d of %s", page, name), errors.Join(how(f, page, r.pageSize()), f.Close())
}

// changeAny changes a byte of the redo log, or of a file that recovery leaves as it
// is.
func changeAny(_ *round, dir string, rnd *rand.Rand) (string, error) {
	log := rnd.IntN(2) == 0
	name, path, err := pickFile(dir, rnd, func(name string, size int64) bool {
		if log {
			return size > 0 && (strings.HasPrefix(filepath.Base(name), "ib_logfile") || strings.Contains(name, "#innodb_redo"))
		}
		return size > 0 && slices.Contains([]string{".MYD", ".MYI", ".MAD", ".MAI", ".CSV", ".frm", ".opt", ".sdi"}, filepath.Ext(name))
	})
	if err != nil || name == "" {
		return "", err
	}
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		return "", err
	}
	st, err := f.Stat()
	if err != nil {
		return "", errors.Join(err, f.Close())
	}
	at, b := rnd.Int64N(st.Size()), make([]byte, 1)
	if _, err = f.ReadAt(b, at); err == nil {
		b[0] ^= 1 << rnd.IntN(8)
		_, err = f.WriteAt(b, at)
	}
	return fmt.Sprintf("byte %d of %s changed", at, name), errors.Join(err, f.Close())
}

func removeUndo(_ *round, dir string, rnd *rand.Rand) (string, error) {
	name, path, err := pickFile(dir, rnd, func(name string, _ int64) bool {
		return isPages(name) && !strings.Contains(name, "/") && (strings.HasPrefix(name, "undo") || filepath.Ext(name) == ".ibu")
	})
	if err != nil || name == "" {
		return "", err
	}
	return name + " removed", os.Remove(path)
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
	d := damageNamed(r.damage[0])
	what, err := d.do(r, dir, rnd)
	if err != nil {
		return &ownError{d.name, err}
	}
	if what != "" {
		code, said, err := r.command(ctx, r.hb.plain, "", "verify", "--no-defaults", dir)
		if err != nil {
			return err
		}
		if code == 0 || code == 2 {
			return fmt.Errorf("hb verify of a recovered directory with damage (%s: %s) ended with %d:\n%s", d.name, what, code, said)
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
		if err := os.Remove(filepath.Join(dir, name)); ignoreGone(err) != nil {
			return err
		}
	}
	d := damageNamed(r.damage[1])
	what, err := d.do(r, dir, rnd)
	if err != nil {
		return &ownError{d.name, err}
	}
	if what == "" {
		return os.RemoveAll(dir)
	}
	code, said, err := r.command(ctx, r.hb.plain, "", "apply", "--no-defaults", dir)
	if err != nil {
		return err
	}
	if code == 2 {
		return fmt.Errorf("hb apply of a directory with damage (%s: %s) ended with 2:\n%s", d.name, what, said)
	}
	if code == 0 && d.name != "foreign: page flipped" { // what the redo does not touch apply does not read
		if err := sameTablespaces(whole, dir, !slices.Contains(mysqldtest.MariaDB, r.server)); err != nil {
			return fmt.Errorf("hb apply of a directory with damage (%s: %s) ended with 0, and %w", d.name, what, err)
		}
	}
	return os.RemoveAll(dir)
}

// hardLinks demands that hb apply leaves alone a directory whose files are another's
// too.
func (r *round) hardLinks(ctx context.Context) error {
	dir, linked := filepath.Join(r.dir, "extracted once more"), filepath.Join(r.dir, "linked")
	if err := r.extract(ctx, dir); err != nil {
		return err
	}
	before, err := digests(dir)
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
	after, err := digests(dir)
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
