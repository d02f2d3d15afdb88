package mysql

import (
	"errors"
	"fmt"
	"hash/adler32"
	"math/bits"

	"hb/sink/replay/mysql/deflate"
	"hb/xbstream/innodb/mysqlredo/mlog"
)

// errNoRoom says that a page cannot be compressed into its size: the server must
// have had another zlib than those that hb knows.
var errNoRoom = errors.New("the page does not fit its compressed size; the server may manage it: apply with --by-server")

// defaultLevel is innodb_compression_level by default.
const defaultLevel = 6

// encodeFields appends the fields of an index to list as zip frames have them.
// (page_zip_fields_encode)
func encodeFields(list []byte, x *mlog.Index, leaf bool) ([]byte, error) {
	if !x.Compact || x.Versioned || x.HasInstant || x.NUniq == 0 {
		return nil, errors.New("no page of such an index can be compressed")
	}
	e := fieldEncoder{list: list}
	fields := x.Fields
	if !leaf {
		fields = fields[:x.NUniq]
	}
	trx := 0
	for i := range fields {
		if leaf && i == x.NUniq {
			e.flush()
			trx = e.fields
		}
		e.field(&fields[i])
	}
	e.flush()
	last := trx
	if !leaf {
		for i := range x.Fields {
			if !x.Fields[i].NotNull {
				last++
			}
		}
	}
	if last < zipFieldLong {
		return append(e.list, byte(last)), nil
	}
	return append(e.list, byte(zipFieldLong|last>>8), byte(last)), nil
}

// fieldEncoder makes one field of adjacent ones.
type fieldEncoder struct {
	list   []byte
	fields int // in list
	run    int // bytes of fixed fields, not NULL, that are not in list yet
}

func (e *fieldEncoder) field(f *mlog.Field) {
	v := zipFieldVar
	if f.NotNull {
		v |= zipFieldNotNull
	}
	switch {
	case f.Len == 0 && f.Big:
		e.flush()
		e.number(zipFieldBig | v)
	case f.Len == 0:
		e.flush()
		e.number(v)
	case !f.NotNull:
		e.flush()
		e.fixed(int(f.Len), v)
	default:
		if e.run+int(f.Len) > zipMaxRun {
			e.flush()
		}
		e.run += int(f.Len)
	}
}

// flush ends a run.
func (e *fieldEncoder) flush() {
	if e.run > 0 {
		e.fixed(e.run, zipFieldNotNull)
		e.run = 0
	}
}

func (e *fieldEncoder) fixed(size, flags int) {
	v := size<<1 | flags
	if v < zipFieldBig {
		e.number(v)
		return
	}
	e.list = append(e.list, byte(zipFieldLong|v>>8))
	e.number(v & 0xFF)
}

func (e *fieldEncoder) number(v int) {
	e.list = append(e.list, byte(v))
	e.fields++
}

// zipRecompress makes the stream again, as the server did at this moment. If it
// does not fit now, it may at the end, or be replaced by then.
func (p *page) zipRecompress(x *mlog.Index, level int) error {
	list, err := encodeFields(p.zip.index.encoded[:0], x, p.isLeaf())
	if err != nil {
		return err
	}
	if level > deflate.BestLevel {
		return fmt.Errorf("%d is not a level of compression", level)
	}
	if err := p.zipCompress(list, level); !errors.Is(err, errNoRoom) {
		return err
	}
	p.zip.stale = true
	return nil
}

// zipCompress makes the stream from the frame; the modification log is empty
// then. After errNoRoom the page is stale. (page_zip_compress)
func (p *page) zipCompress(list []byte, level int) error {
	z := p.zip
	if err := z.index.decode(list, p.isLeaf()); err != nil {
		return err
	}
	if err := p.zipDirectory(); err != nil {
		return err
	}
	heap, err := p.zipHeap()
	if err != nil {
		return err
	}
	if p.zipWork.deflater == nil {
		p.zipWork.deflater = new(deflate.Compressor)
	}
	room := z.blob(len(p.zipWork.origins), z.blobs-1) - 1 // the end of the modification log
	for _, l := range []int{level, deflate.BestLevel} {
		for _, old := range []bool{p.zipWork.old, !p.zipWork.old} {
			if z.deflate(&p.zipWork, room, heap, l, old) {
				z.stale = false
				return nil
			}
		}
	}
	return errNoRoom
}

// zipHeap returns what of the frame is in the stream and counts BLOB pointers.
func (p *page) zipHeap() ([]byte, error) {
	z, w, top := p.zip, &p.zipWork, p.get(pageHeapTop)
	out, from := w.out[:0], compact.heap
	z.blobs = 0
	for _, h := range w.origins {
		origin := h.origin()
		if err := z.index.at(&z.rec, p.frame, origin, top); err != nil {
			return nil, err
		}
		if from > origin-compactExtra-z.rec.extra {
			return nil, errHeap
		}
		out = append(out, p.frame[from:origin-compactExtra]...)
		for i := range len(z.rec.outside) + 1 {
			a, b := z.rec.inside(i)
			out = append(out, p.frame[origin+a:origin+b]...)
		}
		from = origin + z.rec.data
		if !h.free() {
			z.blobs += z.rec.blobs
		}
	}
	out = append(out, p.frame[from:top]...)
	return out, nil
}

// deflate writes the zlib stream of list and heap after the header and reports
// whether it ended at or before room.
func (z *zipPage) deflate(w *zipWork, room int, heap []byte, level int, old bool) bool {
	window := bits.Len(uint(len(w.frame))) - 1
	head := deflate.StreamHeader(level, window)
	b := w.deflater.Deflate(append(w.packed[:0], head[:]...), z.index.encoded, heap, level, window, old)
	sum := adler32.New()
	sum.Write(z.index.encoded)
	sum.Write(heap)
	b = sum.Sum(b)
	w.packed = b
	if pageData+len(b) > room {
		return false
	}
	z.end = pageData + copy(z.data[pageData:], b)
	z.data[z.end] = 0
	return true
}
