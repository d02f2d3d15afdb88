package export_test

import (
	"bytes"
	"crypto/aes"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"hb/source/mysqld/mysqldtest"
	"hb/xbstream/innodb/cfg"
	"hb/xbstream/innodb/tde"
	"hb/xbstream/keyring"
)

// openKeyFile takes a .cfp file apart.
func openKeyFile(t *testing.T, b []byte) (k tde.MySQLKey) {
	t.Helper()
	if len(b) != 4+3*32 || bigEndian(b[:4]) != 32 {
		t.Fatalf("a .cfp file of %d bytes", len(b))
	}
	block, err := aes.NewCipher(b[4:36])
	if err != nil {
		t.Fatal(err)
	}
	for at := 0; at < 64; at += 16 {
		to := k.Key[:]
		if at >= 32 {
			to = k.IV[:]
		}
		block.Decrypt(to[at%32:], b[36+at:])
	}
	return k
}

// TestImportEncrypted: the key in hb's .cfp file is that in the server's, and a server with
// another keyring imports an encrypted table with hb's .cfg and .cfp files.
func TestImportEncrypted(t *testing.T) {
	root := mysqldtest.Need(t, mysqldtest.MySQL97)
	dir := t.TempDir()
	file := filepath.Join(dir, "keys")
	s := mysqldtest.Start(t, root, mysqldtest.Options{Keyring: file})
	const create = "CREATE TABLE %s.e (a INT PRIMARY KEY, b VARCHAR(100), c LONGBLOB, KEY(b)) ENCRYPTION='Y'"
	s.Exec(t, "CREATE DATABASE t", fmt.Sprintf(create, "t"), "INSERT INTO t.e VALUES (1,'x',REPEAT('y',100000)),(2,NULL,NULL)")
	want := exportTables(t, s, "t", []string{"e"})
	conn := s.Conn(t)
	if _, err := conn.ExecContext(t.Context(), "FLUSH TABLES t.e FOR EXPORT"); err != nil {
		t.Fatal(err)
	}
	theirs, err := os.ReadFile(filepath.Join(s.Datadir, "t", "e.cfp"))
	if err != nil {
		t.Fatal(err)
	}
	rows := sortedRows(t, s, "t.e")
	if err := s.Stop(); err != nil {
		t.Fatal(err)
	}
	keys := new(keyring.Keys)
	if err := keys.ReadMySQLKeyring(file); err != nil {
		t.Fatal(err)
	}
	pages := open(t, filepath.Join(s.Datadir, "t", "e.ibd"), keys)
	f, err := fromSDI(t, s, "t", "e", pages)
	if err != nil {
		t.Fatal(err)
	}
	f.Host = decodeCfg(t, "e", want["e"]).host
	config, err := f.Marshal()
	if err != nil || !bytes.Equal(config, want["e"]) {
		t.Errorf("hb's .cfg file is not the server's: %v", err)
	}
	info, err := tde.ParseMySQLInfo(pages.Space().MySQLInfo[:])
	if err != nil {
		t.Fatal(err)
	}
	key, err := info.Unlock(keys)
	if err != nil {
		t.Fatal(err)
	}
	keyFile, err := cfg.KeyFile(key)
	if err != nil {
		t.Fatal(err)
	}
	if openKeyFile(t, theirs) != key || openKeyFile(t, keyFile) != key {
		t.Error("the .cfp files do not have the tablespace's key")
	}
	other := mysqldtest.Start(t, root, mysqldtest.Options{Keyring: filepath.Join(dir, "others")})
	other.Exec(t, "CREATE DATABASE u", fmt.Sprintf(create, "u"), "ALTER TABLE u.e DISCARD TABLESPACE")
	if err := mysqldtest.CopyFile(filepath.Join(other.Datadir, "u", "e.ibd"), filepath.Join(s.Datadir, "t", "e.ibd")); err != nil {
		t.Fatal(err)
	}
	for ext, b := range map[string][]byte{cfg.Ext: config, cfg.ExtKey: keyFile} {
		if err := os.WriteFile(filepath.Join(other.Datadir, "u", "e"+ext), b, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	other.Exec(t, "ALTER TABLE u.e IMPORT TABLESPACE")
	if got := sortedRows(t, other, "u.e"); !slices.Equal(got, rows) {
		t.Errorf("%.200q, not %.200q", got, rows)
	}
}

// TestImportVersions: MySQL 9.7 imports what hb writes for the older servers of MySQL.
func TestImportVersions(t *testing.T) {
	s := mysqldtest.Start(t, mysqldtest.Need(t, mysqldtest.MySQL97), mysqldtest.Options{})
	names := []string{"keys", "nokey", "instant", "numbers"}
	kinds := tableKinds(s.Root)
	s.Exec(t, "CREATE DATABASE t", "CREATE DATABASE u")
	for _, name := range names {
		s.Exec(t, kinds[name]...)
	}
	s.Exec(t, "INSERT INTO t.nokey VALUES (1,'x'),(2,'y')")
	if err := s.Stop(); err != nil {
		t.Fatal(err)
	}
	spaces := tablespaces(t, s.Datadir, names)
	files := buildCfg(t, s, "t", slices.Concat(slices.Collect(maps.Values(spaces))...))
	s = mysqldtest.StartOn(t, s.Root, s.Datadir, mysqldtest.Options{})
	for server, version := range map[int]int{80012: 3, 80019: 4, 80022: 5, 80028: 6, 80036: 7, 80402: 7, 90000: 7, 90704: 8} {
		if got := cfg.Version(server); got != version {
			t.Errorf("MySQL %d writes version %d, not %d", server, got, version)
		}
		for _, name := range names {
			files[name].Version = version
			if name == "instant" && version < 7 {
				if _, err := files[name].Marshal(); err == nil {
					t.Errorf("version %d of a table with versions of rows is written", version)
				}
				continue
			}
			if !importTable(t, s, name, spaces[name], files) {
				t.Errorf("%s, version %d", name, version)
			}
			s.Exec(t, "DROP TABLE u."+name)
		}
	}
}
