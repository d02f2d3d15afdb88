//go:build linux

package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"hb/source/mysqld/mysqldtest"
	"hb/source/mysqld/mysqldtest/workload"
)

// loaded is the section of what writers feel of a backup.
var loaded = &section{
	title:   "Writers while a backup runs",
	columns: []figure{wall, stall, rate},
	text: "Four writers (all row formats, MyISAM and Aria tables, DDL beside them) work on the MariaDB server that is backed up, " +
		"durably, with a binary log. The longest stall is the longest that any statement or commit of theirs took while a backup ran.",
}

// load measures what writers feel of a backup.
func (m *mariadb) load(ctx context.Context) error {
	if !m.wants("load") {
		return nil
	}
	err := m.restart(ctx, mysqldtest.Options{Binlog: true, Config: []string{fmt.Sprintf("innodb-buffer-pool-size=%d", poolSize(m.size))}})
	if err != nil {
		return err
	}
	load, err := workload.Prepare(ctx, m.server.DB(), workload.Options{DDLRate: 5})
	if err != nil {
		return err
	}
	writers, stop := context.WithCancel(ctx)
	done := make(chan error, 1)
	go func() { done <- load.Run(writers) }()
	err = m.underLoad(ctx, load)
	stop()
	return errors.Join(err, <-done)
}

// underLoad holds the contest while the load runs.
func (m *mariadb) underLoad(ctx context.Context, load *workload.Load) error {
	meanwhile := func(s *side) *side {
		s.prepare = func(ctx context.Context) error { return wait(ctx, time.Second) }
		do := s.run
		s.run = func(ctx context.Context) (usage, error) { return measured(ctx, load, do) }
		return s
	}
	return m.hold(ctx, &contest{name: "load", title: "back up MariaDB while four writers work", section: loaded, warm: true,
		bars: []bar{against(1, stall, 0.1), {figure: rate, peer: 1, limit: 1, rule: above}},
		sides: []*side{
			meanwhile(into("hb backup", m.hbBackup(m.server))),
			meanwhile(into(peerBackupName, m.peerBackup(m.server))),
			meanwhile(&side{name: "no backup, for a second", run: func(ctx context.Context) (usage, error) {
				return usage{Wall: time.Second}, wait(ctx, time.Second)
			}}),
		}})
}

// measured adds what the writers felt to what a run took.
func measured(ctx context.Context, load *workload.Load, do func(context.Context) (usage, error)) (usage, error) {
	load.ResetStalls()
	before, began := load.Stats().Transactions(), time.Now()
	u, err := do(ctx)
	after := load.Stats()
	u.Rate = float64(after.Transactions()-before) / time.Since(began).Seconds()
	u.Stall = after.MaxStall().For
	return u, err
}

func wait(ctx context.Context, d time.Duration) error {
	select {
	case <-ctx.Done():
		return context.Cause(ctx)
	case <-time.After(d):
		return nil
	}
}
