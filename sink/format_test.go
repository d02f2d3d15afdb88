package sink

import (
	"bytes"
	"errors"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"hb/sink/apply"
	"hb/sink/catalog"
	"hb/sink/extract"
	"hb/sink/verify"
	"hb/stream"
	"hb/xbstream"
	"hb/xbstream/metadata"
	"hb/xbstream/xbtest"
)

// TestFirstFormat: archives that hb wrote before there was an index, and seek tables
// in the zstd stage, stay readable. They lie in testdata as they were written then.
func TestFirstFormat(t *testing.T) {
	const dir = "testdata/format1/"
	ids, err := stream.ParseIdentitiesFile(dir+"key.txt", nil)
	if err != nil {
		t.Fatal(err)
	}
	plain := mustRead(t, dir+"archive.hb")
	for _, name := range []string{"archive.hb", "archive.hb.zst", "archive.hb.zst.age"} {
		open := func() io.Reader {
			r, err := stream.Open(bytes.NewReader(mustRead(t, dir+name)), stream.Options{Identities: ids})
			if err != nil {
				t.Fatalf("%s: %v", name, err)
			}
			t.Cleanup(func() { _ = r.Close() })
			return r
		}
		if got, err := io.ReadAll(open()); err != nil || !bytes.Equal(got, plain) {
			t.Fatalf("%s: %d bytes, %v", name, len(got), err)
		}
		listed := 0
		if s, err := catalog.List(t.Context(), open(), func(catalog.Entry) error { listed++; return nil }); err != nil || listed != 13 || s.Files != 13 || s.Manifest.LastLSN != 56018 {
			t.Errorf("%s: %d files listed, %+v, %v", name, listed, s, err)
		}
		if v, err := verify.Archive(t.Context(), open(), verify.Options{Replay: true}); err != nil || v.Pages != 31 || v.Recovered != 4 {
			t.Errorf("%s: verified %+v, %v", name, v, err)
		}
		target := filepath.Join(t.TempDir(), "target")
		if x, err := extract.Run(t.Context(), open(), target, extract.Options{}); err != nil || x.Files != 13 {
			t.Fatalf("%s: extracted %+v, %v", name, x, err)
		}
		if a, err := apply.Run(t.Context(), target, apply.Options{Tool: "hb test"}); err != nil || a.LSN != 56018 || a.Pages != 4 {
			t.Errorf("%s: applied %+v, %v", name, a, err)
		}
	}
}

func mustRead(t testing.TB, name string) []byte {
	t.Helper()
	b, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// TestWrongIndex: an archive whose index is not that of its chunks is refused by all
// that read it from front to back, however little is wrong.
func TestWrongIndex(t *testing.T) {
	archive := func(change func(a *xbtest.Archiver)) []byte {
		a := newArchive()
		contents := map[string][]byte{"db/a.MYD": page(3000, 2), "db/b.MYD": page(2000, 4), "db/c.frm": page(10, 6), "db/e": nil}
		a.Interleave([]string{"db/a.MYD", "db/b.MYD", "db/c.frm", "db/e"}, contents, 1000)
		change(a)
		return ended(t, a.Finish)
	}
	var index []byte
	right := archive(func(a *xbtest.Archiver) {
		a.Index = func(b []byte) []byte { index = slices.Clone(b); return b }
	})
	list := func(b []byte) error {
		_, err := catalog.List(t.Context(), bytes.NewReader(b), func(catalog.Entry) error { return nil })
		return err
	}
	if err := list(right); err != nil {
		t.Fatal(err)
	}
	wrong := map[string]func(a *xbtest.Archiver){
		"place, by the manifest": func(a *xbtest.Archiver) { a.Moved = 1 },
		"cut":                    func(a *xbtest.Archiver) { a.Index = func(b []byte) []byte { return b[:len(b)-1] } },
		"longer":                 func(a *xbtest.Archiver) { a.Index = func(b []byte) []byte { return append(slices.Clone(b), 0) } },
		"empty":                  func(a *xbtest.Archiver) { a.Index = func(b []byte) []byte { return []byte{} } },
		"the manifest's order": func(a *xbtest.Archiver) {
			a.Index = func(b []byte) []byte { slices.Reverse(a.Files[1:3]); return b }
		},
	}
	for i := range index {
		for _, bit := range []byte{1, 0x80} {
			wrong[strings.Join([]string{"byte", string(rune('a' + i)), string(rune('0' + bit%7))}, " ")] = func(a *xbtest.Archiver) {
				a.Index = func(b []byte) []byte { b = slices.Clone(b); b[i] ^= bit; return b }
			}
		}
	}
	for name, change := range wrong {
		b := archive(change)
		_, _, extracted := extractFrom(t, bytes.NewReader(b), extract.Options{})
		_, verified := verify.Archive(t.Context(), bytes.NewReader(b), verify.Options{})
		for _, err := range []error{list(b), extracted, verified} {
			damage, ok := errors.AsType[*xbstream.CorruptError](err)
			if !ok || damage.Path != metadata.IndexName {
				t.Errorf("%s: %v", name, err)
			}
		}
	}
	without := archive(func(a *xbtest.Archiver) { a.Index = func([]byte) []byte { return nil } })
	if err := list(without); err != nil {
		t.Errorf("an archive without an index: %v", err)
	}
}
