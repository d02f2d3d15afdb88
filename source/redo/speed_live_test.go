package redo

import (
	"context"
	"errors"
	"fmt"
	"math"
	"path/filepath"
	"testing"

	"hb/source/mysqld"
	"hb/source/mysqld/mysqldtest"
	"hb/source/mysqld/mysqldtest/client"
	"hb/source/mysqld/position"
	"hb/stream/disk"
	"hb/xbstream/innodb"
)

// BenchmarkReader measures how fast a live log is read and parsed, which bounds
// the rate of a server that hb can follow: FollowRate.
func BenchmarkReader(b *testing.B) {
	for _, name := range []string{mysqldtest.MariaDB105, mysqldtest.MariaDB1011, mysqldtest.MySQL57, mysqldtest.MySQL97} {
		b.Run(name, func(b *testing.B) { benchmarkReader(b, mysqldtest.Need(b, name)) })
	}
}

func benchmarkReader(b *testing.B, root *mysqldtest.Root) {
	s := mysqldtest.Start(b, root, mysqldtest.Options{Config: logSize(root)})
	s.Exec(b, "CREATE DATABASE d", "CREATE TABLE d.t (id INT AUTO_INCREMENT PRIMARY KEY, a INT, b VARCHAR(200)) ENGINE=InnoDB",
		"INSERT INTO d.t (a, b) VALUES (1, REPEAT('x', 150))")
	for range 17 {
		s.Exec(b, "INSERT INTO d.t (a, b) SELECT a + 1, b FROM d.t")
	}
	srv := client.Open(b, s)
	defer srv.Close()
	for b.Loop() {
		n, err := readAll(b.Context(), s.Datadir, srv)
		if err != nil {
			b.Fatal(err)
		}
		b.SetBytes(n)
	}
}

// logSize makes the redo log large enough for all that the benchmark writes.
func logSize(root *mysqldtest.Root) []string {
	if !root.MariaDB() && root.AtLeast(8, 0) {
		return []string{"innodb-redo-log-capacity=512M"}
	}
	return []string{"innodb-log-file-size=256M"}
}

// readAll reads the log from its newest checkpoint to its end.
func readAll(ctx context.Context, dir string, srv *mysqld.Server) (n int64, err error) {
	var log liveLog
	limit := innodb.LSN(math.MaxUint64)
	if srv.Flavor == mysqld.MySQL {
		log, err = openMySQL(disk.OS, dir, nil)
	} else if log, err = openMariaDB(disk.OS, filepath.Join(dir, logName), nil); err == nil && !log.blocks() {
		limit, _, err = position.LSNs(ctx, srv)
	}
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, log.close()) }()
	for {
		got, err := log.next(limit)
		n += int64(len(got.bytes))
		switch {
		case err != nil:
			return n, err
		case got.more:
		case n < 1<<20:
			return n, fmt.Errorf("only %d bytes of log", n)
		default:
			return n, nil
		}
	}
}
