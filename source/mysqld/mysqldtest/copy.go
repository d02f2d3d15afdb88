package mysqldtest

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
)

// copyBlock is the unit in which zeroes are looked for.
const copyBlock = 64 << 10

var zeroBlock [copyBlock]byte

// CopyTree copies the directories and regular files below src to dst. Blocks of
// zeroes become holes: a fresh redo log is large and empty.
func CopyTree(dst, src string) error {
	return filepath.WalkDir(src, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(src, path)
		if err != nil {
			return err
		}
		to := filepath.Join(dst, rel)
		switch {
		case d.IsDir():
			return os.MkdirAll(to, 0o755)
		case d.Type().IsRegular():
			return CopyFile(to, path)
		}
		return nil // sockets and the like
	})
}

// CopyFile copies a file to one that is not there yet. Blocks of zeroes become
// holes.
func CopyFile(dst, src string) (err error) {
	in, err := os.Open(src)
	if err != nil {
		return err
	}
	defer in.Close()
	out, err := os.OpenFile(dst, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o644)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, out.Close()) }()
	buf := make([]byte, copyBlock)
	var size int64
	for {
		n, err := io.ReadFull(in, buf)
		if n > 0 && !bytes.Equal(buf[:n], zeroBlock[:n]) {
			if _, err := out.WriteAt(buf[:n], size); err != nil {
				return fmt.Errorf("copy %s: %w", src, err)
			}
		}
		size += int64(n)
		if err == io.EOF || err == io.ErrUnexpectedEOF {
			break
		}
		if err != nil {
			return fmt.Errorf("copy %s: %w", src, err)
		}
	}
	return out.Truncate(size)
}
