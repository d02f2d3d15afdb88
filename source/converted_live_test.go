package source_test

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"testing"

	"hb/sink/apply"
	"hb/sink/extract"
	"hb/source"
	"hb/source/mysqld/mysqldtest"
	"hb/source/mysqld/mysqldtest/client"
)

// TestConvertedWhileCopied: the server encrypts, or decrypts, all tablespaces between the first
// page that hb copies and the last one. Of enc.first the archive has page 0 and all others as
// they were before, and only the redo log tells of it; enc.second is converted after hb read its
// page 0, and written out, so that hb finds pages that do not fit it.
func TestConvertedWhileCopied(t *testing.T) {
	mysqldtest.Each(t, mysqldtest.MariaDB, func(t *testing.T, root *mysqldtest.Root) {
		for i, c := range []struct{ name, from, to, version, checksum string }{
			{"encrypted", "OFF", "ON", "1", "full_crc32"}, {"encrypted, crc32", "OFF", "ON", "1", "crc32"}, {"decrypted", "ON", "OFF", "0", "full_crc32"},
		} {
			if itsTurn(i, mysqldtest.MariaDB, root.Name) {
				t.Run(c.name, func(t *testing.T) { convertWhileCopied(t, root, c.from, c.to, c.version, c.checksum) })
			}
		}
	})
}

func convertWhileCopied(t *testing.T, root *mysqldtest.Root, from, to, version, checksum string) {
	e := &encryptedServer{algorithm: "aes_cbc", salted: true}
	lines, flags := e.keyFiles(t)
	s := mysqldtest.Start(t, root, mysqldtest.Options{Binlog: true, Init: append(lines, "innodb-encrypt-tables="+from, "innodb-checksum-algorithm="+checksum, "innodb-encryption-rotation-iops=20000")})
	tables := []string{"enc.first", "enc.second"}
	s.Exec(t, "CREATE DATABASE enc")
	for i, table := range tables { // the largest one is copied first
		s.Exec(t, "CREATE TABLE "+table+" (id INT PRIMARY KEY, v VARCHAR(1100)) ENGINE=InnoDB",
			"INSERT INTO "+table+" SELECT seq, REPEAT(SHA2(seq, 512), 8) FROM enc.seq_1_to_"+[]string{"24000", "14000"}[i])
	}
	s.WriteOut(t)
	sums := tableSums(t, s, tables)
	dir := t.TempDir()
	archive, target := filepath.Join(dir, "archive"), filepath.Join(dir, "restored")
	first, err := os.Stat(filepath.Join(s.Datadir, "enc", "first.ibd"))
	if err != nil {
		t.Fatal(err)
	}
	read := int64(0)
	srv := client.Open(t, s)
	defer srv.Close()
	f, err := os.Create(archive)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	before := int64(0)
	pace := func(_ context.Context, n int) error {
		at := first.Size() + 8<<20 // the reading of enc.first is over, that of enc.second is not
		before, read = read, read+int64(n)
		if before <= at && read > at {
			s.Exec(t, "SET GLOBAL innodb_encrypt_tables="+to, "SET GLOBAL innodb_encryption_threads=4")
			mysqldtest.Await(t, "the server converts all tables", func() bool {
				return s.Value(t, "SELECT COUNT(*) FROM information_schema.INNODB_TABLESPACES_ENCRYPTION WHERE NAME LIKE 'enc/%' AND MIN_KEY_VERSION = "+version+" AND ROTATING_OR_FLUSHING = 0") == "2"
			})
			s.WriteOut(t)
		}
		return nil
	}
	if _, err := source.Run(t.Context(), srv, f, source.Options{Parallel: 1, Tmpdir: dir, Tool: "hb", ToolVersion: "test", Pace: pace}); err != nil {
		t.Fatal(err)
	}
	if _, err := f.Seek(0, 0); err != nil {
		t.Fatal(err)
	}
	if _, err := extract.Run(t.Context(), f, target, extract.Options{}); err != nil {
		t.Fatal(err)
	}
	if was := sealedPages(t, target, "enc/first.ibd"); (was > 1000) != (from == "ON") {
		t.Errorf("%d pages of the first table were encrypted in the archive: the test proves nothing", was)
	}
	if _, err := apply.Run(t.Context(), target, apply.Options{Tool: "hb test", Keys: loadKeys(t, flags)}); err != nil {
		t.Fatal(err)
	}
	for _, table := range []string{"enc/first.ibd", "enc/second.ibd"} {
		of, err := os.Stat(filepath.Join(target, table))
		if err != nil {
			t.Fatal(err)
		}
		pages := int(of.Size() >> 14)
		if is := sealedPages(t, target, table); to == "OFF" && is > 0 || to == "ON" && is < pages/2 {
			t.Errorf("%s: %d of %d pages are encrypted", table, is, pages)
		}
	}
	copied := mysqldtest.StartOn(t, root, target, mysqldtest.Options{Config: lines})
	for _, table := range tables {
		if rows := copied.Rows(t, "CHECK TABLE "+table+" EXTENDED"); rows[len(rows)-1][3] != "OK" {
			t.Errorf("%q", rows)
		}
	}
	for i, sum := range tableSums(t, copied, tables) {
		if sum != sums[i] {
			t.Errorf("%s: checksum %s, not %s", tables[i], sum, sums[i])
		}
	}
	if err := errors.Join(copied.Stop(), s.Stop()); err != nil {
		t.Error(err)
	}
}

func tableSums(t *testing.T, s *mysqldtest.Server, tables []string) (out []string) {
	t.Helper()
	for _, table := range tables {
		out = append(out, s.Rows(t, "CHECKSUM TABLE "+table+" EXTENDED")[0][1])
	}
	return out
}

// sealedPages counts the encrypted pages of a file.
func sealedPages(t *testing.T, dir, file string) (n int) {
	t.Helper()
	for _, p := range storedPages(t, filepath.Join(dir, file)) {
		if p.sealed {
			n++
		}
	}
	return n
}
