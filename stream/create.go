package stream

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"

	"filippo.io/age"

	"hb/stream/stage"
	"hb/stream/zstdstage"
)

// WriteOptions are the stages that an archive gets on its way out.
type WriteOptions struct {
	Compress   *Compression    // nil: none
	Recipients []age.Recipient // none: not encrypted
}

// Validate reports what Create would refuse, without writing anything: a level
// that zstd has not, recipients that cannot be mixed.
func (o WriteOptions) Validate() error {
	if o.Compress != nil {
		if err := o.Compress.Validate(); err != nil {
			return err
		}
	}
	if len(o.Recipients) > 1 {
		_, err := newEncryptor(io.Discard, o.Recipients...)
		return err
	}
	return nil
}

// Writer is the row of stages in front of a destination. Bytes written to it
// come out at the destination compressed, encrypted and at the asked rate.
type Writer struct {
	in     io.Writer // the innermost stage
	dst    io.Writer
	stages []*stage.Writer // outermost first
	sent   Meter
	err    error
}

// Create builds the stages in front of dst. An encrypted archive's header is
// written at once.
func Create(dst io.Writer, opts WriteOptions) (*Writer, error) {
	if err := opts.Validate(); err != nil {
		return nil, err
	}
	w := &Writer{dst: dst}
	w.in = w.sent.Writer(dst)
	if len(opts.Recipients) > 0 {
		enc, err := newEncryptor(w.in, opts.Recipients...)
		if err != nil {
			return nil, err
		}
		w.push(enc)
	}
	if opts.Compress != nil {
		enc, err := stage.NewWriter("zstd", w.in, func(out io.Writer) (io.WriteCloser, error) { return zstdstage.NewEncoder(out, *opts.Compress) })
		if err != nil {
			w.Abort(err)
			return nil, err
		}
		w.push(enc)
	}
	return w, nil
}

func (w *Writer) push(s *stage.Writer) {
	w.stages = append(w.stages, s)
	w.in = s
}

// Write hands p to the innermost stage.
func (w *Writer) Write(p []byte) (int, error) {
	if w.err != nil {
		return 0, w.err
	}
	n, err := w.in.Write(p)
	w.err = err
	return n, err
}

// WriteVec is Write for several slices; without stages they reach the
// destination in one call.
func (w *Writer) WriteVec(bufs ...[]byte) (int, error) {
	if w.err != nil {
		return 0, w.err
	}
	n, err := writeVec(w.in, bufs)
	w.err = err
	return n, err
}

// Cut begins a new compressed block, so that what is written next can be read without
// what was written before.
func (w *Writer) Cut() error {
	if s, ok := w.in.(*stage.Writer); ok && w.err == nil {
		w.err = s.Cut()
	}
	return w.err
}

// Interrupt makes writes to the destination fail, one that waits included, if
// the destination has such a method (package stdout). Any goroutine may call it.
func (w *Writer) Interrupt() {
	if d, ok := w.dst.(interface{ Interrupt() }); ok {
		d.Interrupt()
	}
}

// Sent returns how many bytes the destination has taken. It may be called
// from any goroutine at any time.
func (w *Writer) Sent() int64 { return w.sent.Count() }

// Close ends the stages, innermost first, and stops at the first error, so
// that no stage outside a failed one ends well. It does not close the
// destination. A second Close is an error.
func (w *Writer) Close() error {
	if w.err != nil {
		return w.err
	}
	for i := len(w.stages) - 1; i >= 0; i-- {
		if err := w.stages[i].Close(); err != nil {
			w.Abort(err)
			return err
		}
	}
	w.err = fmt.Errorf("archive stages: %w", stage.ErrClosed)
	return nil
}

// Abort gives the output up: nothing more reaches the destination, so that
// what did has no valid end, and what the stages hold is released. The error
// is what later calls return, unless one came before.
func (w *Writer) Abort(err error) {
	if err == nil {
		err = errors.New("output given up")
	}
	if w.err == nil {
		w.err = err
	}
	// Innermost first: once a stage has ended, no goroutine of its own writes to
	// the next.
	for _, s := range slices.Backward(w.stages) {
		s.Abort(err)
	}
}

// Part returns the size of what sample writes after the stages, as a part of its size
// before: 1 if there are none, or nothing is written.
func (o WriteOptions) Part(ctx context.Context, sample func(context.Context, io.Writer) error) (float64, error) {
	if o.Compress == nil && len(o.Recipients) == 0 {
		return 1, nil
	}
	w, err := Create(io.Discard, WriteOptions{Compress: o.Compress, Recipients: o.Recipients})
	if err != nil {
		return 0, err
	}
	var in Meter
	if err := sample(ctx, in.Writer(w)); err != nil {
		w.Abort(err)
		return 0, err
	}
	if err := w.Close(); err != nil {
		return 0, err
	}
	if in.Count() == 0 {
		return 1, nil
	}
	return float64(w.Sent()) / float64(in.Count()), nil
}
