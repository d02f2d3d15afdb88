// Package sinkcmd has the commands that work on archives and on what becomes of them:
// extract, apply, verify, list and merge. Their options are those of the packages that they
// drive.
package sinkcmd

import (
	"context"
	"errors"
	"io"
	"runtime/debug"

	"hb/sink/merge"
	"hb/stream"
	"hb/stream/program"
	"hb/stream/progress"
)

// readMemory is the size of the heap, in bytes, beyond which garbage is collected
// more often while an archive is read. The memory in use does not reach it, except
// for archives of some million files.
const readMemory = 148 << 20

// begin prepares for reading an archive.
func begin(p *program.Program, f *stream.ReadFlags) error {
	if f.Stdin() {
		if err := p.CheckInput(); err != nil {
			return err
		}
	}
	debug.SetMemoryLimit(readMemory)
	return nil
}

// openParts opens an archive, for parts of it by its index, if that can be.
func openParts(ctx context.Context, p *program.Program, f *stream.ReadFlags, phase *progress.Phase) (*stream.Input, error) {
	if err := begin(p, f); err != nil {
		return nil, err
	}
	return f.OpenParts(ctx, phase, p.Ask)
}

// openChain opens a full backup and the increments that build on it.
func openChain(ctx context.Context, p *program.Program, f stream.ReadFlags, increments []string, tmpdir string, phase *progress.Phase) (*merge.Archives, error) {
	for _, name := range append([]string{f.Archive}, increments...) {
		if err := begin(p, f.Of(name)); err != nil {
			return nil, err
		}
	}
	chain, err := merge.Open(ctx, f, increments, tmpdir, phase, p.Ask)
	if err == nil {
		p.WarnAll(chain.Warnings())
	}
	return chain, err
}

// input is a full backup to be read: an archive, or what a chain of archives makes.
type input struct {
	opened
	phase   *progress.Phase
	archive *stream.Input   // nil: it is a chain
	chain   *merge.Archives // nil: it is an archive
	part    *merge.Part     // of a chain; nil: all
}

// opened is what archives and chains have in common.
type opened interface {
	// BytesRead is how many bytes of files have been read.
	BytesRead() int64
	io.Closer
}

// open opens the archive of the flags, for parts of it if that is wanted and can be; or,
// with increments, the chain, for which see merge.Open. The phase has that name.
func open(ctx context.Context, p *program.Program, phase string, f *stream.ReadFlags, parts bool, increments []string, tmpdir string) (*input, error) {
	i := &input{phase: progress.NewPhase(phase, 0)}
	var err error
	switch {
	case len(increments) > 0:
		i.chain, err = openChain(ctx, p, *f, increments, tmpdir, i.phase)
		i.opened = i.chain
	case parts:
		i.archive, err = openParts(ctx, p, f, i.phase)
		i.opened = i.archive
	default:
		if err = begin(p, f); err == nil {
			i.archive, err = f.Open(ctx, i.phase, p.Ask)
			i.opened = i.archive
		}
	}
	if err != nil {
		return nil, err
	}
	return i, nil
}

// parts is the archive by its index; nil: it is read from front to back.
func (i *input) parts() *stream.Parts {
	if i.archive == nil {
		return nil
	}
	return i.archive.Parts
}

// anywhere is for reading anywhere in the archive; nil: that cannot be.
func (i *input) anywhere() io.ReaderAt {
	if i.archive == nil {
		return nil
	}
	return i.archive.Anywhere()
}

// read has work read the backup, shows the progress, and closes the input.
func (i *input) read(ctx context.Context, p *program.Program, m *progress.Tracker, work func(io.Reader) error) error {
	m.Enter(i.phase)
	var err error
	p.During(m, func() {
		if i.chain == nil {
			err = work(i.archive)
			return
		}
		merged := i.chain.Stream(ctx, merge.Options{HBVersion: p.Version, Part: i.part})
		err = merged.Wait(work(merged))
	})
	return errors.Join(err, i.Close())
}
