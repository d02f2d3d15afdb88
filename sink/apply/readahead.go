package apply

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sync"
	"syscall"

	"hb/sink/replay"
	"hb/sink/replay/mariadb"
	"hb/sink/replay/mysql/scan"
	"hb/stream/disk"
	"hb/stream/progress"
	"hb/xbstream/keyring"
	"hb/xbstream/metadata"
)

// Ahead reads the redo log of a backup of hb's into a plan while the archive is
// extracted, or the directory is compared with its manifest: from the log's file, as
// far as that is written, so that neither waits for the other's memory. The result
// counts only if the log ends exactly where the metadata says, which is known at the
// archive's end. If not, and for other tools' backups, the file is read again.
type Ahead struct {
	root disk.Dir
	o    Options
	ctx  context.Context
	stop context.CancelFunc
	log  *growing // nil: it has not begun

	reading sync.WaitGroup // of the rest
	plan    *replay.Plan
	scanned *replay.Scanned
	err     error
}

// NewAhead is of a directory that is being filled, to be recovered with those options.
// Close it.
func NewAhead(ctx context.Context, root disk.Dir, o Options) *Ahead {
	o.fill()
	h := &Ahead{root: root, o: o}
	h.ctx, h.stop = context.WithCancel(ctx)
	return h
}

// logReader is how the redo log of a server family is read.
type logReader struct {
	name string
	read func(file io.ReadCloser, pageSize int, keys *keyring.Keys) (redoLog, error)
}

var logReaders = map[string]logReader{
	metadata.FlavorMariaDB: {mariadb.LogName, func(f io.ReadCloser, _ int, keys *keyring.Keys) (redoLog, error) { return mariadb.ReadLog(f, keys) }},
	metadata.FlavorMySQL: {scan.LogName, func(f io.ReadCloser, pageSize int, keys *keyring.Keys) (redoLog, error) {
		return scan.ReadLog(f, pageSize, keys)
	}},
}

// Begin is called for each file of an archive of hb's that begins. If it is the redo
// log, Ahead reads it from now on, and its writer has to call reach after each write:
// size bytes are written, and ended if no more will come. Otherwise reach is nil.
func (h *Ahead) Begin(archive *metadata.Archive, name string) (reach func(size int64, ended bool)) {
	if archive == nil || h.log != nil || logReaders[archive.ServerFlavor].name != name {
		return nil
	}
	h.log = &growing{ctx: h.ctx, root: h.root, name: name, more: make(chan struct{}, 1), phase: progress.NewPhase(readingLog, 0)}
	h.plan = h.o.newPlan(h.root)
	h.reading.Go(func() { h.scanned, h.err = h.scan(logReaders[archive.ServerFlavor], archive.PageSize) })
	return h.log.reach
}

// whole is Begin for an archive that was extracted before, with the files that its
// manifest lists.
func (h *Ahead) whole(archive *metadata.Archive, listed map[string]metadata.File) {
	name := logReaders[archive.ServerFlavor].name
	f, ok := listed[name]
	if !ok {
		return
	}
	if reach := h.Begin(archive, name); reach != nil {
		reach(f.Size, true)
	}
}

func (h *Ahead) scan(by logReader, pageSize int) (_ *replay.Scanned, err error) {
	defer func() { err = errors.Join(err, h.log.Close()) }()
	log, err := by.read(h.log, pageSize, h.o.Keys)
	if err != nil {
		return nil, err
	}
	scanned, err := log.Scan(h.plan, replay.Goal{Target: replay.Unstated})
	return scanned, errors.Join(err, h.plan.Settle())
}

// Apply recovers the directory, dir, in which all files were written just now.
func (h *Ahead) Apply(ctx context.Context, dir string) (*Result, error) {
	h.reading.Wait()
	a := &applier{Options: h.o, dir: dir, root: h.root, fresh: true, ahead: h}
	if err := a.run(ctx); err != nil {
		return nil, err
	}
	return &a.result, a.conclude()
}

// Take waits until the reading has ended, and returns what came of a log that has to
// end at the goal; nothing, if it is of no use. The disk's errors are not errors of
// the log's.
func (h *Ahead) Take(goal replay.Goal) (*replay.Plan, *replay.Scanned, error) {
	h.reading.Wait()
	_, failed := errors.AsType[syscall.Errno](h.err)
	switch {
	case h.ctx.Err() != nil:
		return nil, nil, context.Cause(h.ctx)
	case failed:
		return nil, nil, h.err
	case h.plan == nil || h.err != nil || !goal.Exact || h.scanned.End != goal.Target:
		return nil, nil, h.drop()
	}
	plan := h.plan
	h.plan = nil
	return plan, h.scanned, nil
}

// Close ends the reading.
func (h *Ahead) Close() error {
	h.stop()
	h.reading.Wait()
	return h.drop()
}

func (h *Ahead) drop() error {
	if h.plan == nil {
		return nil
	}
	plan := h.plan
	h.plan = nil
	return plan.Close()
}

// readingLog is the phase in which a redo log is read.
const readingLog = "reading the redo log"

// growing is a file that one goroutine writes from front to back and another one
// reads.
type growing struct {
	ctx  context.Context // ends the reading
	root disk.Dir
	name string
	more chan struct{} // holds a token if the following may have changed

	phase *progress.Phase // counts what was read; nil: nobody looks

	mu    sync.Mutex
	size  int64 // how far it is written
	ended bool

	f  disk.File // the reader's
	at int64     // likewise
}

// reach reports how far the file is written.
func (g *growing) reach(size int64, ended bool) {
	g.mu.Lock()
	g.size, g.ended = size, ended
	g.mu.Unlock()
	if ended {
		g.phase.Expect(size)
	}
	select {
	case g.more <- struct{}{}:
	default:
	}
}

// Read fills p, or the part before the file's end, and waits for that to be written.
func (g *growing) Read(p []byte) (int, error) {
	n, err := g.await(int64(len(p)))
	if err != nil {
		return 0, err
	}
	if g.f == nil {
		if g.f, err = g.root.Open(g.name); err != nil {
			return 0, fmt.Errorf("opening the redo log: %w", err)
		}
	}
	m, err := g.f.ReadAt(p[:n], g.at)
	g.at += int64(m)
	g.phase.Add(int64(m))
	return m, err
}

// await waits until n bytes can be read, and returns how many can: fewer at the
// file's end, and then io.EOF.
func (g *growing) await(n int64) (int64, error) {
	for {
		if g.ctx.Err() != nil {
			return 0, context.Cause(g.ctx)
		}
		g.mu.Lock()
		left, ended := g.size-g.at, g.ended
		g.mu.Unlock()
		switch {
		case left >= n:
			return n, nil
		case ended && left > 0:
			return left, nil
		case ended:
			return 0, io.EOF
		}
		select {
		case <-g.more:
		case <-g.ctx.Done():
		}
	}
}

// Close ends the use of the file by its reader.
func (g *growing) Close() error {
	if g.f == nil {
		return nil
	}
	return g.f.Close()
}
