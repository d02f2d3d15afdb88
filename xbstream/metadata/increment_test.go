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

	"hb/xbstream/innodb"
)

var (
	testBase = PointID{0: 0xab, 31: 0x01}

	testIncrementFiles = []File{
		{Path: "hb-archive.json", Size: 412, CRC32: 0x0c5d1d3b},
		{Path: "db/x.ibd.delta", Size: 49152, CRC32: 0x9a3e11f0},
	}
	testLive = []Live{
		{Path: "db/t.ibd", Size: 114688, Kind: LiveChanged, Space: spaceID(5), From: "db/old.ibd", Stored: "db/x.ibd.delta", Zero: []innodb.PageRange{{First: 3, End: 5}, {First: 6, End: 7}}, Sum: pageSum(0x0123456789abcdef)},
		{Path: "ibdata1", Size: 1 << 24, Kind: LiveChanged, Space: spaceID(0), From: "ibdata1", Stored: "ibdata1.delta"},
		{Path: "db/n.ibd", Size: 65536, Kind: LiveNew, Space: spaceID(9), Stored: "db/n.ibd.delta", Sum: pageSum(0)},
		{Path: "odd/\xff", Size: 3, Kind: LiveCopied, Stored: "odd/\xff"},
		{Path: "db/m.MYD", Size: 0, Kind: LiveKept, From: "db/l.MYD", CRC32: crc(0xab)},
	}
	testDropped = []string{"db/gone.ibd", "odd/\xfe"}
)

func spaceID(id innodb.SpaceID) *innodb.SpaceID { return &id }
func crc(c uint32) *uint32                      { return &c }
func pageSum(s innodb.PageSum) *innodb.PageSum  { return &s }

func testIncrement() Manifest {
	m := testManifest()
	m.Version, m.Files, m.Bytes, m.Server = 2, 2, 49564, "mysql 67ae1c17-ecd2-11f1-ae50-02fc00000001"
	m.Since = &Since{Base: testBase, FromLSN: 50, CheckpointLSN: 90, LastLSN: 99, Live: 5, Dropped: 2}
	return m
}

const goldenIncrement = `{"hb_manifest":2,"files":2,"bytes":49564,"heads_crc32":"1234abcd","from_lsn":100,"checkpoint_lsn":150,"last_lsn":200,"server":"mysql 67ae1c17-ecd2-11f1-ae50-02fc00000001","since":{"base":"ab00000000000000000000000000000000000000000000000000000000000001","from_lsn":50,"checkpoint_lsn":90,"last_lsn":99,"live":5,"dropped":2},"binlog":{"file":"binlog.000003","pos":1234,"gtid":"0-1-77"},"start":"2026-11-20T10:00:00Z","end":"2026-11-20T10:05:00Z","lock_ms":{"ddl":12,"commit":3},"warnings":["table ` + "`a`" + ` has no primary key"]}
{"path":"hb-archive.json","size":412,"crc32":"0c5d1d3b"}
{"path":"db/x.ibd.delta","size":49152,"crc32":"9a3e11f0"}
{"live":"db/t.ibd","size":114688,"kind":"changed","space":5,"from":"db/old.ibd","stored":"db/x.ibd.delta","zero":[[3,2],[6,1]],"pages_sum":"0123456789abcdef"}
{"live":"ibdata1","size":16777216,"kind":"changed","space":0}
{"live":"db/n.ibd","size":65536,"kind":"new","space":9,"pages_sum":"0000000000000000"}
{"live":{"base64":"b2RkL/8="},"size":3,"kind":"copied"}
{"live":"db/m.MYD","size":0,"kind":"kept","from":"db/l.MYD","crc32":"000000ab"}
{"dropped":"db/gone.ibd"}
{"dropped":{"base64":"b2RkL/4="}}
{"hb_manifest_end":2,"files":2,"crc32":"%s"}
`

func writeIncrement(t testing.TB, m Manifest, files []File, live []Live, dropped []string) []byte {
	t.Helper()
	var out bytes.Buffer
	w, err := NewManifestWriter(&out, m)
	for _, f := range files {
		err = errors.Join(err, w.Add(f))
	}
	for _, l := range live {
		err = errors.Join(err, w.AddLive(l))
	}
	for _, d := range dropped {
		err = errors.Join(err, w.AddDropped(d))
	}
	if err = errors.Join(err, w.Close()); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

// parsedIncrement is all that a manifest says.
type parsedIncrement struct {
	head    Manifest
	files   []File
	live    []Live
	dropped []string
}

func parseIncrement(text []byte, n int) (got parsedIncrement, err error) {
	p := NewManifestParser(nil, func(f File) error { got.files = append(got.files, f); return nil })
	p.Live = func(l Live) error { got.live = append(got.live, l); return nil }
	p.Dropped = func(path string) error { got.dropped = append(got.dropped, path); return nil }
	for piece := range slices.Chunk(text, n) {
		if _, err := p.Write(piece); err != nil {
			return got, err
		}
	}
	if p.Manifest() != nil {
		got.head = *p.Manifest()
	}
	return got, p.Close()
}

func TestIncrement(t *testing.T) {
	text := writeIncrement(t, testIncrement(), testIncrementFiles, testLive, testDropped)
	// The checksum is from Python's zlib.crc32 over the golden lines.
	if want := fmt.Sprintf(goldenIncrement, "5d624c40"); string(text) != want {
		t.Errorf("got\n%s\nwant\n%s", text, want)
	}
	want := parsedIncrement{testIncrement(), testIncrementFiles, testLive, testDropped}
	for _, n := range []int{1, 7, 100, len(text)} {
		if got, err := parseIncrement(text, n); err != nil || !reflect.DeepEqual(got, want) {
			t.Errorf("pieces of %d: got %+v, %v", n, got, err)
		}
	}
	for n := range len(text) {
		if _, err := parseIncrement(text[:n], 64); !errors.Is(err, io.ErrUnexpectedEOF) {
			t.Errorf("cut at %d: %v", n, err)
		}
	}
	lines := bytes.SplitAfter(text, []byte("\n"))
	for i := range lines[:len(lines)-1] {
		if _, err := parseIncrement(slices.Concat(slices.Concat(lines[:i]...), slices.Concat(lines[i+1:]...)), 64); err == nil {
			t.Errorf("line %d is missing and that is not noticed", i+1)
		}
	}
}

// TestLongestLive: the longest line that can be written can be read.
func TestLongestLive(t *testing.T) {
	long := strings.Repeat("\x01", 500)
	l := Live{Path: long + "a", Size: 1 << 42, Kind: LiveChanged, Space: spaceID(5), From: long + "b", Stored: long + "c", Sum: pageSum(1)}
	for i := range innodb.PageNo(MaxZeroRanges) {
		first := 4000000000 + 2*i
		l.Zero = append(l.Zero, innodb.PageRange{First: first, End: first + 1})
	}
	m := testIncrement()
	m.Since.Live, m.Since.Dropped = 1, 0
	text := writeIncrement(t, m, testIncrementFiles, []Live{l}, nil)
	if got, err := parseIncrement(text, 1000); err != nil || !reflect.DeepEqual(got.live, []Live{l}) {
		t.Error(err)
	}
}

// TestIncrementRefuses: lines in a wrong order, in a wrong manifest, or impossible.
func TestIncrementRefuses(t *testing.T) {
	full, since := testManifest(), testIncrement()
	full.Files, full.Bytes = 2, 49564
	live := Live{Path: "db/m.MYD", Size: 1, Kind: LiveCopied, Stored: "db/m.MYD"}
	for name, write := range map[string]func(w, ofFull *ManifestWriter) error{
		"live line of a full backup":    func(_, w *ManifestWriter) error { return w.AddLive(live) },
		"dropped line of a full backup": func(_, w *ManifestWriter) error { return w.AddDropped("a") },
		"live after dropped":            func(w, _ *ManifestWriter) error { return errors.Join(w.AddDropped("a"), w.AddLive(live)) },
		"file after live": func(w, _ *ManifestWriter) error {
			return errors.Join(w.AddLive(live), w.Add(testIncrementFiles[0]))
		},
		"no live line": func(w, _ *ManifestWriter) error {
			return errors.Join(w.Add(testIncrementFiles[0]), w.Add(testIncrementFiles[1]), w.Close())
		},
		"path that leaves": func(w, _ *ManifestWriter) error { return w.AddDropped("../a") },
	} {
		a, err := NewManifestWriter(io.Discard, since)
		b, err2 := NewManifestWriter(io.Discard, full)
		if err = errors.Join(err, err2); err != nil {
			t.Fatal(err)
		}
		if write(a, b) == nil {
			t.Errorf("%s is written", name)
		}
	}
	for name, change := range map[string]func(l *Live){
		"kind":                   func(l *Live) { l.Kind = "moved" },
		"size":                   func(l *Live) { l.Size = -1 },
		"kept with content":      func(l *Live) { l.Kind = LiveKept },
		"no base":                func(l *Live) { l.From = "" },
		"no content":             func(l *Live) { l.Stored = "" },
		"no tablespace":          func(l *Live) { l.Space = nil },
		"copied with base":       func(l *Live) { l.Kind, l.Zero = LiveCopied, nil },
		"new with zero pages":    func(l *Live) { l.Kind, l.From = LiveNew, "" },
		"zero pages overlap":     func(l *Live) { l.Zero = []innodb.PageRange{{First: 1, End: 3}, {First: 2, End: 4}} },
		"zero pages of nothing":  func(l *Live) { l.Zero = []innodb.PageRange{{First: 1, End: 1}} },
		"zero pages past length": func(l *Live) { l.Zero = []innodb.PageRange{{First: 1, End: 113}} },
	} {
		l := testLive[0]
		change(&l)
		if l.Validate() == nil {
			t.Errorf("%s: valid", name)
		}
	}
	for name, change := range map[string]func(m *Manifest){
		"base LSNs":        func(m *Manifest) { m.Since.FromLSN = 91 },
		"starts too early": func(m *Manifest) { m.Since.CheckpointLSN, m.Since.LastLSN = 101, 101 },
		"ends too early":   func(m *Manifest) { m.Since.LastLSN = 201 },
		"no live file":     func(m *Manifest) { m.Since.Live = 0 },
		"stands for one":   func(m *Manifest) { m.StandsFor = &testBase },
		"version 1":        func(m *Manifest) { m.Version = 1 },
		"full, version 2":  func(m *Manifest) { m.Since = nil },
	} {
		m := testIncrement()
		change(&m)
		if m.Validate() == nil {
			t.Errorf("%s: valid", name)
		}
	}
	if _, err := unmarshalLive([]byte(`{"live":"a","size":9999999,"kind":"changed","space":1,"zero":[[4294967295,2]]}`)); err == nil {
		t.Error("zero pages past the last page number")
	}
}

// TestPointID: the id is SHA-256 over both files (computed here by sha256sum of
// "ab\ncd\n"), and a merged archive has the id of what it stands for.
func TestPointID(t *testing.T) {
	h := NewPointHash([]byte("ab\n"))
	io.WriteString(h, "cd\n")
	id := h.Sum()
	if id.String() != "5141648ccbe924f6462cfc7085ccd21779b89d8cee1438281bf1b4cd8d63ac2a" {
		t.Errorf("got %s", id)
	}
	var again PointID
	if err := again.UnmarshalText([]byte(id.String())); err != nil || again != id {
		t.Errorf("%s comes back as %s, %v", id, again, err)
	}
	m := testManifest()
	if m.Point(id) != id {
		t.Error("a full backup has another id than its own")
	}
	if m.StandsFor = &testBase; m.Point(id) != testBase {
		t.Error("a merged archive has its own id")
	}
}

func FuzzIncrement(f *testing.F) {
	f.Add(writeIncrement(f, testIncrement(), testIncrementFiles, testLive, testDropped), 100)
	f.Fuzz(func(t *testing.T, text []byte, n int) {
		if n < 1 {
			return
		}
		got, err := parseIncrement(text, n)
		if err != nil {
			return
		}
		out := writeIncrement(t, got.head, got.files, got.live, got.dropped)
		again, err := parseIncrement(out, 1<<20)
		if err != nil || !reflect.DeepEqual(again.live, got.live) || !slices.Equal(again.dropped, got.dropped) {
			t.Fatalf("written and read again: %v", err)
		}
	})
}
