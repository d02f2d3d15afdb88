package xbstream

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"math"
	"sync"
	"sync/atomic"
)

// VecWriter is an io.Writer that can take several slices in one call. If the
// Writer's sink is one, a chunk's header and payload leave together.
type VecWriter interface {
	io.Writer
	// WriteVec writes the slices in order, as one Write of their
	// concatenation would. It returns how many bytes were written, and an
	// error if that is not all of them.
	WriteVec(bufs ...[]byte) (int, error)
}

// Writer writes an archive. Its methods, and those of different Files, may be
// called from several goroutines at once; the chunks leave one after the
// other.
//
// The first error of the sink, or an Abort, is kept: every later call returns
// it and nothing more is written, so an archive that failed never ends well.
type Writer struct {
	written atomic.Int64
	turns   turns // whoever has one may hold mu while the sink takes a chunk

	mu    sync.Mutex // guards the sink and the fields below
	sink  io.Writer
	vec   VecWriter // sink, if it can gather
	err   error     // the first error; ErrClosed after Close
	heads uint32    // CRC-32 of all heads
	index Indexer
	ended []EndedFile
	paths *Names[struct{}]
	nopen int
}

// EndedFile is a file that is whole in the archive.
type EndedFile struct {
	Path string
	Sum
}

// Cutter is a sink that gathers its input into blocks, such as a stage that
// compresses.
type Cutter interface {
	// Cut ends the block, so that the rest can be read without it.
	Cut() error
}

// NewWriter returns a Writer that writes to w. The Writer never closes w.
func NewWriter(w io.Writer) *Writer {
	vec, _ := w.(VecWriter)
	return &Writer{sink: w, vec: vec, paths: NewNames[struct{}]()}
}

// File is one file of an archive being written. It belongs to one goroutine
// at a time.
type File struct {
	w      *Writer
	path   string
	head   []byte // the chunk head, with room for the fields of a payload chunk
	sum    Sum
	closed bool
	hurry  bool
}

// Sum is the size and checksum of a file, from its chunks.
type Sum struct {
	Size   int64  // bytes
	CRC32  uint32 // CRC-32 (IEEE) of all its bytes
	Chunks int64  // payload chunks
}

// Add accounts for one more chunk of n bytes with the given CRC-32.
func (s *Sum) Add(n int, crc uint32) {
	s.CRC32 = CombineCRC32(s.CRC32, crc, int64(n))
	s.Size += int64(n)
	s.Chunks++
}

// Create begins a file. The path must satisfy CheckPath and be new to the
// archive. Nothing is written before the first Write or Close.
func (w *Writer) Create(path string) (*File, error) {
	if err := CheckPath(path); err != nil {
		return nil, fmt.Errorf("xbstream: cannot archive this name: %w", err)
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.err != nil {
		return nil, w.err
	}
	if w.paths.Has(path) {
		return nil, fmt.Errorf("xbstream: file %q is already in the archive", path)
	}
	w.paths.Put(path, struct{}{})
	w.nopen++
	return &File{w: w, path: path, head: newHead(path)}, nil
}

// newHead builds a payload chunk's head for path; length, offset and CRC are
// filled in for each chunk.
func newHead(path string) []byte {
	b := make([]byte, 0, headSize+len(path)+payloadSize)
	b = append(b, magic...)
	b = append(b, 0, byte(Payload))
	b = binary.LittleEndian.AppendUint32(b, uint32(len(path)))
	b = append(b, path...)
	return b[:cap(b)]
}

// Hurry gives the file every second turn from now on, however many other files'
// chunks wait for the sink: it is for data that comes at a pace that is not the
// archive's.
func (f *File) Hurry() { f.hurry = true }

// Path returns the file's path in the archive.
func (f *File) Path() string { return f.path }

// Sum returns the sum of everything written so far.
func (f *File) Sum() Sum { return f.sum }

// Write appends p to the file as one chunk, or as several where p is longer
// than MaxChunk. It does not keep p.
func (f *File) Write(p []byte) (int, error) {
	if f.closed {
		return 0, f.w.stickyOr(ErrClosed)
	}
	n := 0
	for len(p) > 0 {
		chunk := p[:min(len(p), MaxChunk)]
		if err := f.writeChunk(chunk); err != nil {
			return n, err
		}
		n += len(chunk)
		p = p[len(chunk):]
	}
	return n, nil
}

func (f *File) writeChunk(p []byte) error {
	if f.sum.Size > math.MaxInt64-int64(len(p)) {
		return fmt.Errorf("xbstream: file %q is too large", f.path)
	}
	// The checksum costs more than the hand-over, so it is taken before the
	// lock: producers of different files then only queue for the sink.
	crc := crc32.ChecksumIEEE(p)
	tail := f.head[headSize+len(f.path):]
	binary.LittleEndian.PutUint64(tail, uint64(len(p)))
	binary.LittleEndian.PutUint64(tail[8:], uint64(f.sum.Size))
	binary.LittleEndian.PutUint32(tail[16:], crc)
	if err := f.write(f.head, p); err != nil {
		return err
	}
	f.sum.Add(len(p), crc)
	return nil
}

// Close ends the file. A second Close is an error.
func (f *File) Close() error {
	if f.closed {
		return f.w.stickyOr(ErrClosed)
	}
	f.closed = true
	head := f.head[:headSize+len(f.path)]
	head[9] = byte(End)
	return f.write(head, nil)
}

// Abort gives the file up, and with it the whole archive: a reader would take
// the part that was written for the whole file. The error is what
// every later call on the Writer and its Files returns.
func (f *File) Abort(err error) {
	f.closed = true
	f.w.Abort(fmt.Errorf("file %q: %w", f.path, orUnknown(err)))
}

// Abort gives the archive up. The error is what every later call on the
// Writer and its Files returns, unless one came before it.
func (w *Writer) Abort(err error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.err == nil {
		w.err = fmt.Errorf("xbstream: archive given up: %w", orUnknown(err))
	}
}

func orUnknown(err error) error {
	if err == nil {
		return errors.New("no reason given")
	}
	return err
}

// Close ends the archive. It fails if a file is still open, if the archive
// holds no file, if an error came before, and if it was called before. It
// neither closes nor flushes the sink.
func (w *Writer) Close() error {
	w.mu.Lock()
	defer w.mu.Unlock()
	switch {
	case w.err != nil:
		return w.err
	case w.nopen > 0:
		w.err = fmt.Errorf("xbstream: archive closed with %d of its files unfinished", w.nopen)
		return w.err
	case w.paths.Len() == 0:
		w.err = errors.New("xbstream: archive closed without a file in it")
		return w.err
	}
	w.err = ErrClosed
	return nil
}

// Written returns how many bytes the sink has taken. It may be called at any
// time from any goroutine.
func (w *Writer) Written() int64 { return w.written.Load() }

// HeadsCRC32 returns the CRC-32 (IEEE) of the heads of all chunks so far, one
// after the other: of all but the payloads, for each of which its head has a
// checksum. It vouches for names, offsets and the order of the chunks. Call it
// when no other goroutine writes.
func (w *Writer) HeadsCRC32() uint32 {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.heads
}

// Index returns the index of the chunks written so far. ok is false if the archive
// is too large for one, or if a file is open. Call it when no other goroutine writes.
func (w *Writer) Index() (index []byte, ok bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.index.Bytes()
}

// Ended returns the files that have ended, in the order in which they did. Call it
// when no other goroutine writes.
func (w *Writer) Ended() []EndedFile {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.ended
}

// Cut lets the sink end its block here, if it is a Cutter.
func (w *Writer) Cut() error {
	w.mu.Lock()
	defer w.mu.Unlock()
	c, ok := w.sink.(Cutter)
	if !ok || w.err != nil {
		return w.err
	}
	return w.account(0, 0, c.Cut())
}

// stickyOr returns the first error, or other.
func (w *Writer) stickyOr(other error) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.err != nil {
		return w.err
	}
	return other
}

// write hands one chunk to the sink when it is the file's turn.
func (f *File) write(head, payload []byte) error {
	w := f.w
	w.turns.begin(f.hurry)
	defer w.turns.end()
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.err != nil {
		return w.err
	}
	w.heads = crc32.Update(w.heads, crc32.IEEETable, head)
	f.enter(len(payload))
	if w.vec != nil && len(payload) > 0 {
		n, err := w.vec.WriteVec(head, payload)
		return w.account(n, len(head)+len(payload), err)
	}
	n, err := w.sink.Write(head)
	if err := w.account(n, len(head), err); err != nil || len(payload) == 0 {
		return err
	}
	n, err = w.sink.Write(payload)
	return w.account(n, len(payload), err)
}

// enter notes a chunk with a payload of n bytes, or with none the file's end. The
// caller holds mu, so that index and files have the order of the chunks.
func (f *File) enter(n int) {
	w := f.w
	if n > 0 {
		w.index.Payload(f.path, n)
		return
	}
	w.index.End(f.path)
	w.ended = append(w.ended, EndedFile{f.path, f.sum})
	w.nopen--
}

// account counts the bytes that the sink took and keeps its error.
func (w *Writer) account(n, want int, err error) error {
	w.written.Add(int64(max(n, 0)))
	if err == nil && n != want {
		err = io.ErrShortWrite
	}
	if err != nil {
		w.err = fmt.Errorf("xbstream: writing the archive: %w", err)
		return w.err
	}
	return nil
}
