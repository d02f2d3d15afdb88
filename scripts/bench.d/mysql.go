//go:build linux

package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"hb/source/mysqld/mysqldtest"
)

// mysql measures backup and apply of MySQL.
func (b *bench) mysql(ctx context.Context) (err error) {
	if !b.wants("mysql-backup", "mysql-apply", "tracking") {
		return nil
	}
	dir := filepath.Join(b.dir, "mysql")
	defer removeAll(dir)
	s, err := launch(ctx, mysqldtest.MySQL97, dir, b.size)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, s.Kill()) }()
	if err := fill(ctx, s, b.size); err != nil {
		return err
	}
	if s, err = restart(ctx, s, mysqldtest.Options{Config: config(s.Root, b.size)}); err != nil {
		return err
	}
	b.parts(ctx,
		func(ctx context.Context) error { return b.backUpMySQL(ctx, s, dir) },
		func(ctx context.Context) error { return b.recoverMySQL(ctx, s, dir) },
		func(ctx context.Context) error { return b.trackMySQL(ctx, s, dir) })
	return nil
}

func (b *bench) backUpMySQL(ctx context.Context, s *mysqldtest.Server, dir string) error {
	files, err := tablespaces(s.Datadir)
	if err != nil {
		return err
	}
	clone := filepath.Join(dir, "clone")
	defer removeAll(clone)
	return b.hold(ctx, &contest{name: "mysql-backup", title: "back up MySQL 9.7", section: moved, warm: true, cached: files,
		bars: []bar{against(1, wall, 1), against(2, wall, 1.3), within(peak, 128<<20)},
		sides: []*side{
			into("hb backup", b.hbBackup(s)),
			{name: "CLONE LOCAL DATA DIRECTORY", prepare: func(context.Context) error { return os.RemoveAll(clone) },
				run: func(ctx context.Context) (usage, error) { return cloneLocal(ctx, s, clone) }},
			into("cat of its tablespaces", append([]string{"cat"}, files...)),
		}})
}

// cloneLocal has the server copy itself.
func cloneLocal(ctx context.Context, s *mysqldtest.Server, to string) (u usage, err error) {
	_, err = s.DB().ExecContext(ctx, "INSTALL PLUGIN clone SONAME 'mysql_clone.so'")
	if err != nil && !strings.Contains(err.Error(), "already exists") {
		return u, err
	}
	before, err := ofProcess(s.PID())
	if err != nil {
		return u, err
	}
	began := time.Now()
	if _, err = s.DB().ExecContext(ctx, fmt.Sprintf("CLONE LOCAL DATA DIRECTORY = '%s'", to)); err != nil {
		return u, err
	}
	u.Wall = time.Since(began)
	after, err := ofProcess(s.PID())
	u.CPU = after.CPU - before.CPU // its memory is the server's
	return u, err
}
