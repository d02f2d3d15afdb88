//go:build linux

package main

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"hb/source/mysqld/mysqldtest"
	"hb/stream"
)

// outcome is what became of a backup that the redo log may overrun.
type outcome int

const (
	failed   outcome = iota // for another reason
	overrun                 // the tool said that redo was lost
	unsound                 // it reported success, but hb verify does not accept the archive
	complete                // hb verify accepts it
)

// lostRace is hb's exit code for a backup that was lost on its way, and
// peerLostRace what mariadb-backup says of redo that was overwritten.
const (
	lostRace     = 5
	peerLostRace = "try increasing innodb_log_file_size"
)

// raced is the section of backups that the redo log may overrun.
var raced = &section{
	title:   "Redo overrun",
	columns: []figure{wall, outcomes("complete", complete), outcomes("lost to overrun", overrun), outcomes("failed", failed), outcomes("unsound", unsound)},
	text: fmt.Sprintf("Complete is a backup that ended with success and whose archive hb verify accepts; lost to overrun is one that ended with an error "+
		"that says so (hb: exit code %d); failed, one that ended with another error or not within %s; unsound, one that ended with success although hb verify refuses the archive.",
		lostRace, overrunLimit),
}

// outcomes counts runs that ended in one of the ways.
func outcomes(name string, which ...outcome) figure {
	return figure{name, func(runs []usage) float64 {
		n := 0.0
		for _, u := range runs {
			if slices.Contains(which, u.Outcome) {
				n++
			}
		}
		return n
	}, number}
}

const (
	overrunLog     = 64 << 20        // bytes of redo log
	overrunSeconds = 6               // that the pages take at least, as they are read
	overrunLimit   = 2 * time.Minute // a backup that does not end by then has failed
	hotWriters     = 4
	hotRows        = 500 // of each writer
	hotRow         = 7000
)

// race has backups race with a redo log that wraps again and again,
// while the archive is read as slowly as a network would take it.
func (m *mariadb) race(ctx context.Context) (err error) {
	if !m.wants("overrun") {
		return nil
	}
	if err := m.restart(ctx, mysqldtest.Options{Config: []string{
		fmt.Sprintf("innodb-log-file-size=%d", int64(overrunLog)), "innodb-flush-log-at-trx-commit=2",
		fmt.Sprintf("innodb-buffer-pool-size=%d", poolSize(m.size))}}); err != nil {
		return err
	}
	if err := heat(ctx, m.server.DB()); err != nil {
		return err
	}
	writers, stop := context.WithCancel(ctx)
	done := make(chan error, 1)
	go func() { done <- rewrite(writers, m.server.DB()) }()
	defer func() {
		stop()
		err = errors.Join(err, <-done)
	}()
	pace, err := m.redoRate(ctx)
	if err != nil {
		return err
	}
	// A backup that keeps all redo and is slower than the redo never ends.
	network := max(stream.Size(m.size/overrunSeconds), 2*pace)
	note := fmt.Sprintf("The server has a redo log of %s and writes %s of redo a second; the archive is read at %s a second.",
		stream.Size(overrunLog), pace, network)
	archive := filepath.Join(m.dir, "race")
	defer removeAll(archive)
	lap := func(name string, program []string) *side {
		return &side{name: name, run: func(ctx context.Context) (usage, error) { return m.lap(ctx, archive, network, program) }}
	}
	return m.hold(ctx, &contest{name: "overrun", title: "back up MariaDB while its redo log wraps", section: raced, note: note,
		bars:  []bar{within(outcomes("backups that are neither complete nor reported as lost", failed, unsound), 0)},
		sides: []*side{lap("hb backup", m.hbBackup(m.server)), lap(peerBackupName, m.peerBackup(m.server))}})
}

// lap runs one backup; that it fails is its outcome, no error.
func (m *mariadb) lap(ctx context.Context, archive string, rate stream.Size, program []string) (usage, error) {
	limited, cancel := context.WithTimeout(ctx, overrunLimit)
	defer cancel()
	u, err := pipeline(limited, "", slowly(archive, rate), program)
	if ctx.Err() != nil {
		return u, ctx.Err()
	}
	exit, ended := errors.AsType[*exec.ExitError](err)
	switch {
	case err == nil:
		u.Outcome, err = m.verified(ctx, archive)
	case ended && (program[0] == m.hb && exit.ExitCode() == lostRace || strings.Contains(err.Error(), peerLostRace)):
		u.Outcome, err = overrun, nil
	case ended:
		say("  failed: %v", err)
		u.Outcome, err = failed, nil
	}
	return u, err
}

// verified asks hb what an archive is worth.
func (m *mariadb) verified(ctx context.Context, archive string) (outcome, error) {
	_, err := unpack(ctx, archive, []string{m.hb, "verify", "--quiet", "--tmpdir", m.dir})
	if _, ended := errors.AsType[*exec.ExitError](err); ended {
		say("  unsound: %v", err)
		return unsound, nil
	}
	return complete, err
}

// heat makes the tables that are written all the time: a few megabytes, so that
// the redo log can come round as fast as it is written.
func heat(ctx context.Context, db *sql.DB) error {
	for i := range hotWriters {
		for _, q := range []string{
			"CREATE TABLE bench.hot%d (id INT NOT NULL PRIMARY KEY, c VARBINARY(%d) NOT NULL) ENGINE=InnoDB",
			"INSERT INTO bench.hot%d SELECT seq, REPEAT('x', %d) FROM bench.seq_1_to_" + fmt.Sprint(hotRows),
		} {
			if _, err := db.ExecContext(ctx, fmt.Sprintf(q, i, hotRow)); err != nil {
				return err
			}
		}
	}
	return nil
}

// rewrite writes all rows of these tables again until ctx ends.
func rewrite(ctx context.Context, db *sql.DB) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	return inParallel(hotWriters, func(i int) error {
		defer cancel() // none goes on without the others
		q := fmt.Sprintf("UPDATE bench.hot%d SET c = REPEAT(SHA2(RAND(), 256), %d)", i, hotRow/64)
		for ctx.Err() == nil {
			if _, err := db.ExecContext(context.WithoutCancel(ctx), q); err != nil {
				return err
			}
		}
		return nil
	})
}

// redoRate returns how many bytes of redo a second the server writes.
func (m *mariadb) redoRate(ctx context.Context) (stream.Size, error) {
	from, err := lsn(ctx, m.server)
	if err != nil {
		return 0, err
	}
	began := time.Now()
	if err := wait(ctx, 3*time.Second); err != nil {
		return 0, err
	}
	to, err := lsn(ctx, m.server)
	return stream.Size(float64(to-from) / time.Since(began).Seconds()), err
}
