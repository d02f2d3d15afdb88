package source_test

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"hb/source/mysqld/mysqldtest"
	"hb/source/mysqld/mysqldtest/client"
	"hb/source/mysqld/mysqldtest/workload"
	"hb/source/mysqld/tracking"
	"hb/stream/disk"
	"hb/xbstream"
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
	trackPages(t, s)
	base := take()
	mark := base.Tracking
	if mark == nil || !tracking.IsRun(mark.Run) || mark.Run != s.Value(t, "SELECT @@mysqlbackup.backupid") {
		t.Fatalf("%+v", mark)
	}
	if again := take().Tracking; again == nil || again.Run != mark.Run || again.ResetLSN < mark.ResetLSN {
		t.Errorf("%+v without a restart, after %+v", again, mark)
	}
	s.Exec(t, "UPDATE many.t SET v = 'y' WHERE id < 10")
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

// trackPages has a server track the pages that it changes, until its list is past the
// first block.
func trackPages(t *testing.T, s *mysqldtest.Server) {
	t.Helper()
	s.Exec(t, "SELECT mysqlbackup_page_track_set(1)",
		"CREATE DATABASE many", "CREATE TABLE many.t (id INT PRIMARY KEY AUTO_INCREMENT, v VARCHAR(900))", "INSERT INTO many.t (v) VALUES (REPEAT('x', 900))")
	for range 16 {
		s.Exec(t, "INSERT INTO many.t (v) SELECT v FROM many.t")
	}
	s.WriteOut(t)
	s.Exec(t, "SET GLOBAL innodb_max_dirty_pages_pct = 90")
}

// TestIncrementTracked: increments of a server that tracks pages read only those, restore
// all rows, and read all pages again when the server was restarted.
func TestIncrementTracked(t *testing.T) {
	s := mysqldtest.Start(t, mysqldtest.Need(t, mysqldtest.MySQL97), mysqldtest.Options{})
	s.Exec(t, "INSTALL COMPONENT 'file://component_mysqlbackup'")
	trackPages(t, s)
	beginIncrement(t, s)
	dir := t.TempDir()
	archives := chain(t, s, dir)
	for i, archive := range archives[1:] {
		m, live := readLive(t, archive)
		if m.Since == nil || !m.Since.PageTracking || len(m.Warnings) != 0 {
			t.Errorf("increment %d: %+v, %q", i+1, m.Since, m.Warnings)
		}
		changed := 0
		for _, l := range live {
			if l.Kind == metadata.LiveChanged {
				changed++
			}
			if l.Space != nil && (l.Sum == nil) != (l.Kind == metadata.LiveChanged) {
				t.Errorf("increment %d: %+v", i+1, l)
			}
		}
		if changed < 10 {
			t.Errorf("increment %d: %d changed files", i+1, changed)
		}
	}
	if err := s.Stop(); err != nil {
		t.Fatal(err)
	}
	s = mysqldtest.StartOn(t, s.Root, s.Datadir, mysqldtest.Options{})
	s.Exec(t, "UPDATE d.quiet SET v = 'after the restart' WHERE id % 500 = 3")
	archive := filepath.Join(dir, "restarted")
	result, err := backupSince(t, s, archive, archives[2])
	if err != nil {
		t.Fatal(err)
	}
	if m := result.Manifest; m.Since.PageTracking || len(m.Warnings) != 1 || !strings.Contains(m.Warnings[0], "the server was restarted") {
		t.Errorf("after a restart: %+v, %q", m.Since, m.Warnings)
	}
	restoreChain(t, s, dir, append(archives, archive))
}

// TestIncrementTrackedUnderLoad makes a chain of tracked increments under a load with DDL,
// while another tool resets the server's list, too. The last one of them is restored; and
// the sums of a scan after them prove of every page that the chain has it as the server.
func TestIncrementTrackedUnderLoad(t *testing.T) {
	mysqldtest.Concurrent(t)
	root := mysqldtest.Need(t, mysqldtest.MySQL97)
	s := mysqldtest.Start(t, root, mysqldtest.Options{Binlog: true})
	s.Exec(t, "INSTALL COMPONENT 'file://component_mysqlbackup'")
	trackPages(t, s)
	s.Exec(t, "SET GLOBAL innodb_max_dirty_pages_pct = 0") // so that checkpoints go on
	load, err := workload.Prepare(t.Context(), s.DB(), workload.Options{DDLRate: 20})
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	archives := []string{filepath.Join(dir, "base")}
	increments, tracked := 3, 0
	if mysqldtest.Long() {
		increments = 12
	}
	workload.During(t, load, func() {
		if _, err := backupSince(t, s, archives[0], ""); err != nil {
			t.Fatal(err)
		}
		for i := range increments {
			time.Sleep(time.Second)
			s.Exec(t, "SELECT mysqlbackup_page_track_set(1)")
			time.Sleep(time.Second)
			archive := filepath.Join(dir, fmt.Sprint("increment", i))
			result, err := backupSince(t, s, archive, archives[i])
			if err != nil {
				t.Fatal(err)
			}
			switch m := result.Manifest; {
			case m.Since.PageTracking:
				tracked++
			case len(m.Warnings) != 1 || !strings.Contains(m.Warnings[0], "the server made no checkpoint in time"): // a slow machine's
				t.Errorf("increment %d is not of tracked pages: %q", i, m.Warnings)
			}
			archives = append(archives, archive)
		}
		if tracked == 0 {
			t.Error("no increment is of tracked pages")
		}
		s.Exec(t, "SET GLOBAL mysqlbackup.backupid = '1'")
		archive := filepath.Join(dir, "scan")
		result, err := backupSince(t, s, archive, archives[increments])
		if err != nil {
			t.Fatal(err)
		}
		if result.Manifest.Since.PageTracking {
			t.Error("the last increment is of tracked pages, too")
		}
		mergeChain(t, filepath.Join(dir, "scanned"), append(slices.Clone(archives), archive))
	})
	merged, target := filepath.Join(dir, "merged"), filepath.Join(dir, "target")
	mergeChain(t, merged, archives)
	restoreByHB(t, root, merged, target)
	workload.VerifyCopy(t, s, target, true)
}

// readLive returns an incremental backup's manifest, with the live files.
func readLive(t *testing.T, archive string) (*metadata.Manifest, []metadata.Live) {
	t.Helper()
	f, err := os.Open(archive)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	var live []metadata.Live
	p := metadata.NewManifestParser(nil, func(metadata.File) error { return nil })
	p.Live = func(l metadata.Live) error {
		live = append(live, l)
		return nil
	}
	r := xbstream.NewReader(f, xbstream.ReaderOptions{})
	for {
		ch, err := r.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err == nil && ch.Path == metadata.ManifestName {
			_, err = p.Write(ch.Data)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	if err := p.Close(); err != nil {
		t.Fatal(err)
	}
	return p.Manifest(), live
}
