package source_test

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"hb/sink/apply"
	"hb/source"
	"hb/source/mysqld/mysqldtest"
)

// TestLastLockLetsPass: beside a statement that uses a table of another engine for seconds, and
// one that rotates a key, a backup of MySQL 8.0 and later does not fail, and no DDL waits for
// hb as long as that lasts. What DDL makes between hb's tries is in the backup.
func TestLastLockLetsPass(t *testing.T) {
	root := mysqldtest.Need(t, mysqldtest.MySQL97)
	for name, busy := range map[string]string{
		"table":    "INSERT INTO d.m SELECT SLEEP(12)",
		"rotation": "ALTER INSTANCE ROTATE INNODB MASTER KEY",
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			s := mysqldtest.Start(t, root, mysqldtest.Options{Keyring: filepath.Join(dir, "keyring")})
			s.Exec(t, "CREATE DATABASE d", "CREATE TABLE d.m (a INT) ENGINE=MyISAM", "INSERT INTO d.m VALUES (1)")
			wait := func() error { return nil }
			var made, early atomic.Int64
			var longest time.Duration
			stop, ended := make(chan struct{}), make(chan struct{})
			go func() {
				defer close(ended)
				for n := 1; ; n++ {
					select {
					case <-stop:
						return
					case <-time.After(200 * time.Millisecond):
					}
					began := time.Now()
					if _, err := s.DB().ExecContext(t.Context(), fmt.Sprintf("CREATE TABLE d.n%d (a INT PRIMARY KEY, b INT, KEY(b)) SELECT 1 AS a, %d AS b", n, n)); err != nil {
						t.Error(err)
						return
					}
					longest = max(longest, time.Since(began))
					made.Store(int64(n))
				}
			}()
			archive, target := filepath.Join(dir, "archive"), filepath.Join(dir, "target")
			hookedBackup(t, s, archive, hooks{pace: func(n int) {
				if n != 20 {
					return
				}
				if name == "table" {
					wait = s.Background(t, busy)
					early.Store(made.Load())
					return
				}
				// It asks when hb has the last lock: hold the table until then.
				table := s.Background(t, "INSERT INTO d.m SELECT SLEEP(6)")
				early.Store(made.Load())
				wait = func() error { return table() }
				go func() {
					for s.Value(t, "SELECT COUNT(*) FROM performance_schema.metadata_locks WHERE OBJECT_TYPE = 'BACKUP LOCK' AND LOCK_TYPE = 'SHARED' AND LOCK_STATUS = 'GRANTED'") == "0" {
						time.Sleep(10 * time.Millisecond)
					}
					if _, err := s.DB().ExecContext(t.Context(), busy); err != nil {
						t.Error(err)
					}
				}()
			}})
			close(stop)
			<-ended
			if err := wait(); err != nil {
				t.Error(err)
			}
			t.Logf("%d tables were made, %d of them before the locks; one took %v at most", made.Load(), early.Load(), longest)
			if longest > 11*time.Second {
				t.Errorf("DDL waited for %v", longest)
			}
			unpack(t, archive, target)
			if _, err := apply.Run(t.Context(), target, apply.Options{Tool: "hb test", Keys: keysOf(t, s.Keyring)}); err != nil {
				t.Fatal(err)
			}
			copied := mysqldtest.StartOn(t, root, target, mysqldtest.Options{Keyring: s.Keyring})
			n, _ := strconv.ParseInt(copied.Value(t, "SELECT COUNT(*) FROM information_schema.TABLES WHERE TABLE_SCHEMA = 'd' AND TABLE_NAME LIKE 'n%'"), 10, 64)
			if n <= early.Load()+3 || n > made.Load() {
				t.Errorf("the copy has %d tables", n)
			}
			for i := int64(1); i <= n; i++ {
				if got := copied.Value(t, fmt.Sprintf("SELECT a * 1000000 + b FROM d.n%d FORCE INDEX (b) WHERE b = %d", i, i)); got != strconv.FormatInt(1000000+i, 10) {
					t.Errorf("table %d: %s", i, got)
				}
			}
		})
	}
}

// TestLastLockIsShort: DDL changes a large tablespace after all else is copied, just before hb
// takes the last lock, and again before hb's next try. hb copies it while DDL goes on, not under
// the lock, until DDL is at rest; and the copy has the last index.
func TestLastLockIsShort(t *testing.T) {
	root := mysqldtest.Need(t, mysqldtest.MySQL97)
	dir := t.TempDir()
	s := mysqldtest.Start(t, root, mysqldtest.Options{})
	s.Exec(t, "CREATE DATABASE d", "CREATE TABLE d.big (a INT PRIMARY KEY, b INT, KEY i (b)) AUTOEXTEND_SIZE=160M",
		"INSERT INTO d.big WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 1000) SELECT i, i % 7 FROM n")
	const last = 4 // 1: the first lock; 2: a calm moment, when nothing has changed; 3, 4: the last lock
	var asked, reads, before int
	var mu sync.Mutex
	socket := rewriting(t, s, func(q string) string {
		mu.Lock()
		defer mu.Unlock()
		if q == "LOCK INSTANCE FOR BACKUP" {
			if asked++; asked == last-1 || asked == last {
				s.Exec(t, "ALTER TABLE d.big DROP INDEX i", "ALTER TABLE d.big ADD INDEX i (b), ALGORITHM=INPLACE")
				before = reads
			}
		}
		return q
	})
	archive, target := filepath.Join(dir, "archive"), filepath.Join(dir, "target")
	f, err := os.Create(archive)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	paced := func(context.Context, int) error { // nothing is paced under the last lock
		mu.Lock()
		defer mu.Unlock()
		reads++
		return nil
	}
	r, err := source.Run(t.Context(), connectBy(t, socket), f, source.Options{Tmpdir: t.TempDir(), Tool: "hb", ToolVersion: "test", Pace: paced})
	if err != nil {
		t.Fatal(err)
	}
	for _, l := range r.Locks {
		t.Logf("%s: waited %v, held %v", l.Lock, l.Wait, l.Held)
	}
	if asked != last+1 || reads-before < 160 {
		t.Errorf("hb asked %d times for the lock, and read %d times after the last change", asked, reads-before)
	}
	unpack(t, archive, target)
	if _, err := apply.Run(t.Context(), target, apply.Options{Tool: "hb test"}); err != nil {
		t.Fatal(err)
	}
	copied := mysqldtest.StartOn(t, root, target, mysqldtest.Options{})
	if c := copied.Rows(t, "CHECK TABLE d.big EXTENDED"); c[0][3] != "OK" {
		t.Errorf("%v", c)
	}
	if got := copied.Value(t, "SELECT COUNT(*) FROM d.big FORCE INDEX (i) WHERE b >= 0"); got != "1000" {
		t.Errorf("index i has %s rows", got)
	}
}
