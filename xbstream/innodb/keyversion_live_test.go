package innodb_test

import (
	"encoding/binary"
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"hb/source/mysqld/mysqldtest"
	"hb/xbstream/innodb"
)

// TestKeyVersionAsServer: of a page that claims to be encrypted, hb thinks what the
// server thinks.
func TestKeyVersionAsServer(t *testing.T) {
	mysqldtest.Each(t, mysqldtest.MariaDB, func(t *testing.T, root *mysqldtest.Root) {
		for _, algorithm := range []string{"crc32", "full_crc32"} {
			s := mysqldtest.Start(t, root, mysqldtest.Options{Init: []string{"innodb-checksum-algorithm=" + algorithm}})
			s.Exec(t, "CREATE DATABASE d")
			const page = 5
			tables := map[string]string{"plain": "", "declared": "ENCRYPTED=NO", "zip": "ROW_FORMAT=COMPRESSED KEY_BLOCK_SIZE=8 ENCRYPTED=NO"}
			for name, options := range tables {
				s.Exec(t, "CREATE TABLE d."+name+" (id INT PRIMARY KEY, v VARCHAR(500)) ENGINE=InnoDB "+options,
					"INSERT INTO d."+name+" SELECT seq, SHA2(seq, 512) FROM d.seq_1_to_2000")
			}
			if err := s.Stop(); err != nil {
				t.Fatal(err)
			}
			bad := make(map[string]error)
			for name := range tables {
				path := filepath.Join(s.Datadir, "d", name+".ibd")
				b, err := os.ReadFile(path)
				if err != nil {
					t.Fatal(err)
				}
				space, err := innodb.ParseSpace(b)
				if err != nil {
					t.Fatal(err)
				}
				image := b[page*space.Physical:][:space.Physical]
				if space.FullCRC32 {
					binary.BigEndian.PutUint32(image, 1)
					space.Stamp(image, innodb.ChecksumUnset)
				} else {
					binary.BigEndian.PutUint32(image[innodb.OffsetFlushLSN:], 1) // no checksum covers it
				}
				if err := os.WriteFile(path, b, 0o644); err != nil {
					t.Fatal(err)
				}
				_, bad[name] = space.Verify(image, page)
			}
			s = mysqldtest.StartOn(t, root, s.Datadir, mysqldtest.Options{Config: []string{"innodb-checksum-algorithm=" + algorithm, "innodb-buffer-pool-load-at-startup=OFF"}})
			for name := range tables {
				_, err := s.DB().ExecContext(t.Context(), fmt.Sprintf("SELECT SUM(LENGTH(v)) FROM d.%s FORCE INDEX (PRIMARY)", name))
				t.Logf("%s, %s: the server says %v, hb %v", algorithm, name, err, bad[name])
				if (err == nil) != (bad[name] == nil) {
					t.Errorf("%s, %s: the server says %v, hb %v", algorithm, name, err, bad[name])
				}
			}
		}
	})
}
