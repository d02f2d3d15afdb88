package main

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"filippo.io/age"

	"hb/sink"
	"hb/source/innodb"
	"hb/source/innodb/redolog"
	"hb/source/mysqld/mysqldtest"
	"hb/stream"
	"hb/xbstream"
	"hb/xbstream/metadata"
)

// damageSeed is where all random damage comes from; a failing test names it.
const damageSeed = 20261124

// archiver makes an archive of hb's, with hb's own writer.
type archiver struct {
	out  bytes.Buffer
	w    *xbstream.Writer
	m    metadata.Manifest
	sums []metadata.File
	err  error // the first
}

const (
	sampleStart = innodb.LSN(50000)
	samplePage  = 4 << 10
	sampleFlags = 1<<4 | 3 // full_crc32, pages of 4 KiB
)

// newArchiver begins the archive of a MariaDB 10.11 with redo from from to last.
func newArchiver(from, last innodb.LSN) *archiver {
	a := &archiver{}
	a.w = xbstream.NewWriter(&a.out)
	now := time.Unix(1_800_000_000, 0).UTC()
	a.m = metadata.Manifest{FromLSN: from, CheckpointLSN: from, LastLSN: last, Start: now, End: now.Add(time.Minute),
		Binlog: &metadata.BinlogPos{File: "binlog.000003", Pos: 1234, GTID: "0-1-77"}}
	head, err := (&metadata.Archive{
		Version: metadata.ArchiveVersion, HBVersion: "test", ServerFlavor: metadata.FlavorMariaDB,
		ServerVersion: "10.11.18-MariaDB", PageSize: samplePage, StartLSN: from, RedoFormat: redolog.MariaDB108.String(), Created: now,
	}).Marshal()
	a.note(err)
	a.put(metadata.ArchiveName, head)
	return a
}

func (a *archiver) note(err error) {
	if a.err == nil {
		a.err = err
	}
}

func (a *archiver) create(name string) *xbstream.File {
	f, err := a.w.Create(name)
	a.note(err)
	return f
}

func (a *archiver) write(f *xbstream.File, content []byte) {
	if f != nil {
		_, err := f.Write(content)
		a.note(err)
	}
}

func (a *archiver) end(f *xbstream.File) {
	if f == nil {
		return
	}
	a.note(f.Close())
	a.sums = append(a.sums, metadata.File{Path: f.Path(), Size: f.Sum().Size, CRC32: f.Sum().CRC32})
	a.m.Files++
	a.m.Bytes += f.Sum().Size
}

func (a *archiver) put(name string, content []byte) {
	f := a.create(name)
	a.write(f, content)
	a.end(f)
}

// finish writes the manifest and returns the archive.
func (a *archiver) finish() ([]byte, error) {
	a.m.Heads = metadata.CRC32(a.w.HeadsCRC32())
	out := a.create(metadata.ManifestName)
	if a.err != nil {
		return nil, a.err
	}
	w, err := metadata.NewManifestWriter(out, a.m)
	if err != nil {
		return nil, err
	}
	for _, f := range a.sums {
		a.note(w.Add(f))
	}
	a.note(w.Close())
	a.note(out.Close())
	a.note(a.w.Close())
	return a.out.Bytes(), a.err
}

// samplePages makes a tablespace whose pages hold about what rows do.
func samplePages(t testing.TB, id innodb.SpaceID, pages int) []byte {
	t.Helper()
	space, err := innodb.ParseFlags(sampleFlags)
	if err != nil {
		t.Fatal(err)
	}
	rng := rand.New(rand.NewPCG(damageSeed, uint64(id)))
	var file []byte
	for no := range pages {
		page := make([]byte, samplePage)
		binary.BigEndian.PutUint32(page[innodb.OffsetPageNo:], uint32(no))
		binary.BigEndian.PutUint32(page[innodb.OffsetSpace:], uint32(id))
		if no == 0 {
			binary.BigEndian.PutUint32(page[innodb.OffsetFSPSpace:], uint32(id))
			binary.BigEndian.PutUint32(page[innodb.OffsetFSPSize:], uint32(pages))
			binary.BigEndian.PutUint32(page[innodb.OffsetFSPFlags:], sampleFlags)
		} else if no != 2 { // one page is empty
			for at := 120; at < samplePage*3/4; at += 24 {
				copy(page[at:], fmt.Sprintf("row %06d", at*no))
				binary.BigEndian.PutUint64(page[at+10:], rng.Uint64())
			}
		}
		space.SetLSN(page, sampleStart-1000)
		space.Stamp(page, innodb.ChecksumFullCRC32)
		file = append(file, page...)
	}
	return file
}

// sampleRedo is redo of some mini-transactions, each of which writes to a page
// of table 7, and the LSN that it reaches.
func sampleRedo() (log []byte, last innodb.LSN) {
	log = redolog.BackupHead(redolog.MariaDB108, redolog.Checkpoint{LSN: sampleStart, End: sampleStart, Number: 4}, "test")
	last = sampleStart
	mtr := func(body ...byte) {
		log = append(log, body...)
		log = binary.BigEndian.AppendUint32(append(log, 1), innodb.CRC32C(body))
		last += innodb.LSN(len(body) + 5)
	}
	const name = "./db/t.ibd"
	mtr(append([]byte{0xB0 | byte(2+len(name)), 7, 0}, name...)...) // FILE_MODIFY
	for i := range 300 {
		text := fmt.Sprintf("change%04d", i)
		mtr(append([]byte{0x30 | byte(4+len(text)), 7, byte(3 + i%4), 0x80, 200 - 0x80}, text...)...) // WRITE
	}
	return log, last
}

// sampleFiles are the files of a small backup that hb apply takes, in an order
// in which they could come.
func sampleFiles(t testing.TB) (names []string, contents map[string][]byte, last innodb.LSN) {
	t.Helper()
	redo, last := sampleRedo()
	checkpoints, err := (&metadata.Checkpoints{BackupType: metadata.FullBackup, ToLSN: sampleStart, LastLSN: last}).Marshal()
	if err != nil {
		t.Fatal(err)
	}
	var cnf metadata.MyCnf
	cnf.Set("innodb_data_file_path", "ibdata1:64K:autoextend")
	cnf.Set("innodb_page_size", "4096")
	cnfText, err := cnf.Marshal()
	if err != nil {
		t.Fatal(err)
	}
	contents = map[string][]byte{
		"ib_logfile0":            redo,
		"ibdata1":                samplePages(t, 0, 16),
		"db/t.ibd":               samplePages(t, 7, 40),
		"db/u.ibd":               samplePages(t, 8, 25),
		"db/t.frm":               []byte(strings.Repeat("a definition; ", 40)),
		"db/m.MYD":               []byte(strings.Repeat("row of MyISAM\x00", 200)),
		"db/empty.MYD":           nil,
		"db2/db.opt":             []byte("default-character-set=utf8mb4\n"),
		"backup-my.cnf":          cnfText,
		"xtrabackup_binlog_info": []byte("binlog.000003\t1234\t0-1-77\n"),
		"xtrabackup_checkpoints": checkpoints,
	}
	names = []string{"ib_logfile0", "db/t.ibd", "ibdata1", "db/u.ibd", "db/t.frm", "db/m.MYD", "db/empty.MYD", "db2/db.opt"}
	return names, contents, last
}

// sampleArchive makes the archive: pages, redo and other files in turn, then
// what describes them.
func sampleArchive(t testing.TB) []byte {
	t.Helper()
	names, contents, last := sampleFiles(t)
	a := newArchiver(sampleStart, last)
	rest := maps.Clone(contents)
	open := make(map[string]*xbstream.File)
	for len(open) < len(names) || slices.ContainsFunc(names, func(n string) bool { return len(rest[n]) > 0 }) {
		for _, name := range names {
			data := rest[name]
			if open[name] == nil {
				open[name] = a.create(name)
			} else if len(data) == 0 {
				continue
			}
			n := min(len(data), 2*samplePage)
			a.write(open[name], data[:n])
			if rest[name] = data[n:]; n == len(data) {
				a.end(open[name])
			}
		}
	}
	for _, name := range slices.Sorted(maps.Keys(contents)) {
		if open[name] == nil {
			a.put(name, contents[name])
		}
	}
	archive, err := a.finish()
	if err != nil {
		t.Fatal(err)
	}
	return archive
}

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
	plain := sampleArchive(t)
	id, err := age.GenerateX25519Identity()
	if err != nil {
		t.Fatal(err)
	}
	opts := stream.Options{Identities: []age.Identity{id}}
	to, zst := []age.Recipient{id.Recipient()}, &stream.Compression{Threads: 1}
	all := []*form{{name: "plain"}, {name: "zstd"}, {name: "age"}, {name: "zstd and age"}}
	for i, write := range []stream.WriteOptions{{}, {Compress: zst}, {Recipients: to}, {Compress: zst, Recipients: to}} {
		var out bytes.Buffer
		w, err := stream.Create(t.Context(), &out, write)
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
		for p := units[i]; p < units[i+1]; p += samplePage {
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
		_, err := sink.List(ctx, in, func(sink.Entry) error { return nil })
		return err
	}, noArgs},
	{"extract", func(ctx context.Context, in io.Reader, dir string) error {
		_, err := sink.Extract(ctx, in, dir, sink.ExtractOptions{Parallel: 2})
		return err
	}, func(dir string) []string { return []string{"-C", dir} }},
	{"verify", func(ctx context.Context, in io.Reader, _ string) error {
		_, err := sink.Verify(ctx, in, sink.VerifyOptions{Parallel: 2})
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
	scratch := memoryDir(t)
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
	marked, err := sink.IsMarked(dir)
	if err != nil || !marked {
		t.Errorf("%s is left without its mark: %v", dir, err)
	}
	if _, err := sink.Apply(context.Background(), dir, sink.ApplyOptions{}); exitStatus(err) != 8 {
		t.Errorf("apply of what was left: exit code %d, %v", exitStatus(err), err)
	}
}

// memoryDir is a directory in memory, where syncing costs nothing, if there is
// one.
func memoryDir(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("/dev/shm", "hb-test-")
	if err != nil {
		return t.TempDir()
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	return dir
}

// readTree reads the files of a directory.
func readTree(t testing.TB, dir string) map[string]string {
	files := make(map[string]string)
	err := filepath.WalkDir(dir, func(path string, d os.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		data, err := os.ReadFile(path)
		name, _ := filepath.Rel(dir, path)
		files[name] = string(data)
		return err
	})
	if err != nil {
		t.Error(err)
	}
	return files
}

// TestUndamaged: the archive that the tests below damage is a good one, in all
// its forms, and apply makes of it what the redo says.
func TestUndamaged(t *testing.T) {
	_, contents, last := sampleFiles(t)
	for _, f := range forms(t) {
		dir := filepath.Join(t.TempDir(), "backup")
		for _, r := range readers {
			if code, err := f.outcome(t.Context(), r, f.bytes, dir); code != 0 {
				t.Fatalf("%s: %s ends with exit code %d: %v", f.name, r.name, code, err)
			}
		}
		got := readTree(t, dir)
		for name, want := range contents {
			if got[name] != string(want) {
				t.Errorf("%s: %s differs", f.name, name)
			}
		}
		result, err := sink.Apply(t.Context(), dir, sink.ApplyOptions{Tool: "test"})
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
				if got := finish(t, hb(t, append(args, file)...)); got.code != want || want == 0 {
					t.Errorf("%s, %s: %s of the file ends with exit code %d, want %d: %s", f.name, what, r.name, got.code, want, got.stderr)
				}
				cmd := hb(t, append([]string{r.name, "-i", key}, r.args(target+"2")...)...)
				cmd.Stdin = bytes.NewReader(archive)
				if got := finish(t, cmd); got.code != want {
					t.Errorf("%s, %s: %s of a pipe ends with exit code %d, want %d: %s", f.name, what, r.name, got.code, want, got.stderr)
				}
			}
			if got := finish(t, hb(t, "apply", filepath.Join(dir, f.name, what, "extract"))); got.code != 8 {
				t.Errorf("%s, %s: apply of what was extracted ends with exit code %d: %s", f.name, what, got.code, got.stderr)
			}
		}
	}
}
