package redo

import (
	"context"
	"math"
	"time"

	"hb/source/innodb"
	"hb/source/innodb/redolog"
)

// read is the reader: it takes the log as it is written, until the target.
func (f *Follower) read(ctx context.Context) error {
	pause := minPause
	var limit innodb.LSN
	for {
		if err := ctx.Err(); err != nil {
			return context.Cause(ctx)
		}
		f.mu.Lock()
		target, wanted := f.target, f.wanted
		f.mu.Unlock()
		if target != 0 {
			return f.complete(target)
		}
		var err error
		if limit, err = f.limit(ctx, limit); err != nil {
			return err
		}
		got, err := f.log.next(limit)
		if err != nil {
			return err
		}
		if err := f.accept(got); err != nil {
			return err
		}
		if got.more {
			pause = minPause
			continue
		}
		if wanted {
			pause = minPause
		}
		f.pause(ctx, pause)
		pause = min(2*pause, maxPause)
	}
}

// limit returns the LSN up to which the log may be read now. The server is asked
// only when all is read that it named before.
func (f *Follower) limit(ctx context.Context, known innodb.LSN) (innodb.LSN, error) {
	if f.format == redolog.MariaDB105 {
		return math.MaxUint64, nil
	}
	if f.log.cutter.Position() < known {
		return known, nil
	}
	return f.flushed(ctx)
}

func (f *Follower) pause(ctx context.Context, d time.Duration) {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
	case <-f.wake:
	case <-t.C:
	}
}

// accept takes what was read into the queue.
func (f *Follower) accept(got reading) (err error) {
	if len(got.bytes) == 0 && got.end == f.End() {
		return nil
	}
	f.update(func() {
		if f.target != 0 {
			return // all of this lies behind it
		}
		if len(got.bytes) > 0 {
			p := piece{start: got.start}
			if p.Extent, err = f.spool.Append(got.bytes); err != nil {
				return
			}
			f.queue = append(f.queue, p)
		}
		f.end = max(f.end, got.end)
		if f.held {
			f.ends = append(f.ends, got.ends...)
			f.heldOps = append(f.heldOps, got.ops...)
			return
		}
		for _, op := range got.ops {
			f.track(op)
		}
	})
	return err
}

// complete ends the reading at the target, which truncate has applied to the
// queue.
func (f *Follower) complete(target innodb.LSN) error {
	var tail []byte
	if f.Format() == redolog.MariaDB105 {
		var err error
		if tail, err = f.log.lastBlock(target); err != nil {
			return err
		}
	}
	f.update(func() { f.tail, f.end, f.done = tail, target, true })
	return nil
}
