//go:build linux

package main

import (
	"context"
	"errors"
	"path/filepath"

	"filippo.io/age"

	"hb/source/mysqld/mysqldtest"
)

// moved is the section of what is measured by time and size alone.
var moved = &section{
	title:   "Backup, extract, apply",
	columns: []figure{wall, cpu, peak, size},
	text: "CPU time is the sum of all programs in the command, peak memory that of the largest one; neither counts the program that reads the last pipe. " +
		"hb and its peers choose their number of threads, unless the command sets it.",
}

// mariadb is the MariaDB that contests are about, one after the other.
type mariadb struct {
	*bench
	dir    string
	server *mysqldtest.Server
}

func (b *bench) mariadb(ctx context.Context) (err error) {
	before, filled := []string{"empty"}, []string{"backup", "compress", "encrypt", "extract", "extract-compressed", "apply", "extract-apply",
		"increment", "merge", "one-table", "table-back", "load", "overrun"}
	if !b.wants(append(before, filled...)...) {
		return nil
	}
	m := &mariadb{bench: b, dir: filepath.Join(b.dir, "mariadb")}
	defer removeAll(m.dir)
	if m.server, err = launch(ctx, mysqldtest.MariaDB1011, m.dir, b.size); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, m.server.Kill()) }()
	m.parts(ctx, m.empty)
	if !b.wants(filled...) {
		return nil
	}
	if err := fill(ctx, m.server, b.size); err != nil {
		return err
	}
	if err := m.restart(ctx, mysqldtest.Options{Config: config(m.server.Root, b.size)}); err != nil {
		return err
	}
	m.parts(ctx, m.backups, m.extracts, m.increments, m.oneTable, m.tableBack, m.applies, m.load, m.race)
	return nil
}

// restart starts the server again, with all data on disk.
func (m *mariadb) restart(ctx context.Context, o mysqldtest.Options) (err error) {
	m.server, err = restart(ctx, m.server, o)
	return err
}

func (o *options) hbBackup(s *mysqldtest.Server, flags ...string) []string {
	return append([]string{o.hb, "backup", "--quiet", "--no-defaults", "-u", "root", "-S", s.Socket, "--tmpdir", o.dir}, flags...)
}

func (o *options) peerBackup(s *mysqldtest.Server) []string {
	return s.Tool("mariadb-backup", "--defaults-file="+s.DefaultsFile, "--backup", "--stream=xbstream",
		"--parallel=2", "--target-dir="+o.dir).Args
}

const peerBackupName = "mariadb-backup --parallel=2"

func (m *mariadb) empty(ctx context.Context) error {
	files, err := tablespaces(m.server.Datadir)
	if err != nil {
		return err
	}
	return m.hold(ctx, &contest{name: "empty", title: "back up an almost empty MariaDB", section: moved, warm: true, cached: files,
		bars: []bar{against(1, wall, 0.25), within(peak, 128<<20)},
		sides: []*side{
			into("hb backup", m.hbBackup(m.server)),
			into(peerBackupName, m.peerBackup(m.server)),
		}})
}

// backups measures backups of the filled server, at rest.
func (m *mariadb) backups(ctx context.Context) error {
	files, err := tablespaces(m.server.Datadir)
	if err != nil {
		return err
	}
	identity, err := age.GenerateX25519Identity()
	if err != nil {
		return err
	}
	recipient := identity.Recipient().String()
	encrypt := []string{"age", "-r", recipient}
	hb, peer := m.hbBackup(m.server), m.peerBackup(m.server)
	return m.hold(ctx,
		&contest{name: "backup", title: "back up MariaDB", section: moved, warm: true, cached: files,
			bars: []bar{against(1, wall, 0.6), against(1, cpu, 1.3), against(2, wall, 1.3), within(peak, 128<<20)},
			sides: []*side{
				into("hb backup", hb),
				into(peerBackupName, peer),
				into("cat of its tablespaces", append([]string{"cat"}, files...)),
			}},
		&contest{name: "compress", title: "back up MariaDB, compressed", section: moved, warm: true, cached: files,
			bars: []bar{against(1, wall, 0.8), {figure: size, peer: 1, rule: tell}, within(peak, 384<<20)},
			sides: []*side{
				into("hb backup --compress-level 1", m.hbBackup(m.server, "--compress-level", "1")),
				into("mariadb-backup, zstd -T2 -1", peer, []string{"zstd", "-q", "-c", "-T2", "-1"}),
			}},
		&contest{name: "encrypt", title: "back up MariaDB, encrypted", section: moved, warm: true, cached: files,
			bars: []bar{{figure: wall, peer: 1, rule: tell}, {figure: wall, peer: 2, rule: tell}},
			sides: []*side{
				into("hb backup --encrypt-to", m.hbBackup(m.server, "--encrypt-to", recipient)),
				into("hb backup, age -r", hb, encrypt),
				into("mariadb-backup, age -r", peer, encrypt),
			}})
}

// extracts measures unpacking, on archives of what the server has now.
func (m *mariadb) extracts(ctx context.Context) error {
	if !m.wants("extract", "extract-compressed") {
		return nil
	}
	plain, packed := filepath.Join(m.dir, "plain"), filepath.Join(m.dir, "packed")
	defer removeAll(plain, packed)
	_, err := inTurn(
		func() (usage, error) { return pipeline(ctx, "", intoFile(plain), m.hbBackup(m.server)) },
		func() (usage, error) { return pipeline(ctx, "", intoFile(packed), m.hbBackup(m.server, "--compress")) })
	if err != nil {
		return err
	}
	to := filepath.Join(m.dir, "to")
	defer removeAll(to)
	mbstream := func(flags ...string) []string {
		return m.server.Tool("mbstream", append(flags, "-x", "-C", to)...).Args
	}
	extract := []string{m.hb, "extract", "--quiet", "-C", to}
	from := func(name, in string, programs ...[]string) *side {
		return &side{name: name, prepare: func(context.Context) error { return emptyDir(to) },
			run: func(ctx context.Context) (usage, error) { return unpack(ctx, in, programs...) }}
	}
	return m.hold(ctx,
		&contest{name: "extract", title: "unpack", section: moved,
			bars: []bar{against(1, wall, 0.9), {figure: wall, peer: 2, rule: tell}, within(peak, 256<<20)},
			sides: []*side{
				from("hb extract (until it is on disk)", plain, extract),
				from("mbstream -x -p 2", plain, mbstream("-p", "2")),
				onDisk(from("mbstream -x -p 2, sync", plain, mbstream("-p", "2")), to),
			}},
		&contest{name: "extract-compressed", title: "unpack, compressed", section: moved,
			bars: []bar{against(1, wall, 0.6), within(peak, 256<<20)},
			sides: []*side{
				from("hb extract (until it is on disk)", packed, extract),
				from("zstd -d, mbstream -x", packed, []string{"zstd", "-q", "-d", "-c"}, mbstream()),
			}})
}

// onDisk has a side wait until all that it wrote to dir is on disk, as hb
// extract does.
func onDisk(s *side, dir string) *side {
	write := s.run
	s.run = func(ctx context.Context) (usage, error) {
		return inTurn(func() (usage, error) { return write(ctx) }, func() (usage, error) { return run(ctx, "sync", "-f", dir) })
	}
	return s
}
