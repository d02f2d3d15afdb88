package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
)

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
