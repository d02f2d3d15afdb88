package redo

import (
	"context"
	"math"
	"time"

	"hb/source/innodb"
)

// read is the reader: it takes the log as it is written, until the target.
func (f *Follower) read(ctx context.Context) error {
	pause := minPause
	limit, _, err := f.ask(ctx)
	for {
		if err != nil {
			return err
		}
		if err := ctx.Err(); err != nil {
			return context.Cause(ctx)
		}
		f.mu.Lock()
		target, wanted := f.target, f.wanted
		f.mu.Unlock()
		if target != 0 {
			return f.complete(target)
		}
		var got reading
		if got, err = f.log.next(limit); err != nil {
			return err
		}
		if !got.more {
			if wanted {
				pause = minPause
			}
			f.pause(ctx, pause)
			pause = min(2*pause, maxPause)
		} else {
			pause = minPause
		}
		limit, err = f.check(ctx, got)
	}
}

// ask returns up to where the log may be read now, and where it ends.
func (f *Follower) ask(ctx context.Context) (limit, end innodb.LSN, err error) {
	if f.lsns == nil {
		return math.MaxUint64, 0, nil
	}
	return f.lsns(ctx)
}

// check takes what was read into the queue, after making sure that the server
// had not come around the log to where it was read: asked now, the server names
// an end that it had not passed then. It returns up to where the log may be read
// next.
func (f *Follower) check(ctx context.Context, got reading) (innodb.LSN, error) {
	limit, end, err := f.ask(ctx)
	if err != nil {
		return 0, err
	}
	if f.lsns != nil && len(got.bytes) > 0 && end >= got.lost {
		return 0, &OverrunError{Read: got.start, Now: end}
	}
	return limit, f.accept(got)
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
	if f.idle(got) {
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
		f.why = got.why
		// A look at a block that is just being written brings nothing: what was
		// seen of it before still stands.
		if len(got.bytes) > 0 || len(got.last) > 0 {
			f.last, f.lastAt = append(f.last[:0], got.last...), got.start+innodb.LSN(len(got.bytes))
		}
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

// idle reports whether what was read has nothing that is not in hand.
func (f *Follower) idle(got reading) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.why = got.why
	return len(got.bytes) == 0 && got.end == f.end && (len(got.last) == 0 || len(f.last) > 0)
}

// complete ends the reading at the target, which truncate has applied to the
// queue.
func (f *Follower) complete(target innodb.LSN) error {
	if _, err := f.log.newest(); err != nil { // what makes the whole log worthless
		return err
	}
	f.update(func() { f.end, f.done = target, true })
	return nil
}
