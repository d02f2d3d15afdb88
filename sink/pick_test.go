package sink

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"maps"
	"math/rand/v2"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"filippo.io/age"

	"hb/sink/apply"
	"hb/sink/backupdir"
	"hb/sink/catalog"
	"hb/sink/extract"
	"hb/sink/verify"
	"hb/stream"
	"hb/stream/disk/disktest"
	"hb/stream/ranges"
	"hb/xbstream"
	"hb/xbstream/metadata"
	"hb/xbstream/xbtest"
)

// pickArchive is an archive of 24 MiB with one table of 3 MiB between others.
func pickArchive(t testing.TB) (archive []byte, contents map[string][]byte) {
	t.Helper()
	rng := rand.NewChaCha8([32]byte{7})
	contents = map[string][]byte{"db/small.frm": page(700, 3), "db/none.MYD": nil}
	for name, size := range map[string]int{"ibdata1": 9 << 20, "db/t.ibd": 3<<20 + 5000, "db/u.ibd": 6 << 20, "db2/t.ibd": 5<<20 + 77, "ib_logfile0": 1 << 20} {
		contents[name] = make([]byte, size)
		_, _ = rng.Read(contents[name])
	}
	a := newArchive()
	a.Interleave(slices.Sorted(maps.Keys(contents)), contents, 1<<20)
	return ended(t, a.Finish), contents
}

// staged is an archive in stages, cut where hb backup cuts them.
func staged(t testing.TB, archive []byte, o stream.WriteOptions) []byte {
	t.Helper()
	var out bytes.Buffer
	w, err := stream.Create(&out, o)
	if err != nil {
		t.Fatal(err)
	}
	at := metadata.FindIndex(archive)
	second := bytes.Index(archive[1:], []byte("\x00E\x0f\x00\x00\x00"+metadata.ArchiveName)) + 1 + 6 + len(metadata.ArchiveName)
	for _, part := range [][]byte{archive[:second], archive[second:at], archive[at:]} {
		_, err := w.Write(part)
		if err := errors.Join(err, w.Cut()); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

func parts(b []byte, o stream.Options) (*stream.Parts, *ranges.Window, error) {
	w := ranges.New(ranges.File{R: bytes.NewReader(b), Bytes: int64(len(b))}, nil)
	p, err := stream.OpenParts(w, o)
	return p, w, err
}

func patterns(t testing.TB, list ...string) *catalog.Patterns {
	t.Helper()
	p, err := catalog.NewPatterns(list)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// pick extracts by the index.
func pick(t testing.TB, p *stream.Parts, list ...string) (map[string]string, *extract.Result, error) {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "target")
	r, err := extract.Run(t.Context(), nil, dir, extract.Options{Parts: p, Patterns: patterns(t, list...)})
	if err != nil {
		return nil, nil, err
	}
	got := disktest.ReadTree(t, dir)
	if _, marked := got[backupdir.PartialName]; !marked {
		t.Error("the directory is not marked as a part")
	}
	delete(got, backupdir.PartialName)
	return got, r, nil
}

// TestPick: what is chosen comes out as it went in, whatever the stages, and hardly
// anything else is read. How much may be, is arithmetic: both ends once, and of the table
// its chunks, or the blocks of the stages that these are in.
func TestPick(t *testing.T) {
	id, err := age.GenerateX25519Identity()
	if err != nil {
		t.Fatal(err)
	}
	to := []age.Recipient{id.Recipient()}
	archive, contents := pickArchive(t)
	const (
		chunk, ageChunk = 1<<20 + 100, 64<<10 + 16
		chunks          = 4       // of db/t.ibd
		frame           = 4 << 20 // of zstd; the content is random
	)
	for name, tt := range map[string]struct {
		o    stream.WriteOptions
		most int64 // of what is between the ends
	}{
		"plain": {stream.WriteOptions{}, chunks * chunk},
		"age":   {stream.WriteOptions{Recipients: to}, chunks * (chunk + 2*ageChunk)},
		"zstd":  {stream.WriteOptions{Compress: &stream.Compression{Level: 1}}, 5 * frame},
		"both":  {stream.WriteOptions{Compress: &stream.Compression{Level: 1}, Recipients: to}, 5*frame + 2*ageChunk},
	} {
		b := staged(t, archive, tt.o)
		p, w, err := parts(b, stream.Options{Identities: []age.Identity{id}})
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		ends := ranges.HeadSize + ranges.TailSize(int64(len(b)))
		if w.BytesRead() != ends || w.Requests() != 2 {
			t.Errorf("%s: opened with %d bytes in %d requests, want %d in 2", name, w.BytesRead(), w.Requests(), ends)
		}
		got, r, err := pick(t, p, "db/t.*")
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if len(got) != 1 || got["db/t.ibd"] != string(contents["db/t.ibd"]) || r.Files != 1 || r.Bytes != int64(len(contents["db/t.ibd"])) {
			t.Errorf("%s: %d files, %+v", name, len(got), r)
		}
		if w.BytesRead() > ends+tt.most || w.BytesRead() < ends+r.Bytes/2 {
			t.Errorf("%s: %d bytes read of %d, want at most %d", name, w.BytesRead(), len(b), ends+tt.most)
		}
		if w.Requests() > 2+chunks {
			t.Errorf("%s: %d requests", name, w.Requests())
		}
		t.Logf("%s: %d bytes of %d in %d requests", name, w.BytesRead(), len(b), w.Requests())
		streamed(t, name, b, stream.Options{Identities: []age.Identity{id}}, contents)
	}
}

// streamed chooses files of an archive that comes through a pipe.
func streamed(t *testing.T, name string, b []byte, o stream.Options, contents map[string][]byte) {
	t.Helper()
	in, err := stream.Open(bytes.NewReader(b), o)
	if err != nil {
		t.Fatal(err)
	}
	dir, r, err := extractFrom(t, in, extract.Options{Patterns: patterns(t, "db", "ibdata1")})
	if err := errors.Join(err, in.Close()); err != nil {
		t.Fatalf("%s: %v", name, err)
	}
	got := disktest.ReadTree(t, dir)
	delete(got, backupdir.PartialName)
	want := map[string]string{}
	for path, content := range contents {
		if strings.HasPrefix(path, "db/") || path == "ibdata1" {
			want[path] = string(content)
		}
	}
	if !maps.Equal(got, want) || r.Files != int64(len(want)) {
		t.Errorf("%s, from a pipe: %d files, want %d; %+v", name, len(got), len(want), r)
	}
}

// TestPickAll: the archive of all files, by its index, is what the whole archive leaves,
// except for hb's own files; and the list by the index is that of the whole archive.
func TestPickAll(t *testing.T) {
	b, err := xbtest.Sample()
	if err != nil {
		t.Fatal(err)
	}
	p, _, err := parts(b, stream.Options{})
	if err != nil {
		t.Fatal(err)
	}
	var all, indexed []catalog.Entry
	if _, err := catalog.List(t.Context(), bytes.NewReader(b), func(e catalog.Entry) error { all = append(all, e); return nil }); err != nil {
		t.Fatal(err)
	}
	s, err := catalog.ListIndex(p, func(e catalog.Entry) error { indexed = append(indexed, e); return nil })
	if err != nil || !slices.Equal(all, indexed) || s.Files != int64(len(all)) || !s.Indexed || s.Manifest.LastLSN == 0 {
		t.Errorf("listed by the index: %+v\nwant %+v\n%+v, %v", indexed, all, s, err)
	}
	dir, _, err := extractFrom(t, bytes.NewReader(b), extract.Options{})
	if err != nil {
		t.Fatal(err)
	}
	want := disktest.ReadTree(t, dir)
	for _, own := range []string{metadata.ArchiveName, metadata.IndexName, metadata.ManifestName} {
		delete(want, own)
	}
	got, _, err := pick(t, p, "*")
	if err != nil || !maps.Equal(got, want) {
		t.Errorf("%d files, want %d: %v", len(got), len(want), err)
	}
	for _, none := range []string{"db/x.ibd", "hb-*", "t", "db/t", "DB"} {
		_, _, err := pick(t, p, "ibdata1", none)
		if no, ok := errors.AsType[*catalog.NoMatchError](err); !ok || no.Pattern != none {
			t.Errorf("%s: %v", none, err)
		}
		_, _, err = extractFrom(t, bytes.NewReader(b), extract.Options{Patterns: patterns(t, "ibdata1", none)})
		if no, ok := errors.AsType[*catalog.NoMatchError](err); !ok || no.Pattern != none {
			t.Errorf("%s, from a pipe: %v", none, err)
		}
	}
}

// TestPickPartial: a directory with a part of a backup is not taken for one, though it has
// all that recovery looks at.
func TestPickPartial(t *testing.T) {
	b, err := xbtest.Sample()
	if err != nil {
		t.Fatal(err)
	}
	p, _, err := parts(b, stream.Options{})
	if err != nil {
		t.Fatal(err)
	}
	dir := filepath.Join(t.TempDir(), "target")
	if _, err := extract.Run(t.Context(), nil, dir, extract.Options{Parts: p, Patterns: patterns(t, "ib*", "xtrabackup*", "backup-my.cnf", "db")}); err != nil {
		t.Fatal(err)
	}
	_, verified := verify.Directory(t.Context(), dir, verify.Options{})
	_, applied := apply.Run(t.Context(), dir, apply.Options{Tool: "hb test"})
	for name, err := range map[string]error{"verify": verified, "apply": applied} {
		if _, ok := errors.AsType[*backupdir.NotBackupError](err); !ok || !strings.Contains(err.Error(), backupdir.PartialName) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// TestLyingIndex: an index and a manifest that agree with each other, and not with the
// archive, never give another file's content, nor a part of the one that was asked for.
// Each lie is written with right checksums.
func TestLyingIndex(t *testing.T) {
	names := []string{"db/a.MYD", "db/b.MYD", "db/c.MYD"}
	contents := map[string][]byte{"db/a.MYD": page(3000, 2), "db/b.MYD": page(3000, 4), "db/c.MYD": page(1500, 6)}
	build := func(index func([]byte) []byte, list func([]metadata.File)) []byte {
		a := newArchive()
		a.Interleave(names, contents, 1000)
		a.Index = func(b []byte) []byte {
			list(a.Files)
			return index(slices.Clone(b))
		}
		return ended(t, a.Finish)
	}
	none := func([]metadata.File) {}
	same := func(b []byte) []byte { return b }
	var size int
	right := build(func(b []byte) []byte { size = len(b); return b }, none)
	lies := map[string][]byte{"swapped names": build(same, func(f []metadata.File) { f[1].Path, f[2].Path = f[2].Path, f[1].Path }),
		"another checksum": build(same, func(f []metadata.File) { f[3].CRC32++ }),
		"swapped lines":    build(same, func(f []metadata.File) { f[1], f[3] = f[3], f[1] }),
		"a new name":       build(same, func(f []metadata.File) { f[1].Path = "db/z.MYD" }),
		"a size":           build(same, func(f []metadata.File) { f[1].Size++; f[2].Size-- }),
	}
	for i := range size {
		for bit := range 8 {
			lies[fmt.Sprintf("bit %d of byte %d", bit, i)] = build(func(b []byte) []byte { b[i] ^= 1 << bit; return b }, none)
		}
	}
	for i := 8; i < size; i++ { // entries in another order, of which there may be as many
		for j := range i {
			lies[fmt.Sprintf("bytes %d and %d swapped", i, j)] = build(func(b []byte) []byte { b[i], b[j] = b[j], b[i]; return b }, none)
		}
	}
	refused := 0
	for name, b := range lies {
		p, _, err := parts(b, stream.Options{})
		for _, path := range append(names, "db/z.MYD") {
			if err != nil {
				break
			}
			got, _, e := pick(t, p, path)
			if _, no := errors.AsType[*catalog.NoMatchError](e); no {
				continue
			}
			if e == nil && got[path] != string(contents[path]) {
				t.Errorf("%s: %s has %d other bytes", name, path, len(got[path]))
			}
			err = e
		}
		if err != nil {
			refused++
			if _, ok := errors.AsType[*xbstream.CorruptError](err); !ok && !errors.Is(err, io.ErrUnexpectedEOF) {
				t.Errorf("%s: %v", name, err)
			}
		} else if !bytes.Equal(b, right) {
			t.Errorf("%s: nobody noticed", name)
		}
	}
	t.Logf("%d of %d lies are refused", refused, len(lies))
}

// TestPickMark: hb's own marks do not come out of an archive.
func TestPickMark(t *testing.T) {
	for _, name := range []string{backupdir.PartialName, backupdir.ApplyingName, backupdir.AppliedName, "hb-redo/x"} {
		a := newArchive()
		a.Put(name, []byte("x"))
		p, _, err := parts(ended(t, a.Finish), stream.Options{})
		if err != nil {
			t.Fatal(err)
		}
		if _, _, err := pick(t, p, name); !hasType[*xbstream.CorruptError](err) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// TestPickDamage changes each byte of an archive in turn, checksums aside: a file that is
// read by the index is refused or right.
func TestPickDamage(t *testing.T) {
	a := newArchive()
	contents := map[string][]byte{"db/a.MYD": page(300, 2), "db/b.MYD": page(300, 4)}
	a.Interleave([]string{"db/a.MYD", "db/b.MYD"}, contents, 100)
	right := ended(t, a.Finish)
	refused := 0
	for at := range right {
		b := bytes.Clone(right)
		b[at] ^= 1 << (at % 8)
		p, _, err := parts(b, stream.Options{})
		if err == nil {
			var got map[string]string
			if got, _, err = pick(t, p, "db/a.MYD"); err == nil && got["db/a.MYD"] != string(contents["db/a.MYD"]) {
				t.Fatalf("byte %d changed: other content", at)
			}
		}
		if err != nil {
			refused++
		}
	}
	if refused < len(right)/2 {
		t.Errorf("%d of %d changes are refused", refused, len(right))
	}
}
