package source_test

import (
	"path/filepath"
	"testing"
	"time"

	"hb/source/mysqld/mysqldtest"
	"hb/source/mysqld/mysqldtest/client"
	"hb/source/mysqld/tracking"
	"hb/stream/disk"
	"hb/xbstream/metadata"
)

// TestTrackingRun: a backup of a server that tracks changed pages says so, and the list
// since it begins in time; that of another server says nothing.
func TestTrackingRun(t *testing.T) {
	s := mysqldtest.Start(t, mysqldtest.Need(t, mysqldtest.MySQL97), mysqldtest.Options{})
	take := func() *metadata.Manifest {
		return &backup(t, s, filepath.Join(t.TempDir(), "archive")).Manifest
	}
	if m := take(); m.Tracking != nil {
		t.Errorf("without the component: %+v", m.Tracking)
	}
	s.Exec(t, "INSTALL COMPONENT 'file://component_mysqlbackup'")
	if m := take(); m.Tracking != nil {
		t.Errorf("without tracking: %+v", m.Tracking)
	}
	s.Exec(t, "SELECT mysqlbackup_page_track_set(1)", "CREATE DATABASE d", "CREATE TABLE d.t (id INT PRIMARY KEY AUTO_INCREMENT, v VARCHAR(900))", "INSERT INTO d.t (v) VALUES (REPEAT('x', 900))")
	for range 16 { // past the first block of the server's list
		s.Exec(t, "INSERT INTO d.t (v) SELECT v FROM d.t")
	}
	s.WriteOut(t)
	base := take()
	mark := base.Tracking
	if mark == nil || !tracking.IsRun(mark.Run) || mark.Run != s.Value(t, "SELECT @@mysqlbackup.backupid") {
		t.Fatalf("%+v", mark)
	}
	if again := take().Tracking; again == nil || again.Run != mark.Run || again.ResetLSN < mark.ResetLSN {
		t.Errorf("%+v without a restart, after %+v", again, mark)
	}
	s.Exec(t, "UPDATE d.t SET v = 'y' WHERE id < 10")
	s.WriteOut(t)
	list, err := tracking.Changed(t.Context(), client.Connect(t, client.Options(s)), tracking.Request{
		Base: mark, Redo: base.FromLSN, Disk: disk.OS, Datadir: s.Datadir, Wait: time.Minute,
	})
	if err != nil || list.Len() == 0 || list.Len() > 1500 {
		t.Errorf("%d pages since the backup, before which 4000 were written: %v", list.Len(), err)
	}
	if err := s.Stop(); err != nil {
		t.Fatal(err)
	}
	s = mysqldtest.StartOn(t, s.Root, s.Datadir, mysqldtest.Options{})
	if after := take().Tracking; after != nil && after.Run == mark.Run {
		t.Errorf("%+v after a restart", after)
	}
}
