package tde_test

import (
	"encoding/binary"
	"os"
	"path/filepath"
	"strconv"
	"testing"

	"hb/source/mysqld/mysqldtest"
	"hb/stream/disk"
	"hb/xbstream/innodb"
	"hb/xbstream/innodb/mysqlredo"
	"hb/xbstream/innodb/redolog"
	"hb/xbstream/innodb/tde"
)

// masterKey returns the master key of the information, from a keyring file.
func masterKey(t *testing.T, keyring string, i tde.MySQLInfo) []byte {
	t.Helper()
	return keyNamed(t, keyring, i.Master())
}

// TestMySQLPages: every page of encrypted tablespaces that a server wrote decrypts to
// one whose checksum, number and tablespace are right, and encrypts to the same bytes
// again.
func TestMySQLPages(t *testing.T) {
	root := mysqldtest.Need(t, mysqldtest.MySQL97)
	keyring := filepath.Join(t.TempDir(), "keyring")
	s := mysqldtest.Start(t, root, mysqldtest.Options{Keyring: keyring})
	s.Exec(t,
		"SET GLOBAL innodb_undo_log_encrypt = ON",
		"CREATE DATABASE d",
		"CREATE TABLE d.plain (a INT PRIMARY KEY AUTO_INCREMENT, b VARCHAR(500), KEY(b)) ENCRYPTION='Y'",
		"CREATE TABLE d.zip (a INT PRIMARY KEY AUTO_INCREMENT, b VARCHAR(500), KEY(b)) ENCRYPTION='Y' ROW_FORMAT=COMPRESSED",
		"CREATE TABLE d.packed (a INT PRIMARY KEY AUTO_INCREMENT, b VARCHAR(500), KEY(b)) ENCRYPTION='Y' COMPRESSION='zlib'",
		"CREATE TABLE d.spatial (a INT PRIMARY KEY AUTO_INCREMENT, b VARCHAR(500), g GEOMETRY NOT NULL SRID 0 DEFAULT (POINT(1, RAND())), SPATIAL KEY(g)) ENCRYPTION='Y'",
		"CREATE TABLESPACE g ADD DATAFILE 'g.ibd' ENCRYPTION='Y'",
		"CREATE TABLE d.general (a INT PRIMARY KEY AUTO_INCREMENT, b VARCHAR(500)) TABLESPACE g ENCRYPTION='Y'",
		"ALTER TABLESPACE mysql ENCRYPTION='Y'",
	)
	for _, table := range []string{"plain", "zip", "packed", "spatial", "general"} {
		s.Exec(t, "INSERT INTO d."+table+"(b) WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i+1 FROM n WHERE i < 1000) SELECT CONCAT(SHA2(i, 256), REPEAT('x', 300)) FROM n")
		s.Exec(t, "INSERT INTO d."+table+"(b) SELECT b FROM d."+table)
	}
	s.Exec(t, "ALTER INSTANCE ROTATE INNODB MASTER KEY")
	s.WriteOut(t)
	if err := s.Stop(); err != nil {
		t.Fatal(err)
	}
	types := map[innodb.PageType]int{}
	for _, name := range []string{"d/plain.ibd", "d/zip.ibd", "d/packed.ibd", "d/spatial.ibd", "g.ibd", "mysql.ibd", "undo_001", "undo_002"} {
		checkFile(t, filepath.Join(s.Datadir, name), keyring, types)
	}
	for _, want := range []innodb.PageType{innodb.TypeEncrypted, innodb.TypePackedEncrypted, innodb.TypeRTreeEncrypted} {
		if types[want] == 0 {
			t.Errorf("no page was of type %d: %v", want, types)
		}
	}
	t.Log("pages by type:", types)
}

func checkFile(t *testing.T, name, keyring string, types map[innodb.PageType]int) {
	t.Helper()
	b, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	space, err := innodb.ParseSpace(b)
	if err != nil {
		t.Fatal(err)
	}
	info, err := tde.ParseMySQLInfo(space.MySQLInfo[:])
	if err != nil {
		t.Fatalf("%s: %v", name, err)
	}
	master := masterKey(t, keyring, info)
	key, err := info.Open(master)
	if err != nil {
		t.Fatalf("%s: %v", name, err)
	}
	cipher := tde.NewMySQLSpace(&space, &key)
	for at := 0; at < len(b); at += space.Physical {
		no, page := innodb.PageNo(at/space.Physical), b[at:at+space.Physical]
		if !space.Sealed(page, no) {
			continue
		}
		types[innodb.HeaderType(page)]++
		plain := append([]byte(nil), page...)
		if err := cipher.Decrypt(plain, no); err != nil {
			t.Fatalf("%s, page %d: %v", name, no, err)
		}
		if _, err := space.Verify(plain, no); err != nil {
			t.Fatalf("%s, page %d: %v", name, no, err)
		}
		if innodb.HeaderType(page) == innodb.TypePackedEncrypted {
			continue // hb writes no compressed pages
		}
		if err := cipher.Encrypt(plain, no); err != nil || string(plain) != string(page) {
			t.Errorf("%s, page %d: it encrypts to other bytes than the server's (%v)", name, no, err)
		}
	}
}

// redoCiphers returns the ciphers of the keys in the files of a log.
func redoCiphers(t *testing.T, files *mysqlredo.Files, keyring string) (ciphers []mysqlredo.BlockCipher) {
	t.Helper()
	infos, err := files.Infos()
	if err != nil {
		t.Fatal(err)
	}
	for _, b := range infos {
		info, err := tde.ParseMySQLInfo(b)
		if err != nil {
			t.Fatal(err)
		}
		key, err := info.Open(masterKey(t, keyring, info))
		if err != nil {
			t.Fatal(err)
		}
		ciphers = append(ciphers, tde.NewRedoBlocks(key))
	}
	return ciphers
}

// TestMySQLRedo: encrypted and plain blocks of one log, between which a server went to
// and fro, decrypt to mini-transactions up to the server's last LSN, and encrypt to the
// same bytes again.
func TestMySQLRedo(t *testing.T) {
	root := mysqldtest.Need(t, mysqldtest.MySQL97)
	keyring := filepath.Join(t.TempDir(), "keyring")
	s := mysqldtest.Start(t, root, mysqldtest.Options{Keyring: keyring, Config: []string{"innodb-redo-log-capacity=64M"}})
	s.Exec(t, "CREATE DATABASE d", "CREATE TABLE d.t (a INT PRIMARY KEY AUTO_INCREMENT, b VARCHAR(500))")
	for i := range 6 {
		s.Exec(t, "SET GLOBAL innodb_redo_log_encrypt = "+[]string{"ON", "OFF"}[i%2],
			"INSERT INTO d.t(b) WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i+1 FROM n WHERE i < 1000) SELECT CONCAT(SHA2(i, 256), REPEAT('x', 300)) FROM n")
	}
	s.Exec(t, "ALTER INSTANCE ROTATE INNODB MASTER KEY", "SET GLOBAL innodb_redo_log_encrypt = ON", "INSERT INTO d.t(b) SELECT b FROM d.t LIMIT 100", "FLUSH ENGINE LOGS")
	end, err := strconv.ParseUint(s.Rows(t, "SHOW GLOBAL STATUS LIKE 'Innodb_redo_log_flushed_to_disk_lsn'")[0][1], 10, 64)
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Kill(); err != nil {
		t.Fatal(err)
	}
	files, err := mysqlredo.OpenFiles(disk.OS, s.Datadir)
	if err != nil {
		t.Fatal(err)
	}
	defer files.Close()
	h, c, err := files.Newest()
	if err != nil {
		t.Fatal(err)
	}
	b := make([]byte, 64<<20)
	n, err := files.ReadAt(b, redolog.BlockOf(c.LSN))
	if err != nil {
		t.Fatal(err)
	}
	ciphers := redoCiphers(t, files, keyring)
	cut := mysqlredo.NewCutter(h.Format, c.LSN)
	cut.Ciphers = ciphers
	cut.Feed(b[:n])
	mtrs := 0
	for _, ok := cut.Next(); ok; _, ok = cut.Next() {
		mtrs++
	}
	if cut.End() < innodb.LSN(end) {
		t.Fatalf("the log ends at LSN %d (%v), and the server had flushed %d", cut.End(), cut.Stop(), end)
	}
	sealed, plain := 0, 0
	for at := 0; at < int(redolog.BlockOf(cut.End())-redolog.BlockOf(c.LSN)); at += redolog.BlockSize {
		block := b[at : at+redolog.BlockSize]
		if !mysqlredo.Sealed(block) {
			plain++
			continue
		}
		sealed++
		var again [redolog.BlockSize]byte
		i, ok := mysqlredo.Unseal(again[:], block, ciphers, 0)
		if !ok {
			t.Fatalf("block %d does not decrypt", at/redolog.BlockSize)
		}
		if ciphers[i].Seal(again[:]); string(again[:]) != string(block) {
			t.Fatalf("block %d encrypts to other bytes than the server's", at/redolog.BlockSize)
		}
	}
	if sealed == 0 || plain == 0 || mtrs == 0 {
		t.Errorf("%d encrypted blocks, %d plain ones, %d mini-transactions", sealed, plain, mtrs)
	}
	cut = mysqlredo.NewCutter(h.Format, c.LSN)
	cut.Feed(b[:n])
	for _, ok := cut.Next(); ok; _, ok = cut.Next() {
	}
	if cut.Stop().Cause != mysqlredo.StopEncrypted {
		t.Errorf("without a key: %v", cut.Stop())
	}
	t.Logf("%d keys, %d encrypted blocks, %d plain ones, %d mini-transactions", len(ciphers), sealed, plain, mtrs)
}

// TestMySQLBinlog: an encrypted binary log decrypts to one that is plain and whole: its
// events follow each other up to the position that the server names.
func TestMySQLBinlog(t *testing.T) {
	root := mysqldtest.Need(t, mysqldtest.MySQL97)
	keyring := filepath.Join(t.TempDir(), "keyring")
	s := mysqldtest.Start(t, root, mysqldtest.Options{Keyring: keyring, Binlog: true, Config: []string{"binlog-encryption=ON"}})
	s.Exec(t, "CREATE DATABASE d", "CREATE TABLE d.t (a INT PRIMARY KEY AUTO_INCREMENT, b VARCHAR(500))",
		"INSERT INTO d.t(b) VALUES ('first'), ('second')", "ALTER INSTANCE ROTATE BINLOG MASTER KEY", "INSERT INTO d.t(b) SELECT b FROM d.t")
	end := s.Rows(t, "SHOW BINARY LOG STATUS")[0]
	b, err := os.ReadFile(filepath.Join(s.Datadir, end[0]))
	if err != nil {
		t.Fatal(err)
	}
	h, err := tde.ParseMySQLBinlog(b)
	if err != nil {
		t.Fatal(err)
	}
	content := b[tde.MySQLBinlogHeader:]
	for _, from := range []int64{0, 1, 16, 100} {
		stream, err := h.Stream(keyNamed(t, keyring, h.Master), from)
		if err != nil {
			t.Fatal(err)
		}
		plain := append([]byte(nil), content...)
		stream.XORKeyStream(plain[from:], content[from:])
		if from == 0 {
			content = plain
			if string(plain[:4]) != "\xfebin" {
				t.Fatalf("it begins with % x", plain[:4])
			}
			at := 4
			for at < len(plain) {
				at += int(binary.LittleEndian.Uint32(plain[at+9:]))
			}
			// Positions count from the beginning of the plain log.
			if pos, _ := strconv.Atoi(end[1]); at != len(plain) || at != pos {
				t.Errorf("events end at %d of %d bytes, and the server is at %s", at, len(plain), end[1])
			}
			content = b[tde.MySQLBinlogHeader:]
			b = append(b[:0:0], b...)
			copy(b[tde.MySQLBinlogHeader:], plain)
			continue
		}
		if string(plain[from:]) != string(b[tde.MySQLBinlogHeader+from:]) {
			t.Errorf("from byte %d on, it decrypts to something else", from)
		}
	}
}
