package stream

import (
	"fmt"
	"io"

	"filippo.io/age"

	"hb/stream/ranges"
	"hb/stream/stage"
	"hb/stream/zstdstage"
)

// magicSize is enough for the magic of each stage that can be read from the middle, and
// little enough to be in the first file of an archive, which has a frame of its own.
const magicSize = 32

// OpenAt is Open for an archive that is to be read from the middle. The stages must be
// able to: age, and zstd with a seek table. Else the error is ErrNotSeekable.
func OpenAt(in stage.At, opts Options) (at stage.At, stages []string, err error) {
	at = in
	for range maxStages + 1 {
		head := make([]byte, min(magicSize, at.Size()))
		if _, err := stage.ReadFull(at, head, 0); err != nil {
			return nil, nil, fmt.Errorf("reading the archive: %w", err)
		}
		switch {
		case hasPrefix(head, xbMagic):
			return at, stages, nil
		case isZstd(head):
			at, err = zstdstage.NewAt(at)
			stages = append(stages, "zstd")
		case hasPrefix(head, ageMagic):
			at, err = newAgeAt(at, opts)
			stages = append(stages, "age")
		default:
			err = stage.ErrNotSeekable
		}
		if err != nil {
			return nil, nil, err
		}
	}
	return nil, nil, stage.ErrNotSeekable
}

// isZstd reports whether a zstd stage begins so.
func isZstd(p []byte) bool {
	return hasPrefix(p, zstdMagic) || len(p) > 0 && p[0]&0xf0 == 0x50 && (len(p) == 1 || hasPrefix(p[1:], zstdSkipTail))
}

// ageAt is age's own random access.
type ageAt struct {
	io.ReaderAt
	in      *faultAt
	size    int64
	payload int64 // where it begins in the input
}

const (
	ageChunk    = 64 << 10 // bytes of content that age encrypts at a time
	ageOverhead = 16       // bytes that each chunk has more when it is encrypted
)

func newAgeAt(in stage.At, opts Options) (stage.At, error) {
	keys := newKeyring(opts)
	below := &faultAt{At: in}
	plain, size, err := age.DecryptReaderAt(below, in.Size(), keys.ids...)
	if err != nil {
		if err = keys.fault(err, false, below.err != nil); stage.IsDamage(err) {
			err = stage.ErrNotSeekable // from front to back it is known whether it was cut
		}
		return nil, err
	}
	chunks := max(1, (size+ageChunk-1)/ageChunk)
	return &ageAt{plain, below, size, in.Size() - size - chunks*ageOverhead}, nil
}

func (a *ageAt) Size() int64 { return a.size }

func (a *ageAt) Plan(spans []ranges.Span) {
	below := make([]ranges.Span, len(spans))
	for i, s := range spans {
		first, end := s.Off/ageChunk, (s.End()+ageChunk-1)/ageChunk
		from := a.payload + first*(ageChunk+ageOverhead)
		below[i] = ranges.Span{Off: from, Len: min(a.in.Size(), a.payload+end*(ageChunk+ageOverhead)) - from}
	}
	a.in.Plan(below)
}

func (a *ageAt) ReadAt(p []byte, off int64) (int, error) {
	n, err := a.ReaderAt.ReadAt(p, off)
	switch {
	case err == nil || err == io.EOF:
		return n, err
	case a.in.err != nil:
		return n, ageError(a.in.err, false)
	}
	return n, &stage.DamageError{Stage: "age", Err: err}
}

// faultAt remembers the error that its input had.
type faultAt struct {
	stage.At
	err error
}

func (f *faultAt) ReadAt(p []byte, off int64) (int, error) {
	n, err := f.At.ReadAt(p, off)
	if err != nil && err != io.EOF {
		f.err = err
	}
	return n, err
}
