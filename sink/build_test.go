package sink

import (
	"bytes"
	"encoding/binary"
	"errors"
	"hash/crc32"
	"io/fs"
	"os"
	"path/filepath"
	"testing"
	"time"

	"hb/xbstream"
	"hb/xbstream/metadata"
)

// rawHead and those below build chunks byte by byte, for archives that hb's
// own Writer refuses to make.
func rawHead(typ byte, flags byte, path string) []byte {
	b := append([]byte("XBSTCK01"), flags, typ)
	b = binary.LittleEndian.AppendUint32(b, uint32(len(path)))
	return append(b, path...)
}

func rawP(flags byte, path string, offset uint64, data string) []byte {
	b := rawHead('P', flags, path)
	b = binary.LittleEndian.AppendUint64(b, uint64(len(data)))
	b = binary.LittleEndian.AppendUint64(b, offset)
	b = binary.LittleEndian.AppendUint32(b, crc32.ChecksumIEEE([]byte(data)))
	return append(b, data...)
}

func rawE(path string) []byte { return rawHead('E', 0, path) }

func rawFile(path, data string) []byte { return cat(rawP(0, path, 0, data), rawE(path)) }

func rawSeek(path string, offset uint64) []byte {
	return binary.LittleEndian.AppendUint64(rawHead('S', 0, path), offset)
}

func rawRename(path, newPath string) []byte {
	b := binary.LittleEndian.AppendUint32(rawHead('R', 0, path), uint32(len(newPath)))
	return append(b, newPath...)
}

func rawRemove(path string) []byte { return rawHead('D', 0, path) }

func rawSparse(path string, offset uint64, extents []xbstream.Extent, data string) []byte {
	var m []byte
	for _, e := range extents {
		m = binary.LittleEndian.AppendUint32(m, e.Skip)
		m = binary.LittleEndian.AppendUint32(m, e.Len)
	}
	b := binary.LittleEndian.AppendUint32(rawHead('S', 0, path), uint32(len(extents)))
	b = binary.LittleEndian.AppendUint64(b, uint64(len(data)))
	b = binary.LittleEndian.AppendUint64(b, offset)
	b = binary.LittleEndian.AppendUint32(b, crc32.Update(crc32.ChecksumIEEE(m), crc32.IEEETable, []byte(data)))
	return append(append(b, m...), data...)
}

func cat(parts ...[]byte) []byte { return bytes.Join(parts, nil) }

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
