package zstdstage

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"runtime"
	"sync"

	"github.com/klauspost/compress/zstd"

	"hb/stream/stage"
)

// The zstd stage that hb writes is plain zstd (RFC 8878) whose frames can be
// compressed, and decompressed, on many processors at a time: each holds one
// block of the archive, and a skippable frame in front of it has how long it
// is, so that a reader finds the next one without decompressing this one.
//
//	skippable 0x184D2A5B, 4 bytes: "hb" 0x00 0x02          beginning, version 2
//	skippable 0x184D2A5B, 8 bytes: length of the frame that follows, and its CRC-32C
//	frame: single segment, content size, checksum          at most MaxBlock bytes
//	...
//	skippable 0x184D2A5B, 4 bytes: "hb" 0xff 0x02          end
//	skippable 0x184D2A5E: seek table                       see seekTable
//
// Numbers are little endian. Other tools skip the skippable frames, and so cannot
// distinguish a cut between two frames from the end. hb can: without the last one the
// stage was cut. The CRC is of the frame as it is stored, because some bits of
// one mean nothing: changed ones are damage all the same.
//
// Version 1, which hb wrote before, has 0x01 in place of 0x02, and no seek table.
const (
	skipHead  = 8 // magic and length of a skippable frame
	skipFrame = skipHead + 8
	skipMark  = skipHead + 4
)

var (
	blocksBegin  = []byte("\x5b\x2a\x4d\x18\x04\x00\x00\x00hb\x00\x02")
	blocksBegin1 = []byte("\x5b\x2a\x4d\x18\x04\x00\x00\x00hb\x00\x01")
	blocksEnd    = []byte("\x5b\x2a\x4d\x18\x04\x00\x00\x00hb\xff\x02")
	blocksEnd1   = []byte("\x5b\x2a\x4d\x18\x04\x00\x00\x00hb\xff\x01")
	frameHead    = []byte("\x5b\x2a\x4d\x18\x08\x00\x00\x00")
)

const (
	// MaxBlock is the largest content of one frame in bytes, and the largest that a
	// reader allocates for it.
	MaxBlock = 4 << 20
	// maxBlockFrame bounds a frame: content that does not get smaller is stored, with
	// 3 bytes for each piece of it, and less than 32 for header and checksum. A piece
	// has 128 KiB, or 64 KiB at the lowest level; there is room for 16 KiB.
	maxBlockFrame = MaxBlock + 3*(MaxBlock>>14) + 64
	// minBlockFrame is the least that a frame has: magic, descriptor, content size,
	// the head of a block, and the checksum.
	minBlockFrame = 4 + 1 + 1 + 3 + 4
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// block is a piece of the archive on its way through a worker.
type block struct {
	plain  []byte
	packed []byte
	crc    uint32     // of packed, as its header has it (when reading)
	ready  chan error // gets, once, the result of a worker
}

func newBlock() *block { return &block{ready: make(chan error, 1)} }

// blockWorkers are goroutines that work on blocks, in any order.
type blockWorkers struct {
	work chan *block
	wg   sync.WaitGroup
}

// startWorkers starts n workers; at most inFlight blocks are given to them
// before the results are taken.
func startWorkers(n, inFlight int, do func(*block) error) *blockWorkers {
	w := &blockWorkers{work: make(chan *block, inFlight)}
	for range n {
		w.wg.Go(func() {
			for b := range w.work {
				b.ready <- do(b)
			}
		})
	}
	return w
}

// stop waits for the workers.
func (w *blockWorkers) stop() {
	close(w.work)
	w.wg.Wait()
}

// blockWriter compresses its input, block by block. Its caller's goroutine fills
// blocks, workers compress them, and one goroutine writes them in their order.
type blockWriter struct {
	size    int
	enc     *zstd.Encoder
	workers *blockWorkers
	free    chan *block
	ordered chan *block // all blocks in work, oldest first
	cur     *block      // being filled, or nil
	flushed chan struct{}
	closed  bool
	table   seekTable // of what flush wrote

	out io.Writer
	mu  sync.Mutex
	err error // of out, the first
}

func newBlockWriter(out io.Writer, s settings) (*blockWriter, error) {
	enc, err := zstd.NewWriter(nil,
		zstd.WithEncoderLevel(s.level), zstd.WithEncoderConcurrency(s.workers),
		zstd.WithWindowSize(s.block), zstd.WithSingleSegment(true), zstd.WithEncoderCRC(true))
	if err != nil {
		return nil, err
	}
	n := s.workers + 2 // one being filled, one being written
	w := &blockWriter{
		size: s.block, enc: enc, out: out,
		free: make(chan *block, n), ordered: make(chan *block, n), flushed: make(chan struct{}),
	}
	for range n {
		w.free <- newBlock()
	}
	w.workers = startWorkers(s.workers, n, w.compress)
	go w.flush()
	return w, nil
}

// Write copies p into blocks. It waits for a block to come free.
func (w *blockWriter) Write(p []byte) (n int, err error) {
	for len(p) > 0 {
		if err := w.failure(); err != nil {
			return n, err
		}
		if w.cur == nil {
			w.cur = <-w.free
			if w.cur.plain == nil {
				w.cur.plain = make([]byte, 0, w.size)
			}
			w.cur.plain = w.cur.plain[:0]
		}
		part := p[:min(len(p), w.size-len(w.cur.plain))]
		w.cur.plain = append(w.cur.plain, part...)
		n, p = n+len(part), p[len(part):]
		if len(w.cur.plain) == w.size {
			w.submit()
		}
	}
	return n, nil
}

func (w *blockWriter) submit() {
	w.ordered <- w.cur
	w.workers.work <- w.cur
	w.cur = nil
}

func (w *blockWriter) failure() error {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.err
}

// Cut ends the block that is being filled, so that what is written next is in
// another frame.
func (w *blockWriter) Cut() error {
	if w.cur != nil && len(w.cur.plain) > 0 {
		w.submit()
	}
	return w.failure()
}

// compress is a worker's part.
func (w *blockWriter) compress(b *block) error {
	if err := w.failure(); err != nil {
		return err
	}
	if b.packed == nil {
		b.packed = make([]byte, 0, skipFrame+w.enc.MaxEncodedSize(w.size))
	}
	b.packed = w.enc.EncodeAll(b.plain, append(b.packed[:0], make([]byte, skipFrame)...))
	frame := b.packed[skipFrame:]
	if len(frame) > maxBlockFrame {
		return fmt.Errorf("internal error: %d bytes became a frame of %d", len(b.plain), len(frame))
	}
	copy(b.packed, frameHead)
	binary.LittleEndian.PutUint32(b.packed[skipHead:], uint32(len(frame)))
	binary.LittleEndian.PutUint32(b.packed[skipHead+4:], crc32.Checksum(frame, castagnoli))
	return nil
}

// flush writes blocks in their order, between beginning and end. After an
// error it only gives them back.
func (w *blockWriter) flush() {
	defer close(w.flushed)
	w.write(blocksBegin)
	for b := range w.ordered {
		if err := <-b.ready; err != nil {
			w.fail(err)
		}
		w.write(b.packed)
		if w.failure() == nil {
			w.table.add(b.packed[skipFrame:], len(b.plain))
		}
		w.free <- b
	}
	w.write(blocksEnd)
	table, err := w.table.frame()
	w.fail(err)
	w.write(table)
}

func (w *blockWriter) write(p []byte) {
	if w.failure() == nil {
		_, err := w.out.Write(p)
		w.fail(err)
	}
}

func (w *blockWriter) fail(err error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.err == nil {
		w.err = err
	}
}

// Close compresses the rest and ends the format, unless something failed.
// A second Close does nothing.
func (w *blockWriter) Close() error {
	if w.closed {
		return w.err
	}
	w.closed = true
	if w.cur != nil {
		w.submit()
	}
	w.workers.stop()
	close(w.ordered)
	<-w.flushed
	w.fail(w.enc.Close())
	return w.err
}

// isBlocks reports whether r begins as a blockWriter's output does, now or in
// version 1.
func isBlocks(r *bufio.Reader) bool {
	head, _ := r.Peek(len(blocksBegin))
	return bytes.Equal(head, blocksBegin) || bytes.Equal(head, blocksBegin1)
}

// maxBlockReaders is how many processors decompress: these are faster than any
// disk or network that the archive is for, and each takes 8 MiB.
const maxBlockReaders = 8

// blockReader decompresses the output of a blockWriter. The goroutine that calls
// Read reads frames ahead for the workers, and takes their results in order.
type blockReader struct {
	in      io.Reader
	dec     *zstd.Decoder
	workers *blockWorkers
	ahead   int // blocks to have in work
	ordered []*block
	free    []*block
	cur     *block // being read by the caller, or nil
	rest    []byte // of it
	first   bool   // version 1: no seek table
	table   seekTable
	inErr   error // why no more can be read from in; io.EOF at the end, or errTable
	err     error
}

// errTable means that the seek table comes next.
var errTable = errors.New("the seek table begins")

func newBlockReader(in io.Reader) (*blockReader, error) {
	workers := min(runtime.GOMAXPROCS(0), maxBlockReaders)
	// A frame's own checksum is for other tools: the CRC in front of it covers
	// all of it, and each chunk of the archive has another.
	dec, err := zstd.NewReader(nil, zstd.WithDecoderConcurrency(workers), zstd.WithDecoderMaxMemory(MaxBlock),
		zstd.WithDecodeAllCapLimit(true), zstd.IgnoreChecksum(true))
	if err != nil {
		return nil, fmt.Errorf("zstd: %w", err)
	}
	r := &blockReader{in: in, dec: dec, ahead: workers + 1}
	r.workers = startWorkers(workers, r.ahead, r.decompress)
	begin := make([]byte, len(blocksBegin))
	if _, err := io.ReadFull(in, begin); err != nil {
		return nil, errors.Join(err, r.Close())
	}
	r.first = bytes.Equal(begin, blocksBegin1)
	return r, nil
}

func (r *blockReader) Read(p []byte) (int, error) {
	for len(r.rest) == 0 && r.err == nil {
		r.err = r.next()
	}
	if len(r.rest) == 0 {
		return 0, r.err
	}
	n := copy(p, r.rest)
	r.rest = r.rest[n:]
	return n, nil
}

// next makes the next block the current one.
func (r *blockReader) next() error {
	if r.cur != nil {
		r.free = append(r.free, r.cur)
		r.cur, r.rest = nil, nil
	}
	for r.inErr == nil && len(r.ordered) < r.ahead {
		r.inErr = r.readAhead()
	}
	if len(r.ordered) == 0 {
		if r.inErr == errTable {
			r.inErr = r.checkTable()
		}
		return r.inErr
	}
	b := r.ordered[0]
	r.ordered = r.ordered[1:]
	if err := <-b.ready; err != nil {
		return err
	}
	r.cur, r.rest = b, b.plain
	if !r.first {
		r.table.add(b.packed, len(b.plain))
	}
	return nil
}

// readAhead reads the next frame and gives it to the workers.
func (r *blockReader) readAhead() error {
	var head [skipFrame]byte
	if err := r.full(head[:skipMark]); err != nil {
		return err
	}
	switch {
	case r.first && bytes.Equal(head[:skipMark], blocksEnd1):
		return r.atEnd()
	case !r.first && bytes.Equal(head[:skipMark], blocksEnd):
		return errTable
	}
	if err := r.full(head[skipMark:]); err != nil {
		return err
	}
	n := binary.LittleEndian.Uint32(head[skipHead:])
	if !bytes.HasPrefix(head[:], frameHead) || n < minBlockFrame || n > maxBlockFrame {
		return &stage.DamageError{Stage: "zstd", Err: fmt.Errorf("no frame begins where one should (%x)", head)}
	}
	b := r.takeBlock()
	b.packed, b.crc = b.packed[:n], binary.LittleEndian.Uint32(head[skipHead+4:])
	if err := r.full(b.packed); err != nil {
		return err
	}
	r.ordered = append(r.ordered, b)
	r.workers.work <- b
	return nil
}

// checkTable reads the seek table, which must be that of the frames before it, and
// makes sure that nothing follows.
func (r *blockReader) checkTable() error {
	want, err := r.table.frame()
	if err != nil {
		return err
	}
	got := make([]byte, len(want))
	if err := r.full(got); err != nil {
		return err
	}
	if !bytes.Equal(got, want) {
		return &stage.DamageError{Stage: "zstd", Err: errors.New("the seek table is not that of the frames before it")}
	}
	return r.atEnd()
}

// full fills p; the input may not end before.
func (r *blockReader) full(p []byte) error {
	_, err := io.ReadFull(r.in, p)
	if err == io.EOF {
		err = io.ErrUnexpectedEOF
	}
	if err != nil {
		err = fmt.Errorf("zstd: %w", err)
	}
	return err
}

// atEnd makes sure that nothing follows.
func (r *blockReader) atEnd() error {
	var one [1]byte
	switch _, err := io.ReadFull(r.in, one[:]); err {
	case io.EOF:
		return io.EOF
	case nil:
		return &stage.DamageError{Stage: "zstd", Err: errors.New("something follows its end")}
	default:
		return fmt.Errorf("zstd: %w", err)
	}
}

func (r *blockReader) takeBlock() *block {
	if n := len(r.free); n > 0 {
		b := r.free[n-1]
		r.free = r.free[:n-1]
		return b
	}
	b := newBlock()
	b.packed, b.plain = make([]byte, maxBlockFrame), make([]byte, 0, MaxBlock)
	return b
}

// decompress is a worker's part.
func (r *blockReader) decompress(b *block) (err error) {
	if got := crc32.Checksum(b.packed, castagnoli); got != b.crc {
		return &stage.DamageError{Stage: "zstd", Err: fmt.Errorf("checksum of a frame: want %08x, got %08x", b.crc, got)}
	}
	if b.plain, err = r.dec.DecodeAll(b.packed, b.plain[:0]); err != nil {
		return &stage.DamageError{Stage: "zstd", Err: err}
	}
	return nil
}

// Close ends the workers. It does not close the input.
func (r *blockReader) Close() error {
	r.workers.stop()
	r.dec.Close()
	return nil
}
