package extract

import (
	"context"
	"errors"
	"slices"
	"sync"
	"sync/atomic"

	"hb/sink/catalog"
	"hb/stream/disk"
	"hb/xbstream"
)

// outFile is a file being written. path, writer, page and reach are set when it
// begins; the rest belongs to its writer.
type outFile struct {
	path   string
	writer int                          // index of its writer
	page   int                          // page size, bytes
	reach  func(size int64, ended bool) // called with how far it is written; or nil

	f     disk.File // nil until the first chunk, and when it was set aside
	made  bool      // it exists
	trunc bool      // the next opening empties it
	size  int64     // as far as chunks have reached
	used  int64     // as far as something was written: the size on disk
}

// job is a chunk on its way to a writer, or the end of a file.
type job struct {
	file    *outFile
	offset  int64
	span    int64 // how far the chunk reaches
	data    []byte
	extents []xbstream.Extent // of a sparse chunk
	end     bool
	reached func() // instead of a chunk: called when the job's turn comes
}

// pipeline is the writers and syncers of an extraction. The goroutine that
// made it sends jobs and waits; the first failure of any part ends all.
type pipeline struct {
	ctx     context.Context
	fail    context.CancelCauseFunc
	target  *Target
	buffers *catalog.Buffers
	queues  []chan job    // of the writers
	ended   chan *outFile // files to sync and close
	written atomic.Int64

	writers sync.WaitGroup
	syncers sync.WaitGroup
}

// maxOpenFiles is how many files the writers together keep open. A thousand
// descriptors is what processes commonly have.
const maxOpenFiles = 256

func newPipeline(ctx context.Context, t *Target, parallel int) *pipeline {
	ctx, cancel := context.WithCancelCause(ctx)
	p := &pipeline{ctx: ctx, fail: cancel, target: t, buffers: catalog.NewBuffers(ctx), ended: make(chan *outFile, syncParallel)}
	for range parallel {
		queue := make(chan job, catalog.QueueLength)
		p.queues = append(p.queues, queue)
		w := &writer{pipeline: p, limit: max(2, maxOpenFiles/parallel)}
		p.writers.Go(func() { w.run(queue) })
	}
	for range syncParallel {
		p.syncers.Go(p.syncEnded)
	}
	return p
}

// send hands a job to a writer. It fails when the pipeline has.
func (p *pipeline) send(writer int, j job) error {
	select {
	case p.queues[writer] <- j:
		return nil
	case <-p.ctx.Done():
		return context.Cause(p.ctx)
	}
}

// wait ends the pipeline and returns the first failure.
func (p *pipeline) wait() error {
	for _, queue := range p.queues {
		close(queue)
	}
	p.writers.Wait()
	close(p.ended)
	p.syncers.Wait()
	err := context.Cause(p.ctx)
	p.fail(nil) // releases the context
	return err
}

// syncEnded makes files durable and closes them.
func (p *pipeline) syncEnded() {
	for f := range p.ended {
		var err error
		if p.ctx.Err() == nil {
			err = f.f.Sync()
		}
		if err := errors.Join(err, f.f.Close()); err != nil {
			p.fail(p.target.error("syncing", f.path, err))
		}
	}
}

// writer writes the files that were given to it.
type writer struct {
	*pipeline
	limit int        // files to keep open
	open  []*outFile // least recently used first
}

// run works off the queue. After a failure it only gives the memory back.
func (w *writer) run(queue <-chan job) {
	for j := range queue {
		if w.ctx.Err() == nil && j.file != nil {
			if err := w.do(j); err != nil {
				w.fail(err)
			}
		}
		w.buffers.Put(j.data)
		if j.reached != nil {
			j.reached()
		}
	}
	for _, f := range w.open { // left open by a failure, or by the stream's end
		if err := f.f.Close(); err != nil {
			w.fail(w.target.error("closing", f.path, err))
		}
	}
}

func (w *writer) do(j job) error {
	f := j.file
	if err := w.ensureOpen(f); err != nil {
		return err
	}
	if j.end {
		return w.end(f)
	}
	f.size = max(f.size, j.offset+j.span)
	if j.extents == nil {
		return w.write(f, j.offset, j.data)
	}
	at, data := j.offset, j.data
	for _, e := range j.extents {
		at += int64(e.Skip)
		if err := w.write(f, at, data[:e.Len]); err != nil {
			return err
		}
		at, data = at+int64(e.Len), data[e.Len:]
	}
	return nil
}

// ensureOpen makes or opens f, setting aside another file where too many are
// open, and notes that it was used.
func (w *writer) ensureOpen(f *outFile) (err error) {
	if f.f != nil {
		if i := slices.Index(w.open, f); i != len(w.open)-1 {
			w.open = append(slices.Delete(w.open, i, i+1), f)
		}
		return nil
	}
	if len(w.open) >= w.limit {
		if err := w.setAside(w.open[0]); err != nil {
			return err
		}
	}
	if f.made {
		f.f, err = w.target.reopen(f.path, f.trunc)
	} else {
		f.f, err = w.target.create(f.path)
	}
	if err != nil {
		return err
	}
	f.made, f.trunc = true, false
	w.open = append(w.open, f)
	return nil
}

// setAside closes a file that goes on later. It is synced here: an error of
// writing it back might not be reported to a later opening.
func (w *writer) setAside(f *outFile) error {
	w.open = slices.DeleteFunc(w.open, func(o *outFile) bool { return o == f })
	if err := errors.Join(f.f.Sync(), f.f.Close()); err != nil {
		return w.target.error("syncing", f.path, err)
	}
	f.f = nil
	return nil
}

// end gives the file its full size, which a hole at its end has not, and
// passes it on to be synced.
func (w *writer) end(f *outFile) error {
	if f.used != f.size {
		if err := f.f.Truncate(f.size); err != nil {
			return w.target.error("sizing", f.path, err)
		}
	}
	if f.reach != nil {
		f.reach(f.size, true)
	}
	w.open = slices.DeleteFunc(w.open, func(o *outFile) bool { return o == f })
	w.ended <- f
	return nil
}

// write puts data at an offset, without the holes in it.
func (w *writer) write(f *outFile, at int64, data []byte) error {
	runs := catalog.DataRuns(at, data, f.page)
	if at < f.used { // over bytes before a seek: zeros count there
		runs = slices.Values([]catalog.Span{{From: 0, To: len(data)}})
	}
	for part := range runs {
		off := at + int64(part.From)
		n, err := f.f.WriteAt(data[part.From:part.To], off)
		w.written.Add(int64(n))
		if err != nil {
			return w.target.error("writing", f.path, err)
		}
		f.used = max(f.used, off+int64(n))
		if f.reach != nil {
			f.reach(f.used, false)
		}
		if n >= writebackSize {
			f.f.StartWriteback(off, int64(n))
		}
	}
	return nil
}

// writebackSize is the size from which a write is sent to the disk at once, so that
// the sync at the file's end finds little to do. Smaller files wait for their sync.
const writebackSize = 1 << 20
