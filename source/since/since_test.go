package since_test

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"
	"hash/crc32"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"hb/source/mysqld"
	"hb/source/since"
	"hb/xbstream"
	"hb/xbstream/innodb"
	"hb/xbstream/metadata"
	"hb/xbstream/xbtest"
)

// fullBase makes the archive of a full backup, and its two files that describe it.
func fullBase(t *testing.T) (archive, head, manifest []byte) {
	t.Helper()
	a := xbtest.NewArchiver(16<<10, 1000, 3000)
	a.Index = func(right []byte) []byte { return right }
	a.Manifest.Server, a.Manifest.CheckpointLSN = "3b841e42-ecd3-11f1-85ca-02fc00000001", 2000
	a.Put("ib_logfile0", []byte("redo"))
	space := func(name string, id innodb.SpaceID) {
		a.Put(name, []byte(name))
		a.Files[len(a.Files)-1].Space = &id
	}
	space("ibdata1", 0)
	space("ibdata2", 0)
	space("db/t.ibd", 5)         // void: a copy that was made again
	space("db/t#hb#5.ibd", 5)    // the later one
	space("db/old_name.ibd", 77) // renamed
	a.Put("db/m.MYD", []byte("rows"))
	a.Put("db/t.del", nil)
	a.Put("db/t#hb#5.ren", []byte("db/t"))
	a.Put("db/old_name.ren", []byte("db/new"))
	a.Put("xtrabackup_checkpoints", []byte("backup_type = full-backuped"))
	archive, err := a.Finish()
	if err != nil {
		t.Fatal(err)
	}
	return archive, fileIn(t, archive, metadata.ArchiveName), fileIn(t, archive, metadata.ManifestName)
}

// fileIn returns a file of an archive.
func fileIn(t *testing.T, archive []byte, name string) (content []byte) {
	t.Helper()
	r := xbstream.NewReader(bytes.NewReader(archive), xbstream.ReaderOptions{})
	for {
		ch, err := r.Next()
		if err != nil {
			return content
		}
		if ch.Path == name {
			content = append(content, ch.Data...)
		}
	}
}

func write(t *testing.T, path string, content []byte) string {
	t.Helper()
	if err := os.WriteFile(path, content, 0o644); err != nil {
		t.Fatal(err)
	}
	return path
}

// TestOpen reads one base from the three places where it may be.
func TestOpen(t *testing.T) {
	archive, head, manifest := fullBase(t)
	dir := t.TempDir()
	extracted := filepath.Join(dir, "extracted")
	if err := os.Mkdir(extracted, 0o755); err != nil {
		t.Fatal(err)
	}
	write(t, filepath.Join(extracted, metadata.ArchiveName), head)
	write(t, filepath.Join(extracted, metadata.ManifestName), manifest)
	both := append(bytes.Clone(head), manifest...)
	for what, name := range map[string]string{
		"archive": write(t, filepath.Join(dir, "archive"), archive), "manifest": write(t, filepath.Join(dir, "manifest"), both), "directory": extracted,
	} {
		b, err := since.Open(t.Context(), name)
		if err != nil {
			t.Errorf("%s: %v", what, err)
			continue
		}
		if b.Point != metadata.PointID(sha256.Sum256(both)) || b.Manifest.LastLSN != 3000 || b.Archive.PageSize != 16<<10 {
			t.Errorf("%s: %v, %+v", what, b.Point, b.Manifest)
		}
		var paths []string
		for f := range b.Files() {
			paths = append(paths, f.Path)
		}
		if got := strings.Join(paths, " "); got != "db/m.MYD db/old_name.ibd db/t#hb#5.ibd db/t.ibd ibdata1 ibdata2" || b.Len() != len(paths) {
			t.Errorf("%s: files %s", what, got)
		}
		for _, want := range []struct {
			id   innodb.SpaceID
			name string
			path string // "": it has none
		}{{0, "ibdata2", "ibdata2"}, {0, "ibdata3", ""}, {5, "db/t.ibd", "db/t#hb#5.ibd"}, {77, "db/new.ibd", "db/old_name.ibd"}, {6, "db/t.ibd", ""}, {0, "db/m.MYD", ""}} {
			f, ok := b.Tablespace(want.id, want.name)
			if ok != (want.path != "") || f.Path != want.path && ok || ok && f.Size != int64(len(f.Path)) {
				t.Errorf("%s: tablespace %d, %s: %+v, %v", what, want.id, want.name, f, ok)
			}
		}
		if f, ok := b.At("db/m.MYD"); !ok || f.Size != 4 || !f.HasCRC || f.CRC32 != crc32.ChecksumIEEE([]byte("rows")) || f.Pages {
			t.Errorf("%s: %+v, %v", what, f, ok)
		}
	}
	for _, mark := range []string{"hb-incomplete", "hb-applied.json"} {
		path := write(t, filepath.Join(extracted, mark), nil)
		if _, err := since.Open(t.Context(), extracted); !is[*since.DirectoryError](err) {
			t.Errorf("a directory with %s: %v", mark, err)
		}
		if err := os.Remove(path); err != nil {
			t.Fatal(err)
		}
	}
}

func is[E error](err error) bool {
	_, ok := errors.AsType[E](err)
	return ok
}

// TestOpenIncrement: the files of an incremental base are its live ones.
func TestOpenIncrement(t *testing.T) {
	head := xbtest.Header(16<<10, 1000)
	head.Version, head.Options.Incremental = 2, true
	text, err := head.Marshal()
	if err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	out.Write(text)
	id, crc := innodb.SpaceID(5), uint32(7)
	w, err := metadata.NewManifestWriter(&out, metadata.Manifest{
		Files: 2, Bytes: int64(len(text)) + 100, FromLSN: 20, CheckpointLSN: 20, LastLSN: 30, Server: "s", Start: head.Created, End: head.Created,
		Since: &metadata.Since{FromLSN: 1, CheckpointLSN: 2, LastLSN: 3, Live: 2, Dropped: 1},
	})
	err = errors.Join(err, w.Add(metadata.File{Path: metadata.ArchiveName, Size: int64(len(text)), CRC32: crc32.ChecksumIEEE(text)}),
		w.Add(metadata.File{Path: "db/x.ibd.delta", Size: 100}),
		w.AddLive(metadata.Live{Path: "db/t.ibd", Size: 16 << 10, Kind: metadata.LiveChanged, Space: &id, From: "db/s.ibd", Stored: "db/x.ibd.delta"}),
		w.AddLive(metadata.Live{Path: "db/m.MYD", Size: 9, Kind: metadata.LiveKept, From: "db/m.MYD", CRC32: &crc}),
		w.AddDropped("db/gone.ibd"), w.Close())
	if err != nil {
		t.Fatal(err)
	}
	b, err := since.Open(t.Context(), write(t, filepath.Join(t.TempDir(), "manifest"), out.Bytes()))
	if err != nil {
		t.Fatal(err)
	}
	f, ok := b.Tablespace(5, "db/t.ibd")
	m, other := b.At("db/m.MYD")
	if !ok || f.Path != "db/t.ibd" || !other || !m.HasCRC || m.CRC32 != crc || b.Len() != 2 {
		t.Errorf("%+v, %+v, %d files", f, m, b.Len())
	}
}

// TestOpenDamaged: of a manifest that is cut or changed nothing is believed. What is not
// part of a sum, in the last line, says nothing of the base, and changes its id.
func TestOpenDamaged(t *testing.T) {
	_, head, manifest := fullBase(t)
	good := append(head, manifest...)
	path := write(t, filepath.Join(t.TempDir(), "manifest"), good)
	b, err := since.Open(t.Context(), path)
	if err != nil {
		t.Fatal(err)
	}
	last := bytes.LastIndex(good, []byte(`{"hb_manifest_end"`))
	for i := range good {
		if _, err := since.Open(t.Context(), write(t, path, good[:i])); err == nil {
			t.Fatalf("cut to %d bytes it is read", i)
		}
		bad := bytes.Clone(good)
		bad[i] ^= 1
		other, err := since.Open(t.Context(), write(t, path, bad))
		if err == nil && (i < last || other.Point == b.Point) {
			t.Errorf("byte %d of %d changed, %q: it is read", i, len(good), good[max(0, i-10):i+1])
		}
	}
}

// TestCheck refuses bases that the server cannot build on.
func TestCheck(t *testing.T) {
	_, head, manifest := fullBase(t)
	b, err := since.Open(t.Context(), write(t, filepath.Join(t.TempDir(), "manifest"), append(head, manifest...)))
	if err != nil {
		t.Fatal(err)
	}
	_, version, err := mysqld.ParseVersion("10.11.20-MariaDB-log")
	if err != nil {
		t.Fatal(err)
	}
	fits := since.Server{Flavor: "mariadb", Version: version, Identity: b.Manifest.Server, PageSize: 16 << 10, LSN: 3000, Checkpoint: 2000}
	if err := b.Check(fits); err != nil {
		t.Error(err)
	}
	for what, c := range map[string]struct {
		change func(*since.Server, *since.Base)
		want   func(error) bool
	}{
		"another server": {func(s *since.Server, _ *since.Base) { s.Identity = "other" }, is[*since.ServerError]},
		"another family": {func(s *since.Server, _ *since.Base) { s.Flavor = "mysql" }, is[*since.ReleaseError]},
		"another series": {func(s *since.Server, _ *since.Base) { s.Version.Minor = 5 }, is[*since.ReleaseError]},
		"page size":      {func(s *since.Server, _ *since.Base) { s.PageSize = 4096 }, is[*since.PageSizeError]},
		"LSN":            {func(s *since.Server, _ *since.Base) { s.LSN = 2999 }, is[*since.AheadError]},
		"checkpoint":     {func(s *since.Server, _ *since.Base) { s.Checkpoint = 1999 }, is[*since.AheadError]},
		"older hb":       {func(_ *since.Server, b *since.Base) { b.Manifest.Server = "" }, is[*since.UnusableError]},
		"partial":        {func(_ *since.Server, b *since.Base) { b.Manifest.Scope = &metadata.Scope{Databases: []string{"a"}} }, is[*since.ScopeError]},
		"some tables":    {func(s *since.Server, _ *since.Base) { s.Scope = &metadata.Scope{Databases: []string{"a"}} }, is[*since.ScopeError]},
		"other tables": {func(s *since.Server, b *since.Base) {
			b.Manifest.Scope, s.Scope = &metadata.Scope{Tables: []string{"a", "b"}}, &metadata.Scope{TablesExclude: []string{"a", "b"}}
		}, is[*since.ScopeError]},
	} {
		server, base, archive, manifest := fits, *b, *b.Archive, *b.Manifest
		base.Archive, base.Manifest = &archive, &manifest
		c.change(&server, &base)
		if err := base.Check(server); !c.want(err) {
			t.Errorf("%s: %v", what, err)
		}
	}
}

// TestMemory: a base of very many files takes little memory.
func TestMemory(t *testing.T) {
	const files, most = 200_000, 40 << 20
	head, err := xbtest.Header(16<<10, 1000).Marshal()
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "manifest")
	f, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	start := xbtest.Header(16<<10, 1000).Created
	_, err = f.Write(head)
	w, err2 := metadata.NewManifestWriter(f, metadata.Manifest{Files: files + 1, Bytes: int64(len(head)) + files, FromLSN: 1, CheckpointLSN: 1, LastLSN: 1, Server: "s", Start: start, End: start})
	if err = errors.Join(err, err2, w.Add(metadata.File{Path: metadata.ArchiveName, Size: int64(len(head)), CRC32: crc32.ChecksumIEEE(head)})); err != nil {
		t.Fatal(err)
	}
	for i := range files {
		id := innodb.SpaceID(i + 1)
		if err := w.Add(metadata.File{Path: fmt.Sprintf("a_database_of_many_tables/and_a_table_with_some_name_%07d.ibd", i), Size: 1, Space: &id}); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	heap := func() uint64 {
		runtime.GC()
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		return m.HeapAlloc
	}
	before := heap()
	b, err := since.Open(t.Context(), path)
	if err != nil {
		t.Fatal(err)
	}
	took := heap() - before
	if n, ok := b.Tablespace(files, ""); !ok || took > most {
		t.Errorf("%d files take %d KiB, more than %d; %+v", b.Len(), took>>10, most>>10, n)
	}
	t.Logf("%d bytes a file", took/files)
	runtime.KeepAlive(b)
}
