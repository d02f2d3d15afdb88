package main

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"testing"

	"filippo.io/age"

	"hb/scripts/test.d/hbtest"
	"hb/sink/apply"
	"hb/sink/backupdir"
	"hb/sink/catalog"
	"hb/sink/extract"
	"hb/sink/verify"
	"hb/source/mysqld/mysqldtest"
	"hb/stream"
	"hb/xbstream"
	"hb/xbstream/xbtest"
)

// damageSeed is where all random damage comes from; a failing test names it.
const damageSeed = 20261124

// form is an archive in one of the forms in which it travels.
type form struct {
	name  string
	bytes []byte
	opts  stream.Options // to read it
	units []int          // where its chunks, blocks or sealed parts begin, and its end
}

// forms are the archive in all four forms.
func forms(t testing.TB) []*form {
	t.Helper()
	plain, err := xbtest.Sample()
	if err != nil {
		t.Fatal(err)
	}
	id, err := age.GenerateX25519Identity()
	if err != nil {
		t.Fatal(err)
	}
	opts := stream.Options{Identities: []age.Identity{id}}
	to, zst := []age.Recipient{id.Recipient()}, &stream.Compression{Threads: 1}
	all := []*form{{name: "plain"}, {name: "zstd"}, {name: "age"}, {name: "zstd and age"}}
	for i, write := range []stream.WriteOptions{{}, {Compress: zst}, {Recipients: to}, {Compress: zst, Recipients: to}} {
		var out bytes.Buffer
		w, err := stream.Create(&out, write)
		if err != nil {
			t.Fatal(err)
		}
		for part := range slices.Chunk(plain, 20_000) { // as they come, not in one piece
			if _, err := w.Write(part); err != nil {
				t.Fatal(err)
			}
		}
		if err := w.Close(); err != nil {
			t.Fatal(err)
		}
		all[i].bytes, all[i].opts = out.Bytes(), opts
	}
	all[0].units = chunkStarts(t, all[0].bytes)
	all[1].units = split(zstdFrames(all[1].bytes))
	all[2].units = split(ageParts(all[2].bytes))
	all[3].units = split(ageParts(all[3].bytes))
	return all
}

// chunkStarts are where the chunks of an archive begin, and its end.
func chunkStarts(t testing.TB, archive []byte) []int {
	t.Helper()
	var at []int
	rd := xbstream.NewReader(bytes.NewReader(archive), xbstream.ReaderOptions{})
	for {
		ch, err := rd.Next()
		if err == io.EOF {
			return append(at, len(archive))
		}
		if err != nil {
			t.Fatal(err)
		}
		at = append(at, int(ch.At))
	}
}

// zstdFrames are where the frames that hb makes begin, each with its header, and
// the mark at the end.
func zstdFrames(file []byte) []int {
	const mark, head = 8 + 4, 8 + 8 // skippable frames
	var at []int
	p := mark
	for ; file[p+4] == head-8; p += head + int(binary.LittleEndian.Uint32(file[p+8:])) {
		at = append(at, p)
	}
	return append(at, p)
}

// ageParts are where the sealed parts of an age file begin, 64 KiB and a tag
// each, and its end. The nonce before the first is 16 bytes.
func ageParts(file []byte) []int {
	footer := bytes.Index(file, []byte("\n--- "))
	header := footer + 1 + bytes.IndexByte(file[footer+1:], '\n') + 1
	var at []int
	for p := header + 16; p < len(file); p += 64<<10 + 16 {
		at = append(at, p)
	}
	return append(at, len(file))
}

// split divides units larger than a page, of which the sample would have few.
func split(units []int) []int {
	var at []int
	for i := range len(units) - 1 {
		for p := units[i]; p < units[i+1]; p += xbtest.SamplePage {
			at = append(at, p)
		}
	}
	return append(at, units[len(units)-1])
}

// reader is a command that reads an archive, less its command line.
type reader struct {
	name string
	// read reads an archive without its stages. dir is a directory of its own,
	// which does not exist.
	read func(ctx context.Context, in io.Reader, dir string) error
	// args are its options that say where dir is.
	args func(dir string) []string
}

func noArgs(string) []string { return nil }

// readers are all that must never take a damaged archive for a good one.
var readers = []reader{
	{"list", func(ctx context.Context, in io.Reader, _ string) error {
		_, err := catalog.List(ctx, in, func(catalog.Entry) error { return nil })
		return err
	}, noArgs},
	{"extract", func(ctx context.Context, in io.Reader, dir string) error {
		_, err := extract.Run(ctx, in, dir, extract.Options{Parallel: 2})
		return err
	}, func(dir string) []string { return []string{"-C", dir} }},
	{"verify", func(ctx context.Context, in io.Reader, _ string) error {
		_, err := verify.Archive(ctx, in, verify.Options{Parallel: 2})
		return err
	}, noArgs},
}

// outcome reads bytes with a reader and returns the exit code that the command
// ends with.
func (f *form) outcome(ctx context.Context, r reader, archive []byte, dir string) (int, error) {
	in, err := stream.Open(bytes.NewReader(archive), f.opts)
	if err != nil {
		return exitStatus(err), err
	}
	err = errors.Join(r.read(ctx, in, dir), in.Close())
	return exitStatus(err), err
}

// trial is a damaged archive and how it may end.
type trial struct {
	what    string
	archive func() []byte // made when its turn comes
	codes   []int         // the exit codes that say what happened
}

// tally is how many trials ended with which code.
type tally struct {
	mu    sync.Mutex
	codes map[string]map[int]int // by reader
}

// tryAll gives all trials to all readers, on all processors. None may succeed,
// and where a directory was made it must say that it is no backup.
func (f *form) tryAll(t *testing.T, trials []trial) {
	t.Helper()
	result := &tally{codes: make(map[string]map[int]int)}
	for _, r := range readers {
		result.codes[r.name] = make(map[int]int)
	}
	scratch := hbtest.MemoryDir(t)
	var next atomic.Int64
	var workers sync.WaitGroup
	for w := range runtime.GOMAXPROCS(0) {
		workers.Go(func() {
			dir := filepath.Join(scratch, fmt.Sprint(w))
			for i := int(next.Add(1)) - 1; i < len(trials) && !t.Failed(); i = int(next.Add(1)) - 1 {
				archive := trials[i].archive()
				for _, r := range readers {
					f.try(t, result, &trials[i], r, archive, dir)
				}
			}
		})
	}
	workers.Wait()
	for _, r := range readers {
		t.Logf("seed %d, %s, %s: %d trials, exit codes %v", damageSeed, f.name, r.name, len(trials), result.codes[r.name])
	}
}

func (f *form) try(t *testing.T, result *tally, tr *trial, r reader, archive []byte, dir string) {
	code, err := f.outcome(t.Context(), r, archive, dir)
	result.mu.Lock()
	result.codes[r.name][code]++
	result.mu.Unlock()
	if _, statErr := os.Stat(dir); statErr == nil {
		defer os.RemoveAll(dir)
	}
	if err == nil {
		t.Errorf("%s, %s: %s takes it for good (seed %d)", f.name, tr.what, r.name, damageSeed)
		return
	}
	if !slices.Contains(tr.codes, code) {
		t.Errorf("%s, %s, %s: exit code %d, want one of %v (seed %d): %v", f.name, tr.what, r.name, code, tr.codes, damageSeed, err)
	}
	if _, statErr := os.Stat(dir); statErr == nil {
		refusedByApply(t, dir)
	}
}

// refusedByApply: a directory that an extract left behind is no backup.
func refusedByApply(t *testing.T, dir string) {
	marked, err := backupdir.IsMarked(dir)
	if err != nil || !marked {
		t.Errorf("%s is left without its mark: %v", dir, err)
	}
	if _, err := apply.Run(context.Background(), dir, apply.Options{}); exitStatus(err) != 8 {
		t.Errorf("apply of what was left: exit code %d, %v", exitStatus(err), err)
	}
}

// TestUndamaged: the archive that the tests below damage is a good one, in all
// its forms, and apply makes of it what the redo says.
func TestUndamaged(t *testing.T) {
	_, contents, last, err := xbtest.SampleFiles()
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range forms(t) {
		dir := filepath.Join(t.TempDir(), "backup")
		for _, r := range readers {
			if code, err := f.outcome(t.Context(), r, f.bytes, dir); code != 0 {
				t.Fatalf("%s: %s ends with exit code %d: %v", f.name, r.name, code, err)
			}
		}
		got := hbtest.ReadTree(t, dir)
		for name, want := range contents {
			if got[name] != string(want) {
				t.Errorf("%s: %s differs", f.name, name)
			}
		}
		result, err := apply.Run(t.Context(), dir, apply.Options{Tool: "test"})
		if err != nil || result.LSN != last || result.Pages == 0 {
			t.Errorf("%s: apply: %+v, %v; want LSN %d", f.name, result, err, last)
		}
		t.Logf("%s: %d bytes, %d parts", f.name, len(f.bytes), len(f.units)-1)
	}
}

// TestCuts cuts the archive between all of its chunks and at 1,000 random bytes.
// Each cut is an incomplete archive to every reader.
func TestCuts(t *testing.T) {
	for _, f := range forms(t) {
		rng := rand.New(rand.NewPCG(damageSeed, 1))
		at := slices.Clone(f.units[:len(f.units)-1])
		for range someOf(1000) {
			at = append(at, rng.IntN(len(f.bytes)))
		}
		var trials []trial
		for _, n := range at {
			trials = append(trials, trial{
				what:    fmt.Sprintf("cut at byte %d of %d", n, len(f.bytes)),
				archive: func() []byte { return f.bytes[:n] },
				codes:   []int{6},
			})
		}
		f.tryAll(t, trials)
	}
}

// damaged are the exit codes of a changed archive: cut where a length was
// changed, damaged, or encrypted to somebody else.
var damaged = []int{6, 7, 10}

// someOf is how many random trials there are: full in the long form, a
// twentieth otherwise.
func someOf(full int) int {
	if mysqldtest.Long() {
		return full
	}
	return full / 20
}

// TestFlips flips random bits, one at a time, 10,000 in each form.
func TestFlips(t *testing.T) {
	for _, f := range forms(t) {
		rng := rand.New(rand.NewPCG(damageSeed, 2))
		var trials []trial
		for range someOf(10_000) {
			trials = append(trials, f.flip(rng.IntN(8*len(f.bytes))))
		}
		f.tryAll(t, trials)
	}
}

// flip is the trial of one bit.
func (f *form) flip(bit int) trial {
	return trial{
		what: fmt.Sprintf("bit %d of byte %d", bit%8, bit/8),
		archive: func() []byte {
			bad := bytes.Clone(f.bytes)
			bad[bit/8] ^= 1 << (bit % 8)
			return bad
		},
		codes: damaged,
	}
}

// TestMovedChunks swaps, doubles and drops chunks of the archive, and in its
// other forms the blocks and sealed parts around them, 1,000 times in each.
func TestMovedChunks(t *testing.T) {
	for _, f := range forms(t) {
		rng := rand.New(rand.NewPCG(damageSeed, 3))
		var trials []trial
		for range someOf(1000) {
			trials = append(trials, f.move(rng))
		}
		f.tryAll(t, trials)
	}
}

// move is the trial of one move of whole chunks.
func (f *form) move(rng *rand.Rand) trial {
	n := len(f.units) - 1
	unit := func(i int) []byte { return f.bytes[f.units[i]:f.units[i+1]] }
	i := rng.IntN(n)
	var what string
	order := slices.Collect(upTo(n))
	switch kind := rng.IntN(4); kind {
	case 0:
		what, order = fmt.Sprintf("part %d dropped", i), slices.Delete(order, i, i+1)
	case 1:
		what, order = fmt.Sprintf("part %d doubled", i), slices.Insert(order, i, i)
	case 2:
		at := rng.IntN(n)
		what, order = fmt.Sprintf("part %d again at %d", i, at), slices.Insert(order, at, i)
	case 3:
		j := rng.IntN(n)
		for j == i || bytes.Equal(unit(i), unit(j)) {
			j = rng.IntN(n)
		}
		what, order[i], order[j] = fmt.Sprintf("parts %d and %d swapped", i, j), j, i
	}
	return trial{
		what: what, codes: damaged,
		archive: func() []byte {
			moved := bytes.Clone(f.bytes[:f.units[0]])
			for _, i := range order {
				moved = append(moved, unit(i)...)
			}
			return moved
		},
	}
}

// upTo yields 0 to n-1.
func upTo(n int) func(func(int) bool) {
	return func(yield func(int) bool) {
		for i := 0; i < n && yield(i); i++ {
		}
	}
}

// TestDamageOutside: the program itself ends as its readers do, through files
// and pipes.
func TestDamageOutside(t *testing.T) {
	dir := t.TempDir()
	all := forms(t)
	key := filepath.Join(dir, "key")
	if err := os.WriteFile(key, []byte(fmt.Sprint(all[0].opts.Identities[0])), 0o600); err != nil {
		t.Fatal(err)
	}
	rng := rand.New(rand.NewPCG(damageSeed, 4))
	for _, f := range all {
		cut := f.bytes[:f.units[1+rng.IntN(len(f.units)-2)]]
		flipped := f.flip(8 * (len(f.bytes)/2 + rng.IntN(100))).archive()
		for what, archive := range map[string][]byte{"cut": cut, "flipped": flipped, "moved": f.move(rng).archive()} {
			file := filepath.Join(dir, "archive")
			if err := os.WriteFile(file, archive, 0o600); err != nil {
				t.Fatal(err)
			}
			for _, r := range readers {
				target := filepath.Join(dir, f.name, what, r.name)
				if err := os.MkdirAll(filepath.Dir(target), 0o700); err != nil {
					t.Fatal(err)
				}
				want, _ := f.outcome(t.Context(), r, archive, filepath.Join(dir, f.name, what, "inside"+r.name))
				args := append([]string{r.name, "-i", key}, r.args(target)...)
				if got := hbtest.Finish(t, hb(t, append(args, file)...)); got.Code != want || want == 0 {
					t.Errorf("%s, %s: %s of the file ends with exit code %d, want %d: %s", f.name, what, r.name, got.Code, want, got.Stderr)
				}
				cmd := hb(t, append([]string{r.name, "-i", key}, r.args(target+"2")...)...)
				cmd.Stdin = bytes.NewReader(archive)
				if got := hbtest.Finish(t, cmd); got.Code != want {
					t.Errorf("%s, %s: %s of a pipe ends with exit code %d, want %d: %s", f.name, what, r.name, got.Code, want, got.Stderr)
				}
			}
			if got := hbtest.Finish(t, hb(t, "apply", filepath.Join(dir, f.name, what, "extract"))); got.Code != 8 {
				t.Errorf("%s, %s: apply of what was extracted ends with exit code %d: %s", f.name, what, got.Code, got.Stderr)
			}
		}
	}
}
