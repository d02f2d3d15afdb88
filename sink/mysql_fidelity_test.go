package sink_test

import (
	"archive/tar"
	"bytes"
	"crypto/sha256"
	"errors"
	"flag"
	"fmt"
	"io"
	"maps"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/klauspost/compress/zstd"

	"hb/sink/apply"
	"hb/sink/replay/mysql"
	"hb/source/mysqld/mysqldtest"
	"hb/source/mysqld/mysqldtest/census"
	"hb/xbstream/innodb"
	"hb/xbstream/innodb/mysqlredo"
	"hb/xbstream/innodb/mysqlredo/mlog"
)

// mysqlCase is one kind of crash image.
type mysqlCase struct {
	name    string
	servers []string
	options census.CrashOptions
	long    bool // not in the short form of the test
}

// twoFiles is a system tablespace of two files.
const twoFiles = "ibdata1:12M;ibdata2:8M:autoextend"

func mysqlCases() []mysqlCase {
	all := mysqldtest.MySQL
	from57 := []string{mysqldtest.MySQL57, mysqldtest.MySQL97}
	return []mysqlCase{
		{name: "census", servers: all, options: census.CrashOptions{Options: census.Options{Rows: 60}}},
		{name: "large", servers: all, long: true, options: census.CrashOptions{Ages: true}},
		{name: "4k", servers: all, long: true, options: census.CrashOptions{PageSize: 4096, Ages: true}},
		{name: "8k", servers: all, long: true, options: census.CrashOptions{PageSize: 8192}},
		{name: "64k", servers: from57, long: true, options: census.CrashOptions{PageSize: 65536, Ages: true}},
		{name: "undo", servers: []string{mysqldtest.MySQL56, mysqldtest.MySQL57}, long: true, options: census.CrashOptions{
			Init: []string{"innodb-undo-tablespaces=3"}, Ages: true, Config: []string{"innodb-data-file-path=" + twoFiles}}},
		{name: "files", servers: []string{mysqldtest.MySQL97}, long: true, options: census.CrashOptions{
			Init: []string{"innodb-data-file-path=" + twoFiles}, Ages: true}},
		{name: "innodb", servers: []string{mysqldtest.MySQL57, mysqldtest.MySQL97}, long: true, options: census.CrashOptions{Init: []string{"innodb-checksum-algorithm=innodb"}}},
		{name: "crc32", servers: []string{mysqldtest.MySQL56}, long: true, options: census.CrashOptions{Init: []string{"innodb-checksum-algorithm=crc32"}}},
		{name: "none", servers: all, long: true, options: census.CrashOptions{Init: []string{"innodb-checksum-algorithm=none"}}},
	}
}

// TestMySQLFidelity makes crash images of servers whose pages are far behind
// their redo, recovers each with apply and with the server, and compares every
// page. What the server changes after its recovery it logs, and so a simple
// replay of that too is compared with all of the server's pages, those later
// changes included. Then a server starts on apply's result, and the same backup
// is applied in other ways.
func TestMySQLFidelity(t *testing.T) {
	for _, c := range mysqlCases() {
		if c.long && !mysqldtest.Long() {
			continue
		}
		for _, server := range c.servers {
			t.Run(c.name+"/"+server, func(t *testing.T) {
				t.Parallel()
				root := mysqldtest.Need(t, server)
				base := t.TempDir()
				data := census.Crash(t, root, filepath.Join(base, "crash"), c.options)
				mysqlFidelity(t, root, base, data, c.options)
			})
		}
	}
}

// mysqlFidelity compares what apply and a server make of a data directory.
func mysqlFidelity(t *testing.T, root *mysqldtest.Root, base, data string, o census.CrashOptions) {
	log, err := census.ReadLog(data, nil)
	if err != nil {
		t.Fatal(err)
	}
	backup := filepath.Join(base, "backup")
	census.Backup(t, data, log, log.End, backup)
	theirs := recoveredByServer(t, root, copyTree(t, data, filepath.Join(base, "server")), data, log, o, minPages)
	checkCensus(t, root, log.Header.Format, theirs.replay, !o.Ages)
	byServer := copyTree(t, backup, filepath.Join(base, "by-server"))
	mustApply(t, byServer, apply.Options{ByServer: true})
	upToEnd := replayMySQL(t, data, log, log.End)
	compareByServer(t, root, byServer, upToEnd, log.End, o)

	ours := copyTree(t, backup, filepath.Join(base, "ours"))
	r := mustApply(t, ours, apply.Options{})
	t.Logf("LSN %d to %d, %d mini-transactions, %d runs, %d pages written", r.FromLSN, r.LSN, r.MTRs, r.Runs, r.Pages)
	compareApplied(t, upToEnd, readFiles(t, ours), theirs.files, log.End)

	mysqlOtherWays(t, base, backup, ours)
	refusedHalfDone(t, root, base, backup, o.Server(root, t.TempDir()))
	again := mustApply(t, ours, apply.Options{})
	if !again.AlreadyApplied || again.LSN == 0 {
		t.Errorf("applying a second time: %+v", again)
	}
	compareServers(t, root, ours, data, o)
}

// recovered is what a server made of a crash image, and what a simple replay
// makes of the image and of all the redo, up to the end of the server's.
type recovered struct {
	files  *census.Files
	replay *census.Replay
}

// recoveredByServer lets a server recover dir, which is in the state of data or
// a backup of it, and compares every page with the simple replay.
func recoveredByServer(t *testing.T, root *mysqldtest.Root, dir, data string, log *census.Log, o census.CrashOptions, least int) recovered {
	t.Helper()
	census.Recover(t, root, dir, o)
	whole, err := census.ReadLog(dir, log)
	if err != nil {
		t.Fatal(err)
	}
	r := recovered{readFiles(t, dir), replayMySQL(t, data, whole, whole.End)}
	compareMySQL(t, "a simple replay", r.replay.Compare(r.files, log.End), least)
	return r
}

// compareByServer compares what a server makes of a backup with its own log put
// back. Pages that it changed after its recovery are left to recoveredByServer:
// the server may have made new log files since, and removed the one that tells.
func compareByServer(t *testing.T, root *mysqldtest.Root, dir string, ours *census.Replay, end innodb.LSN, o census.CrashOptions) {
	t.Helper()
	census.Recover(t, root, dir, o)
	c := ours.Compare(readFiles(t, dir), end)
	c.Diffs = slices.DeleteFunc(c.Diffs, func(d census.Diff) bool { return d.Later })
	compareMySQL(t, "--by-server", c, minPages)
}

// TestMySQLFrozen compares crash images of many moments of one run: what the
// last record of a page hides in the image of the end shows in one of these.
func TestMySQLFrozen(t *testing.T) {
	if !mysqldtest.Long() {
		return // TestMySQLFidelity is the short form
	}
	const least = 100 // pages that the log changes; few in the first image
	mysqldtest.Each(t, mysqldtest.MySQL, func(t *testing.T, root *mysqldtest.Root) {
		for _, o := range []census.CrashOptions{{}, {PageSize: 4096, Options: census.Options{Rows: 150}}} {
			images := census.Frozen(t, root, t.TempDir(), 1200*time.Millisecond, o)
			t.Logf("%d images", len(images))
			if len(images) < 5 {
				t.Errorf("only %d images", len(images))
			}
			for _, data := range images {
				log, err := census.ReadLog(data, nil)
				if err != nil {
					t.Fatal(err)
				}
				dir := copyTree(t, data, data+"-server")
				recoveredByServer(t, root, dir, data, log, o, least)
				if err := errors.Join(os.RemoveAll(dir), os.RemoveAll(data)); err != nil {
					t.Fatal(err)
				}
			}
		}
	})
}

func readFiles(t *testing.T, dir string) *census.Files {
	t.Helper()
	f, err := census.ReadFiles(dir)
	if err != nil {
		t.Fatal(err)
	}
	return f
}

// replayMySQL is the simple replay of a data directory.
func replayMySQL(t *testing.T, data string, log *census.Log, end innodb.LSN) *census.Replay {
	t.Helper()
	r, err := census.NewReplay(readFiles(t, data), log, end)
	if err != nil {
		t.Fatal(err)
	}
	r.Run(func() census.Applier { return mysql.NewApplier(log.Header.Format) })
	for id, n := range r.Missing {
		if r.Deleted[id] == 0 {
			t.Errorf("%d runs of tablespace %d, which is neither there nor deleted", n, id)
		}
	}
	return r
}

// minPages is how many pages a comparison must have had to do with.
const minPages = 500

// maxLater is how many pages a server may change after its recovery.
const maxLater = 8

func compareMySQL(t *testing.T, what string, c *census.Comparison, least int) {
	t.Helper()
	for i, d := range c.Diffs {
		if i == 10 {
			break
		}
		t.Errorf("%s: %v", what, &d)
	}
	later := 0
	for _, n := range c.Later {
		later += n
	}
	t.Logf("%s: %d pages compared, %d of them changed by the log, %d by the server later too (by type: %v); %d differ, %d only in how they are deflated, %d only by COMPRESSION; not logged: %v",
		what, c.Pages, c.Replayed, later, c.Later, len(c.Diffs), c.Deflated, c.Inflated, c.Unlogged)
	if c.Replayed < least {
		t.Errorf("%s: only %d pages were changed by the log", what, c.Replayed)
	}
	if later > maxLater {
		t.Errorf("%s: the server changed %d pages after its recovery: too many to tell", what, later)
	}
	if len(c.Files) > 0 {
		t.Errorf("%s: tablespaces differ: %v", what, c.Files)
	}
}

// compareApplied compares apply's pages with those of the simple replay up to
// the same LSN, which are equal except what apply does to the system
// tablespace to make a server start.
func compareApplied(t *testing.T, want *census.Replay, got, theirs *census.Files, end innodb.LSN) {
	t.Helper()
	c := want.Compare(got, end)
	compareMySQL(t, "apply", c, minPages)
	for id, f := range got.Spaces {
		other := theirs.Spaces[id]
		if other == nil {
			t.Errorf("%s (%d): the server has no such tablespace", f.Name, id)
			continue
		}
		if f.Name != other.Name || f.Pages() < other.Pages() {
			t.Errorf("tablespace %d is %s with %d pages, the server's %s with %d", id, f.Name, f.Pages(), other.Name, other.Pages())
		}
	}
}

// checkCensus logs how often each type of record was applied. If the log has all
// of the census, it demands that each type is in it that the series can make.
func checkCensus(t *testing.T, root *mysqldtest.Root, f mysqlredo.Format, r *census.Replay, all bool) {
	t.Helper()
	var b strings.Builder
	for i, n := range r.Census {
		typ := mlog.Type(i)
		if n > 0 || r.Skipped[i] > 0 {
			fmt.Fprintf(&b, "| %d | %v | %d | %d |\n", i, typ, n, r.Skipped[i])
		}
		if all && n+r.Skipped[i] == 0 && slices.Contains(census.Types(f, r.Files.PageSize), typ) {
			t.Errorf("there was no record %v", typ)
		}
	}
	t.Logf("records applied, and those that pages had already, on %s:\n%s", root.Name, b.String())
}

// compareServers starts one server on apply's result and one on the crash image
// itself, and compares what they hold.
func compareServers(t *testing.T, root *mysqldtest.Root, ours, data string, o census.CrashOptions) {
	var sums [2]map[string]string
	for i, dir := range []string{ours, data} {
		s := mysqldtest.StartOn(t, root, dir, o.Server(root, t.TempDir()))
		sums[i] = census.Contents(t, s)
		if err := s.Stop(); err != nil {
			t.Fatal(err)
		}
	}
	if len(sums[0]) < 10 {
		t.Errorf("only %d tables: %v", len(sums[0]), sums[0])
	}
	for _, name := range slices.Sorted(maps.Keys(sums[1])) {
		if sums[0][name] != sums[1][name] {
			t.Errorf("%s: %s, but %s as the server recovers it", name, sums[0][name], sums[1][name])
		}
	}
	if len(sums[0]) != len(sums[1]) {
		t.Errorf("%d tables, not %d", len(sums[0]), len(sums[1]))
	}
}

// mysqlOtherWays applies the backup in other ways and expects the same bytes.
func mysqlOtherWays(t *testing.T, base, backup, want string) {
	dir := copyTree(t, backup, filepath.Join(base, "small"))
	r := mustApply(t, dir, apply.Options{Memory: 1, Parallel: 1})
	if r.Spilled == 0 {
		t.Error("with hardly any memory nothing was put aside")
	}
	sameTrees(t, "with hardly any memory", dir, want)
	workers := []int{16}
	if mysqldtest.Long() {
		workers = []int{1, 2, 16}
	}
	for _, parallel := range workers {
		dir = copyTree(t, backup, filepath.Join(base, "ways"))
		mustApply(t, dir, apply.Options{Memory: 64 << 20, Parallel: parallel})
		sameTrees(t, fmt.Sprintf("with 64 MiB and %d workers", parallel), dir, want)
	}
	dir = copyTree(t, backup, filepath.Join(base, "killed"))
	t.Logf("killed %d times", applyKilled(t, dir))
	sameTrees(t, "killed again and again", dir, want)
}

// applyKilled applies in processes that are killed after random times, which
// grow, until one is done. It returns how many were killed.
func applyKilled(t *testing.T, dir string) int {
	t.Helper()
	kills, least, growth := 0, 5, 2
	if mysqldtest.Long() {
		least, growth = 20, 10
	}
	for wait := 6 * time.Millisecond; kills < 200; wait += wait / time.Duration(growth) {
		cmd := exec.Command(os.Args[0])
		cmd.Env = append(os.Environ(), "HB_TEST_APPLY="+dir)
		var out bytes.Buffer
		cmd.Stderr = &out
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		timer := time.AfterFunc(wait/2+rand.N(wait), func() { cmd.Process.Kill() })
		err := cmd.Wait()
		if timer.Stop() {
			if err != nil {
				t.Fatalf("apply after %d kills: %v\n%s", kills, err, out.Bytes())
			}
			break
		}
		kills++
	}
	if kills < least {
		t.Errorf("the process was killed only %d times before it was done", kills)
	}
	return kills
}

var updateImages = flag.Bool("update-images", false, "make the crash images in testdata/mysql again, with real servers")

// imageDir holds small crash images, each with what the server made of it: a
// backup whose tablespaces have only the pages that its redo log changes, and
// few others, and "expected", the hashes of the server's pages.
const imageDir = "testdata/mysql"

// expectedName is a file of an image: lines of a page and its SHA-256.
const expectedName = "expected"

// TestMySQLImages applies the images in testdata and compares every page that
// the log changes with what the server made of it.
func TestMySQLImages(t *testing.T) {
	mysqldtest.Heavy(t)
	for _, server := range mysqldtest.MySQL {
		t.Run(server, func(t *testing.T) {
			archive := filepath.Join(imageDir, server+".tar.zst")
			if *updateImages {
				makeImage(t, mysqldtest.Need(t, server), archive)
			}
			dir := filepath.Join(t.TempDir(), "backup")
			unpackImage(t, archive, dir)
			expected := readExpected(t, dir)
			again := copyTree(t, dir, dir+"-again")
			r := mustApply(t, dir, apply.Options{})
			compareExpected(t, readFiles(t, dir), expected)
			t.Logf("%d mini-transactions, %d pages written, %d compared", r.MTRs, r.Pages, len(expected))
			mustApply(t, again, apply.Options{Memory: 1, Parallel: 1})
			sameTrees(t, "with hardly any memory", again, dir)
		})
	}
}

func compareExpected(t *testing.T, got *census.Files, expected map[innodb.PageID]string) {
	t.Helper()
	bad := 0
	for id, want := range expected {
		var page []byte
		if f := got.Spaces[id.Space]; f != nil {
			page = f.Page(id.No)
		}
		if h := pageHash(id, page); h != want {
			if bad++; bad <= 5 {
				t.Errorf("page %v differs from the server's", id)
			}
		}
	}
	if bad > 0 || len(expected) < minPages {
		t.Errorf("%d of %d pages differ", bad, len(expected))
	}
}

// pageHash is the hash of a page without what apply writes there to make a
// server start.
func pageHash(id innodb.PageID, page []byte) string {
	if id == (innodb.PageID{}) && len(page) > innodb.OffsetSpace {
		page = bytes.Clone(page)
		clear(page[innodb.OffsetFlushLSN:innodb.OffsetSpace])
	}
	return fmt.Sprintf("%x", sha256.Sum256(page))[:32]
}

func readExpected(t *testing.T, dir string) map[innodb.PageID]string {
	t.Helper()
	name := filepath.Join(dir, expectedName)
	b, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Remove(name); err != nil {
		t.Fatal(err)
	}
	pages := map[innodb.PageID]string{}
	for line := range strings.Lines(string(b)) {
		var id innodb.PageID
		var h string
		if _, err := fmt.Sscanf(line, "%d:%d %s", &id.Space, &id.No, &h); err != nil {
			t.Fatalf("%q: %v", line, err)
		}
		pages[id] = h
	}
	return pages
}

// makeImage makes an image.
func makeImage(t *testing.T, root *mysqldtest.Root, archive string) {
	base := t.TempDir()
	o := census.CrashOptions{Options: census.Options{Rows: 24, Small: true}, PageSize: 4096}
	data := census.Crash(t, root, filepath.Join(base, "crash"), o)
	log, err := census.ReadLog(data, nil)
	if err != nil {
		t.Fatal(err)
	}
	backup := filepath.Join(base, "backup")
	census.Backup(t, data, log, log.End, backup)
	census.Recover(t, root, data, o)
	theirs := readFiles(t, data)
	r := replayMySQL(t, backup, log, log.End)
	checkCensus(t, root, log.Header.Format, r, true)
	var b strings.Builder
	for id, p := range r.Pages {
		f := theirs.Spaces[id.Space]
		if f == nil || p.Image == nil {
			continue
		}
		if page := f.Page(id.No); page != nil && innodb.HeaderLSN(page) <= log.End {
			fmt.Fprintf(&b, "%v %s\n", id, pageHash(id, page))
		}
	}
	image := filepath.Join(base, "image")
	r.Strip(t, backup, image)
	if err := os.WriteFile(filepath.Join(image, expectedName), []byte(b.String()), 0o644); err != nil {
		t.Fatal(err)
	}
	packImage(t, image, archive)
}

func packImage(t *testing.T, dir, archive string) {
	t.Helper()
	var b bytes.Buffer
	z, err := zstd.NewWriter(&b, zstd.WithEncoderLevel(zstd.SpeedBestCompression))
	if err != nil {
		t.Fatal(err)
	}
	w := tar.NewWriter(z)
	if err := errors.Join(w.AddFS(os.DirFS(dir)), w.Close(), z.Close(), os.MkdirAll(filepath.Dir(archive), 0o755), os.WriteFile(archive, b.Bytes(), 0o644)); err != nil {
		t.Fatal(err)
	}
	t.Logf("%s: %d KiB", archive, b.Len()>>10)
}

func unpackImage(t *testing.T, archive, dir string) {
	t.Helper()
	f, err := os.Open(archive)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	z, err := zstd.NewReader(f)
	if err != nil {
		t.Fatal(err)
	}
	defer z.Close()
	for r := tar.NewReader(z); ; {
		h, err := r.Next()
		if err == io.EOF {
			return
		}
		if err != nil {
			t.Fatal(err)
		}
		name := filepath.Join(dir, filepath.FromSlash(h.Name))
		if h.Typeflag == tar.TypeDir {
			continue
		}
		b, err := io.ReadAll(r)
		if err := errors.Join(err, os.MkdirAll(filepath.Dir(name), 0o755), os.WriteFile(name, b, 0o644)); err != nil {
			t.Fatal(err)
		}
	}
}
