package catalog

import (
	"bytes"
	"iter"

	"hb/xbstream"
)

// DefaultPage is the page size where the archive does not state one.
const DefaultPage = 16 << 10

// holeBlock is the granularity of holes: the block size of the common file
// systems, and of InnoDB's hole punching.
const holeBlock = 4 << 10

var zeroBlock [holeBlock]byte

// Span is a part of a chunk's data.
type Span struct{ From, To int }

// DataRuns yields the parts of data, which belongs at file offset at, that
// must be written; the rest is zeros that a hole reads as. A hole is zeros, in
// whole blocks, that reach to the end of a page: empty pages, and the rest of
// compressed ones that the server had punched out. Free space within a page
// stays, or each page would be in pieces on the disk.
func DataRuns(at int64, data []byte, page int) iter.Seq[Span] {
	return func(yield func(Span) bool) {
		start := 0 // of the run being gathered
		for pos := 0; pos < len(data); {
			next := pos + page - int((at+int64(pos))%int64(page))
			if next > len(data) {
				break // no whole end of a page here
			}
			hole := next
			for hole-holeBlock >= pos && bytes.Equal(data[hole-holeBlock:hole], zeroBlock[:]) {
				hole -= holeBlock
			}
			if hole < next {
				if hole > start && !yield(Span{start, hole}) {
					return
				}
				start = next
			}
			pos = next
		}
		if start < len(data) {
			yield(Span{start, len(data)})
		}
	}
}

// EachExtent calls f for the data in a chunk.
func EachExtent(ch *xbstream.Chunk, f func(off int64, data []byte) error) error {
	if ch.Type == xbstream.Payload {
		return f(ch.Offset, ch.Data)
	}
	at, data := ch.Offset, ch.Data
	for _, e := range ch.Sparse {
		at += int64(e.Skip)
		if err := f(at, data[:e.Len]); err != nil {
			return err
		}
		at, data = at+int64(e.Len), data[e.Len:]
	}
	return nil
}
