package export_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"

	"hb/sink/export"
	"hb/source/mysqld/mysqldtest"
	"hb/xbstream/innodb/sdi"
	"hb/xbstream/keyring"
)

// make creates the database t with tables of all kinds, and returns their names.
func makeTables(t *testing.T, s *mysqldtest.Server) []string {
	t.Helper()
	s.Exec(t, "CREATE DATABASE t")
	kinds := tableKinds(s.Root)
	names := slices.Sorted(maps.Keys(kinds))
	// foreign refers to another table.
	names = append(slices.DeleteFunc(names, func(n string) bool { return n == "foreign" }), "foreign")
	for _, name := range names {
		s.Exec(t, kinds[name]...)
	}
	return names
}

// open opens a tablespace of one file.
func open(t testing.TB, name string, keys *keyring.Keys) *export.Pages {
	t.Helper()
	f, err := os.Open(name)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := f.Close(); err != nil {
			t.Error(err)
		}
	})
	st, err := f.Stat()
	if err != nil {
		t.Fatal(err)
	}
	p, err := export.Open([]export.File{{ReaderAt: f, Name: name, Size: st.Size()}}, keys)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// TestSDI: the documents of all tablespaces are those that MySQL's own ibd2sdi prints.
func TestSDI(t *testing.T) {
	s := mysqldtest.Start(t, mysqldtest.Need(t, mysqldtest.MySQL97), mysqldtest.Options{})
	makeTables(t, s)
	s.Exec(t, "CREATE TABLESPACE ts ADD DATAFILE 'ts.ibd'", "CREATE TABLE t.g1 (a INT PRIMARY KEY) TABLESPACE ts", "CREATE TABLE t.g2 (a INT PRIMARY KEY, b TEXT) TABLESPACE ts",
		"CREATE TABLE t.g3 (a INT PRIMARY KEY) TABLESPACE ts", "DROP TABLE t.g3", "CREATE TABLE t.plain (a INT) ENGINE=InnoDB")
	for range 3 { // the document is written again, and the former one is deleted
		s.Exec(t, "ALTER TABLE t.g2 COMMENT 'one'", "ALTER TABLE t.g2 ADD COLUMN (c INT), ALGORITHM=INSTANT", "ALTER TABLE t.g2 DROP COLUMN c, ALGORITHM=INSTANT")
	}
	if err := s.Stop(); err != nil {
		t.Fatal(err)
	}
	files, err := filepath.Glob(filepath.Join(s.Datadir, "t", "*.ibd"))
	if err != nil || len(files) < 40 {
		t.Fatalf("%d files, %v", len(files), err)
	}
	documents, longest := 0, 0
	for _, file := range append(files, filepath.Join(s.Datadir, "ts.ibd"), filepath.Join(s.Datadir, "mysql.ibd")) {
		got, err := sdi.Read(open(t, file, nil))
		if err != nil {
			t.Errorf("%s: %v", file, err)
			continue
		}
		if name := strings.TrimSuffix(filepath.Base(file), ".ibd"); strings.HasPrefix(name, "packed") {
			// ibd2sdi takes pages of tables with COMPRESSION for damaged ones.
			if len(got) != 2 || !strings.Contains(string(got[0].JSON), fmt.Sprintf(`"name":"%s"`, name)) || !strings.Contains(string(got[0].JSON), `"name":"b"`) {
				t.Errorf("%s: %d documents: %s", file, len(got), got[0].JSON)
			}
			continue
		}
		want := ibd2sdi(t, s, file)
		if len(got) != len(want) {
			t.Errorf("%s: %d documents, and ibd2sdi has %d", file, len(got), len(want))
			continue
		}
		for i, d := range got {
			if d.Type != want[i].Type || d.ID != want[i].ID || !sameJSON(t, d.JSON, want[i].Object) {
				t.Errorf("%s: document %d: type %d, id %d\n%s\nibd2sdi has type %d, id %d\n%s", file, i, d.Type, d.ID, d.JSON, want[i].Type, want[i].ID, want[i].Object)
			}
			documents, longest = documents+1, max(longest, len(d.JSON))
		}
	}
	t.Logf("%d documents of %d files; the longest has %d bytes", documents, len(files)+2, longest)
	if _, err := sdi.Read(open(t, filepath.Join(s.Datadir, "undo_001"), nil)); !errors.Is(err, sdi.ErrNone) {
		t.Errorf("an undo tablespace: %v", err)
	}
}

type sdiObject struct {
	Type   uint32
	ID     uint64
	Object json.RawMessage
}

// ibd2sdi returns what that program prints of a file.
func ibd2sdi(t *testing.T, s *mysqldtest.Server, file string) (list []sdiObject) {
	t.Helper()
	cmd := s.Tool("ibd2sdi", file)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("ibd2sdi %s: %v\n%s", file, err, stderr.String())
	}
	var all []json.RawMessage
	if err := json.Unmarshal(out, &all); err != nil || len(all) == 0 {
		t.Fatalf("ibd2sdi %s: %v: %.200s", file, err, out)
	}
	for _, one := range all[1:] {
		var o sdiObject
		if err := json.Unmarshal(one, &o); err != nil {
			t.Fatal(err)
		}
		list = append(list, o)
	}
	return list
}

func sameJSON(t *testing.T, a, b []byte) bool {
	t.Helper()
	var v [2]any
	for i, doc := range [][]byte{a, b} {
		d := json.NewDecoder(bytes.NewReader(doc))
		d.UseNumber()
		if err := d.Decode(&v[i]); err != nil {
			t.Errorf("not JSON: %v: %.200s", err, doc)
			return false
		}
	}
	return reflect.DeepEqual(v[0], v[1])
}
