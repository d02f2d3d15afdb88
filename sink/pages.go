package sink

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"sync"

	"hb/source/innodb"
)

// DamageError says what is wrong with a file of a backup: a page, the redo log,
// or its sum in the manifest.
type DamageError struct {
	File string // of the backup; "" where it is about more than one
	Err  error
}

func (e *DamageError) Error() string {
	if e.File == "" {
		return fmt.Sprintf("the backup is damaged: %v", e.Err)
	}
	return fmt.Sprintf("the backup is damaged: %s: %v", e.File, e.Err)
}

// Unwrap returns what was found.
func (e *DamageError) Unwrap() error { return e.Err }

// pageSum is what was found of pages besides that they are whole.
type pageSum struct {
	mu     sync.Mutex
	pages  int64
	newest innodb.LSN // of all pages
	file   string     // that has the newest
	no     innodb.PageNo
}

func (s *pageSum) add(o *pageSum) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.pages += o.pages
	if o.newest > s.newest {
		s.newest, s.file, s.no = o.newest, o.file, o.no
	}
}

// checkNewest makes sure that no page is newer than the backup.
func (s *pageSum) checkNewest(end innodb.LSN) error {
	if s.newest <= end {
		return nil
	}
	return &DamageError{s.file, fmt.Errorf("page %d: is of LSN %d, newer than the backup, which ends at %d", s.no, s.newest, end)}
}

// checkedFile is a file of a tablespace whose pages are verified, by several
// goroutines at a time.
type checkedFile struct {
	innodb.File
	name string
	sum  *pageSum
	// lenient: what is wrong is kept for later, when it is known whether the
	// file is one of a tablespace at all, and which pages do not count.
	lenient  bool
	mu       sync.Mutex
	suspects []*innodb.PageError
}

// maxSuspects is how many bad pages are kept of a file: more than any
// doublewrite area has (two extents of 256 pages).
const maxSuspects = 1 << 10

// check verifies whole pages that are in the file at an offset.
func (c *checkedFile) check(data []byte, off int64) error {
	sum := pageSum{file: c.name, pages: int64(len(data) / c.Physical)}
	for at := 0; at < len(data); at += c.Physical {
		page := data[at : at+c.Physical]
		if err := c.VerifyAt(page, off+int64(at)); err != nil {
			if err := c.suspect(err); err != nil {
				return err
			}
			continue
		}
		if lsn := innodb.HeaderLSN(page); lsn > sum.newest {
			no := c.First + innodb.PageNo((off+int64(at))/int64(c.Physical))
			if !c.Exempts(no) {
				sum.newest, sum.no = lsn, no
			}
		}
	}
	c.sum.add(&sum)
	return nil
}

// suspect returns what is wrong, or keeps it.
func (c *checkedFile) suspect(err error) error {
	page, ok := errors.AsType[*innodb.PageError](err)
	if !ok || !c.lenient {
		return &DamageError{c.name, err}
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.suspects) < maxSuspects {
		c.suspects = append(c.suspects, page)
	}
	return nil
}

// hopeless reports whether so much is wrong that more says nothing.
func (c *checkedFile) hopeless() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return len(c.suspects) == maxSuspects
}

// judge is for a lenient file that turned out to be a tablespace's: it returns
// the first of the suspects that count.
func (c *checkedFile) judge(exempt []innodb.PageRange) error {
	c.Exempt = exempt
	slices.SortFunc(c.suspects, func(a, b *innodb.PageError) int { return cmp.Compare(a.No, b.No) })
	for _, page := range c.suspects {
		if !c.Exempts(page.No) {
			return &DamageError{c.name, page}
		}
	}
	return nil
}

// checkTail is for what there is of a page at the end of the file.
func (c *checkedFile) checkTail(data []byte, off int64) error {
	if innodb.AllZero(data) {
		return nil
	}
	no := c.First + innodb.PageNo(off/int64(c.Physical))
	return c.suspect(&innodb.PageError{PageID: innodb.PageID{Space: c.ID, No: no}, What: "the file ends within it"})
}

var errPage0Lost = errors.New("page 0 was never written, but others were")

// pageFeed takes what comes of a file, in order, in pieces of any size and with
// holes between, and finds the pages in it.
type pageFeed struct {
	checkedFile
	pageSize int                                // innodb_page_size; 0: not known
	foreign  bool                               // the archive is not hb's
	pages    func(data []byte, off int64) error // takes whole pages, to be verified now or later

	state feedState
	why   error  // unfit: what it is
	at    int64  // how much has come
	carry []byte // the last of it, as long as it is no whole piece
	head  []byte // the first of it: SpaceHeaderSize bytes, or system pages
}

// feedState is what is known of a file.
type feedState uint8

const (
	unknown  feedState = iota
	guessing           // it does not begin with a page 0: a further file of the system tablespace has other pages
	isSpace            // what it is is known: its pages are verified
	isZero             // page 0 is not written: what it is is in the redo log
	unfit              // it is no tablespace, or its pages cannot be verified
)

// systemHead is how many pages are kept of the system tablespace: up to that of
// the transaction system.
const systemHead = int(innodb.TrxSysPage) + 1

// piece is how many bytes are looked at together, 1 if it does not matter.
func (f *pageFeed) piece() int {
	switch f.state {
	case unknown:
		return innodb.MaxPageSize
	case guessing:
		return f.pageSize
	case isSpace:
		return f.Physical
	}
	return 1
}

// feed takes the piece of the file at an offset.
func (f *pageFeed) feed(off int64, data []byte) error {
	if off < f.at {
		f.giveUp(errors.New("the archive goes back in it"))
		return nil
	}
	for f.at < off {
		if err := f.hole(off - f.at); err != nil {
			return err
		}
	}
	return f.take(data)
}

// hole takes zeros, n of them or fewer.
func (f *pageFeed) hole(n int64) error {
	size := int64(f.piece())
	if len(f.carry) == 0 && n >= size && f.state != unknown {
		f.at += n - n%size // zero pages are valid
		return nil
	}
	return f.take(zeroPage[:min(n, size-int64(len(f.carry)))])
}

var zeroPage [innodb.MaxPageSize]byte

func (f *pageFeed) take(data []byte) error {
	f.keepHead(data)
	for len(data) > 0 {
		size := f.piece()
		if len(f.carry) > 0 || len(data) < size {
			n := min(size-len(f.carry), len(data))
			f.carry = append(f.carry, data[:n]...)
			f.at, data = f.at+int64(n), data[n:]
			if len(f.carry) == size {
				whole := f.carry
				f.carry = nil
				if err := f.look(whole, f.at-int64(size)); err != nil {
					return err
				}
			}
			continue
		}
		n := size
		if f.state != unknown && f.state != guessing {
			n = len(data) - len(data)%size
		}
		at := f.at
		f.at += int64(n)
		var err error
		if f.state == isSpace {
			err = f.pages(data[:n], at)
		} else {
			err = f.look(data[:n], at)
		}
		if err != nil {
			return err
		}
		data = data[n:]
	}
	return nil
}

// keepHead keeps the first bytes of the file.
func (f *pageFeed) keepHead(data []byte) {
	most := innodb.SpaceHeaderSize
	if f.lenient {
		most = systemHead * cmp.Or(f.pageSize, innodb.MaxPageSize)
	}
	if f.state != unfit && int64(len(f.head)) == f.at && len(f.head) < most {
		f.head = append(f.head, data[:min(len(data), most-len(f.head))]...)
	}
}

// look takes a piece that is in one, or all that there is of it at the end.
func (f *pageFeed) look(data []byte, off int64) error {
	switch f.state {
	case unknown:
		if err := f.identify(data); err != nil {
			return err
		}
		return f.lookPages(data, off)
	case guessing:
		f.guess(data, off)
		if f.state == isSpace {
			return f.check(data, off)
		}
	case isSpace:
		return f.check(data, off)
	case isZero:
		if !f.foreign && !innodb.AllZero(data) {
			return &DamageError{f.name, errPage0Lost}
		}
	}
	return nil
}

// lookPages looks once more at the beginning of the file, now that it is known
// what that is.
func (f *pageFeed) lookPages(data []byte, off int64) error {
	for len(data) > 0 {
		size := f.piece()
		if size == 1 {
			return f.look(data, off)
		}
		if len(data) < size {
			f.carry = append(f.carry, data...)
			return nil
		}
		if err := f.look(data[:size], off); err != nil {
			return err
		}
		data, off = data[size:], off+int64(size)
	}
	return nil
}

// identify learns what the file is from its beginning.
func (f *pageFeed) identify(first []byte) error {
	space, err := innodb.ParseSpace(first)
	header := first[:min(len(first), innodb.SpaceHeaderSize)]
	switch {
	case innodb.AllZero(header) || f.lenient && innodb.Blank(header):
		err = innodb.ErrZeroHeader
	case err == nil && len(first) < space.Physical:
		err = fmt.Errorf("the file ends within page 0, after %d bytes", len(first))
	}
	switch {
	case err == nil && space.Encrypted():
		f.giveUp(errors.New("it is encrypted"))
		return nil
	case err == nil:
		f.Space, f.state = space, isSpace
		if f.lenient && space.ID != 0 {
			f.head = f.head[:innodb.SpaceHeaderSize]
		}
	case f.lenient && f.pageSize != 0:
		f.state = guessing
	case errors.Is(err, innodb.ErrZeroHeader):
		f.state = isZero
	case f.lenient:
		f.giveUp(err)
	default:
		return &DamageError{f.name, fmt.Errorf("page 0: %w", err)}
	}
	return nil
}

// guess learns from a page that a file which does not begin with page 0 is a
// further one of the system tablespace, or that it is none.
func (f *pageFeed) guess(page []byte, off int64) {
	if innodb.AllZero(page) || off == 0 && innodb.Blank(page) {
		return
	}
	if len(page) < f.pageSize {
		f.giveUp(fmt.Errorf("it ends within a page, after %d bytes", off+int64(len(page))))
		return
	}
	no, before := innodb.HeaderPageNo(page), innodb.PageNo(off/int64(f.pageSize))
	var why error
	for _, full := range []bool{true, false} {
		space, err := innodb.PlainSpace(f.pageSize, full)
		if err == nil {
			_, err = space.Verify(page, no)
		}
		if err == nil && no > before {
			f.Space, f.First, f.state = space, no-before, isSpace
			f.head = nil
			return
		}
		why = err
	}
	f.giveUp(cmp.Or(why, error(&innodb.PageError{PageID: innodb.PageID{No: before}, What: fmt.Sprintf("says it is page %d", no)})))
}

func (f *pageFeed) giveUp(why error) {
	f.state, f.why = unfit, why
	f.carry, f.head = nil, f.head[:min(len(f.head), innodb.SpaceHeaderSize)]
}

// end looks at what is left at the end of the file.
func (f *pageFeed) end() error {
	rest := f.carry
	f.carry = nil
	off := f.at - int64(len(rest))
	if f.state == unknown {
		if err := f.identify(rest); err != nil {
			return err
		}
		if err := f.lookPages(rest, off); err != nil {
			return err
		}
		rest, f.carry = f.carry, nil
	}
	switch f.state {
	case isSpace:
		return f.checkTail(rest, f.at)
	case guessing:
		f.guess(rest, off)
	}
	return nil
}
