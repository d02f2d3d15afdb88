package xbstream

import (
	"bytes"
	"errors"
	"io"
	"maps"
	"slices"
	"strings"
	"testing"

	"hb/xbstream/xbtest/raw"
)

// FuzzReader reads anything, writes what it understood with the Writer and
// reads that again: the files must be the same.
func FuzzReader(f *testing.F) {
	f.Add([]byte(golden))
	f.Add([]byte(golden)[:100])
	f.Add(slices.Concat(raw.Seek("log", 4), raw.Payload(0, "log", 4, "body"), raw.Seek("log", 0), raw.Payload(0, "log", 0, "head"), raw.End("log")))
	f.Add(slices.Concat(raw.Payload(0, "a", 0, "A"), raw.End("a"), raw.Rename("a", "b"), raw.Remove("b*"), raw.End("a")))
	f.Add(slices.Concat(raw.Payload(0, "a", 0, "A"), raw.End("a"), raw.Payload(2, "a", 0, "BB"), raw.End("a")))
	f.Add(slices.Concat(raw.Sparse("a", 0, []uint32{0, 2, 3, 2, 2, 0}, "abcd"), raw.End("a")))
	f.Add(setLE32(raw.Sparse("f", 0, []uint32{4, 4}, "data"), 15, MaxSparse))
	f.Fuzz(func(t *testing.T, in []byte) {
		files, err := parse(bytes.NewReader(in), ReaderOptions{})
		if err != nil {
			return
		}
		for path := range files {
			if CheckPath(path) != nil {
				return // a name that is read but not written, such as ".x"
			}
		}
		if len(files) == 0 {
			return // all files were removed again
		}
		var out bytes.Buffer
		w := NewWriter(&out)
		for _, path := range slices.Sorted(maps.Keys(files)) {
			file, err := w.Create(path)
			if err != nil {
				t.Fatal(err)
			}
			if _, err := file.Write(files[path]); err != nil {
				t.Fatal(err)
			}
			if err := file.Close(); err != nil {
				t.Fatal(err)
			}
		}
		if err := w.Close(); err != nil {
			t.Fatal(err)
		}
		again, err := parse(&out, ReaderOptions{})
		if err != nil {
			t.Fatalf("what the Writer wrote: %v", err)
		}
		if !maps.EqualFunc(files, again, bytes.Equal) {
			t.Fatalf("read %q, wrote and read %q", files, again)
		}
	})
}

// FuzzDamage cuts the golden archive and changes a byte in it. No cut may pass
// for a whole archive. A changed byte may pass only where the format has no
// checksum, in names, flags and types: never may contents change. (A bare E
// may become a D, and an empty file then is missing: the manifest's to find.)
func FuzzDamage(f *testing.F) {
	f.Add(10, 3, byte(1))
	f.Add(len(golden)-1, 120, byte(0x20))
	f.Fuzz(func(t *testing.T, cut, at int, flip byte) {
		if cut < 0 || cut >= len(golden) || at < 0 || at >= len(golden) {
			return
		}
		if _, err := parse(strings.NewReader(golden[:cut]), ReaderOptions{}); err == nil {
			t.Fatalf("cut at %d is not noticed", cut)
		}
		in := []byte(golden)
		in[at] ^= flip
		files, err := parse(bytes.NewReader(in), ReaderOptions{})
		if err != nil {
			_, corrupt := errors.AsType[*CorruptError](err)
			if !corrupt && !errors.Is(err, io.ErrUnexpectedEOF) {
				t.Fatalf("flip at %d: error of no kind: %v", at, err)
			}
			return
		}
		var contents []string
		for _, data := range files {
			contents = append(contents, string(data))
		}
		slices.Sort(contents)
		want := []string{"", "\x00", "hello!"}
		if !slices.Equal(contents, want) && !slices.Equal(contents, want[1:]) {
			t.Fatalf("flip of %#x at %d: contents %q", flip, at, contents)
		}
	})
}
