// Package ranges reads parts of something that is far away, or large, in few requests:
// a file, or an object that an HTTP server has.
//
// A [Window] is an io.ReaderAt. What is above it (decryption, decompression) asks for
// small pieces, one after the other; a Window asks its [Source] for large ones: both
// ends of it once each, and of what is between the spans that were planned.
package ranges

import (
	"errors"
	"fmt"
	"io"
	"slices"

	"hb/stream/progress"
)

// Source is something whose parts can be read.
type Source interface {
	// Size is how many bytes there are.
	Size() int64
	// Range opens n bytes from off on, which there are. Reading them returns io.EOF
	// at their end only; a source that ends earlier is an error.
	Range(off, n int64) (io.ReadCloser, error)
}

// Span is a range of bytes.
type Span struct{ Off, Len int64 }

// End is the first byte after the span.
func (s Span) End() int64 { return s.Off + s.Len }

const (
	// HeadSize is how many bytes at the beginning are read at once: more than a header
	// of age, the first 64 KiB of what it encrypts, and hb-archive.json.
	HeadSize = 128 << 10
	// tailPart is which part of a source is read at once at its end, between minTail
	// and maxTail bytes: the index and the manifest of an archive take about that of
	// one with many small files, and much less of others.
	tailPart = 512
	minTail  = 256 << 10
	maxTail  = 16 << 20
	// maxGap is how many bytes between two planned spans are read, and dropped,
	// rather than asking once more.
	maxGap = 512 << 10
)

// TailSize returns how many bytes at the end of a source of a size are read at once.
func TailSize(size int64) int64 { return min(size, max(minTail, min(size/tailPart, maxTail))) }

// Window reads a Source. It belongs to one goroutine.
type Window struct {
	src   Source
	size  int64
	phase *progress.Phase

	head, tail []byte // nil: not read yet
	plan       []Span // in order, apart by more than maxGap
	cur        io.ReadCloser
	at         Span // what cur still gives

	read     int64
	requests int
}

// New returns a Window of src. What is read of it counts as done in the phase, which may
// be nil.
func New(src Source, phase *progress.Phase) *Window {
	return &Window{src: src, size: src.Size(), phase: phase}
}

// Size is that of the source.
func (w *Window) Size() int64 { return w.size }

// BytesRead returns how many bytes the source has given, and Requests how often it was
// asked for a range.
func (w *Window) BytesRead() int64 { return w.read }

// Requests: see BytesRead.
func (w *Window) Requests() int { return w.requests }

// Close ends the reading. It does not close the source.
func (w *Window) Close() error {
	if w.cur == nil {
		return nil
	}
	cur := w.cur
	w.cur, w.at = nil, Span{}
	return cur.Close()
}

// Plan says what will be read, from front to back: spans in the order of their offsets,
// which may touch and overlap. Each is then one request, with the next if the gap between
// them is small. It is no limit: other reads are requests of their own.
func (w *Window) Plan(spans []Span) {
	w.plan = Merge(spans, maxGap)
	for _, s := range w.plan {
		w.phase.Expect(s.Len)
	}
}

// Merge joins spans, which are in the order of their offsets, with gaps of at most gap
// bytes between them.
func Merge(spans []Span, gap int64) []Span {
	var merged []Span
	for _, s := range spans {
		if n := len(merged); n > 0 && s.Off <= merged[n-1].End()+gap {
			merged[n-1].Len = max(merged[n-1].End(), s.End()) - merged[n-1].Off
		} else if s.Len > 0 {
			merged = append(merged, s)
		}
	}
	return merged
}

// ReadAt fills p with what is at off. Beyond the end it returns io.EOF.
func (w *Window) ReadAt(p []byte, off int64) (int, error) {
	if off < 0 {
		return 0, fmt.Errorf("negative offset %d", off)
	}
	total := 0
	for total < len(p) {
		if off >= w.size {
			return total, io.EOF
		}
		n, err := w.piece(p[total:min(int64(len(p)), int64(total)+w.size-off)], off)
		total, off = total+n, off+int64(n)
		if err != nil {
			return total, err
		}
	}
	return total, nil
}

// piece reads some bytes at off, at least one, from where they are: at hand, or in an
// end of the source, or in a range that it opens.
func (w *Window) piece(p []byte, off int64) (int, error) {
	tail := w.size - TailSize(w.size)
	switch {
	case w.cur != nil && off >= w.at.Off && off < w.at.End() && off-w.at.Off <= maxGap:
		return w.next(p, off)
	case off < HeadSize:
		if err := w.load(&w.head, Span{0, min(HeadSize, w.size)}); err != nil {
			return 0, err
		}
		return copy(p, w.head[off:]), nil
	case off >= tail:
		if err := w.load(&w.tail, Span{tail, w.size - tail}); err != nil {
			return 0, err
		}
		return copy(p, w.tail[off-tail:]), nil
	}
	if err := w.open(off, int64(len(p)), tail); err != nil {
		return 0, err
	}
	return w.next(p, off)
}

// load reads an end of the source, unless it has been.
func (w *Window) load(end *[]byte, s Span) error {
	if *end != nil {
		return nil
	}
	if err := w.request(s); err != nil {
		return err
	}
	b := make([]byte, s.Len)
	for n := 0; n < len(b); {
		m, err := w.next(b[n:], s.Off+int64(n))
		if err != nil {
			return err
		}
		n += m
	}
	*end = b
	return w.Close()
}

// open opens what is planned from off on, or else n bytes; not what is at hand of the
// tail.
func (w *Window) open(off, n, tail int64) error {
	end := off + n
	if i, in := slices.BinarySearchFunc(w.plan, off, func(s Span, off int64) int {
		switch {
		case s.End() <= off:
			return -1
		case s.Off > off:
			return 1
		}
		return 0
	}); in {
		end = max(end, w.plan[i].End())
	}
	if end = min(end, w.size); w.tail != nil {
		end = min(end, tail)
	}
	return w.request(Span{off, end - off})
}

func (w *Window) request(s Span) error {
	if err := w.Close(); err != nil {
		return err
	}
	r, err := w.src.Range(s.Off, s.Len)
	if err != nil {
		return err
	}
	w.requests++
	w.cur, w.at = r, s
	return nil
}

// next reads from what is open, past a gap before off.
func (w *Window) next(p []byte, off int64) (int, error) {
	if gap := off - w.at.Off; gap > 0 {
		n, err := io.CopyN(io.Discard, w.cur, gap)
		w.took(n)
		if err != nil {
			return 0, cut(err)
		}
	}
	n, err := io.ReadAtLeast(w.cur, p[:min(int64(len(p)), w.at.Len)], 1)
	w.took(int64(n))
	if err != nil {
		return 0, cut(err)
	}
	return n, nil
}

func (w *Window) took(n int64) {
	w.at = Span{w.at.Off + n, w.at.Len - n}
	w.read += n
	w.phase.Add(n)
}

// cut is an error of a source, for which its end comes too early here.
func cut(err error) error {
	if errors.Is(err, io.EOF) {
		return io.ErrUnexpectedEOF
	}
	return err
}

// File is a Source that an io.ReaderAt of a size is.
type File struct {
	R     io.ReaderAt
	Bytes int64
}

// Size is that of the file.
func (f File) Size() int64 { return f.Bytes }

// Range opens a part of it.
func (f File) Range(off, n int64) (io.ReadCloser, error) {
	return io.NopCloser(io.NewSectionReader(f.R, off, n)), nil
}
