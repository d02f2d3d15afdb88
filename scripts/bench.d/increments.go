//go:build linux

package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"

	"hb/source/mysqld/mysqldtest"
)

// changeOneIn is how many rows there are to one that is changed between a full backup
// and its increment: about 70 rows are on a page, so that every hundredth page changes.
const changeOneIn = 7000

// increments measures the backup of what changed since another one, and the making of a
// full backup out of both.
func (m *mariadb) increments(ctx context.Context) error {
	if !m.wants("increment", "merge") {
		return nil
	}
	dir := filepath.Join(m.dir, "chain")
	defer removeAll(dir)
	lsns := filepath.Join(dir, "lsns")
	if err := os.MkdirAll(lsns, 0o755); err != nil {
		return err
	}
	base, manifest, increment, merged := filepath.Join(dir, "base"), filepath.Join(dir, "manifest"), filepath.Join(dir, "increment"), filepath.Join(dir, "merged")
	peer := append(m.peerBackup(m.server), "--extra-lsndir="+lsns)
	_, err := inTurn(
		func() (usage, error) {
			return pipeline(ctx, "", intoFile(base), m.hbBackup(m.server, "--manifest-out", manifest))
		},
		func() (usage, error) { return pipeline(ctx, "", discard, peer) })
	if err != nil {
		return err
	}
	if err := m.changeSome(ctx); err != nil {
		return err
	}
	since := m.hbBackup(m.server, "--since", manifest)
	if _, err := pipeline(ctx, "", intoFile(increment), since); err != nil {
		return err
	}
	files, err := tablespaces(m.server.Datadir)
	if err != nil {
		return err
	}
	return m.hold(ctx,
		&contest{name: "increment", title: "back up what changed in MariaDB: one page in a hundred", section: moved, warm: true, cached: files,
			bars: []bar{against(1, wall, 0.5), against(2, wall, 1/0.9), within(peak, 256<<20)},
			sides: []*side{
				into("hb backup --since", since),
				into("mariadb-backup --incremental-basedir", append(m.peerBackup(m.server), "--incremental-basedir="+lsns)),
				into("hb backup", m.hbBackup(m.server)),
			}},
		&contest{name: "merge", title: "make one full backup of a full one and an increment", section: moved, warm: true, cached: []string{base, increment},
			bars: []bar{against(1, wall, 1.2), within(peak, 256<<20)},
			sides: []*side{
				{name: "hb merge", run: func(ctx context.Context) (usage, error) {
					return pipeline(ctx, "", intoFile(merged), []string{m.hb, "merge", "--quiet", "--no-defaults", base, increment})
				}},
				{name: "cat of both", run: func(ctx context.Context) (usage, error) {
					return pipeline(ctx, "", intoFile(merged), []string{"cat", base, increment})
				}},
			}})
}

// changeSome changes rows on some pages of each table, and has the server write them.
func (m *mariadb) changeSome(ctx context.Context) error {
	if err := changeRows(ctx, m.server); err != nil {
		return err
	}
	return m.restart(ctx, mysqldtest.Options{Config: config(m.server.Root, m.size)})
}

func changeRows(ctx context.Context, s *mysqldtest.Server) error {
	say("changing a row in %d", changeOneIn)
	return eachTable(func(table string) error {
		_, err := s.DB().ExecContext(ctx, fmt.Sprintf("UPDATE %s SET d = d + 1 WHERE id %% %d = 1", table, changeOneIn))
		return err
	})
}
