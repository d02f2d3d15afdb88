package sink

import (
	"errors"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"hb/sink/apply"
	"hb/sink/backupdir"
	"hb/stream/disk"
	"hb/stream/disk/disktest"
	"hb/xbstream/innodb/mariadbredo"
	"hb/xbstream/metadata"
)

// TestInPlaceRunning: a server runs, but has closed its tablespace outside the data
// directory, as servers do with files that nobody uses. The file is not set aside.
func TestInPlaceRunning(t *testing.T) {
	b, server, elsewhere := newOutside(t)
	running, err := disk.OS.OpenDir(server)
	if err != nil {
		t.Fatal(err)
	}
	defer running.Close()
	unlock, err := backupdir.LockSystem(running, "ibdata1")
	if err != nil {
		t.Fatal(err)
	}
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

// TestInPlaceTaken: where a name for a file that is to be set aside is taken, that is
// found out before anything is changed.
func TestInPlaceTaken(t *testing.T) {
	b, _, elsewhere := newOutside(t)
	taken := elsewhere + ".hb-aside"
	if err := os.WriteFile(taken, []byte("of an earlier restore"), 0o600); err != nil {
		t.Fatal(err)
	}
	before, outside := disktest.ReadTree(t, b.dir), disktest.ReadTree(t, filepath.Dir(elsewhere))
	_, err := apply.Run(t.Context(), b.dir, apply.Options{InPlace: true})
	if !hasType[*backupdir.NotBackupError](err) || !strings.Contains(err.Error(), taken+": it is there already") {
		t.Errorf("the name is taken: %v", err)
	}
	if !maps.Equal(disktest.ReadTree(t, b.dir), before) || !maps.Equal(disktest.ReadTree(t, filepath.Dir(elsewhere)), outside) {
		t.Error("something was changed")
	}
	if err := os.Remove(taken); err != nil {
		t.Fatal(err)
	}
	if _, err := apply.Run(t.Context(), b.dir, apply.Options{InPlace: true}); err != nil {
		t.Errorf("once the name is free: %v", err)
	}
	if _, err := os.Lstat(taken); err != nil {
		t.Errorf("the file was not set aside: %v", err)
	}
}

// newOutside makes a backup of a table that is outside of the data directory, at
// elsewhere. The server's system tablespace is in server.
func newOutside(t *testing.T) (b *fakeBackup, server, elsewhere string) {
	t.Helper()
	b = newFakeBackup(t, mariadbredo.Format108, fullFlags)
	server, elsewhere = t.TempDir(), filepath.Join(t.TempDir(), "t.ibd")
	tablespace := b.read("db/t.ibd")
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
	b.finish()
	return b, server, elsewhere
}

// TestCheckInPlaceBinlog: a name that the binary log's file or index would need is taken.
func TestCheckInPlaceBinlog(t *testing.T) {
	base := filepath.Join(t.TempDir(), "log")
	m := &metadata.Manifest{Binlog: &metadata.BinlogPos{File: "log.000003"}, BinlogHome: &metadata.BinlogHome{Base: base, Index: base + ".index"}}
	for _, name := range []string{base + ".000003", base + ".index"} {
		taken := name + ".hb-aside"
		for _, file := range []string{taken, name} { // where only the first is there, nothing needs the name
			if err := apply.CheckInPlace(&metadata.External{}, m); err != nil {
				t.Errorf("without %s: %v", name, err)
			}
			if err := os.WriteFile(file, nil, 0o600); err != nil {
				t.Fatal(err)
			}
		}
		if err := apply.CheckInPlace(&metadata.External{}, m); !hasType[*backupdir.NotBackupError](err) || !strings.Contains(err.Error(), taken+": it is there already") {
			t.Errorf("with %s: %v", name, err)
		}
		if err := os.Remove(taken); err != nil {
			t.Fatal(err)
		}
	}
	if err := apply.CheckInPlace(&metadata.External{}, nil); err != nil {
		t.Errorf("without a manifest: %v", err)
	}
}
