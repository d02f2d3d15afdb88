package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"hb/source/mysqld/mysqldtest"
)

// mariadbContests measures backup, extract and apply of MariaDB.
func mariadbContests(ctx context.Context, o *options) (held []*contest, err error) {
	m := &mariadb{options: o, dir: filepath.Join(o.dir, "mariadb")}
	if m.server, err = launch(ctx, mysqldtest.MariaDB1011, m.dir, o.size); err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, m.server.Kill()) }()
	first, err := o.holdAll(ctx, m.backup("empty", "back up an empty MariaDB", 0.25))
	if err != nil {
		return nil, err
	}
	if m.server, err = fill(ctx, m.server, o.size); err != nil {
		return nil, err
	}
	second, err := o.holdAll(ctx, m.backup("backup", "back up MariaDB", 0.6), m.compressed())
	if err != nil {
		return nil, err
	}
	third, err := m.extracts(ctx)
	if err != nil {
		return nil, err
	}
	fourth, err := m.apply(ctx)
	return slices.Concat(first, second, third, fourth), err
}

type mariadb struct {
	*options
	dir    string
	server *mysqldtest.Server
}

func (o *options) backupCommand(s *mysqldtest.Server, flags ...string) []string {
	return append([]string{o.hb, "backup", "--quiet", "--no-defaults", "-u", "root", "-S", s.Socket, "--tmpdir", o.dir}, flags...)
}

func (m *mariadb) peerBackup() []string {
	return m.server.Tool("mariadb-backup", "--defaults-file="+m.server.DefaultsFile, "--backup", "--stream=xbstream",
		"--parallel=2", "--target-dir="+m.dir).Args
}

var drain = []string{"cat"}

// into is a side that sends an archive into a pipe.
func into(name string, programs ...[]string) *side {
	return &side{name: name, run: func(ctx context.Context) (usage, error) {
		return pipeline(ctx, "", "", append(programs, drain)...)
	}}
}

func (m *mariadb) backup(name, title string, most float64) *contest {
	c := &contest{name: name, title: title, bars: []bar{{1, wall, most}}, sides: []*side{
		into("hb backup", m.backupCommand(m.server)), into("mariadb-backup --parallel=2", m.peerBackup()),
	}}
	if name == "backup" {
		c.bars = append(c.bars, bar{1, cpu, 1.3}, bar{2, wall, 1.3})
		c.sides = append(c.sides, catFiles(m.server))
	}
	return c
}

// catFiles is the limit: the tablespaces as they are, into the same pipe.
func catFiles(s *mysqldtest.Server) *side {
	return into("cat of its tablespaces", []string{"find", s.Datadir, "-type", "f", "(", "-name", "*.ibd", "-o", "-name", "ibdata*", "-o", "-name", "undo*", ")",
		"-exec", "cat", "{}", "+"})
}

func (m *mariadb) compressed() *contest {
	return &contest{name: "compress", title: "back up MariaDB, compressed", bars: []bar{{1, wall, 0.8}}, sides: []*side{
		into("hb backup --compress-level 1", m.backupCommand(m.server, "--compress-level", "1")),
		into("mariadb-backup, zstd -T2 -1", m.peerBackup(), []string{"zstd", "-q", "-c", "-T2", "-1"}),
	}}
}

// extracts measures unpacking, on archives of what the server has now.
func (m *mariadb) extracts(ctx context.Context) ([]*contest, error) {
	if !m.wants("extract", "extract-compressed", "age") {
		return nil, nil
	}
	plain, packed := filepath.Join(m.dir, "plain"), filepath.Join(m.dir, "packed")
	_, err := pipeline(ctx, "", plain, m.backupCommand(m.server))
	if err == nil {
		_, err = pipeline(ctx, "", packed, m.backupCommand(m.server, "--compress"))
	}
	if err != nil {
		return nil, err
	}
	defer os.Remove(plain)
	defer os.Remove(packed)
	to := filepath.Join(m.dir, "to")
	mbstream := m.server.Tool("mbstream", "-x", "-p", "2", "-C", to).Args
	extract := []string{m.hb, "extract", "--quiet", "-C", to}
	unpack := func(name, in string, programs ...[]string) *side {
		return &side{name: name, prepare: func(context.Context) error { return emptyDir(to) },
			run: func(ctx context.Context) (usage, error) { return pipeline(ctx, in, "", programs...) }}
	}
	return m.holdAll(ctx,
		&contest{name: "extract", title: "unpack", bars: []bar{{1, wall, 0.9}}, sides: []*side{
			unpack("hb extract", plain, extract), unpack("mbstream -x -p 2", plain, mbstream)}},
		&contest{name: "extract-compressed", title: "unpack, compressed", bars: []bar{{1, wall, 0.6}}, sides: []*side{
			unpack("hb extract", packed, extract), unpack("zstd -d, mbstream -x", packed, []string{"zstd", "-q", "-d", "-c"}, m.server.Tool("mbstream", "-x", "-C", to).Args)}})
}

// apply measures recovery from as much redo as half of the data.
func (m *mariadb) apply(ctx context.Context) ([]*contest, error) {
	if !m.wants("apply", "one-pass") {
		return nil, nil
	}
	template, archive, err := template(ctx, m.options, m.server, m.dir)
	if err != nil {
		return nil, err
	}
	work := filepath.Join(m.dir, "work")
	recover := func(name string, program []string) *side {
		return &side{name: name, prepare: func(ctx context.Context) error { return copyDir(ctx, template, work) },
			run: func(ctx context.Context) (usage, error) { return pipeline(ctx, "", "", program) }}
	}
	return m.holdAll(ctx, onePass(m.options, "one-pass", "unpack and recover MariaDB", archive, work), &contest{name: "apply", title: "recover MariaDB", bars: []bar{{1, wall, 0.4}}, sides: []*side{
		recover("hb apply --memory 256MiB", []string{m.hb, "apply", "--quiet", "--memory", "256MiB", work}),
		recover("mariadb-backup --prepare --use-memory=1G", m.server.Tool("mariadb-backup", "--prepare", "--use-memory=1G", "--target-dir="+work).Args),
	}})
}

// template makes an archive with much redo, and extracts it.
func template(ctx context.Context, o *options, s *mysqldtest.Server, dir string) (extracted, archive string, err error) {
	if err := dirty(ctx, s, o.size/2); err != nil {
		return "", "", err
	}
	extracted, archive = filepath.Join(dir, "template"), filepath.Join(dir, "archive")
	_, err = pipeline(ctx, "", archive, o.backupCommand(s))
	if err == nil {
		_, err = pipeline(ctx, archive, "", []string{o.hb, "extract", "--quiet", "-C", extracted})
	}
	return extracted, archive, err
}

// onePass measures extracting and applying at once against one after the other.
func onePass(o *options, name, title, archive, to string) *contest {
	fresh := func(context.Context) error { return os.RemoveAll(to) }
	return &contest{name: name, title: title, bars: []bar{{1, wall, 0.8}}, sides: []*side{
		{name: "hb extract --apply --memory 256MiB", prepare: fresh, run: func(ctx context.Context) (usage, error) {
			return pipeline(ctx, archive, "", []string{o.hb, "extract", "--apply", "--quiet", "--memory", "256MiB", "-C", to})
		}},
		{name: "hb extract, hb apply --memory 256MiB", prepare: fresh, run: func(ctx context.Context) (usage, error) {
			u, err := pipeline(ctx, archive, "", []string{o.hb, "extract", "--quiet", "-C", to})
			if err != nil {
				return u, err
			}
			next, err := pipeline(ctx, "", "", []string{o.hb, "apply", "--quiet", "--memory", "256MiB", to})
			return usage{Wall: u.Wall + next.Wall, CPU: u.CPU + next.CPU, Peak: max(u.Peak, next.Peak)}, err
		}},
	}}
}

// mysqlContests measures backup and apply of MySQL.
func mysqlContests(ctx context.Context, o *options) (held []*contest, err error) {
	if !o.wants("mysql-backup", "mysql-apply", "mysql-one-pass") {
		return nil, nil
	}
	dir := filepath.Join(o.dir, "mysql")
	s, err := launch(ctx, mysqldtest.MySQL97, dir, o.size)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, s.Kill()) }()
	if s, err = fill(ctx, s, o.size); err != nil {
		return nil, err
	}
	clone := filepath.Join(dir, "clone")
	first, err := o.holdAll(ctx, &contest{name: "mysql-backup", title: "back up MySQL 9.7", bars: []bar{{1, wall, 1}, {2, wall, 1.3}}, sides: []*side{
		into("hb backup", o.backupCommand(s)),
		{name: "CLONE LOCAL DATA DIRECTORY", prepare: func(context.Context) error { return os.RemoveAll(clone) },
			run: func(ctx context.Context) (usage, error) { return cloneLocal(ctx, s, clone) }},
		catFiles(s),
	}})
	if err != nil || !o.wants("mysql-apply", "mysql-one-pass") {
		return first, err
	}
	from, archive, err := template(ctx, o, s, dir)
	if err != nil {
		return nil, err
	}
	second, err := o.holdAll(ctx, onePass(o, "mysql-one-pass", "unpack and recover MySQL 9.7", archive, filepath.Join(dir, "work")), recoverMySQL(o, s.Root, from, dir))
	return slices.Concat(first, second), err
}

// cloneLocal has the server copy itself.
func cloneLocal(ctx context.Context, s *mysqldtest.Server, to string) (usage, error) {
	began := time.Now()
	_, err := s.DB().ExecContext(ctx, "INSTALL PLUGIN clone SONAME 'mysql_clone.so'")
	if err != nil && !strings.Contains(err.Error(), "already exists") {
		return usage{}, err
	}
	_, err = s.DB().ExecContext(ctx, fmt.Sprintf("CLONE LOCAL DATA DIRECTORY = '%s'", to))
	return usage{Wall: time.Since(began)}, err
}

// recoverMySQL measures hb apply against the server's own recovery, from its
// start until it answers.
func recoverMySQL(o *options, root *mysqldtest.Root, template, dir string) *contest {
	work := filepath.Join(dir, "work")
	fresh := func(ctx context.Context) error { return copyDir(ctx, template, work) }
	return &contest{name: "mysql-apply", title: "recover MySQL 9.7", bars: []bar{{1, wall, 0.7}}, sides: []*side{
		{name: "hb apply --memory 256MiB", prepare: fresh, run: func(ctx context.Context) (usage, error) {
			return pipeline(ctx, "", "", []string{o.hb, "apply", "--quiet", "--memory", "256MiB", work})
		}},
		{name: "mysqld with a buffer pool of 1 GiB, until it answers", prepare: func(ctx context.Context) error {
			err := fresh(ctx)
			if err == nil {
				_, err = pipeline(ctx, "", "", []string{o.hb, "apply", "--quiet", "--by-server", work})
			}
			return err
		}, run: func(ctx context.Context) (u usage, err error) {
			began := time.Now()
			s, err := mysqldtest.LaunchOn(ctx, root, work, mysqldtest.Options{Dir: filepath.Join(dir, "recovered"),
				Config: []string{"innodb-buffer-pool-size=1G"}})
			if err != nil {
				return u, err
			}
			u.Wall = time.Since(began)
			return u, s.Kill()
		}},
	}}
}

// emptyDir makes dir an empty directory.
func emptyDir(dir string) error {
	return errors.Join(os.RemoveAll(dir), os.Mkdir(dir, 0o750))
}

// copyDir makes to a copy of from that is in the cache and on disk.
func copyDir(ctx context.Context, from, to string) error {
	if err := os.RemoveAll(to); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	_, err := pipeline(ctx, "", "", []string{"cp", "-a", from, to})
	if err == nil {
		_, err = pipeline(ctx, "", "", []string{"sync", "-f", to})
	}
	return err
}
