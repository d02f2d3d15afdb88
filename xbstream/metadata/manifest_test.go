package metadata

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"
)

var testFiles = []File{
	{"hb-archive.json", 412, 0x0c5d1d3b, nil},
	{"db/t#P#p0.ibd", 98304, 0x9a3e11f0, nil},
	{"db/empty.frm", 0, 0, nil},
	{"odd/\xff\xfe", 1, 1, nil},
	{"odd/\u2028<&>\"\n", 2, 0xffffffff, nil},
}

func testManifest() Manifest {
	return Manifest{
		Version: ManifestVersion, Files: 5, Bytes: 98719, Heads: 0x1234abcd, FromLSN: 100, CheckpointLSN: 150, LastLSN: 200,
		Binlog: &BinlogPos{File: "binlog.000003", Pos: 1234, GTID: "0-1-77"},
		Start:  time.Date(2026, 11, 20, 10, 0, 0, 0, time.UTC), End: time.Date(2026, 11, 20, 10, 5, 0, 0, time.UTC),
		Locks: LockTimes{DDL: 12, Commit: 3}, Warnings: []string{"table `a` has no primary key"},
	}
}

const goldenManifest = `{"hb_manifest":1,"files":5,"bytes":98719,"heads_crc32":"1234abcd","from_lsn":100,"checkpoint_lsn":150,"last_lsn":200,"binlog":{"file":"binlog.000003","pos":1234,"gtid":"0-1-77"},"start":"2026-11-20T10:00:00Z","end":"2026-11-20T10:05:00Z","lock_ms":{"ddl":12,"commit":3},"warnings":["table ` + "`a`" + ` has no primary key"]}
{"path":"hb-archive.json","size":412,"crc32":"0c5d1d3b"}
{"path":"db/t#P#p0.ibd","size":98304,"crc32":"9a3e11f0"}
{"path":"db/empty.frm","size":0,"crc32":"00000000"}
{"path_base64":"b2RkL//+","size":1,"crc32":"00000001"}
{"path":"odd/\u2028\u003c\u0026\u003e\"\n","size":2,"crc32":"ffffffff"}
{"hb_manifest_end":1,"files":5,"crc32":"%s"}
`

func writeManifest(t testing.TB, m Manifest, files []File) []byte {
	t.Helper()
	var out bytes.Buffer
	w, err := NewManifestWriter(&out, m)
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range files {
		if err := w.Add(f); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err == nil {
		t.Error("a second Close is no error")
	}
	return out.Bytes()
}

// parseManifest feeds the text in pieces of n bytes.
func parseManifest(text []byte, n int) (*Manifest, []File, error) {
	var files []File
	p := NewManifestParser(nil, func(f File) error { files = append(files, f); return nil })
	for piece := range slices.Chunk(text, n) {
		if _, err := p.Write(piece); err != nil {
			return nil, nil, err
		}
	}
	return p.Manifest(), files, p.Close()
}

func TestManifest(t *testing.T) {
	text := writeManifest(t, testManifest(), testFiles)
	// The checksum is from Python's zlib.crc32 over the golden lines.
	if want := fmt.Sprintf(goldenManifest, "cd52c0d8"); string(text) != want {
		t.Errorf("got\n%s\nwant\n%s", text, want)
	}
	want := testManifest()
	for _, n := range []int{1, 7, 100, len(text)} {
		m, files, err := parseManifest(text, n)
		if err != nil {
			t.Fatalf("pieces of %d: %v", n, err)
		}
		if !reflect.DeepEqual(*m, want) || !slices.Equal(files, testFiles) {
			t.Errorf("pieces of %d: got %+v and %+v", n, *m, files)
		}
	}
}

func TestManifestTruncation(t *testing.T) {
	text := writeManifest(t, testManifest(), testFiles)
	for n := range len(text) {
		if _, _, err := parseManifest(text[:n], 64); !errors.Is(err, io.ErrUnexpectedEOF) {
			t.Errorf("cut at %d: %v", n, err)
		}
	}
	// Whole lines gone from the middle.
	lines := bytes.SplitAfter(text, []byte("\n"))
	for i := range lines[:len(lines)-1] {
		if _, _, err := parseManifest(slices.Concat(slices.Concat(lines[:i]...), slices.Concat(lines[i+1:]...)), 64); err == nil {
			t.Errorf("line %d is missing and that is not noticed", i+1)
		}
	}
}

func TestManifestDamage(t *testing.T) {
	text := writeManifest(t, testManifest(), testFiles)
	for i := range text {
		bad := bytes.Clone(text)
		bad[i] ^= 0x01
		m, files, err := parseManifest(bad, 4096)
		if err != nil {
			continue
		}
		// The checksum covers all but the last line.
		if want := testManifest(); !reflect.DeepEqual(*m, want) || !slices.Equal(files, testFiles) {
			t.Errorf("a changed byte at %d gives another manifest", i)
		}
	}
}

func TestManifestRefuses(t *testing.T) {
	good := string(writeManifest(t, testManifest(), testFiles))
	edit := func(old, new string) string { return strings.Replace(good, old, new, 1) }
	for name, text := range map[string]string{
		"no version":        edit(`"hb_manifest":1,`, ``),
		"LSNs":              edit(`"last_lsn":200`, `"last_lsn":120`),
		"more files listed": edit(`"files":5`, `"files":4`),
		"fewer listed":      edit(`"files":5`, `"files":6`),
		"other total":       edit(`"bytes":98719`, `"bytes":98718`),
		"no files":          edit(`"files":5`, `"files":0`),
		"file count bomb":   edit(`"files":5`, `"files":1000000000`),
		"ends before start": edit(`"end":"2026`, `"end":"2025`),
		"parent path":       edit(`db/empty.frm`, `../empty.frm`),
		"negative size":     edit(`"size":0`, `"size":-1`),
		"short crc":         edit(`"0c5d1d3b"`, `"c5d1d3b"`),
		"crc no hex":        edit(`"0c5d1d3b"`, `"0c5d1dxb"`),
		"more after end":    good + "{}\n",
		"garbage after end": good + "x",
		"not JSON":          "hello\n",
		"endless line":      strings.Repeat(" ", MaxManifestHead+1),
		"endless file line": strings.SplitAfter(good, "\n")[0] + strings.Repeat(" ", maxManifestLine+1),
	} {
		if _, _, err := parseManifest([]byte(text), 1000); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
	_, _, err := parseManifest([]byte(`{"hb_manifest":7}`+"\n"), 1000)
	if version, ok := errors.AsType[*VersionError](err); !ok || version.Got != 7 {
		t.Errorf("version 7: %v", err)
	}
}

func TestManifestCallbacks(t *testing.T) {
	text := writeManifest(t, testManifest(), testFiles)
	errStop := errors.New("enough")
	p := NewManifestParser(func(m *Manifest) error {
		if m.Files != 5 {
			t.Errorf("head with %d files", m.Files)
		}
		return nil
	}, func(f File) error {
		if f.Path == "db/empty.frm" {
			return errStop
		}
		return nil
	})
	if _, err := p.Write(text); !errors.Is(err, errStop) {
		t.Errorf("Write = %v", err)
	}
	if err := p.Close(); !errors.Is(err, errStop) {
		t.Errorf("Close = %v", err)
	}
}

func TestManifestWriterErrors(t *testing.T) {
	m := testManifest()
	w, err := NewManifestWriter(io.Discard, m)
	if err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err == nil {
		t.Error("a manifest without its files is closed")
	}
	m.LastLSN = 1
	if _, err := NewManifestWriter(io.Discard, m); err == nil {
		t.Error("LSNs out of order are written")
	}
	w, _ = NewManifestWriter(io.Discard, testManifest())
	if err := w.Add(File{Path: "/etc/passwd"}); err == nil {
		t.Error("an absolute path is listed")
	}
	errFull := errors.New("no space")
	w, _ = NewManifestWriter(failWriter{errFull}, testManifest())
	for _, f := range testFiles {
		w.Add(f)
	}
	if err := w.Close(); !errors.Is(err, errFull) {
		t.Errorf("Close = %v", err)
	}
}

// TestTracking: the field is bounded, and its LSN is one of the backup's past.
func TestTracking(t *testing.T) {
	for what, c := range map[string]struct {
		PageTracking
		ok bool
	}{
		"at the end":           {PageTracking{"68620000000000000001", 200}, true},
		"after the end":        {PageTracking{"68620000000000000001", 201}, false},
		"a run that is a tale": {PageTracking{strings.Repeat("1", maxServer+1), 120}, false},
	} {
		m := testManifest()
		m.Tracking = &c.PageTracking
		if err := m.Validate(); (err == nil) != c.ok {
			t.Errorf("%s: %v", what, err)
		}
		if !c.ok {
			continue
		}
		back, _, err := parseManifest(writeManifest(t, m, testFiles), 100)
		if err != nil || !reflect.DeepEqual(*back, m) {
			t.Errorf("%s: %+v, %v", what, back, err)
		}
	}
}

type failWriter struct{ err error }

func (w failWriter) Write([]byte) (int, error) { return 0, w.err }

func TestWarnings(t *testing.T) {
	m := testManifest()
	for range MaxWarnings + 5 {
		m.AddWarning(strings.Repeat("é", maxWarning))
	}
	m.Warnings[0] = ""
	if err := m.Validate(); err != nil {
		t.Error(err)
	}
	if s := cutText("aé\xff", 2); s != "a" {
		t.Errorf("%q", s)
	}
	text := writeManifest(t, m, testFiles)
	if _, _, err := parseManifest(text, 5000); err != nil {
		t.Errorf("with %d bytes of warnings: %v", len(text), err)
	}
}

func FuzzManifest(f *testing.F) {
	f.Add(writeManifest(f, testManifest(), testFiles), 100)
	f.Add([]byte("{\"hb_manifest\":1}\n"), 1)
	f.Fuzz(func(t *testing.T, text []byte, n int) {
		if n < 1 {
			return
		}
		m, files, err := parseManifest(text, n)
		if err != nil {
			return
		}
		out := writeManifest(t, *m, files)
		again, files2, err := parseManifest(out, 1<<20)
		if err != nil || again.LastLSN != m.LastLSN || !slices.Equal(files, files2) {
			t.Fatalf("written and read again: %v", err)
		}
	})
}
