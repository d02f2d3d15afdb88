package source_test

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"hb/source/mysqld/mysqldtest"
	"hb/xbstream"
	"hb/xbstream/aria"
	"hb/xbstream/metadata"
)

// TestManifestIdentity: the manifest names the server, and for each file of pages its
// tablespace, as the file itself does.
func TestManifestIdentity(t *testing.T) {
	mysqldtest.Each(t, append(mysqldtest.MySQL, mysqldtest.MariaDB...), func(t *testing.T, root *mysqldtest.Root) {
		s := mysqldtest.Start(t, root, mysqldtest.Options{Config: []string{"innodb-data-file-path=ibdata1:12M;ibdata2:4M:autoextend"}, Init: []string{"innodb-data-file-path=ibdata1:12M;ibdata2:4M:autoextend"}})
		s.Exec(t, "CREATE DATABASE d", "CREATE TABLE d.a (id INT) ENGINE=InnoDB", "CREATE TABLE d.b (id INT) ENGINE=InnoDB", "CREATE TABLE d.m (id INT) ENGINE=MyISAM", "INSERT INTO d.a VALUES (1)")
		s.WriteOut(t)
		unwritten := ""
		if root.MariaDB() { // page 0 is written later: only the redo log has the id
			s.Exec(t, "SET GLOBAL innodb_max_dirty_pages_pct = 99", "CREATE TABLE d.c (id INT) ENGINE=InnoDB")
			unwritten = s.Value(t, "SELECT space FROM information_schema.innodb_sys_tablespaces WHERE name = 'd/c'")
		}
		archive := filepath.Join(t.TempDir(), "archive")
		result := backup(t, s, archive)
		if want := serverIdentity(t, s); result.Manifest.Server != want || want == "" {
			t.Errorf("the manifest names the server %q, which is %q", result.Manifest.Server, want)
		}
		heads, files := readManifest(t, archive)
		if len(files) < 20 {
			t.Fatalf("%d files", len(files))
		}
		for _, f := range files {
			head := heads[f.Path]
			isPages := strings.HasSuffix(f.Path, ".ibd") || strings.HasPrefix(f.Path, "ibdata") || strings.HasPrefix(f.Path, "undo")
			switch {
			case isPages != (f.Space != nil):
				t.Errorf("%s: tablespace %v", f.Path, f.Space)
			case !isPages:
			case f.Path == "d/c.ibd" && fmt.Sprint(*f.Space) == unwritten:
			case len(head) < 38 || binary.BigEndian.Uint32(head[34:]) != uint32(*f.Space):
				t.Errorf("%s: tablespace %d by the manifest; it begins with %x", f.Path, *f.Space, head)
			}
		}
	})
}

// serverIdentity is what a server has for an identity.
func serverIdentity(t *testing.T, s *mysqldtest.Server) string {
	t.Helper()
	if !s.Root.MariaDB() {
		return s.Value(t, "SELECT @@server_uuid")
	}
	f, err := os.Open(filepath.Join(s.Datadir, "aria_log_control"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	id, err := aria.ReadUUID(f)
	if err != nil {
		t.Fatal(err)
	}
	return id
}

// readManifest returns the lines of an archive's manifest, and how each file begins.
func readManifest(t *testing.T, archive string) (heads map[string][]byte, files []metadata.File) {
	t.Helper()
	f, err := os.Open(archive)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	heads = make(map[string][]byte)
	p := metadata.NewManifestParser(nil, func(f metadata.File) error { files = append(files, f); return nil })
	r := xbstream.NewReader(f, xbstream.ReaderOptions{})
	for {
		ch, err := r.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		if ch.Path == metadata.ManifestName {
			if _, err := p.Write(ch.Data); err != nil {
				t.Fatal(err)
			}
		} else if ch.Offset == 0 && ch.Type == xbstream.Payload {
			heads[ch.Path] = append([]byte(nil), ch.Data[:min(len(ch.Data), 64)]...)
		}
	}
	if err := p.Close(); err != nil {
		t.Fatal(err)
	}
	return heads, files
}
