package source_test

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"

	"hb/source"
	"hb/source/mysqld/locks"
	"hb/source/mysqld/mysqldtest"
	"hb/source/mysqld/mysqldtest/client"
	"hb/source/stage"
)

// TestLogTables: log tables that the server writes while they are copied are, in
// the restored server, tables that were closed: no lock keeps it from writing them.
func TestLogTables(t *testing.T) {
	mysqldtest.Each(t, slices.Concat(mysqldtest.MariaDB, mysqldtest.MySQL), func(t *testing.T, root *mysqldtest.Root) {
		engines := []string{"CSV", "MyISAM"}
		if !mysqldtest.Long() && root.Name != mysqldtest.MySQL97 && root.Name != mysqldtest.MariaDB1011 {
			engines = engines[:1]
		}
		for _, engine := range engines {
			t.Run(engine, func(t *testing.T) {
				s := mysqldtest.Start(t, root, mysqldtest.Options{})
				s.Exec(t, "SET GLOBAL slow_query_log = 0", "SET GLOBAL log_output = 'TABLE'")
				for _, table := range []string{"general_log", "slow_log"} {
					s.Exec(t, "ALTER TABLE mysql."+table+" ENGINE="+engine)
				}
				s.Exec(t, "SET GLOBAL general_log = 1", "SET GLOBAL long_query_time = 0", "SET GLOBAL slow_query_log = 1")
				stop := keepRunning(t, s, 2, func(i int) []string {
					return []string{fmt.Sprintf("SELECT '%d, a line\nand \"another\"', '%s'", i, strings.Repeat("x", i*997%9000))}
				})
				before := number(t, s, "SELECT COUNT(*) FROM mysql.general_log")
				archive := filepath.Join(t.TempDir(), "archive")
				backup(t, s, archive)
				stop()
				target := filepath.Join(t.TempDir(), "restored")
				restoreByHB(t, root, archive, target)
				r := mysqldtest.StartOn(t, root, target, mysqldtest.Options{})
				for _, table := range []string{"general_log", "slow_log"} {
					isSound(t, r, "mysql."+table)
				}
				if n := number(t, r, "SELECT COUNT(*) FROM mysql.general_log"); n < before {
					t.Errorf("%d rows, and there were %d before the backup", n, before)
				}
				if log, err := r.ErrorLog(); err != nil || strings.Contains(log, "crashed") {
					t.Errorf("%v\n%s", err, log)
				}
			})
		}
	})
}

// TestLogTablesRefused: log tables that cannot be copied while they are written are
// refused before anything is locked, as long as they are.
func TestLogTablesRefused(t *testing.T) {
	for name, engine := range map[string]string{mysqldtest.MySQL97: "MyISAM, ADD INDEX (event_time)", mysqldtest.MariaDB1011: "Aria TRANSACTIONAL=0"} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			root := mysqldtest.Need(t, name)
			s := mysqldtest.Start(t, root, mysqldtest.Options{})
			s.Exec(t, "SET GLOBAL log_output = 'TABLE'", "SET GLOBAL general_log = 0", "ALTER TABLE mysql.general_log ENGINE="+engine, "SET GLOBAL general_log = 1")
			busy := new(stage.BusyLogError)
			if locks, err := tryBackup(t, s); !errors.As(err, &busy) || len(locks) > 0 {
				t.Errorf("%v, after the locks %v", err, locks)
			}
			s.Exec(t, "SET GLOBAL general_log = 0")
			archive, target := filepath.Join(t.TempDir(), "archive"), filepath.Join(t.TempDir(), "restored")
			backup(t, s, archive)
			restoreByHB(t, root, archive, target)
			isSound(t, mysqldtest.StartOn(t, root, target, mysqldtest.Options{}), "mysql.general_log")
		})
	}
}

// TestPlainSystemTables: non-transactional tables in the server's own databases,
// as plugins and old versions leave some, are locked and copied like others.
func TestPlainSystemTables(t *testing.T) {
	mysqldtest.Each(t, slices.Concat(mysqldtest.MariaDB, mysqldtest.MySQL), func(t *testing.T, root *mysqldtest.Root) {
		s := mysqldtest.Start(t, root, mysqldtest.Options{})
		tables := []string{"mysql.leftover", "mysql.csv"}
		if !root.MariaDB() && root.AtLeast(8, 0) {
			tables = append(tables, "sys.m")
		}
		s.Exec(t, "CREATE TABLE mysql.leftover (id INT NOT NULL, v VARCHAR(200), KEY(id), KEY(v)) ENGINE=MyISAM",
			"CREATE TABLE mysql.csv (id INT NOT NULL, v VARCHAR(200) NOT NULL) ENGINE=CSV")
		if len(tables) > 2 {
			s.Exec(t, "CREATE TABLE sys.m (id INT NOT NULL, v VARCHAR(200), KEY(v)) ENGINE=MyISAM")
		}
		stop := keepRunning(t, s, 1, func(i int) (out []string) {
			for _, table := range tables {
				out = append(out, fmt.Sprintf("INSERT INTO %s VALUES (%d, REPEAT('%d', %d))", table, i, i%10, i*37%200))
			}
			return append(out, fmt.Sprintf("DELETE FROM mysql.leftover WHERE id = %d", i/2))
		})
		target := filepath.Join(t.TempDir(), "restored")
		for round := range 3 {
			archive := filepath.Join(t.TempDir(), "archive")
			backup(t, s, archive)
			if round == 2 {
				restoreByHB(t, root, archive, target)
			}
		}
		stop()
		r := mysqldtest.StartOn(t, root, target, mysqldtest.Options{})
		for _, table := range tables {
			isSound(t, r, table)
		}
	})
}

// TestTablesInUse: a table that a session has open during the whole backup, so that the
// server does not close it, has its delayed key blocks in the backup, and no mark of
// being open.
func TestTablesInUse(t *testing.T) {
	mysqldtest.Each(t, mysqldtest.MariaDB, func(t *testing.T, root *mysqldtest.Root) {
		s := mysqldtest.Start(t, root, mysqldtest.Options{})
		s.Exec(t, "CREATE DATABASE d")
		conn := s.Conn(t)
		var tables []string
		for _, db := range []string{"d", "mysql"} {
			for i, engine := range []string{"MyISAM", "MyISAM DELAY_KEY_WRITE=1", "Aria TRANSACTIONAL=0", "Aria"} {
				table := fmt.Sprintf("%s.used%d", db, i)
				tables = append(tables, table)
				s.Exec(t, "CREATE TABLE "+table+" (id INT NOT NULL, v VARCHAR(200), KEY (id), KEY (v)) ENGINE="+engine)
				if _, err := conn.ExecContext(t.Context(), fmt.Sprintf("HANDLER %s OPEN AS %s%d", table, db, i)); err != nil {
					t.Fatal(err)
				}
				for n := 1; n <= 200; n++ { // one by one: the server would close it after a bulk insert
					s.Exec(t, fmt.Sprintf("INSERT INTO %s VALUES (%d, REPEAT('v', %d))", table, n, n))
				}
			}
		}
		archive, target := filepath.Join(t.TempDir(), "archive"), filepath.Join(t.TempDir(), "restored")
		backup(t, s, archive)
		restoreByHB(t, root, archive, target)
		r := mysqldtest.StartOn(t, root, target, mysqldtest.Options{})
		for _, table := range tables {
			isSound(t, r, table)
			if n := number(t, r, "SELECT COUNT(*) FROM "+table+" FORCE INDEX (v) WHERE v > ''"); n != 200 {
				t.Errorf("%s: %d rows of 200", table, n)
			}
		}
	})
}

// tryBackup is a backup that may fail, and whose archive is thrown away. It returns
// the locks that it asked for.
func tryBackup(t *testing.T, s *mysqldtest.Server) ([]locks.Timing, error) {
	t.Helper()
	srv := client.Open(t, s)
	defer srv.Close()
	result, err := source.Run(t.Context(), srv, io.Discard, source.Options{Parallel: 2, Tmpdir: t.TempDir(), Tool: "hb", ToolVersion: "test"})
	return result.Locks, err
}

// keepRunning has some connections run statements, again and again, until stop is
// called.
func keepRunning(t *testing.T, s *mysqldtest.Server, connections int, statements func(i int) []string) (stop func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	for range connections {
		conn, err := s.DB().Conn(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		wg.Go(func() {
			defer conn.Close()
			if err := runAll(ctx, conn, statements); err != nil {
				t.Error(err)
			}
		})
	}
	return sync.OnceFunc(func() { cancel(); wg.Wait() })
}

func runAll(ctx context.Context, conn *sql.Conn, statements func(i int) []string) error {
	for i := 1; ctx.Err() == nil; i++ {
		for _, q := range statements(i) {
			if _, err := conn.ExecContext(context.WithoutCancel(ctx), q); err != nil {
				return fmt.Errorf("%.200s: %w", q, err)
			}
		}
	}
	return nil
}

// isSound checks that a table is whole, and was closed.
func isSound(t *testing.T, s *mysqldtest.Server, table string) {
	t.Helper()
	if got := s.Rows(t, "CHECK TABLE "+table+" EXTENDED"); len(got) != 1 || got[0][3] != "OK" {
		t.Errorf("%q", got)
	}
}

func number(t *testing.T, s *mysqldtest.Server, query string) int {
	t.Helper()
	n, err := strconv.Atoi(s.Value(t, query))
	if err != nil {
		t.Fatal(err)
	}
	return n
}
