package sink

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sync"
	"syscall"

	"hb/sink/replay"
	"hb/sink/replay/mariadb"
	"hb/sink/replay/mysql"
	"hb/stream/disk"
	"hb/stream/progress"
	"hb/xbstream/metadata"
)

// readAhead reads the redo log of a backup of hb's into a plan while the archive
// is extracted, or the directory is compared with its manifest: from the log's
// file, as far as that is written, so that neither waits for the other's memory.
// What came of it counts only if the log ends exactly where the backup says, which
// is known at the archive's end. If not, and for other tools' backups, the file is
// read anew.
type readAhead struct {
	root   disk.Dir
	memory int64 // of the plan, in bytes
	ctx    context.Context
	stop   context.CancelFunc
	log    *growing // nil: it has not begun

	reading sync.WaitGroup // of the rest
	plan    *replay.Plan
	scanned *replay.Scanned
	err     error
}

func newReadAhead(ctx context.Context, root disk.Dir, memory int64) *readAhead {
	h := &readAhead{root: root, memory: memory}
	h.ctx, h.stop = context.WithCancel(ctx)
	return h
}

// logReader is how the redo log of a server family is read.
type logReader struct {
	name string
	read func(io.ReadCloser) (redoLog, error)
}

var logReaders = map[string]logReader{
	metadata.FlavorMariaDB: {mariadb.LogName, func(f io.ReadCloser) (redoLog, error) { return mariadb.ReadLog(f) }},
	metadata.FlavorMySQL:   {mysql.LogName, func(f io.ReadCloser) (redoLog, error) { return mysql.ReadLog(f) }},
}

// begin is called for each file of an archive of hb's that begins. If it is the
// redo log it is read from now on, and who writes it has to say how far it is.
func (h *readAhead) begin(archive *metadata.Archive, name string) *growing {
	if h == nil || archive == nil || h.log != nil || logReaders[archive.ServerFlavor].name != name {
		return nil
	}
	h.log = &growing{ctx: h.ctx, root: h.root, name: name, more: make(chan struct{}, 1), phase: progress.NewPhase(readingLog, 0)}
	h.plan = replay.NewPlan(h.root, h.memory)
	h.reading.Go(func() { h.scanned, h.err = h.scan(logReaders[archive.ServerFlavor]) })
	return h.log
}

// whole is begin for an archive that was extracted before, with the files that its
// manifest lists.
func (h *readAhead) whole(archive *metadata.Archive, listed map[string]metadata.File) {
	name := logReaders[archive.ServerFlavor].name
	f, ok := listed[name]
	if !ok {
		return
	}
	if log := h.begin(archive, name); log != nil {
		log.reach(f.Size, true)
	}
}

func (h *readAhead) scan(by logReader) (_ *replay.Scanned, err error) {
	defer func() { err = errors.Join(err, h.log.Close()) }()
	log, err := by.read(h.log)
	if err != nil {
		return nil, err
	}
	scanned, err := log.Scan(h.plan, replay.Goal{Target: replay.Unstated})
	return scanned, errors.Join(err, h.plan.Settle())
}

// take waits until the reading has ended, and returns what came of a log that has
// to end at the goal; nothing, if it is of no use. The disk's errors are none of
// the log's.
func (h *readAhead) take(goal replay.Goal) (*replay.Plan, *replay.Scanned, error) {
	h.reading.Wait()
	switch {
	case h.ctx.Err() != nil:
		return nil, nil, context.Cause(h.ctx)
	case isA[syscall.Errno](h.err):
		return nil, nil, h.err
	case h.plan == nil || h.err != nil || !goal.Exact || h.scanned.End != goal.Target:
		return nil, nil, h.drop()
	}
	plan := h.plan
	h.plan = nil
	return plan, h.scanned, nil
}

// Close ends the reading.
func (h *readAhead) Close() error {
	h.stop()
	h.reading.Wait()
	return h.drop()
}

func (h *readAhead) drop() error {
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

// reach says how far the file is written.
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

// Read fills p, or what of it there is before the file's end, and waits for that
// to be written.
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
// file's end, and at last io.EOF.
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
