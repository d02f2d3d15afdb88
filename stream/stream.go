// Package stream holds the byte stages around an archive.
//
// On the way out, innermost first:
//
//	xbstream -> zstd -> age -> rate limit -> meter -> destination
//
// [Create] builds that row; zstd, age and the limit are there only where they
// were asked for. On the way in, [Open] recognises each stage by its first
// bytes and takes it off, in any order and depth, until the archive
// itself begins. All stages are standard formats: `age -d | zstd -d` takes
// them off as well, and Open reads what `zstd | age -e` makes.
//
// # The contract of a stage that writes
//
// Write may keep bytes back. Close flushes them and ends the stage's own format; it
// does not close, or end, the writer below. A second Close is an error. The first
// error is kept: Write and Close return it after that, and a stage that failed never
// ends its format, so that no reader takes the output for whole.
//
// # The contract of a stage that reads
//
// io.EOF means that the stage's format said so and that nothing follows it.
// A cut anywhere is an error for which errors.Is(err, io.ErrUnexpectedEOF)
// holds.
package stream

import (
	"errors"
	"fmt"
	"io"
	"sync/atomic"

	"hb/xbstream"
)

// ErrClosed is returned by calls on a stage after its Close.
var ErrClosed = errors.New("already closed")

// stage gives a codec's writer the package's contract.
type stage struct {
	name     string // for messages: "zstd", "age"
	codec    io.WriteCloser
	out      *gate // between the codec and the writer below
	err      error // the first error; ErrClosed after Close
	released bool  // codec has been closed
}

// newStage builds a stage on w. open makes the codec on the writer it is
// given.
func newStage(name string, w io.Writer, open func(io.Writer) (io.WriteCloser, error)) (*stage, error) {
	out := &gate{w: w}
	codec, err := open(out)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	return &stage{name: name, codec: codec, out: out}, nil
}

func (s *stage) Write(p []byte) (int, error) {
	if s.err != nil {
		return 0, s.err
	}
	n, err := s.codec.Write(p)
	if err != nil {
		s.abort(fmt.Errorf("%s: %w", s.name, err))
	}
	return n, s.err
}

// cut ends the block that the codec gathers, if it gathers: see xbstream.Cutter.
func (s *stage) cut() error {
	c, ok := s.codec.(xbstream.Cutter)
	if !ok || s.err != nil {
		return s.err
	}
	if err := c.Cut(); err != nil {
		s.abort(fmt.Errorf("%s: %w", s.name, err))
	}
	return s.err
}

func (s *stage) Close() error {
	if s.err != nil {
		return s.err
	}
	if err := s.codec.Close(); err != nil {
		s.abort(fmt.Errorf("%s: %w", s.name, err))
		return s.err
	}
	s.released = true
	s.err = fmt.Errorf("%s: %w", s.name, ErrClosed)
	return nil
}

// abort ends the stage without ending its format. The codec is closed for
// what it holds (goroutines, memory); what it would write then is dropped.
func (s *stage) abort(err error) {
	if s.err == nil {
		s.err = err
	}
	if !s.released {
		s.released = true
		s.out.shut(s.err)
		_ = s.codec.Close() // fails at the gate
	}
}

// gate lets bytes through until it is shut.
type gate struct {
	w   io.Writer
	err atomic.Pointer[error]
}

func (g *gate) shut(err error) { g.err.CompareAndSwap(nil, &err) }

func (g *gate) Write(p []byte) (int, error) {
	if err := g.err.Load(); err != nil {
		return 0, *err
	}
	return g.w.Write(p)
}

// writeVec writes the slices to w, in one call if w can.
func writeVec(w io.Writer, bufs [][]byte) (int, error) {
	if v, ok := w.(xbstream.VecWriter); ok {
		return v.WriteVec(bufs...)
	}
	total := 0
	for _, b := range bufs {
		n, err := w.Write(b)
		total += n
		if err == nil && n != len(b) {
			err = io.ErrShortWrite
		}
		if err != nil {
			return total, err
		}
	}
	return total, nil
}
