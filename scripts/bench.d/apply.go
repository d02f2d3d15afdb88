//go:build linux

package main

import (
	"context"
	"errors"
	"path/filepath"
	"strconv"
	"time"

	"hb/source/mysqld/mysqldtest"
)

// applyMemory is what hb apply may take for records, in MiB, and applyPeak what
// it may take in all.
const (
	applyMemory = 256
	applyPeak   = (applyMemory + 64) << 20
)

func applyFlag() string { return strconv.Itoa(applyMemory) + "MiB" }

func (o *options) hbApply(dir string) []string {
	return []string{o.hb, "apply", "--quiet", "--memory", applyFlag(), dir}
}

// redone makes an archive with much redo, as much as half of the data, and
// unpacks it.
func (o *options) redone(ctx context.Context, s *mysqldtest.Server, archive, template string) error {
	if err := dirty(ctx, s, o.size/2); err != nil {
		return err
	}
	_, err := inTurn(
		func() (usage, error) { return pipeline(ctx, "", intoFile(archive), o.hbBackup(s)) },
		func() (usage, error) {
			return unpack(ctx, archive, []string{o.hb, "extract", "--quiet", "-C", template})
		})
	return err
}

// applies measures recovery of MariaDB.
func (m *mariadb) applies(ctx context.Context) error {
	if !m.wants("apply", "extract-apply") {
		return nil
	}
	archive, template, work := filepath.Join(m.dir, "archive"), filepath.Join(m.dir, "template"), filepath.Join(m.dir, "work")
	defer removeAll(archive, template, work)
	if err := m.redone(ctx, m.server, archive, template); err != nil {
		return err
	}
	recover := func(name string, program []string) *side {
		return &side{name: name, prepare: func(ctx context.Context) error { return copyDir(ctx, template, work) },
			run: func(ctx context.Context) (usage, error) { return run(ctx, program...) }}
	}
	fresh := func(context.Context) error { return emptyDir(work) }
	from := func(flags ...string) (usage, error) {
		return unpack(ctx, archive, append([]string{m.hb, "extract", "--quiet", "-C", work}, flags...))
	}
	return m.hold(ctx,
		&contest{name: "apply", title: "recover MariaDB", section: moved,
			bars: []bar{against(1, wall, 0.4), within(peak, applyPeak)},
			sides: []*side{
				recover("hb apply --memory "+applyFlag(), m.hbApply(work)),
				recover("mariadb-backup --prepare --use-memory=1G", m.server.Tool("mariadb-backup", "--prepare", "--use-memory=1G", "--target-dir="+work).Args),
			}},
		&contest{name: "extract-apply", title: "unpack and recover MariaDB", section: moved,
			bars: []bar{against(1, wall, 0.8), within(peak, applyPeak)},
			sides: []*side{
				{name: "hb extract --apply", prepare: fresh, run: func(context.Context) (usage, error) { return from("--apply", "--memory", applyFlag()) }},
				{name: "hb extract, then hb apply", prepare: fresh, run: func(ctx context.Context) (usage, error) {
					return inTurn(func() (usage, error) { return from() }, func() (usage, error) { return run(ctx, m.hbApply(work)...) })
				}},
			}})
}

// recoverMySQL measures hb apply against the server's own recovery, from its
// start until it answers.
func (b *bench) recoverMySQL(ctx context.Context, s *mysqldtest.Server, dir string) error {
	if !b.wants("mysql-apply") {
		return nil
	}
	archive, template, work := filepath.Join(dir, "archive"), filepath.Join(dir, "template"), filepath.Join(dir, "work")
	defer removeAll(archive, template, work)
	if err := b.redone(ctx, s, archive, template); err != nil {
		return err
	}
	fresh := func(ctx context.Context) error { return copyDir(ctx, template, work) }
	// The last line of the configuration wins.
	lines := append(config(s.Root, b.size), "innodb-buffer-pool-size=1G")
	return b.hold(ctx, &contest{name: "mysql-apply", title: "recover MySQL 9.7", section: moved,
		bars: []bar{against(1, wall, 0.7), within(peak, applyPeak)},
		sides: []*side{
			{name: "hb apply --memory " + applyFlag(), prepare: fresh, run: func(ctx context.Context) (usage, error) {
				return run(ctx, b.hbApply(work)...)
			}},
			{name: "mysqld, 1 GiB of pool, until it answers", prepare: func(ctx context.Context) error {
				err := fresh(ctx)
				if err == nil {
					_, err = run(ctx, b.hb, "apply", "--quiet", "--by-server", work)
				}
				return err
			}, run: func(ctx context.Context) (usage, error) {
				return startUp(ctx, s.Root, work, mysqldtest.Options{Dir: filepath.Join(dir, "recovered"), Config: lines})
			}},
		}})
}

// startUp measures a server's start until it answers.
func startUp(ctx context.Context, root *mysqldtest.Root, datadir string, o mysqldtest.Options) (u usage, err error) {
	began := time.Now()
	s, err := mysqldtest.LaunchOn(ctx, root, datadir, o)
	if err != nil {
		return u, err
	}
	took := time.Since(began)
	u, err = ofProcess(s.PID())
	u.Wall = took
	return u, errors.Join(err, s.Kill())
}
