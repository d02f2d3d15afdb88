package redo

import (
	"context"
	"fmt"
	"io"

	"hb/xbstream/innodb"
)

// send is the sender: it gives the archive the redo that has been read, as fast as that
// takes it.
func (f *Follower) send(ctx context.Context, out io.Writer, head []byte) error {
	if err := f.give(out, head); err != nil {
		return err
	}
	buf := make([]byte, sendSize)
	var turn []piece
	for {
		if err := ctx.Err(); err != nil {
			return context.Cause(ctx)
		}
		var last bool
		err := f.waitFor(ctx, func() bool {
			last = f.done && len(f.queue) == 0
			turn = f.take(turn[:0])
			return last || len(turn) > 0
		})
		if err != nil {
			return err
		}
		if last {
			return f.give(out, f.tail)
		}
		if err := f.sendTurn(out, turn, buf); err != nil {
			return err
		}
	}
}

// take takes from the queue what may leave, up to sendSize bytes: the archive takes
// as much at a time of a tablespace, and the pieces are as small as what the server
// writes at once. The state is locked.
func (f *Follower) take(turn []piece) []piece {
	for room := int64(sendSize); room > 0 && f.sendable(); {
		p := f.queue[0]
		if p.Len() > room {
			f.queue[0] = piece{p.After(room), p.start + innodb.LSN(room)}
			p.Extent = p.First(room)
		} else {
			f.queue = f.queue[1:]
		}
		turn, room = append(turn, p), room-p.Len()
	}
	return turn
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

func (f *Follower) sendTurn(out io.Writer, turn []piece, buf []byte) error {
	n := int64(0)
	for _, p := range turn {
		if _, err := f.spool.ReadAt(p.Extent, buf[n:n+p.Len()], 0); err != nil {
			return err
		}
		if err := f.spool.Release(p.Extent); err != nil {
			return fmt.Errorf("giving back the space of sent redo: %w", err)
		}
		n += p.Len()
	}
	return f.give(out, buf[:n])
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
