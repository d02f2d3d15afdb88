package source_test

import (
	"errors"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"testing"
	"time"

	"hb/source"
	"hb/source/mysqld/mysqldtest"
	"hb/source/mysqld/mysqldtest/client"
	"hb/xbstream/innodb"
)

// undoTruncations is how many undo tablespaces MariaDB has truncated.
func undoTruncations(t *testing.T, s *mysqldtest.Server) int {
	t.Helper()
	n, err := strconv.Atoi(s.Rows(t, "SHOW GLOBAL STATUS LIKE 'Innodb_undo_truncations'")[0][1])
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// TestUndoTrimmed has MariaDB truncate its undo tablespaces while the file of one is
// copied: the redo log explains that.
func TestUndoTrimmed(t *testing.T) {
	servers := []string{mysqldtest.MariaDB1011}
	if mysqldtest.Long() {
		servers = mysqldtest.MariaDB
	}
	mysqldtest.Each(t, servers, func(t *testing.T, root *mysqldtest.Root) {
		init := []string{"innodb-undo-tablespaces=2"}
		s := mysqldtest.Start(t, root, mysqldtest.Options{Init: init, Config: []string{"innodb-max-undo-log-size=10485760", "innodb-purge-rseg-truncate-frequency=1"}})
		numbers(t, s)
		fill(t, s, "d.a", "")
		for i := range 4 { // turns of undo tablespaces
			s.Exec(t, "UPDATE d.a SET v = "+strconv.Itoa(i)+", b = REPEAT('"+strconv.Itoa(i)+"', 6000)")
		}
		dir := t.TempDir()
		archive := filepath.Join(dir, "archive")
		waited, during := false, 0
		hookedBackup(t, s, archive, hooks{pace: func(int) {
			if waited || !began(archive, "undo001") {
				return
			}
			waited = true
			s.Exec(t, "SET GLOBAL innodb_undo_log_truncate = ON")
			for end := time.Now().Add(30 * time.Second); during < 2 && time.Now().Before(end); during = undoTruncations(t, s) {
				s.Exec(t, "UPDATE d.a SET v = 'x' WHERE id = 1", "UPDATE d.a SET v = '3' WHERE id = 1") // so that purge has something to do
			}
		}})
		if during < 2 {
			t.Errorf("%d undo tablespaces were truncated while one was copied", during)
		}
		compareRestored(t, root, s, archive, filepath.Join(dir, "restored"), init)
	})
}

// TestUndoCut: an undo tablespace that somebody has cut off fails the backup.
func TestUndoCut(t *testing.T) {
	mysqldtest.Each(t, append([]string{mysqldtest.MySQL57}, mysqldtest.MariaDB...), func(t *testing.T, root *mysqldtest.Root) {
		init := []string{"innodb-undo-tablespaces=2"}
		s := mysqldtest.Start(t, root, mysqldtest.Options{Init: init})
		if err := s.Stop(); err != nil { // what is in its files is all
			t.Fatal(err)
		}
		s = mysqldtest.StartOn(t, root, s.Datadir, mysqldtest.Options{Init: init})
		undo := filepath.Join(s.Datadir, "undo001")
		st, err := os.Stat(undo)
		if err != nil {
			t.Fatal(err)
		}
		if err := os.Truncate(undo, st.Size()/2); err != nil {
			t.Fatal(err)
		}
		srv := client.Open(t, s)
		defer srv.Close()
		_, err = source.Run(t.Context(), srv, io.Discard, source.Options{Parallel: 1, Tmpdir: t.TempDir(), Tool: "hb", ToolVersion: "test"})
		if _, ok := errors.AsType[*innodb.LengthError](err); !ok {
			t.Errorf("error = %v, want one of %s", err, undo)
		}
	})
}
