package remote

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"sync/atomic"
	"time"
)

// permanent is an error after which asking again is of no use.
type permanent struct{ error }

func (p permanent) Unwrap() error { return p.error }

// busyError is an answer of a server that may be another one later.
type busyError struct {
	name, status string
	after        time.Duration // what the server asks for; 0: nothing
}

func (e *busyError) Error() string { return fmt.Sprintf("%s: the server answers %s", e.name, e.status) }

// NetworkError is that a server cannot be reached, or that its answers break off, as
// often as hb tries. It unwraps to nothing: neither is the archive cut because a
// connection was, nor has the reader of standard output gone because one was reset.
type NetworkError struct{ text string }

func (e *NetworkError) Error() string { return e.text }

// reader reads a range of an object. When the connection breaks, it asks for the rest.
type reader struct {
	o        *Object
	off, end int64   // what is left; end -1: to the object's end
	cur      *answer // nil: none is open
	failures int     // in a row, since the last byte
}

func (r *reader) Read(p []byte) (int, error) {
	if len(p) == 0 {
		return 0, nil
	}
	for {
		if r.end >= 0 && r.off >= r.end {
			return 0, io.EOF
		}
		if r.cur == nil {
			a, err := r.start()
			if err != nil {
				return 0, err
			}
			r.cur = a
		}
		if r.end >= 0 {
			p = p[:min(int64(len(p)), r.end-r.off)]
		}
		n, err := r.cur.Read(p)
		if r.off += int64(n); n > 0 {
			r.failures = 0
			return n, nil
		}
		switch {
		case err == io.EOF && r.end < 0 && r.cur.end < 0:
			return 0, io.EOF // nobody knows how long it is
		case err == io.EOF && r.off == r.cur.end: // the server gave less than was asked for
			err := r.Close()
			if err != nil {
				return 0, err
			}
			continue
		}
		if err = r.broke(err); err != nil {
			return 0, err
		}
	}
}

// broke closes an answer that ended too early, and waits. The error is one that is to be
// told.
func (r *reader) broke(err error) error {
	if err == io.EOF {
		err = io.ErrUnexpectedEOF
	}
	_ = r.cur.Close() // it is broken
	r.cur = nil
	return r.wait(r.o.fault(err))
}

// start asks until there is an answer.
func (r *reader) start() (*answer, error) {
	for {
		if r.o.version != "" && !r.o.ranged && r.off > 0 {
			return nil, fmt.Errorf("%s: the connection broke at byte %d, and the server does not answer range requests", r.o.name, r.off)
		}
		ctx, cancel := context.WithCancel(r.o.ctx)
		a, err := r.o.request(ctx, r.off, r.end)
		if err == nil {
			a.ReadCloser = &watched{ReadCloser: a.ReadCloser, cancel: cancel}
			return a, nil
		}
		cancel()
		if err := r.wait(err); err != nil {
			return nil, err
		}
	}
}

// wait waits after a failure, longer each time. It returns the failure if it is to be
// told: asking again is of no use, or was so too often.
func (r *reader) wait(err error) error {
	if r.o.ctx.Err() != nil {
		return context.Cause(r.o.ctx)
	}
	if p, ok := errors.AsType[permanent](err); ok {
		return p.error
	}
	most := maxAttempts
	if r.o.version == "" {
		most = firstAttempts
	}
	if r.failures++; r.failures >= most {
		return &NetworkError{fmt.Sprintf("%v (%d attempts at byte %d)", err, r.failures, r.off)}
	}
	d := min(firstWait<<(r.failures-1), maxWait)
	d = d/2 + rand.N(d) // so that many readers do not come back together
	if busy, ok := errors.AsType[*busyError](err); ok {
		d = max(d, busy.after)
	}
	return r.o.pause(r.o.ctx, d)
}

func sleep(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// Close ends the reading.
func (r *reader) Close() error {
	if r.cur == nil {
		return nil
	}
	cur := r.cur
	r.cur = nil
	return cur.Close()
}

// watched gives a body up that brings nothing for stallTime.
type watched struct {
	io.ReadCloser
	cancel  context.CancelFunc
	stalled atomic.Bool
}

var errStalled = fmt.Errorf("the server has sent nothing for %v", stallTime)

func (w *watched) Read(p []byte) (int, error) {
	t := time.AfterFunc(stallTime, func() { w.stalled.Store(true); w.cancel() })
	defer t.Stop()
	n, err := w.ReadCloser.Read(p)
	if err != nil && w.stalled.Load() {
		err = errStalled
	}
	return n, err
}

func (w *watched) Close() error {
	defer w.cancel()
	return w.ReadCloser.Close()
}
