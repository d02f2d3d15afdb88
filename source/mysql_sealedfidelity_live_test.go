package source_test

import (
	"bytes"
	"encoding/binary"
	"os"
	"path/filepath"
	"testing"
	"time"

	"hb/sink/apply"
	"hb/source/mysqld/mysqldtest"
	"hb/source/mysqld/mysqldtest/workload"
	"hb/stream/disk/disktest"
)

// TestSealedFidelity recovers a backup of a MySQL that encrypts tables, undo and redo log by hb
// apply and by the server, from the same redo log, and compares every page as it is stored. A
// tablespace has one key and one IV for all of its pages, so that pages with the same content and
// LSN have the same bytes. Pages that the server changed after its recovery have an LSN beyond the
// backup's end.
// The server has a buffer pool that holds the whole redo log (apply warns of smaller ones).
func TestSealedFidelity(t *testing.T) {
	if !mysqldtest.Long() {
		return // TestEncryptedMySQL starts a server on what hb recovers
	}
	root := mysqldtest.Need(t, mysqldtest.MySQL97)
	dir := disktest.Memory(t)
	file := filepath.Join(dir, "keyring")
	s := mysqldtest.Start(t, root, mysqldtest.Options{Binlog: true, Keyring: file, Config: append([]string{"innodb-max-dirty-pages-pct=90"}, encryptedMySQL...)})
	fillEncrypted(t, s)
	load, err := workload.Prepare(t.Context(), s.DB(), workload.Options{})
	if err != nil {
		t.Fatal(err)
	}
	encryptTables(t, s)
	archive := filepath.Join(dir, "archive")
	workload.During(t, load, func() {
		time.Sleep(2 * time.Second)
		n := 0
		hookedBackup(t, s, archive, hooks{pace: func(int) {
			if n++; n%20 == 1 {
				for _, table := range []string{"plain", "zip", "general", "redundant"} {
					s.Exec(t, "UPDATE enc."+table+" SET b = CONCAT('changed', b), p = POINT(a, LENGTH(b)) WHERE LENGTH(b) < 600")
				}
			}
		}})
	})
	if err := s.Stop(); err != nil {
		t.Fatal(err)
	}
	ours, theirs := filepath.Join(dir, "ours"), filepath.Join(dir, "theirs")
	unpack(t, archive, ours)
	unpack(t, archive, theirs)
	r, err := apply.Run(t.Context(), ours, apply.Options{Tool: "hb test", Keys: keysOf(t, file)})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := apply.Run(t.Context(), theirs, apply.Options{Tool: "hb test", Keys: keysOf(t, file), ByServer: true}); err != nil {
		t.Fatal(err)
	}
	recovered := mysqldtest.StartOn(t, root, theirs, mysqldtest.Options{Binlog: true, Keyring: file, Config: append([]string{"innodb-buffer-pool-size=1G"}, encryptedMySQL...)})
	recovered.Exec(t, "SET GLOBAL innodb_fast_shutdown=1")
	if err := recovered.Stop(); err != nil {
		t.Fatal(err)
	}
	compareSealed(t, ours, theirs, uint64(r.LSN))
}

// compareSealed compares the pages of two directories, but for those that a server changed after
// an LSN.
func compareSealed(t *testing.T, ours, theirs string, end uint64) {
	t.Helper()
	var pages, sealed, later, packed int
	names, err := filepath.Glob(filepath.Join(ours, "*", "*.ibd"))
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range append(names, filepath.Join(ours, "mysql.ibd"), filepath.Join(ours, "g.ibd"), filepath.Join(ours, "undo_001"), filepath.Join(ours, "undo_002")) {
		rel, err := filepath.Rel(ours, name)
		if err != nil {
			t.Fatal(err)
		}
		a, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		b, err := os.ReadFile(filepath.Join(theirs, rel))
		if err != nil {
			t.Errorf("the server has no %s: %v", rel, err)
			continue
		}
		size := 16 << 10
		if zip := binary.BigEndian.Uint32(b[54:]) >> 1 & 15; zip != 0 {
			size = 512 << zip
		}
		differ := 0
		for at := 0; at+size <= min(len(a), len(b)); at += size {
			pages++
			pa, pb := a[at:at+size], b[at:at+size]
			kind := binary.BigEndian.Uint16(pb[24:])
			switch {
			case binary.BigEndian.Uint64(pb[16:]) > end:
				later++
			case bytes.Equal(pa[:26], pb[:26]) && bytes.Equal(pa[34:], pb[34:]): // between, pages that were compressed have scraps
				if kind >= 15 && kind <= 17 {
					sealed++
				}
			case (kind == 14 || kind == 16) && bytes.Equal(pa[:24], pb[:24]): // hb does not compress again
				packed++
			default:
				if differ++; differ <= 2 {
					t.Errorf("%s: page %d differs: type %d, LSN %d, and of the server type %d, LSN %d", rel, at/size,
						binary.BigEndian.Uint16(pa[24:]), binary.BigEndian.Uint64(pa[16:]), kind, binary.BigEndian.Uint64(pb[16:]))
				}
			}
		}
	}
	t.Logf("%d pages compared, %d are encrypted and the same, %d are the server's later ones, %d differ in compression", pages, sealed, later, packed)
	if sealed < 1000 || later > pages/5 || packed > pages/5 {
		t.Error("too few pages are the same for a comparison")
	}
}
