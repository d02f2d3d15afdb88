package testd

import (
	"bytes"
	"encoding/binary"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"hb/scripts/test.d/hbtest"
	"hb/source/mysqld/mysqldtest"
)

// TestApplyExport: hb apply --export leaves the .cfg files that mariadb-backup --prepare
// --export of 10.11 leaves, but for the name of the host (TestCfg of package export compares them
// with those of all servers), and a server imports tables with them. A table with
// an open transaction has none, unless a server ends that.
func TestApplyExport(t *testing.T) {
	mysqldtest.Each(t, slices.Concat(mysqldtest.MariaDB, mysqldtest.MySQL), func(t *testing.T, root *mysqldtest.Root) {
		s := mysqldtest.Start(t, root, mysqldtest.Options{})
		s.Exec(t, "CREATE DATABASE shop", "CREATE TABLE shop.orders (id INT AUTO_INCREMENT PRIMARY KEY, b VARCHAR(50), c TEXT, KEY (b)) ENGINE=InnoDB", "INSERT INTO shop.orders (b,c) VALUES ('x','y'),('z',NULL)",
			"CREATE TABLE shop.zip (id INT PRIMARY KEY, b VARCHAR(50), KEY (b)) ROW_FORMAT=COMPRESSED KEY_BLOCK_SIZE=4", "CREATE TABLE shop.`my-table` (a INT)",
			"CREATE TABLE shop.parts (a INT PRIMARY KEY, b INT) ENGINE=InnoDB PARTITION BY HASH (a) PARTITIONS 3", "INSERT INTO shop.parts VALUES (1,1),(2,2)", "CREATE TABLE shop.plain (a INT) ENGINE=MyISAM",
			"CREATE TABLE shop.words (a INT PRIMARY KEY, b TEXT, FULLTEXT KEY (b)) ENGINE=InnoDB")
		x := &tablesOf{T: t, dir: t.TempDir()}
		x.backup(s, "full")
		hbtest.Succeed(t, hb(t, "extract", "-C", x.in("ours"), x.in("full")))
		if err := mysqldtest.CopyTree(x.in("theirs"), x.in("ours")); err != nil {
			t.Fatal(err)
		}
		hbtest.Succeed(t, hb(t, "apply", "--export", x.in("ours")))
		ours := configs(t, x.in("ours"))
		if root.Name == mysqldtest.MariaDB1011 {
			x.comparePeer(root, ours)
		}
		for _, name := range []string{"shop/orders.cfg", "shop/zip.cfg", "shop/my@002dtable.cfg", "shop/words.cfg"} {
			if ours[name] == nil {
				t.Errorf("%s: there is no %s", root.Name, name)
			}
		}
		hbtest.Succeed(t, hb(t, "apply", "--export", x.in("ours"))) // once more
		hbtest.Succeed(t, hb(t, "verify", x.in("ours")))
		s.Exec(t, "CREATE TABLE shop.again LIKE shop.orders", "ALTER TABLE shop.again DISCARD TABLESPACE")
		for _, ext := range []string{".ibd", ".cfg"} {
			if err := mysqldtest.CopyFile(filepath.Join(s.Datadir, "shop", "again"+ext), filepath.Join(x.in("ours"), "shop", "orders"+ext)); err != nil {
				t.Fatal(err)
			}
		}
		s.Exec(t, "ALTER TABLE shop.again IMPORT TABLESPACE")
		if n := s.Value(t, "SELECT COUNT(*) FROM shop.again"); n != "2" {
			t.Errorf("%s: %s rows", root.Name, n)
		}
		x.pendingExport(s)
		mysqldtest.StartOn(t, root, x.in("ours"), mysqldtest.Options{}) // it still starts
	})
}

// comparePeer compares with the files of the server's own tool.
func (x *tablesOf) comparePeer(root *mysqldtest.Root, ours map[string][]byte) {
	x.Helper()
	// The tool starts itself as a server, and so it must be the program that runs, and not the
	// loader of another system: only this release is of the system that the tests are for.
	c := exec.Command(filepath.Join(root.Dir, "usr/bin/mariadb-backup"), "--prepare", "--export", "--target-dir="+x.in("theirs"))
	c.Env = append(os.Environ(), "LD_LIBRARY_PATH="+filepath.Join(root.Dir, "usr/lib/x86_64-linux-gnu"))
	out, err := c.CombinedOutput()
	if err != nil {
		x.Fatalf("%s: mariadb-backup --prepare --export: %v\n%s", root.Name, err, out[max(0, len(out)-3000):])
	}
	theirs, same := configs(x.T, x.in("theirs")), 0
	for name, want := range theirs {
		switch got := ours[name]; {
		case name == "shop/words.cfg": // theirs has an index whose tables are not imported
		case got == nil:
			x.Errorf("%s: hb has no %s", root.Name, name)
		case !bytes.Equal(got, want):
			x.Errorf("%s: %s: %d bytes, not %d:\n%q\n%q", root.Name, name, len(got), len(want), got, want)
		default:
			same++
		}
	}
	for name := range ours {
		if theirs[name] == nil {
			x.Errorf("%s: only hb has %s", root.Name, name)
		}
	}
	if same < 6 {
		x.Errorf("%s: %d of %d files are the same", root.Name, same, len(theirs))
	}
	x.Logf("%s: %d of %d files are the same", root.Name, same, len(theirs))
}

// configs are the .cfg files of a directory without the name of the host.
func configs(t *testing.T, dir string) map[string][]byte {
	t.Helper()
	names, err := filepath.Glob(filepath.Join(dir, "*", "*.cfg"))
	if err != nil || len(names) == 0 {
		t.Fatalf("%q, %v", names, err)
	}
	all := map[string][]byte{}
	for _, name := range names {
		b, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		host := 8 + int(binary.BigEndian.Uint32(b[4:]))
		all[strings.TrimPrefix(name, dir+"/")] = append(slices.Clone(b[:4]), b[host:]...)
	}
	return all
}

// pendingExport: an open transaction keeps only its table from being exported.
func (x *tablesOf) pendingExport(s *mysqldtest.Server) {
	x.Helper()
	conn := s.Conn(x.T)
	for _, q := range []string{"BEGIN", "INSERT INTO shop.zip VALUES (1,'open')"} {
		if _, err := conn.ExecContext(x.Context(), q); err != nil {
			x.Fatal(err)
		}
	}
	code := 0
	if s.Root.Name == mysqldtest.MariaDB105 { // which damages such a table when it imports it
		s.Exec(x.T, "CREATE TABLE shop.dropped (a INT PRIMARY KEY, b INT, c INT) ENGINE=InnoDB", "INSERT INTO shop.dropped VALUES (1,2,3)", "ALTER TABLE shop.dropped DROP COLUMN b, ALGORITHM=INSTANT")
		code = 4
	}
	x.backup(s, "open")
	if _, err := conn.ExecContext(x.Context(), "ROLLBACK"); err != nil {
		x.Fatal(err)
	}
	hbtest.Succeed(x.T, hb(x.T, "extract", "-C", x.in("open.d"), x.in("open")))
	r := hbtest.Finish(x.T, hb(x.T, "apply", "--export", x.in("open.d")))
	if files := configs(x.T, x.in("open.d")); r.Code != 13 || !strings.Contains(r.Stderr, "shop.zip") || files["shop/zip.cfg"] != nil || files["shop/orders.cfg"] == nil {
		x.Errorf("exit code %d: %s", r.Code, r.Stderr)
	}
	args := []string{"apply", "--export", "--server", s.Root.Tool("mysqld").Path}
	for _, l := range s.Root.Lines() {
		args = append(args, "--server-option=--"+l)
	}
	if r = hbtest.Finish(x.T, hb(x.T, append(args, x.in("open.d"))...)); r.Code != code || code > 0 && !strings.Contains(r.Stderr, "no .cfg files: shop.dropped") {
		x.Errorf("%s: exit code %d, not %d: %s", s.Root.Name, r.Code, code, r.Stderr)
	}
	if files := configs(x.T, x.in("open.d")); files["shop/zip.cfg"] == nil {
		x.Errorf("%s: the server ended the transaction, and shop.zip is not described", s.Root.Name)
	}
	if r := hbtest.Finish(x.T, hb(x.T, "apply", "--export", "--by-server", x.in("open.d"))); r.Code != 2 {
		x.Errorf("exit code %d: %s", r.Code, r.Stderr)
	}
}
