package workload

import (
	"context"
	"io/fs"
	"maps"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"hb/source/mysqld/mysqldtest"
)

// runFor is how long the tests let the load run.
func runFor() time.Duration {
	if mysqldtest.Long() {
		return 30 * time.Second
	}
	return 3 * time.Second
}

// seed returns another seed for each run, and logs it.
func seed(t *testing.T) uint64 {
	n := uint64(time.Now().UnixNano())
	t.Logf("seed %d", n)
	return n
}

// TestLoad runs the load on a source with a replica: the source passes its own
// check, and so does the replica, with equal checksums.
func TestLoad(t *testing.T) {
	mysqldtest.Each(t, slices.Concat(mysqldtest.MariaDB, mysqldtest.MySQL), func(t *testing.T, root *mysqldtest.Root) {
		ctx := t.Context()
		source := mysqldtest.Start(t, root, mysqldtest.Options{Binlog: true})
		at, err := source.BinlogPosition(ctx)
		if err != nil {
			t.Fatal(err)
		}
		at.GTID = ""
		replica := mysqldtest.Start(t, root, mysqldtest.Options{ServerID: 2, Binlog: true})
		if err := InstallEngines(ctx, replica.DB()); err != nil {
			t.Fatal(err)
		}
		mysqldtest.Attach(t, replica, source, at)
		l, err := Prepare(ctx, source.DB(), Options{DDLRate: 20, Seed: seed(t)})
		if err != nil {
			t.Fatal(err)
		}
		if err := Check(ctx, source.DB()); err != nil {
			t.Fatalf("before the load: %v", err)
		}
		run(t, l, runFor())
		if err := Check(ctx, source.DB()); err != nil {
			t.Errorf("source: %v", err)
		}
		mysqldtest.CatchUp(t, replica, source, time.Minute)
		if err := Check(ctx, replica.DB()); err != nil {
			t.Errorf("replica: %v", err)
		}
		for _, d := range Differences(userSums(t, source), userSums(t, replica)) {
			t.Error(d)
		}
	})
}

// TestPageSizes runs the load at the page sizes that shape its tables otherwise.
func TestPageSizes(t *testing.T) {
	mysqldtest.Each(t, mysqldtest.MariaDB, func(t *testing.T, root *mysqldtest.Root) {
		for _, size := range []int{4096, 65536} {
			s := mysqldtest.Start(t, root, mysqldtest.Options{PageSize: size})
			l, err := Prepare(t.Context(), s.DB(), Options{DDLRate: 20, Seed: seed(t)})
			if err != nil {
				t.Fatalf("page size %d: %v", size, err)
			}
			run(t, l, runFor())
			if err := Check(t.Context(), s.DB()); err != nil {
				t.Errorf("page size %d: %v", size, err)
			}
		}
	})
}

// TestOutside runs the load with tables outside the data directory.
func TestOutside(t *testing.T) {
	mysqldtest.Each(t, slices.Concat(mysqldtest.MariaDB, mysqldtest.MySQL), func(t *testing.T, root *mysqldtest.Root) {
		dir := t.TempDir()
		var config []string
		if !root.MariaDB() && root.AtLeast(8, 0) {
			config = append(config, "innodb-directories="+dir)
		}
		s := mysqldtest.Start(t, root, mysqldtest.Options{Config: config})
		l, err := Prepare(t.Context(), s.DB(), Options{DDLRate: 20, Seed: seed(t), DataDirectory: dir})
		if err != nil {
			t.Fatal(err)
		}
		run(t, l, runFor())
		if err := Check(t.Context(), s.DB()); err != nil {
			t.Error(err)
		}
		outside := 0
		err = filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
			if filepath.Ext(path) == ".ibd" {
				outside++
			}
			return err
		})
		if err != nil || outside == 0 {
			t.Errorf("%d tablespaces in %s: %v", outside, dir, err)
		}
	})
}

// run runs the load and demands that all its parts did something.
func run(t *testing.T, l *Load, d time.Duration) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), d)
	defer cancel()
	if err := l.Run(ctx); err != nil {
		t.Fatal(err)
	}
	s := l.Stats()
	rollbacks := 0
	for i, w := range s.Writers {
		rollbacks += w.Rollbacks
		if w.Transactions == 0 || w.Max.For == 0 {
			t.Errorf("writer %d: %+v", i, w)
		}
	}
	if rollbacks == 0 {
		t.Error("no rollback")
	}
	t.Logf("%d transactions, max stall %v (%s), DDL %v, max %v (%s)", s.Transactions(), s.MaxStall().For, s.MaxStall().Statement, s.DDL, s.DDLMax.For, s.DDLMax.Statement)
	if s.DDLCount() == 0 {
		t.Error("no DDL")
	}
}

// userSums returns the checksums of what replicates to a server that was not
// made from a copy of its source.
func userSums(t *testing.T, s *mysqldtest.Server) map[string]string {
	t.Helper()
	s.DB().SetMaxIdleConns(-1) // as storms do: each statement is in another session
	defer s.DB().SetMaxIdleConns(2)
	sums, err := Checksums(t.Context(), s.DB())
	if err != nil {
		t.Fatal(err)
	}
	if archive := quote(miscDB, "log_archive"); sums[archive] == "0" {
		t.Errorf("%s: checksum 0 of a table with rows", archive)
	}
	maps.DeleteFunc(sums, func(n, _ string) bool { return strings.HasPrefix(n, "`mysql`.") || strings.HasPrefix(n, "`sys`.") })
	return sums
}
