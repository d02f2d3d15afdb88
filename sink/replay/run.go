package replay

import (
	"encoding/binary"
	"fmt"

	"hb/xbstream/innodb"
)

// A run in memory or in the temporary file: its length (uvarint), and so many
// bytes: its kind (1 byte), its LSN less that of the first run that it was
// gathered with, its distances to the start and the end of its mini-transaction
// (uvarints), and its records. Which page it is of stands before it.
const maxRunHead = 4 + 1 + binary.MaxVarintLen64 + 2*binary.MaxVarintLen32

// appendRun appends all of a packed run but its records.
func appendRun(b []byte, r *Run, base uint64) []byte {
	e := pack(r)
	var head [maxRunHead]byte
	h := append(head[:0], byte(e.kind))
	h = binary.AppendUvarint(h, e.lsn-base)
	h = binary.AppendUvarint(h, uint64(e.start))
	h = binary.AppendUvarint(h, uint64(e.end))
	b = binary.AppendUvarint(b, uint64(len(h)+len(r.Records)))
	return append(b, h...)
}

// measure returns the size of the packed run at the beginning of b, and its
// kind. b must hold its length and kind.
func measure(b []byte) (size int, kind Kind) {
	n, w := binary.Uvarint(b)
	return w + int(n), Kind(b[w])
}

// unpack sets all but the page from a packed run, and returns the records.
func (e *entry) unpack(run []byte, base uint64) ([]byte, error) {
	_, w := binary.Uvarint(run)
	b := run[max(0, w):]
	var numbers [3]uint64
	if len(b) > 0 {
		e.kind, b = Kind(b[0]), b[1:]
	}
	for i := range numbers {
		n, w := binary.Uvarint(b)
		if w <= 0 {
			return nil, &innodb.InternalError{What: fmt.Sprintf("a redo record of tablespace %d, page %d was put aside damaged", e.space, e.page)}
		}
		numbers[i], b = n, b[w:]
	}
	e.lsn, e.start, e.end = base+numbers[0], uint32(numbers[1]), uint32(numbers[2])
	e.size = uint32(len(b))
	return b, nil
}
