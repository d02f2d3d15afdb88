//go:build linux

package main

import (
	"context"
	"errors"
	"os"
	"path/filepath"

	"hb/source/mysqld/mysqldtest"
)

// encrypted measures what encryption at rest costs hb: the same rows in a MySQL that encrypts
// tables and redo log, and in one that does not. hb decrypts every page to verify it.
func (b *bench) encrypted(ctx context.Context) error {
	if !b.wants("encrypted-backup", "encrypted-apply") {
		return nil
	}
	dir := filepath.Join(b.dir, "encrypted")
	defer removeAll(dir)
	key := filepath.Join(dir, "keyring")
	sealed, err := b.launchSealed(ctx, filepath.Join(dir, "sealed"), key)
	if err != nil {
		return err
	}
	plain, err := b.launchSealed(ctx, filepath.Join(dir, "plain"), "")
	if err != nil {
		return errors.Join(err, sealed.Kill())
	}
	b.parts(ctx,
		func(ctx context.Context) error { return b.backUpSealed(ctx, sealed, plain) },
		func(ctx context.Context) error { return b.recoverSealed(ctx, sealed, plain, dir) })
	return errors.Join(sealed.Kill(), plain.Kill())
}

// launchSealed starts a MySQL with data, which is encrypted if there is a file for keys.
func (b *bench) launchSealed(ctx context.Context, dir, key string) (*mysqldtest.Server, error) {
	root, err := mysqldtest.Installed(mysqldtest.MySQL97)
	if err == nil {
		err = os.MkdirAll(dir, 0o755)
	}
	if err != nil {
		return nil, err
	}
	o := mysqldtest.Options{Dir: filepath.Join(dir, root.Name), Config: config(root, b.size), Keyring: key}
	if key != "" {
		o.Config = append(o.Config, "default-table-encryption=ON", "innodb-redo-log-encrypt=ON", "innodb-undo-log-encrypt=ON")
	}
	s, err := mysqldtest.Launch(ctx, root, o)
	if err != nil {
		return nil, err
	}
	if err := fill(ctx, s, b.size); err != nil {
		return nil, errors.Join(err, s.Kill())
	}
	again, err := restart(ctx, s, mysqldtest.Options{Config: o.Config, Keyring: key})
	if err != nil {
		return nil, errors.Join(err, s.Kill())
	}
	return again, nil
}

func (b *bench) backUpSealed(ctx context.Context, sealed, plain *mysqldtest.Server) error {
	if !b.wants("encrypted-backup") {
		return nil
	}
	var files []string
	for _, s := range []*mysqldtest.Server{sealed, plain} {
		of, err := tablespaces(s.Datadir)
		if err != nil {
			return err
		}
		files = append(files, of...)
	}
	return b.hold(ctx, &contest{name: "encrypted-backup", title: "back up MySQL 9.7 that encrypts at rest", section: moved, warm: true, cached: files,
		bars:  []bar{against(1, wall, 1.5), within(peak, 128<<20)},
		sides: []*side{into("hb backup", b.hbBackup(sealed)), into("hb backup of the same rows in plain", b.hbBackup(plain))}})
}

// recoverSealed measures hb apply of both.
func (b *bench) recoverSealed(ctx context.Context, sealed, plain *mysqldtest.Server, dir string) error {
	if !b.wants("encrypted-apply") {
		return nil
	}
	var sides []*side
	for _, of := range []struct {
		s     *mysqldtest.Server
		name  string
		flags []string
	}{{sealed, "hb apply --memory " + applyFlag(), []string{"--keyring", sealed.Keyring}}, {plain, "hb apply of the same rows in plain", nil}} {
		archive, template, work := filepath.Join(dir, "archive"), filepath.Join(dir, "template of "+of.name), filepath.Join(dir, "work")
		defer removeAll(template, work)
		if err := b.redone(ctx, of.s, archive, template); err != nil {
			return err
		}
		removeAll(archive)
		sides = append(sides, &side{name: of.name, prepare: func(ctx context.Context) error { return copyDir(ctx, template, work) },
			run: func(ctx context.Context) (usage, error) { return run(ctx, append(b.hbApply(work), of.flags...)...) }})
	}
	return b.hold(ctx, &contest{name: "encrypted-apply", title: "recover MySQL 9.7 that encrypts at rest", section: moved,
		bars: []bar{against(1, wall, 1.5), within(peak, applyPeak)}, sides: sides})
}
