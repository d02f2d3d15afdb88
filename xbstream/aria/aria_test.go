package aria_test

import (
	"os"
	"path/filepath"
	"testing"

	"hb/source/mysqld/mysqldtest"
	"hb/xbstream/aria"
)

// TestRealTables verifies every block of tables that real servers wrote, and
// that a changed bit is noticed.
func TestRealTables(t *testing.T) {
	mysqldtest.Each(t, mysqldtest.MariaDB, func(t *testing.T, root *mysqldtest.Root) {
		s := mysqldtest.Start(t, root, mysqldtest.Options{})
		s.Exec(t, "CREATE DATABASE d")
		safe := map[string]bool{"crash_safe": true, "not_safe": false}
		for name, is := range safe {
			options := "TRANSACTIONAL=0"
			if is {
				options = "TRANSACTIONAL=1"
			}
			s.Exec(t, "CREATE TABLE d."+name+" (id INT PRIMARY KEY, v VARCHAR(200), b BLOB, KEY (v(50))) ENGINE=Aria "+options,
				"INSERT INTO d."+name+" SELECT seq, MD5(seq), REPEAT(MD5(seq), seq % 500) FROM d.seq_1_to_2000",
				"DELETE FROM d."+name+" WHERE id % 7 = 0")
		}
		s.Exec(t, "FLUSH TABLES")
		if err := s.Stop(); err != nil {
			t.Fatal(err)
		}
		for name, is := range safe {
			base := filepath.Join(s.Datadir, "d", name)
			mai, err := os.Open(base + ".MAI")
			if err != nil {
				t.Fatal(err)
			}
			defer mai.Close()
			table, err := aria.ReadTable(mai)
			if err != nil || table.CrashSafe != is || table.BlockSize != 8192 {
				t.Errorf("%s: %+v, %v", name, table, err)
			}
			if !is {
				continue
			}
			verifyFile(t, base+".MAI", table.BlockSize, table.HeaderSize, table.VerifyIndex)
			verifyFile(t, base+".MAD", table.BlockSize, 0, table.VerifyData)
		}
		if _, err := aria.ReadTable(openFile(t, filepath.Join(s.Datadir, "aria_log_control"))); err == nil {
			t.Error("the control file passes for a table")
		}
	})
}

func openFile(t *testing.T, path string) *os.File {
	t.Helper()
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	return f
}

// verifyFile verifies all blocks of a file, and each once more with one bit
// changed, where blocks have checksums.
func verifyFile(t *testing.T, path string, size int, header int64, verify func([]byte, int64) error) {
	t.Helper()
	content, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	blocks, noticed := len(content)/size, 0
	for no := range blocks {
		block := content[no*size:][:size]
		if err := verify(block, int64(no)); err != nil {
			t.Errorf("%s: %v", path, err)
		}
		block[7] ^= 4
		if verify(block, int64(no)) != nil {
			noticed++
		}
	}
	if blocks < 5 || noticed < blocks-int(header)/size {
		t.Errorf("%s: a changed bit was noticed in %d of %d blocks", path, noticed, blocks)
	}
}
