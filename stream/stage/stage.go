// Package stage has what all stages around an archive agree on. In go the codecs of
// compression and encryption; out come writers with one contract, and errors that say
// what happened whatever the codec.
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
package stage

import (
	"errors"
	"fmt"
	"io"
	"sync/atomic"

	"hb/stream/ranges"
	"hb/xbstream"
)

// ErrClosed is returned by calls on a stage after its Close.
var ErrClosed = errors.New("already closed")

// Writer gives a codec's writer the package's contract.
type Writer struct {
	name     string // for messages: "zstd", "age"
	codec    io.WriteCloser
	out      *gate // between the codec and the writer below
	err      error // the first error; ErrClosed after Close
	released bool  // codec has been closed
}

// NewWriter builds a stage on w. open makes the codec on the writer it is
// given.
func NewWriter(name string, w io.Writer, open func(io.Writer) (io.WriteCloser, error)) (*Writer, error) {
	out := &gate{w: w}
	codec, err := open(out)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	return &Writer{name: name, codec: codec, out: out}, nil
}

func (s *Writer) Write(p []byte) (int, error) {
	if s.err != nil {
		return 0, s.err
	}
	n, err := s.codec.Write(p)
	if err != nil {
		s.Abort(fmt.Errorf("%s: %w", s.name, err))
	}
	return n, s.err
}

// Cut ends the block that the codec gathers, if it gathers: see xbstream.Cutter.
func (s *Writer) Cut() error {
	c, ok := s.codec.(xbstream.Cutter)
	if !ok || s.err != nil {
		return s.err
	}
	if err := c.Cut(); err != nil {
		s.Abort(fmt.Errorf("%s: %w", s.name, err))
	}
	return s.err
}

func (s *Writer) Close() error {
	if s.err != nil {
		return s.err
	}
	if err := s.codec.Close(); err != nil {
		s.Abort(fmt.Errorf("%s: %w", s.name, err))
		return s.err
	}
	s.released = true
	s.err = fmt.Errorf("%s: %w", s.name, ErrClosed)
	return nil
}

// Abort ends the stage without ending its format. The codec is closed for
// what it holds (goroutines, memory); what it would write then is dropped.
func (s *Writer) Abort(err error) {
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

// DamageError reports a stage whose bytes were changed on the way, or were
// never right.
type DamageError struct {
	Stage string // "zstd", "age"
	Err   error
}

func (e *DamageError) Error() string {
	return fmt.Sprintf("the archive is damaged: %s: %v", e.Stage, e.Err)
}

// Unwrap returns the codec's error.
func (e *DamageError) Unwrap() error { return e.Err }

// At is an archive, or a stage of it, that can be read anywhere. It belongs to one
// goroutine.
type At interface {
	io.ReaderAt
	// Size is how many bytes it has.
	Size() int64
	// Plan announces what will be read, from front to back, so that it is got from
	// where the archive is in few requests: see ranges.Window.
	Plan([]ranges.Span)
}

// ErrNotSeekable means that the archive has to be read from front to back.
var ErrNotSeekable = errors.New("the archive cannot be read from the middle")

// ReadFull fills p; io.EOF at the end of p is not an error.
func ReadFull(r io.ReaderAt, p []byte, off int64) (int, error) {
	n, err := r.ReadAt(p, off)
	switch {
	case n == len(p):
		return n, nil
	case err == io.EOF || err == nil:
		err = io.ErrUnexpectedEOF
	}
	return n, err
}

// IsDamage reports whether an error is a *DamageError.
func IsDamage(err error) bool {
	_, ok := errors.AsType[*DamageError](err)
	return ok
}
