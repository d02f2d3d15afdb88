package pages

import (
	"bytes"
	"errors"
	"io"
	"os"
	"strings"
	"testing"

	"hb/source/sourcetest"
	"hb/stream/disk"
	"hb/stream/disk/disktest"
)

// zeroPages makes a tablespace with pages that are in use and zero.
func zeroPages(d *sourcetest.Dir, name string, zero int) {
	d.T.Helper()
	d.Write(name, nil)
	sourcetest.ZeroPages(d.T, d.Path(name), 7, 1000, zero)
}

// TestZeroPagesBound: hb remembers 65,536 pages that are in use and zero, and reports
// that there may be more.
func TestZeroPagesBound(t *testing.T) {
	for _, c := range []struct {
		zero, kept int
		full       bool
	}{{65535, 65535, false}, {65537, 65536, true}} {
		d := sourcetest.NewDir(t)
		zeroPages(d, "db/t.ibd", c.zero)
		copier := &Copier{Disk: disk.OS, Create: func(string) (io.WriteCloser, error) { return discard{}, nil }, Registry: NewRegistry(), PageSize: 16 << 10, Parallel: 2}
		if err := copier.CopyFiles(t.Context(), Unopened(d.List().Tablespaces)); err != nil {
			t.Fatal(err)
		}
		kept, full := copier.ZeroPages()
		if len(kept) != c.kept || full != c.full {
			t.Errorf("%d pages in use are zero: %d are kept, full %v; want %d, %v", c.zero, len(kept), full, c.kept, c.full)
		}
	}
}

type discard struct{}

func (discard) Write(p []byte) (int, error) { return len(p), nil }
func (discard) Close() error                { return nil }

// TestWritten: a page that was zero counts as written only if the very file that was
// copied has it now, by the name that it had.
func TestWritten(t *testing.T) {
	const no = 5
	write := func(d *sourcetest.Dir, name string) {
		f, err := os.OpenFile(d.Path(name), os.O_RDWR, 0)
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		if _, err := f.WriteAt(bytes.Repeat([]byte{1}, 100), no<<10+500); err != nil {
			t.Fatal(err)
		}
	}
	for name, c := range map[string]struct {
		then    func(d *sourcetest.Dir)
		written bool
	}{
		"nothing": {func(*sourcetest.Dir) {}, false},
		"written": {func(d *sourcetest.Dir) { write(d, "db/t.ibd") }, true},
		"written, and renamed": {func(d *sourcetest.Dir) {
			write(d, "db/t.ibd")
			d.Rename("db/t.ibd", "db/u.ibd")
		}, false},
		"replaced by a file that has it": {func(d *sourcetest.Dir) {
			zeroPages(d, "db/u.ibd", 20)
			write(d, "db/u.ibd")
			d.Rename("db/u.ibd", "db/t.ibd")
		}, false},
		"dropped": {func(d *sourcetest.Dir) { d.Remove("db/t.ibd") }, false},
	} {
		d := sourcetest.NewDir(t)
		zeroPages(d, "db/t.ibd", 20)
		copier := newCopying(1)
		if err := copier.CopyFiles(t.Context(), Unopened(d.List().Tablespaces)); err != nil {
			t.Fatal(err)
		}
		kept, _ := copier.ZeroPages()
		if len(kept) != 20 || kept[no-1].No != no {
			t.Fatalf("%d pages are kept", len(kept))
		}
		c.then(d)
		if written, err := copier.Written(kept[no-1]); written != c.written || err != nil {
			t.Errorf("%s: written %v, %v; want %v", name, written, err, c.written)
		}
	}
}

// TestWrittenFails: a page that cannot be read, or was cut off, is not one that nobody
// wrote.
func TestWrittenFails(t *testing.T) {
	d := sourcetest.NewDir(t)
	zeroPages(d, "db/t.ibd", 20)
	copier := newCopying(1)
	if err := copier.CopyFiles(t.Context(), Unopened(d.List().Tablespaces)); err != nil {
		t.Fatal(err)
	}
	kept, _ := copier.ZeroPages()
	faults, failed := disktest.NewFaults("/"), errors.New("no disk")
	faults.Rule = func(op disktest.Op) error {
		if op.Kind == disktest.Read {
			return failed
		}
		return nil
	}
	copier.Disk = faults
	if _, err := copier.Written(kept[0]); !errors.Is(err, failed) {
		t.Errorf("error %v, want %v", err, failed)
	}
	copier.Disk = disk.OS
	if err := os.Truncate(d.Path("db/t.ibd"), int64(kept[0].No)<<10+10); err != nil {
		t.Fatal(err)
	}
	if _, err := copier.Written(kept[0]); !errors.Is(err, io.ErrUnexpectedEOF) || !strings.Contains(err.Error(), "t.ibd") {
		t.Errorf("of a file that was cut: %v", err)
	}
}
