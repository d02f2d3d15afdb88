//go:build linux

package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"hb/source/mysqld/mysqldtest"
)

// readPerByte is what a backup reads, of whatever kind, for each byte of its archive.
var readPerByte = figure{"bytes read for each of the archive", median(func(u usage) float64 { return float64(u.Read) / float64(u.Bytes) }), ratio}

// tracked is the section of increments of a server that lists the pages it changes.
var tracked = &section{
	title:   "Page tracking",
	columns: []figure{wall, cpu, peak, size, readPerByte},
	text: "MySQL's component_mysqlbackup lists the changed pages. Where hb reads all pages nevertheless, it was told that the list is of another run of the server. " +
		"Usually no tablespace is in the page cache: with innodb_flush_method=O_DIRECT the server reads and writes past it. If all are, hb reads 2 GiB from memory in less time than its questions to the server take.",
}

// trackMySQL measures the backup of what changed, with the server's list of changed pages
// and without it.
func (b *bench) trackMySQL(ctx context.Context, s *mysqldtest.Server, dir string) error {
	if !b.wants("tracking") {
		return nil
	}
	if err := track(ctx, s); err != nil {
		return err
	}
	manifest := filepath.Join(dir, "manifest")
	defer removeAll(manifest)
	if _, err := pipeline(ctx, "", discard, b.hbBackup(s, "--manifest-out", manifest)); err != nil {
		return err
	}
	var run string
	if err := s.DB().QueryRowContext(ctx, "SELECT @@mysqlbackup.backupid").Scan(&run); err != nil {
		return err
	}
	if err := changeRows(ctx, s); err != nil {
		return err
	}
	if err := writeOut(ctx, s); err != nil {
		return err
	}
	files, err := tablespaces(s.Datadir)
	if err != nil {
		return err
	}
	since := func(name, run string) *side {
		side := into(name, b.hbBackup(s, "--since", manifest))
		side.prepare = func(ctx context.Context) error {
			_, err := s.DB().ExecContext(ctx, "SET GLOBAL mysqlbackup.backupid = '"+run+"'")
			return err
		}
		return side
	}
	sides := func() []*side {
		return []*side{
			since("hb backup --since, listed pages", run),
			since("hb backup --since, all pages", ""),
			into("hb backup", b.hbBackup(s)),
		}
	}
	bars := []bar{within(readPerByte, 1.5), within(peak, 256<<20)}
	return b.hold(ctx,
		&contest{name: "tracking", title: "back up what changed in MySQL 9.7: one page in a hundred", section: tracked, warm: true, cold: files,
			bars: append([]bar{against(1, wall, 0.2)}, bars...), sides: sides()},
		&contest{name: "tracking", title: "back up what changed in MySQL 9.7, all tablespaces in the page cache", section: tracked, warm: true, cached: files,
			bars: append([]bar{{figure: wall, peer: 1, rule: tell}}, bars...), sides: sides()})
}

// track has the server list the pages that it changes, and fills the list's first block,
// up to which hb does not use it.
func track(ctx context.Context, s *mysqldtest.Server) error {
	for _, q := range []string{"INSTALL COMPONENT 'file://component_mysqlbackup'", "SELECT mysqlbackup_page_track_set(1)"} {
		if _, err := s.DB().ExecContext(ctx, q); err != nil {
			return err
		}
	}
	if err := fillTable(ctx, s.DB(), "bench.grown", 200_000); err != nil {
		return err
	}
	if err := writeOut(ctx, s); err != nil {
		return err
	}
	_, err := s.DB().ExecContext(ctx, "DROP TABLE bench.grown")
	return err
}

// writeOut waits until the server has written all changed pages.
func writeOut(ctx context.Context, s *mysqldtest.Server) error {
	if _, err := s.DB().ExecContext(ctx, "SET GLOBAL innodb_max_dirty_pages_pct = 0"); err != nil {
		return err
	}
	for end := time.Now().Add(5 * time.Minute); ; time.Sleep(100 * time.Millisecond) {
		var name string
		var dirty int64
		if err := s.DB().QueryRowContext(ctx, "SHOW GLOBAL STATUS LIKE 'Innodb_buffer_pool_pages_dirty'").Scan(&name, &dirty); err != nil {
			return err
		}
		switch {
		case dirty == 0:
			return nil
		case time.Now().After(end):
			return fmt.Errorf("the server still has %d changed pages that it has not written: %w", dirty, os.ErrDeadlineExceeded)
		}
	}
}
