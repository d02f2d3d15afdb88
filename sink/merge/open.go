package merge

import (
	"bufio"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"os"

	"hb/sink/catalog"
	"hb/stream"
	"hb/stream/disk"
	"hb/stream/progress"
	"hb/stream/ranges"
	"hb/stream/remote"
)

// Flags are the command-line options for the increments of a chain.
type Flags struct {
	Increments []string `arg:"" optional:"" name:"increment" help:"Incremental backups that build on the archive, in their order: files, addresses, or - for standard input." type:"archive"`
}

// Facts are the increments for programs.
func (f *Flags) Facts() []slog.Attr {
	if len(f.Increments) == 0 {
		return nil
	}
	var names []string
	for _, name := range f.Increments {
		names = append(names, cmp.Or((&stream.ReadFlags{Archive: name}).Name(), "-"))
	}
	return []slog.Attr{slog.Any("increments", names)}
}

// Archives are the archives of a chain, open.
type Archives struct {
	*Chain
	inputs []io.Closer
	flags  stream.ReadFlags
	phase  *progress.Phase
}

// Open opens the archive of the flags as the base of a chain, and its increments, which are
// files, addresses, or one of them "-" for standard input. An increment that cannot be
// read anywhere is put into a temporary file in tmpdir first, without its stages. Then it
// checks the chain: see Check. The bytes of the base count as done in the phase.
func Open(ctx context.Context, flags stream.ReadFlags, increments []string, tmpdir string, phase *progress.Phase, ask stream.Prompt) (_ *Archives, err error) {
	a := &Archives{flags: flags, phase: phase}
	defer func() {
		if err != nil {
			err = errors.Join(err, a.Close())
		}
	}()
	ask = ask.Once()
	if err := checkNames(flags, increments); err != nil {
		return nil, err
	}
	base, err := a.openBase(ctx, ask)
	if err != nil {
		return nil, err
	}
	var incs []Input
	for _, name := range increments {
		in, err := a.openIncrement(ctx, flags.Of(name), tmpdir, ask)
		if err != nil {
			return nil, err
		}
		incs = append(incs, in)
	}
	a.Chain, err = Check(base, incs)
	return a, err
}

// checkNames finds mistakes in the names of archives before any is opened.
func checkNames(flags stream.ReadFlags, increments []string) error {
	if len(increments) == 0 {
		return stream.AsUsage(errors.New("name the increments to merge, in their order, after the base"))
	}
	inputs := 0
	for i, name := range append([]string{flags.Archive}, increments...) {
		f := flags.Of(name)
		if f.Stdin() {
			inputs++
			continue
		}
		if _, err := os.Stat(name); i > 0 && errors.Is(err, fs.ErrNotExist) && !remote.Is(name) {
			return stream.AsUsage(&NoIncrementError{name})
		}
	}
	if inputs > 1 {
		return stream.AsUsage(errors.New("only one archive can come from standard input"))
	}
	return nil
}

// NoIncrementError says that there is no file of the name of an increment.
type NoIncrementError struct{ Name string }

func (e *NoIncrementError) Error() string {
	return fmt.Sprintf("the increment %s: no such file or directory", e.Name)
}

// nameOf is the archive in messages.
func nameOf(f *stream.ReadFlags) string {
	if f.Stdin() {
		return "standard input"
	}
	return f.Name()
}

func (a *Archives) openBase(ctx context.Context, ask stream.Prompt) (Base, error) {
	in, err := a.flags.OpenParts(ctx, a.phase, ask)
	if err != nil {
		return Base{}, fmt.Errorf("%s: %w", nameOf(&a.flags), err)
	}
	a.inputs = append(a.inputs, in)
	base := Base{Input: Input{nameOf(&a.flags), in.Parts}, Open: func() (io.Reader, error) { return in, nil }}
	if in.Parts != nil {
		base.Open = func() (io.Reader, error) {
			again, err := a.flags.Open(ctx, a.phase, ask)
			if err != nil {
				return nil, fmt.Errorf("%s: %w", base.Name, err)
			}
			a.inputs = append(a.inputs, again)
			return again, nil
		}
	}
	return base, nil
}

func (a *Archives) openIncrement(ctx context.Context, f *stream.ReadFlags, tmpdir string, ask stream.Prompt) (Input, error) {
	in, err := f.OpenParts(ctx, nil, ask)
	if err != nil {
		return Input{}, fmt.Errorf("%s: %w", nameOf(f), err)
	}
	a.inputs = append(a.inputs, in)
	parts := in.Parts
	if parts == nil {
		if parts, err = a.spool(ctx, in, tmpdir); err != nil {
			return Input{}, fmt.Errorf("%s: %w", nameOf(f), err)
		}
	}
	return Input{nameOf(f), parts}, nil
}

// spool puts an archive into a temporary file, and proves it on its way.
func (a *Archives) spool(ctx context.Context, in io.Reader, tmpdir string) (*stream.Parts, error) {
	dir, err := stream.TempDir(tmpdir)
	if err != nil {
		return nil, err
	}
	file, err := disk.OS.Temp(dir)
	if err != nil {
		return nil, fmt.Errorf("making a temporary file in %s: %w (give another place with --tmpdir)", dir, err)
	}
	a.inputs = append(a.inputs, file)
	out := &spooled{file: file, dir: dir}
	if _, err := catalog.List(ctx, io.TeeReader(in, out), func(catalog.Entry) error { return nil }); err != nil {
		return nil, err
	}
	parts, err := stream.OpenParts(ranges.New(ranges.File{R: file, Bytes: out.size}, nil), stream.Options{})
	if err != nil {
		return nil, fmt.Errorf("it has no index to be read by, as hb backup writes one: %w", err)
	}
	return parts, nil
}

// spooled is a temporary file being written.
type spooled struct {
	file disk.File
	dir  string
	size int64
}

func (s *spooled) Write(p []byte) (int, error) {
	n, err := s.file.WriteAt(p, s.size)
	s.size += int64(n)
	if err != nil {
		err = fmt.Errorf("spooling to %s: %w (give another place with --tmpdir)", s.dir, err)
	}
	return n, err
}

// BytesRead returns how many bytes of the archives' files have been read.
func (a *Archives) BytesRead() (n int64) {
	for _, in := range a.inputs {
		if in, ok := in.(*stream.Input); ok {
			n += in.BytesRead()
		}
	}
	return n
}

// Close closes the archives.
func (a *Archives) Close() error {
	var errs []error
	for _, in := range a.inputs {
		errs = append(errs, in.Close())
	}
	return errors.Join(errs...)
}

// Merged is the archive that a chain makes, as a stream in this process.
type Merged struct {
	*io.PipeReader
	done   chan struct{}
	result *Result
	err    error
}

// errLeft ends a merge whose reader went away.
var errLeft = errors.New("nobody reads the merged archive any more")

// Stream begins to merge. The caller reads the archive, and then calls Wait.
func (c *Chain) Stream(ctx context.Context, o Options) *Merged {
	r, w := io.Pipe()
	m := &Merged{PipeReader: r, done: make(chan struct{})}
	go func() {
		defer close(m.done)
		buffered := bufio.NewWriterSize(w, blank)
		if m.result, m.err = c.Run(ctx, buffered, o); m.err == nil {
			m.err = buffered.Flush()
		}
		w.CloseWithError(m.err) // io.EOF if that is nil
	}()
	return m
}

// Wait ends the merge, and returns what became of it. err is that of the stream's reader:
// it is returned unless the merge itself failed.
func (m *Merged) Wait(err error) error {
	m.CloseWithError(errLeft)
	<-m.done
	if m.err != nil && !errors.Is(m.err, errLeft) {
		return m.err
	}
	return err
}
