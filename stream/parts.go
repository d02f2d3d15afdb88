package stream

import (
	"errors"
	"fmt"
	"io"
	"iter"

	"hb/stream/ranges"
	"hb/stream/stage"
	"hb/xbstream"
	"hb/xbstream/metadata"
)

// Parts is an archive of hb's by its index. What index and manifest say of it is a claim
// until chunks have been read and compared.
type Parts struct {
	*metadata.Trailer
	Archive *metadata.Archive
	at      stage.At
}

// OpenParts reads the index, the manifest and hb-archive.json of the archive in in. If
// it has no index, or stages that cannot be read from the middle, the error is
// ErrNotSeekable.
func OpenParts(in stage.At, opts Options) (*Parts, error) {
	below := &faultAt{At: in}
	at, _, err := OpenAt(below, opts)
	if err != nil {
		return nil, err
	}
	size := at.Size()
	end := make([]byte, min(size, int64(metadata.EndSize)))
	if _, err := stage.ReadFull(at, end, size-int64(len(end))); err != nil {
		return nil, fmt.Errorf("reading the end of the archive: %w", err)
	}
	from := metadata.FindIndex(end)
	if from == 0 || from >= size {
		return nil, stage.ErrNotSeekable
	}
	at.Plan([]ranges.Span{{Off: from, Len: size - from}})
	p := &Parts{at: at}
	if p.Trailer, err = metadata.ReadTrailer(io.NewSectionReader(at, from, size-from), from, size); err == nil {
		err = p.readArchive()
	}
	if err != nil && below.err == nil {
		err = wrongIndex(err, from)
	}
	if err != nil {
		return nil, err
	}
	return p, nil
}

// readArchive reads hb-archive.json, the first file.
func (p *Parts) readArchive() error {
	end := int64(0)
	for c := range p.Chunks(p.Path) {
		if p.Path(c.File) != metadata.ArchiveName || c.Offset > metadata.MaxArchiveSize {
			break
		}
		end = c.At + c.Size
	}
	if end == 0 {
		return wrongIndex(fmt.Errorf("%s is not the first file", metadata.ArchiveName), p.At)
	}
	var text []byte
	rd := xbstream.NewReader(io.NewSectionReader(p.at, 0, end), xbstream.ReaderOptions{})
	for {
		ch, err := rd.Next()
		if err == io.EOF {
			p.Archive, err = metadata.UnmarshalArchive(text)
			return err
		}
		if err != nil {
			return err
		}
		if ch.Path != metadata.ArchiveName || len(text)+len(ch.Data) > metadata.MaxArchiveSize {
			return &xbstream.CorruptError{Path: ch.Path, Offset: ch.At, Reason: "it is not expected here"}
		}
		text = append(text, ch.Data...)
	}
}

// wrongIndex makes damage of what is wrong with an index that begins at a place in the
// archive.
func wrongIndex(err error, at int64) error {
	_, later := errors.AsType[*metadata.VersionError](err)
	_, told := errors.AsType[*xbstream.CorruptError](err)
	if later || told || stage.IsDamage(err) {
		return err
	}
	return &xbstream.CorruptError{Path: metadata.IndexName, Offset: at, Reason: err.Error()}
}

// ReadPayload reads the data of a payload chunk into memory of c.Len bytes, and returns
// its CRC-32. It proves the chunk: see xbstream.IndexedChunk.ReadPayload.
func (p *Parts) ReadPayload(c xbstream.IndexedChunk, data []byte) (crc uint32, err error) {
	return c.ReadPayload(p.at, p.Path(c.File), data)
}

// Has reports whether the archive has a file of that path.
func (p *Parts) Has(path string) bool {
	for i := range p.Index.Files() {
		if p.Path(i) == path {
			return true
		}
	}
	return false
}

// Pick yields the chunks of some files, in their order.
func (p *Parts) Pick(files map[int]bool) iter.Seq[xbstream.IndexedChunk] {
	return func(yield func(xbstream.IndexedChunk) bool) {
		for c := range p.Chunks(p.Path) {
			if files[c.File] && !yield(c) {
				return
			}
		}
	}
}

// Open opens the archive of some files and nothing else: their chunks, one after the
// other.
func (p *Parts) Open(files map[int]bool) io.Reader {
	var spans []ranges.Span
	for c := range p.Pick(files) {
		spans = append(spans, ranges.Span{Off: c.At, Len: c.Size})
	}
	spans = ranges.Merge(spans, 0)
	p.at.Plan(spans)
	return &spanReader{at: p.at, rest: spans}
}

// spanReader reads spans one after the other.
type spanReader struct {
	at   stage.At
	rest []ranges.Span
}

func (r *spanReader) Read(p []byte) (int, error) {
	if len(r.rest) == 0 {
		return 0, io.EOF
	}
	s := &r.rest[0]
	n, err := stage.ReadFull(r.at, p[:min(int64(len(p)), s.Len)], s.Off)
	s.Off, s.Len = s.Off+int64(n), s.Len-int64(n)
	if s.Len == 0 {
		r.rest = r.rest[1:]
	}
	return n, err
}
