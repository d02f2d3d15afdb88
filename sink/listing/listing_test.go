package listing

import (
	"encoding/base64"
	"encoding/json"
	"errors"
	"strings"
	"testing"

	"hb/sink/catalog"
	"hb/stream"
	"hb/xbstream/metadata"
)

// entries are those of an archive of MariaDB's own tool, in which files come, go and get
// other names.
var entries = []catalog.Entry{
	{Path: "shop/orders.ibd", Size: 3 << 20, Chunks: 3, CRC32: 0xab, HasCRC32: true},
	{Path: "ibdata1", Size: 12 << 20, Chunks: 2},
	{Path: "shop/old.ibd", Size: 1 << 20, Chunks: 1, CRC32: 1, HasCRC32: true},
	{Path: "app/orders.frm", Size: 700, Chunks: 1, CRC32: 2, HasCRC32: true},
	{Path: "shop/gone.ibd", Size: 1 << 20, Chunks: 1, CRC32: 3, HasCRC32: true},
	{Path: "app/\xff.ibd", Size: 1, Chunks: 1, CRC32: 4, HasCRC32: true},
	{Op: catalog.OpRename, Path: "shop/old.ibd", NewPath: "shop/new.ibd"},
	{Op: catalog.OpRemove, Path: "shop/gone.ibd"},
	{Op: catalog.OpRename, Path: "shop/never.ibd", NewPath: "shop/was.ibd"},
}

// list is a list of the entries.
func list(t *testing.T, o Options, s *catalog.Summary) (string, error) {
	t.Helper()
	l, err := New(o)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		if err := l.Add(e); err != nil {
			t.Fatal(err)
		}
	}
	var b strings.Builder
	err = l.Write(&b, s)
	return b.String(), err
}

// TestText: the list is sorted, has what is left in the end, in bytes or with units, and
// in the long form it has totals.
func TestText(t *testing.T) {
	got, err := list(t, Options{}, &catalog.Summary{})
	if want := "         700      1 app/orders.frm\n           1      1 app/\xff.ibd\n    12582912      2 ibdata1\n     1048576      1 shop/new.ibd\n     3145728      3 shop/orders.ibd\n"; got != want || err != nil {
		t.Errorf("%q, want %q; %v", got, want, err)
	}
	got, err = list(t, Options{Long: true}, &catalog.Summary{})
	if want := "     700 B  app/orders.frm\n       1 B  app/\xff.ibd\n  12.0 MiB  ibdata1\n  1.00 MiB  shop/new.ibd\n  3.00 MiB  shop/orders.ibd\n" +
		"  12.0 MiB       1 files  (in no database)\n     701 B       2 files  app\n  4.00 MiB       2 files  shop\n  16.0 MiB       5 files  total\n"; got != want || err != nil {
		t.Errorf("%q, want %q; %v", got, want, err)
	}
}

// TestPatterns: what a pattern is for.
func TestPatterns(t *testing.T) {
	for patterns, want := range map[string]string{
		"shop":             "shop/new.ibd shop/orders.ibd",
		"shop/":            "shop/new.ibd shop/orders.ibd",
		"shop/*":           "shop/new.ibd shop/orders.ibd",
		"orders.*":         "app/orders.frm shop/orders.ibd",
		"*/orders.ibd":     "shop/orders.ibd",
		"ibdata1 *.frm":    "app/orders.frm ibdata1",
		"[ab]*":            "app/orders.frm app/\xff.ibd",
		"shop/new.ibd/x":   "",
		"gone.ibd old.ibd": "",
		"hop":              "",
	} {
		got, err := list(t, Options{Patterns: strings.Fields(patterns)}, &catalog.Summary{})
		var names []string
		for line := range strings.Lines(got) {
			names = append(names, strings.TrimSuffix(line[20:], "\n"))
		}
		if strings.Join(names, " ") != want {
			t.Errorf("%s: %q, want %q", patterns, names, want)
		}
		if (err != nil) != (want == "") {
			t.Errorf("%s: %v", patterns, err)
		}
	}
	_, err := New(Options{Patterns: []string{"a["}})
	if _, ok := errors.AsType[*stream.UsageError](err); !ok {
		t.Errorf("an invalid pattern: %v", err)
	}
}

// TestJSON: the list as JSON has the same files, and says whether the archive is complete.
func TestJSON(t *testing.T) {
	for _, manifest := range []*metadata.Manifest{nil, {Files: 7}} {
		for patterns, files := range map[string]int{"": 5, "app": 2, "none": 0} {
			text, err := list(t, Options{JSON: true, Patterns: strings.Fields(patterns)}, &catalog.Summary{Manifest: manifest})
			var d Document
			if e := json.Unmarshal([]byte(text), &d); e != nil || (err != nil) != (files == 0) {
				t.Fatalf("%v, %v: %s", e, err, text)
			}
			if d.Version != 1 || d.Complete != (manifest != nil) || len(d.Files) != files {
				t.Errorf("%q: %+v", patterns, d)
			}
			if patterns == "" {
				checkAll(t, d)
			}
		}
	}
}

func checkAll(t *testing.T, d Document) {
	t.Helper()
	name, err := base64.StdEncoding.DecodeString(d.Files[1].PathBase64)
	if string(name) != "app/\xff.ibd" || err != nil || d.Files[1].Path != "" {
		t.Errorf("a name that is not UTF-8: %+v", d.Files[1])
	}
	if f := d.Files[4]; f.Path != "shop/orders.ibd" || f.Size != 3<<20 || f.Chunks != 3 || f.CRC32 == nil || *f.CRC32 != 0xab {
		t.Errorf("%+v", f)
	}
	if d.Files[2].CRC32 != nil {
		t.Errorf("a file with holes: %+v", d.Files[2])
	}
	if len(d.Databases) != 3 || d.Databases[2] != (Total{"shop", 2, 4 << 20}) || d.Databases[0] != (Total{"", 1, 12 << 20}) {
		t.Errorf("%+v", d.Databases)
	}
}

// TestEncryptedMarks: files of encrypted tablespaces are marked; the manifest has the names that
// they have in the end, so that those that were renamed or dropped are not.
func TestEncryptedMarks(t *testing.T) {
	l, err := New(Options{Long: true})
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"d/a.ibd", "d/b.ibd", "d/b.ren", "d/c.ibd", "d/c.del", "d/plain.ibd"} {
		if err := l.Add(catalog.Entry{Op: catalog.OpFile, Path: name}); err != nil {
			t.Fatal(err)
		}
	}
	var out strings.Builder
	m := &metadata.Manifest{Encryption: &metadata.Encryption{Tablespaces: 3, Names: []string{"d/a.ibd", "d/b.ibd", "d/c.ibd"}}}
	if err := l.Write(&out, &catalog.Summary{Manifest: m}); err != nil {
		t.Fatal(err)
	}
	if strings.Count(out.String(), "(encrypted)") != 1 || !strings.Contains(out.String(), "d/a.ibd (encrypted)\n") {
		t.Error(out.String())
	}
}
