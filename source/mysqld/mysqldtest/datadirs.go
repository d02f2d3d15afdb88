package mysqldtest

import (
	"archive/zip"
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"path/filepath"
	"strings"
	"testing"
)

// Datadir unpacks one of the data directories that scripts/datadirs brings, by the
// name of its zip file, and returns where it is; it goes when the test ends. If it
// is not there, the test ends as in [Need].
func Datadir(t testing.TB, name string) string {
	t.Helper()
	cache, err := cacheDir()
	if err != nil {
		t.Fatal(err)
	}
	z, err := zip.OpenReader(filepath.Join(cache, "datadirs", name+".zip"))
	if err != nil {
		Missing(t, fmt.Errorf("data directory %s is not there: run scripts/datadirs (%w)", name, err))
	}
	dir := t.TempDir()
	if err := errors.Join(unzip(&z.Reader, dir), z.Close()); err != nil {
		t.Fatal(err)
	}
	return dir
}

// unzip unpacks the directory that has ibdata1, without what is beside it.
func unzip(z *zip.Reader, dir string) error {
	top := ""
	for _, f := range z.File {
		if path.Base(f.Name) == "ibdata1" {
			top = path.Dir(f.Name) + "/"
		}
	}
	if top == "" {
		return errors.New("it has no ibdata1")
	}
	for _, f := range z.File {
		name, within := strings.CutPrefix(f.Name, top)
		if !within || name == "" {
			continue
		}
		to := filepath.Join(dir, filepath.FromSlash(name))
		err := os.MkdirAll(filepath.Dir(to), 0o755)
		switch {
		case err != nil:
		case f.FileInfo().IsDir():
			err = os.MkdirAll(to, 0o755)
		default:
			err = unpack(f, to)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// unpack writes one file, with holes: redo logs are mostly empty.
func unpack(f *zip.File, to string) (err error) {
	in, err := f.Open()
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, in.Close()) }()
	out, err := os.Create(to)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, out.Close()) }()
	block, zero := make([]byte, 64<<10), make([]byte, 64<<10)
	for at := int64(0); ; {
		n, err := io.ReadFull(in, block)
		if n > 0 && string(block[:n]) != string(zero[:n]) {
			if _, err := out.WriteAt(block[:n], at); err != nil {
				return err
			}
		}
		at += int64(n)
		if err == io.EOF || err == io.ErrUnexpectedEOF {
			return out.Truncate(at)
		}
		if err != nil {
			return err
		}
	}
}
