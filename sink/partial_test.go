package sink

import (
	"encoding/binary"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"hb/sink/apply"
	"hb/sink/backupdir"
	"hb/xbstream/innodb"
	"hb/xbstream/innodb/innodbtest"
	"hb/xbstream/innodb/mariadbredo"
	"hb/xbstream/metadata"
	"hb/xbstream/xbtest"
)

// partialBackup is a partial backup of hb's: its manifest leaves out tablespaces 8 and 9,
// which the log changes and makes.
func partialBackup(t *testing.T, left ...metadata.SpaceRange) *fakeBackup {
	b := newFakeBackup(t, mariadbredo.Format108, fullFlags)
	b.mtr(file(0xB0, 7, "./db/t.ibd"), write50(7, 3, "text"))
	b.mtr(file(0xB0, 8, "./out/old.ibd"), write50(8, 3, "other"))
	b.mtr(file(0x80, 9, "./out/new.ibd"))
	b.mtr(page0(9, 4), rec(0x10, 9, 3), write50(9, 3, "hello"))
	b.finish()
	b.write("ibdata1", withDictionary(b).Bytes())
	head := xbtest.Header(fakePage, fakeStart)
	head.Options.Partial = true
	head.Version = head.Options.Version()
	text, err := head.Marshal()
	if err != nil {
		t.Fatal(err)
	}
	b.write(metadata.ArchiveName, text)
	b.write("xtrabackup_info", []byte("partial = Y\n"))
	b.scope = &metadata.Scope{Databases: []string{"db"}, LeftOut: left}
	return b
}

// withDictionary is a system tablespace with a dictionary of InnoDB that has no tables: page 7
// names the roots of its indexes, which are empty.
func withDictionary(b *fakeBackup) innodbtest.Tablespace {
	const header, first = 7, 8
	be := binary.BigEndian
	// Where in page 7 the roots are: SYS_TABLES by name, by id, and SYS_INDEXES; and the ids
	// of these indexes (dict0boot.h).
	indexes := []struct {
		at int
		id uint64
	}{{38 + 32, 1}, {38 + 36, 5}, {38 + 44, 3}}
	space := b.space(0, 6, 40000)
	space.Pages = first + len(indexes)
	fill := space.Fill
	space.Fill = func(page []byte, no innodb.PageNo) {
		switch {
		case no == header:
			for i, index := range indexes {
				be.PutUint32(page[index.at:], uint32(first+i))
			}
		case no >= first:
			be.PutUint64(page[8:], 1<<64-1) // no neighbours
			be.PutUint16(page[24:], 17855)
			be.PutUint16(page[38:], 2)                    // slots of the directory
			be.PutUint16(page[40:], 125)                  // the end of the heap
			be.PutUint16(page[42:], 2)                    // infimum and supremum, in ROW_FORMAT=REDUNDANT
			be.PutUint64(page[66:], indexes[no-first].id) //
			page[101-6], page[116-6] = 1, 1               // each is all that its slot has
			be.PutUint16(page[101-2:], 116)               // one after the other
			be.PutUint16(page[len(page)-8-2:], 101)       //
			be.PutUint16(page[len(page)-8-4:], 116)       //
		default:
			fill(page, no)
		}
	}
	return space
}

// TestApplyScope: redo is passed over of the tablespaces that the manifest of a partial
// backup leaves out, and of no others.
func TestApplyScope(t *testing.T) {
	b := partialBackup(t, metadata.SpaceRange{8, 9})
	if r := b.mustApply(); len(r.Warnings) != 0 {
		t.Errorf("warnings %q", r.Warnings)
	}
	if got := string(b.read("db/t.ibd")[3*fakePage+200:][:4]); got != "text" {
		t.Errorf("db/t.ibd has %q", got)
	}
	if _, err := os.Stat(filepath.Join(b.dir, "out")); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("the other database is there: %v", err)
	}
}

// TestApplyScopeMissing: a file that the manifest does not leave out is missing, however
// partial the backup is.
func TestApplyScopeMissing(t *testing.T) {
	b := partialBackup(t, metadata.SpaceRange{9, 9})
	_, err := b.apply()
	if _, missing := errors.AsType[*backupdir.MissingError](err); !missing || !strings.Contains(err.Error(), "out/old.ibd") {
		t.Errorf("%v", err)
	}
}

// TestApplyScopeThere: a file of a tablespace that the manifest leaves out is damage.
func TestApplyScopeThere(t *testing.T) {
	b := partialBackup(t, metadata.SpaceRange{7, 9})
	_, err := b.apply()
	if _, damaged := errors.AsType[*backupdir.DamageError](err); !damaged || !strings.Contains(err.Error(), "db/t.ibd") {
		t.Errorf("%v", err)
	}
}

// TestApplyScopeByServer: a partial backup is not left to a server, which would stop, or
// pass over what is missing.
func TestApplyScopeByServer(t *testing.T) {
	b := partialBackup(t, metadata.SpaceRange{8, 9})
	b.seal()
	_, err := apply.Run(t.Context(), b.dir, apply.Options{ByServer: true, Tool: "hb test"})
	if _, refused := errors.AsType[*backupdir.NotBackupError](err); !refused || !strings.Contains(err.Error(), "partial backup") {
		t.Errorf("%v", err)
	}
	if _, err := apply.Run(t.Context(), b.dir, apply.Options{Tool: "hb test"}); err != nil {
		t.Errorf("and then without: %v", err)
	}
}
