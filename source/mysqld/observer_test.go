package mysqld

import (
	"slices"
	"testing"
	"time"

	"hb/source/mysqld/mysqldtest"
)

// TestObserver: the observer's LSN follows the log within about a second, and
// killing its connection harms nobody.
func TestObserver(t *testing.T) {
	mysqldtest.Each(t, slices.Concat(mysqldtest.MariaDB, mysqldtest.MySQL), func(t *testing.T, root *mysqldtest.Root) {
		s := mysqldtest.Start(t, root, mysqldtest.Options{})
		s.Exec(t, "CREATE DATABASE d", "CREATE TABLE d.t (v LONGTEXT) ENGINE=InnoDB", "INSERT INTO d.t VALUES (REPEAT('x', 1000000))")
		srv := connect(t, socketOptions(s))
		o, err := srv.Observe(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		end, err := srv.CurrentLSN(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		for began := time.Now(); ; time.Sleep(50 * time.Millisecond) {
			lsn, err := o.LSN(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			if lsn >= end {
				break
			}
			if time.Since(began) > 10*time.Second {
				t.Fatalf("it sees LSN %d, the log ends at %d", lsn, end)
			}
		}
		s.Exec(t, "KILL "+o.c.ID)
		if _, err := o.LSN(t.Context()); err == nil {
			t.Error("a killed connection answers")
		}
		if err := o.Close(); err != nil {
			t.Error(err)
		}
		if _, err := srv.CurrentLSN(t.Context()); err != nil {
			t.Errorf("the server behind it: %v", err)
		}
	})
}
