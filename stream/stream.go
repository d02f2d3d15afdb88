// Package stream holds the byte stages around an archive.
//
// On the way out, innermost first:
//
//	xbstream -> zstd -> age -> rate limit -> meter -> destination
//
// [Create] builds that row; zstd, age and the limit are there only where they
// were asked for. On the way in, [Open] recognises each stage by its first
// bytes and takes it off, in any order and depth, until the archive
// itself begins. All stages are standard formats: `age -d | zstd -d` takes
// them off as well, and Open reads what `zstd | age -e` makes.
//
// Package stage has the contracts of stages.
package stream

import (
	"io"

	"hb/stream/stage"
	"hb/stream/zstdstage"
	"hb/xbstream"
)

// Compression asks for a zstd stage, and DamageError says that a stage is damaged.
type (
	Compression = zstdstage.Compression
	DamageError = stage.DamageError
)

// writeVec writes the slices to w, in one call if w can.
func writeVec(w io.Writer, bufs [][]byte) (int, error) {
	if v, ok := w.(xbstream.VecWriter); ok {
		return v.WriteVec(bufs...)
	}
	total := 0
	for _, b := range bufs {
		n, err := w.Write(b)
		total += n
		if err == nil && n != len(b) {
			err = io.ErrShortWrite
		}
		if err != nil {
			return total, err
		}
	}
	return total, nil
}
