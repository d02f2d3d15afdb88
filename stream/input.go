package stream

import (
	"context"
	"errors"
	"io"
	"os"

	"hb/stream/progress"
	"hb/stream/ranges"
	"hb/stream/remote"
	"hb/stream/stage"
)

// Input is an archive that is being read, without its stages.
type Input struct {
	// Reader gives it from front to back; nil if Parts is not.
	*Reader
	// Parts is the archive by its index; nil: it is read from front to back.
	Parts *Parts

	in     source
	window *ranges.Window
}

// source is where an archive comes from.
type source interface {
	io.Closer
	// all reads it from front to back.
	all() io.Reader
	// ranges reads it anywhere; nil: it cannot be.
	ranges() ranges.Source
	// bytes is how many there are; below 0: that is not known.
	bytes() int64
}

// Open opens the archive to be read from front to back. The bytes that are read count
// as done in the phase, which may be nil. Passphrases that no file has come from ask.
// A file that cannot be opened is a *UsageError. Reading an address ends when ctx
// does.
func (f *ReadFlags) Open(ctx context.Context, phase *progress.Phase, ask Prompt) (*Input, error) {
	return f.open(ctx, -1, ask, func(i *Input, o Options) error { return i.stream(phase, o) })
}

// OpenParts is Open for parts of the archive: by its index, if it has one and can be read
// anywhere, or else from front to back.
func (f *ReadFlags) OpenParts(ctx context.Context, phase *progress.Phase, ask Prompt) (*Input, error) {
	return f.open(ctx, ranges.HeadSize, ask, func(i *Input, o Options) error { return i.parts(phase, o) })
}

// open opens the archive, of which the first bytes will be read first; below 0: all.
func (f *ReadFlags) open(ctx context.Context, first int64, ask Prompt, open func(*Input, Options) error) (*Input, error) {
	in, err := f.source(ctx, first)
	if err != nil {
		return nil, err
	}
	i := &Input{in: in}
	o, err := f.options(ask)
	if err == nil {
		err = open(i, o)
	}
	if err != nil {
		return nil, errors.Join(err, i.Close())
	}
	return i, nil
}

func (f *ReadFlags) source(ctx context.Context, first int64) (source, error) {
	switch {
	case f.Stdin():
		return fileSource{os.Stdin, false}, nil
	case remote.Is(f.Archive):
		o, err := remote.Open(ctx, f.Archive, first)
		if _, wrong := errors.AsType[*remote.AddressError](err); wrong {
			err = AsUsage(err)
		}
		if err != nil {
			return nil, err
		}
		return objectSource{o}, nil
	}
	file, err := os.Open(f.Archive)
	if err != nil {
		return nil, AsUsage(err)
	}
	return fileSource{file, true}, nil
}

func (i *Input) stream(phase *progress.Phase, o Options) (err error) {
	if size := i.in.bytes(); size > 0 {
		phase.Expect(size)
	}
	i.Reader, err = Open(phase.Reader(i.in.all()), o)
	return err
}

// parts opens the index, or falls back to stream.
func (i *Input) parts(phase *progress.Phase, o Options) (err error) {
	src := i.in.ranges()
	if src == nil {
		return i.stream(phase, o)
	}
	o.Passphrase = o.Passphrase.Once()
	i.window = ranges.New(src, phase)
	if i.Parts, err = OpenParts(i.window, o); err == stage.ErrNotSeekable {
		return errors.Join(i.window.Close(), i.stream(phase, o))
	}
	return err
}

// Anywhere is for reading anywhere in the archive; nil: it is not a file, or has
// stages.
func (i *Input) Anywhere() io.ReaderAt {
	f, ok := i.in.(fileSource)
	if !ok || f.ranges() == nil || len(i.Stages) > 0 {
		return nil
	}
	return f.File
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

// fileSource is a file, or standard input.
type fileSource struct {
	*os.File
	named bool // it is not standard input
}

func (f fileSource) all() io.Reader { return f.File }

func (f fileSource) bytes() int64 {
	if st, err := f.Stat(); err == nil && st.Mode().IsRegular() {
		return st.Size()
	}
	return -1
}

func (f fileSource) ranges() ranges.Source {
	if size := f.bytes(); f.named && size >= 0 {
		return ranges.File{R: f.File, Bytes: size}
	}
	return nil
}

// objectSource is an object at an address.
type objectSource struct{ *remote.Object }

func (o objectSource) all() io.Reader { return o.Reader() }

func (o objectSource) bytes() int64 { return o.Size() }

func (o objectSource) ranges() ranges.Source {
	if o.Ranged() && o.Size() >= 0 {
		return o.Object
	}
	return nil
}
