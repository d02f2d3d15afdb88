package pages

import (
	"errors"
	"io"
	"iter"
	"time"

	"hb/stream/disk"
	"hb/xbstream/innodb"
	"hb/xbstream/innodb/delta"
	"hb/xbstream/metadata"
)

// Increment has a Copier send only the pages that changed since a base, and note what a
// reader needs to make the whole file: see metadata.Live.
//
// A page that is not sent must have been on disk, as it is now, before the copy of the
// base began. The server had written all changes before the checkpoint From to the files
// then, and a page that it changed later has a later LSN. Servers change pages without
// that in one way: IMPORT TABLESPACE of MariaDB sets the LSN of every page to 0
// (storage/innobase/row/row0import.cc of 10.5 and 10.11), so that a page with that LSN
// counts as changed. MySQL stamps imported pages, and those of indexes that are built
// without redo, with an LSN of that time, which may be From itself.
type Increment struct {
	From innodb.LSN // the checkpoint where the redo log of the base begins
	// Began is when the base began. A file that was made after that may have any pages: it
	// was imported, or the server was restored from another backup. Servers give a new
	// file a new tablespace id otherwise. File systems that do not record it leave it to
	// the sums to tell.
	Began time.Time
	// Has reports whether the base has the file of a tablespace; of the system tablespace
	// it is the one of that name.
	Has  func(id innodb.SpaceID, name string) bool
	Temp func() (disk.File, error) // for changed pages that wait for their list
	// Changed returns, of a range of a tablespace's pages, those that the server may have
	// written since the copy of the base began, page 0 among them, as ascending runs. The
	// others are not read. nil: all are read.
	Changed func(id innodb.SpaceID, in innodb.PageRange) iter.Seq[innodb.PageRange]
}

// Whole reports whether an increment has all pages of a file, under the name that it is
// listed by.
func (i *Increment) Whole(t *File) bool {
	return !i.Has(t.Space.ID, t.Name) || t.Born().After(i.Began)
}

// IsChanged reports whether an increment has a page of a file that the base has, too, if the
// redo log of the base begins at the checkpoint from. no is the page's number in the file.
// The page is not all zero.
func IsChanged(of *innodb.File, no innodb.PageNo, page []byte, from innodb.LSN) bool {
	lsn := innodb.HeaderLSN(page)
	// Exempt pages are written without being of an LSN, and so is the flush LSN in the
	// first page of each file of the system tablespace.
	return lsn >= from || lsn == 0 || of.Exempts(of.First+no) || no == 0 && of.ID == 0
}

// Changes is what an increment has of one file.
type Changes struct {
	Whole   bool               // it has all pages, but those that are all zero
	Partial bool               // not all pages were read: Sum is not of the file
	Size    int64              // bytes of the file
	Zero    []innodb.PageRange // of the pages that were read
	Sum     innodb.PageSum
}

// Suffixes are what follows the name of a tablespace's copy in the names of the archive's
// files: one of a full backup, two of an increment.
func (c *Copier) Suffixes() []string {
	if c.Increment == nil {
		return []string{""}
	}
	return []string{delta.ExtMeta, delta.Ext}
}

// create begins the copy of a file in the archive.
func (c *Copier) create(t *File, a *Copy) (io.WriteCloser, error) {
	if c.Increment == nil {
		return c.Create(a.Name)
	}
	meta := delta.Meta{PageSize: t.Space.Physical, Space: t.Space.ID, Flags: t.Space.Flags, HasFlags: true}
	if t.Space.Zip() {
		meta.ZipSize = t.Space.Physical
	}
	if err := c.put(a.Name+delta.ExtMeta, meta.Marshal()); err != nil {
		return nil, err
	}
	out, err := c.Create(a.Name + delta.Ext)
	if err != nil {
		return nil, err
	}
	ch := &changes{Changes: &a.Changes, of: &t.Space, from: c.Increment.From, out: out}
	// A second copy has a name of its own. Other tools' recovery does not find the base's
	// file for it.
	ch.Whole = a.Name != t.Name || c.Increment.Whole(t)
	if c.Increment.Changed != nil && !ch.Whole {
		c.choose(t)
		ch.Partial, ch.Size = true, t.Size-t.Size%int64(t.Space.Physical)
	}
	ch.pages, err = delta.NewWriter(out, t.Space.Physical, func() (delta.File, error) {
		var err error
		ch.temp, err = c.Increment.Temp()
		return ch.temp, err
	})
	return ch, err
}

// choose has only those pages of a file read that may have changed, in segments.
func (c *Copier) choose(t *File) {
	size := int64(t.Space.Physical)
	in := innodb.PageRange{First: t.Space.First, End: t.Space.First + innodb.PageNo(t.Size/size)}
	most := innodb.PageNo(SegmentSize / size)
	t.chosen = []innodb.PageRange{}
	for r := range c.Increment.Changed(t.Space.ID, in) {
		for ; r.First < r.End; r.First += most {
			t.chosen = append(t.chosen, innodb.PageRange{First: r.First - in.First, End: min(r.First+most, r.End) - in.First})
		}
	}
}

// put writes a whole small file.
func (c *Copier) put(name string, content []byte) error {
	out, err := c.Create(name)
	if err != nil {
		return err
	}
	_, err = out.Write(content)
	return errors.Join(err, out.Close())
}

// PutZero sends, for a tablespace of which the redo log makes every page, a file of zeros
// of so many pages, unless the archive has it.
func (c *Copier) PutZero(t *File, pages int) error {
	a, isNew := c.Registry.Add(t, 0)
	if !isNew {
		return nil
	}
	if t.Space.Physical == 0 {
		t.Space.Physical = c.PageSize
	}
	out, err := c.create(t, a)
	if err != nil {
		return err
	}
	_, err = out.Write(make([]byte, pages*c.PageSize))
	return errors.Join(err, out.Close())
}

// changes takes the pages of one file, front to back, and sends those that changed.
type changes struct {
	*Changes
	of    *innodb.File
	from  innodb.LSN
	next  innodb.PageNo // counted from the start of the file: the number of the next page
	pages *delta.Writer
	out   io.WriteCloser
	temp  disk.File // nil: there is none
}

// Write takes whole pages.
func (c *changes) Write(data []byte) (int, error) {
	size := c.of.Physical
	for at := 0; at < len(data); at += size {
		if err := c.page(data[at : at+size]); err != nil {
			return at, err
		}
	}
	return len(data), nil
}

func (c *changes) page(page []byte) error {
	no := c.next
	if c.next++; !c.Partial {
		c.Size += int64(len(page))
	}
	if innodb.AllZero(page) {
		return c.zero(no, page)
	}
	if !c.of.Exempts(c.of.First + no) {
		c.Sum.Toggle(no, page, &c.of.Space)
	}
	if c.Whole || IsChanged(c.of, no, page, c.from) {
		return c.pages.Add(no, page)
	}
	return nil
}

// zero notes a page that is all zero, which the base's need not be: the server may have
// freed the page and punched a hole, or the page may be of a file that was truncated.
func (c *changes) zero(no innodb.PageNo, page []byte) error {
	if c.Whole {
		return nil
	}
	last := len(c.Zero) - 1
	switch {
	case last >= 0 && c.Zero[last].End == no:
		c.Zero[last].End++
	case last+1 < metadata.MaxZeroRanges:
		c.Zero = append(c.Zero, innodb.PageRange{First: no, End: no + 1})
	default:
		return c.pages.Add(no, page)
	}
	return nil
}

// Close ends the file.
func (c *changes) Close() error {
	return errors.Join(c.pages.Close(), c.out.Close(), c.release())
}

// release gives the temporary file back.
func (c *changes) release() error {
	if c.temp == nil {
		return nil
	}
	temp := c.temp
	c.temp = nil
	return temp.Close()
}
