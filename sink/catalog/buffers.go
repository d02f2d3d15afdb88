package catalog

import (
	"context"
	"sync"

	"hb/xbstream"
)

const (
	// maxBuffers bounds the memory that payloads take between the stream and
	// the disk. It must hold one payload of the largest size.
	maxBuffers = 80 << 20
	// Buffers come in multiples of bufferStep, so that they can be used again
	// for payloads of about the same size; those of small files in one size.
	bufferStep  = 1 << 20
	smallBuffer = 64 << 10
)

var _ [maxBuffers - xbstream.MaxPayload]struct{} // the bound holds the largest payload

// Workers that take chunks from the goroutine that follows an archive.
const (
	// MaxWorkers is the largest number of workers by default, and
	// MaxParallel bounds that.
	MaxWorkers, MaxParallel = 8, 64
	// QueueLength is how many chunks may wait for one of them. Their memory is bounded
	// by the buffers.
	QueueLength = 8
)

// Buffers lends memory for payloads: one goroutine takes, any give back.
type Buffers struct {
	ctx   context.Context
	freed chan struct{} // holds a token when memory may have come free

	mu    sync.Mutex
	total int // bytes of all buffers, lent or kept
	kept  map[int][][]byte
}

func NewBuffers(ctx context.Context) *Buffers {
	return &Buffers{ctx: ctx, freed: make(chan struct{}, 1), kept: make(map[int][][]byte)}
}

// Get returns a buffer of n bytes, waiting for one to come back where the
// bound is reached. It fails when ctx ends.
func (b *Buffers) Get(n int) ([]byte, error) {
	class := smallBuffer
	if n > smallBuffer {
		class = (n + bufferStep - 1) / bufferStep * bufferStep
	}
	for {
		if b.ctx.Err() != nil {
			return nil, context.Cause(b.ctx)
		}
		if buf := b.tryGet(class); buf != nil {
			return buf[:n], nil
		}
		select {
		case <-b.freed:
		case <-b.ctx.Done():
		}
	}
}

func (b *Buffers) tryGet(class int) []byte {
	b.mu.Lock()
	defer b.mu.Unlock()
	if free := b.kept[class]; len(free) > 0 {
		buf := free[len(free)-1]
		b.kept[class] = free[:len(free)-1]
		return buf
	}
	for size, free := range b.kept {
		for len(free) > 0 && b.total+class > maxBuffers {
			free = free[:len(free)-1]
			b.total -= size
		}
		b.kept[size] = free
	}
	if b.total+class > maxBuffers {
		return nil
	}
	b.total += class
	return make([]byte, class)
}

// Put takes a buffer back; it ignores nil.
func (b *Buffers) Put(buf []byte) {
	if buf == nil {
		return
	}
	buf = buf[:cap(buf)]
	b.mu.Lock()
	b.kept[len(buf)] = append(b.kept[len(buf)], buf)
	b.mu.Unlock()
	select {
	case b.freed <- struct{}{}:
	default:
	}
}
