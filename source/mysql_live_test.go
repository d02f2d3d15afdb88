package source_test

import (
	"context"
	"database/sql"
	"fmt"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"hb/source/mysqld/mysqldtest"
	"hb/source/mysqld/mysqldtest/workload"
)

// TestMySQLUnderLoad is TestUnderLoad for MySQL: there is only hb to restore with.
func TestMySQLUnderLoad(t *testing.T) {
	mysqldtest.Concurrent(t, mysqldtest.MySQL57, mysqldtest.MySQL97)
	mysqldtest.Each(t, mysqldtest.MySQL, func(t *testing.T, root *mysqldtest.Root) {
		rounds := 1
		if mysqldtest.Long() {
			rounds = 5
		}
		for round := range rounds {
			t.Run(fmt.Sprintf("round %d", round+1), func(t *testing.T) { mysqlUnderLoad(t, root) })
		}
	})
}

func mysqlUnderLoad(t *testing.T, root *mysqldtest.Root) {
	o := mysqldtest.Options{Binlog: true}
	// 5.7 truncates undo tablespaces by itself, 9.7 because of the load's DDL. The
	// short form is TestUndoTruncated.
	truncates := mysqldtest.Long() && root.AtLeast(5, 7) && !root.AtLeast(8, 0)
	if truncates {
		o.Init, o.Config = truncatedUndo()
	}
	s := mysqldtest.Start(t, root, o)
	load, err := workload.Prepare(t.Context(), s.DB(), workload.Options{DDLRate: 20})
	if err != nil {
		t.Fatal(err)
	}
	stop := func() {}
	if truncates {
		stop = churnUndo(t, s, 50*time.Millisecond)
	}
	dir := t.TempDir()
	archive := filepath.Join(dir, "archive")
	workload.During(t, load, func() {
		time.Sleep(2 * time.Second)
		for end := time.Now().Add(time.Minute); truncates && truncated(t, s) == 0 && time.Now().Before(end); {
			time.Sleep(10 * time.Millisecond)
		}
		load.ResetStalls()
		r := backup(t, s, archive)
		t.Logf("longest stall during the backup: %+v", load.Stats().MaxStall())
		t.Logf("%+v %+v", r.Manifest, r.Manifest.Binlog)
		time.Sleep(time.Second)
	})
	stop()
	t.Logf("DDL: %v; %d undo tablespaces truncated by themselves", load.Stats().DDL, truncated(t, s))
	if truncates {
		if truncated(t, s) == 0 {
			t.Error("no undo tablespace was truncated")
		}
		s.Exec(t, "DROP DATABASE d") // no replica has its rows of now
	}
	for _, byGTID := range []bool{true, false} {
		target := filepath.Join(dir, fmt.Sprint("restored, by GTID ", byGTID))
		restoreByHB(t, root, archive, target)
		workload.VerifyCopy(t, s, target, byGTID)
	}
}

// truncatedUndo has 5.7 truncate its undo tablespaces as often as it can.
func truncatedUndo() (init, config []string) {
	return []string{"innodb-undo-tablespaces=2"}, []string{"innodb-undo-log-truncate=ON", "innodb-max-undo-log-size=10485760",
		"innodb-purge-rseg-truncate-frequency=1", "innodb-undo-logs=40", "innodb-log-file-size=256M"}
}

// churnUndo fills undo tablespaces by changing all rows of d.a, again and again
// until the function that it returns is called: v counts, and is even where the
// transaction is committed. It is too much for the binary log, and not in it.
func churnUndo(t *testing.T, s *mysqldtest.Server, every time.Duration) (stop func()) {
	t.Helper()
	numbers(t, s)
	fill(t, s, "d.a", "")
	s.Exec(t, "UPDATE d.a SET v = '0', b = '0'")
	conn, err := s.DB().Conn(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := conn.ExecContext(t.Context(), "SET SESSION sql_log_bin = 0"); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() {
		defer conn.Close()
		done <- changeAll(ctx, conn, every)
	}()
	return func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	}
}

// changeAll is churnUndo's work. It ends between two transactions.
func changeAll(ctx context.Context, conn *sql.Conn, every time.Duration) error {
	for i := 1; ctx.Err() == nil; i++ {
		end := []string{"COMMIT", "ROLLBACK"}[i%2]
		for _, q := range []string{"BEGIN", fmt.Sprintf("UPDATE d.a SET v = '%d', b = REPEAT('%d', 4000)", i, i%10), "DO SLEEP(0.02)", end} {
			if _, err := conn.ExecContext(context.WithoutCancel(ctx), q); err != nil {
				return fmt.Errorf("%s: %w", q, err)
			}
		}
		select {
		case <-ctx.Done():
		case <-time.After(every):
		}
	}
	return nil
}

// truncated is how many undo tablespaces 5.7 has truncated.
func truncated(t *testing.T, s *mysqldtest.Server) int {
	t.Helper()
	log, err := s.ErrorLog()
	if err != nil {
		t.Error(err)
	}
	return strings.Count(log, "Completed truncate of UNDO tablespace")
}
