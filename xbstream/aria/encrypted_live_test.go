package aria_test

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"hb/source/mysqld/mysqldtest"
	"hb/xbstream/aria"
	"hb/xbstream/innodb/tde"
	"hb/xbstream/keyring"
)

// TestRealEncrypted verifies every block of encrypted tables that real servers wrote, notices a
// changed bit in each, and takes no block for right with another key.
func TestRealEncrypted(t *testing.T) {
	mysqldtest.Each(t, mysqldtest.MariaDB, func(t *testing.T, root *mysqldtest.Root) {
		for _, algorithm := range []keyring.Algorithm{keyring.CBC, keyring.CTR} {
			t.Run(string(algorithm), func(t *testing.T) { verifyEncrypted(t, root, algorithm) })
		}
	})
}

func verifyEncrypted(t *testing.T, root *mysqldtest.Root, algorithm keyring.Algorithm) {
	file := filepath.Join(t.TempDir(), "keys")
	if err := os.WriteFile(file, []byte("1;a7addd9adea9978fda19f21e6be987880e68ac92632ca052e5bb42b1a506939a\n2;770a8a65da156d24ee2a093277530142\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	s := mysqldtest.Start(t, root, mysqldtest.Options{Init: []string{"plugin-load-add=file_key_management",
		"file-key-management-filename=" + file, "file-key-management-encryption-algorithm=" + string(algorithm), "aria-encrypt-tables=ON"}})
	s.Exec(t, "CREATE DATABASE d")
	for name, options := range map[string]string{"crash_safe": "TRANSACTIONAL=1", "not_safe": "TRANSACTIONAL=0 ROW_FORMAT=PAGE", "fixed": "TRANSACTIONAL=0 ROW_FORMAT=FIXED"} {
		blob := "b BLOB,"
		if name == "fixed" {
			blob = "b CHAR(100),"
		}
		s.Exec(t, "CREATE TABLE d."+name+" (id INT PRIMARY KEY, v VARCHAR(200), "+blob+" KEY (v(50))) ENGINE=Aria "+options,
			"INSERT INTO d."+name+" SELECT seq, CONCAT('row ', MD5(seq)), LEFT(REPEAT(MD5(seq), seq % 1000), "+map[bool]string{true: "100", false: "60000"}[name == "fixed"]+") FROM d.seq_1_to_3000",
			"DELETE FROM d."+name+" WHERE id % 7 = 0")
	}
	s.Exec(t, "SET GLOBAL aria_encrypt_tables=OFF", "CREATE TABLE d.plain (id INT) ENGINE=Aria TRANSACTIONAL=1", "FLUSH TABLES")
	if err := s.Stop(); err != nil {
		t.Fatal(err)
	}
	var keys, other keyring.Keys
	if err := keys.ReadKeyFile(file, ""); err != nil {
		t.Fatal(err)
	}
	for _, k := range []*keyring.Keys{&keys, &other} {
		if err := k.SetAlgorithm(algorithm); err != nil {
			t.Fatal(err)
		}
	}
	if err := other.AddMariaDB(keyring.MariaDBKey{ID: 1, Version: 1}, bytes.Repeat([]byte{7}, 32)); err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]aria.Table{
		"d/crash_safe": {CrashSafe: true, Encrypted: true}, "d/not_safe": {Encrypted: true}, "d/fixed": {}, "d/plain": {CrashSafe: true},
		"mysql/global_priv": {CrashSafe: true, Encrypted: true},
	} {
		base := filepath.Join(s.Datadir, name)
		table, err := aria.ReadTable(openFile(t, base+".MAI"))
		if err != nil || table.CrashSafe != want.CrashSafe || table.Encrypted != want.Encrypted || table.BlockSize != 8192 {
			t.Errorf("%s: %+v, %v", name, table, err)
			continue
		}
		if content, err := os.ReadFile(base + ".MAD"); err != nil || name != "d/plain" && strings.HasPrefix(name, "d/") && bytes.Contains(content, []byte("row 1679091c5a880faf6fb5e6087eb1b2dc")) == want.Encrypted {
			t.Errorf("%s: is a row in clear? %v", name, err)
		}
		if !want.CrashSafe || !want.Encrypted {
			continue
		}
		table.Cipher = tde.OpenAria(table.Message, &keys)
		if name == "d/crash_safe" {
			verifyFile(t, base+".MAI", table.BlockSize, table.HeaderSize, table.VerifyIndex)
			verifyFile(t, base+".MAD", table.BlockSize, 0, table.VerifyData)
			continue
		}
		for path, verify := range map[string]func([]byte, int64) error{base + ".MAI": table.VerifyIndex, base + ".MAD": table.VerifyData} {
			if bad, all := badBlocks(t, path, verify); bad > 0 || all == 0 {
				t.Errorf("%s: %d of %d blocks are refused", path, bad, all)
			}
		}
		table.Cipher = tde.OpenAria(table.Message, &other)
		if bad, all := badBlocks(t, base+".MAD", table.VerifyData); bad != all-1 { // the row bitmap is not encrypted
			t.Errorf("%s: with another key %d of %d blocks are refused", name, bad, all)
		}
		table.Cipher = tde.OpenAria(table.Message, nil)
		block := make([]byte, table.BlockSize)
		if _, err := openFile(t, base+".MAD").ReadAt(block, int64(table.BlockSize)); err != nil {
			t.Fatal(err)
		}
		if err := table.VerifyData(block, 1); !keyring.IsKeyError(err) {
			t.Errorf("%s: without keys: %v", name, err)
		}
	}
}

// badBlocks counts the blocks of a file that are refused, and all that are not zero.
func badBlocks(t *testing.T, path string, verify func([]byte, int64) error) (bad, all int) {
	t.Helper()
	content, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	const size = 8192
	for no := range len(content) / size {
		all++
		if err := verify(content[no*size:][:size], int64(no)); err != nil {
			bad++
		}
	}
	return bad, all
}
