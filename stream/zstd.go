package stream

import (
	"fmt"
	"io"
	"runtime"
	"sync"

	"github.com/klauspost/compress/zstd"
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
// measures it). It is held by the window size and the number of workers, since
// each worker needs its tables and, with what waits for it and for the writer,
// about 16 windows; the strongest level's tables alone take 36 MiB, so that it
// gets few workers. Measured, in MiB: level 1 with 2 workers 39, with 16 158;
// level 3 with 32 202; level 7 with 32 291; level 19 with 6 341.
const CompressorMemory = 400 << 20

const (
	maxWorkers     = 32
	maxWorkersBest = 6
)

// settings returns the encoder's for c.
func (c Compression) settings() (level zstd.EncoderLevel, workers, window int, err error) {
	if c.Level == 0 {
		c.Level = DefaultLevel
	}
	if c.Level < 1 || c.Level > MaxLevel {
		return 0, 0, 0, fmt.Errorf("zstd level %d: want 1 to %d", c.Level, MaxLevel)
	}
	level = zstd.EncoderLevelFromZstd(c.Level)
	workers = c.Threads
	if workers <= 0 {
		workers = runtime.GOMAXPROCS(0)
	}
	workers = min(workers, maxWorkers)
	window = 1 << 20
	switch {
	case level == zstd.SpeedBestCompression:
		workers = min(workers, maxWorkersBest)
		window = 2 << 20
	case workers > maxWorkers/2:
		window = 512 << 10
	}
	return level, workers, window, nil
}

// newCompressor returns a stage that compresses to w: one zstd frame with a
// checksum. What many processors compress is still one frame, so a cut
// anywhere is noticed by every reader of zstd.
func newCompressor(w io.Writer, c Compression) (*stage, error) {
	level, workers, window, err := c.settings()
	if err != nil {
		return nil, err
	}
	return newStage("zstd", w, func(out io.Writer) (io.WriteCloser, error) {
		return zstd.NewWriter(out,
			zstd.WithEncoderLevel(level),
			zstd.WithEncoderConcurrency(workers),
			zstd.WithConcurrentBlocks(true),
			zstd.WithWindowSize(window),
			zstd.WithEncoderCRC(true),
			zstd.WithZeroFrames(true))
	})
}

// maxWindow is the largest window that a zstd frame may ask its reader to
// hold: 128 MiB, as zstd(1) allows by itself. Frames of `zstd --long=31` are
// refused.
const maxWindow = 128 << 20

// newDecompressor returns a reader of what the zstd frames in r hold.
func newDecompressor(r io.Reader) (*decompressor, error) {
	in := &endReader{r: r}
	dec, err := zstd.NewReader(in,
		zstd.WithDecoderMaxWindow(maxWindow),
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
		err = &DamageError{"zstd", err}
	}
	d.err = err
	return n, err
}

// Close lets the decoder's goroutines go. It does not close the input.
func (d *decompressor) Close() error {
	d.dec.Close()
	return nil
}

// endReader remembers how its input failed. The decoder reads it from a
// goroutine of its own.
type endReader struct {
	r   io.Reader
	mu  sync.Mutex
	err error
}

func (e *endReader) Read(p []byte) (int, error) {
	n, err := e.r.Read(p)
	if err != nil && err != io.EOF {
		e.mu.Lock()
		e.err = err
		e.mu.Unlock()
	}
	return n, err
}

// failure returns the error that the input had, if it was not its end.
func (e *endReader) failure() error {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.err
}
