// Package mysql applies MySQL's redo records, 5.6 to 9.x, to pages.
//
// Some records have the bytes to store. Most describe what was done to an
// index page or an undo page in terms of records and fields, and the page that
// results must be the server's own, byte for byte: later records address it by
// offsets, and take parts of new records from those that are there. So this
// package does to a page what the server's recovery does, in the same order:
// how the space of deleted records is used again, which directory slot is
// divided when, where a reorganized page has its records.
//
// Records of index pages describe the index, as far as it takes to find the
// fields of a row: see mlog.Index, and rec.go for the layout of rows.
//
// A page of an index in ROW_FORMAT=COMPRESSED is changed in its compressed form
// too, which is the one that is in the file: see zip.go.
//
// What is applied comes from files that may be damaged or hostile: every offset
// is checked, every walk through a list is bounded, and what cannot be is an
// error that leaves the page in an undefined state.
//
// What the engine needs to know of MySQL's pages:
//
//   - Bytes 26 to 33 of a page (flush LSN, R-tree sequence number) stay as they
//     are. Servers do not clear them as they write a page, except for 5.6 in
//     ROW_FORMAT=COMPRESSED tablespaces (buf_flush_init_for_writing), which
//     Finish does.
//   - A file's rename inside a group of records has 5.6's recovery give page 0 of
//     that tablespace the LSN of the group's end, and change nothing else on it.
//   - No record writes page LSN or checksums; the bytes of both in the image are
//     those that were read, or zero.
//   - A record that initialises a page leaves its type 0 and both links 0.
//   - Pages of ROW_FORMAT=COMPRESSED tablespaces that are not index pages are
//     like others, but of the physical size and without a trailer.
//
// Sources: storage/innobase/log/log0recv.cc (recv_parse_or_apply_log_rec_body) of
// MySQL 9.7.2 and what it calls, which also has how servers since 5.6 did it;
// differences are named where they are.
package mysql

import (
	"bytes"
	"errors"
	"fmt"

	"hb/xbstream/innodb"
	"hb/xbstream/innodb/mysqlredo"
	"hb/xbstream/innodb/mysqlredo/mlog"
)

// Applier applies records to pages, one page at a time. It implements
// replay.Applier.
type Applier struct {
	format mysqlredo.Format
	page   page
	// ready: page.frame and page.zip are what records address. Before
	// the first record it is not set: that may initialise the page.
	ready bool
	// held is an insert into a compressed page whose way depends on what
	// follows.
	held held

	index mlog.Index // of the last record that described one
	info  []byte     // the description
	old   bool       // in the form up to 8.0.28
}

// held is a whole record, put aside, and the mini-transaction it is of.
type held struct {
	record []byte
	mtr    innodb.LSN
}

// NewApplier returns an Applier of records from a log of that format.
func NewApplier(f mysqlredo.Format) *Applier {
	a := &Applier{format: f}
	a.page.zipWork.old = f == mysqlredo.Format56
	return a
}

// Begin starts on a page; it forgets one that was begun and not finished. image
// has the page's physical size. It is what Apply and Finish change in place.
func (a *Applier) Begin(image []byte, id innodb.PageID, space *innodb.Space) error {
	if n := len(image); n < innodb.MinZipSize || n > innodb.MaxPageSize || n&(n-1) != 0 {
		return fmt.Errorf("page %v has %d bytes", id, n)
	}
	p := &a.page
	p.id, p.space, p.image, p.frame, p.zip = id, space, image, image, nil
	a.ready = false
	a.held.record = a.held.record[:0]
	return nil
}

// Apply applies one run: records of this page in the mini-transaction that
// starts at mtr. An error names the record and leaves the page undefined.
func (a *Applier) Apply(mtr innodb.LSN, run []byte) error {
	for at := 0; at < len(run); {
		r, _, err := mlog.ParseRecord(run[at:])
		if err != nil {
			return fmt.Errorf("at byte %d of the run: %w", at, err)
		}
		if err := a.apply(mtr, &r, run[at:at+r.Size]); err != nil {
			return fmt.Errorf("%v at byte %d of the run: %w", r.Type, at, err)
		}
		at += r.Size
	}
	return nil
}

// Finish makes the image final.
func (a *Applier) Finish() error {
	if err := a.release(0, 0); err != nil {
		return err
	}
	p := &a.page
	if p.zip != nil {
		if err := p.zipFinish(); err != nil {
			return err
		}
	}
	if a.format == mysqlredo.Format56 && p.space.Zip() {
		clear(p.image[innodb.OffsetFlushLSN:innodb.OffsetSpace])
	}
	return nil
}

func (a *Applier) apply(mtr innodb.LSN, r *mlog.Record, whole []byte) error {
	switch {
	case !r.Type.IsPage():
		return errors.New("changes no page")
	case r.Page != a.page.id:
		return fmt.Errorf("is of page %v, not of %v", r.Page, a.page.id)
	}
	if err := a.release(mtr, r.Type); err != nil {
		return err
	}
	if err := a.open(r.Type); err != nil {
		return err
	}
	if a.page.zip != nil && isInsert(r.Type) {
		a.held.record, a.held.mtr = append(a.held.record, whole...), mtr
		return nil
	}
	return a.do(r, false)
}

// open makes the frame ready for records, unless a record of type t initialises the
// page.
func (a *Applier) open(t mlog.Type) error {
	if a.ready || t == mlog.InitFilePage || t == mlog.InitFilePage2 {
		return nil
	}
	a.ready = true
	p := &a.page
	if p.space.Zip() && isIndex(innodb.HeaderType(p.image)) {
		return p.zipOpen()
	}
	return nil
}

// release applies the insert that was held, if any. A server that finds no room
// for it in the compressed page inserts into the uncompressed one and compresses
// that: a record of the same mini-transaction has it.
func (a *Applier) release(mtr innodb.LSN, next mlog.Type) error {
	if len(a.held.record) == 0 {
		return nil
	}
	r, _, err := mlog.ParseRecord(a.held.record)
	if err != nil {
		return err
	}
	a.held.record = a.held.record[:0]
	recompressed := mtr == a.held.mtr && (next == mlog.OldZipCompressNoData || next == mlog.ZipCompressNoData)
	if err := a.do(&r, recompressed); err != nil {
		return fmt.Errorf("%v before: %w", r.Type, err)
	}
	return nil
}

func isInsert(t mlog.Type) bool {
	return t == mlog.OldInsert || t == mlog.OldCompInsert || t == mlog.Insert
}

// do applies one record. recompressed: the record is an insert into a compressed
// page, which is compressed again after it.
func (a *Applier) do(r *mlog.Record, recompressed bool) error {
	p, b := &a.page, body{b: r.Body}
	switch r.Type {
	case mlog.Write1, mlog.Write2, mlog.Write4, mlog.Write8:
		return p.write(int(r.Type), b)
	case mlog.WriteString:
		return p.writeString(b)
	case mlog.InitFilePage, mlog.InitFilePage2:
		a.ready = true
		p.initPage()
		return nil
	case mlog.SecDeleteMark:
		return p.markSecondary(b)
	case mlog.MinRecMark, mlog.CompMinRecMark:
		return p.markMinRec(r.Type == mlog.CompMinRecMark, b)
	case mlog.ZipWriteNodePtr, mlog.ZipWriteBlobPtr, mlog.ZipWriteHeader, mlog.ZipPageCompress:
		if !p.space.Zip() {
			return errNotCompressed
		}
		return p.zipRecord(r.Type, nil, b)
	case mlog.PageCreate, mlog.PageCreateRTree, mlog.PageCreateSDI,
		mlog.CompPageCreate, mlog.CompPageCreateRTree, mlog.CompPageCreateSDI,
		mlog.IbufBitmapInit, mlog.UndoInit, mlog.UndoInsert, mlog.UndoEraseEnd,
		mlog.UndoHdrCreate, mlog.UndoHdrReuse, mlog.UndoHdrDiscard:
		if p.zip != nil {
			return errCompressed
		}
		return p.plain(r.Type, b)
	}
	rest, err := a.describe(r)
	if err != nil {
		return err
	}
	if err := p.open(a.index.Compact); err != nil {
		return err
	}
	return p.change(r.Type, &a.index, body{b: rest}, recompressed)
}

var (
	errCompressed    = errors.New("no server writes such a record of a compressed page")
	errNotCompressed = errors.New("the tablespace has no compressed pages")
)

// plain applies a record of a page that is not compressed and not, or not yet,
// one of an index.
func (p *page) plain(t mlog.Type, b body) error {
	switch t {
	case mlog.IbufBitmapInit:
		return p.initBitmap()
	case mlog.UndoInit:
		return p.initUndo(b)
	case mlog.UndoInsert:
		return p.appendUndo(b)
	case mlog.UndoEraseEnd:
		return p.eraseUndoEnd()
	case mlog.UndoHdrCreate, mlog.UndoHdrReuse:
		return p.undoLog(t, b)
	case mlog.UndoHdrDiscard:
		return errors.New("no server writes such a record")
	}
	return p.createOf(t)
}

// change applies a record that describes the index.
func (p *page) change(t mlog.Type, x *mlog.Index, b body, recompressed bool) error {
	switch t {
	case mlog.OldInsert, mlog.OldCompInsert, mlog.Insert:
		cursor, rec := b.u2(), readTail(&b)
		switch err := b.end(); {
		case err != nil:
			return err
		case p.zip != nil && !recompressed:
			return p.zipInsert(x, cursor, rec)
		}
		return p.insert(x, cursor, rec)
	case mlog.OldClustDeleteMark, mlog.OldCompClustDeleteMark, mlog.ClustDeleteMark:
		return p.markClustered(x, b)
	case mlog.OldCompSecDeleteMark:
		return p.markSecondary(b)
	case mlog.OldUpdateInPlace, mlog.OldCompUpdateInPlace, mlog.UpdateInPlace:
		return p.update(x, b)
	case mlog.OldZipCompressNoData, mlog.ZipCompressNoData, mlog.OldZipReorganize, mlog.ZipReorganize:
		if !p.space.Zip() {
			return errNotCompressed
		}
		return p.zipRecord(t, x, b)
	case mlog.OldListEndCopyCreated, mlog.OldCompListEndCopyCreated, mlog.ListEndCopyCreated:
		tails := b.take(int(b.u4()))
		switch err := b.end(); {
		case err != nil:
			return err
		case p.zip != nil:
			return errCompressed
		}
		return p.copyToCreated(x, tails)
	case mlog.OldReorganize, mlog.OldCompReorganize, mlog.Reorganize:
		if p.zip != nil {
			return errCompressed
		}
		return p.reorganize(x)
	}
	return p.deleteAt(t, x, b)
}

// deleteAt applies a record that deletes records.
func (p *page) deleteAt(t mlog.Type, x *mlog.Index, b body) error {
	rec := b.u2()
	if err := b.end(); err != nil {
		return err
	}
	switch t {
	case mlog.OldDelete, mlog.OldCompDelete, mlog.Delete:
		return p.delete(x, rec)
	case mlog.OldListEndDelete, mlog.OldCompListEndDelete, mlog.ListEndDelete:
		if p.zip != nil {
			return p.deleteEach(x, rec)
		}
		return p.deleteListEnd(x, rec)
	case mlog.OldListStartDelete, mlog.OldCompListStartDelete, mlog.ListStartDelete:
		return p.deleteListStart(x, rec)
	}
	return errors.New("cannot be applied to a page")
}

// createOf is create as a record asks for it.
func (p *page) createOf(t mlog.Type) error {
	if len(p.frame) < innodb.MinPageSize {
		return fmt.Errorf("a page of %d bytes cannot be of an index", len(p.frame))
	}
	switch t {
	case mlog.PageCreate, mlog.CompPageCreate:
		p.create(innodb.TypeIndex, t == mlog.CompPageCreate)
	case mlog.PageCreateRTree, mlog.CompPageCreateRTree:
		p.create(innodb.TypeRTree, t == mlog.CompPageCreateRTree)
	default:
		p.create(innodb.TypeSDI, t == mlog.CompPageCreateSDI)
	}
	return nil
}

// describe fills a.index from the record and returns the bytes after the
// description. Consecutive records are mostly of the same index.
func (a *Applier) describe(r *mlog.Record) (rest []byte, err error) {
	if !r.Type.HasIndex() {
		a.info = a.info[:0]
		_, err = a.index.Parse(r.Type, r.Body) // that of a REDUNDANT page, empty
		return r.Body, err
	}
	old := r.Type < mlog.Insert
	if len(a.info) > 0 && old == a.old && bytes.HasPrefix(r.Body, a.info) {
		return r.Body[len(a.info):], nil
	}
	a.info = a.info[:0]
	if rest, err = a.index.Parse(r.Type, r.Body); err != nil {
		return nil, err
	}
	a.info, a.old = append(a.info, r.Body[:len(r.Body)-len(rest)]...), old
	return rest, nil
}
