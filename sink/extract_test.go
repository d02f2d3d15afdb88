package sink

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/iotest"
	"time"

	"golang.org/x/sys/unix"

	"hb/sink/backupdir"
	"hb/sink/catalog"
	"hb/sink/extract"
	"hb/source/mysqld/mysqldtest"
	"hb/stream/disk/disktest"
	"hb/xbstream"
	"hb/xbstream/metadata"
	"hb/xbstream/xbtest"
	"hb/xbstream/xbtest/raw"
)

func extractFrom(t testing.TB, in io.Reader, opts extract.Options) (string, *extract.Result, error) {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "target")
	result, err := extract.Run(t.Context(), in, dir, opts)
	marked, markErr := backupdir.IsMarked(dir)
	if markErr != nil {
		t.Fatal(markErr)
	}
	if _, statErr := os.Stat(dir); statErr == nil && marked != (err != nil) {
		t.Errorf("marked: %v after the error %v", marked, err)
	}
	if (result == nil) != (err != nil) {
		t.Errorf("result %v with the error %v", result, err)
	}
	return dir, result, err
}

// page returns n bytes that are no zeros.
func page(n int, seed byte) []byte {
	return bytes.Repeat([]byte{seed | 1, 0, seed, 0xff}, (n+3)/4)[:n]
}

// testContents is a data directory in small, with empty pages in it.
func testContents() map[string][]byte {
	zeros := make([]byte, 16<<10)
	return map[string][]byte{
		"ibdata1":                bytes.Join([][]byte{page(16<<10, 2), zeros, zeros, page(16<<10, 4), zeros}, nil),
		"ib_logfile0":            page(300_000, 6),
		"db/t1.ibd":              bytes.Join([][]byte{zeros, zeros, page(3<<20, 8), bytes.Repeat(zeros, 64)}, nil),
		"db/t1.frm":              page(977, 10),
		"db/empty.MYD":           nil,
		"db/sub/t#P#p0.ibd":      bytes.Repeat(zeros, 6),
		"mysql/small.ibd":        zeros[:5000],
		"xtrabackup_checkpoints": []byte("backup_type = full-backuped\n"),
	}
}

func ownArchive(t testing.TB, contents map[string][]byte, chunk int) []byte {
	t.Helper()
	a := newArchive()
	a.Interleave(slices.Sorted(maps.Keys(contents)), contents, chunk)
	return ended(t, a.Finish)
}

func checkTree(t testing.TB, dir string, contents map[string][]byte) {
	t.Helper()
	got := disktest.ReadTree(t, dir)
	delete(got, metadata.ArchiveName)
	delete(got, metadata.IndexName)
	delete(got, metadata.ManifestName)
	for path, data := range contents {
		if s, ok := got[path]; !ok || s != string(data) {
			t.Errorf("%s: %d bytes on disk (there: %v), want %d", path, len(s), ok, len(data))
		}
		delete(got, path)
	}
	for path := range got {
		t.Errorf("%s is too many", path)
	}
}

func TestExtract(t *testing.T) {
	contents := testContents()
	for _, chunk := range []int{1000, 16 << 10, 100_000, 1 << 20, 10 << 20} {
		for _, parallel := range []int{1, 3, 100} {
			in := ownArchive(t, contents, chunk)
			dir, result, err := extractFrom(t, bytes.NewReader(in), extract.Options{Parallel: parallel})
			if err != nil {
				t.Fatalf("chunks of %d, %d writers: %v", chunk, parallel, err)
			}
			checkTree(t, dir, contents)
			if result.Foreign || len(result.Warnings) > 0 || result.Archive == nil || result.Manifest == nil {
				t.Fatalf("result %+v", result)
			}
			if result.Files != int64(len(contents))+3 || result.Manifest.LastLSN != 200 || result.Archive.PageSize != 16384 {
				t.Errorf("result %+v", result)
			}
			if chunk >= 16<<10 && result.Written >= result.Bytes {
				t.Errorf("%d bytes written of %d: no holes", result.Written, result.Bytes)
			}
		}
	}
}

func TestExtractSlowReader(t *testing.T) {
	contents := map[string][]byte{"a": page(1000, 1), "d/b": page(70_000, 3)}
	in := ownArchive(t, contents, 5000)
	dir, _, err := extractFrom(t, iotest.OneByteReader(bytes.NewReader(in)), extract.Options{})
	if err != nil {
		t.Fatal(err)
	}
	checkTree(t, dir, contents)
}

func TestExtractModesAndHoles(t *testing.T) {
	defer unix.Umask(unix.Umask(0))
	zeros := make([]byte, 8<<20)
	for _, umask := range []int{0o077, 0} {
		unix.Umask(umask)
		extractModesAndHoles(t, zeros, os.FileMode(umask))
	}
}

func extractModesAndHoles(t *testing.T, zeros []byte, umask os.FileMode) {
	dir, _, err := extractFrom(t, bytes.NewReader(ownArchive(t, map[string][]byte{"db/t.ibd": zeros}, 1<<20)), extract.Options{})
	if err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]os.FileMode{".": 0o750 | os.ModeDir, "db": 0o750 | os.ModeDir, "db/t.ibd": 0o640, metadata.ManifestName: 0o640} {
		info, err := os.Stat(filepath.Join(dir, name))
		if err != nil || info.Mode() != want&^umask {
			t.Errorf("%s: %v, %v, want %v", name, info.Mode(), err, want&^umask)
		}
	}
	var stat unix.Stat_t
	if err := unix.Stat(filepath.Join(dir, "db/t.ibd"), &stat); err != nil || stat.Size != 8<<20 || stat.Blocks > 16 {
		t.Errorf("8 MiB of zeros: size %d, %d blocks of 512 bytes, %v", stat.Size, stat.Blocks, err)
	}
}

// TestExtractTruncation cuts an archive of hb's at many places and between
// all chunks. None may pass, and hb must know that it is incomplete.
func TestExtractTruncation(t *testing.T) {
	in := ownArchive(t, map[string][]byte{"a": page(3000, 2), "d/b": page(2000, 4), "c": nil}, 1000)
	var at []int
	for i := 0; i < len(in); i += 97 {
		at = append(at, i)
	}
	for i := 0; ; {
		n := bytes.Index(in[i+1:], []byte("XBSTCK01"))
		if n < 0 {
			break
		}
		i += 1 + n
		at = append(at, i-1, i, i+1)
	}
	header := bytes.Index(in[1:], []byte("XBSTCK01")) // the end of its first chunk
	for _, n := range append(at, len(in)-1) {
		_, _, err := extractFrom(t, bytes.NewReader(in[:n]), extract.Options{})
		if !errors.Is(err, io.ErrUnexpectedEOF) {
			t.Errorf("cut at %d of %d: %v", n, len(in), err)
		}
		if _, ok := errors.AsType[*catalog.IncompleteError](err); n > header && !ok {
			t.Errorf("cut at %d of %d: no IncompleteError: %v", n, len(in), err)
		}
		if _, err := catalog.List(t.Context(), bytes.NewReader(in[:n]), func(catalog.Entry) error { return nil }); !errors.Is(err, io.ErrUnexpectedEOF) {
			t.Errorf("List, cut at %d of %d: %v", n, len(in), err)
		}
	}
}

func TestExtractNoManifest(t *testing.T) {
	a := newArchive()
	a.Put("a", []byte("data"))
	_, _, err := extractFrom(t, bytes.NewReader(ended(t, a.Close)), extract.Options{})
	incomplete, ok := errors.AsType[*catalog.IncompleteError](err)
	if !ok || incomplete.Files != 2 {
		t.Errorf("%v", err)
	}
}

// TestExtractManifest gives archives whose manifest does not fit.
func TestExtractManifest(t *testing.T) {
	data := []byte("data")
	edit := func(fn func([]metadata.File) []metadata.File) func(*xbtest.Archiver) []byte {
		return func(a *xbtest.Archiver) []byte {
			a.Put("a", data)
			a.Put("b", data)
			a.List(fn(a.Files))
			return ended(t, a.Close)
		}
	}
	for name, tt := range map[string]struct {
		build func(*xbtest.Archiver) []byte
		want  string
	}{
		"wrong size":     {edit(func(f []metadata.File) []metadata.File { f[1].Size++; return f }), "size in the manifest: want 5, got 4"},
		"wrong checksum": {edit(func(f []metadata.File) []metadata.File { f[2].CRC32 = 1; return f }), "checksum in the manifest: want 00000001, got adf3f363"},
		"extra file":     {edit(func(f []metadata.File) []metadata.File { return f[:2] }), `file "b": it is in the archive, but not in the manifest`},
		"missing file":   {edit(func(f []metadata.File) []metadata.File { return append(f, metadata.File{Path: "c"}) }), `file "c": it is in the manifest, but not in the archive`},
		"listed twice":   {edit(func(f []metadata.File) []metadata.File { return append(f, f[1]) }), "not in the archive"},
		"lists itself": {edit(func(f []metadata.File) []metadata.File {
			return append(f, metadata.File{Path: metadata.ManifestName})
		}), "not in the archive"},
		"header not listed": {edit(func(f []metadata.File) []metadata.File { return f[1:] }), "not in the manifest"},
		"file after it": {func(a *xbtest.Archiver) []byte {
			a.List(a.Files)
			a.Put("late", data)
			return ended(t, a.Close)
		}, "after the manifest"},
		"file open before it": {func(a *xbtest.Archiver) []byte {
			f := a.Create("open")
			a.Write(f, data)
			a.List(a.Files)
			a.End(f)
			return ended(t, a.Close)
		}, "before the end of"},
		"empty manifest": {func(a *xbtest.Archiver) []byte { a.Put(metadata.ManifestName, nil); return ended(t, a.Close) }, "empty"},
		"cut manifest": {func(a *xbtest.Archiver) []byte {
			a.Put(metadata.ManifestName, []byte(`{"hb_manifest":1,`))
			return ended(t, a.Close)
		}, "cut"},
		"manifest is no JSON": {func(a *xbtest.Archiver) []byte {
			a.Put(metadata.ManifestName, []byte("hello\n"))
			return ended(t, a.Close)
		}, metadata.ManifestName},
		"header twice": {func(a *xbtest.Archiver) []byte {
			return slices.Concat(a.Out.Bytes(), raw.File(metadata.ArchiveName, "x"))
		}, "twice"},
		"header unfinished": {func(a *xbtest.Archiver) []byte {
			head, _ := xbtest.Header(16<<10, 100).Marshal()
			return slices.Concat(raw.Payload(0, metadata.ArchiveName, 0, string(head)), raw.File("a", "x"), raw.End(metadata.ArchiveName))
		}, "before the end of " + metadata.ArchiveName},
		"header of a later version": {func(a *xbtest.Archiver) []byte {
			return raw.File(metadata.ArchiveName, `{"hb_archive":99}`)
		}, "newer hb"},
		"header too long": {func(a *xbtest.Archiver) []byte {
			return raw.File(metadata.ArchiveName, strings.Repeat(" ", metadata.MaxArchiveSize+1))
		}, "more than"},
		"header not first":   {func(a *xbtest.Archiver) []byte { return slices.Concat(raw.File("a", "x"), a.Out.Bytes()) }, "the beginning is missing"},
		"manifest alone":     {func(a *xbtest.Archiver) []byte { return raw.File(metadata.ManifestName, "x") }, "the beginning is missing"},
		"sparse in hb's own": {func(a *xbtest.Archiver) []byte { return slices.Concat(a.Out.Bytes(), raw.Sparse("a", 0, nil, "")) }, "in an archive of hb's"},
		"remove in hb's own": {func(a *xbtest.Archiver) []byte { return slices.Concat(a.Out.Bytes(), raw.Remove("a")) }, "in an archive of hb's"},
		"flags in hb's own":  {func(a *xbtest.Archiver) []byte { return slices.Concat(a.Out.Bytes(), raw.Payload(1, "a", 0, "x")) }, "in an archive of hb's"},
	} {
		t.Run(name, func(t *testing.T) {
			in := tt.build(newArchive())
			_, _, err := extractFrom(t, bytes.NewReader(in), extract.Options{})
			if err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("error %v, want one with %q", err, tt.want)
			}
			_, listErr := catalog.List(t.Context(), bytes.NewReader(in), func(catalog.Entry) error { return nil })
			if listErr == nil || listErr.Error() != err.Error() {
				t.Errorf("List says %v, Extract %v", listErr, err)
			}
		})
	}
}

func TestExtractForeign(t *testing.T) {
	zeros := strings.Repeat("\x00", 16<<10)
	for name, tt := range map[string]struct {
		in   []byte
		want map[string]string
	}{
		"plain": {slices.Concat(raw.File("ibdata1", "data"), raw.End("db/empty")), map[string]string{"ibdata1": "data", "db/empty": ""}},
		"seek back": {slices.Concat(
			raw.Seek("log", 4), raw.Payload(0, "log", 4, "body"), raw.Seek("log", 0), raw.Payload(0, "log", 0, "head"), raw.End("log")),
			map[string]string{"log": "headbody"}},
		"seek back with zeros": {slices.Concat(
			raw.Payload(0, "log", 0, strings.Repeat("x", 32<<10)), raw.Seek("log", 0), raw.Payload(0, "log", 0, zeros), raw.End("log")),
			map[string]string{"log": zeros + strings.Repeat("x", 16<<10)}},
		"seek beyond the end": {slices.Concat(raw.Seek("log", 5), raw.Payload(0, "log", 5, "x"), raw.Seek("log", 9), raw.End("log")),
			map[string]string{"log": "\x00\x00\x00\x00\x00x"}},
		"rename swap": {slices.Concat(
			raw.File("d/a", "A"), raw.File("d/b", "B"), raw.Rename("d/a", "tmp"), raw.Rename("d/b", "d/a"), raw.Rename("tmp", "e/b")),
			map[string]string{"d/a": "B", "e/b": "A"}},
		"rename over":      {slices.Concat(raw.File("a", "A"), raw.File("b", "B"), raw.Rename("a", "b")), map[string]string{"b": "A"}},
		"rename to itself": {slices.Concat(raw.File("a", "A"), raw.Rename("a", "a")), map[string]string{"a": "A"}},
		"remove and again": {slices.Concat(raw.File("a", "A"), raw.Remove("a"), raw.Remove("a"), raw.File("a", "B")), map[string]string{"a": "B"}},
		"remove by pattern": {slices.Concat(raw.File("d/t#P#p0.MYD", "0"), raw.File("d/t#P#p1.MYD", "1"), raw.File("d/t.frm", "f"), raw.Remove("d/t#P#*")),
			map[string]string{"d/t.frm": "f"}},
		"rewrite shorter": {slices.Concat(raw.File("a", "first version"), raw.Payload(2, "a", 0, "se"), raw.Payload(2, "a", 2, "cond"), raw.End("a")),
			map[string]string{"a": "second"}},
		"rewrite with zeros": {slices.Concat(raw.File("a", strings.Repeat("x", 32<<10)), raw.Payload(2, "a", 0, zeros+"y"), raw.End("a")),
			map[string]string{"a": zeros + "y"}},
		"rewrite to nothing": {slices.Concat(raw.File("a", "first"), raw.Remove("other"), raw.End("a")), map[string]string{"a": ""}},
		"sparse": {slices.Concat(raw.Sparse("a", 0, []uint32{0, 2, 3, 2, 2, 0}, "abcd"), raw.End("a")),
			map[string]string{"a": "ab\x00\x00\x00cd\x00\x00"}},
		"sparse of holes alone": {slices.Concat(raw.Sparse("a", 0, []uint32{5, 0}, ""), raw.End("a")), map[string]string{"a": "\x00\x00\x00\x00\x00"}},
		"dot slash":             {raw.File("./db/./x"[:5]+"x", "data"), map[string]string{"db/x": "data"}},
	} {
		t.Run(name, func(t *testing.T) {
			for _, parallel := range []int{1, 4} {
				dir, result, err := extractFrom(t, bytes.NewReader(tt.in), extract.Options{Parallel: parallel})
				if err != nil {
					t.Fatal(err)
				}
				if got := disktest.ReadTree(t, dir); !maps.Equal(got, tt.want) {
					t.Errorf("got %.200q, want %.200q", got, tt.want)
				}
				if !result.Foreign || len(result.Warnings) != 1 || result.Files != int64(len(tt.want)) {
					t.Errorf("result %+v", result)
				}
				var size int64
				for _, data := range tt.want {
					size += int64(len(data))
				}
				if result.Bytes != size {
					t.Errorf("%d bytes, want %d", result.Bytes, size)
				}
			}
		})
	}
}

func TestExtractWarnsOfPackedFiles(t *testing.T) {
	_, result, err := extractFrom(t, bytes.NewReader(slices.Concat(raw.File("a.ibd.zst", "x"), raw.File("b.ibd.qp", "x"), raw.File("c", "x"))), extract.Options{})
	if err != nil {
		t.Fatal(err)
	}
	if len(result.Warnings) != 2 || !strings.Contains(result.Warnings[1], "2 files, such as a.ibd.zst") {
		t.Errorf("%q", result.Warnings)
	}
}

func TestExtractHostile(t *testing.T) {
	for name, tt := range map[string]struct {
		in   []byte
		want string
	}{
		"parent":                 {raw.File("../evil", "x"), "unsafe name"},
		"absolute":               {raw.File("/tmp/evil", "x"), "unsafe name"},
		"inner parent":           {raw.File("a/../../evil", "x"), "unsafe name"},
		"same path twice":        {slices.Concat(raw.File("a", "x"), raw.File("a", "y")), "twice"},
		"gap":                    {slices.Concat(raw.Payload(0, "a", 0, "x"), raw.Payload(0, "a", 2, "x"), raw.End("a")), "payload offset"},
		"file as directory":      {slices.Concat(raw.File("a", "x"), raw.File("a/b", "x")), "a"},
		"directory as file":      {slices.Concat(raw.File("a/b", "x"), raw.File("a", "x")), "other files' directory"},
		"the mark itself":        {raw.File(backupdir.MarkerName, "x"), "mark"},
		"a mark in capitals":     {raw.File("ibdata1.HB-Held", "x"), "mark"},
		"a manifest in capitals": {raw.File("HB-MANIFEST.JSON", "x"), "unexpected here"},
		"the mark by rename":     {slices.Concat(raw.File("a", "x"), raw.Rename("a", backupdir.MarkerName)), "mark"},
		"a header by rename":     {slices.Concat(raw.File("a", "x"), raw.Rename("a", metadata.ArchiveName)), "unexpected here"},
		"a manifest by rename":   {slices.Concat(raw.File("a", "x"), raw.Rename("a", metadata.ManifestName)), "unexpected here"},
		"name too long for disk": {raw.File(strings.Repeat("x", 300), "x"), "file systems take 255"},
		"never ended":            {raw.Payload(0, "a", 0, "x"), "before the end of"},
		"empty":                  {nil, "empty"},
		"garbage":                {[]byte("hello, world"), "no chunk begins here"},
		"garbage after":          {slices.Concat(raw.File("a", "x"), []byte("hello, world")), "no chunk begins here"},
	} {
		t.Run(name, func(t *testing.T) {
			dir, _, err := extractFrom(t, bytes.NewReader(tt.in), extract.Options{})
			if err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("error %v, want one with %q", err, tt.want)
			}
			outside, err := os.ReadDir(filepath.Dir(dir))
			if err != nil || len(outside) != 1 {
				t.Errorf("beside the target: %v, %v", outside, err)
			}
		})
	}
}

// intruder does something when the stream is first read, when the target has
// been found empty already.
type intruder struct {
	io.Reader
	do func()
}

func (r *intruder) Read(p []byte) (int, error) {
	if r.do != nil {
		r.do()
		r.do = nil
	}
	return r.Reader.Read(p)
}

func TestExtractSymlinks(t *testing.T) {
	for name, plant := range map[string]func(dir, outside string) error{
		"file outside": func(dir, outside string) error {
			return os.Symlink(filepath.Join(outside, "f"), filepath.Join(dir, "f"))
		},
		"dangling inside":   func(dir, outside string) error { return os.Symlink("g", filepath.Join(dir, "f")) },
		"directory outside": func(dir, outside string) error { return os.Symlink(outside, filepath.Join(dir, "db")) },
		"directory inside":  func(dir, outside string) error { return os.Symlink(".", filepath.Join(dir, "db")) },
		"foreign directory": func(dir, outside string) error { return os.Mkdir(filepath.Join(dir, "db"), 0o777) },
		"foreign file":      func(dir, outside string) error { return os.WriteFile(filepath.Join(dir, "f"), nil, 0o666) },
	} {
		t.Run(name, func(t *testing.T) {
			outside := t.TempDir()
			dir := filepath.Join(t.TempDir(), "target")
			in := &intruder{Reader: bytes.NewReader(slices.Concat(raw.File("f", "x"), raw.File("db/t", "x")))}
			in.do = func() {
				if err := plant(dir, outside); err != nil {
					t.Error(err)
				}
			}
			_, err := extract.Run(t.Context(), in, dir, extract.Options{})
			if err == nil || !strings.Contains(err.Error(), "file exists") {
				t.Errorf("error %v", err)
			}
			if left, err := os.ReadDir(outside); err != nil || len(left) > 0 {
				t.Errorf("outside: %v, %v", left, err)
			}
			if marked, err := backupdir.IsMarked(dir); !marked || err != nil {
				t.Errorf("marked: %v, %v", marked, err)
			}
		})
	}
}

// TestExtractRacingLinks extracts, as root if the test is, while another process
// keeps putting links in the place of directories and files. Whatever becomes of
// the extraction, nothing is written through a link.
func TestExtractRacingLinks(t *testing.T) {
	outside := t.TempDir()
	victim := filepath.Join(outside, "victim")
	if err := os.WriteFile(victim, []byte("precious"), 0o600); err != nil {
		t.Fatal(err)
	}
	contents := make(map[string][]byte)
	for i := range 600 { // more than are kept open: files are opened again
		contents[fmt.Sprintf("db%d/t%d.ibd", i%3, i)] = page(9000, byte(i))
	}
	in := ownArchive(t, contents, 1000)
	swaps := 0
	for round := range 5 {
		dir := filepath.Join(t.TempDir(), "target")
		stop := make(chan struct{})
		var racing sync.WaitGroup
		racing.Go(func() {
			for i := 0; ; i++ {
				select {
				case <-stop:
					return
				default:
				}
				name, to := filepath.Join(dir, fmt.Sprintf("db%d", i%3)), outside
				if round%2 == 1 {
					name, to = filepath.Join(name, fmt.Sprintf("t%d.ibd", i%600)), victim
				}
				time.Sleep(100 * time.Microsecond)
				if os.Rename(name, filepath.Join(outside, "..", fmt.Sprintf("away%d-%d", round, i))) == nil && os.Symlink(to, name) == nil {
					swaps++
				}
			}
		})
		_, err := extract.Run(t.Context(), bytes.NewReader(in), dir, extract.Options{})
		close(stop)
		racing.Wait()
		if err == nil {
			t.Logf("round %d: the extraction came through", round)
		} else if marked, markErr := backupdir.IsMarked(dir); !marked || markErr != nil {
			t.Errorf("round %d: marked %v, %v after %v", round, marked, markErr, err)
		}
	}
	if swaps == 0 {
		t.Error("no link was put anywhere")
	}
	left, err := os.ReadDir(outside)
	text, readErr := os.ReadFile(victim)
	if err != nil || readErr != nil || len(left) != 1 || string(text) != "precious" {
		t.Errorf("outside: %v, %q, %v, %v", left, text, err, readErr)
	}
	t.Logf("%d links", swaps)
}

func TestExtractTarget(t *testing.T) {
	in := ownArchive(t, map[string][]byte{"a": []byte("x")}, 10)
	base := t.TempDir()
	mkdir := func(name string, files ...string) string {
		dir := filepath.Join(base, name)
		if err := os.Mkdir(dir, 0o700); err != nil {
			t.Fatal(err)
		}
		for _, f := range files {
			if err := os.WriteFile(filepath.Join(dir, f), nil, 0o600); err != nil {
				t.Fatal(err)
			}
		}
		return dir
	}
	lost := mkdir("mount")
	if err := os.Mkdir(filepath.Join(lost, "lost+found"), 0o700); err != nil {
		t.Fatal(err)
	}
	for name, dir := range map[string]string{"empty": mkdir("empty"), "new": filepath.Join(base, "new"), "new with slash": filepath.Join(base, "new2") + "/", "file system": lost, "no parent": filepath.Join(base, "no", "such", "dir")} {
		if _, err := extract.Run(t.Context(), bytes.NewReader(in), dir, extract.Options{}); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		if marked, err := backupdir.IsMarked(dir); marked || err != nil {
			t.Errorf("%s: marked %v, %v", name, marked, err)
		}
	}
	file := filepath.Join(mkdir("files", "f"), "f")
	for name, tt := range map[string]struct{ dir, want string }{
		"not empty":    {mkdir("full", "precious"), `"precious"`},
		"a server's":   {mkdir("server", "aria_log", "ibdata1"), "stop the server and move its files away"},
		"used before":  {filepath.Join(base, "new"), "not empty"},
		"failed":       {mkdir("failed", backupdir.MarkerName, "a"), "did not finish"},
		"a file":       {file, "not a directory"},
		"below a file": {filepath.Join(file, "x"), "not a directory"},
	} {
		before := map[string]string{}
		if info, err := os.Stat(tt.dir); err == nil && info.IsDir() {
			before = disktest.ReadTree(t, tt.dir)
		}
		_, err := extract.Run(t.Context(), bytes.NewReader(in), tt.dir, extract.Options{})
		if _, ok := errors.AsType[*backupdir.TargetError](err); !ok || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s: error %v, want one with %q", name, err, tt.want)
		}
		if info, err := os.Stat(tt.dir); err == nil && info.IsDir() && !maps.Equal(disktest.ReadTree(t, tt.dir), before) {
			t.Errorf("%s: the directory was changed", name)
		}
	}
}

// TestExtractDiskFull fills a small file system.
func TestExtractDiskFull(t *testing.T) {
	dir := mysqldtest.Tmpfs(t, 2<<20)
	contents := map[string][]byte{"a": page(1<<20, 2), "b": page(3<<20, 4), "c": page(3<<20, 6)}
	_, err := extract.Run(t.Context(), bytes.NewReader(ownArchive(t, contents, 100_000)), dir, extract.Options{})
	if !errors.Is(err, unix.ENOSPC) || !strings.Contains(err.Error(), dir) {
		t.Errorf("error %v", err)
	}
	if marked, err := backupdir.IsMarked(dir); !marked || err != nil {
		t.Errorf("marked: %v, %v", marked, err)
	}
}

// TestExtractReadOnly: a target that cannot even be marked.
func TestExtractReadOnly(t *testing.T) {
	dir := t.TempDir()
	if err := unix.Mount("tmpfs", dir, "tmpfs", unix.MS_RDONLY, "size=1m"); err != nil {
		t.Skipf("%s needs to mount a file system: %v", mysqldtest.SkipMark, err)
	}
	defer unix.Unmount(dir, 0)
	_, err := extract.Run(t.Context(), bytes.NewReader(raw.File("a", "x")), dir, extract.Options{})
	if !errors.Is(err, unix.EROFS) {
		t.Errorf("error %v", err)
	}
}

// TestExtractDescriptors extracts more files than there are descriptors, many
// of them open at once in the archive.
func TestExtractDescriptors(t *testing.T) {
	var old unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &old); err != nil {
		t.Fatal(err)
	}
	limit := unix.Rlimit{Cur: 400, Max: old.Max}
	if err := unix.Setrlimit(unix.RLIMIT_NOFILE, &limit); err != nil {
		t.Fatal(err)
	}
	defer unix.Setrlimit(unix.RLIMIT_NOFILE, &old)

	contents := make(map[string][]byte)
	for i := range 1200 { // all open at once: ownArchive gives each in 3 chunks
		contents[fmt.Sprintf("db%d/open%d.ibd", i%7, i)] = page(2500, byte(i))
	}
	b := ownArchive(t, contents, 1000)
	dir, _, err := extractFrom(t, bytes.NewReader(b), extract.Options{Parallel: 5})
	if err != nil {
		t.Fatal(err)
	}
	checkTree(t, dir, contents)
}

func TestExtractCancel(t *testing.T) {
	errStop := errors.New("interrupted")
	ctx, cancel := context.WithCancelCause(t.Context())
	a := newArchive()
	a.Put("big", page(5<<20, 2))
	archive := ended(t, a.Finish)
	in := &intruder{Reader: iotest.HalfReader(bytes.NewReader(archive)), do: func() { cancel(errStop) }}
	dir := filepath.Join(t.TempDir(), "target")
	if _, err := extract.Run(ctx, in, dir, extract.Options{}); !errors.Is(err, errStop) {
		t.Errorf("error %v", err)
	}
	if marked, err := backupdir.IsMarked(dir); !marked || err != nil {
		t.Errorf("marked: %v, %v", marked, err)
	}
	if _, err := catalog.List(ctx, bytes.NewReader(archive), func(catalog.Entry) error { return nil }); !errors.Is(err, errStop) {
		t.Errorf("List: error %v", err)
	}
}

func TestExtractReadError(t *testing.T) {
	errNet := errors.New("connection reset")
	in := ownArchive(t, testContents(), 50_000)
	for _, n := range []int{0, 10, 1000, len(in) / 2, len(in) - 1, len(in)} {
		r := io.MultiReader(bytes.NewReader(in[:n]), iotest.ErrReader(errNet))
		if _, _, err := extractFrom(t, r, extract.Options{}); !errors.Is(err, errNet) {
			t.Errorf("after %d bytes: %v", n, err)
		}
	}
}

func TestList(t *testing.T) {
	contents := testContents()
	in := ownArchive(t, contents, 100_000)
	sizes := make(map[string]int64)
	var first, last string
	summary, err := catalog.List(t.Context(), bytes.NewReader(in), func(e catalog.Entry) error {
		if first == "" {
			first = e.Path
		}
		last = e.Path
		sizes[e.Path] = e.Size
		if want := int64(len(contents[e.Path])+99_999) / 100_000; contents[e.Path] != nil && e.Chunks != want {
			t.Errorf("%s: %d chunks, want %d", e.Path, e.Chunks, want)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if first != metadata.ArchiveName || last != metadata.ManifestName {
		t.Errorf("first %s, last %s", first, last)
	}
	for path, data := range contents {
		if size, ok := sizes[path]; !ok || size != int64(len(data)) {
			t.Errorf("%s: size %d, %v", path, size, ok)
		}
	}
	if summary.Files != int64(len(sizes)) || summary.Manifest == nil || summary.Archive == nil {
		t.Errorf("summary %+v", summary)
	}
	for _, want := range []string{"backup of MariaDB 10.11.18-MariaDB", "complete", "LSN 100 to 200"} {
		if !strings.Contains(summary.Describe(), want) {
			t.Errorf("Describe() = %q, without %q", summary.Describe(), want)
		}
	}
	errStop := errors.New("enough")
	if _, err := catalog.List(t.Context(), bytes.NewReader(in), func(catalog.Entry) error { return errStop }); !errors.Is(err, errStop) {
		t.Errorf("error of the callback came back as %v", err)
	}
}

// TestListUnpackable: an archive whose files could not be unpacked is not read as if
// they could.
func TestListUnpackable(t *testing.T) {
	for name, files := range map[string][]string{
		"a file, then its directory": {"info", "info/db.opt"},
		"a directory, then its file": {"a/b/c", "a/b"},
		"a long name":                {"db/" + strings.Repeat("x", 256)},
		"a long directory":           {strings.Repeat("x", 256) + "/t"},
	} {
		a := newArchive()
		for _, file := range files {
			a.Put(file, []byte("content"))
		}
		_, err := catalog.List(t.Context(), bytes.NewReader(ended(t, a.Finish)), func(catalog.Entry) error { return nil })
		if _, ok := errors.AsType[*xbstream.CorruptError](err); !ok {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestListForeign(t *testing.T) {
	in := slices.Concat(raw.File("a", "A"), raw.File("b", "BB"), raw.Rename("a", "c"), raw.Remove("b"))
	var got []string
	summary, err := catalog.List(t.Context(), bytes.NewReader(in), func(e catalog.Entry) error {
		got = append(got, fmt.Sprint(e.Op, e.Path, e.NewPath, e.Size))
		return nil
	})
	want := []string{"0 a  1", "0 b  2", "1 a c 0", "2 b  0"}
	for i := range want {
		want[i] = strings.ReplaceAll(want[i], " ", "")
		got[i] = strings.ReplaceAll(got[i], " ", "")
	}
	if err != nil || !slices.Equal(got, want) || summary.Files != 1 || summary.Bytes != 1 || !summary.Foreign {
		t.Errorf("%q, %+v, %v", got, summary, err)
	}
	if s := summary.Describe(); !strings.Contains(s, "MariaDB's") || strings.Contains(s, "complete") {
		t.Errorf("Describe() = %q", s)
	}
}

// FuzzExtract gives anything to List and extract: they must agree, and leave a
// mark wherever they fail.
func FuzzExtract(f *testing.F) {
	f.Add(ownArchive(f, map[string][]byte{"a": []byte("x"), "d/b": nil}, 10))
	f.Add(slices.Concat(raw.File("a", "A"), raw.Rename("a", "b"), raw.Remove("b"), raw.Seek("c", 3), raw.Payload(0, "c", 3, "x"), raw.End("c")))
	f.Add(slices.Concat(raw.Sparse("a", 0, []uint32{1, 2}, "xx"), raw.End("a")))
	f.Fuzz(func(t *testing.T, in []byte) {
		_, listErr := catalog.List(t.Context(), bytes.NewReader(in), func(catalog.Entry) error { return nil })
		_, result, err := extractFrom(t, bytes.NewReader(in), extract.Options{Parallel: 2})
		if err == nil && listErr != nil {
			t.Fatalf("List: %v, Extract: %+v", listErr, result)
		}
	})
}
