package mysql

import (
	"bytes"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"hb/source/mysqld/mysqldtest"
	"hb/source/mysqld/mysqldtest/census"
	"hb/xbstream/innodb"
	"hb/xbstream/innodb/mysqlredo/mlog"
)

// TestZipFidelity kills servers under a load of compressed tables and compares
// each page with that of the server's own recovery.
func TestZipFidelity(t *testing.T) {
	mysqldtest.Each(t, mysqldtest.MySQL, func(t *testing.T, root *mysqldtest.Root) {
		t.Run("no images", func(t *testing.T) { testZipRecovery(t, root, 16<<10, logNoImages) })
		if !mysqldtest.Long() {
			return
		}
		t.Run("images", func(t *testing.T) { testZipRecovery(t, root, 16<<10, logImages) })
		t.Run("images 4k", func(t *testing.T) { testZipRecovery(t, root, 4<<10, logImages) })
		t.Run("no images 8k, level 9", func(t *testing.T) {
			testZipRecovery(t, root, 8<<10, logNoImages, "innodb-compression-level=9")
		})
	})
}

func testZipRecovery(t *testing.T, root *mysqldtest.Root, pageSize int, config ...string) {
	dir := t.TempDir()
	o := census.CrashOptions{PageSize: pageSize, Init: []string{"innodb-file-per-table=ON"}, Config: append(config, "max-allowed-packet=64M")}
	data := crashZip(t, root, dir, pageSize, &o)
	theirs := filepath.Join(dir, "theirs")
	if err := os.CopyFS(theirs, os.DirFS(data)); err != nil {
		t.Fatal(err)
	}
	census.Recover(t, root, theirs, o)
	log, r, c := compareZip(t, data, theirs)
	for _, d := range c.Diffs[:min(len(c.Diffs), 20)] {
		t.Error(d.String())
	}
	t.Logf("%d pages, %d replayed, %d of them equal except for the deflated form; %v", c.Pages, c.Replayed, c.Deflated, r.Missing)
	if c.Deflated > 0 {
		t.Errorf("%d pages are not compressed as the server does", c.Deflated)
	}
	for _, types := range zipTypes(config[0] == logImages) {
		if !slices.ContainsFunc(types, func(of mlog.Type) bool { return r.Census[of] > 20 }) {
			t.Errorf("hardly any %v was replayed", types[0])
		}
	}
	if *captureZip && !t.Failed() && pageSize == 16<<10 && config[0] == logNoImages {
		captureCases(t, root.Name, log.Header.Format, r)
	}
}

// compareZip replays a crashed directory in memory and compares its compressed
// tablespaces with the server's recovery of a copy.
func compareZip(t *testing.T, data, theirs string) (*census.Log, *census.Replay, *census.Comparison) {
	log, err := census.ReadLog(data, nil)
	if err != nil {
		t.Fatal(err)
	}
	files, err := census.ReadFiles(data)
	if err != nil {
		t.Fatal(err)
	}
	r, err := census.NewReplay(files, log, ^innodb.LSN(0))
	if err != nil {
		t.Fatal(err)
	}
	r.Run(func() census.Applier { return NewApplier(log.Header.Format) })
	server, err := census.ReadFiles(theirs)
	if err != nil {
		t.Fatal(err)
	}
	for id, f := range server.Spaces {
		if !f.Space.Zip() {
			delete(server.Spaces, id)
		}
	}
	c := r.Compare(server, log.End)
	c.Diffs = slices.DeleteFunc(c.Diffs, isLSN)
	return log, r, c
}

// isLSN reports whether all that differs is an LSN that says nothing. Where
// plain pages of compressed tablespaces are as large as others, 5.6 and 5.7 put
// it into a trailer, which these pages do not have. And 5.6 stamps page 0 with
// the LSN of a file's renaming, as if that had changed it.
func isLSN(d census.Diff) bool {
	if isIndex(d.Type) || d.Page == nil || d.Page.Err != nil {
		return false
	}
	n := len(d.Ours)
	if d.Page.File.Space.Logical == n {
		n -= trailer
	}
	return bytes.Equal(d.Ours[4:innodb.OffsetLSN], d.Theirs[4:innodb.OffsetLSN]) &&
		bytes.Equal(d.Ours[innodb.OffsetType:n], d.Theirs[innodb.OffsetType:n])
}

const (
	logImages   = "innodb-log-compressed-pages=ON"
	logNoImages = "innodb-log-compressed-pages=OFF"
)

// zipTypes are the types of records that a load of compressed tables makes, each
// under the names it has had.
func zipTypes(images bool) [][]mlog.Type {
	types := [][]mlog.Type{
		{mlog.Insert, mlog.OldCompInsert}, {mlog.Delete, mlog.OldCompDelete}, {mlog.UpdateInPlace, mlog.OldCompUpdateInPlace},
		{mlog.ClustDeleteMark, mlog.OldCompClustDeleteMark}, {mlog.SecDeleteMark}, {mlog.ListEndDelete, mlog.OldCompListEndDelete},
		{mlog.ZipWriteNodePtr}, {mlog.ZipWriteBlobPtr}, {mlog.ZipWriteHeader}, {mlog.ZipPageCompress},
	}
	if !images {
		types = append(types, []mlog.Type{mlog.ZipCompressNoData, mlog.OldZipCompressNoData}, []mlog.Type{mlog.ZipReorganize, mlog.OldZipReorganize})
	}
	return types
}

// crashZip runs the load on a server, of which only some pages are written, and
// kills it.
func crashZip(t *testing.T, root *mysqldtest.Root, dir string, pageSize int, o *census.CrashOptions) string {
	s := mysqldtest.Start(t, root, o.Server(root, dir))
	l := newZipLoad(root, pageSize, 2)
	s.Exec(t, l.create()...)
	if err := l.run(t.Context(), s.DB(), 300); err != nil {
		t.Fatal(err)
	}
	if err := s.Stop(); err != nil {
		t.Fatal(err)
	}
	s = mysqldtest.StartOn(t, root, s.Datadir, o.Server(root, dir))
	if err := l.run(t.Context(), s.DB(), 300); err != nil {
		t.Fatal(err)
	}
	s.Exec(t, "SET GLOBAL innodb_max_dirty_pages_pct=1", "DO SLEEP(0.3)", "SET GLOBAL innodb_max_dirty_pages_pct=99")
	if err := l.run(t.Context(), s.DB(), 900); err != nil {
		t.Fatal(err)
	}
	if err := s.Kill(); err != nil {
		t.Fatal(err)
	}
	return s.Datadir
}
