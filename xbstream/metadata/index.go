package metadata

import (
	"bytes"
	"fmt"
	"hash/crc32"
	"io"

	"hb/xbstream"
)

// IndexName is the second last file of an archive: xbstream's index of the chunks
// before it. It is a file like others, listed in the manifest and of no use to any
// other tool; the manifest's last line has where in the archive it begins.
const IndexName = "hb-index"

// maxEndLine bounds the manifest's last line in bytes.
const maxEndLine = 256

// EndSize is how many bytes at the end of an archive FindIndex needs, if the archive
// has as many.
const EndSize = maxEndLine + len(manifestEnd)

// manifestEnd is the archive's last chunk.
const manifestEnd = "XBSTCK01\x00E\x10\x00\x00\x00" + ManifestName

var _ = [1]struct{}{}[len(ManifestName)-0x10] // as the chunk states it

// FindIndex returns where the index of an archive begins by its last bytes, or 0: it
// has none, or is not one of hb's. Its content is a claim.
func FindIndex(end []byte) int64 {
	text, ok := bytes.CutSuffix(end, []byte("\n"+manifestEnd))
	if !ok {
		return 0
	}
	line := text[bytes.LastIndexByte(text, '\n')+1:]
	if !bytes.HasPrefix(line, []byte(endPrefix)) || len(line) > maxEndLine {
		return 0
	}
	var e endLine
	if err := unmarshalOne(line, &e); err != nil {
		return 0
	}
	return max(e.IndexAt, 0)
}

// Trailer is what stands at the end of an archive that has an index: the index, and
// the manifest.
type Trailer struct {
	*xbstream.Index
	Manifest *Manifest
	// Files are the lines of the manifest, in the order of the files' ends: the file
	// of an indexed chunk, by its number, and last the index itself.
	Files []File
	// Last is the manifest itself. IndexChunks and LastChunks are how many payload
	// chunks it and the index have.
	Last                    File
	IndexChunks, LastChunks int64
	// At is where the index begins in the archive, and Size the archive's, in bytes.
	At, Size int64
}

// ReadTrailer reads the trailer of an archive of size bytes: r is the archive from
// at, where the index begins according to FindIndex.
func ReadTrailer(r io.Reader, at, size int64) (*Trailer, error) {
	t := &Trailer{At: at, Size: size}
	var index []byte
	manifest := NewManifestParser(nil, func(f File) error {
		t.Files = append(t.Files, f)
		return nil
	})
	var sum xbstream.Sum
	rd := xbstream.NewReader(io.LimitReader(r, size-at), xbstream.ReaderOptions{})
	for {
		ch, err := rd.Next()
		if err == io.EOF {
			break
		}
		switch {
		case err != nil:
			return nil, err
		case ch.Type == xbstream.End && (ch.Path == IndexName || ch.Path == ManifestName):
		case ch.Path == IndexName && len(index)+len(ch.Data) <= xbstream.MaxIndex:
			index = append(index, ch.Data...)
			t.IndexChunks++
		case ch.Path == ManifestName:
			sum.Add(len(ch.Data), ch.CRC32)
			_, err = manifest.Write(ch.Data)
		default:
			err = fmt.Errorf("%q is not expected here", ch.Path)
		}
		if err != nil {
			return nil, err
		}
	}
	if err := manifest.Close(); err != nil {
		return nil, err
	}
	t.Manifest, t.Last, t.LastChunks = manifest.Manifest(), File{Path: ManifestName, Size: sum.Size, CRC32: sum.CRC32}, sum.Chunks
	var err error
	if t.Index, err = xbstream.ParseIndex(index); err == nil {
		err = t.check(index)
	}
	if err != nil {
		return nil, fmt.Errorf("%s: %w", IndexName, err)
	}
	return t, nil
}

// Path returns the path of a file by its number.
func (t *Trailer) Path(file int) string { return t.Files[file].Path }

// check reports where index and manifest disagree: in the number of files, in
// their sizes, and in where the index begins.
func (t *Trailer) check(index []byte) error {
	own := File{Path: IndexName, Size: int64(len(index)), CRC32: crc32.ChecksumIEEE(index)}
	if last := len(t.Files) - 1; last != t.Index.Files() || t.Files[last] != own {
		return fmt.Errorf("it is of %d files; the manifest lists %d, and last %+v", t.Index.Files(), len(t.Files), t.Files[last])
	}
	at := int64(0)
	for c := range t.Chunks(t.Path) {
		if c.Type == xbstream.End && c.Offset != t.Files[c.File].Size {
			return fmt.Errorf("%q has %d bytes, %d by the manifest", t.Path(c.File), c.Offset, t.Files[c.File].Size)
		}
		at = c.At + c.Size
	}
	if at != t.At {
		return fmt.Errorf("it is of the first %d bytes, and begins at byte %d", at, t.At)
	}
	return nil
}
