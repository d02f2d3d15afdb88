package testd

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"hb/scripts/test.d/hbtest"
	"hb/sink/backupdir"
	"hb/sink/sinktest"
	"hb/source/mysqld/mysqldtest"
	"hb/stream/disk/disktest"
	"hb/xbstream"
	"hb/xbstream/metadata"
	"hb/xbstream/xbtest"
	"hb/xbstream/xbtest/raw"
)

// maxHostile is what no archive may make hb use of memory.
const maxHostile = 256 << 20

// asPeak makes the test binary a wrapper that runs a command and writes down, in
// the file named, how large it became. The kernel counts the process that
// starts another to the other's size, so that it must not be a large one.
const asPeak = "HB_TEST_PEAK"

// runPeak is that wrapper. It returns the command's exit code.
func runPeak(file string, args []string) int {
	cmd := exec.Command(args[0], args[1:]...)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	err := cmd.Run()
	if cmd.ProcessState == nil {
		fmt.Fprintln(os.Stderr, err)
		return 125
	}
	usage := cmd.ProcessState.SysUsage().(*syscall.Rusage)
	if err := os.WriteFile(file, []byte(strconv.FormatInt(usage.Maxrss<<10, 10)), 0o600); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 125
	}
	return cmd.ProcessState.ExitCode()
}

// measured runs hb with in on its standard input, and returns how it ended and how
// large it became, in bytes.
func measured(t *testing.T, in func(io.Writer) error, args ...string) (hbtest.Result, int64) {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	peak := filepath.Join(t.TempDir(), "peak")
	cmd := exec.Command(self, append([]string{built}, args...)...)
	cmd.Env = append(os.Environ(), asPeak+"="+peak)
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	cmd.Stdin = r
	fed := make(chan struct{})
	go func() {
		defer close(fed)
		out := bufio.NewWriterSize(w, 1<<20)
		_ = in(out) // hb may end before it has read everything
		_ = out.Flush()
		_ = w.Close()
	}()
	var errs bytes.Buffer
	cmd.Stderr = &errs
	_ = cmd.Run() // its outcome is in ProcessState
	r.Close()
	<-fed
	text, err := os.ReadFile(peak)
	if err != nil {
		t.Fatalf("%v\n%s", err, errs.String())
	}
	size, err := strconv.ParseInt(string(text), 10, 64)
	if err != nil {
		t.Fatal(err)
	}
	return hbtest.Result{Code: cmd.ProcessState.ExitCode(), Stderr: errs.String()}, size
}

// bytesOf writes the same bytes n times.
func bytesOf(n int, parts ...[]byte) func(io.Writer) error {
	b := slices.Concat(parts...)
	return func(w io.Writer) error {
		for range n {
			if _, err := w.Write(b); err != nil {
				return err
			}
		}
		return nil
	}
}

// inTurn writes one after the other.
func inTurn(writes ...func(io.Writer) error) func(io.Writer) error {
	return func(w io.Writer) error {
		for _, write := range writes {
			if err := write(w); err != nil {
				return err
			}
		}
		return nil
	}
}

// numbered writes the bytes that part makes of each number below n.
func numbered(n int, part func(i int) []byte) func(io.Writer) error {
	return func(w io.Writer) error {
		for i := range n {
			if _, err := w.Write(part(i)); err != nil {
				return err
			}
		}
		return nil
	}
}

// hostile is an archive that somebody made to do harm.
type hostile struct {
	name  string
	write func(io.Writer) error
	code  int    // how extract and list must end
	says  string // on stderr
	only  string // the one reader that is tried; empty: all
	args  []string
	long  bool // only in the long form
}

// ownHead is the beginning of an archive of hb's.
func ownHead() []byte {
	a := xbtest.NewArchiver(xbtest.SamplePage, 1000, 2000)
	return bytes.Clone(a.Out.Bytes())
}

// ownManifest ends an archive of hb's with a manifest of that text.
func ownManifest(text string) func(io.Writer) error {
	return bytesOf(1, ownHead(), raw.File(metadata.ManifestName, text))
}

func hostiles() []hostile {
	zeros := make([]byte, xbstream.MaxPayload)
	var all []hostile
	add := func(name string, code int, says string, write func(io.Writer) error) {
		all = append(all, hostile{name: name, code: code, says: says, write: write})
	}
	// Lengths that promise more than there is, or than can be.
	long := func(n uint32) []byte { return binary.LittleEndian.AppendUint32([]byte("XBSTCK01\x00P"), n) }
	add("path of 4 GiB", 7, "path length", bytesOf(1, long(1<<32-1)))
	add("path of 512", 7, "path length", bytesOf(1, long(512), zeros[:4096]))
	add("path of nothing", 7, "path length", bytesOf(1, long(0), zeros[:4096]))
	add("payload of 2^63", 7, "payload length", bytesOf(1, raw.Chunk('P', 0, "a", uint64(1<<63), uint64(0), uint32(0))))
	add("payload of 2^64-1", 7, "payload length", bytesOf(1, raw.Chunk('P', 0, "a", ^uint64(0), uint64(0), uint32(0))))
	add("payload beyond the limit", 7, "payload length", bytesOf(1, raw.Chunk('P', 0, "a", uint64(xbstream.MaxPayload+1), uint64(0), uint32(0))))
	add("payload that never comes", 6, "cut", bytesOf(1, raw.Chunk('P', 0, "a", uint64(xbstream.MaxPayload), uint64(0), uint32(0))))
	add("payload with a false checksum", 7, "checksum", bytesOf(1, raw.Chunk('P', 0, "a", uint64(len(zeros)), uint64(0), uint32(1)), zeros))
	add("offset of 2^64-1", 7, "payload offset", bytesOf(1, raw.Chunk('P', 0, "a", uint64(1), ^uint64(0), uint32(0), byte(0))))
	add("sparse map of 2^32 entries", 7, "sparse map", bytesOf(1, raw.Chunk('S', 0, "a", ^uint32(0), uint64(8), uint64(0), uint32(0)), zeros))
	add("sparse map that never comes", 6, "cut", bytesOf(1, raw.Chunk('S', 0, "a", uint32(xbstream.MaxSparse), uint64(8), uint64(0), uint32(0))))
	add("sparse map of too much", 7, "does not cover", bytesOf(1, raw.Sparse("a", 0, []uint32{0, 1 << 31, 0, 1 << 31}, "x"), zeros[:4096]))
	add("sparse map that overflows", 7, "does not cover", bytesOf(1, raw.Sparse("a", 0, slices.Repeat([]uint32{1<<32 - 1, 1<<32 - 1}, 100_000), "x"), zeros[:4096]))
	add("hole of 2^49", 7, "reaches too far", bytesOf(1, raw.Sparse("a", 0, slices.Repeat([]uint32{1<<32 - 1, 0}, 128<<10), ""), zeros[:4096]))
	add("seek to 2^62", 7, "seek offset", bytesOf(1, raw.Seek("a", 1<<62), raw.File("b", "x")))

	// Names that lead out, or to what is hb's.
	for _, name := range []string{
		"../evil", "..", ".", "a/../../evil", "a/..", "/evil", "//evil", "/", "a//evil", "a/", "a/./evil", "./", "./../evil", "././/evil",
		"evil\x00", "\x00", "a/\x00/b",
	} {
		add(fmt.Sprintf("name %q", name), 7, "unsafe name", bytesOf(1, raw.File(name, "x")))
		add(fmt.Sprintf("renamed to %q", name), 7, "unsafe name", bytesOf(1, raw.File("a", "x"), raw.Rename("a", name)))
	}
	for _, name := range []string{backupdir.MarkerName, backupdir.ApplyingName, backupdir.HandedOverName, "hb-doublewrite", "hb-spill", "hb-redo/ib_logfile0", "ibdata1.hb-held", "./" + backupdir.ApplyingName} {
		add("name "+name, 7, "mark of hb's own", bytesOf(1, raw.File(name, "x")))
		add("renamed to "+name, 7, "mark of hb's own", bytesOf(1, raw.File("a", "x"), raw.Rename("a", name)))
		add("in hb's own archive "+name, 7, "mark of hb's own", bytesOf(1, ownHead(), raw.File(name, "x")))
	}
	for _, name := range []string{metadata.ArchiveName, metadata.ManifestName} {
		add("late "+name, 7, "unexpected here", bytesOf(1, raw.File("a", "x"), raw.File(name, "x")))
	}

	// Files that contradict themselves.
	add("twice", 7, "twice", bytesOf(1, raw.File("a", "x"), raw.File("a", "y")))
	add("twice by another name", 7, "twice", bytesOf(1, raw.File("a", "x"), raw.File("./a", "y")))
	add("gap", 7, "payload offset", bytesOf(1, raw.Payload(0, "a", 0, "x"), raw.Payload(0, "a", 2, "x")))
	add("overlap", 7, "payload offset", bytesOf(1, raw.Payload(0, "a", 0, "xx"), raw.Payload(0, "a", 1, "x")))
	add("overlap of a hole", 7, "payload offset", bytesOf(1, raw.Sparse("a", 0, []uint32{9, 1}, "x"), raw.Payload(0, "a", 1, "x")))
	add("open when renamed", 7, "before it ended", bytesOf(1, raw.Payload(0, "a", 0, "x"), raw.Rename("a", "b")))
	for _, flags := range []byte{0, 1, 3} {
		add(fmt.Sprintf("unknown type, flags %d", flags), 7, "unknown chunk", bytesOf(1, raw.Chunk('z', flags, "a", uint64(1), uint64(0), uint32(0), byte(0)), raw.File("b", "x")))
		add(fmt.Sprintf("type 0, flags %d", flags), 7, "unknown chunk", bytesOf(1, raw.Chunk(0, flags, "a"), raw.File("b", "x")))
	}
	add("flag 4", 7, "unknown flags", bytesOf(1, raw.Chunk('E', 4, "a")))
	add("never ended", 6, "before the end of", numbered(50_000, func(i int) []byte { return raw.Payload(0, fmt.Sprintf("d/%d", i), 0, "x") }))
	all[len(all)-1].only = "list"
	add("removed without end", 7, "more patterns", inTurn(
		numbered(200_000, func(i int) []byte { return raw.End(fmt.Sprintf("d/%d", i)) }),
		bytesOf(1_000_000, raw.Remove("e*"))))
	all[len(all)-1].only, all[len(all)-1].long = "list", true

	// Manifests and headers that hb would have to hold.
	add("endless manifest", 7, "more than", inTurn(bytesOf(1, ownHead()), endless(metadata.ManifestName)))
	add("manifest of deep brackets", 7, metadata.ManifestName, ownManifest(`{"hb_manifest":1,"warnings":`+strings.Repeat("[", 900_000)+"\n"))
	add("manifest of many files", 7, "files", ownManifest(`{"hb_manifest":1,"files":1000000000}`+"\n"))
	add("manifest of nothing", 6, "empty", bytesOf(1, ownHead(), raw.End(metadata.ManifestName)))
	add("manifest of a later hb", 4, "newer hb", ownManifest(`{"hb_manifest":9}`+"\n"))
	add("endless header", 7, "more than", endless(metadata.ArchiveName))
	add("header of deep brackets", 7, metadata.ArchiveName, bytesOf(1, raw.File(metadata.ArchiveName, `{"hb_archive":1,"options":`+strings.Repeat("[", 60_000))))
	return all
}

// endless is a file that goes on.
func endless(name string) func(io.Writer) error {
	spaces := bytes.Repeat([]byte(" "), 1<<20)
	return numbered(200, func(i int) []byte { return raw.Payload(0, name, uint64(i)<<20, spaces) })
}

// zstdFrame is a frame with a window of a power of two, and the blocks given. It
// has no checksum.
func zstdFrame(windowLog byte, blocks ...[]byte) []byte {
	return append([]byte{0x28, 0xb5, 0x2f, 0xfd, 0, (windowLog - 10) << 3}, slices.Concat(blocks...)...)
}

const (
	zstdRaw    = 0
	zstdRepeat = 1 // one byte, so many times
)

func zstdBlock(kind, size int, last bool, content ...byte) []byte {
	head := uint32(size)<<3 | uint32(kind)<<1
	if last {
		head |= 1
	}
	return append([]byte{byte(head), byte(head >> 8), byte(head >> 16)}, content...)
}

// zstdRaws is content of at most 128 KiB as it is.
func zstdRaws(content []byte, last bool) []byte {
	return zstdBlock(zstdRaw, len(content), last, content...)
}

// hostileStages are hostile archives under compression or encryption.
func hostileStages(t *testing.T) []hostile {
	const block = 128 << 10
	zeros := zstdBlock(zstdRepeat, block, false, 0)
	var all []hostile
	add := func(name string, code int, says string, write func(io.Writer) error) {
		all = append(all, hostile{name: name, code: code, says: says, write: write})
	}
	add("zstd window of 2 GiB", 7, "window", bytesOf(1, zstdFrame(31, zeros)))
	add("zstd window of 2^41", 7, "window", bytesOf(1, zstdFrame(41, zeros)))
	// A file of 1 GiB of zeros in 32 KiB: 16 payloads.
	data := make([]byte, xbstream.MaxPayload)
	inflate := func(window byte) func(io.Writer) error {
		return inTurn(bytesOf(1, zstdFrame(window)), numbered(16, func(i int) []byte {
			head := raw.Payload(0, "a", uint64(i)*xbstream.MaxPayload, data)
			return slices.Concat(zstdRaws(head[:len(head)-len(data)], false), slices.Concat(slices.Repeat([][]byte{zeros}, xbstream.MaxPayload/block)...))
		}), bytesOf(1, zstdBlock(zstdRaw, 0, true)))
	}
	add("zstd of 1 GiB from little", 6, "before the end of", inflate(20))
	add("zstd of 1 GiB with a large window", 6, "before the end of", inflate(27))
	add("zstd frames without content", 6, "empty", bytesOf(100_000, zstdFrame(10, zstdBlock(zstdRaw, 0, true))))
	add("zstd frames with large windows", 6, "before the end of", numbered(2000, func(i int) []byte {
		return zstdFrame(27, zstdRaws(raw.Payload(0, "a", uint64(i), "x"), true))
	}))
	add("zstd frames to skip", 6, "empty", bytesOf(1_000_000, []byte("\x50\x2a\x4d\x18\x02\x00\x00\x00ab")))
	add("zstd frame of 4 GiB to skip", 6, "unexpected EOF", bytesOf(1, []byte("\x50\x2a\x4d\x18\xff\xff\xff\xff"), data[:1<<20]))
	// Blocks without content are zeros, which compress well: each of these
	// frames fills its window with them before the next frame comes.
	for window, says := range map[byte]string{23: "no chunk begins here", 27: "window"} {
		fill := slices.Concat(slices.Repeat([][]byte{zeros}, 66)...) // a multiple of 3 bytes
		nested := slices.Concat(zstdFrame(window, zstdRaws(raw.Payload(0, "a", 0, "x"), false)), fill, zstdRaws(nil, true))
		for range 3 {
			nested = slices.Concat(zstdFrame(window, zstdRaws(nested[:6], false)), fill, zstdRaws(nested[6:], true))
		}
		add(fmt.Sprintf("zstd in zstd, with windows of 2^%d", window), 7, says, bytesOf(1, nested))
		all[len(all)-1].long = window == 23 // takes some seconds
	}
	deep := raw.File("a", "x")
	for range 16 {
		deep = zstdFrame(20, zstdRaws(deep, true))
	}
	add("zstd in zstd without end", 7, "more than 4 times", bytesOf(1, deep))

	const intro = "age-encryption.org/v1\n"
	stanza := []byte("-> X25519 " + strings.Repeat("A", 43) + "\n" + strings.Repeat("A", 43) + "\n")
	add("age with 100,000 recipients", 7, "age", inTurn(bytesOf(1, []byte(intro)), bytesOf(100_000, stanza)))
	add("age with an endless stanza", 7, "age", inTurn(bytesOf(1, []byte(intro+"-> X25519 A\n")), bytesOf(1_000_000, bytes.Repeat([]byte("A"), 64), []byte("\n"))))
	add("age with an endless line", 7, "age", inTurn(bytesOf(1, []byte(intro+"-> ")), bytesOf(100, bytes.Repeat([]byte("A"), 1<<20))))
	add("age with endless arguments", 7, "age", inTurn(bytesOf(1, []byte(intro+"->")), bytesOf(10_000_000, []byte(" A"))))
	phrase := filepath.Join(t.TempDir(), "passphrase")
	if err := os.WriteFile(phrase, []byte("secret\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, n := range []string{"19", "22", "30", "63", "999999999999"} {
		scrypt := intro + "-> scrypt " + strings.Repeat("A", 22) + " " + n + "\n" + strings.Repeat("A", 43) + "\n--- " + strings.Repeat("A", 43) + "\n"
		add("scrypt of 2^"+n, 10, "2^", bytesOf(1, []byte(scrypt), data[:1000]))
		all[len(all)-1].args = []string{"--passphrase-file", phrase}
	}
	add("endless armor", 7, "a line has more than", inTurn(bytesOf(1, []byte("-----BEGIN AGE ENCRYPTED FILE-----\n")), bytesOf(100, bytes.Repeat([]byte("A"), 1<<20))))
	return all
}

// TestHostile gives hostile archives to hb itself, as root if the test is. It
// must refuse each, stay small, and touch nothing but its target.
func TestHostile(t *testing.T) {
	var largest int64
	all := slices.Concat(hostiles(), hostileStages(t))
	for _, h := range all {
		if h.long && !mysqldtest.Long() {
			continue
		}
		t.Run(h.name, func(t *testing.T) { largest = max(largest, h.try(t)) })
	}
	t.Run("a million files", func(t *testing.T) { largest = max(largest, tinyFiles(t)) })
	t.Logf("%d archives and one of a million files; largest process: %d MiB", len(all), largest>>20)
}

// try returns how large hb became.
func (h *hostile) try(t *testing.T) (largest int64) {
	t.Helper()
	base := t.TempDir()
	target := filepath.Join(base, "inner", "target")
	if err := os.Mkdir(filepath.Dir(target), 0o700); err != nil {
		t.Fatal(err)
	}
	for _, r := range sinktest.Readers {
		if h.only != "" && h.only != r.Name {
			continue
		}
		began := time.Now()
		got, size := measured(t, h.write, slices.Concat([]string{r.Name}, h.args, r.Args(target))...)
		took := time.Since(began)
		t.Logf("%s: exit code %d, %d MiB, %v: %.200s", r.Name, got.Code, size>>20, took, got.Stderr)
		if got.Code != h.code || !strings.Contains(got.Stderr, h.says) {
			t.Errorf("%s: exit code %d, want %d and %q: %.500s", r.Name, got.Code, h.code, h.says, got.Stderr)
		}
		if size >= maxHostile {
			t.Errorf("%s: %d MiB of memory", r.Name, size>>20)
		}
		if took > time.Minute {
			t.Errorf("%s took %v", r.Name, took)
		}
		largest = max(largest, size)
	}
	harmlessTree(t, base, target)
	if _, err := os.Lstat(target); err == nil {
		if marked, err := backupdir.IsMarked(target); err != nil || !marked {
			t.Errorf("%s is left without its mark: %v", target, err)
		}
		refused(t, target)
	}
	return largest
}

// tinyFiles: a million files are no reason to refuse an archive, nor to become
// large. Without the long form a tenth of them is extracted.
func tinyFiles(t *testing.T) (largest int64) {
	for _, r := range sinktest.Readers {
		count := 1_000_000
		if r.Name == "extract" && !mysqldtest.Long() {
			count /= 10
		}
		write := numbered(count, func(i int) []byte { return raw.File(fmt.Sprintf("db%03d/table%06d.MYD", i/1000, i), "x") })
		base := disktest.Memory(t)
		target := filepath.Join(base, "target")
		began := time.Now()
		got, size := measured(t, write, append([]string{r.Name}, r.Args(target)...)...)
		t.Logf("%s of %d files: %d MiB, %v", r.Name, count, size>>20, time.Since(began))
		want, limit := 0, int64(maxHostile)
		switch r.Name {
		case "verify": // files alone are no backup
			want = 7
		case "list": // it keeps them all, to sort them
			limit = 176 << 20
		}
		if got.Code != want || size >= limit {
			t.Errorf("%s: exit code %d, %d MiB of memory: %.500s", r.Name, got.Code, size>>20, got.Stderr)
		}
		largest = max(largest, size)
	}
	return largest
}

// harmlessTree: nothing lies beside the target, and in it plain files and
// directories alone, with the modes that extract gives.
func harmlessTree(t *testing.T, base, target string) {
	t.Helper()
	err := filepath.WalkDir(base, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		within := path == target || strings.HasPrefix(path, target+"/")
		switch {
		case path == base || path == filepath.Dir(target):
		case !within:
			t.Errorf("%s was made", path)
		case info.Mode() != 0o640 && info.Mode() != 0o750|fs.ModeDir:
			t.Errorf("%s has mode %v", path, info.Mode())
		}
		return nil
	})
	if err != nil {
		t.Error(err)
	}
}
