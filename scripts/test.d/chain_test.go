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
	mysqldtest.Heavy(t)
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
	merged := filepath.Join(dir, "merged")
	merge := func(to string) *exec.Cmd {
		out, err := os.Create(to)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { out.Close() })
		c := hb(t, append([]string{"merge"}, names...)...)
		c.Stdout = out
		return c
	}
	began := time.Now()
	hbtest.Succeed(t, merge(merged))
	took := time.Since(began)
	hbtest.Succeed(t, hb(t, "verify", merged))

	disk := mysqldtest.Tmpfs(t, 4<<30)
	size := func(do func(disk string) *exec.Cmd) int64 {
		hbtest.Succeed(t, do(disk))
		return onDisk(t, disk)
	}
	toFile := func(disk string) *exec.Cmd { return merge(filepath.Join(disk, "merged")) }
	extract := func(disk string) *exec.Cmd {
		return hb(t, append([]string{"extract", "-C", filepath.Join(disk, "backup")}, names...)...)
	}
	for what, do := range map[string]func(string) *exec.Cmd{"merge": toFile, "extract": extract} {
		before := onDisk(t, disk)
		most := size(do) - before - 64<<10
		n := rounds(50)
		for i := range n {
			small := mysqldtest.Tmpfs(t, 8<<10+(most-8<<10)*int64(i)/int64(n-1))
			if r := hbtest.Finish(t, do(small)); r.Code != 1 || !strings.Contains(r.Stderr, "no space left") {
				t.Errorf("%s: exit code %d, %q", what, r.Code, r.Stderr)
			}
			if what == "extract" {
				refused(t, filepath.Join(small, "backup"))
			} else if r := hbtest.Finish(t, hb(t, "verify", filepath.Join(small, "merged"))); r.Code != 6 {
				t.Errorf("what was merged on a full disk: exit code %d, %q", r.Code, r.Stderr)
			}
		}
		t.Logf("%s: %d sizes up to %d bytes", what, n, most)
	}

	half := filepath.Join(dir, "half")
	killSome(t, rounds(50), took, func() *exec.Cmd { return merge(half) }, func() {
		r := hbtest.Finish(t, hb(t, "verify", half))
		if b, err := os.ReadFile(half); err != nil || r.Code != 6 && !bytes.Equal(b, mustRead(t, merged)) {
			t.Errorf("merge was killed after %d bytes: exit code %d, %v", len(b), r.Code, err)
		}
	})
	target := filepath.Join(dir, "target")
	killSome(t, rounds(50), took, func() *exec.Cmd {
		if err := os.RemoveAll(target); err != nil {
			t.Fatal(err)
		}
		return hb(t, append([]string{"extract", "-C", target}, names...)...)
	}, func() {
		if _, err := os.Stat(target); err == nil {
			if _, err := os.Stat(filepath.Join(target, "hb-incomplete")); err == nil {
				refused(t, target)
			}
		}
	})
}

func mustRead(t *testing.T, name string) []byte {
	t.Helper()
	b, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	return b
}
