package testd

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"filippo.io/age"
	"github.com/rogpeppe/go-internal/testscript"

	"hb/scripts/test.d/hbtest"
	"hb/sink/backupdir"
	"hb/source/mysqld/mysqldtest"
	"hb/stream"
	"hb/stream/disk/disktest"
	"hb/xbstream"
	"hb/xbstream/innodb"
	"hb/xbstream/innodb/delta"
	"hb/xbstream/innodb/innodbtest"
	"hb/xbstream/metadata"
	"hb/xbstream/xbtest"
)

// mkchain writes a full backup and two increments that build on it, which hb apply takes:
// FILE0, FILE1 and FILE2. With another argument, the increments have no sums of pages.
func mkchain(ts *testscript.TestScript, _ bool, args []string) {
	archives, err := sampleChain(len(args) > 1)
	ts.Check(err)
	for i, archive := range archives {
		ts.Check(os.WriteFile(ts.MkAbs(fmt.Sprint(args[0], i)), archive, 0o644))
	}
}

// sampleChain makes that chain: each increment has another version of page 8 of a table,
// another file of MyISAM, and the redo log of the sample. tracked: the increments are of the
// server's list of changed pages, and have no sums.
func sampleChain(tracked bool) (archives [][]byte, err error) {
	base, err := xbtest.Sample()
	if err != nil {
		return nil, err
	}
	archives = append(archives, base)
	names, contents, last, err := xbtest.SampleFiles()
	if err != nil {
		return nil, err
	}
	id := idOf(base)
	for round := range 2 {
		a := xbtest.NewIncrement(xbtest.SamplePage, xbtest.SampleStart, last, metadata.Since{
			Base: id, FromLSN: xbtest.SampleStart, CheckpointLSN: xbtest.SampleStart, LastLSN: last, PageTracking: tracked})
		for _, name := range names {
			switch content := contents[name]; {
			case name == "ib_logfile0":
			case name == "db/m.MYD":
				content = fmt.Appendf(content, "round %d", round)
				a.Put(name, content)
				a.Live = append(a.Live, metadata.Live{Path: name, Size: int64(len(content)), Kind: metadata.LiveCopied, Stored: name})
			case name == "ibdata1" || strings.HasSuffix(name, ".ibd"):
				live, err := sampleDelta(a, name, content, innodb.LSN(100+round))
				if err != nil {
					return nil, err
				}
				if tracked {
					live.Sum = nil
				}
				a.Live = append(a.Live, live)
			default:
				a.Live = append(a.Live, metadata.Live{Path: name, Size: int64(len(content)), Kind: metadata.LiveKept, From: name})
			}
		}
		checkpoints, err := (&metadata.Checkpoints{BackupType: metadata.Incremental, FromLSN: xbtest.SampleStart, ToLSN: xbtest.SampleStart, LastLSN: last}).Marshal()
		if err != nil {
			return nil, err
		}
		a.Put("xtrabackup_checkpoints", checkpoints)
		for _, name := range []string{"ib_logfile0", "backup-my.cnf", "xtrabackup_binlog_info"} {
			a.Put(name, contents[name])
		}
		b, err := a.Finish()
		if err != nil {
			return nil, err
		}
		archives, id = append(archives, b), idOf(b)
	}
	return archives, nil
}

// sampleDelta changes page 8 of a table, and stores it.
func sampleDelta(a *xbtest.Archiver, name string, content []byte, after innodb.LSN) (metadata.Live, error) {
	space, err := innodb.ParseSpace(content)
	if err != nil {
		return metadata.Live{}, err
	}
	var out bytes.Buffer
	w, err := delta.NewWriter(&out, xbtest.SamplePage, nil)
	if err != nil {
		return metadata.Live{}, err
	}
	sum := new(innodb.PageSum)
	for at := 0; at < len(content); at += xbtest.SamplePage {
		no, page := innodb.PageNo(at/xbtest.SamplePage), content[at:][:xbtest.SamplePage]
		if no == 8 && space.ID == 7 {
			copy(page[300:], fmt.Sprint("changed after ", after))
			innodbtest.Seal(page, innodbtest.Full4K, xbtest.SampleStart+after, innodb.ChecksumUnset)
		}
		sum.Toggle(no, page, &space)
		if innodb.HeaderLSN(page) >= xbtest.SampleStart {
			if err := w.Add(no, page); err != nil {
				return metadata.Live{}, err
			}
		}
	}
	if err := w.Close(); err != nil {
		return metadata.Live{}, err
	}
	a.Put(name+delta.ExtMeta, delta.Meta{PageSize: xbtest.SamplePage, Space: space.ID, Flags: space.Flags, HasFlags: true}.Marshal())
	a.Put(name+delta.Ext, out.Bytes())
	return metadata.Live{Path: name, Size: int64(len(content)), Kind: metadata.LiveChanged, Space: &space.ID, From: name, Stored: name + delta.Ext, Sum: sum}, nil
}

// idOf is the id of an archive.
func idOf(archive []byte) metadata.PointID {
	files := make(map[string][]byte)
	for rd := xbstream.NewReader(bytes.NewReader(archive), xbstream.ReaderOptions{}); ; {
		ch, err := rd.Next()
		if err != nil {
			break // the end: it was made just now
		}
		files[ch.Path] = append(files[ch.Path], ch.Data...)
	}
	h := metadata.NewPointHash(files[metadata.ArchiveName])
	h.Write(files[metadata.ManifestName])
	return h.Sum()
}

// TestChainStages: archives of a chain in any stages, in files and from standard input, make
// the same full backup.
func TestChainStages(t *testing.T) {
	archives, err := sampleChain(false)
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	key, err := age.GenerateX25519Identity()
	if err != nil {
		t.Fatal(err)
	}
	keyFile := filepath.Join(dir, "key.txt")
	if err := os.WriteFile(keyFile, []byte(key.String()+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	zstd := stream.WriteOptions{Compress: &stream.Compression{}}
	both := stream.WriteOptions{Compress: &stream.Compression{}, Recipients: []age.Recipient{key.Recipient()}}
	names := make(map[string][]string)
	for kind, o := range map[string]stream.WriteOptions{"plain": {}, "zstd": zstd, "both": both} {
		for i, archive := range archives {
			name := filepath.Join(dir, fmt.Sprint(kind, i))
			var out bytes.Buffer
			w, err := stream.Create(&out, o)
			if err == nil {
				_, err = w.Write(archive)
			}
			if err == nil {
				err = w.Close()
			}
			if err == nil {
				err = os.WriteFile(name, out.Bytes(), 0o600)
			}
			if err != nil {
				t.Fatal(err)
			}
			names[kind] = append(names[kind], name)
		}
	}
	want := xbtest.ReadAll(t, strings.NewReader(hbtest.Succeed(t, hb(t, append([]string{"merge"}, names["plain"]...)...)).Stdout))
	delete(want, metadata.ManifestName) // it has the sum of all heads
	for kind, list := range names {
		for stdin := range 4 {
			list := slices.Clone(list)
			cmd := []string{"merge", "-i", keyFile, "--tmpdir", dir}
			var in []byte
			if stdin < 3 {
				if in, err = os.ReadFile(list[stdin]); err != nil {
					t.Fatal(err)
				}
				list[stdin] = "-"
			}
			c := hb(t, append(cmd, list...)...)
			c.Stdin = bytes.NewReader(in)
			got := xbtest.ReadAll(t, strings.NewReader(hbtest.Succeed(t, c).Stdout))
			delete(got, metadata.ManifestName)
			for name := range want {
				if !bytes.Equal(got[name], want[name]) || len(got) != len(want) {
					t.Errorf("%s, archive %d from standard input: %s differs", kind, stdin, name)
				}
			}
		}
	}
	c := hb(t, "merge", names["plain"][0], "-", "-")
	if r := hbtest.Finish(t, c); r.Code != 2 || r.Stdout != "" {
		t.Errorf("twice from standard input: %+v", r)
	}
	left, err := filepath.Glob(filepath.Join(dir, "*"))
	if err != nil || len(left) != 10 {
		t.Errorf("%q is left, %v", left, err)
	}
}

// TestFaultChain: merge and extract of a chain on full disks, and killed at any moment: what
// they leave is refused.
func TestFaultChain(t *testing.T) {
	archives, err := sampleChain(false)
	if err != nil {
		t.Fatal(err)
	}
	dir := disktest.Memory(t)
	var names []string
	for i, archive := range archives {
		names = append(names, filepath.Join(dir, fmt.Sprint(i)))
		if err := os.WriteFile(names[i], archive, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	faultChain(t, names)
}

// faultChain does so with a chain's archives.
func faultChain(t *testing.T, chain []string) {
	dir := disktest.Memory(t)
	merged := filepath.Join(dir, "merged")
	began := time.Now()
	hbtest.Succeed(t, mergeTo(merged, chain))
	took := time.Since(began)
	hbtest.Succeed(t, hb(t, "verify", merged))
	t.Run("merge on a full disk", func(t *testing.T) { mergeFull(t, chain, size(t, merged)) })
	t.Run("merge killed", func(t *testing.T) { mergeKilled(t, chain, merged, took) })
	t.Run("extract on a full disk", func(t *testing.T) { extractFull(t, chain) })
	t.Run("extract killed", func(t *testing.T) { extractKilled(t, chain) })
}

// mergeTo merges a chain into a file. The test does not open the file itself: a process that
// another test is just starting would keep it open for a moment, and its disk mounted.
func mergeTo(to string, chain []string) *exec.Cmd {
	return exec.Command("sh", append([]string{"-c", `exec "$@" > "$0"`, to, built, "merge"}, chain...)...)
}

// mergeFull merges into file systems of sizes from next to nothing to just too small for
// what has so many bytes.
func mergeFull(t *testing.T, chain []string, bytes int64) {
	n, most := rounds(50), bytes-64<<10
	for i := range n {
		merged := filepath.Join(mysqldtest.Tmpfs(t, 8<<10+(most-8<<10)*int64(i)/int64(n-1)), "merged")
		if r := hbtest.Finish(t, mergeTo(merged, chain)); r.Code != 1 || !strings.Contains(r.Stderr, "no space left") {
			t.Errorf("exit code %d, %q", r.Code, r.Stderr)
		}
		if r := hbtest.Finish(t, hb(t, "verify", merged)); r.Code != 6 {
			t.Errorf("what was merged on a full disk: exit code %d, %q", r.Code, r.Stderr)
		}
	}
	t.Logf("%d sizes up to %d bytes", n, most)
}

// mergeKilled kills a merge at random moments.
func mergeKilled(t *testing.T, chain []string, merged string, took time.Duration) {
	half, n, whole := filepath.Join(disktest.Memory(t), "half"), rounds(50), 0
	killSome(t, n, took, func() *exec.Cmd { return mergeTo(half, chain) }, func() {
		r := hbtest.Finish(t, hb(t, "verify", half))
		if r.Code == 0 && bytes.Equal(mustRead(t, half), mustRead(t, merged)) {
			whole++ // it was about to end
		} else if r.Code != 6 {
			t.Errorf("it was killed after %d bytes: exit code %d, %q", size(t, half), r.Code, r.Stderr)
		}
	})
	t.Logf("killed %d times, %d of them after the last byte", n, whole)
}

// extractKilled kills the extraction of a chain at random moments: what is left is refused,
// or whole.
func extractKilled(t *testing.T, chain []string) {
	dir := filepath.Join(disktest.Memory(t), "backup")
	want := filepath.Join(disktest.Memory(t), "whole")
	extract := func(to string) *exec.Cmd { return hb(t, append([]string{"extract", "-C", to}, chain...)...) }
	began := time.Now()
	hbtest.Succeed(t, extract(want))
	took := time.Since(began)
	n, marks, whole := rounds(50), 0, 0
	killSome(t, n, took, func() *exec.Cmd {
		if err := os.RemoveAll(dir); err != nil {
			t.Fatal(err)
		}
		return extract(dir)
	}, func() {
		marked, err := backupdir.IsMarked(dir)
		if err != nil {
			t.Fatal(err)
		}
		switch files, err := os.ReadDir(dir); {
		case marked || err != nil || len(files) == 0:
			refused(t, dir)
			marks++
		default:
			same(t, dir, want)
			whole++
		}
	})
	t.Logf("killed %d times, %d of them refused, %d whole", n, marks, whole)
}

// maxMerge is what hb merge may use of memory, with 100,000 tables.
const maxMerge = 256 << 20

// TestMergeMemory: hb merge uses little memory, however many tables there are. The usual form
// has a fifth of them.
func TestMergeMemory(t *testing.T) {
	tables := 20000
	if mysqldtest.Long() {
		tables = 100000
	}
	dir := disktest.Memory(t)
	archives := []string{filepath.Join(dir, "full"), filepath.Join(dir, "inc")}
	id := manyTables(t, archives[0], tables, nil)
	manyTables(t, archives[1], tables, &metadata.Since{Base: id, FromLSN: xbtest.SampleStart, CheckpointLSN: xbtest.SampleStart, LastLSN: xbtest.SampleStart + 10})
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	peak := filepath.Join(dir, "peak")
	cmd := exec.Command(self, append([]string{built, "merge", "--quiet"}, archives...)...)
	cmd.Env = append(os.Environ(), asPeak+"="+peak)
	out, err := os.Create(filepath.Join(dir, "merged"))
	if err != nil {
		t.Fatal(err)
	}
	defer out.Close()
	cmd.Stdout = out
	hbtest.Succeed(t, cmd)
	var most int64
	if _, err := fmt.Sscan(string(mustRead(t, peak)), &most); err != nil || most > maxMerge {
		t.Errorf("it used %d MiB, %v", most>>20, err)
	}
	if n := size(t, out.Name()); n < int64(tables)*xbtest.SamplePage {
		t.Errorf("the merged archive has %d bytes: not all tables", n)
	}
	t.Logf("%d MiB of memory for %d tables: archives of %d and %d MiB", most>>20, tables, size(t, archives[0])>>20, size(t, archives[1])>>20)
}

// manyTables writes an archive of tables of one page each: a full backup, or an increment in
// which every tenth of them changed.
func manyTables(t *testing.T, to string, tables int, since *metadata.Since) metadata.PointID {
	t.Helper()
	const last = xbtest.SampleStart + 10
	a := xbtest.NewArchiver(xbtest.SamplePage, xbtest.SampleStart, last)
	backupType := metadata.FullBackup
	if since != nil {
		a, backupType = xbtest.NewIncrement(xbtest.SamplePage, xbtest.SampleStart, last, *since), metadata.Incremental
	}
	for i := range tables {
		name := fmt.Sprintf("database_%02d/orders_of_customer_%06d.ibd", i%50, i)
		table := innodbtest.Tablespace{ID: innodb.SpaceID(10 + i), Flags: innodbtest.Full4K, Pages: 1, LSN: xbtest.SampleStart - 1}
		if since == nil {
			a.Put(name, table.Page(0))
			continue
		}
		if i%10 == 0 {
			table.LSN = last - 1
		}
		space, err := innodb.ParseSpace(table.Page(0))
		if err != nil {
			t.Fatal(err)
		}
		live, err := sampleDelta(a, name, table.Page(0), 0)
		if err != nil {
			t.Fatal(err)
		}
		live.Space = &space.ID
		a.Live = append(a.Live, live)
	}
	checkpoints, err := (&metadata.Checkpoints{BackupType: backupType, ToLSN: xbtest.SampleStart, LastLSN: last}).Marshal()
	if err != nil {
		t.Fatal(err)
	}
	a.Put("xtrabackup_checkpoints", checkpoints)
	archive, err := a.Finish()
	if err == nil {
		err = os.WriteFile(to, archive, 0o600)
	}
	if err != nil {
		t.Fatal(err)
	}
	return idOf(archive)
}

func mustRead(t *testing.T, name string) []byte {
	t.Helper()
	b, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	return b
}
