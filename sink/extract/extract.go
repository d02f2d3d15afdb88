// Package extract puts the files of an archive into a new directory, each proven to be
// what the backup read, and each on disk: an archive comes in, and a directory comes
// out. One goroutine follows the archive: only it reads the stream, checks it and keeps
// the catalog of its files. Several others write.
package extract

import (
	"context"
	"errors"
	"fmt"
	"io"
	"runtime"
	"sync"
	"time"

	"hb/sink/backupdir"
	"hb/sink/catalog"
	"hb/stream"
	"hb/stream/disk"
	"hb/stream/progress"
	"hb/xbstream"
	"hb/xbstream/metadata"
)

// Options are how [Run] works. The zero value is useful.
type Options struct {
	// Parallel is how many goroutines write; 0 is one for each
	// processor, at least 2 and at most 8.
	Parallel int
	// Dialect is that of the archive; by default extract infers it.
	Dialect xbstream.Dialect
	// Progress counts the work that is left when the archive has been read, which its
	// reader can count; nil: nobody looks.
	Progress *progress.Tracker
	// Follow is called for each file that begins, with the header of an archive of
	// hb's, else nil. If it returns a function, extract calls that with how far the
	// file is written: up to size bytes, and with ended that no more will come. One
	// goroutine calls it. nil: nobody follows.
	Follow func(archive *metadata.Archive, name string) (reach func(size int64, ended bool))
	// Patterns choose files; nil: all. Of an archive that is read from front to back all
	// of it is proven all the same. The directory then has the file
	// backupdir.PartialName in it.
	Patterns *catalog.Patterns
	// Parts is the archive by its index, with Patterns: only what is chosen is read, and
	// proven. nil: it is read from front to back.
	Parts *stream.Parts
	// Selection chooses files in the place of Patterns; nil: Patterns do. Parts may be set
	// with either.
	Selection Selection
	// System is the files that the directory is among; nil: the operating system's.
	System disk.System
}

// Selection is files of an archive that make a directory of their own.
type Selection interface {
	// Choose reports whether a file is wanted, by its path in the archive.
	Choose(path string) bool
	// Complete is called once all that was chosen is on disk, and proven. What it changes
	// in the directory it syncs, except for the names.
	Complete(root disk.Dir, s *catalog.Summary) error
}

// chooses reports whether not all files are extracted.
func (o *Options) chooses() bool { return o.Patterns != nil || o.Selection != nil }

// Result is what Run did.
type Result struct {
	catalog.Summary
	Written int64 // bytes written: without those that became holes
	Chosen  bool  // files were chosen by patterns: it may be a part of the backup
	// Read is how many bytes of the archive's file were read, as its reader says.
	Read int64
}

// Describe describes the result for a directory, and the time that it took. applied:
// it was recovered, too, which another text describes.
func (r *Result) Describe(dir string, took time.Duration, applied bool) string {
	text := fmt.Sprintf("extracted %d files, %s", r.Files, stream.Size(r.Bytes))
	if r.Chosen {
		return fmt.Sprintf("%s, in %s; read %s of the archive; %s has what was chosen, and cannot be applied", text, took, stream.Size(r.Read), dir)
	}
	if r.Archive != nil && r.Archive.Options.Incremental {
		return fmt.Sprintf("%s, in %s; it is an incremental backup, which cannot be applied by itself", text, took)
	}
	if !applied {
		text += fmt.Sprintf(", in %s, %s/s; next: hb apply %s", took, stream.Rate(r.Bytes, took), dir)
	}
	return text
}

// By default there are as many writers as processors, but at least these and at most
// catalog.MaxWorkers: they wait for the disk more than they work.
const minWriters = 2

// syncParallel is how many fsyncs run at once. The file system joins those that
// come together.
const syncParallel = 16

// Run writes the files of the archive in r, already without its stages,
// to dir, which must be empty or not exist (it is then made, its parent must
// exist). Success means that the archive was complete and that every file is
// on disk with the content that the manifest states; on any error dir is left
// with the file MarkerName in it, so that nothing takes it for a backup.
//
// An archive that hb did not make is accepted with a warning in the result:
// that nothing is missing from it cannot be proven.
//
// Files are made with mode 0640 and directories with 0750, less the umask.
// Runs of zeros that reach to the end of a page become holes. Run returns
// when ctx ends, but cannot interrupt a Read of r.
func Run(ctx context.Context, r io.Reader, dir string, opts Options) (*Result, error) {
	if err := opts.checkIndex(); err != nil {
		return nil, err
	}
	t, err := Open(opts.System, dir)
	if err != nil {
		return nil, err
	}
	result, err := t.Extract(ctx, r, opts)
	if err = errors.Join(err, t.Root.Close()); err != nil {
		return nil, err
	}
	return result, nil
}

// Extract fills the directory with the files of the archive in r, as [Run] does.
func (t *Target) Extract(ctx context.Context, r io.Reader, opts Options) (*Result, error) {
	if opts.Parts != nil {
		picked := catalog.NewPicked(opts.Parts, opts.wanted)
		defer picked.Close()
		return t.extract(newExtraction(ctx, t, opts, picked), picked.Open(), opts)
	}
	return t.extract(newExtraction(ctx, t, opts, catalog.New()), r, opts)
}

func (t *Target) extract(x *extraction, r io.Reader, opts Options) (*Result, error) {
	err := x.run(r, opts.Dialect)
	switch {
	case err != nil:
	case x.opts.Selection != nil:
		if err = x.opts.Selection.Complete(t.Root, x.summary); err == nil {
			err = t.forgetRemoved()
		}
	case x.opts.Patterns != nil:
		err = t.markPartial()
	}
	if err == nil {
		err = t.Finish()
	}
	if err != nil {
		return nil, err
	}
	return &Result{Summary: *x.summary, Written: x.written.Load(), Chosen: x.opts.Patterns != nil}, nil
}

// proof follows an archive and proves what is in it: a Catalog all of it, a Picked some
// files.
type proof interface {
	Add(*xbstream.Chunk) (*catalog.Entry, error)
	Finish() error
	Explain(error) error
	Summary(*xbstream.Reader) *catalog.Summary
	Header() *metadata.Archive // what the archive says of itself; nil: not known
}

// extraction is one Run under way.
type extraction struct {
	*pipeline
	proof   proof
	opts    Options
	begun   func(archive *metadata.Archive, name string) (reach func(size int64, ended bool))
	files   map[string]*outFile // files that have not ended
	next    int                 // the writer that the next file gets
	page    int
	count   int64 // files that were chosen, and their bytes
	bytes   int64
	summary *catalog.Summary
	meter   *progress.Tracker
}

func newExtraction(ctx context.Context, t *Target, opts Options, p proof) *extraction {
	parallel := opts.Parallel
	if parallel <= 0 {
		parallel = min(max(minWriters, runtime.GOMAXPROCS(0)), catalog.MaxWorkers)
	}
	return &extraction{
		pipeline: newPipeline(ctx, t, min(parallel, catalog.MaxParallel)),
		proof:    p,
		opts:     opts,
		files:    make(map[string]*outFile),
		page:     catalog.DefaultPage,
		meter:    opts.Progress,
		begun:    opts.Follow,
	}
}

// run follows the archive and waits for the writers.
func (x *extraction) run(r io.Reader, dialect xbstream.Dialect) error {
	rd := xbstream.NewReader(r, xbstream.ReaderOptions{Dialect: dialect, Alloc: x.buffers.Get})
	if err := x.follow(rd); err != nil {
		x.fail(x.proof.Explain(err))
	}
	x.meter.Begin("syncing files", 0)
	if err := x.wait(); err != nil {
		return err
	}
	x.summary = x.proof.Summary(rd)
	if x.opts.chooses() {
		x.summary.Files, x.summary.Bytes = x.count, x.bytes
	}
	return nil
}

func (x *extraction) follow(rd *xbstream.Reader) error {
	for {
		if x.ctx.Err() != nil {
			return context.Cause(x.ctx)
		}
		ch, err := rd.Next()
		if err == io.EOF {
			return x.finish()
		}
		if err != nil {
			return err
		}
		ended, err := x.proof.Add(ch)
		if err != nil {
			return err
		}
		if err := x.choose(ch, ended); err != nil {
			return err
		}
	}
}

// finish decides at the archive's end whether it is complete, and whether each pattern
// has chosen something.
func (x *extraction) finish() error {
	err := x.proof.Finish()
	if err == nil && x.opts.Patterns != nil {
		err = x.opts.Patterns.Unused()
	}
	return err
}

// choose dispatches a chunk, if it is of a file that is wanted.
func (x *extraction) choose(ch *xbstream.Chunk, ended *catalog.Entry) error {
	if !x.opts.chooses() {
		return x.dispatch(ch)
	}
	if ch.Type == xbstream.Rename || ch.Type == xbstream.Remove {
		return &xbstream.CorruptError{Path: ch.Path, Offset: ch.At, Reason: "it gets another name, or goes, later in the archive: extract all of this archive"}
	}
	if ch.First && !x.opts.wanted(ch.Path) || !ch.First && x.files[ch.Path] == nil {
		x.buffers.Put(ch.Data)
		return nil
	}
	if ended != nil {
		x.count++
		x.bytes += ended.Size
	}
	return x.dispatch(ch)
}

// checkIndex makes sure, before anything is written, that each pattern chooses a file, if
// that can be known.
func (o *Options) checkIndex() error {
	if o.Parts == nil || o.Patterns == nil {
		return nil
	}
	for i := range o.Parts.Index.Files() {
		o.wanted(o.Parts.Path(i))
	}
	return o.Patterns.Unused()
}

// wanted reports whether a file is chosen: what hb adds to an archive never is.
func (o *Options) wanted(name string) bool {
	if o.Selection != nil {
		return o.Selection.Choose(name)
	}
	return !backupdir.IsOneOf(name, metadata.ArchiveName, metadata.IndexName, metadata.ManifestName) && o.Patterns.Choose(name)
}

// dispatch hands a chunk to its file's writer.
func (x *extraction) dispatch(ch *xbstream.Chunk) error {
	switch ch.Type {
	case xbstream.Rename, xbstream.Remove:
		return x.moveFiles(ch)
	}
	if head := x.proof.Header(); head != nil {
		x.page = head.PageSize
	}
	if ch.First {
		if err := x.begin(ch); err != nil {
			return err
		}
	}
	f := x.files[ch.Path]
	if ch.Type == xbstream.Seek {
		return nil // the payload that follows has its place
	}
	if ch.Type == xbstream.End {
		delete(x.files, ch.Path)
	}
	return x.send(f.writer, job{
		file: f, end: ch.Type == xbstream.End,
		offset: ch.Offset, span: ch.Span(), data: ch.Data, extents: ch.Sparse,
	})
}

// begin enters a new file and gives it to a writer.
func (x *extraction) begin(ch *xbstream.Chunk) error {
	if ch.Rewrite {
		// Its first version may still be on its way through another writer.
		if err := x.drain(); err != nil {
			return err
		}
	}
	f := &outFile{path: ch.Path, writer: x.next, page: x.page, made: ch.Rewrite, trunc: ch.Rewrite}
	if x.begun != nil {
		f.reach = x.begun(x.proof.Header(), ch.Path)
	}
	x.files[ch.Path] = f
	x.next = (x.next + 1) % len(x.queues)
	return nil
}

// moveFiles carries out the renames and removals of MariaDB's archive, on files that
// have ended.
func (x *extraction) moveFiles(ch *xbstream.Chunk) error {
	if err := x.drain(); err != nil {
		return err
	}
	if ch.Type == xbstream.Rename {
		return x.target.rename(ch.Path, ch.NewPath)
	}
	for _, path := range ch.Removed {
		if err := x.target.remove(path); err != nil {
			return err
		}
	}
	return nil
}

// drain waits until all chunks sent so far are in their files.
func (x *extraction) drain() error {
	var wg sync.WaitGroup
	for i := range x.queues {
		wg.Add(1)
		if err := x.send(i, job{reached: wg.Done}); err != nil {
			return err
		}
	}
	wg.Wait()
	return nil
}
