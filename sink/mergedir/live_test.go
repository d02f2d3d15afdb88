package mergedir_test

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"hb/sink/apply"
	"hb/sink/backupdir"
	"hb/sink/merge"
	"hb/sink/mergedir"
	"hb/sink/verify"
	"hb/source/mysqld/mysqldtest"
	"hb/xbstream/keyring"
)

// between is what happens between a backup and the next, by their numbers.
var between = [][]string{
	{
		"CREATE DATABASE d", "CREATE DATABASE e",
		"CREATE TABLE d.a (id INT PRIMARY KEY, v VARCHAR(200), KEY (v)) ENGINE=InnoDB",
		"INSERT INTO d.a SELECT seq, SHA2(seq, 512) FROM d.seq_1_to_20000",
		"CREATE TABLE d.zip LIKE d.a", "ALTER TABLE d.zip ROW_FORMAT=COMPRESSED KEY_BLOCK_SIZE=4", "INSERT INTO d.zip SELECT * FROM d.a",
		"CREATE TABLE d.gone LIKE d.a", "INSERT INTO d.gone SELECT * FROM d.a WHERE id < 100",
		"CREATE TABLE d.cut LIKE d.a", "INSERT INTO d.cut SELECT * FROM d.a",
		"CREATE TABLE d.x LIKE d.a", "INSERT INTO d.x SELECT * FROM d.a WHERE id % 2",
		"CREATE TABLE d.y LIKE d.a", "INSERT INTO d.y SELECT * FROM d.a WHERE id % 3",
		"CREATE TABLE d.quiet LIKE d.a", "INSERT INTO d.quiet SELECT * FROM d.a",
		"CREATE TABLE d.my (id INT PRIMARY KEY, v VARCHAR(200)) ENGINE=MyISAM", "INSERT INTO d.my SELECT * FROM d.a",
		"CREATE TABLE d.bygone (id INT PRIMARY KEY) ENGINE=MyISAM", "CREATE TABLE e.t (id INT PRIMARY KEY) ENGINE=InnoDB",
		"CREATE TABLE d.parts (id INT PRIMARY KEY) ENGINE=InnoDB PARTITION BY HASH (id) PARTITIONS 3", "INSERT INTO d.parts SELECT id FROM d.a",
	},
	{
		"UPDATE d.a SET v = 'changed' WHERE id % 100 = 0", "DROP TABLE d.gone, d.bygone", "TRUNCATE d.cut", "INSERT INTO d.cut SELECT * FROM d.a WHERE id < 500",
		"RENAME TABLE d.x TO d.z, d.y TO d.x, d.z TO d.y", "UPDATE d.x SET v = 'x' WHERE id % 100 = 1", "DELETE FROM d.zip WHERE id % 3 = 0",
		"CREATE TABLE d.fresh LIKE d.a", "INSERT INTO d.fresh SELECT * FROM d.a", "UPDATE d.my SET v = 'changed'", "DROP DATABASE e",
		"ALTER TABLE d.quiet ENGINE=MyISAM", "DELETE FROM d.parts WHERE id % 4 = 0", "ALTER TABLE d.a ADD COLUMN w INT DEFAULT 7",
	},
	{"UPDATE d.a SET v = 'again' WHERE id % 200 = 0", "RENAME TABLE d.fresh TO d.stale", "CREATE DATABASE f", "CREATE TABLE f.t (id INT PRIMARY KEY) ENGINE=InnoDB", "INSERT INTO f.t VALUES (1)"},
}

// TestMergePeer puts mariadb-backup's increments onto its full backup, that hb applies. A
// server starts on what comes out, and has all rows.
func TestMergePeer(t *testing.T) {
	mysqldtest.Each(t, mysqldtest.MariaDB, func(t *testing.T, root *mysqldtest.Root) {
		s := mysqldtest.Start(t, root, mysqldtest.Options{})
		dir := t.TempDir()
		at := func(i int) string { return filepath.Join(dir, fmt.Sprint(i)) }
		for i, statements := range between {
			s.Exec(t, statements...)
			if i == 1 { // so that mariadb-backup finds all of it in the tablespaces, and next not
				s.WriteOut(t)
			}
			backUpByPeer(t, s, at, i)
		}
		want := sums(t, s)
		if err := s.Stop(); err != nil {
			t.Fatal(err)
		}
		base := filepath.Join(dir, "base")
		if err := mysqldtest.CopyTree(base, at(0)); err != nil {
			t.Fatal(err)
		}
		refuseAll(t, base, at)
		mustApply(t, base)
		refuse(t, base, at(2), as[*merge.MismatchError], "an increment between them is missing")
		refuseDamaged(t, base, at(1))
		interrupt(t, base, at(1))
		for i := 1; i < len(between); i++ {
			r, err := mergedir.Run(t.Context(), base, at(i), mergedir.Options{})
			if err != nil {
				t.Fatal(err)
			}
			t.Logf("%+v", *r)
			if i == 1 && (len(r.Dropped) < 4 || len(r.Warnings) != 1 || r.Pages == 0) {
				t.Errorf("%+v", *r)
			}
			refuse(t, base, at(i), as[*backupdir.NotBackupError], "not applied")
			mustApply(t, base)
			refuse(t, base, at(i), as[*merge.MismatchError], "it continues from LSN")
		}
		c := mysqldtest.StartOn(t, root, base, mysqldtest.Options{})
		got := sums(t, c)
		for name, sum := range want {
			if got[name] != sum {
				t.Errorf("%s: %s, want %s", name, got[name], sum)
			}
			if check := c.Rows(t, "CHECK TABLE "+name+" EXTENDED"); check[len(check)-1][3] != "OK" {
				t.Errorf("%v", check)
			}
		}
		if len(got) != len(want) || len(want) < 10 {
			t.Errorf("tables %v, want %v", got, want)
		}
		if err := c.Stop(); err != nil {
			t.Error(err)
		}
		refuse(t, base, at(2), as[*backupdir.NotBackupError], "has run on it")
	})
}

// interrupt stops a merge after its first changes: what is left is refused, and no server
// starts on it.
func interrupt(t *testing.T, base, inc string) {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "half")
	if err := mysqldtest.CopyTree(dir, base); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancelCause(t.Context())
	stop := errors.New("stop")
	cancel(stop)
	if _, err := mergedir.Run(ctx, dir, inc, mergedir.Options{}); !errors.Is(err, stop) {
		t.Errorf("interrupted: %v", err)
	}
	if st, err := os.Lstat(filepath.Join(dir, "ibdata1")); err != nil || st.Mode().IsRegular() {
		t.Errorf("a server could start: %v, %v", st.Mode(), err)
	}
	refuse(t, dir, inc, as[*backupdir.NotBackupError], "did not finish")
	if _, err := apply.Run(t.Context(), dir, apply.Options{}); !as[*backupdir.NotBackupError](err) {
		t.Errorf("apply: %v", err)
	}
	if _, err := verify.Directory(t.Context(), dir, verify.Options{}); !as[*backupdir.NotBackupError](err) {
		t.Errorf("verify: %v", err)
	}
}

func sums(t *testing.T, s *mysqldtest.Server) map[string]string {
	t.Helper()
	all := make(map[string]string)
	for _, r := range s.Rows(t, "SELECT CONCAT(TABLE_SCHEMA, '.', TABLE_NAME) FROM information_schema.TABLES WHERE TABLE_SCHEMA IN ('d', 'e', 'f')") {
		all[r[0]] = s.Rows(t, "CHECKSUM TABLE "+r[0])[0][1]
	}
	return all
}

func mustApply(t *testing.T, dir string) {
	t.Helper()
	if _, err := apply.Run(t.Context(), dir, apply.Options{Tool: "hb test"}); err != nil {
		t.Fatal(err)
	}
}

func as[T error](err error) bool {
	_, ok := errors.AsType[T](err)
	return ok
}

// refuse merges, which must fail before anything is changed.
func refuse(t *testing.T, base, inc string, refused func(error) bool, said string) {
	t.Helper()
	before := list(t, base)
	_, err := mergedir.Run(t.Context(), base, inc, mergedir.Options{})
	if err == nil || !refused(err) || !strings.Contains(err.Error(), said) {
		t.Errorf("%v, want %q", err, said)
	}
	if after := list(t, base); after != before {
		t.Errorf("%v: the base was changed", err)
	}
}

// list is names, sizes and times of all files.
func list(t *testing.T, dir string) string {
	t.Helper()
	var b strings.Builder
	err := filepath.Walk(dir, func(name string, st os.FileInfo, err error) error {
		if err == nil && !st.IsDir() {
			fmt.Fprintln(&b, name, st.Size(), st.ModTime())
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return b.String()
}

// refuseAll: a base that was not applied, and increments that are none.
func refuseAll(t *testing.T, base string, at func(int) string) {
	t.Helper()
	refuse(t, base, at(1), as[*backupdir.NotBackupError], "not applied yet")
	refuse(t, at(1), at(2), as[*backupdir.NotBackupError], "incremental")
	other := filepath.Join(t.TempDir(), "applied")
	if err := mysqldtest.CopyTree(other, at(0)); err != nil {
		t.Fatal(err)
	}
	mustApply(t, other)
	refuse(t, other, at(0), as[*backupdir.NotBackupError], "not an incremental backup")
	refuse(t, other, t.TempDir(), as[*backupdir.NotBackupError], "not an extracted backup")
}

// refuseDamaged: increments that lack something, or have something that is cut.
func refuseDamaged(t *testing.T, base, inc string) {
	t.Helper()
	damage := func(err error) bool {
		return as[*backupdir.DamageError](err) || as[*backupdir.MissingError](err) || as[*backupdir.NotBackupError](err)
	}
	for what, do := range map[string]func(dir string) error{
		"a table's delta": func(dir string) error {
			return errors.Join(os.Remove(dir+"/d/a.ibd.delta"), os.Remove(dir+"/d/a.ibd.meta"))
		},
		"a partition's delta": func(dir string) error {
			names, err := filepath.Glob(dir + "/d/parts#?#p1.*") // or the whole file
			if err != nil || len(names) == 0 {
				return fmt.Errorf("%q, %v", names, err)
			}
			for _, name := range names {
				err = errors.Join(err, os.Remove(name))
			}
			return err
		},
		"a meta":       func(dir string) error { return os.Remove(dir + "/d/a.ibd.meta") },
		"only a delta": func(dir string) error { return os.Remove(dir + "/d/a.ibd.delta") },
		"the system tablespace": func(dir string) error {
			return errors.Join(os.Remove(dir+"/ibdata1.delta"), os.Remove(dir+"/ibdata1.meta"))
		},
		"the redo log":           func(dir string) error { return os.Remove(dir + "/ib_logfile0") },
		"a page of a delta":      func(dir string) error { return shorten(dir + "/d/a.ibd.delta") },
		"the end of a meta":      func(dir string) error { return os.Truncate(dir+"/d/a.ibd.meta", 5) },
		"an archive of hb's own": func(dir string) error { return os.WriteFile(dir+"/hb-manifest.json", nil, 0o600) },
		"packed":                 func(dir string) error { return os.WriteFile(dir+"/d/a.ibd.qp", nil, 0o600) },
	} {
		dir := filepath.Join(t.TempDir(), "inc")
		if err := errors.Join(mysqldtest.CopyTree(dir, inc), do(dir)); err != nil {
			t.Fatalf("%s: %v", what, err)
		}
		refuse(t, base, dir, damage, "")
	}
}

func shorten(name string) error {
	st, err := os.Stat(name)
	if err != nil {
		return err
	}
	return os.Truncate(name, st.Size()-1)
}

// TestMergePeerEncrypted is TestMergePeer on servers that encrypt all tables: pages of increments
// stay encrypted, and their checksums are those of what is stored, so that only apply needs keys.
func TestMergePeerEncrypted(t *testing.T) {
	mysqldtest.Each(t, mysqldtest.MariaDB, func(t *testing.T, root *mysqldtest.Root) {
		dir := t.TempDir()
		file := filepath.Join(dir, "keys")
		if err := os.WriteFile(file, []byte("1;770A8A65DA156D24EE2A093277530142\n"), 0o600); err != nil {
			t.Fatal(err)
		}
		keys, err := (&keyring.Flags{KeyFile: file}).Load()
		if err != nil {
			t.Fatal(err)
		}
		o := mysqldtest.Options{Config: []string{"plugin-load-add=file_key_management", "file-key-management-filename=" + file, "innodb-encrypt-tables=ON", "innodb-encryption-threads=1"}}
		s := mysqldtest.Start(t, root, o)
		at := func(i int) string { return filepath.Join(dir, fmt.Sprint(i)) }
		for i, statements := range between {
			s.Exec(t, statements...)
			if i < 2 {
				s.WriteOut(t)
			}
			backUpByPeer(t, s, at, i)
		}
		want := sums(t, s)
		if err := s.Stop(); err != nil {
			t.Fatal(err)
		}
		apply1 := func() {
			t.Helper()
			if _, err := apply.Run(t.Context(), at(0), apply.Options{Tool: "hb test", Keys: keys}); err != nil {
				t.Fatal(err)
			}
		}
		apply1()
		for i := 1; i < len(between); i++ {
			r, err := mergedir.Run(t.Context(), at(0), at(i), mergedir.Options{})
			if err != nil {
				t.Fatal(err)
			}
			t.Logf("%+v", *r)
			apply1()
		}
		if sealed := sealedPages(t, filepath.Join(at(0), "d", "a.ibd")); sealed < 100 {
			t.Errorf("%d pages of d.a are encrypted", sealed)
		}
		c := mysqldtest.StartOn(t, root, at(0), o)
		got := sums(t, c)
		for name, sum := range want {
			if got[name] != sum {
				t.Errorf("%s: %s, want %s", name, got[name], sum)
			}
			if check := c.Rows(t, "CHECK TABLE "+name+" EXTENDED"); check[len(check)-1][3] != "OK" {
				t.Errorf("%v", check)
			}
		}
		if len(got) != len(want) || len(want) < 10 {
			t.Errorf("tables %v, want %v", got, want)
		}
	})
}

// sealedPages counts the pages of a table in the full_crc32 format that are encrypted: they begin
// with the version of a key.
func sealedPages(t *testing.T, name string) (n int) {
	t.Helper()
	b, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	const size = 16 << 10
	for at := size; at+size <= len(b); at += size {
		if binary.BigEndian.Uint32(b[at:]) == 1 {
			n++
		}
	}
	return n
}

// backUpByPeer has mariadb-backup make the i-th backup of a chain, in at(i).
func backUpByPeer(t *testing.T, s *mysqldtest.Server, at func(i int) string, i int) {
	t.Helper()
	args := []string{"--defaults-file=" + s.DefaultsFile, "--backup", "--target-dir=" + at(i)}
	if i > 0 {
		args = append(args, "--incremental-basedir="+at(i-1))
	}
	if out, err := s.Tool("mariadb-backup", args...).CombinedOutput(); err != nil {
		t.Fatalf("mariadb-backup: %v\n%s", err, out[max(0, len(out)-4000):])
	}
}
