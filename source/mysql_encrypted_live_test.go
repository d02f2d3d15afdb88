package source_test

import (
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"filippo.io/age"

	"hb/sink/apply"
	"hb/sink/backupdir"
	"hb/sink/extract"
	"hb/sink/verify"
	"hb/source"
	"hb/source/mysqld/mysqldtest"
	"hb/source/mysqld/mysqldtest/workload"
	"hb/stream/disk/disktest"
	"hb/xbstream/innodb"
	"hb/xbstream/keyring"
)

// encryptedMySQL are lines with which MySQL encrypts all that it can.
var encryptedMySQL = []string{"innodb-redo-log-encrypt=ON", "innodb-undo-log-encrypt=ON", "binlog-encryption=ON"}

// marker is in rows of encrypted tables, and in nothing that is encrypted.
const marker = "a row that nobody may read without the keys"

// fillEncrypted makes encrypted tables of each format, with rows that have the marker.
func fillEncrypted(t *testing.T, s *mysqldtest.Server) {
	t.Helper()
	s.Exec(t, "CREATE DATABASE enc", "ALTER TABLESPACE mysql ENCRYPTION='Y'",
		"CREATE TABLESPACE g ADD DATAFILE 'g.ibd' ENCRYPTION='Y'")
	for name, options := range map[string]string{
		"plain": "", "zip": "ROW_FORMAT=COMPRESSED KEY_BLOCK_SIZE=8", "packed": "COMPRESSION='zlib'", "lz4": "COMPRESSION='lz4'", "general": "TABLESPACE g",
		"redundant": "ROW_FORMAT=REDUNDANT",
	} {
		s.Exec(t, "CREATE TABLE enc."+name+" (a INT PRIMARY KEY AUTO_INCREMENT, b VARCHAR(700), p GEOMETRY NOT NULL SRID 0, KEY(b(100)), SPATIAL KEY(p)) ENCRYPTION='Y' "+options,
			"INSERT INTO enc."+name+" (b, p) WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 900) SELECT CONCAT(SHA2(i, 256), '"+marker+"', REPEAT('x', i % 500)), POINT(i, i) FROM n")
	}
}

// encryptTables encrypts the tables of the load, except for those of other engines.
func encryptTables(t *testing.T, s *mysqldtest.Server) {
	t.Helper()
	for _, r := range s.Rows(t, "SELECT CONCAT('`', TABLE_SCHEMA, '`.`', TABLE_NAME, '`') FROM information_schema.TABLES WHERE ENGINE = 'InnoDB' AND TABLE_SCHEMA LIKE 'hb\\_%'") {
		if _, err := s.DB().ExecContext(t.Context(), "ALTER TABLE "+r[0]+" ENCRYPTION='Y'"); err != nil {
			t.Logf("%s stays plain: %v", r[0], err)
		}
	}
}

// masters returns what a keyring file of MySQL holds, in hexadecimal.
func masters(t *testing.T, file string) []string {
	t.Helper()
	b, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	var f struct {
		Elements []struct {
			Data string `json:"data"`
		} `json:"elements"`
	}
	if err := json.Unmarshal(b, &f); err != nil {
		t.Fatal(err)
	}
	var out []string
	for _, e := range f.Elements {
		out = append(out, e.Data)
	}
	return out
}

// inFiles looks for bytes in a file, or in all files of a directory, and returns the
// names of those that have them.
func inFiles(t *testing.T, path string, what []byte) (found []string) {
	t.Helper()
	err := filepath.WalkDir(path, func(name string, d fs.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() {
			return err
		}
		b, err := os.ReadFile(name)
		if bytes.Contains(b, what) {
			found = append(found, name)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return found
}

// noPlain fails if a key or the rows of encrypted tables are anywhere in clear.
func noPlain(t *testing.T, keyring string, paths ...string) {
	t.Helper()
	for _, path := range paths {
		if names := inFiles(t, path, []byte(marker)); len(names) > 0 {
			t.Errorf("rows of encrypted tables are in clear in %q", names)
		}
		for _, key := range masters(t, keyring) {
			raw, err := hex.DecodeString(key)
			if err != nil {
				t.Fatal(err)
			}
			for _, form := range [][]byte{raw, []byte(key), []byte(strings.ToLower(key))} {
				if names := inFiles(t, path, form); len(form) > 16 && len(names) > 0 {
					t.Errorf("a master key is in %q", names)
				}
			}
		}
	}
}

// keysOf reads a keyring file.
func keysOf(t *testing.T, file string) *keyring.Keys {
	t.Helper()
	k := new(keyring.Keys)
	if err := k.ReadMySQLKeyring(file); err != nil {
		t.Fatal(err)
	}
	return k
}

// refusesKeys applies a directory without keys, with those of another server that have the
// same names, and with another identity: each is an error about the key, and changes nothing.
func refusesKeys(t *testing.T, target string, o apply.Options, file string) {
	t.Helper()
	before := disktest.ReadTree(t, target)
	_, err := apply.Run(t.Context(), target, o)
	_, damage := errors.AsType[*backupdir.DamageError](err)
	if missing, ok := errors.AsType[*keyring.MissingKeyError](err); !ok || damage || !strings.Contains(missing.Error(), "INNODBKey-") || !strings.Contains(missing.Error(), keyring.SealedName) {
		t.Errorf("without keys: %v", err)
	}
	b, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	other := filepath.Join(t.TempDir(), "other")
	for _, key := range masters(t, file) {
		b = bytes.ReplaceAll(b, []byte(key), []byte(key[2:]+key[:2]))
	}
	if err := os.WriteFile(other, b, 0o600); err != nil {
		t.Fatal(err)
	}
	wrong := o
	wrong.Keys = keysOf(t, other)
	if _, err = apply.Run(t.Context(), target, wrong); !isWrongKey(err) {
		t.Errorf("with other keys: %v", err)
	}
	stranger, err := age.GenerateX25519Identity()
	if err != nil {
		t.Fatal(err)
	}
	o.Identities = func() ([]age.Identity, error) { return []age.Identity{stranger}, nil }
	if _, err = apply.Run(t.Context(), target, o); !isWrongKey(err) {
		t.Errorf("with another identity: %v", err)
	}
	if !maps.Equal(disktest.ReadTree(t, target), before) {
		t.Error("the directory was changed")
	}
}

func isWrongKey(err error) bool {
	_, ok := errors.AsType[*keyring.WrongKeyError](err)
	_, damage := errors.AsType[*backupdir.DamageError](err)
	return ok && !damage
}

// unpack extracts an archive.
func unpack(t *testing.T, archive, target string) {
	t.Helper()
	f, err := os.Open(archive)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if _, err := extract.Run(t.Context(), f, target, extract.Options{}); err != nil {
		t.Fatal(err)
	}
}

// verifyWith verifies an archive.
func verifyWith(t *testing.T, archive string, o verify.Options) (*verify.Result, error) {
	t.Helper()
	f, err := os.Open(archive)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	o.Tmpdir = t.TempDir()
	return verify.Archive(t.Context(), f, o)
}

// TestEncryptedMySQL backs up under load a server that encrypts all that it can, its
// redo log switched and its master keys rotated, and restores it with the
// keyring. The copy obeys the load's rules and catches up as a replica; nothing that was
// encrypted is in clear in the archive or in the directory.
func TestEncryptedMySQL(t *testing.T) {
	for name, switched := range map[string]bool{"all": false, "switched": true} {
		t.Run(name, func(t *testing.T) { encryptedUnderLoad(t, switched) })
	}
}

func encryptedUnderLoad(t *testing.T, switched bool) {
	root := mysqldtest.Need(t, mysqldtest.MySQL97)
	file := filepath.Join(t.TempDir(), "keyring")
	s := mysqldtest.Start(t, root, mysqldtest.Options{Binlog: true, Keyring: file, Config: encryptedMySQL})
	fillEncrypted(t, s)
	load, err := workload.Prepare(t.Context(), s.DB(), workload.Options{DDLRate: 10})
	if err != nil {
		t.Fatal(err)
	}
	encryptTables(t, s)
	dir := t.TempDir()
	archive := filepath.Join(dir, "archive")
	identity, err := age.GenerateX25519Identity()
	if err != nil {
		t.Fatal(err)
	}
	opt := source.Options{Recipients: []age.Recipient{identity.Recipient()}}
	workload.During(t, load, func() {
		time.Sleep(time.Second)
		if switched { // page 0 of all tablespaces changes after the checkpoint
			s.Exec(t, "ALTER INSTANCE ROTATE INNODB MASTER KEY", "ALTER INSTANCE ROTATE INNODB MASTER KEY", "ALTER INSTANCE ROTATE BINLOG MASTER KEY")
		}
		n := 0
		var wait []func() error
		result := hookedBackup(t, s, archive, hooks{opt: opt, pace: func(int) {
			if n++; !switched || n%10 != 3 {
				return
			}
			s.Exec(t, "SET GLOBAL innodb_redo_log_encrypt = "+[]string{"OFF", "ON"}[n/10%2], "UPDATE enc.plain SET b = CONCAT(b, 'y') WHERE a % 10 = 1")
			if n == 13 { // it waits for the end of the lock
				wait = append(wait, s.Background(t, "ALTER TABLE enc.redundant ENCRYPTION='N'"))
			}
		}})
		if e := result.Manifest.Encryption; !slices.Equal(e.Others, []string{"the redo log", "the binary log"}) || !slices.Contains(e.Names, "undo_001") || !slices.Contains(e.Names, "enc/zip.ibd") || !e.KeysWithin {
			t.Errorf("encrypted: %+v", e)
		}
		for _, w := range wait {
			if err := w(); err != nil {
				t.Error(err)
			}
		}
		time.Sleep(time.Second)
	})
	if !switched {
		noPlain(t, file, archive)
	}
	target := filepath.Join(dir, "restored")
	unpack(t, archive, target)
	if r, err := verifyWith(t, archive, verify.Options{}); err != nil || r.Tally.Sealed == 0 || r.SealedRedo == nil || r.Partial() == nil {
		t.Errorf("without keys: %+v, %v", r, err)
	}
	_, young := justMade(t, target) // pages whose keys only the redo log has
	if r, err := verifyWith(t, archive, verify.Options{Keys: keysOf(t, file)}); err != nil || r.Tally.Sealed != int64(young) || r.SealedRedo != nil || (r.Partial() != nil) != (young > 0) {
		t.Errorf("with keys: %+v, %v; want %d pages that cannot be verified", r, err, young)
	}
	if _, err := verifyWith(t, archive, verify.Options{Keys: keysOf(t, file), Replay: true}); err != nil {
		t.Error(err)
	}
	o := apply.Options{Tool: "hb test", Memory: 1}
	if switched {
		o.Keys = keysOf(t, file)
	} else {
		refusesKeys(t, target, o, file)
		o.Identities = func() ([]age.Identity, error) { return []age.Identity{identity}, nil }
		o.WriteKeyring = filepath.Join(dir, "written")
	}
	if _, err := apply.Run(t.Context(), target, o); err != nil {
		t.Fatal(err)
	}
	if !switched {
		s.Keyring = o.WriteKeyring // the copy starts with that one
	}
	if !switched {
		noPlain(t, file, target)
	}
	allSealed(t, target)
	if r, err := verify.Directory(t.Context(), target, verify.Options{Keys: keysOf(t, file), Tmpdir: t.TempDir()}); err != nil || r.Tally.Sealed > 0 {
		t.Errorf("the restored directory: %+v, %v", r, err)
	}
	if r, err := verify.Directory(t.Context(), target, verify.Options{Tmpdir: t.TempDir()}); err != nil || r.Partial() == nil {
		t.Errorf("the restored directory, without keys: %+v, %v", r, err)
	}
	workload.VerifyCopy(t, s, target, true)
}

// allSealed makes sure that no page of an encrypted table is in clear, except for page 0
// and those that are zero.
func allSealed(t *testing.T, dir string) {
	t.Helper()
	for _, name := range []string{"enc/plain.ibd", "enc/zip.ibd", "enc/packed.ibd", "enc/lz4.ibd", "g.ibd", "mysql.ibd"} {
		b, err := os.ReadFile(filepath.Join(dir, name))
		if err != nil {
			t.Fatal(err)
		}
		space, err := innodb.ParseSpace(b)
		if err != nil || !space.MySQLEncrypted() {
			t.Errorf("%s: %+v, %v", name, space, err)
			continue
		}
		for no := innodb.PageNo(1); int(no) < len(b)/space.Physical; no++ {
			page := b[int(no)*space.Physical:][:space.Physical]
			if !innodb.AllZero(page) && !space.Sealed(page, no) {
				t.Errorf("%s: page %d, of type %d, is in clear", name, no, innodb.HeaderType(page))
			}
		}
	}
}

// justMadeRounds bounds how often TestEncryptedJustMade makes a table: the server may write page 0
// of each again before it is copied.
const justMadeRounds = 20

// TestEncryptedJustMade: page 0 of a new table is on disk before its key is, which only the
// redo log has then, while other pages are on disk encrypted. The server writes page 0 again when
// it has time for it, which may be before the copy: so the test looks into the archive whether it
// has such a table, and makes another one if not.
func TestEncryptedJustMade(t *testing.T) {
	mysqldtest.Concurrent(t)
	root := mysqldtest.Need(t, mysqldtest.MySQL97)
	file := filepath.Join(t.TempDir(), "keyring")
	// It writes pages only to make room for others, also when it is idle.
	s := mysqldtest.Start(t, root, mysqldtest.Options{Keyring: file, Config: []string{"innodb-buffer-pool-size=5M", "innodb-idle-flush-pct=0",
		"innodb-max-dirty-pages-pct=99", "innodb-max-dirty-pages-pct-lwm=0", "innodb-adaptive-flushing=OFF"}})
	s.Exec(t, "CREATE DATABASE d", "CREATE TABLE d.first (a INT) ENCRYPTION='Y'")
	archive, target := filepath.Join(t.TempDir(), "archive"), filepath.Join(t.TempDir(), "restored")
	bare, sealed := 0, 0
	for round := 0; bare == 0 || sealed == 0; round++ {
		if round == justMadeRounds {
			t.Fatalf("in %d backups, page 0 of every table with encrypted pages had its key", round)
		}
		s.Exec(t, "DROP TABLE IF EXISTS d.big", "CREATE TABLE d.big (a INT PRIMARY KEY AUTO_INCREMENT, b VARCHAR(2000)) ENCRYPTION='Y'",
			"INSERT INTO d.big (b) WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 1000) SELECT REPEAT('x', 1900) FROM n")
		for i := range 5 {
			s.Exec(t, fmt.Sprintf("DROP TABLE IF EXISTS d.t%d", i), fmt.Sprintf("CREATE TABLE d.t%d (a INT PRIMARY KEY) ENCRYPTION='Y'", i), fmt.Sprintf("INSERT INTO d.t%d VALUES (1), (2), (3)", i))
		}
		if err := os.RemoveAll(target); err != nil {
			t.Fatal(err)
		}
		hookedBackup(t, s, archive, hooks{})
		unpack(t, archive, target)
		bare, sealed = justMade(t, target)
		t.Logf("backup %d: page 0 of %d tables has no key, %d of their pages are encrypted", round, bare, sealed)
	}
	want := checksums(t, s)
	if err := s.Stop(); err != nil {
		t.Fatal(err)
	}
	r, err := verifyWith(t, archive, verify.Options{Keys: keysOf(t, file), Replay: true})
	if err != nil {
		t.Fatal(err)
	}
	if partial, ok := errors.AsType[*verify.PartialError](r.Partial()); !ok || !partial.JustMade || partial.Pages != int64(sealed) {
		t.Errorf("with keys: %v, want %d pages", r.Partial(), sealed)
	}
	if _, err := apply.Run(t.Context(), target, apply.Options{Tool: "hb test", Keys: keysOf(t, file)}); err != nil {
		t.Fatal(err)
	}
	if r, err := verify.Directory(t.Context(), target, verify.Options{Keys: keysOf(t, file), Tmpdir: t.TempDir()}); err != nil || r.Partial() != nil {
		t.Errorf("the restored directory: %v, %v", r, err)
	}
	copied := mysqldtest.StartOn(t, root, target, mysqldtest.Options{Keyring: file})
	if got := checksums(t, copied); !maps.Equal(got, want) {
		t.Errorf("%v, want %v", got, want)
	}
}

// justMade counts the tables in a directory whose page 0 marks them as encrypted and has no key,
// and the pages of those that are encrypted.
func justMade(t *testing.T, dir string) (bare, sealed int) {
	t.Helper()
	names, err := filepath.Glob(filepath.Join(dir, "*", "*.ibd"))
	if err != nil || len(names) == 0 {
		t.Fatal(names, err)
	}
	for _, name := range names {
		b, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		if len(b) < 16<<10 {
			continue
		}
		flags, size := binary.BigEndian.Uint32(b[54:]), 16<<10
		if zip := flags >> 1 & 15; zip != 0 {
			size = 512 << zip
		}
		if flags>>13&1 == 0 || !innodb.AllZero(b[150+40*size/64:][:115]) { // after the extent descriptors
			continue
		}
		bare++
		for at := size; at < len(b); at += size {
			if kind := binary.BigEndian.Uint16(b[at+24:]); kind >= 15 && kind <= 17 {
				sealed++
			}
		}
	}
	return bare, sealed
}
