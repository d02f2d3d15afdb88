package sink

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"hb/sink/apply"
	"hb/sink/backupdir"
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
