package delta_test

import (
	"bytes"
	"compress/gzip"
	"flag"
	"os"
	"path/filepath"
	"testing"

	"hb/source/mysqld/mysqldtest"
	"hb/xbstream/innodb/delta"
)

var update = flag.Bool("update", false, "write the golden files")

// TestPeerWrites: of every file of an incremental backup by mariadb-backup, the pages that
// hb reads are those of the server's file, and hb writes them as the peer did, to the byte.
func TestPeerWrites(t *testing.T) {
	mysqldtest.Each(t, mysqldtest.MariaDB, func(t *testing.T, root *mysqldtest.Root) {
		s := mysqldtest.Start(t, root, mysqldtest.Options{})
		// Changed: a few pages; more pages of 1 KiB than a cluster has; none.
		s.Exec(t, "CREATE DATABASE d",
			"CREATE TABLE d.few (id INT PRIMARY KEY, v VARCHAR(500)) ENGINE=InnoDB",
			"CREATE TABLE d.zip (id INT PRIMARY KEY, v CHAR(120)) ENGINE=InnoDB ROW_FORMAT=COMPRESSED KEY_BLOCK_SIZE=1",
			"CREATE TABLE d.none (id INT PRIMARY KEY) ENGINE=InnoDB",
			"INSERT INTO d.few SELECT seq, REPEAT('few', 100) FROM d.seq_1_to_2000")
		dir := t.TempDir()
		full, inc := filepath.Join(dir, "full"), filepath.Join(dir, "inc")
		s.WriteOut(t)
		backup(t, s, "--target-dir="+full)
		s.Exec(t, "UPDATE d.few SET v = REPEAT('new', 100) WHERE id % 500 = 0",
			"INSERT INTO d.zip SELECT seq, 'zip' FROM d.seq_1_to_16000")
		s.WriteOut(t)
		backup(t, s, "--target-dir="+inc, "--incremental-basedir="+full)
		names, err := filepath.Glob(inc + "/*/*.delta")
		if err != nil {
			t.Fatal(err)
		}
		tops, err := filepath.Glob(inc + "/*.delta")
		if err != nil {
			t.Fatal(err)
		}
		changed := make(map[string]int)
		for _, name := range append(names, tops...) {
			base := name[:len(name)-len(delta.Ext)]
			meta, content := read(t, base+delta.ExtMeta), read(t, name)
			m := same(t, name, meta, content)
			live := read(t, s.Datadir+base[len(inc):])
			for no, page := range pagesOf(t, m.PageSize, content) {
				// Undo logs and the system tablespace go on changing.
				if filepath.Dir(name) == inc+"/d" && !bytes.Equal(page, live[int(no)*m.PageSize:][:m.PageSize]) {
					t.Errorf("%s: page %d is not that of the server's file", name, no)
				}
			}
			changed[base[len(inc):]] = len(pagesOf(t, m.PageSize, content))
			if *update && filepath.Dir(name) == inc+"/d" && (root.Name == mysqldtest.MariaDB1011 || filepath.Base(name) != "zip.ibd.delta") {
				golden(t, root.Name+"-"+filepath.Base(base)+delta.ExtMeta, meta)
				golden(t, root.Name+"-"+filepath.Base(name), content)
			}
		}
		t.Log(changed)
		if few := changed["/d/few.ibd"]; few < 4 || few > 30 || changed["/d/none.ibd"] != 0 || changed["/d/zip.ibd"] <= delta.Capacity(1024) {
			t.Errorf("pages: %v", changed)
		}
	})
}

func backup(t *testing.T, s *mysqldtest.Server, args ...string) {
	t.Helper()
	out, err := s.Tool("mariadb-backup", append([]string{"--defaults-file=" + s.DefaultsFile, "--backup"}, args...)...).CombinedOutput()
	if err != nil {
		t.Fatalf("mariadb-backup: %v\n%s", err, out[max(0, len(out)-4000):])
	}
}

func read(t *testing.T, name string) []byte {
	t.Helper()
	b, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func golden(t *testing.T, name string, content []byte) {
	t.Helper()
	var b bytes.Buffer
	w, err := gzip.NewWriterLevel(&b, gzip.BestCompression)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := w.Write(content); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join("testdata", name+".gz"), b.Bytes(), 0o644); err != nil {
		t.Fatal(err)
	}
}
