package mysql

import "fmt"

// A page of an index in ROW_FORMAT=COMPRESSED exists twice: as the frame that
// redo records address, which has the logical page size, and as the zip frame
// in the file, which has the physical one and no trailer:
//
//	 0  94  page headers, as in the frame
//	94   …  zlib stream: the fields of the index, a flush, then the heap from
//	        byte 120 on, without the fixed bytes of records and without columns
//	        that are stored outside of it
//	     …  modification log: what was written since; ends with a zero byte
//	     …  zeros
//	     …  20 for each BLOB pointer of an existing record, growing downwards, in
//	        the order of heap numbers and columns (clustered leaf)
//	     …  per heap record, growing downwards: 13 for DB_TRX_ID and DB_ROLL_PTR
//	        (clustered leaf), 4 for the child page (not leaf)
//	     …  dense directory: 2 per heap record, growing downwards from the end:
//	        the origins of existing records in the order of keys, then those of
//	        the free list in its order
//
// Records change both. The rest of the compressed page follows from the frame and is
// made from it once, at the end. The stream changes only with a record that has the
// whole zip frame, as long as the server logged what it had compressed
// (innodb_log_compressed_pages=ON, the default): then nothing is compressed here.
// Otherwise records say when the server compressed the page, and so does hb, by
// zlib's own algorithm: see package deflate. Both ways the result is the page of the
// server's own recovery, byte for byte.
//
// Should that not succeed, because the server had another compressor, the zip
// compressed frame is given up and made from the frame at the end.
//
// Sources: page/page0zip.cc, page/zipdecompress.cc, page/page0cur.cc and
// include/page0zip.ic of MySQL 9.7.2, which do what those of 5.6 and 5.7 did.

// Sizes and bits of the zip frame.
const (
	zipSlotSize = 2 // in the dense directory
	zipTrxSize  = 6 + 7
	zipBlobSize = 20

	zipOwned  = 0x4000 // in the dense directory: owns a slot of the frame's directory
	zipMarked = 0x8000 // marked as deleted
	zipOrigin = 0x3FFF

	zipLogLong  = 0x80 // in the modification log: the number has two bytes
	zipLogClear = 1    // in that number: the record's data are zeros
)

// zipPage is the zip frame of an index page, and what is known of it.
type zipPage struct {
	data  []byte    // the page as in the file
	index zipFields // as the page itself has them
	end   int       // of the modification log: offset of its final zero
	blobs int       // BLOB pointers, when the page was opened or compressed last
	// stale says that data lags behind the frame, because something had no room,
	// and must be compressed again.
	stale bool
	rec   zipRecord // scratch
}

// slot returns entry i of the dense directory.
func (z *zipPage) slot(i int) int { return get16(z.data, len(z.data)-zipSlotSize*(i+1)) }

// column returns where DB_TRX_ID and DB_ROLL_PTR, or the child page, of record i
// of a heap of n are.
func (z *zipPage) column(n, i int) []byte {
	size := z.index.stored() - zipSlotSize
	at := len(z.data) - n*zipSlotSize - (i+1)*size
	return z.data[at : at+size]
}

// blob returns where BLOB pointer i of a heap of n records is.
func (z *zipPage) blob(n, i int) int {
	return len(z.data) - n*z.index.stored() - (i+1)*zipBlobSize
}

// zipError says what is wrong with a zip frame.
type zipError struct{ err error }

func (e *zipError) Error() string { return "the compressed page " + e.err.Error() }
func (e *zipError) Unwrap() error { return e.err }

func zipErrorf(format string, args ...any) error {
	return &zipError{fmt.Errorf(format, args...)}
}
