package stream

import (
	"io"
	"sync/atomic"

	"hb/xbstream"
)

// Meter counts bytes. Count may be called from any goroutine at any time.
type Meter struct{ n atomic.Int64 }

// Count returns how many bytes have passed.
func (m *Meter) Count() int64 { return m.n.Load() }

// Writer returns a writer to w that counts what w takes.
func (m *Meter) Writer(w io.Writer) xbstream.VecWriter { return meterWriter{m, w} }

// Reader returns a reader of r that counts what r gives.
func (m *Meter) Reader(r io.Reader) io.Reader { return meterReader{m, r} }

type meterWriter struct {
	m *Meter
	w io.Writer
}

func (w meterWriter) Write(p []byte) (int, error) {
	n, err := w.w.Write(p)
	w.m.n.Add(int64(max(n, 0)))
	return n, err
}

func (w meterWriter) WriteVec(bufs ...[]byte) (int, error) {
	n, err := writeVec(w.w, bufs)
	w.m.n.Add(int64(max(n, 0)))
	return n, err
}

type meterReader struct {
	m *Meter
	r io.Reader
}

func (r meterReader) Read(p []byte) (int, error) {
	n, err := r.r.Read(p)
	r.m.n.Add(int64(max(n, 0)))
	return n, err
}
