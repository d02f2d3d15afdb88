package mysqldtest

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

var all = append(append([]string{}, MariaDB...), MySQL...)

func TestStart(t *testing.T) {
	Each(t, all, func(t *testing.T, root *Root) {
		s := Start(t, root, Options{})
		if got := s.Value(t, "SELECT VERSION()"); !strings.HasPrefix(got, root.Version) {
			t.Errorf("version = %q, want prefix %q", got, root.Version)
		}
		if got := s.Value(t, "SELECT CURRENT_USER()"); got != "root@localhost" {
			t.Errorf("user = %q", got)
		}
		if got := s.Value(t, "SELECT @@datadir"); filepath.Clean(got) != s.Datadir {
			t.Errorf("datadir = %q, want %q", got, s.Datadir)
		}
		s.Exec(t, "CREATE DATABASE a", "CREATE TABLE a.t (i INT PRIMARY KEY) ENGINE=InnoDB", "INSERT INTO a.t VALUES (1)")
		if err := s.Kill(); err != nil {
			t.Fatal(err)
		}
		again := StartOn(t, root, s.Datadir, Options{})
		if got := again.Value(t, "SELECT i FROM a.t"); got != "1" {
			t.Errorf("after a kill: i = %q, want 1", got)
		}
		if err := again.Stop(); err != nil {
			t.Error(err)
		}
	})
}

// TestStartFails shows that a server that cannot start is reported with its log.
func TestStartFails(t *testing.T) {
	root := Need(t, MariaDB1011)
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "ibdata1"), []byte("no tablespace"), 0o644); err != nil {
		t.Fatal(err)
	}
	_, err := LaunchOn(t.Context(), root, dir, Options{Dir: t.TempDir()})
	if err == nil || !strings.Contains(err.Error(), "InnoDB") {
		t.Errorf("error = %v, want the server's log in it", err)
	}
}

func TestPageSizes(t *testing.T) {
	Each(t, MariaDB, func(t *testing.T, root *Root) {
		for _, n := range []string{"4096", "65536"} {
			s := Start(t, root, Options{Init: []string{"innodb-page-size=" + n}})
			if got := s.Value(t, "SELECT @@innodb_page_size"); got != n {
				t.Errorf("page size = %s, want %s", got, n)
			}
		}
	})
}

func TestReplica(t *testing.T) {
	Each(t, all, func(t *testing.T, root *Root) {
		for _, gtid := range []bool{false, true} {
			source := Start(t, root, Options{Binlog: true})
			at, err := source.BinlogPosition(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			if !gtid {
				at.GTID = ""
			} else if at.GTID == "" {
				// Nothing has been logged yet; the position of nothing is a file position.
				source.Exec(t, "CREATE DATABASE before_position")
				if at, err = source.BinlogPosition(t.Context()); err != nil {
					t.Fatal(err)
				}
			}
			source.Exec(t, "CREATE DATABASE a", "CREATE TABLE a.t (i INT PRIMARY KEY)", "INSERT INTO a.t VALUES (7)")
			replica := Start(t, root, Options{ServerID: 2, Binlog: !root.MariaDB()})
			Attach(t, replica, source, at)
			CatchUp(t, replica, source, 30*time.Second)
			if got := replica.Value(t, "SELECT i FROM a.t"); got != "7" {
				t.Errorf("gtid %v: i = %q on the replica, want 7", gtid, got)
			}
		}
	})
}

// TestReplicaStops shows that a replica's own error ends the wait.
func TestReplicaStops(t *testing.T) {
	root := Need(t, MariaDB1011)
	source := Start(t, root, Options{Binlog: true})
	source.Exec(t, "CREATE DATABASE a")
	at, err := source.BinlogPosition(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	source.Exec(t, "CREATE TABLE a.t (i INT PRIMARY KEY)")
	replica := Start(t, root, Options{ServerID: 2}) // has no database a
	Attach(t, replica, source, at)
	err = replica.WaitFor(t.Context(), source, 30*time.Second)
	if err == nil || !strings.Contains(err.Error(), "Unknown database") {
		t.Errorf("error = %v, want the replica's", err)
	}
}
