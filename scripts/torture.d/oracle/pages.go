// Package oracle compares what was restored with what must be there, without hb: pages
// byte for byte, the recorded position with the binary logs. In go servers and
// directories; an error is a finding.
package oracle

import (
	"crypto/sha256"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
)

// A Copy is a recovered directory.
type Copy struct {
	Way string // in which it was restored
	Dir string
}

// SamePages demands that copies have the same files, byte for byte.
func SamePages(copies []Copy) error {
	var first map[string]string
	for _, c := range copies {
		sums, err := Digests(c.Dir)
		if err != nil {
			return err
		}
		if first == nil {
			first = sums
			continue
		}
		for _, f := range slices.Sorted(maps.Keys(first)) {
			if sums[f] != first[f] {
				return fmt.Errorf("%s differs between the copies restored by %s and by %s%s", f, copies[0].Way, c.Way, FirstDifference(f, copies[0].Dir, c.Dir))
			}
			delete(sums, f)
		}
		for f := range sums {
			return fmt.Errorf("the copy restored by %s has the file %s, which that restored by %s has not", c.Way, f, copies[0].Way)
		}
	}
	return nil
}

// Digests returns a digest of each file of a directory, by name.
func Digests(dir string) (map[string]string, error) {
	out := map[string]string{}
	return out, filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(dir, path)
		if err != nil {
			return err
		}
		switch {
		case d.IsDir():
			out[rel] = "directory"
		case d.Type()&fs.ModeSymlink != 0:
			out[rel], err = os.Readlink(path)
		default:
			out[rel], err = Digest(path)
		}
		return err
	})
}

// Digest returns that of a file.
func Digest(path string) (string, error) {
	f, err := os.Open(path)
	if err != nil {
		return "", err
	}
	defer f.Close()
	h := sha256.New()
	if _, err := io.Copy(h, f); err != nil {
		return "", err
	}
	return fmt.Sprintf("%x", h.Sum(nil)[:12]), nil
}

// FirstDifference says where two files begin to differ.
func FirstDifference(name, a, b string) string {
	x, err := os.ReadFile(filepath.Join(a, name))
	y, err2 := os.ReadFile(filepath.Join(b, name))
	if err != nil || err2 != nil {
		return ""
	}
	for i := range min(len(x), len(y)) {
		if x[i] != y[i] {
			return fmt.Sprintf(", from byte %d on (lengths %d and %d)", i, len(x), len(y))
		}
	}
	return fmt.Sprintf(": lengths %d and %d", len(x), len(y))
}
