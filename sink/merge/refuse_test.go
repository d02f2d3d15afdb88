package merge_test

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"hb/sink/apply"
	"hb/sink/backupdir"
	"hb/sink/catalog"
	"hb/sink/extract"
	"hb/sink/merge"
	"hb/sink/verify"
	"hb/stream"
	"hb/xbstream"
	"hb/xbstream/innodb"
	"hb/xbstream/metadata"
	"hb/xbstream/xbtest"
)

// chainOf makes a full backup and increments of a server that works in between.
func chainOf(t testing.TB, seed uint64, increments int) (*model, []*state) {
	t.Helper()
	m := newModel(seed)
	states := []*state{m.full(t)}
	for range increments {
		for range 6 {
			m.change()
		}
		states = append(states, m.increment(t, states[len(states)-1], nil))
	}
	return m, states
}

func as[T error](err error) bool {
	_, ok := errors.AsType[T](err)
	return ok
}

// TestRefused: archives that are not a chain in their order are refused, and nothing is
// written unless the base comes from a pipe: then there is no manifest.
func TestRefused(t *testing.T) {
	m, s := chainOf(t, 1, 3)
	_, other := chainOf(t, 2, 3)
	m.change()
	branch := m.increment(t, s[1], nil) // another backup since the first increment
	names := save(t, s...)
	others := save(t, other...)
	branches := save(t, branch)
	var merged bytes.Buffer
	if _, err := mergeFiles(t.Context(), names[:3], &merged); err != nil {
		t.Fatal(err)
	}
	whole := save(t, &state{archive: merged.Bytes()})[0]
	foreign := filepath.Join(t.TempDir(), "foreign.hb")
	a := xbtest.Begin()
	a.Put("ibdata1", make([]byte, pageSize))
	b, err := a.Close()
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(foreign, b, 0o600); err != nil {
		t.Fatal(err)
	}

	for name, c := range map[string]struct {
		archives []string
		refused  func(error) bool
		said     string
	}{
		"swapped":               {[]string{names[0], names[2], names[1]}, as[*merge.ChainError], "give it after that"},
		"the first is missing":  {[]string{names[0], names[2]}, as[*merge.ChainError], "missing"},
		"one is missing":        {[]string{names[0], names[1], names[3]}, as[*merge.ChainError], "missing"},
		"one twice":             {[]string{names[0], names[1], names[1]}, as[*merge.ChainError], "the same backup"},
		"the first twice":       {[]string{names[0], names[1], names[2], names[1]}, as[*merge.ChainError], "the same backup"},
		"of another chain":      {[]string{names[0], others[1]}, as[*merge.ChainError], "another chain"},
		"another base":          {[]string{others[0], names[1]}, as[*merge.ChainError], "another chain"},
		"another in the middle": {[]string{names[0], names[1], others[2], names[3]}, as[*merge.ChainError], ""},
		"of a branch":           {[]string{names[0], names[1], branches[0], names[3]}, as[*merge.ChainError], ""},
		"already merged":        {[]string{whole, names[2]}, as[*merge.ChainError], "was merged"},
		"merged before":         {[]string{whole, names[1]}, as[*merge.ChainError], "was merged"},
		"no increment":          {[]string{names[0]}, as[*stream.UsageError], ""},
		"two full ones":         {[]string{names[0], others[0]}, as[*merge.MismatchError], "is a full backup"},
		"the same full one":     {[]string{names[0], names[0]}, as[*merge.MismatchError], "is a full backup"},
		"no full one":           {[]string{names[1], names[2]}, as[*merge.MismatchError], "incremental"},
		"of another tool":       {[]string{foreign, names[1]}, as[*merge.MismatchError], "did not make"},
	} {
		refuse(t, name, c.archives, c.refused, c.said, name == "of another tool")
		if strings.HasPrefix(name, "no ") {
			continue
		}
		piped := slices.Clone(c.archives)
		piped[0] = withoutIndex(t, link(t, piped[0]))
		refuse(t, name+", from a pipe", piped, c.refused, "", true)
	}
}

// link gives a file another name, beside which there is room for a pipe.
func link(t *testing.T, name string) string {
	t.Helper()
	to := filepath.Join(t.TempDir(), "a.hb")
	if err := os.Link(name, to); err != nil {
		t.Fatal(err)
	}
	return to
}

// refuse merges, which must fail. some: something may be written, but no whole archive.
func refuse(t *testing.T, what string, archives []string, refused func(error) bool, said string, some bool) {
	t.Helper()
	var out bytes.Buffer
	_, err := mergeFiles(t.Context(), archives, &out)
	if err == nil || !refused(err) || !strings.Contains(err.Error(), said) {
		t.Errorf("%s: %v", what, err)
	}
	if !some && out.Len() > 0 {
		t.Errorf("%s: %d bytes were written", what, out.Len())
	}
	if _, err := catalog.List(t.Context(), bytes.NewReader(out.Bytes()), func(catalog.Entry) error { return nil }); err == nil {
		t.Errorf("%s: a whole archive was written", what)
	}
}

// TestDivergedChain: the ids are right, and the pages are not those that the last backup saw.
func TestDivergedChain(t *testing.T) {
	for _, layer := range []int{1, 2} {
		m := newModel(3)
		states := []*state{m.full(t)}
		for i := 1; i < 3; i++ {
			m.change()
			states = append(states, m.increment(t, states[i-1], func(a *xbtest.Archiver) {
				if i == layer {
					wrong := *a.Live[len(a.Live)-1].Sum + 1
					a.Live[len(a.Live)-1].Sum = &wrong
				}
			}))
		}
		refuse(t, "diverged", save(t, states...), as[*merge.DivergedError], "restored", true)
	}
	m := newModel(3)
	base := m.full(t)
	m.change()
	inc := m.increment(t, base, func(a *xbtest.Archiver) {
		i := slices.IndexFunc(a.Live, func(l metadata.Live) bool { return l.CRC32 != nil })
		*a.Live[i].CRC32++
	})
	refuse(t, "another file of another engine", save(t, base, inc), as[*merge.DivergedError], "restored", true)
}

// TestContradictions: manifests that do not fit what is there are refused.
func TestContradictions(t *testing.T) {
	last := func(a *xbtest.Archiver, kind metadata.LiveKind) *metadata.Live {
		for i := range a.Live {
			if a.Live[i].Kind == kind && a.Live[i].Path != "ibdata1" {
				return &a.Live[i]
			}
		}
		t.Fatalf("no %s file", kind)
		return nil
	}
	for name, edit := range map[string]func(a *xbtest.Archiver){
		"a file of the base is left out": func(a *xbtest.Archiver) { a.Live = slices.Delete(a.Live, 0, 1) },
		"a dropped file that is none":    func(a *xbtest.Archiver) { a.Dropped = append(a.Dropped, "db/none.ibd") },
		"dropped and changed":            func(a *xbtest.Archiver) { a.Dropped = append(a.Dropped, last(a, metadata.LiveChanged).From) },
		"from what is not there":         func(a *xbtest.Archiver) { last(a, metadata.LiveChanged).From = "db/none.ibd" },
		"kept with another size":         func(a *xbtest.Archiver) { last(a, metadata.LiveKept).Size++ },
		"copied with another size":       func(a *xbtest.Archiver) { last(a, metadata.LiveCopied).Size++ },
		"not stored":                     func(a *xbtest.Archiver) { last(a, metadata.LiveCopied).Stored = "db/none.MYD" },
		"the delta is not stored":        func(a *xbtest.Archiver) { last(a, metadata.LiveChanged).Stored = "db/none.ibd.delta" },
		"another tablespace":             func(a *xbtest.Archiver) { last(a, metadata.LiveChanged).Space = new(innodb.SpaceID) },
		"shorter than the delta":         func(a *xbtest.Archiver) { a.Live[len(a.Live)-1].Size = 0 },
		"a live file twice":              func(a *xbtest.Archiver) { a.Live = append(a.Live, *last(a, metadata.LiveKept)) },
		"a live redo log": func(a *xbtest.Archiver) {
			l := last(a, metadata.LiveKept)
			l.Path, l.From = "ib_logfile0", l.Path
		},
		"a mark of hb's own": func(a *xbtest.Archiver) {
			l := last(a, metadata.LiveKept)
			l.Path, l.From = "hb-applied.json", l.Path
		},
		"a tablespace without a sum": func(a *xbtest.Archiver) {
			a.Manifest.Since.PageTracking = false
			last(a, metadata.LiveChanged).Sum = nil
		},
		"another server":    func(a *xbtest.Archiver) { a.Manifest.Server = "another server" },
		"some tables":       func(a *xbtest.Archiver) { a.Manifest.Scope = &metadata.Scope{Databases: []string{"db"}} },
		"another LSN":       func(a *xbtest.Archiver) { a.Manifest.Since.LastLSN-- },
		"another start LSN": func(a *xbtest.Archiver) { a.Manifest.Since.FromLSN-- },
	} {
		for i := range 4 {
			pipe, second := i%2 > 0, i/2 > 0
			m := newModel(4)
			m.files["db/kept.MYI"] = &file{text: []byte("index")}
			base := m.full(t)
			m.files["db/m.MYD"] = &file{text: []byte("other rows")}
			m.change()
			m.change()
			states := []*state{base, m.increment(t, base, nil)}
			m.files["db/m.MYD"] = &file{text: []byte("yet other rows")}
			if m.change(); second {
				states = append(states, m.increment(t, states[1], edit))
			} else {
				states[1] = m.increment(t, base, edit)
			}
			names := save(t, states...)
			if pipe {
				names[0] = withoutIndex(t, names[0])
			}
			var out bytes.Buffer
			_, err := mergeFiles(t.Context(), names, &out)
			if err == nil || !as[*merge.MismatchError](err) && !as[*xbstream.CorruptError](err) {
				t.Errorf("%s, pipe %v, in the second increment %v: %v", name, pipe, second, err)
			}
			if _, err := catalog.List(t.Context(), bytes.NewReader(out.Bytes()), func(catalog.Entry) error { return nil }); err == nil {
				t.Errorf("%s: a whole archive was written", name)
			}
		}
	}
}

// TestDamaged: each archive of a chain, cut at 200 places and with a bit changed at as many,
// is refused, unless the bit is of no use to the result.
func TestDamaged(t *testing.T) {
	_, s := chainOf(t, 5, 2)
	var right bytes.Buffer
	if _, err := mergeFiles(t.Context(), save(t, s...), &right); err != nil {
		t.Fatal(err)
	}
	want := xbtest.ReadAll(t, bytes.NewReader(right.Bytes()))
	unnoticed, where := 0, make(map[string]int)
	for which := range s {
		size := len(s[which].archive)
		for i := range 200 {
			at := i * size / 200
			broken := slices.Clone(s)
			broken[which] = &state{archive: s[which].archive[:at]}
			refuse(t, "cut", save(t, broken...), func(err error) bool { return errors.Is(err, io.ErrUnexpectedEOF) }, "", true)

			flipped := bytes.Clone(s[which].archive)
			flipped[at+size/400] ^= 1 << (i % 8)
			broken[which] = &state{archive: flipped}
			var out bytes.Buffer
			if _, err := mergeFiles(t.Context(), save(t, broken...), &out); err == nil {
				unnoticed++
				place := fileAt(t, s[which].archive, int64(at+size/400))
				where[fmt.Sprintf("%d: %s", which, place)]++
				if which == 0 || which == 2 && !strings.HasSuffix(place, xbstream.End.String()) {
					t.Errorf("archive %d, bit at %d: %s: nobody noticed", which, at, place)
				}
				got := xbtest.ReadAll(t, bytes.NewReader(out.Bytes()))
				for name := range want {
					if !bytes.Equal(got[name], want[name]) {
						t.Errorf("archive %d, bit at %d: %s differs", which, at, name)
					}
				}
			}
		}
	}
	if unnoticed > 200 { // files of the first increment that the second replaces or drops
		t.Errorf("%d changed bits were not noticed", unnoticed)
	}
	t.Logf("%d of 600 changed bits were of no use to the result: %v", unnoticed, where)
}

// fileAt is the file whose chunk has a byte of an archive.
func fileAt(t *testing.T, archive []byte, at int64) (name string) {
	t.Helper()
	rd := xbstream.NewReader(bytes.NewReader(archive), xbstream.ReaderOptions{})
	for {
		ch, err := rd.Next()
		if err != nil {
			t.Fatal(err)
		}
		if rd.Pos() > at {
			return ch.Path + " " + ch.Type.String()
		}
	}
}

// TestIncrementAlone: an increment by itself is verified as an archive, and said to be no
// more; recovery is not rehearsed, and no directory made of it is applied.
func TestIncrementAlone(t *testing.T) {
	_, s := chainOf(t, 6, 1)
	inc := s[1].archive
	r, err := verify.Archive(t.Context(), bytes.NewReader(inc), verify.Options{Tmpdir: t.TempDir()})
	if err != nil || !r.Increment || r.Pages != 0 || r.LSN != s[1].since.LastLSN || len(r.Warnings) != 1 {
		t.Errorf("%+v, %v", r, err)
	}
	if _, err := verify.Archive(t.Context(), bytes.NewReader(inc), verify.Options{Tmpdir: t.TempDir(), Replay: true}); !as[*stream.UsageError](err) {
		t.Error(err)
	}
	if _, err := verify.Archive(t.Context(), bytes.NewReader(inc[:len(inc)-1]), verify.Options{Tmpdir: t.TempDir()}); !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Error(err)
	}
	dir := filepath.Join(t.TempDir(), "dir")
	if _, err := extract.Run(t.Context(), bytes.NewReader(inc), dir, extract.Options{}); err != nil {
		t.Fatal(err)
	}
	if _, err := apply.Run(t.Context(), dir, apply.Options{}); !as[*backupdir.NotBackupError](err) {
		t.Error(err)
	}
	if _, err := verify.Directory(t.Context(), dir, verify.Options{Tmpdir: t.TempDir()}); err == nil {
		t.Error("a directory of an increment was verified")
	}
}

// TestConsistentChange: data that was changed together with the checksum in its chunk's head
// is refused by the checksum of the whole file, in each archive.
func TestConsistentChange(t *testing.T) {
	_, s := chainOf(t, 7, 1)
	for which := range s {
		changed := bytes.Clone(s[which].archive)
		rd := xbstream.NewReader(bytes.NewReader(changed), xbstream.ReaderOptions{})
		for {
			ch, err := rd.Next()
			if err != nil {
				t.Fatal(err)
			}
			if ch.Type == xbstream.Payload && strings.HasPrefix(ch.Path, "ibdata1") && len(ch.Data) > pageSize {
				data := changed[rd.Pos()-int64(len(ch.Data)) : rd.Pos()]
				data[len(data)-10]++
				binary.LittleEndian.PutUint32(changed[rd.Pos()-int64(len(ch.Data))-4:], crc32.ChecksumIEEE(data))
				break
			}
		}
		broken := slices.Clone(s)
		broken[which] = &state{archive: changed}
		refuse(t, fmt.Sprint("changed in archive ", which), save(t, broken...), as[*xbstream.CorruptError], "checksum in the manifest", true)
	}
}

// TestOutputFails: wherever the output ends, there is an error, and no whole archive.
func TestOutputFails(t *testing.T) {
	_, s := chainOf(t, 8, 2)
	names := save(t, s...)
	var right bytes.Buffer
	if _, err := mergeFiles(t.Context(), names, &right); err != nil {
		t.Fatal(err)
	}
	full := errors.New("no space left")
	for i := range 50 {
		out := &limited{left: i * right.Len() / 50, err: full}
		if _, err := mergeFiles(t.Context(), names, out); !errors.Is(err, full) {
			t.Errorf("%d bytes: %v", i*right.Len()/50, err)
		}
		if _, err := catalog.List(t.Context(), bytes.NewReader(out.Bytes()), func(catalog.Entry) error { return nil }); err == nil {
			t.Errorf("%d bytes are a whole archive", out.Len())
		}
	}
	ctx, cancel := context.WithCancelCause(t.Context())
	cancel(full)
	if _, err := mergeFiles(ctx, names, io.Discard); !errors.Is(err, full) {
		t.Error(err)
	}
}

// limited takes so many bytes, and no more.
type limited struct {
	bytes.Buffer
	left int
	err  error
}

func (l *limited) Write(p []byte) (int, error) {
	if len(p) > l.left {
		n, _ := l.Buffer.Write(p[:l.left])
		l.left = 0
		return n, l.err
	}
	l.left -= len(p)
	return l.Buffer.Write(p)
}

// TestStream: the archive that a chain makes in the process is the one that is written, and
// the error of a chain that is none is the merge's own.
func TestStream(t *testing.T) {
	m, s := chainOf(t, 9, 2)
	open := func(names []string) *merge.Archives {
		a, err := merge.Open(t.Context(), stream.ReadFlags{Archive: names[0]}, names[1:], t.TempDir(), nil, nil)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() {
			if err := a.Close(); err != nil {
				t.Error(err)
			}
		})
		return a
	}
	read := func(a *merge.Archives) ([]byte, error) {
		r := a.Stream(t.Context(), merge.Options{HBVersion: "test"})
		b, err := io.ReadAll(r)
		return b, r.Wait(err)
	}
	b, err := read(open(save(t, s...)))
	if err != nil {
		t.Fatal(err)
	}
	checkMerged(t, 9, s, b)

	m.change()
	wrong := m.increment(t, s[2], func(a *xbtest.Archiver) { *a.Live[len(a.Live)-1].Sum++ })
	if _, err := read(open(save(t, s[0], s[1], s[2], wrong))); !as[*merge.DivergedError](err) {
		t.Errorf("the error is %v", err)
	}
	gone := errors.New("the reader's own")
	r := open(save(t, s...)).Stream(t.Context(), merge.Options{HBVersion: "test"})
	if _, err := io.ReadFull(r, make([]byte, 100)); err != nil {
		t.Fatal(err)
	}
	if err := r.Wait(gone); !errors.Is(err, gone) {
		t.Error(err)
	}
}
