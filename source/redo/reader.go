package redo

import (
	"bytes"
	"context"
	"math"
	"time"

	"hb/xbstream/innodb"
)

// read is the reader: it takes the log as it is written, until the target.
func (f *Follower) read(ctx context.Context) error {
	pause := minPause
	limit, err := f.askAgain(ctx)
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
			if err := f.rest(ctx, got); err != nil {
				return err
			}
		} else {
			pause = minPause
		}
		limit, err = f.check(ctx, got)
	}
}

// askPause is how long an idle server is left alone at most: while its log's file
// stays as it is, it is not asked where the log ends.
const askPause = time.Second

// answer is the server's newest answer where its log ends.
type answer struct {
	time         time.Time
	flushed, end innodb.LSN
	before       []byte // what the file had after the end of what was read, before the server was asked
}

// ask returns up to where the log may be read now, and where it ends.
func (f *Follower) ask(ctx context.Context) (limit, end innodb.LSN, err error) {
	if f.lsns == nil {
		return math.MaxUint64, 0, nil
	}
	a := answer{time: time.Now()}
	if a.before, err = f.log.peek(); err != nil {
		return 0, 0, err
	}
	if a.flushed, a.end, err = f.lsns(ctx); err != nil {
		return 0, 0, err
	}
	f.answer = a
	return a.flushed, a.end, nil
}

func (f *Follower) askAgain(ctx context.Context) (limit innodb.LSN, err error) {
	limit, _, err = f.ask(ctx)
	return limit, err
}

// rest waits while an idle server writes nothing: all that it said it had was read,
// and the file goes on as it did before it said so. Each byte of the log that it
// writes comes right there.
func (f *Follower) rest(ctx context.Context, got reading) error {
	a := f.answer
	if f.lsns == nil || len(got.bytes) > 0 || got.end != a.end || a.flushed != a.end {
		return nil
	}
	for ctx.Err() == nil && time.Since(a.time) < askPause && !f.isWanted() {
		now, err := f.log.peek()
		if err != nil || !bytes.Equal(now, a.before) {
			return err
		}
		f.pause(ctx, maxPause)
	}
	return nil
}

func (f *Follower) isWanted() bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.wanted
}

// check takes the redo that was read into the queue, after making sure that the server
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

// accept takes the redo that was read into the queue.
func (f *Follower) accept(got reading) (err error) {
	if f.idle(got) {
		return nil
	}
	f.update(func() {
		if f.target != 0 {
			return // all of this lies after it
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
		// A block that is just being written shows nothing new: the earlier reading
		// of it still counts.
		if len(got.bytes) > 0 || len(got.last) > 0 {
			f.last, f.lastAt = append(f.last[:0], got.last...), got.start+innodb.LSN(len(got.bytes))
		}
		if f.held {
			f.ends = append(f.ends, got.ends...)
			f.heldOps = append(f.heldOps, got.ops...)
			return
		}
		for _, op := range got.ops {
			if err = f.track(op); err != nil {
				return
			}
		}
	})
	return err
}

// idle reports whether the last read brought nothing new.
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
