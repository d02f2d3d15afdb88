package xbstream

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"maps"
	"slices"
	"strings"
)

// Chunk is one chunk of an archive.
type Chunk struct {
	Type  Type
	Flags byte
	Path  string // a leading "./" is taken off

	// At is where the chunk begins in the archive, in bytes.
	At int64
	// HeadsCRC32 is the CRC-32 (IEEE) of the heads of all chunks before this
	// one, as Writer.HeadsCRC32 gives it.
	HeadsCRC32 uint32

	// Offset is where Data belongs in the file (Payload, Sparse), or where
	// the file's next payload belongs (Seek).
	Offset int64
	// Data is the payload. It is the caller's if ReaderOptions.Alloc made it,
	// and is otherwise valid until the next call to Next.
	Data []byte
	// CRC32 is the CRC-32 (IEEE) of Data, verified; of a Sparse chunk it
	// covers the map too.
	CRC32 uint32
	// Sparse is how Data is spread over the file, beginning at Offset; the
	// lengths add up to len(Data). It is the caller's.
	Sparse []Extent

	// First is set on the chunk that begins a file.
	First bool
	// Rewrite is set with First where the file replaces one of the same path
	// that had ended before (MariaDB).
	Rewrite bool
	// NewPath is the file's new name (Rename). A file that has this
	// name already is replaced.
	NewPath string
	// Removed are the files that this Remove takes away: those of the archive
	// that have ended and that Path names. It may be none.
	Removed []string
}

// Span returns how far the chunk's data and holes reach in the file, in bytes
// from Offset.
func (c *Chunk) Span() int64 {
	if c.Type != Sparse {
		return int64(len(c.Data))
	}
	var n int64
	for _, e := range c.Sparse {
		n += int64(e.Skip) + int64(e.Len)
	}
	return n
}

// Extent is an entry of a sparse map: a hole of Skip bytes, then Len bytes of
// data.
type Extent struct {
	Skip uint32
	Len  uint32
}

// ReaderOptions adjusts a Reader. The zero value is useful.
type ReaderOptions struct {
	// Dialect is that of the archive; AnyDialect infers it.
	Dialect Dialect
	// Alloc, if set, provides the memory of each payload: n bytes, which from
	// then on belong to the caller. Its error ends the reading.
	Alloc func(n int) ([]byte, error)
}

// Reader reads an archive. It belongs to one goroutine.
type Reader struct {
	r    *bufio.Reader
	opts ReaderOptions
	pos  int64 // bytes of the archive consumed
	at   int64 // where the current chunk begins
	err  error // the first error, io.EOF included

	heads uint32 // CRC-32 of all heads, up to what has been read

	chunk  Chunk
	buf    []byte // payload memory where the caller provides none
	raw    []byte // an encoded sparse map
	head   [headSize]byte
	fields [sparseSize]byte

	looked int64            // names that were compared with patterns
	open   map[string]int64 // files begun: the offset their next payload has
	closed *Names[struct{}]
}

// readBuffer is the Reader's own buffer. It only has to make the headers
// cheap; payloads go past it.
const readBuffer = 64 << 10

// NewReader returns a Reader of the archive that begins at r's position.
func NewReader(r io.Reader, opts ReaderOptions) *Reader {
	return &Reader{
		r:      bufio.NewReaderSize(r, readBuffer),
		opts:   opts,
		open:   make(map[string]int64),
		closed: NewNames[struct{}](),
	}
}

// Next returns the next chunk, whole and verified: the CRC is right, the path
// is safe, the offset follows the file's last. The Chunk is valid until the
// next call.
//
// io.EOF means that the archive stopped between two chunks with every file
// ended; that no file is missing is not known. Other ends wrap
// io.ErrUnexpectedEOF, damage is a *CorruptError. Errors are kept: after the
// first, Next returns it again.
func (r *Reader) Next() (*Chunk, error) {
	if r.err == nil {
		r.err = r.next()
	}
	if r.err != nil {
		return nil, r.err
	}
	return &r.chunk, nil
}

// Dialect returns the archive's dialect, as far as it is known.
func (r *Reader) Dialect() Dialect { return r.opts.Dialect }

// Pos returns how many bytes of the archive have been consumed.
func (r *Reader) Pos() int64 { return r.pos }

func (r *Reader) next() error {
	r.at = r.pos
	r.chunk = Chunk{At: r.at, HeadsCRC32: r.heads}
	if err := r.readHead(); err != nil {
		return err
	}
	switch r.chunk.Type {
	case Payload:
		return r.readPayload()
	case Sparse:
		return r.readS()
	case End:
		return r.end()
	case Rename:
		return r.readRename()
	case Remove:
		return r.remove()
	}
	reason := fmt.Sprintf("unknown chunk %v", r.chunk.Type)
	if r.chunk.Flags&flagIgnorable != 0 {
		reason += "; it is marked as ignorable, but its length is unknown"
	}
	return r.corrupt(reason, "", "")
}

// readHead reads the part that all chunks share. io.EOF is returned only
// where the archive may end.
func (r *Reader) readHead() error {
	n, err := io.ReadFull(r.r, r.head[:])
	r.pos += int64(n)
	r.heads = crc32.Update(r.heads, crc32.IEEETable, r.head[:n])
	switch {
	case err == io.EOF:
		return r.eof()
	case err != nil && err != io.ErrUnexpectedEOF:
		return fmt.Errorf("reading the archive at byte %d: %w", r.pos, err)
	}
	if got := r.head[:min(n, len(magic))]; string(got) != magic[:len(got)] {
		reason := "no chunk begins here"
		if n >= len(magic) && string(got[:len(magicFamily)]) == magicFamily {
			reason = "the chunk is of a version of xbstream that hb does not know"
		}
		return r.corrupt(reason, fmt.Sprintf("%q", magic), fmt.Sprintf("%q", got))
	}
	if err != nil {
		return r.truncated("a chunk's head")
	}
	r.chunk.Flags = r.head[8]
	r.chunk.Type = Type(r.head[9])
	if r.chunk.Type == Seek {
		// Seek's value is internal; on the wire it means nothing.
		return r.corrupt(fmt.Sprintf("unknown chunk type %q", r.head[9]), "", "")
	}
	if r.chunk.Flags&^flagsKnown != 0 {
		return r.corrupt(fmt.Sprintf("unknown flags %#02x", r.chunk.Flags), "", "")
	}
	r.chunk.Path, err = r.readPath(binary.LittleEndian.Uint32(r.head[10:]))
	return err
}

// eof decides what the end of the input between two chunks means.
func (r *Reader) eof() error {
	if len(r.open) > 0 {
		paths := slices.Sorted(maps.Keys(r.open))
		return &UnclosedError{Paths: paths[:min(len(paths), maxUnclosedPaths)], Count: len(paths)}
	}
	if r.closed.Len() == 0 && r.pos == 0 {
		return fmt.Errorf("the archive is empty: %w", io.ErrUnexpectedEOF)
	}
	return io.EOF
}

func (r *Reader) readPath(n uint32) (string, error) {
	if n == 0 || n > MaxPath {
		return "", r.corrupt("path length", fmt.Sprintf("1 to %d", MaxPath), fmt.Sprint(n))
	}
	var buf [MaxPath]byte
	if err := r.readFull(buf[:n], "a path"); err != nil {
		return "", err
	}
	path := string(buf[:n])
	for strings.HasPrefix(path, "./") {
		path = path[len("./"):]
	}
	if err := checkPath(path); err != nil {
		return "", r.corrupt("unsafe name: "+err.Error(), "", "")
	}
	return path, nil
}

func (r *Reader) readPayload() error {
	f := r.fields[:payloadSize]
	if err := r.readFull(f, "a payload's head"); err != nil {
		return err
	}
	length, offset, want := payloadFields(f)
	if err := r.checkExtent(length, offset); err != nil {
		return err
	}
	if err := r.begin(offset, length); err != nil {
		return err
	}
	return r.readData(int(length), want, 0)
}

func payloadFields(f []byte) (length, offset uint64, crc uint32) {
	return binary.LittleEndian.Uint64(f), binary.LittleEndian.Uint64(f[8:]), binary.LittleEndian.Uint32(f[16:])
}

// checkExtent bounds the offset and length of a payload chunk.
func (r *Reader) checkExtent(length, offset uint64) error {
	if length > MaxPayload {
		return r.corrupt("payload length", fmt.Sprintf("at most %d", MaxPayload), fmt.Sprint(length))
	}
	if offset > MaxFile-length {
		return r.corrupt("payload offset", fmt.Sprintf("at most %d", MaxFile-length), fmt.Sprint(offset))
	}
	return nil
}

// begin enters the chunk's file in the table, if it is new, and checks that
// the payload follows the one before. span is how far the chunk reaches.
func (r *Reader) begin(offset, span uint64) error {
	c := &r.chunk
	next, isOpen := r.open[c.Path]
	if !isOpen {
		if err := r.openFile(c.Flags&flagRewrite != 0); err != nil {
			return err
		}
	}
	if offset != uint64(next) {
		return r.corrupt("payload offset", fmt.Sprint(next), fmt.Sprint(offset))
	}
	c.Offset = int64(offset)
	r.open[c.Path] = int64(offset + span)
	return nil
}

// openFile enters a new file. A path that came before is refused unless the
// chunk may replace it.
func (r *Reader) openFile(mayReplace bool) error {
	c := &r.chunk
	c.First = true
	if r.closed.Has(c.Path) {
		if !mayReplace || r.opts.Dialect == Percona {
			return r.corrupt("the archive has this file twice", "", "")
		}
		r.opts.Dialect = MariaDB
		c.Rewrite = true
		r.closed.Delete(c.Path)
	}
	if len(r.open)+r.closed.Len() >= MaxFiles {
		return r.corrupt("number of files", fmt.Sprintf("at most %d", MaxFiles), "more")
	}
	r.open[c.Path] = 0
	return nil
}

// readData reads the payload and checks it. The checksum goes on from crc.
func (r *Reader) readData(n int, want, crc uint32) error {
	c := &r.chunk
	if n > 0 {
		if err := r.alloc(n); err != nil {
			return err
		}
		if err := r.fill(c.Data, "a payload"); err != nil {
			return err
		}
	}
	if got := crc32.Update(crc, crc32.IEEETable, c.Data); got != want {
		reason := "checksum"
		if c.Type == Sparse && r.opts.Dialect == AnyDialect {
			reason = "this S chunk is neither MariaDB's SEEK nor a sound sparse payload of Percona's: checksum"
		}
		return r.corrupt(reason, fmt.Sprintf("%08x", want), fmt.Sprintf("%08x", got))
	}
	c.CRC32 = want
	return nil
}

func (r *Reader) alloc(n int) error {
	if r.opts.Alloc != nil {
		buf, err := r.opts.Alloc(n)
		if err != nil {
			return err
		}
		if len(buf) < n {
			return errors.New("xbstream: internal error: Alloc returned too little")
		}
		r.chunk.Data = buf[:n]
		return nil
	}
	if cap(r.buf) < n {
		r.buf = make([]byte, n)
	}
	r.chunk.Data = r.buf[:n]
	return nil
}

// end handles an E chunk. The E of a file that was not begun is an empty
// file. MariaDB marks a replacement on its payload only, so that an empty
// replacement is a bare E for a file that had ended; it is believed only in
// an archive that is known to be MariaDB's.
func (r *Reader) end() error {
	c := &r.chunk
	next, isOpen := r.open[c.Path]
	if !isOpen {
		if err := r.openFile(r.opts.Dialect == MariaDB); err != nil {
			return err
		}
	}
	c.Offset = next
	delete(r.open, c.Path)
	r.closed.Put(c.Path, struct{}{})
	return nil
}

func (r *Reader) readRename() error {
	if err := r.mariadbOnly(); err != nil {
		return err
	}
	var n [4]byte
	if err := r.readFull(n[:], "a new path's length"); err != nil {
		return err
	}
	newPath, err := r.readPath(binary.LittleEndian.Uint32(n[:]))
	if err != nil {
		return err
	}
	c := &r.chunk
	c.NewPath = newPath
	if !r.closed.Has(c.Path) {
		return r.corrupt(fmt.Sprintf("renamed to %q before it ended", newPath), "", "")
	}
	if _, ok := r.open[newPath]; ok {
		return r.corrupt(fmt.Sprintf("renamed to %q, which has not ended", newPath), "", "")
	}
	r.closed.Delete(c.Path)
	r.closed.Put(newPath, struct{}{})
	return nil
}

// remove handles a D chunk. A file that the archive does not hold is not an error:
// MariaDB removes by pattern, also files that it has not copied.
func (r *Reader) remove() error {
	if err := r.mariadbOnly(); err != nil {
		return err
	}
	c := &r.chunk
	prefix, isPattern := strings.CutSuffix(c.Path, "*")
	if !isPattern {
		return r.removeOne(c.Path)
	}
	if r.looked += int64(len(r.open) + r.closed.Entries()); r.looked > maxLooked {
		return r.corrupt("it removes by more patterns than any server has tables", "", "")
	}
	matches := func(path string) bool {
		rest, ok := strings.CutPrefix(path, prefix)
		return ok && !strings.Contains(rest, "/")
	}
	for path := range r.open {
		if matches(path) {
			return r.removeOne(path) // which refuses it
		}
	}
	for path := range r.closed.All() {
		if matches(path) {
			if err := r.removeOne(path); err != nil {
				return err
			}
		}
	}
	slices.Sort(c.Removed)
	return nil
}

// maxLooked bounds how many names are compared with patterns in one archive, and
// thereby the time that a few bytes of it can cost: to some seconds.
const maxLooked = 1 << 29

func (r *Reader) removeOne(path string) error {
	if _, ok := r.open[path]; ok {
		return r.corrupt(fmt.Sprintf("removes %q, which has not ended", path), "", "")
	}
	if r.closed.Has(path) {
		r.chunk.Removed = append(r.chunk.Removed, path)
		r.closed.Delete(path)
	}
	return nil
}

func (r *Reader) mariadbOnly() error {
	if r.opts.Dialect == Percona {
		return r.corrupt(fmt.Sprintf("a %v chunk is MariaDB's, but the archive is Percona's", r.chunk.Type), "", "")
	}
	r.opts.Dialect = MariaDB
	return nil
}

// readFull reads len(p) bytes of the chunk's head.
func (r *Reader) readFull(p []byte, what string) error {
	err := r.fill(p, what)
	r.heads = crc32.Update(r.heads, crc32.IEEETable, p)
	return err
}

// fill reads len(p) bytes that the chunk must have.
func (r *Reader) fill(p []byte, what string) error {
	n, err := io.ReadFull(r.r, p)
	r.pos += int64(n)
	if err == io.EOF || err == io.ErrUnexpectedEOF {
		return r.truncated(what)
	}
	if err != nil {
		return fmt.Errorf("reading the archive at byte %d: %w", r.pos, err)
	}
	return nil
}

func (r *Reader) truncated(what string) error {
	if r.chunk.Path != "" {
		return fmt.Errorf("archive is cut: it stops at byte %d within %s of file %q: %w", r.pos, what, r.chunk.Path, io.ErrUnexpectedEOF)
	}
	return fmt.Errorf("archive is cut: it stops at byte %d within %s: %w", r.pos, what, io.ErrUnexpectedEOF)
}

func (r *Reader) corrupt(reason, want, got string) error {
	return &CorruptError{Path: r.chunk.Path, Offset: r.at, Reason: reason, Want: want, Got: got}
}
