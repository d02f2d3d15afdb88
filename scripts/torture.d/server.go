package main

import (
	"context"
	"crypto/sha256"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"

	"hb/scripts/torture.d/load"
	"hb/source/mysqld/mysqldtest"
)

// account is the user that hb connects as, so that its connections can be told
// from others.
const account = "hb_torture"

// startServer starts the plan's server, with the account that hb uses and the
// table that makes numbers.
func (r *round) startServer(ctx context.Context) error {
	root, err := mysqldtest.Installed(r.server)
	if err != nil {
		return err
	}
	outside := r.outside()
	for _, sub := range []string{"log", "undo", "home", "binlog"} {
		if err := os.MkdirAll(filepath.Join(outside, sub), 0o755); err != nil {
			return err
		}
	}
	o := mysqldtest.Options{
		Dir: filepath.Join(r.dir, "source"), Binlog: !r.has("no binary log"), TCP: r.connect != "socket",
		Init:   r.lines(func(s *setting) []string { return s.init }),
		Config: append(r.common(), r.lines(func(s *setting) []string { return s.config })...),
	}
	if err := r.giveKeyring(&o); err != nil {
		return err
	}
	if r.source, err = r.launchNew(ctx, root, o); err != nil {
		return err
	}
	r.running = append(r.running, r.source)
	return r.setUp(ctx)
}

// keyringVariable gives every hb of a round the keys.
const keyringVariable = "HB_KEYRING"

// giveKeyring sets the source up with a file for its keys, if the plan has that, and every
// hb that reads what it encrypts.
func (r *round) giveKeyring(o *mysqldtest.Options) error {
	if !r.keyring() {
		return os.Unsetenv(keyringVariable)
	}
	o.Keyring = filepath.Join(r.dir, "keyring")
	return os.Setenv(keyringVariable, o.Keyring)
}

// launchNew initialises a server and starts it. What takes seconds is done once for
// each way to initialise one without paths of its own.
func (r *round) launchNew(ctx context.Context, root *mysqldtest.Root, o mysqldtest.Options) (*mysqldtest.Server, error) {
	if len(o.Init) == 0 || strings.Contains(strings.Join(o.Init, ""), "/") {
		return mysqldtest.Launch(ctx, root, o) // it has a template, or can have none
	}
	from, err := r.templates.get(root, o.Init)
	if err != nil {
		return nil, err
	}
	datadir := filepath.Join(o.Dir, "data")
	if err := mysqldtest.CopyTree(datadir, from); err != nil {
		return nil, err
	}
	return mysqldtest.LaunchOn(ctx, root, datadir, o)
}

// templates are initialised data directories of this run, the newest of them.
type templates struct {
	dir  string
	keys []string // in the order in which they were made
}

// mostTemplates bounds how many there are: each takes some 100 MiB.
const mostTemplates = 24

// get returns a directory to be copied.
func (t *templates) get(root *mysqldtest.Root, lines []string) (string, error) {
	key := root.Name + ": " + strings.Join(lines, " ")
	name := func(key string) string {
		sum := sha256.Sum256([]byte(key))
		return filepath.Join(t.dir, fmt.Sprintf("%x", sum[:8]))
	}
	dir := name(key)
	if slices.Contains(t.keys, key) {
		return dir, nil
	}
	for len(t.keys) >= mostTemplates {
		if err := os.RemoveAll(name(t.keys[0])); err != nil {
			return "", err
		}
		t.keys = t.keys[1:]
	}
	if err := root.Initialise(dir, lines); err != nil {
		return "", err
	}
	// A copy with this identity could not replicate from another copy.
	if err := os.Remove(filepath.Join(dir, "auto.cnf")); load.IgnoreGone(err) != nil {
		return "", err
	}
	t.keys = append(t.keys, key)
	return dir, nil
}

// common are lines that every server of a round has: small and quick.
func (r *round) common() []string {
	lines := []string{"innodb-buffer-pool-size=128M", "max-connections=200", "loose-innodb-stats-persistent=1"}
	if r.server == mysqldtest.MySQL97 {
		lines = append(lines, "innodb-directories="+r.outside())
	}
	return lines
}

// restoredOptions are those of a server on a restored directory: the plan's, but
// for what lay outside the data directory.
// Its keyring is a copy, as the source still writes to its own.
func (r *round) restoredOptions(name string) (mysqldtest.Options, error) {
	o := mysqldtest.Options{Dir: filepath.Join(r.dir, "server of "+name), ServerID: 2, Binlog: !r.source.Root.MariaDB() && !r.has("no binary log")}
	if slices.Contains(r.plan.loads, "elsewhere") {
		o.Within = r.blind
	}
	inside := func(of func(*setting) []string) []string {
		return r.lines(func(s *setting) []string {
			if s.outside {
				return nil
			}
			return of(s)
		})
	}
	o.Init = inside(func(s *setting) []string { return s.init })
	o.Config = inside(func(s *setting) []string { return s.config })
	o.Config = slices.Concat([]string{"innodb-buffer-pool-size=128M", "skip-slave-start"}, o.Config)
	if !r.keyring() {
		return o, nil
	}
	o.Keyring = filepath.Join(r.dir, "keyring of "+name)
	if _, err := os.Lstat(o.Keyring); err == nil {
		return o, nil // that server ran before, and may have made keys
	}
	content, err := os.ReadFile(r.source.Keyring)
	if err != nil {
		return o, err
	}
	return o, os.WriteFile(o.Keyring, content, 0o600)
}

// launchRestored starts a server on a directory that was restored in a way.
func (r *round) launchRestored(ctx context.Context, dir, way string) (*mysqldtest.Server, error) {
	o, err := r.restoredOptions(way)
	if err != nil {
		return nil, err
	}
	return mysqldtest.LaunchOn(ctx, r.source.Root, dir, o)
}

func (r *round) setUp(ctx context.Context) error {
	statements := []string{
		"CREATE USER " + account + "@localhost", "CREATE USER " + account + "@127.0.0.1",
		"GRANT ALL ON *.* TO " + account + "@localhost", "GRANT ALL ON *.* TO " + account + "@127.0.0.1",
		"CREATE DATABASE hb_t", "CREATE TABLE " + load.Digits + " (d INT NOT NULL PRIMARY KEY) ENGINE=InnoDB",
		"INSERT INTO " + load.Digits + " VALUES (0),(1),(2),(3),(4),(5),(6),(7),(8),(9)",
	}
	if r.server == mysqldtest.MySQL97 {
		statements = append(statements, "GRANT BACKUP_ADMIN ON *.* TO "+account+"@localhost", "GRANT BACKUP_ADMIN ON *.* TO "+account+"@127.0.0.1")
	}
	for _, q := range statements {
		if _, err := r.source.DB().ExecContext(ctx, q); err != nil {
			return fmt.Errorf("%s: %w", q, err)
		}
	}
	return nil
}

// reach are the options by which hb connects.
func (r *round) reach() []string {
	args := []string{"--no-defaults", "-u", account}
	switch {
	case r.connect == "socket":
		return append(args, "-S", r.source.Socket)
	case r.connect == "tcp":
		args = append(args, "--skip-ssl")
	}
	return append(args, "-h", "127.0.0.1", "-P", fmt.Sprint(r.source.Port))
}

// outside is where the round's server keeps what is not in its data directory.
func (r *round) outside() string { return filepath.Join(r.dir, "outside") }

// blind has a server on a copy not see what the source, which still runs, has outside
// its data directory: with the same paths in its dictionary it would take that for
// its own.
func (r *round) blind(cmd *exec.Cmd) *exec.Cmd {
	args := []string{"--mount", "--propagation", "private", "sh", "-c", `mount -t tmpfs none "$0" && exec "$@"`, r.outside(), cmd.Path}
	out := exec.Command("unshare", append(args, cmd.Args[1:]...)...)
	out.Env, out.Dir = cmd.Env, cmd.Dir
	return out
}
