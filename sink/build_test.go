package sink

import (
	"bytes"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"testing"
	"time"

	"hb/xbstream"
	"hb/xbstream/metadata"
)

// builder makes archives of hb's own, and near misses.
type builder struct {
	t     testing.TB
	out   bytes.Buffer
	w     *xbstream.Writer
	files []metadata.File
}

func testHeader() *metadata.Archive {
	return &metadata.Archive{
		Version: metadata.ArchiveVersion, HBVersion: "0.1", ServerFlavor: metadata.FlavorMariaDB, ServerVersion: "10.11.18-MariaDB",
		PageSize: 16384, StartLSN: 100, RedoFormat: "Phys", Created: time.Unix(1_800_000_000, 0).UTC(),
	}
}

// newArchive begins an archive with its header.
func newArchive(t testing.TB) *builder {
	b := &builder{t: t}
	b.w = xbstream.NewWriter(&b.out)
	text, err := testHeader().Marshal()
	if err != nil {
		t.Fatal(err)
	}
	b.file(metadata.ArchiveName, text)
	return b
}

func (b *builder) create(path string) *xbstream.File {
	b.t.Helper()
	f, err := b.w.Create(path)
	if err != nil {
		b.t.Fatal(err)
	}
	return f
}

func (b *builder) write(f *xbstream.File, data []byte) {
	b.t.Helper()
	if _, err := f.Write(data); err != nil {
		b.t.Fatal(err)
	}
}

func (b *builder) end(f *xbstream.File) {
	b.t.Helper()
	if err := f.Close(); err != nil {
		b.t.Fatal(err)
	}
	sum := f.Sum()
	b.files = append(b.files, metadata.File{Path: f.Path(), Size: sum.Size, CRC32: sum.CRC32})
}

func (b *builder) file(path string, data []byte) {
	b.t.Helper()
	f := b.create(path)
	b.write(f, data)
	b.end(f)
}

// manifest writes the manifest of the given files, and leaves the archive
// open.
func (b *builder) manifest(files []metadata.File) {
	b.t.Helper()
	m := metadata.Manifest{
		FromLSN: 100, CheckpointLSN: 150, LastLSN: 200, Files: int64(len(files)), Heads: metadata.CRC32(b.w.HeadsCRC32()),
		Start: time.Unix(1_800_000_000, 0).UTC(), End: time.Unix(1_800_000_100, 0).UTC(),
	}
	for _, f := range files {
		m.Bytes += f.Size
	}
	out := b.create(metadata.ManifestName)
	w, err := metadata.NewManifestWriter(out, m)
	if err != nil {
		b.t.Fatal(err)
	}
	for _, f := range files {
		if err := w.Add(f); err != nil {
			b.t.Fatal(err)
		}
	}
	if err := errors.Join(w.Close(), out.Close()); err != nil {
		b.t.Fatal(err)
	}
}

// finish writes the right manifest and returns the archive.
func (b *builder) finish() []byte {
	b.t.Helper()
	b.manifest(b.files)
	return b.close()
}

func (b *builder) close() []byte {
	b.t.Helper()
	if err := b.w.Close(); err != nil {
		b.t.Fatal(err)
	}
	return b.out.Bytes()
}

// tree reads a directory.
func tree(t testing.TB, dir string) map[string]string {
	t.Helper()
	files := make(map[string]string)
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		data, err := os.ReadFile(path)
		rel, _ := filepath.Rel(dir, path)
		files[rel] = string(data)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return files
}

// hasType reports whether err is, or wraps, an error of type T.
func hasType[T error](err error) bool {
	_, ok := errors.AsType[T](err)
	return ok
}
