package merge

import (
	"errors"
	"fmt"
	"io"
	"slices"

	"hb/xbstream"
	"hb/xbstream/innodb"
	"hb/xbstream/innodb/delta"
	"hb/xbstream/metadata"
)

// assembly is a file on its way to the output: the bytes of its bottom come in, in their
// order, and every layer changes its pages.
type assembly struct {
	m      *merger
	out    *xbstream.File
	top    *content
	layers []*layer // the lowest first; without the base
	paged  bool     // pages are looked at
	page   int      // bytes of one; 0: not known yet
	in     int64    // bytes that have come
	carry  []byte   // of them, those that are not a page yet
	no     innodb.PageNo
}

// layer is one increment's part of a file.
type layer struct {
	*content
	list   *delta.List // nil: the file is as it was
	delta  *member
	page   int                // bytes of a page, as the delta's meta states it
	zero   []innodb.PageRange // those that are still to come
	space  innodb.Space
	exempt []innodb.PageRange // doublewrite area
	sum    innodb.PageSum
	tally  innodb.Tally
}

// assemble begins a file.
func (m *merger) assemble(top *content) (*assembly, error) {
	a := &assembly{m: m, top: top}
	for f := top; f != nil && f.live != nil; f = f.below {
		l := &layer{content: f, zero: f.live.Zero}
		a.layers = append([]*layer{l}, a.layers...)
		a.paged = a.paged || f.live.Space != nil
	}
	for _, l := range a.layers {
		if err := a.openDelta(l); err != nil {
			return nil, err
		}
	}
	err := a.agree()
	if err == nil {
		a.out, err = m.out.create(top.live)
	}
	return a, err
}

// openDelta reads which pages a layer has.
func (a *assembly) openDelta(l *layer) error {
	if l.live.Kind != metadata.LiveChanged && l.live.Kind != metadata.LiveNew {
		return nil
	}
	text, err := l.step.member(l.live.Stored[:len(l.live.Stored)-len(delta.Ext)]+delta.ExtMeta, a.m.cache)
	if err != nil {
		return err
	}
	b, err := text.all(delta.MaxMeta)
	if err != nil {
		return err
	}
	meta, err := delta.ParseMeta(b)
	switch {
	case err != nil:
		return text.damage(err)
	case meta.Space != *l.live.Space:
		return text.damage(fmt.Errorf("it is of tablespace %d, and the manifest says %d", meta.Space, *l.live.Space))
	case l.live.Size%int64(meta.PageSize) != 0:
		return text.damage(fmt.Errorf("its pages have %d bytes, and the file %d", meta.PageSize, l.live.Size))
	}
	if meta.HasFlags {
		if l.space, err = innodb.ParseFlags(meta.Flags); err != nil {
			return text.damage(err)
		}
	}
	if l.delta, err = l.step.member(l.live.Stored, a.m.cache); err != nil {
		return err
	}
	if l.list, err = delta.ReadList(l.delta, l.delta.size(), meta.PageSize); err != nil {
		if errors.Is(err, io.ErrUnexpectedEOF) {
			return l.delta.damage(err)
		}
		return l.delta.about(err)
	}
	if last := l.live.Size / int64(meta.PageSize); last > 1<<32 {
		return text.damage(fmt.Errorf("the file has %d pages", last))
	} else if no, ok := l.list.Next(innodb.PageNo(last)); ok && last < 1<<32 {
		return l.delta.damage(fmt.Errorf("it has page %d, and the file %d pages", no, last))
	}
	l.page = meta.PageSize
	return nil
}

// agree finds out how large pages are by the layers. Where all pages are to be made by the
// redo log, a backup knows nothing of the tablespace but zeros, and states the server's
// page size, which is the largest: such a layer has no pages, and fits any.
func (a *assembly) agree() error {
	for _, l := range a.layers {
		if l.list != nil && (a.page == 0 || l.page < a.page) {
			a.page = l.page
		}
	}
	for _, l := range a.layers {
		switch {
		case l.list == nil || l.page == a.page:
		case l.list.Len() > 0:
			return l.delta.damage(fmt.Errorf("its pages have %d bytes, and those of another backup of the chain have %d", l.page, a.page))
		default:
			times := innodb.PageNo(l.page / a.page)
			l.zero = slices.Clone(l.zero)
			for i, r := range l.zero {
				l.zero[i] = innodb.PageRange{First: r.First * times, End: r.End * times}
			}
		}
	}
	return nil
}

// feed takes the next bytes of the bottom, and may change them.
func (a *assembly) feed(data []byte) error {
	a.in += int64(len(data))
	if !a.paged {
		_, err := a.out.Write(data)
		return err
	}
	if len(a.carry) > 0 {
		data = append(a.carry, data...)
		a.carry = nil
	}
	if a.page == 0 {
		if err := a.learnSize(data); err != nil {
			return err
		}
	}
	whole := len(data) - len(data)%a.page
	if whole < len(data) {
		a.carry = append([]byte(nil), data[whole:]...)
	}
	return a.pages(data[:whole])
}

// learnSize finds out how large pages are, from the first bytes of a file.
func (a *assembly) learnSize(data []byte) error {
	a.page = a.top.step.archive.PageSize
	if len(data) < innodb.SpaceHeaderSize || innodb.HeaderType(data) != innodb.TypeFSPHeader && a.isSystem() {
		return nil
	}
	space, err := innodb.ParseSpace(data)
	switch {
	case errors.Is(err, innodb.ErrZeroHeader):
		return nil
	case err != nil:
		return a.damage(err)
	}
	a.page = space.Physical
	return nil
}

// isSystem reports whether it is a file of the system tablespace.
func (a *assembly) isSystem() bool { return a.top.live.Space != nil && *a.top.live.Space == 0 }

// damage is what is wrong with the base's file, or the bottom of the chain.
func (a *assembly) damage(err error) error {
	return &xbstream.CorruptError{Path: a.top.bottom().path, Reason: err.Error()}
}

// blank is pages where nothing is below.
const blank = 1 << 20

// end ends the file: nothing more of the bottom comes.
func (a *assembly) end() error {
	if err := a.checkKept(); err != nil {
		return err
	}
	if !a.paged {
		if want := a.top.live.CRC32; want != nil && *want != a.out.Sum().CRC32 {
			return &DivergedError{a.top.step.Name, a.top.live.Path}
		}
		return a.out.Close()
	}
	if len(a.carry) > 0 {
		// Of a file that ends within a page, servers use the pages before. It can only
		// be kept as it is.
		for _, l := range a.layers {
			if l.list != nil {
				return a.damage(fmt.Errorf("it ends within a page of %d bytes", a.page))
			}
		}
		if _, err := a.out.Write(a.carry); err != nil {
			return err
		}
	}
	if a.page == 0 {
		a.page = a.top.step.archive.PageSize
	}
	if err := a.grow(); err != nil {
		return err
	}
	for _, l := range a.layers {
		if err := a.judge(l); err != nil {
			return err
		}
	}
	return a.out.Close()
}

// checkKept compares the base's size with what the layers say.
func (a *assembly) checkKept() error {
	l := a.layers[0]
	if l.live.Kind == metadata.LiveKept && l.live.Size != a.in {
		return mismatch(l.step.Name, "its manifest says that %s is kept, with %d bytes: the base's %s has %d", l.live.Path, l.live.Size, l.live.From, a.in)
	}
	return nil
}

// grow makes the pages after the end of the bottom.
func (a *assembly) grow() error {
	var pages int64
	for _, l := range a.layers {
		pages = max(pages, l.live.Size/int64(a.page))
	}
	var b []byte
	for int64(a.no) < pages {
		if a.m.ctx.Err() != nil {
			return a.m.ctx.Err()
		}
		n := min(int64(blank/a.page), pages-int64(a.no))
		if b == nil {
			b = make([]byte, n*int64(a.page))
		}
		b = b[:n*int64(a.page)]
		clear(b)
		if err := a.pages(b); err != nil {
			return err
		}
	}
	return nil
}

// judge compares what a layer made with what its backup saw.
func (a *assembly) judge(l *layer) error {
	if l.delta != nil {
		if err := l.delta.close(); err != nil {
			return err
		}
	}
	if l.live.Sum != nil && *l.live.Sum != l.sum {
		return &DivergedError{l.step.Name, l.live.Path}
	}
	if l.content == a.top {
		a.m.out.tally.Add(l.tally)
	}
	return nil
}

// pages takes whole pages, and puts them out.
func (a *assembly) pages(data []byte) error {
	for at := 0; at < len(data); at += a.page {
		if err := a.one(data[at : at+a.page]); err != nil {
			return err
		}
		a.no++
	}
	begun := int64(a.no)*int64(a.page) - int64(len(data))
	if keep := a.top.live.Size - begun; keep < int64(len(data)) {
		data = data[:max(keep, 0)]
	}
	if len(data) == 0 {
		return nil
	}
	_, err := a.out.Write(data)
	return err
}

// one takes a page through all layers.
func (a *assembly) one(page []byte) error {
	for _, l := range a.layers {
		if err := a.overlay(l, page); err != nil {
			return err
		}
		if l.live.Sum != nil || l.content == a.top {
			if err := a.sum(l, page); err != nil {
				return err
			}
		}
	}
	return nil
}

// overlay does to a page what a layer does.
func (a *assembly) overlay(l *layer, page []byte) error {
	if int64(a.no)*int64(a.page) >= l.live.Size {
		clear(page)
		return nil
	}
	if l.list == nil {
		return nil
	}
	for len(l.zero) > 0 && l.zero[0].End <= a.no {
		l.zero = l.zero[1:]
	}
	at, ok := l.list.Find(a.no)
	switch {
	case ok:
		if n, err := l.delta.ReadAt(page, at); n < len(page) {
			return err
		}
		a.m.pages++
	case len(l.zero) > 0 && l.zero[0].Contains(a.no):
		clear(page)
	}
	return nil
}

// sum enters a page, as it is in a layer, in the layer's sum.
func (a *assembly) sum(l *layer, page []byte) error {
	if innodb.AllZero(page) {
		return nil
	}
	if err := a.learn(l, page); err != nil {
		return err
	}
	for _, r := range l.exempt {
		if r.Contains(a.no) {
			return nil
		}
	}
	l.sum.Toggle(a.no, page, &l.space)
	if l.space.Unsummed(page) {
		l.tally.Count(&l.space, innodb.ChecksumNone)
	}
	return nil
}

// learn finds out from the first pages how those of a layer are to be read.
func (a *assembly) learn(l *layer, page []byte) (err error) {
	switch {
	case a.no == 0 && (innodb.HeaderType(page) == innodb.TypeFSPHeader || !a.isSystem()):
		if l.space, err = innodb.ParseSpace(page); err != nil {
			return a.damage(err)
		}
		if l.space.Physical != a.page || l.live.Space != nil && l.space.ID != *l.live.Space {
			return a.damage(fmt.Errorf("page 0 is of tablespace %d with pages of %d bytes, expected was %d with %d", l.space.ID, l.space.Physical, *l.live.Space, a.page))
		}
	case l.space.Physical == 0:
		// A further file of the system tablespace, or one whose page 0 is zero.
		full := innodb.CRC32C(page[:len(page)-4]) == uint32(page[len(page)-4])<<24|uint32(page[len(page)-3])<<16|uint32(page[len(page)-2])<<8|uint32(page[len(page)-1])
		if l.space, err = innodb.PlainSpace(a.page, full); err != nil {
			return a.damage(err)
		}
	}
	// Servers have the doublewrite area in the first file: they make it there (5.7, 9.7, MariaDB
	// 10.11 demand that the file be long enough), and read it from there as they start: MySQL
	// 5.6, which demands nothing, makes an area that ends in the second file, and then aborts.
	if a.isSystem() && a.no == innodb.TrxSysPage && innodb.HeaderPageNo(page) == a.no {
		l.exempt = l.space.DoublewriteArea(page)
	}
	return nil
}
