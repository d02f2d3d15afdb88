package replay

import (
	"errors"
	"fmt"
	"io"

	"hb/stream/disk"
	"hb/xbstream/innodb"
)

// Input is a redo log that is read from front to back. It holds the bytes that were
// read and not taken yet.
type Input struct {
	r        io.Reader
	buf      []byte // of inputSize bytes, once there was a Read
	from, to int    // what of it was not taken
	ended    bool
}

const (
	// inputSize is more than must be in one piece: a mini-transaction of the
	// 10.8+ format (mariadbredo.MaxMTR), or a block.
	inputSize = 4 << 20
	// inputStep is how many bytes are read at once at most: while they are
	// parsed they are in the processor's cache.
	inputStep = 512 << 10
)

// OpenLog opens a redo log for read, which closes it when that is done with, or
// for OpenLog to close if it fails.
func OpenLog[L any](root disk.Dir, name string, read func(io.ReadCloser) (*L, error)) (*L, error) {
	file, err := root.Open(name)
	if err != nil {
		return nil, fmt.Errorf("opening the redo log: %w", err)
	}
	log, err := read(file)
	if err != nil {
		return nil, errors.Join(err, file.Close())
	}
	return log, nil
}

// NewInput returns an Input of what r reads.
func NewInput(r io.Reader) *Input { return &Input{r: r} }

// Bytes returns the bytes at hand; they are valid until the next More, Need or Skip.
func (in *Input) Bytes() []byte { return in.buf[in.from:in.to] }

// Need returns the next n bytes, at most inputSize, or all that there are before
// the end of the log.
func (in *Input) Need(n int) ([]byte, error) {
	for in.to-in.from < n {
		if more, err := in.More(); err != nil || !more {
			return in.Bytes(), err
		}
	}
	return in.buf[in.from:][:n], nil
}

// Skip takes n bytes. That the log ends before is io.ErrUnexpectedEOF.
func (in *Input) Skip(n int64) error {
	for int64(in.to-in.from) < n {
		n -= int64(in.to - in.from)
		in.from = in.to
		if more, err := in.More(); err != nil {
			return err
		} else if !more {
			return io.ErrUnexpectedEOF
		}
	}
	in.from += int(n)
	return nil
}

// More reads on, and reports whether there was more.
func (in *Input) More() (bool, error) {
	if in.buf == nil {
		in.buf = make([]byte, inputSize)
	}
	in.from, in.to = 0, copy(in.buf, in.Bytes())
	if in.to == len(in.buf) {
		return false, &innodb.InternalError{What: "nothing of the redo log was taken"}
	}
	for !in.ended {
		n, err := in.r.Read(in.buf[in.to:min(in.to+inputStep, len(in.buf))])
		in.to += n
		in.ended = err == io.EOF
		if err != nil && !in.ended {
			return false, fmt.Errorf("reading the redo log: %w", err)
		}
		if n > 0 {
			return true, nil
		}
	}
	return false, nil
}
