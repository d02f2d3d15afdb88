// Package zstdstage is the stage that compresses an archive with zstd, on many processors,
// and reads it from the front or, by its seek table, anywhere. In goes an archive, out come
// frames of plain zstd, and the reverse. blocks.go documents what hb writes.
package zstdstage

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"runtime"
	"sync"

	"github.com/klauspost/compress/zstd"

	"hb/stream/stage"
)

// DefaultLevel is zstd(1)'s own default.
const DefaultLevel = 3

// MaxLevel is the highest level that Compression takes. zstd(1)'s --ultra
// levels ask the reader for more memory.
const MaxLevel = 19

// Compression asks for a zstd stage.
type Compression struct {
	// Level is 1 to 19 as zstd(1) counts them; 0 is DefaultLevel. The encoder
	// has four strengths, each standing for the levels of about its ratio: 1
	// and 2, 3 to 5, 6 to 9, 10 to 19.
	Level int
	// Threads is how many processors to use; 0 is all there are.
	Threads int
}

// CompressorMemory is the most memory that the zstd stage takes, in bytes of
// resident size over what the process had before (TestCompressorMemory
// measures it). It is held by the block size and the number of workers: each
// worker has its tables, and a block with what becomes of it; two more blocks
// wait. The strongest level's tables are large, so that it gets few workers.
// Measured, in MiB: level 1 with 2 workers 33; level 3 with 2 35, with 16 116, with
// 32 225; level 7 with 32 316; level 19 with 6 279.
const CompressorMemory = 400 << 20

const (
	maxWorkers     = 32
	maxWorkersBest = 6
)

// settings are the encoder's for a Compression.
type settings struct {
	level   zstd.EncoderLevel
	workers int
	block   int // bytes that are compressed at a time, and by themselves
}

func (c Compression) settings() (s settings, err error) {
	if c.Level == 0 {
		c.Level = DefaultLevel
	}
	if c.Level < 1 || c.Level > MaxLevel {
		return s, fmt.Errorf("zstd level %d: want 1 to %d", c.Level, MaxLevel)
	}
	s.level = zstd.EncoderLevelFromZstd(c.Level)
	s.workers = c.Threads
	if s.workers <= 0 {
		s.workers = runtime.GOMAXPROCS(0)
	}
	s.workers = min(s.workers, maxWorkers)
	s.block = MaxBlock
	switch {
	case s.level == zstd.SpeedBestCompression:
		s.workers = min(s.workers, maxWorkersBest)
	case s.workers > maxWorkers/4:
		s.block = MaxBlock / 2
	}
	return s, nil
}

// NewEncoder returns a codec that compresses to w, without a stage's contract.
func NewEncoder(w io.Writer, c Compression) (io.WriteCloser, error) {
	s, err := c.settings()
	if err != nil {
		return nil, err
	}
	return newBlockWriter(w, s)
}

// Validate reports what cannot be.
func (c Compression) Validate() error {
	_, err := c.settings()
	return err
}

// MaxWindow is the largest window that a zstd frame may ask its reader to
// hold: 128 MiB, as zstd(1) allows by itself. Frames of `zstd --long=31` are
// refused.
const MaxWindow = 128 << 20

// MaxInnerWindow is that of a frame within another, and what all levels but the
// --ultra ones keep to.
const MaxInnerWindow = 8 << 20

// NewDecoder returns a reader of the content of the zstd frames in r, whose
// windows have at most so many bytes: of many at a time where hb made them, of
// one after the other else.
func NewDecoder(r *bufio.Reader, window uint64) (io.ReadCloser, error) {
	if isBlocks(r) {
		return newBlockReader(r)
	}
	in := &endReader{r: r}
	dec, err := zstd.NewReader(in,
		zstd.WithDecoderMaxWindow(window),
		zstd.WithDecoderMaxMemory(1<<63)) // of the whole content: no bound, it is streamed
	if err != nil {
		return nil, fmt.Errorf("zstd: %w", err)
	}
	return &decompressor{dec: dec, in: in}, nil
}

type decompressor struct {
	dec *zstd.Decoder
	in  *endReader
	err error
}

func (d *decompressor) Read(p []byte) (int, error) {
	if d.err != nil {
		return 0, d.err
	}
	n, err := d.dec.Read(p)
	if err == nil {
		return n, nil
	}
	// The decoder takes some ends of its input for the end of the content: an
	// error of the input that is itself io.ErrUnexpectedEOF, between two
	// frames. Only the input knows.
	cause := d.in.failure()
	switch {
	case cause != nil && (err == io.EOF || err == io.ErrUnexpectedEOF):
		err = fmt.Errorf("zstd: %w", cause)
	case cause != nil || err == io.ErrUnexpectedEOF:
		err = fmt.Errorf("zstd: %w", err)
	case err != io.EOF:
		err = &stage.DamageError{Stage: "zstd", Err: err}
	case d.in.ends():
		err = &stage.DamageError{Stage: "zstd", Err: errors.New("it ends as hb writes it, and does not begin so")}
	}
	d.err = err
	return n, err
}

// Close lets the decoder's goroutines go. It does not close the input.
func (d *decompressor) Close() error {
	d.dec.Close()
	return nil
}

// endReader remembers how its input failed, and its last bytes. The decoder
// reads it from a goroutine of its own.
type endReader struct {
	r    io.Reader
	mu   sync.Mutex
	err  error
	tail []byte
}

func (e *endReader) Read(p []byte) (int, error) {
	n, err := e.r.Read(p)
	e.mu.Lock()
	defer e.mu.Unlock()
	const kept = 32 // more than what ends needs
	e.tail = append(e.tail, p[max(0, n-kept):n]...)
	e.tail = e.tail[max(0, len(e.tail)-kept):]
	if err != nil && err != io.EOF {
		e.err = err
	}
	return n, err
}

// ends reports whether the last read ended a stage of hb's.
func (e *endReader) ends() bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	return bytes.HasSuffix(e.tail, blocksEnd1) || endsInTable(e.tail)
}

// failure returns the error that the input had, if it was not its end.
func (e *endReader) failure() error {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.err
}
