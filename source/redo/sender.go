package redo

import (
	"context"
	"fmt"
	"io"

	"hb/source/innodb"
)

// send is the sender: it gives the archive what is in hand, as fast as that
// takes it.
func (f *Follower) send(ctx context.Context, out io.Writer, head []byte) error {
	if err := f.give(out, head); err != nil {
		return err
	}
	buf := make([]byte, sendSize)
	for {
		var p piece
		var last bool
		err := f.waitFor(ctx, func() bool {
			last = f.done && len(f.queue) == 0
			if last || !f.sendable() {
				return last
			}
			p, f.queue = f.queue[0], f.queue[1:]
			return true
		})
		if err != nil {
			return err
		}
		if last {
			return f.give(out, f.tail)
		}
		if err := f.sendPiece(ctx, out, p, buf); err != nil {
			return err
		}
		if err := f.reclaim(); err != nil {
			return err
		}
	}
}

// sendable reports whether the first piece of the queue may leave. The state is
// locked.
func (f *Follower) sendable() bool {
	if len(f.queue) == 0 {
		return false
	}
	p := f.queue[0]
	return !f.held || f.target != 0 || p.start+innodb.LSN(p.Len()) <= f.heldEnd
}

func (f *Follower) sendPiece(ctx context.Context, out io.Writer, p piece, buf []byte) error {
	for off := int64(0); off < p.Len(); {
		if err := ctx.Err(); err != nil {
			return context.Cause(ctx)
		}
		b := buf[:min(int64(len(buf)), p.Len()-off)]
		if _, err := f.spool.ReadAt(p.Extent, b, off); err != nil {
			return err
		}
		if err := f.give(out, b); err != nil {
			return err
		}
		off += int64(len(b))
	}
	return nil
}

func (f *Follower) give(out io.Writer, b []byte) error {
	if len(b) == 0 {
		return nil
	}
	if _, err := out.Write(b); err != nil {
		return fmt.Errorf("sending redo: %w", err)
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.sent += int64(len(b))
	f.phase.Add(int64(len(b)))
	return nil
}

// reclaim empties the spool when nothing in it is needed any more.
func (f *Follower) reclaim() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if len(f.queue) > 0 {
		return nil
	}
	return f.spool.Reset()
}
