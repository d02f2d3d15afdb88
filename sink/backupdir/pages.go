package backupdir

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"sync"

	"hb/xbstream/innodb"
	"hb/xbstream/innodb/tde"
	"hb/xbstream/keyring"
)

func (e *DamageError) Error() string {
	if e.File == "" {
		return fmt.Sprintf("the backup is damaged: %v", e.Err)
	}
	return fmt.Sprintf("the backup is damaged: %s: %v", e.File, e.Err)
}

// Unwrap returns the findings.
func (e *DamageError) Unwrap() error { return e.Err }

// PageSum is what was found about valid pages.
type PageSum struct {
	mu     sync.Mutex
	Pages  int64
	Tally  innodb.Tally
	newest innodb.LSN // of all pages
	file   string     // that has the newest
	no     innodb.PageNo
}

func (s *PageSum) Add(o *PageSum) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.Pages += o.Pages
	s.Tally.Add(o.Tally)
	if o.newest > s.newest {
		s.newest, s.file, s.no = o.newest, o.file, o.no
	}
}

// CheckNewest makes sure that no page is newer than the backup.
func (s *PageSum) CheckNewest(end innodb.LSN) error {
	if s.newest <= end {
		return nil
	}
	return &DamageError{s.file, fmt.Errorf("page %d: is of LSN %d, newer than the backup, which ends at %d", s.no, s.newest, end)}
}

// CheckedFile is a file of a tablespace whose pages are verified, by several
// goroutines at a time.
type CheckedFile struct {
	innodb.File
	Name string
	Sum  *PageSum
	// lenient: faults are kept for later, when it is known whether the
	// file is one of a tablespace at all, and which pages do not count.
	Lenient  bool
	mu       sync.Mutex
	suspects []*innodb.PageError
}

// maxSuspects is how many bad pages are kept of a file: more than any
// doublewrite area has (two extents of 256 pages).
const maxSuspects = 1 << 10

// Check verifies whole pages that are in the file at an offset.
func (c *CheckedFile) Check(data []byte, off int64) error {
	sum := PageSum{file: c.Name, Pages: int64(len(data) / c.Physical)}
	for at := 0; at < len(data); at += c.Physical {
		page := data[at : at+c.Physical]
		how, err := c.VerifyAt(page, off+int64(at))
		if err != nil {
			if err := c.suspect(err); err != nil {
				return err
			}
			continue
		}
		sum.Tally.Count(&c.Space, how)
		if lsn := innodb.HeaderLSN(page); lsn > sum.newest {
			no := c.First + innodb.PageNo((off+int64(at))/int64(c.Physical))
			if !c.Exempts(no) {
				sum.newest, sum.no = lsn, no
			}
		}
	}
	c.Sum.Add(&sum)
	return nil
}

// suspect returns a fault, or keeps it.
func (c *CheckedFile) suspect(err error) error {
	page, ok := errors.AsType[*innodb.PageError](err)
	if !ok || !c.Lenient {
		return &DamageError{c.Name, err}
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.suspects) < maxSuspects {
		c.suspects = append(c.suspects, page)
	}
	return nil
}

// Hopeless reports whether there are so many faults that more mean nothing.
func (c *CheckedFile) Hopeless() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return len(c.suspects) == maxSuspects
}

// Judge is for a lenient file that turned out to be a tablespace's: it returns
// the first of the suspects that count.
func (c *CheckedFile) Judge(exempt []innodb.PageRange) error {
	c.Exempt = exempt
	slices.SortFunc(c.suspects, func(a, b *innodb.PageError) int { return cmp.Compare(a.No, b.No) })
	for _, page := range c.suspects {
		if !c.Exempts(page.No) {
			return &DamageError{c.Name, page}
		}
	}
	return nil
}

// checkTail is for what there is of a page at the end of the file.
func (c *CheckedFile) checkTail(data []byte, off int64) error {
	if innodb.AllZero(data) {
		return nil
	}
	no := c.First + innodb.PageNo(off/int64(c.Physical))
	return c.suspect(&innodb.PageError{PageID: innodb.PageID{Space: c.ID, No: no}, What: "the file ends within it"})
}

var errPage0Lost = errors.New("page 0 was never written, but others were")

// PageFeed takes the bytes of a file, in order, in pieces of any size and with
// holes between, and finds the pages in it.
type PageFeed struct {
	CheckedFile
	PageSize int                                // innodb_page_size; 0: not known
	Foreign  bool                               // the archive is not hb's
	Keys     *keyring.Keys                      // nil: encrypted pages are verified as far as that goes without
	Pages    func(data []byte, off int64) error // takes whole pages, to be verified now or later

	State feedState
	Why   error  // unfit: the reason
	at    int64  // how much has come
	Carry []byte // the last of it, until it is a whole piece
	Head  []byte // the first of it: SpaceHeaderSize bytes, or system pages
}

// feedState is what is known about a file.
type feedState uint8

const (
	unknown  feedState = iota
	Guessing           // it does not begin with a page 0: a further file of the system tablespace has other pages
	IsSpace            // it is a tablespace: its pages are verified
	IsZero             // page 0 is not written: the redo log has what it is
	Unfit              // it is not a tablespace, or its pages cannot be verified
)

// systemHead is how many pages are kept of the system tablespace: up to that of
// the transaction system.
const systemHead = int(innodb.TrxSysPage) + 1

// piece is how many bytes are looked at together, 1 if it does not matter.
func (f *PageFeed) piece() int {
	switch f.State {
	case unknown:
		return innodb.MaxPageSize
	case Guessing:
		return f.PageSize
	case IsSpace:
		return f.Physical
	}
	return 1
}

// Feed takes the piece of the file at an offset.
func (f *PageFeed) Feed(off int64, data []byte) error {
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
func (f *PageFeed) hole(n int64) error {
	size := int64(f.piece())
	if len(f.Carry) == 0 && n >= size && f.State != unknown {
		f.at += n - n%size // zero pages are valid
		return nil
	}
	return f.take(zeroPage[:min(n, size-int64(len(f.Carry)))])
}

var zeroPage [innodb.MaxPageSize]byte

func (f *PageFeed) take(data []byte) error {
	f.keepHead(data)
	for len(data) > 0 {
		size := f.piece()
		if len(f.Carry) > 0 || len(data) < size {
			n := min(size-len(f.Carry), len(data))
			f.Carry = append(f.Carry, data[:n]...)
			f.at, data = f.at+int64(n), data[n:]
			if len(f.Carry) == size {
				whole := f.Carry
				f.Carry = nil
				if err := f.look(whole, f.at-int64(size)); err != nil {
					return err
				}
			}
			continue
		}
		n := size
		if f.State != unknown && f.State != Guessing {
			n = len(data) - len(data)%size
		}
		at := f.at
		f.at += int64(n)
		var err error
		if f.State == IsSpace {
			err = f.Pages(data[:n], at)
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
func (f *PageFeed) keepHead(data []byte) {
	most := innodb.SpaceHeaderSize
	if f.Lenient {
		most = systemHead * cmp.Or(f.PageSize, innodb.MaxPageSize)
	}
	if f.State != Unfit && int64(len(f.Head)) == f.at && len(f.Head) < most {
		f.Head = append(f.Head, data[:min(len(data), most-len(f.Head))]...)
	}
}

// look takes a piece that is in one, or all that there is of it at the end.
func (f *PageFeed) look(data []byte, off int64) error {
	switch f.State {
	case unknown:
		if err := f.Identify(data); err != nil {
			return err
		}
		return f.lookPages(data, off)
	case Guessing:
		f.guess(data, off)
		if f.State == IsSpace {
			return f.Check(data, off)
		}
	case IsSpace:
		return f.Check(data, off)
	case IsZero:
		if !f.Foreign && !innodb.AllZero(data) {
			return &DamageError{f.Name, errPage0Lost}
		}
	}
	return nil
}

// lookPages looks once more at the beginning of the file, now that it is known
// what that is.
func (f *PageFeed) lookPages(data []byte, off int64) error {
	for len(data) > 0 {
		size := f.piece()
		if size == 1 {
			return f.look(data, off)
		}
		if len(data) < size {
			f.Carry = append(f.Carry, data...)
			return nil
		}
		if err := f.look(data[:size], off); err != nil {
			return err
		}
		data, off = data[size:], off+int64(size)
	}
	return nil
}

// Identify finds out from its beginning what the file is.
func (f *PageFeed) Identify(first []byte) error {
	space, err := innodb.ParseSpace(first)
	header := first[:min(len(first), innodb.SpaceHeaderSize)]
	switch {
	case innodb.AllZero(header) || f.Lenient && innodb.Blank(header):
		err = innodb.ErrZeroHeader
	case err == nil && len(first) < space.Physical:
		err = fmt.Errorf("the file ends within page 0, after %d bytes", len(first))
	}
	switch {
	case err == nil:
		if f.Keys != nil {
			if space.Cipher, err = tde.OpenToVerify(&space, first, f.Keys); err != nil {
				return fmt.Errorf("%s: %w", f.Name, err)
			}
		}
		f.Space, f.State = space, IsSpace
		if f.Lenient && space.ID != 0 {
			f.Head = f.Head[:innodb.SpaceHeaderSize]
		}
	case f.Lenient && f.PageSize != 0:
		f.State = Guessing
	case errors.Is(err, innodb.ErrZeroHeader):
		f.State = IsZero
	case f.Lenient:
		f.giveUp(err)
	default:
		return &DamageError{f.Name, fmt.Errorf("page 0: %w", err)}
	}
	return nil
}

// guess learns from a page that a file which does not begin with page 0 is a
// further one of the system tablespace.
func (f *PageFeed) guess(page []byte, off int64) {
	if innodb.AllZero(page) || off == 0 && innodb.Blank(page) {
		return
	}
	if len(page) < f.PageSize {
		f.giveUp(fmt.Errorf("it ends within a page, after %d bytes", off+int64(len(page))))
		return
	}
	no, before := innodb.HeaderPageNo(page), innodb.PageNo(off/int64(f.PageSize))
	var why error
	for _, full := range []bool{true, false} {
		space, err := innodb.PlainSpace(f.PageSize, full)
		if err == nil {
			// Its page 0, which says so, is in another file.
			space.Encryption.Present = full
			_, err = space.Verify(page, no)
		}
		if err != nil && !full {
			space.Encryption.Present = true
			_, err = space.Verify(page, no)
		}
		if err == nil && no > before {
			f.Space, f.First, f.State = space, no-before, IsSpace
			f.Head = nil
			return
		}
		why = err
	}
	f.giveUp(cmp.Or(why, error(&innodb.PageError{PageID: innodb.PageID{No: before}, What: fmt.Sprintf("says it is page %d", no)})))
}

func (f *PageFeed) giveUp(why error) {
	f.State, f.Why = Unfit, why
	f.Carry, f.Head = nil, f.Head[:min(len(f.Head), innodb.SpaceHeaderSize)]
}

// End checks the rest at the end of the file.
func (f *PageFeed) End() error {
	rest := f.Carry
	f.Carry = nil
	off := f.at - int64(len(rest))
	if f.State == unknown {
		if err := f.Identify(rest); err != nil {
			return err
		}
		if err := f.lookPages(rest, off); err != nil {
			return err
		}
		rest, f.Carry = f.Carry, nil
	}
	switch f.State {
	case IsSpace:
		return f.checkTail(rest, f.at)
	case Guessing:
		f.guess(rest, off)
	}
	return nil
}
