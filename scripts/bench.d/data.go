//go:build linux

package main

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"path/filepath"
	"strings"
	"sync"

	"hb/source/mysqld/mysqldtest"
	"hb/stream"
)

const (
	tables   = 4
	rowBytes = 300 // of a row with its index entry, in pages as they are filled
	// maxInsert is how many rows one statement inserts.
	maxInsert = 100_000
)

// poolSize is that of a buffer pool, in bytes, that all data fits in.
func poolSize(size int64) int64 { return size + size/2 + 256<<20 }

// config has a server not flush by itself, so that the redo log holds what was
// changed since it was started.
func config(root *mysqldtest.Root, size int64) []string {
	lines := []string{
		fmt.Sprintf("innodb-buffer-pool-size=%d", poolSize(size)),
		"innodb-max-dirty-pages-pct=99", "innodb-max-dirty-pages-pct-lwm=0",
		"innodb-flush-log-at-trx-commit=2", "innodb-adaptive-flushing=OFF",
	}
	if root.MariaDB() {
		return append(lines, fmt.Sprintf("innodb-log-file-size=%d", 2*size+256<<20))
	}
	return append(lines, fmt.Sprintf("innodb-redo-log-capacity=%d", 2*size+256<<20), "innodb-idle-flush-pct=0")
}

// launch starts a new server.
func launch(ctx context.Context, name, dir string, size int64) (*mysqldtest.Server, error) {
	root, err := mysqldtest.Installed(name)
	if err != nil {
		return nil, err
	}
	return mysqldtest.Launch(ctx, root, mysqldtest.Options{Dir: filepath.Join(dir, name), Config: config(root, size)})
}

// fill makes about size bytes of tablespaces.
func fill(ctx context.Context, s *mysqldtest.Server, size int64) error {
	say("filling %s with %s", s.Root.Name, stream.Size(size))
	db := s.DB()
	if _, err := db.ExecContext(ctx, "CREATE DATABASE bench"); err != nil {
		return err
	}
	return eachTable(func(table string) error { return fillTable(ctx, db, table, size/tables/rowBytes) })
}

// restart ends a server, which brings all that it has to disk, and starts it
// again. The server that is to be ended is returned in any case.
func restart(ctx context.Context, s *mysqldtest.Server, o mysqldtest.Options) (*mysqldtest.Server, error) {
	if err := s.Stop(); err != nil {
		return s, err
	}
	o.Dir = s.Dir
	again, err := mysqldtest.LaunchOn(ctx, s.Root, s.Datadir, o)
	if err != nil {
		return s, err
	}
	return again, nil
}

// eachTable does something with every table of the data at the same time.
func eachTable(f func(table string) error) error {
	return inParallel(tables, func(i int) error { return f(fmt.Sprintf("bench.t%d", i)) })
}

// inParallel calls f with 0 to n-1 at the same time, and waits for all.
func inParallel(n int, f func(i int) error) error {
	var wg sync.WaitGroup
	errs := make([]error, n)
	for i := range n {
		wg.Go(func() { errs[i] = f(i) })
	}
	wg.Wait()
	return errors.Join(errs...)
}

func fillTable(ctx context.Context, db *sql.DB, table string, rows int64) error {
	_, err := db.ExecContext(ctx, "CREATE TABLE "+table+` (
		id BIGINT NOT NULL PRIMARY KEY AUTO_INCREMENT, k INT NOT NULL, c VARCHAR(200) NOT NULL, d BIGINT NOT NULL,
		KEY (k)) ENGINE=InnoDB CHARACTER SET utf8mb4 COLLATE utf8mb4_general_ci`)
	if err == nil {
		_, err = db.ExecContext(ctx, "INSERT INTO "+table+" (k, c, d) VALUES (1, 'one', 1)")
	}
	for have := int64(1); err == nil && have < rows; {
		n := min(have, rows-have, maxInsert)
		// Half of the text repeats itself, as that of real tables does.
		_, err = db.ExecContext(ctx, fmt.Sprintf(`INSERT INTO %s (k, c, d)
			SELECT FLOOR(RAND() * 1000000000), CONCAT(SHA2(RAND(), 256), REPEAT('benchmark ', 6 + id %% 4)), id * 7 FROM %s LIMIT %d`, table, table, n))
		have += n
	}
	return err
}

// dirty changes rows all over the tables until the redo log has grown by size.
func dirty(ctx context.Context, s *mysqldtest.Server, size int64) error {
	say("changing rows of %s for %s of redo", s.Root.Name, stream.Size(size))
	from, err := lsn(ctx, s)
	if err != nil {
		return err
	}
	return eachTable(func(table string) error {
		for round := 0; ; round++ {
			_, err := s.DB().ExecContext(ctx, fmt.Sprintf(
				"UPDATE %s SET k = FLOOR(RAND() * 1000000000), d = d + 1, c = CONCAT(SHA2(RAND(), 256), SUBSTRING(c, 65)) WHERE id %% 50 = %d", table, round%50))
			if err != nil {
				return err
			}
			if at, err := lsn(ctx, s); err != nil || at-from > size {
				return err
			}
		}
	})
}

// lsn returns the server's current LSN.
func lsn(ctx context.Context, s *mysqldtest.Server) (int64, error) {
	var kind, name, text string
	if err := s.DB().QueryRowContext(ctx, "SHOW ENGINE INNODB STATUS").Scan(&kind, &name, &text); err != nil {
		return 0, err
	}
	_, rest, ok := strings.Cut(text, "Log sequence number")
	var at int64
	if _, err := fmt.Sscan(rest, &at); err != nil || !ok {
		return 0, fmt.Errorf("no LSN in SHOW ENGINE INNODB STATUS: %w", err)
	}
	return at, nil
}
