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
	"hb/stream/disk"
	"hb/xbstream/innodb/mariadbredo"
	"hb/xbstream/metadata"
)

// TestInPlaceRunning: a server runs, but has closed its tablespace outside the data
// directory, as servers do with files that nobody uses. The file is not set aside.
func TestInPlaceRunning(t *testing.T) {
	b := newFakeBackup(t, mariadbredo.Format108, fullFlags)
	server, elsewhere := t.TempDir(), filepath.Join(t.TempDir(), "t.ibd")
	tablespace, err := os.ReadFile(filepath.Join(b.dir, "db/t.ibd"))
	if err != nil {
		t.Fatal(err)
	}
	external := metadata.External{System: filepath.Join(server, "ibdata1"),
		Spaces: []metadata.ExternalSpace{{File: elsewhere, Name: "db/t", Type: metadata.ExternalTable, Outside: true}}}
	text, err := external.Marshal()
	if err != nil {
		t.Fatal(err)
	}
	for path, content := range map[string][]byte{elsewhere: tablespace, external.System: tablespace, filepath.Join(b.dir, metadata.ExternalName): text} {
		if err := os.WriteFile(path, content, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	running, err := disk.OS.OpenDir(server)
	if err != nil {
		t.Fatal(err)
	}
	defer running.Close()
	unlock, err := backupdir.LockSystem(running, "ibdata1")
	if err != nil {
		t.Fatal(err)
	}
	b.finish()
	_, err = apply.Run(t.Context(), b.dir, apply.Options{InPlace: true})
	if notBackup, ok := errors.AsType[*backupdir.NotBackupError](err); !ok || !strings.Contains(notBackup.Error(), "in use") {
		t.Errorf("while the server runs: %v", err)
	}
	if _, err := os.Lstat(elsewhere); err != nil {
		t.Errorf("its file: %v", err)
	}
	if err := unlock(); err != nil {
		t.Fatal(err)
	}
	if _, err := apply.Run(t.Context(), b.dir, apply.Options{InPlace: true}); err != nil {
		t.Errorf("once the server is stopped: %v", err)
	}
	if _, err := os.Lstat(elsewhere); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("its file is still there: %v", err)
	}
}
