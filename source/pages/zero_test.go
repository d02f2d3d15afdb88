package pages

import (
	"bytes"
	"encoding/binary"
	"errors"
	"io"
	"os"
	"slices"
	"strings"
	"testing"

	"hb/source/sourcetest"
	"hb/stream/disk"
	"hb/stream/disk/disktest"
	"hb/xbstream/innodb"
	"hb/xbstream/innodb/innodbtest"
	"hb/xbstream/innodb/tde"
	"hb/xbstream/keyring"
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

// sealedSystem writes a system tablespace of MariaDB whose inodes are encrypted with the
// keys. Page 13 is in use and zero, as the doublewrite area's segment has it, and so is
// page 14, which was lost.
func sealedSystem(d *sourcetest.Dir, keys *keyring.Keys) {
	d.T.Helper()
	const pages, offset = 60, 50 + 192
	system := innodbtest.Tablespace{Flags: innodbtest.Full16K, Pages: pages, LSN: 1000, Fill: func(page []byte, no innodb.PageNo) {
		switch no {
		case 0:
			binary.BigEndian.PutUint32(page[innodb.OffsetFSPLimit:], pages)
			innodbtest.Extent(page, 0, 2, 64, func(int) bool { return true })
			s, err := innodb.ParseFlags(innodbtest.Full16K)
			if err != nil {
				d.T.Fatal(err)
			}
			at := s.OffsetMySQLInfo() + innodb.OffsetBody
			copy(page[at:], "s\x0e\x0cREt") // CRYPT_MAGIC
			page[at+6] = 1
			binary.BigEndian.PutUint32(page[at+24:], 1)
			binary.BigEndian.PutUint32(page[at+28:], 1)
		case 2:
			innodbtest.Inode(page, offset, 64, 13)
		case innodb.TrxSysPage:
			innodbtest.TrxSys(page)
			innodbtest.DoublewriteArea(page, 100, 164)
			innodbtest.DoublewriteSegment(page, 2, offset)
		}
	}}
	data := system.Bytes()
	page := func(no int) []byte { return data[no<<14:][:1<<14] }
	clear(data[13<<14 : 15<<14])
	space, err := innodb.ParseSpace(page(0))
	if err == nil {
		space.Cipher, err = tde.Open(&space, nil, keys)
	}
	if err == nil {
		err = space.Cipher.Encrypt(page(2), 2)
	}
	if err != nil || !space.Sealed(page(2), 2) {
		d.T.Fatal(err)
	}
	d.Write("ibdata1", data)
}

// copySystem copies a system tablespace by files of a system.
func copySystem(t *testing.T, d *sourcetest.Dir, of disk.System, keys *keyring.Keys) (*Copier, error) {
	t.Helper()
	files, err := NewInventory(disk.OS, 16<<10).System(t.Context(), []string{d.Path("ibdata1")})
	if err != nil {
		t.Fatal(err)
	}
	c := newCopying(1)
	c.Disk, c.Keys = of, keys
	return c.Copier, c.CopyFiles(t.Context(), files)
}

// TestZeroPagesSealed: with its keys hb tells the pages of an encrypted system tablespace
// that no server writes from one that was lost. Without them it cannot tell, and notes none.
func TestZeroPagesSealed(t *testing.T) {
	d := sourcetest.NewDir(t)
	var keys keyring.Keys
	if err := keys.AddMariaDB(keyring.MariaDBKey{ID: 1, Version: 1}, make([]byte, 16)); err != nil {
		t.Fatal(err)
	}
	sealedSystem(d, &keys)
	for _, c := range []struct {
		keys *keyring.Keys
		want []innodb.PageNo
	}{{&keys, []innodb.PageNo{14}}, {nil, nil}} {
		copier, err := copySystem(t, d, disk.OS, c.keys)
		if err != nil {
			t.Fatal(err)
		}
		var got []innodb.PageNo
		zero, _ := copier.ZeroPages()
		for _, z := range zero {
			got = append(got, z.No)
		}
		if !slices.Equal(got, c.want) {
			t.Errorf("with keys %v: pages %d are noted, want %d", c.keys != nil, got, c.want)
		}
	}
	checkFaults(t, d, func(f *disktest.Faults) error {
		_, err := copySystem(t, d, f, &keys)
		return err
	})
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
