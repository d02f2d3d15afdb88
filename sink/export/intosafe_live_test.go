package export_test

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"hb/sink/restore"
	"hb/source/mysqld/mysqldtest"
)

// meddling is a connection on which something happens around a statement.
type meddling struct {
	restore.Connection
	before, after func(statement string) error
}

func (m *meddling) Exec(ctx context.Context, statement string) error {
	if m.before != nil {
		if err := m.before(statement); err != nil {
			return err
		}
	}
	err := m.Connection.Exec(ctx, statement)
	if err == nil && m.after != nil {
		err = m.after(statement)
	}
	return err
}

// meddle wraps the first connection that is opened. Others are as they are.
func meddle(open func(context.Context) (restore.Connection, error), m *meddling) func(context.Context) (restore.Connection, error) {
	first := true
	return func(ctx context.Context) (restore.Connection, error) {
		c, err := open(ctx)
		if err != nil || !first {
			return c, err
		}
		first, m.Connection = false, c
		return m, nil
	}
}

// one makes a server with a table that is written, and another one that it is brought to.
func one(t *testing.T, s *mysqldtest.Server, statements ...string) (*writtenTables, *mysqldtest.Server, restore.Options) {
	t.Helper()
	s.Exec(t, "CREATE DATABASE t")
	s.Exec(t, statements...)
	w := writeShown(t, s)
	s = target(t, s.Root)
	return w, s, restore.Options{Open: connect(t, s), From: w.from(t), PageSize: 16 << 10, Report: func(string) {}}
}

// consistent makes sure that a table is there with its file, or neither is.
func consistent(t *testing.T, s *mysqldtest.Server, name string) (there bool) {
	t.Helper()
	there = s.Value(t, "SELECT COUNT(*) FROM information_schema.TABLES WHERE TABLE_SCHEMA='t' AND TABLE_NAME='"+name+"'") == "1"
	_, err := os.Stat(filepath.Join(s.Datadir, "t", name+".ibd"))
	if there != (err == nil) {
		t.Errorf("%s: the table is there: %v; its file: %v", s.Root.Name, there, err)
	}
	return there
}

const oneTable = "CREATE TABLE t.one (a INT PRIMARY KEY, b VARCHAR(50), KEY(b)) ENGINE=InnoDB"

// TestIntoInterrupted: whenever the work ends early, the table and its file are gone, or both are
// there and named.
func TestIntoInterrupted(t *testing.T) {
	mysqldtest.EachServer(t, allServers, mysqldtest.Options{}, func(t *testing.T, s *mysqldtest.Server) {
		w, s, o := one(t, s, oneTable, "INSERT INTO t.one VALUES (1,'x'),(2,'y')")
		open := o.Open
		gone := 0
		for _, at := range []string{"CREATE TABLE", "DISCARD", "IMPORT", "ANALYZE"} {
			for _, wait := range []time.Duration{0, time.Millisecond, 10 * time.Millisecond} {
				ctx, cancel := context.WithCancel(t.Context())
				o.Open = meddle(open, &meddling{before: func(q string) error {
					if strings.Contains(q, at) {
						time.AfterFunc(wait, cancel)
					}
					return nil
				}})
				_, err := restore.Into(ctx, w.out, w.sources, o)
				cancel()
				switch there := consistent(t, s, "one"); {
				case err == nil && there:
				case err == nil || there && !strings.Contains(err.Error(), "left on the server"):
					t.Errorf("%s: %s: the table is there: %v; %v", s.Root.Name, at, there, err)
				default:
					gone++
				}
				s.Exec(t, "DROP TABLE IF EXISTS t.one")
				noRemains(t, s)
			}
		}
		if gone == 0 {
			t.Errorf("%s: nothing was interrupted", s.Root.Name)
		}
		o.Open = open
		if _, err := restore.Into(t.Context(), w.out, w.sources, o); err != nil {
			t.Errorf("%s: after that: %v", s.Root.Name, err)
		}
	})
}

// TestIntoOthersFile: a file that is where the table's is to go is another server's: it is not
// touched, and nothing is left.
func TestIntoOthersFile(t *testing.T) {
	mysqldtest.EachServer(t, allServers, mysqldtest.Options{}, func(t *testing.T, s *mysqldtest.Server) {
		w, s, o := one(t, s, oneTable, "INSERT INTO t.one VALUES (1,'x'),(2,'y')")
		file := filepath.Join(s.Datadir, "t", "one.ibd")
		o.Open = meddle(o.Open, &meddling{after: func(q string) error {
			if strings.Contains(q, "DISCARD") {
				return os.WriteFile(file, []byte("another server's"), 0o600)
			}
			return nil
		}})
		_, err := restore.Into(t.Context(), w.out, w.sources, o)
		content, rerr := os.ReadFile(file)
		// DROP TABLE may have removed it: that is the server's doing.
		if err == nil || rerr == nil && string(content) != "another server's" {
			t.Errorf("%s: %v; the file has %d bytes", s.Root.Name, err, len(content))
		}
		if !errors.Is(err, os.ErrExist) {
			t.Errorf("%s: %v", s.Root.Name, err)
		}
	})
}

// TestIntoRenameFails: if the exchange fails, the old table is where it was; if nobody can tell, no
// table is dropped.
func TestIntoRenameFails(t *testing.T) {
	mysqldtest.EachServer(t, allServers, mysqldtest.Options{}, func(t *testing.T, s *mysqldtest.Server) {
		w, s, o := one(t, s, oneTable, "INSERT INTO t.one VALUES (1,'x'),(2,'y')")
		s.Exec(t, "CREATE DATABASE t", oneTable, "INSERT INTO t.one VALUES (7,'old')")
		o.Replace = true
		open := o.Open
		failed := errors.New("it failed")
		fail := func(q string) error {
			if strings.HasPrefix(q, "RENAME") {
				return failed
			}
			return nil
		}
		o.Open = meddle(open, &meddling{before: fail})
		if _, err := restore.Into(t.Context(), w.out, w.sources, o); !errors.Is(err, failed) {
			t.Errorf("%s: %v", s.Root.Name, err)
		}
		if got := s.Value(t, "SELECT b FROM t.one"); got != "old" {
			t.Errorf("%s: the old table has %q", s.Root.Name, got)
		}
		noRemains(t, s)
		o.Open = meddle(open, &meddling{after: fail}) // it was done, and hb is told that it was not
		if _, err := restore.Into(t.Context(), w.out, w.sources, o); !errors.Is(err, failed) || !strings.Contains(err.Error(), "look for the old one") {
			t.Errorf("%s: %v", s.Root.Name, err)
		}
		old := s.Value(t, "SELECT TABLE_SCHEMA FROM information_schema.TABLES WHERE TABLE_SCHEMA LIKE 'hb\\_replaced\\_%'")
		if got := s.Value(t, "SELECT b FROM "+old+".one"); got != "old" {
			t.Errorf("%s: the old table has %q", s.Root.Name, got)
		}
	})
}

// TestIntoOtherSettings: a table is what its definition says whatever the server's settings make of
// that, or it is refused.
func TestIntoOtherSettings(t *testing.T) {
	mysqldtest.Each(t, allServers, func(t *testing.T, root *mysqldtest.Root) {
		set := func(value string) mysqldtest.Options {
			return mysqldtest.Options{Config: []string{"explicit-defaults-for-timestamp=" + value}}
		}
		s := mysqldtest.Start(t, root, set("ON"))
		s.Exec(t, "CREATE DATABASE t", "CREATE TABLE t.one (a INT PRIMARY KEY, b TIMESTAMP NOT NULL, c TIMESTAMP NULL) ENGINE=InnoDB", "INSERT INTO t.one VALUES (1,'2020-01-01 00:00:00',NULL)")
		w := writeShown(t, s)
		s = mysqldtest.Start(t, root, set("OFF"))
		o := restore.Options{Open: connect(t, s), From: w.from(t), PageSize: 16 << 10, Report: func(string) {}}
		_, err := restore.Into(t.Context(), w.out, w.sources, o)
		if _, refused := errors.AsType[*restore.TargetServerError](err); refused {
			t.Logf("%s: %v", root.Name, err)
			noRemains(t, s)
			return
		}
		if err != nil {
			t.Fatalf("%s: %v", root.Name, err)
		}
		if got, want := showCreate(t, s, restore.Name{Database: "t", Table: "one"}), w.creates["t.one"]; got != want {
			t.Errorf("%s: %s, not %s", root.Name, got, want)
		}
	})
}

// TestIntoLowerCase: two tables that would have one name are refused.
func TestIntoLowerCase(t *testing.T) {
	for _, name := range []string{mysqldtest.MariaDB1011, mysqldtest.MySQL97} {
		t.Run(name, func(t *testing.T) {
			s := mysqldtest.Start(t, mysqldtest.Need(t, name), mysqldtest.Options{})
			s.Exec(t, "CREATE DATABASE t", oneTable, "CREATE TABLE t.ONE (a INT) ENGINE=InnoDB")
			w := writeShown(t, s)
			s = mysqldtest.Start(t, s.Root, mysqldtest.Options{Init: []string{"lower-case-table-names=1"}})
			o := restore.Options{Open: connect(t, s), From: w.from(t), PageSize: 16 << 10, Replace: true, Report: func(string) {}}
			_, err := restore.Into(t.Context(), w.out, w.sources, o)
			if _, refused := errors.AsType[*restore.TargetServerError](err); !refused || !strings.Contains(err.Error(), "lower case") {
				t.Errorf("%s: %v", name, err)
			}
		})
	}
}
