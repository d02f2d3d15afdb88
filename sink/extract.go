// Package sink turns an archive into a directory, and a directory into one
// that the server starts on.
//
// [Extract] is the first half: the files of an archive, in a new directory,
// each proven to be what the backup read and each on disk. It follows the
// archive in one goroutine, which alone reads the stream, checks it and keeps
// the catalog of its files; several others write. [List] is the same without
// the writing. [Apply] is the second half, and [Restore] both in one pass.
// [Verify] and [VerifyDir] tell what an archive or a directory is worth, and
// change nothing.
package sink

import (
	"context"
	"errors"
	"io"
	"runtime"
	"sync"

	"hb/stream/disk"
	"hb/stream/progress"
	"hb/xbstream"
	"hb/xbstream/metadata"
)

// ExtractOptions adjusts Extract. The zero value is useful.
type ExtractOptions struct {
	// Parallel is how many goroutines write; 0 is one for each
	// processor, at least 2 and at most 8.
	Parallel int
	// Dialect says whose archive it is; by default that is inferred.
	Dialect xbstream.Dialect
	// Progress is told of what is left when the archive has been read, which its
	// reader can count; nil: nobody looks.
	Progress *progress.Meter
}

// ExtractResult is what Extract did.
type ExtractResult struct {
	Summary
	Written int64 // bytes written: without those that became holes
}

const (
	// By default there are as many writers as processors, within these bounds:
	// they wait for the disk more than they work.
	minWriters, maxWriters = 2, 8
	// maxParallel bounds what may be asked for.
	maxParallel = 64
	// syncParallel is how many fsyncs run at once. The file system joins
	// those that come together.
	syncParallel = 16
	// jobQueue is how many chunks may wait for one writer. Their memory is
	// bounded by the buffers.
	jobQueue = 8
)

// Extract writes the files of the archive in r, already without its stages,
// to dir, which must be empty or not exist (it is then made, its parent must
// exist). Success means that the archive was complete and that every file is
// on disk with the content that the manifest states; on any error dir is left
// with the file MarkerName in it, so that nothing takes it for a backup.
//
// An archive that hb did not make is accepted with a warning in the result:
// that nothing is missing from it cannot be proven.
//
// Files are made with mode 0640 and directories with 0750, less the umask.
// Runs of zeros that reach to the end of a page become holes. Extract returns
// when ctx ends, but cannot interrupt a Read of r.
func Extract(ctx context.Context, r io.Reader, dir string, opts ExtractOptions) (*ExtractResult, error) {
	return extractOn(ctx, disk.OS, r, dir, opts)
}

func extractOn(ctx context.Context, system disk.System, r io.Reader, dir string, opts ExtractOptions) (*ExtractResult, error) {
	t, err := openTarget(system, dir)
	if err != nil {
		return nil, err
	}
	result, err := t.extract(ctx, r, opts, nil)
	if err = errors.Join(err, t.root.Close()); err != nil {
		return nil, err
	}
	return result, nil
}

// extract fills the directory. The redo log is given to ahead too, if it is not
// nil.
func (t *target) extract(ctx context.Context, r io.Reader, opts ExtractOptions, ahead *readAhead) (*ExtractResult, error) {
	x := newExtraction(ctx, t, opts)
	x.ahead = ahead
	err := x.run(r, opts.Dialect)
	if err == nil {
		err = t.finish()
	}
	if err != nil {
		return nil, err
	}
	return &ExtractResult{Summary: *x.summary, Written: x.written.Load()}, nil
}

// extraction is one Extract under way.
type extraction struct {
	*pipeline
	cat     *catalog
	ahead   *readAhead          // nil: nobody reads
	files   map[string]*outFile // files that have not ended
	next    int                 // the writer that the next file gets
	page    int
	summary *Summary
	meter   *progress.Meter
}

// defaultPage is the page size where the archive does not state one.
const defaultPage = 16 << 10

func newExtraction(ctx context.Context, t *target, opts ExtractOptions) *extraction {
	parallel := opts.Parallel
	if parallel <= 0 {
		parallel = min(max(minWriters, runtime.GOMAXPROCS(0)), maxWriters)
	}
	return &extraction{
		pipeline: newPipeline(ctx, t, min(parallel, maxParallel)),
		cat:      newCatalog(),
		files:    make(map[string]*outFile),
		page:     defaultPage,
		meter:    opts.Progress,
	}
}

// run follows the archive and waits for the writers.
func (x *extraction) run(r io.Reader, dialect xbstream.Dialect) error {
	rd := xbstream.NewReader(r, xbstream.ReaderOptions{Dialect: dialect, Alloc: x.buffers.get})
	if err := x.follow(rd); err != nil {
		x.fail(x.cat.explain(err))
	}
	x.meter.Begin("syncing files", 0)
	if err := x.wait(); err != nil {
		return err
	}
	x.summary = x.cat.summary(rd)
	return nil
}

func (x *extraction) follow(rd *xbstream.Reader) error {
	for {
		if x.ctx.Err() != nil {
			return context.Cause(x.ctx)
		}
		ch, err := rd.Next()
		if err == io.EOF {
			return x.cat.finish()
		}
		if err != nil {
			return err
		}
		if _, err := x.cat.add(ch); err != nil {
			return err
		}
		if err := x.dispatch(ch); err != nil {
			return err
		}
	}
}

// dispatch hands a chunk to its file's writer.
func (x *extraction) dispatch(ch *xbstream.Chunk) error {
	switch ch.Type {
	case xbstream.Rename, xbstream.Remove:
		return x.moveFiles(ch)
	}
	if ch.First {
		if err := x.begin(ch); err != nil {
			return err
		}
	}
	f := x.files[ch.Path]
	if ch.Type == xbstream.Seek {
		return nil // the payload that follows says where it belongs
	}
	if ch.Type == xbstream.End {
		delete(x.files, ch.Path)
		if ch.Path == metadata.ArchiveName && x.cat.archive != nil {
			x.page = x.cat.archive.PageSize
		}
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
	x.files[ch.Path] = &outFile{
		path: ch.Path, writer: x.next, page: x.page, made: ch.Rewrite, trunc: ch.Rewrite,
		reader: x.ahead.begin(x.cat.archive, ch.Path),
	}
	x.next = (x.next + 1) % len(x.queues)
	return nil
}

// moveFiles does what MariaDB's archive says of files that have ended.
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
