package catalog

import (
	"context"
	"errors"
	"fmt"
	"io"
	"iter"
	"slices"

	"hb/sink/backupdir"
	"hb/stream"
	"hb/xbstream"
	"hb/xbstream/metadata"
)

// Picked follows some files of an archive that are read by its index. It proves of each
// that it is the one that the manifest lists: every chunk is where the index says, of
// the file and at the offset that the index says, and the whole file has its size and
// checksum. That no file is missing from the archive it cannot know.
type Picked struct {
	parts *stream.Parts
	files map[int]bool
	next  func() (xbstream.IndexedChunk, bool)
	stop  func()
	want  xbstream.IndexedChunk // the chunk that comes next
	left  bool                  // there is one
	sums  map[int]xbstream.Sum  // of files that have not ended

	ended int64
	bytes int64
}

// NewPicked follows the files that choose chooses. The caller closes it.
func NewPicked(parts *stream.Parts, choose func(path string) bool) *Picked {
	p := &Picked{parts: parts, files: make(map[int]bool), sums: make(map[int]xbstream.Sum)}
	for i := range parts.Index.Files() {
		if choose(parts.Path(i)) {
			p.files[i] = true
		}
	}
	p.next, p.stop = iter.Pull(parts.Pick(p.files))
	p.want, p.left = p.next()
	return p
}

// Close releases what p holds.
func (p *Picked) Close() { p.stop() }

// Open opens the archive of the files that were chosen.
func (p *Picked) Open() io.Reader { return p.parts.Open(p.files) }

// Header is what the archive says of itself.
func (p *Picked) Header() *metadata.Archive { return p.parts.Archive }

// Add takes the next chunk. For an End chunk it returns the file's entry.
func (p *Picked) Add(ch *xbstream.Chunk) (*Entry, error) {
	w := p.want
	is := xbstream.IndexedChunk{File: w.File, Type: ch.Type, At: w.At, Size: w.Size, Offset: ch.Offset, Len: int64(len(ch.Data))}
	if !p.left || ch.Flags != 0 || ch.Path != p.parts.Path(w.File) || is != w {
		return nil, &xbstream.CorruptError{Path: ch.Path, Offset: w.At, Reason: "the index says that another chunk is here",
			Want: told(w.Type, p.parts.Path(w.File), w.Offset, w.Len), Got: told(ch.Type, ch.Path, ch.Offset, int64(len(ch.Data)))}
	}
	if backupdir.IsMark(ch.Path) {
		return nil, &xbstream.CorruptError{Path: ch.Path, Offset: w.At, Reason: "it has the name of a mark of hb's own"}
	}
	p.want, p.left = p.next()
	sum := p.sums[w.File]
	if ch.Type == xbstream.Payload {
		sum.Add(len(ch.Data), ch.CRC32)
		p.sums[w.File] = sum
		return nil, nil
	}
	delete(p.sums, w.File)
	f := p.parts.Files[w.File]
	if sum.Size != f.Size || sum.CRC32 != f.CRC32 {
		return nil, &xbstream.CorruptError{Path: f.Path, Offset: w.At, Reason: "size and checksum in the manifest",
			Want: fmt.Sprintf("%d bytes, %08x", f.Size, f.CRC32), Got: fmt.Sprintf("%d bytes, %08x", sum.Size, sum.CRC32)}
	}
	p.ended++
	p.bytes += f.Size
	return &Entry{Op: OpFile, Path: f.Path, Size: f.Size, Chunks: sum.Chunks, CRC32: f.CRC32, HasCRC32: true}, nil
}

func told(t xbstream.Type, path string, offset, n int64) string {
	return fmt.Sprintf("%v of %q, %d bytes at offset %d", t, path, n, offset)
}

// Finish reports whether all files came.
func (p *Picked) Finish() error {
	if p.left {
		return p.Explain(io.ErrUnexpectedEOF)
	}
	return nil
}

// Explain says of an error of the chunks' reader where in the archive it was.
func (p *Picked) Explain(err error) error {
	if damage, ok := errors.AsType[*xbstream.CorruptError](err); ok && p.left && damage.Offset != p.want.At {
		moved := *damage
		moved.Offset = p.want.At
		return &moved
	}
	return err
}

// Summary is what is known of the archive by its manifest, and how much was read.
func (p *Picked) Summary(*xbstream.Reader) *Summary {
	return &Summary{Files: p.ended, Bytes: p.bytes, Archive: p.parts.Archive, Manifest: p.parts.Manifest, Indexed: true}
}

// ReadMembers reads the files that choose chooses into memory, each proven as Picked proves
// it. One of more than most bytes is a *xbstream.CorruptError.
func ReadMembers(parts *stream.Parts, choose func(path string) bool, most int) (map[string][]byte, error) {
	p := NewPicked(parts, choose)
	defer p.Close()
	out := make(map[string][]byte)
	if len(p.files) == 0 {
		return out, nil
	}
	rd := xbstream.NewReader(p.Open(), xbstream.ReaderOptions{})
	for {
		ch, err := rd.Next()
		if err == io.EOF {
			return out, p.Finish()
		}
		if err == nil {
			_, err = p.Add(ch)
		}
		if err != nil {
			return nil, p.Explain(err)
		}
		if out[ch.Path] = append(out[ch.Path], ch.Data...); len(out[ch.Path]) > most {
			return nil, &xbstream.CorruptError{Path: ch.Path, Offset: ch.At, Reason: fmt.Sprintf("it has more than %d bytes", most)}
		}
	}
}

// ListInput lists an archive as it was opened: see ListIndex and List.
func ListInput(ctx context.Context, in *stream.Input, fn func(Entry) error) (*Summary, error) {
	if in.Parts != nil {
		return ListIndex(in.Parts, fn)
	}
	return List(ctx, in, fn)
}

// ListIndex calls fn for each file of an archive, by its index and its manifest: no file
// is read. What it lists is a claim of these two, whose checksums are right.
func ListIndex(parts *stream.Parts, fn func(Entry) error) (*Summary, error) {
	files := append(slices.Clip(parts.Files), parts.Last)
	chunks := make([]int64, len(files))
	chunks[len(files)-2], chunks[len(files)-1] = parts.IndexChunks, parts.LastChunks
	for c := range parts.Chunks(parts.Path) {
		if c.Type == xbstream.Payload {
			chunks[c.File]++
		}
	}
	s := &Summary{Archive: parts.Archive, Manifest: parts.Manifest, Indexed: true}
	for i, f := range files {
		e := Entry{Op: OpFile, Path: f.Path, Size: f.Size, Chunks: chunks[i], CRC32: f.CRC32, HasCRC32: true}
		if err := fn(e); err != nil {
			return s, err
		}
		s.Files++
		s.Bytes += f.Size
	}
	return s, nil
}
