package sink_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"hb/sink/apply"
	"hb/sink/backupdir"
	"hb/sink/extract"
	"hb/sink/verify"
	"hb/source"
	"hb/source/mysqld/mysqldtest"
	"hb/source/mysqld/mysqldtest/client"
	"hb/source/mysqld/mysqldtest/workload"
	"hb/xbstream/innodb"
	"hb/xbstream/metadata"
	"hb/xbstream/xbtest"
)

// loadedArchive makes an archive of a server under load.
func loadedArchive(t *testing.T, root *mysqldtest.Root) string {
	s := mysqldtest.Start(t, root, mysqldtest.Options{})
	// A table that is certain to be on disk, and in the redo without its creation.
	s.Exec(t, "CREATE DATABASE hb_aa", "CREATE TABLE hb_aa.written (id INT PRIMARY KEY, n INT NOT NULL, v VARCHAR(1000) NOT NULL) ENGINE=InnoDB")
	for id := range 100 {
		s.Exec(t, fmt.Sprintf("INSERT INTO hb_aa.written VALUES (%d, 0, REPEAT('row ', 200))", id))
	}
	if err := s.Stop(); err != nil {
		t.Fatal(err)
	}
	s = mysqldtest.StartOn(t, root, s.Datadir, mysqldtest.Options{})
	load, err := workload.Prepare(t.Context(), s.DB(), workload.Options{DDLRate: 10})
	if err != nil {
		t.Fatal(err)
	}
	// Pages must be on disk, so that there is something to damage.
	s.WriteOut(t)
	s.Exec(t, "SET GLOBAL innodb_max_dirty_pages_pct = 90")
	archive := filepath.Join(t.TempDir(), "archive")
	workload.During(t, load, func() {
		time.Sleep(time.Second)
		stop := writeOn(t, s)
		serverArchive(t, s, archive)
		stop()
	})
	if err := s.Stop(); err != nil {
		t.Error(err)
	}
	return archive
}

// writeOn writes to the table until stop is called.
func writeOn(t *testing.T, s *mysqldtest.Server) (stop func()) {
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() {
		for ctx.Err() == nil {
			if _, err := s.DB().ExecContext(ctx, "UPDATE hb_aa.written SET n = n + 1"); err != nil && ctx.Err() == nil {
				done <- err
				return
			}
		}
		done <- nil
	}()
	return func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	}
}

// archiveOf makes an archive of a running server.
func serverArchive(t *testing.T, s *mysqldtest.Server, archive string) {
	t.Helper()
	out, err := os.Create(archive)
	if err != nil {
		t.Fatal(err)
	}
	srv := client.Open(t, s)
	_, err = source.Run(t.Context(), srv, out, source.Options{Parallel: 2, Tmpdir: t.TempDir(), Tool: "hb", ToolVersion: "test"})
	if err := errors.Join(err, srv.Close(), out.Close()); err != nil {
		t.Fatal(err)
	}
}

// notAnywhere is an archive that can only be read from front to back.
type notAnywhere struct{ io.Reader }

// verifyFile verifies an archive in a file.
func verifyFile(ctx context.Context, archive string, o verify.Options) (*verify.Result, error) {
	in, err := os.Open(archive)
	if err != nil {
		return nil, err
	}
	if o.At != nil {
		o.At = in
	}
	r, err := verify.Archive(ctx, notAnywhere{in}, o)
	return r, errors.Join(err, in.Close())
}

// anywhere says that an archive can be read anywhere.
var anywhere = new(os.File)

// TestVerifyLive: what backups of loaded servers are, every way of verifying
// finds them whole.
func TestVerifyLive(t *testing.T) {
	mysqldtest.Each(t, slices.Concat(mysqldtest.MariaDB, mysqldtest.MySQL), func(t *testing.T, root *mysqldtest.Root) {
		archive := loadedArchive(t, root)
		dir := filepath.Join(filepath.Dir(archive), "extracted")
		in, err := os.Open(archive)
		if err != nil {
			t.Fatal(err)
		}
		_, err = extract.Run(t.Context(), in, dir, extract.Options{})
		if err := errors.Join(err, in.Close()); err != nil {
			t.Fatal(err)
		}
		checkDamage(t, root, dir)
		before := listTree(t, dir)
		var applied *apply.Result
		for _, way := range []struct {
			name   string
			verify func() (*verify.Result, error)
			replay bool
		}{
			{"archive", func() (*verify.Result, error) { return verifyFile(t.Context(), archive, verify.Options{}) }, false},
			{"rehearsal of an archive in a file", func() (*verify.Result, error) {
				return verifyFile(t.Context(), archive, verify.Options{Replay: true, At: anywhere})
			}, true},
			{"rehearsal of an archive from a pipe", func() (*verify.Result, error) {
				return verifyFile(t.Context(), archive, verify.Options{Replay: true, Memory: 8 << 20})
			}, true},
			{"directory", func() (*verify.Result, error) { return verify.Directory(t.Context(), dir, verify.Options{}) }, false},
			{"rehearsal of a directory", func() (*verify.Result, error) {
				return verify.Directory(t.Context(), dir, verify.Options{Replay: true})
			}, true},
			{"after all", func() (*verify.Result, error) {
				applied = mustApply(t, dir, apply.Options{})
				return verify.Directory(t.Context(), dir, verify.Options{})
			}, false},
		} {
			r, err := way.verify()
			if err != nil {
				t.Fatalf("%s: %v", way.name, err)
			}
			t.Logf("%s: %d pages, LSN %d to %d, %d recovered, %d bytes put aside", way.name, r.Pages, r.FromLSN, r.LSN, r.Recovered, r.Temporary)
			if r.Pages == 0 || len(r.Warnings) > 0 || r.Replayed != way.replay || way.replay && r.Recovered == 0 || r.Applied != (applied != nil) {
				t.Errorf("%s: %+v", way.name, *r)
			}
			if applied == nil {
				if after := listTree(t, dir); !maps.Equal(before, after) {
					t.Errorf("%s: the directory was changed", way.name)
				}
			}
		}
		checkRecovered(t, root, dir)
		if err := mysqldtest.StartOn(t, root, dir, mysqldtest.Options{}).Stop(); err != nil {
			t.Log(err) // 5.7.29 may crash if purge opens a table with virtual columns just now
		}
		_, err = verify.Directory(t.Context(), dir, verify.Options{})
		if no, ok := errors.AsType[*backupdir.NotBackupError](err); !ok || !strings.Contains(no.Error(), "a server") || !strings.Contains(no.Error(), "has run on it since") {
			t.Errorf("after a server: %v", err)
		}
	})
}

// checkRecovered verifies a recovered directory with one thing wrong at a time.
func checkRecovered(t *testing.T, root *mysqldtest.Root, dir string) {
	t.Helper()
	table, size, used := usedTable(t, dir)
	cut := func(n int) func([]byte) []byte { return func(c []byte) []byte { return c[:n] } }
	half := func(c []byte) []byte { return c[:len(c)/2/size*size] }
	flip := func(c []byte) []byte { c[len(c)/3] ^= 8; return c }
	type damage struct {
		name, file string
		change     func([]byte) []byte // its result nil: the file is removed
	}
	all := []damage{
		{"a table cut to its first page", table, cut(size)},
		{"a table cut by a page", table, func(c []byte) []byte { return c[:len(c)-size] }},
		{"a table without a file", table, func([]byte) []byte { return nil }},
		{"a zero page", table, func(c []byte) []byte { clear(c[used[0]*size:][:size]); return c }},
		{"all but the first page zero", table, func(c []byte) []byte { clear(c[size:]); return c }},
		{"half of the system tablespace", "ibdata1", half},
		{"a zero page of the system tablespace", "ibdata1", func(c []byte) []byte { clear(c[6*size:][:size]); return c }},
		{"what hb apply left, damaged", backupdir.AppliedName, flip},
	}
	for name := range files(t, dir, func(name string) bool {
		return name == "undo001" || name == "undo_001" || strings.HasPrefix(name, "ib_logfile") || strings.HasPrefix(name, "#innodb_redo/")
	}) {
		if strings.HasPrefix(name, "undo") {
			all = append(all, damage{"half of an undo tablespace", name, half})
			continue
		}
		all = append(all, damage{"no redo log", name, func([]byte) []byte { return nil }},
			damage{"a redo log with a byte more", name, func(c []byte) []byte { return append(c, 1) }})
		if st, err := os.Stat(filepath.Join(dir, name)); err == nil && st.Size() > 0 {
			all = append(all, damage{"a flipped redo log", name, flip}, damage{"an empty redo log", name, cut(0)})
		}
	}
	for _, d := range all {
		path := filepath.Join(dir, d.file)
		was, err := os.ReadFile(path)
		if err == nil {
			if is := d.change(bytes.Clone(was)); is == nil {
				err = os.Remove(path)
			} else {
				err = os.WriteFile(path, is, 0o660)
			}
		}
		if err != nil {
			t.Fatal(err)
		}
		r, err := verify.Directory(t.Context(), dir, verify.Options{})
		if err == nil {
			t.Errorf("%s (%s): verifies: %+v", d.name, d.file, *r)
		} else {
			t.Logf("%s: %v", d.name, err)
		}
		if err := os.WriteFile(path, was, 0o660); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := verify.Directory(t.Context(), dir, verify.Options{}); err != nil {
		t.Errorf("put right again: %v", err)
	}
}

// listTree returns the files of a directory with their size and time of change.
func listTree(t *testing.T, dir string) map[string]string {
	t.Helper()
	list := make(map[string]string)
	err := filepath.WalkDir(dir, func(name string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		st, err := d.Info()
		if err == nil {
			list[name] = fmt.Sprint(st.Size(), st.ModTime())
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return list
}

// sealed makes an archive of what was extracted from one and changed since,
// with right sums and a right manifest: only its content can tell.
func sealed(t *testing.T, dir string, change map[string]func([]byte) []byte) []byte {
	t.Helper()
	m, err := metadata.ReadManifestHead(os.DirFS(dir))
	if err != nil {
		t.Fatal(err)
	}
	a := xbtest.Begin()
	a.Manifest = *m
	names := []string{metadata.ArchiveName}
	for name := range files(t, dir, func(name string) bool {
		return name != metadata.ArchiveName && name != metadata.ManifestName && name != metadata.IndexName
	}) {
		names = append(names, name)
	}
	for _, name := range names {
		content, err := os.ReadFile(filepath.Join(dir, name))
		if err != nil {
			t.Fatal(err)
		}
		if f, ok := change[name]; ok {
			content = f(content)
		}
		if content == nil && change[name] != nil {
			continue
		}
		a.Put(name, content)
	}
	archive, err := a.Finish()
	if err != nil {
		t.Fatal(err)
	}
	return archive
}

// usedTable finds a table with written pages, and two of them.
func usedTable(t *testing.T, dir string) (name string, size int, used [2]int) {
	t.Helper()
	archive, err := os.ReadFile(filepath.Join(dir, metadata.ArchiveName))
	if err != nil {
		t.Fatal(err)
	}
	a, err := metadata.UnmarshalArchive(archive)
	if err != nil {
		t.Fatal(err)
	}
	found := files(t, dir, func(name string) bool { return strings.HasPrefix(name, "hb_") && strings.HasSuffix(name, ".ibd") })
	for _, name := range slices.Sorted(maps.Keys(found)) {
		content, err := os.ReadFile(filepath.Join(dir, name))
		if err != nil {
			t.Fatal(err)
		}
		space, err := innodb.ParseSpace(content)
		if err != nil || space.Physical != a.PageSize || space.PageCompressed {
			continue
		}
		var pages []int
		for no := 3; no < len(content)/a.PageSize; no++ {
			page := content[no*a.PageSize:][:a.PageSize]
			if innodb.HeaderType(page) != innodb.TypeAllocated && !space.Packed(page) {
				pages = append(pages, no)
			}
		}
		if len(pages) > 1 {
			return name, a.PageSize, [2]int{pages[0], pages[len(pages)-1]}
		}
	}
	t.Fatal("no table has two written pages")
	return "", 0, used
}

// checkDamage verifies the backup in dir with one thing wrong at a time.
func checkDamage(t *testing.T, root *mysqldtest.Root, dir string) {
	t.Helper()
	table, size, used := usedTable(t, dir)
	redo := "xtrabackup_logfile"
	if root.MariaDB() {
		redo = "ib_logfile0"
	}
	one := func(name string, f func([]byte) []byte) map[string]func([]byte) []byte {
		return map[string]func([]byte) []byte{name: f}
	}
	swap := func(c []byte) []byte {
		a, b := c[used[0]*size:][:size], c[used[1]*size:][:size]
		kept := bytes.Clone(a)
		copy(a, b)
		copy(b, kept)
		return c
	}
	empty := make(map[string]func([]byte) []byte) // no index page was ever written
	for name := range files(t, dir, func(name string) bool { return strings.HasPrefix(name, "hb_") && strings.HasSuffix(name, ".ibd") }) {
		empty[name] = func(c []byte) []byte {
			for no := 1; no < len(c)/size; no++ {
				if page := c[no*size:][:size]; innodb.HeaderType(page) == innodb.TypeIndex {
					clear(page)
				}
			}
			return c
		}
	}
	for _, tc := range []struct {
		name   string
		change map[string]func([]byte) []byte
		replay bool
		want   string // a regular expression
	}{
		{"nothing", nil, true, ""},
		{"flipped bit", one(table, func(c []byte) []byte { c[used[0]*size+size/2] ^= 8; return c }), false, fmt.Sprintf("%s: page %d: wrong checksum", table, used[0])},
		{"swapped pages", one(table, swap), false, fmt.Sprintf("%s: page %d: says it is page %d", table, used[0], used[1])},
		{"redo damaged", one(redo, func(c []byte) []byte { c[len(c)/2] ^= 8; return c }), false, redo + ": the log is damaged or truncated at LSN"},
		{"redo cut", one(redo, func(c []byte) []byte { return c[:len(c)/2] }), false, "the backup needs it up to"},
		{"missing table", one(table, func([]byte) []byte { return nil }), false, "the backup is incomplete"},
		{"empty pages", empty, false, ""},
		{"empty pages, rehearsed", empty, true, "does not fit|after recovery it says it is page 0"},
	} {
		archive := sealed(t, dir, tc.change)
		_, err := verify.Archive(t.Context(), bytes.NewReader(archive), verify.Options{Replay: tc.replay, At: bytes.NewReader(archive)})
		if (err == nil) != (tc.want == "") || err != nil && !regexp.MustCompile(tc.want).MatchString(err.Error()) {
			t.Errorf("%s: %v; want %q", tc.name, err, tc.want)
		}
		if tc.name != "empty pages, rehearsed" {
			continue
		}
		bad := filepath.Join(t.TempDir(), "bad")
		if _, err := extract.Run(t.Context(), bytes.NewReader(archive), bad, extract.Options{}); err != nil {
			t.Fatal(err)
		}
		if _, err := apply.Run(t.Context(), bad, apply.Options{}); err == nil || !regexp.MustCompile(tc.want).MatchString(err.Error()) {
			t.Errorf("%s: recovery ends with %v", tc.name, err)
		}
	}
}
