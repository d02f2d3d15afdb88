package testd

import (
	"bytes"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"hb/scripts/test.d/hbtest"
	"hb/source/mysqld/mysqldtest"
	"hb/stream/disk/disktest"
	"hb/stream/remote/remotetest"
)

// TestTables: of the archive of six servers, in all its forms, a table is the same wherever the
// archive comes from; what is wrong with the command line, the archive or the directory has its
// exit code, and says what to do.
func TestTables(t *testing.T) {
	mysqldtest.Each(t, slices.Concat(mysqldtest.MariaDB, mysqldtest.MySQL), func(t *testing.T, root *mysqldtest.Root) {
		s := mysqldtest.Start(t, root, mysqldtest.Options{})
		s.Exec(t, "CREATE DATABASE shop")
		for _, name := range []string{"orders", "items"} {
			s.Exec(t, "CREATE TABLE shop."+name+" (a INT AUTO_INCREMENT PRIMARY KEY, b VARCHAR(200), KEY (b)) ENGINE=InnoDB", "INSERT INTO shop."+name+" (b) VALUES ('x')")
			for range 10 {
				s.Exec(t, "INSERT INTO shop."+name+" (b) SELECT CONCAT(SHA2(RAND(), 256), a) FROM shop."+name)
			}
		}
		x := &tablesOf{T: t, dir: t.TempDir()}
		x.key, x.to = identityFile(t, x.in("key"))
		for name, args := range map[string][]string{"full": nil, "sealed": {"--compress", "--encrypt-to", x.to}} {
			x.backup(s, name, args...)
		}
		s.Exec(t, "UPDATE shop.orders SET b = 'later' WHERE a % 7 = 0")
		x.backup(s, "later", "--since", x.in("full"))
		x.backup(s, "some", "--tables", "shop[.]orders")
		want := x.extract("file", 0, x.in("full"))
		if !maps.EqualFunc(want, x.extract("sealed from a file", 0, "-i", x.key, x.in("sealed")), sameContent) {
			t.Errorf("%s: the two backups have other tables", root.Name)
		}
		x.sources(want)
		if some := x.extract("a backup of some tables", 0, x.in("some")); len(some) != len(want) {
			t.Errorf("%s: of a backup of some tables: %q", root.Name, slices.Sorted(maps.Keys(some)))
		}
		chain := x.extract("chain", 0, x.in("full"), x.in("later"))
		if len(chain) != len(want) || bytes.Equal([]byte(chain["shop/orders.ibd"]), []byte(want["shop/orders.ibd"])) {
			t.Errorf("%s: the increment changes nothing", root.Name)
		}
		full, err := os.ReadFile(x.in("full"))
		if err != nil {
			t.Fatal(err)
		}
		if got := x.run("a chain, its base from a pipe", 0, func(cmd *exec.Cmd) { cmd.Stdin = bytes.NewReader(full) }, "-", x.in("later")); !maps.EqualFunc(got, chain, sameContent) {
			t.Errorf("%s: a chain, its base from a pipe: %q", root.Name, slices.Sorted(maps.Keys(got)))
		}
		x.refuses()
		if root.MariaDB() || !root.AtLeast(8, 0) { // since then tablespaces have their definitions
			x.backup(s, "bare", "--no-definitions")
			s.Exec(t, "DROP TABLE shop.orders")
			left := x.extract("no definitions", 4, "--into", "--no-defaults", "-u", "root", "-S", s.Socket, x.in("bare"))
			if left["shop/orders.ibd"] == "" || !strings.Contains(x.said, "make the table yourself as it was then") {
				t.Errorf("%s: no definitions: %q, %s", root.Name, slices.Sorted(maps.Keys(left)), x.said)
			}
		}
		x.interrupt()
	})
}

// tablesOf is the archives of TestTables.
type tablesOf struct {
	*testing.T
	dir, key, to string
	count        int
	said         string // by the last command
}

func (x *tablesOf) in(name string) string { return filepath.Join(x.dir, name) }

func sameContent(a, b string) bool { return a == b }

func (x *tablesOf) backup(s *mysqldtest.Server, name string, args ...string) {
	x.Helper()
	out, err := os.Create(x.in(name))
	if err != nil {
		x.Fatal(err)
	}
	defer out.Close()
	cmd := hb(x.T, slices.Concat([]string{"backup", "--no-defaults", "-u", "root", "-S", s.Socket}, args)...)
	cmd.Stdout = out
	hbtest.Succeed(x.T, cmd)
}

// extract extracts shop.orders, unless the arguments say something else, and returns what is in
// the directory then.
func (x *tablesOf) extract(what string, code int, args ...string) map[string]string {
	x.Helper()
	return x.run(what, code, func(*exec.Cmd) {}, args...)
}

func (x *tablesOf) run(what string, code int, prepare func(*exec.Cmd), args ...string) map[string]string {
	x.Helper()
	x.count++
	to := filepath.Join(x.dir, "out", strings.Repeat("x", x.count))
	if !slices.ContainsFunc(args, func(a string) bool { return strings.HasPrefix(a, "--table") || strings.HasPrefix(a, "--database") }) {
		args = append([]string{"--table", "shop.orders"}, args...)
	}
	cmd := hb(x.T, append([]string{"--log-format", "json", "extract", "-C", to}, args...)...)
	prepare(cmd)
	r := hbtest.Finish(x.T, cmd)
	x.said = r.Stderr
	list := hbtest.Messages(x.T, r.Stderr)
	if r.Code != code {
		x.Errorf("%s: exit code %d, not %d\n%s", what, r.Code, code, r.Stderr)
	}
	if end := list[len(list)-1]; code == 0 && (len(end["exported"].([]any)) == 0 || end["files"] == 0.0 || end["bytes"] == 0.0 || end["bytes_read"] == 0.0) {
		x.Errorf("%s: %v", what, end)
	}
	if _, err := os.Stat(to); err != nil {
		return nil
	}
	files := make(map[string]string)
	for name, content := range disktest.ReadTree(x.T, to) {
		files[name] = string(content)
	}
	return files
}

// sources extracts from standard input, by a pipe, and from an address.
func (x *tablesOf) sources(want map[string]string) {
	x.Helper()
	for _, archive := range []string{"full", "sealed"} {
		b, err := os.ReadFile(x.in(archive))
		if err != nil {
			x.Fatal(err)
		}
		remote := remotetest.New(x.T, b)
		for what, prepare := range map[string]func(*exec.Cmd){
			"a pipe": func(cmd *exec.Cmd) { cmd.Stdin = bytes.NewReader(b) },
			"standard input": func(cmd *exec.Cmd) {
				f, err := os.Open(x.in(archive))
				if err != nil {
					x.Fatal(err)
				}
				x.Cleanup(func() { f.Close() })
				cmd.Stdin = f
			},
			"an address": func(cmd *exec.Cmd) {
				cmd.Args = append(cmd.Args, remote.Address("archive"))
				cmd.Env = append(os.Environ(), "SSL_CERT_FILE="+remote.Certificate(x.T))
			},
		} {
			got := x.run(archive+" from "+what, 0, prepare, "-i", x.key)
			if !maps.EqualFunc(got, want, sameContent) {
				x.Errorf("%s from %s: %q, not %q", archive, what, slices.Sorted(maps.Keys(got)), slices.Sorted(maps.Keys(want)))
			}
		}
	}
}

// refuses has what is wrong.
func (x *tablesOf) refuses() {
	x.Helper()
	cut := x.in("cut")
	b, err := os.ReadFile(x.in("full"))
	if err == nil {
		err = os.WriteFile(cut, b[:len(b)/2], 0o600)
	}
	if err != nil {
		x.Fatal(err)
	}
	for what, c := range map[string]struct {
		code int
		says string
		args []string
	}{
		"a table that is not there":    {2, "the backup has no files of a table shop.order: did you mean shop.orders?", []string{"--table", "shop.order", x.in("full")}},
		"a table that is left out":     {2, "it is a backup of some tables, --tables=", []string{"--table", "shop.items", x.in("some")}},
		"a database that is not there": {2, "the backup has no files of a database shops: did you mean shop?", []string{"--database", "shops", x.in("full")}},
		"no database":                  {2, "write it as db.table", []string{"--table", "orders", x.in("full")}},
		"--apply":                      {2, "--apply is for a whole backup", []string{"--apply", x.in("full")}},
		"--files":                      {2, "--files chooses files", []string{"--files", "shop", x.in("full")}},
		"--in-place":                   {2, "--in-place is for a whole backup", []string{"--in-place", x.in("full")}},
		"an increment alone":           {11, "it is an incremental backup: give the full backup that it builds on first", []string{x.in("later")}},
		"the wrong order":              {11, "only the first archive of a chain is one", []string{x.in("later"), x.in("full")}},
		"a table that no chain has":    {2, "did you mean shop.orders?", []string{"--table", "shop.order", x.in("full"), x.in("later")}},
		"half an archive":              {6, "", []string{cut}},
		"another identity":             {10, "", []string{x.in("sealed")}},
	} {
		left := x.extract(what, c.code, c.args...)
		if !strings.Contains(x.said, c.says) {
			x.Errorf("%s: %s", what, x.said)
		}
		delete(left, "hb-incomplete")
		if len(left) > 0 {
			x.Errorf("%s: %q is left", what, slices.Sorted(maps.Keys(left)))
		}
	}
	r := hbtest.Finish(x.T, hb(x.T, "extract", "--server", "/bin/true", "-C", x.in("none"), x.in("full")))
	if r.Code != 2 || !strings.Contains(r.Stderr, "--server is for --table") {
		x.Errorf("--server: %d, %s", r.Code, r.Stderr)
	}
	datadir := x.in("datadir")
	if err := os.MkdirAll(filepath.Join(datadir, "below"), 0o755); err != nil {
		x.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(datadir, "ibdata1"), nil, 0o600); err != nil {
		x.Fatal(err)
	}
	for _, dir := range []string{"below", "below/it", "new/one"} {
		r = hbtest.Finish(x.T, hb(x.T, "extract", "--table", "shop.orders", "-C", filepath.Join(datadir, dir), x.in("full")))
		if r.Code != 8 || !strings.Contains(r.Stderr, "is a server's data directory (it has ibdata1)") {
			x.Errorf("in a data directory: %d, %s", r.Code, r.Stderr)
		}
	}
	r = hbtest.Finish(x.T, hb(x.T, "extract", "--table", "shop.orders", "-C", x.dir, x.in("full")))
	if r.Code != 8 || !strings.Contains(r.Stderr, "it is not empty") {
		x.Errorf("a directory that is not empty: %d, %s", r.Code, r.Stderr)
	}
}

// interrupt ends hb while it reads the last of what it needs.
func (x *tablesOf) interrupt() {
	x.Helper()
	b, err := os.ReadFile(x.in("full"))
	if err != nil {
		x.Fatal(err)
	}
	remote := remotetest.New(x.T, b)
	to := x.in("interrupted")
	cmd := hb(x.T, "extract", "--table", "shop.orders", "-C", to, remote.Address("archive"))
	cmd.Env = append(os.Environ(), "SSL_CERT_FILE="+remote.Certificate(x.T))
	scratch := false
	remote.Before = func(int) {
		if _, err := os.Stat(filepath.Join(to, "hb-scratch", "hb-incomplete")); err == nil && !scratch {
			scratch = true
			if err := cmd.Process.Signal(syscall.SIGTERM); err != nil {
				x.Error(err)
			}
		}
	}
	r := hbtest.Finish(x.T, cmd)
	left, err := filepath.Glob(filepath.Join(to, "*"))
	if err != nil {
		x.Fatal(err)
	}
	if !scratch || r.Code != 130 || !slices.Equal(left, []string{filepath.Join(to, "hb-incomplete")}) {
		x.Errorf("interrupted, %v: exit code %d, %q is left\n%s", scratch, r.Code, left, r.Stderr)
	}
	r = hbtest.Finish(x.T, hb(x.T, "extract", "--table", "shop.orders", "-C", to, x.in("full")))
	if r.Code != 8 || !strings.Contains(r.Stderr, "left from an extract that did not finish: remove it first") {
		x.Errorf("after that: %d, %s", r.Code, r.Stderr)
	}
}

// TestTablesSealed: a table that is encrypted at rest leaves a backup that has its own keys with
// its key, and its server imports it.
func TestTablesSealed(t *testing.T) {
	s := startSealed(t)
	s.backup(t, "full", "--encrypt-to", s.to)
	to := s.in("tables")
	for _, name := range []string{"t", "zip", "packed", "plain"} {
		dir := filepath.Join(to, name)
		hbtest.Succeed(t, hb(t, "extract", "--table", "d."+name, "-i", s.key, "-C", dir, s.in("full")))
		s.Exec(t, "CREATE TABLE d.brought_"+name+" LIKE d."+name, "ALTER TABLE d.brought_"+name+" DISCARD TABLESPACE")
		exts := []string{".ibd", ".cfg", ".cfp"}
		if name == "plain" {
			exts = exts[:2]
		}
		for _, ext := range exts {
			if err := mysqldtest.CopyFile(filepath.Join(s.Datadir, "d", "brought_"+name+ext), filepath.Join(dir, "d", name+ext)); err != nil {
				t.Fatal(err)
			}
		}
		s.Exec(t, "ALTER TABLE d.brought_"+name+" IMPORT TABLESPACE")
		sums := s.Rows(t, "CHECKSUM TABLE d."+name+", d.brought_"+name)
		if sums[0][1] != sums[1][1] || sums[0][1] == "0" {
			t.Errorf("%s: %v", name, sums)
		}
	}
	r := hbtest.Finish(t, hb(t, "extract", "--table", "d.general", "-i", s.key, "-C", s.in("general"), s.in("full")))
	if r.Code != 2 || !strings.Contains(r.Stderr, "general tablespace (g.ibd)") {
		t.Errorf("a table in a general tablespace: %d, %s", r.Code, r.Stderr)
	}
}
