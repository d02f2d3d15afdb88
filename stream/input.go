package stream

import (
	"errors"
	"io"
	"os"

	"hb/stream/progress"
	"hb/stream/ranges"
)

// Input is an archive that is being read, without its stages.
type Input struct {
	// Reader gives it from front to back; nil if Parts is not.
	*Reader
	// Parts is the archive by its index; nil: it is read from front to back.
	Parts *Parts

	in     *os.File
	named  bool // it is not standard input
	window *ranges.Window
}

// Open opens the archive to be read from front to back. What is read of it counts as done
// in the phase, which may be nil. Passphrases that no file has come from ask. A file that
// cannot be opened is a *UsageError.
func (f *ReadFlags) Open(phase *progress.Phase, ask Prompt) (*Input, error) {
	return f.open(phase, ask, (*Input).stream)
}

// OpenParts is Open for parts of the archive: by its index, if it has one and can be read
// anywhere, or else from front to back.
func (f *ReadFlags) OpenParts(phase *progress.Phase, ask Prompt) (*Input, error) {
	return f.open(phase, ask, (*Input).parts)
}

func (f *ReadFlags) open(phase *progress.Phase, ask Prompt, open func(*Input, *progress.Phase, Options) error) (*Input, error) {
	i := &Input{in: os.Stdin, named: !f.Stdin()}
	if i.named {
		var err error
		if i.in, err = os.Open(f.Archive); err != nil {
			return nil, AsUsage(err)
		}
	}
	o, err := f.options(ask)
	if err == nil {
		err = open(i, phase, o)
	}
	if err != nil {
		return nil, errors.Join(err, i.in.Close())
	}
	return i, nil
}

func (i *Input) stream(phase *progress.Phase, o Options) (err error) {
	if size, ok := i.regular(); ok {
		phase.Expect(size)
	}
	i.Reader, err = Open(phase.Reader(i.in), o)
	return err
}

// parts opens the index, or falls back to stream.
func (i *Input) parts(phase *progress.Phase, o Options) (err error) {
	size, ok := i.regular()
	if !ok || !i.named {
		return i.stream(phase, o)
	}
	o.Passphrase = o.Passphrase.once()
	i.window = ranges.New(ranges.File{R: i.in, Bytes: size}, phase)
	if i.Parts, err = OpenParts(i.window, o); err == errNotSeekable {
		return i.stream(phase, o)
	}
	return err
}

// regular returns the size of a regular file.
func (i *Input) regular() (size int64, ok bool) {
	st, err := i.in.Stat()
	if err != nil || !st.Mode().IsRegular() {
		return 0, false
	}
	return st.Size(), true
}

// Anywhere is for reading anywhere in the archive; nil: it is no file, or has stages.
func (i *Input) Anywhere() io.ReaderAt {
	if _, ok := i.regular(); !ok || !i.named || len(i.Stages) > 0 {
		return nil
	}
	return i.in
}

// BytesRead returns how many bytes of the archive's file have been read.
func (i *Input) BytesRead() (n int64) {
	if i.window != nil {
		n = i.window.BytesRead()
	}
	if i.Reader != nil {
		n += i.Consumed()
	}
	return n
}

// Close ends the reading.
func (i *Input) Close() error {
	var errs []error
	if i.Reader != nil {
		errs = append(errs, i.Reader.Close())
	}
	if i.window != nil {
		errs = append(errs, i.window.Close())
	}
	return errors.Join(append(errs, i.in.Close())...)
}
