package mysql

import (
	"errors"
	"fmt"

	"hb/sink/replay/mysql/deflate"
	"hb/xbstream/innodb"
	"hb/xbstream/innodb/mysqlredo/mlog"
)

// zipWork is a worker's memory for compressed pages, kept from one to the next.
type zipWork struct {
	zipScratch
	page   zipPage
	frame  []byte
	owners int // records that own a directory slot

	deflater *deflate.Compressor // made when first needed
	packed   []byte              // a stream that may not fit
	old      bool                // the server's zlib is older than 1.2.5.1: 5.6 had 1.2.3
}

// zipOpen makes the frame from the image, which is a compressed index page.
func (p *page) zipOpen() error {
	w := &p.zipWork
	if len(w.frame) != p.space.Logical {
		w.frame = make([]byte, p.space.Logical)
	}
	w.page.data = p.image
	if err := w.page.decompress(w.frame, &w.zipScratch); err != nil {
		return err
	}
	p.frame, p.zip, p.rowFormat = w.frame, &w.page, &compact
	return nil
}

// zipFinish makes the image from the frame.
func (p *page) zipFinish() error {
	if !isIndex(innodb.HeaderType(p.frame)) {
		// Servers write the frame of a page that is not an index page (any more), as
		// far as it goes. (buf_flush_init_for_writing)
		copy(p.image, p.frame)
		return nil
	}
	if err := p.open(true); err != nil {
		return err
	}
	if p.isLeaf() != p.zip.index.leaf {
		return fmt.Errorf("the compressed page came to level %d without being compressed again", p.get(pageLevel))
	}
	if !p.zip.stale {
		if err := p.zipStore(); !errors.Is(err, errNoRoom) {
			return err
		}
	}
	if err := p.zipCompress(p.zip.index.encoded, defaultLevel); err != nil {
		return err
	}
	return p.zipStore()
}

// zipRecord applies the records that only compressed pages have.
func (p *page) zipRecord(t mlog.Type, x *mlog.Index, b body) error {
	switch t {
	case mlog.ZipPageCompress:
		return p.zipImage(b)
	case mlog.ZipWriteHeader:
		return p.zipHeader(b)
	}
	if p.zip == nil {
		return errors.New("the page is not compressed")
	}
	switch t {
	case mlog.ZipWriteNodePtr:
		return p.zipColumn(b, childSize, p.isLeaf())
	case mlog.ZipWriteBlobPtr:
		return p.zipColumn(b, zipBlobSize, !p.isLeaf())
	case mlog.OldZipReorganize, mlog.ZipReorganize:
		if err := p.reorganize(x); err != nil {
			return err
		}
	}
	level := b.u1()
	if err := b.end(); err != nil {
		return err
	}
	return p.zipRecompress(x, level)
}

// zipImage replaces the page, except for its number and LSN.
// (page_zip_parse_compress)
func (p *page) zipImage(b body) error {
	size, end := b.u2(), b.u2()
	links, data, tail := b.take(8), b.take(size), b.take(end)
	if err := b.end(); err != nil {
		return err
	}
	if p.space == nil || !p.space.Zip() {
		return errors.New("the tablespace has no compressed pages")
	}
	if innodb.OffsetType+size+end > len(p.image) {
		return fmt.Errorf("%d and %d bytes do not fit a page of %d", size, end, len(p.image))
	}
	if size < 2 || !isIndex(innodb.PageType(get16(data, 0))) {
		return errors.New("the image is not of an index page")
	}
	if p.zip != nil {
		copy(p.image, p.frame[:innodb.OffsetType])
	}
	copy(p.image[innodb.OffsetPrev:], links)
	rest := p.image[innodb.OffsetType:]
	clear(rest[copy(rest, data):])
	copy(rest[len(rest)-end:], tail)
	return p.zipOpen()
}

// zipHeader writes to the headers of both frames. (page_zip_parse_write_header)
func (p *page) zipHeader(b body) error {
	at, n := b.u1(), b.u1()
	v := b.take(n)
	switch err := b.end(); {
	case err != nil:
		return err
	case n == 0 || at+n >= pageData:
		return fmt.Errorf("%d bytes at offset %d are not of the header", n, at)
	}
	copy(p.frame[at:], v)
	return nil
}

// zipColumn writes a child page or a BLOB pointer to both frames. The record says
// where it is in each, but the one follows from the other.
// (page_zip_parse_write_node_ptr, page_zip_parse_write_blob_ptr)
func (p *page) zipColumn(b body, size int, elsewhere bool) error {
	at := b.u2()
	b.u2() // in the zip frame
	v := b.take(size)
	switch err := b.end(); {
	case err != nil:
		return err
	case elsewhere:
		return fmt.Errorf("a page of level %d has none", p.get(pageLevel))
	case at < compact.heap || at+size > p.get(pageHeapTop):
		return fmt.Errorf("%d bytes at offset %d are not of a record", size, at)
	}
	copy(p.frame[at:], v)
	return nil
}

// zipInsert inserts a record after the cursor, where the server did so in both
// frames. (page_cur_insert_rec_zip)
func (p *page) zipInsert(x *mlog.Index, cursor int, t tail) error {
	if err := p.linked(cursor); err != nil {
		return err
	}
	if cursor == p.supremum {
		return errors.New("nothing can follow the supremum")
	}
	if err := p.build(x, cursor, t); err != nil {
		return err
	}
	start, heapNo, err := p.zipAllocate()
	if err != nil {
		return err
	}
	copy(p.frame[start:], p.built)
	rec := start + p.one.extra
	if err := p.link(cursor, rec, heapNo); err != nil {
		return err
	}
	return p.zipWrite(rec)
}

// zipAllocate finds the place for p.built. A deleted record's is used only if
// the new one's origin can be where its was: the zip frame names both by it.
func (p *page) zipAllocate() (start, heapNo int, err error) {
	free, size := p.get(pageFree), p.one.size()
	if free == 0 {
		return p.allocateHeap(size)
	}
	if err := p.user(free); err != nil {
		return 0, 0, err
	}
	r := &p.zip.rec
	if err := p.zip.index.at(r, p.frame, free, p.get(pageHeapTop)); err != nil {
		return 0, 0, err
	}
	smaller := r.extra + compactExtra - p.one.extra
	if smaller < 0 || r.extra+compactExtra+r.data < size+smaller {
		return p.allocateHeap(size)
	}
	heapNo = p.heapNo(free)
	if err := p.unfree(free, size); err != nil {
		return 0, 0, err
	}
	p.zipClear(r, free)
	return free - p.one.extra, heapNo, nil
}

// zipClear zeroes a record's fields outside of the stream.
func (p *page) zipClear(r *zipRecord, rec int) {
	for _, o := range r.outside {
		clear(p.frame[rec+o.at : rec+o.at+o.size])
	}
}

// zipReleased does to a record that came to the free list what is done in
// compressed pages only. (page_zip_dir_delete)
func (p *page) zipReleased(rec int) error {
	r := &p.zip.rec
	if err := p.zip.index.at(r, p.frame, rec, p.get(pageHeapTop)); err != nil {
		return err
	}
	p.frame[rec-compactExtra] = 0
	p.zipClear(r, rec)
	return nil
}

// zipWrite appends a record of the layout p.one to the modification log. Without room
// for it the page becomes stale: the server had some, or it would have compressed
// the page instead. (page_zip_write_rec)
func (p *page) zipWrite(rec int) error {
	z, r := p.zip, &p.zip.rec
	if err := z.index.at(r, p.frame, rec, p.get(pageHeapTop)); err != nil {
		return err
	}
	if r.extra+compactExtra != p.one.extra || r.data != p.one.data {
		return fmt.Errorf("the record at offset %d has %d+%d bytes in the page's own index, not %d+%d",
			rec, r.extra+compactExtra, r.data, p.one.extra, p.one.data)
	}
	heap, no := p.heapSize()-firstUser, p.heapNo(rec)-1
	if no < 1 || no > heap {
		return fmt.Errorf("the record at offset %d has the heap number %d of %d", rec, no+1, heap+firstUser)
	}
	need := 1 + r.extra + r.data + 1 // the number, and the end of the log
	if no >= zipLogLong/2 {
		need++
	}
	for _, o := range r.outside {
		need -= o.size
	}
	z.stale = z.stale || z.end+need > len(z.data)-heap*z.index.stored()
	if z.stale {
		return nil
	}
	z.append(p.frame, rec, no)
	return nil
}

// append writes the record of layout z.rec to the modification log.
func (z *zipPage) append(frame []byte, rec, no int) {
	log := z.data[z.end:z.end]
	if no >= zipLogLong/2 {
		log = append(log, byte(zipLogLong|no>>7))
	}
	log = append(log, byte(no<<1))
	for i := range z.rec.extra {
		log = append(log, frame[rec-compactExtra-1-i])
	}
	for i := range len(z.rec.outside) + 1 {
		from, to := z.rec.inside(i)
		log = append(log, frame[rec+from:rec+to]...)
	}
	z.end += len(log)
	z.data[z.end] = 0
}
