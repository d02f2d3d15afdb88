package replay

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"

	"hb/stream/disk"
	"hb/stream/progress"
	"hb/xbstream/innodb"
	"hb/xbstream/innodb/tde"
	"hb/xbstream/keyring"
)

// Options are how Recover works.
type Options struct {
	Root     disk.Dir // the directory
	Log      Log
	Identity Identity
	// PageSize is innodb_page_size, in bytes.
	PageSize int
	// End is where the log ends: no page may be newer.
	End innodb.LSN
	// Checksum is by what pages are stamped that the log begins, unless page 0
	// of their tablespace is by another.
	Checksum innodb.Checksum
	// Keys are those of encrypted tablespaces; nil: there are none.
	Keys *keyring.Keys
	// EncryptTables: the server encrypts tables that have no setting of their own; nil: it is
	// not known, and a page stays as it was.
	EncryptTables *bool
	// Parallel is the number of workers, at least 1. Each needs about 5 MiB.
	Parallel int
	// Tablespace returns the tablespace of an id that the plan has runs of, or
	// nil if they are to be ignored.
	Tablespace func(innodb.SpaceID) (*Tablespace, error)
	// Progress gets, for each batch, how many bytes of records were taken from
	// the plan; or nil.
	Progress *progress.Phase
}

// Result is what Recover did.
type Result struct {
	Pages   uint64 // written
	Current uint64 // read and found to be as new as the log already
	Applied uint64 // runs
}

// A batch is what a worker gets at a time: pages of one file, in order.
const (
	batchPages   = 128
	batchBytes   = 2 << 20
	batchEntries = 16 << 10
	batchRecords = 1 << 20 // bytes, or one run
)

// WorkerMemory is about what each worker needs, in bytes.
const WorkerMemory = dwSlotSize + 2*(batchEntries*entrySize+batchRecords)

// group is the part of a batch's entries that is about one page.
type group struct {
	no       innodb.PageNo
	from, to int
}

type batch struct {
	space   *openSpace
	entries []entry
	records []byte // of all entries
	groups  []group
}

func (b *batch) of(g group) []entry { return b.entries[g.from:g.to] }

// data returns the records of one of its entries.
func (b *batch) data(e *entry) []byte { return b.records[e.at:][:e.size] }

// full reports whether it can take no more entries.
func (b *batch) full() bool {
	return len(b.entries) == batchEntries || len(b.records) >= batchRecords
}

// add adds an entry with its records.
func (b *batch) add(e *entry, records []byte) {
	own := *e
	own.at = uint32(len(b.records))
	b.records = append(b.records, records...)
	b.entries = append(b.entries, own)
}

// cut takes out the entries that begin with one.
func (b *batch) cut(from int) {
	if from < len(b.entries) {
		b.records = b.records[:b.entries[from].at]
		b.entries = b.entries[:from]
	}
}

// reset empties it, and frees the memory of a long run.
func (b *batch) reset() {
	if cap(b.records) > 4*batchRecords {
		b.records = nil
	}
	b.space, b.entries, b.records, b.groups = nil, b.entries[:0], b.records[:0], b.groups[:0]
}

// recovery is one call of Recover. Its own goroutine reads the plan and fills
// batches; workers recover them.
type recovery struct {
	Options
	plan *Plan
	it   *merger
	head *entry // the next one, or nil at the end
	data []byte // its records

	ctx   context.Context
	work  chan *batch
	free  chan *batch
	solo  *worker // of the reading goroutine, for pages that cannot wait
	one   batch   // with a single entry, for solo
	batch *batch  // being filled
	taken int64   // bytes of records that Progress did not get yet

	pages, current, applied atomic.Uint64
}

// Recover applies the plan to the tablespaces and sets their sizes. The plan
// cannot be used any more afterwards.
func Recover(ctx context.Context, plan *Plan, o Options) (Result, error) {
	dw, err := openDoublewrite(o.Root, o.Identity)
	if err != nil {
		return Result{}, err
	}
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	n := max(1, o.Parallel)
	r := &recovery{Options: o, plan: plan, ctx: ctx, work: make(chan *batch), free: make(chan *batch, n+1)}
	for range n + 1 {
		r.free <- new(batch)
	}
	r.solo = r.newWorker(dw.slot(0))
	var wg sync.WaitGroup
	for i := range n {
		w := r.newWorker(dw.slot(i + 1))
		wg.Go(func() {
			for b := range r.work {
				if ctx.Err() == nil {
					if err := w.recover(b); err != nil {
						cancel(err)
					}
				}
				if err := b.space.release(); err != nil {
					cancel(err)
				}
				r.free <- b
			}
		})
	}
	if err := r.read(); err != nil {
		cancel(err)
	}
	close(r.work)
	wg.Wait()
	err = dw.f.Close()
	if cause := context.Cause(ctx); cause != nil {
		return Result{}, cause
	}
	return Result{Pages: r.pages.Load(), Current: r.current.Load(), Applied: r.applied.Load()}, err
}

func (r *recovery) advance() error {
	var err error
	r.head, r.data, err = r.it.next()
	r.taken += int64(len(r.data))
	return err
}

// read goes through the plan, tablespace by tablespace.
func (r *recovery) read() error {
	var err error
	if r.it, err = r.plan.merge(); err != nil {
		return err
	}
	if err := r.advance(); err != nil {
		return err
	}
	for r.head != nil {
		id := innodb.SpaceID(r.head.space)
		t, err := r.Tablespace(id)
		if err != nil {
			return err
		}
		if t == nil {
			for r.head != nil && innodb.SpaceID(r.head.space) == id {
				if err := r.advance(); err != nil {
					return err
				}
			}
			continue
		}
		if err := r.readSpace(t); err != nil {
			return err
		}
	}
	return nil
}

// readSpace makes batches of the runs of one tablespace.
func (r *recovery) readSpace(t *Tablespace) (err error) {
	s, err := openTablespace(r.Root, t)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, s.release()) }()
	s.sum = r.Checksum
	if t.Deferred {
		err = s.grow(minPages * int64(r.PageSize))
	} else {
		err = r.begin(s)
	}
	if err != nil {
		return err
	}
	for r.head != nil && innodb.SpaceID(r.head.space) == t.Space.ID {
		if err := r.readPage(s); err != nil {
			return err
		}
	}
	return r.submit()
}

// begin prepares for the first page of a tablespace whose geometry
// is known: a look at how its pages are stamped.
func (r *recovery) begin(s *openSpace) error {
	encrypted := s.Space.Encrypted()
	if !s.Space.FullCRC32 || encrypted {
		page := r.solo.buf[:s.Space.Physical]
		if err := s.readPages(page, 0); err != nil {
			return err
		}
		if encrypted {
			if err := r.openCipher(s, page); err != nil {
				return err
			}
		}
		// A page 0 that is bad is reported when it is needed.
		if sum, _ := s.Space.Verify(page, 0); sum != innodb.ChecksumUnset {
			s.sum = sum
		}
	}
	return nil
}

// openCipher prepares for encrypted pages.
func (r *recovery) openCipher(s *openSpace, page0 []byte) (err error) {
	if s.Space.Cipher, err = tde.Open(&s.Space, page0, r.Keys); err != nil {
		return fmt.Errorf("%s: %w", s.Name(), err)
	}
	return nil
}

// readEncryption takes from page 0, as it is at the end of the log, how the pages of a
// tablespace are encrypted: the server may have begun, or ended, to encrypt it. What the keys
// are derived from never changes.
func (r *recovery) readEncryption(s *openSpace, page0 []byte) error {
	found, err := innodb.ParseSpace(page0)
	if err != nil {
		return fmt.Errorf("%s: page 0 after recovery: %w", s.Name(), err)
	}
	if s.Space.MySQLEncrypted() || found.MySQLEncrypted() {
		return r.readMySQLEncryption(s, page0, &found)
	}
	old, now := &s.Space.Encryption, &found.Encryption
	if old.Present && (!now.Present || old.IV != now.IV || old.KeyID != now.KeyID) {
		return fmt.Errorf("%s: the redo log changes the key of the tablespace", s.Name())
	}
	s.Space.Encryption = *now
	return r.openCipher(s, page0)
}

// readMySQLEncryption is readEncryption for MySQL, which has the key of the tablespace on
// page 0. A master key that was changed is not another key of the tablespace. If a server
// decrypts a tablespace during a backup, or encrypts it with another key, hb copies that again
// (redo.FileState.Unlogged).
func (r *recovery) readMySQLEncryption(s *openSpace, page0 []byte, found *innodb.Space) error {
	if found.MySQLEncrypted() && found.MySQLInfo == [innodb.MySQLInfoSize]byte{} {
		return fmt.Errorf("%s: page 0 after recovery marks it as encrypted and has no key", s.Name())
	}
	before := s.Space.Cipher
	s.Space.Flags, s.Space.MySQLInfo, s.Space.Cipher = found.Flags, found.MySQLInfo, nil
	if err := r.openCipher(s, page0); err != nil {
		return err
	}
	if tde.HasKey(before) && !tde.SameKey(before, s.Space.Cipher) {
		return &innodb.UnsupportedError{What: s.Name() + ": the server decrypted it during the backup, or gave it another key, which hb does not apply: back up again, or prepare this backup with the tool that made it"}
	}
	return nil
}

// readPage takes the runs of one page into the batch, and hands the batch over
// when it is full.
func (r *recovery) readPage(s *openSpace) error {
	no := innodb.PageNo(r.head.page)
	if r.currentBatch().full() || !r.fits(s, no) {
		if err := r.submit(); err != nil {
			return err
		}
	}
	b := r.currentBatch()
	from := len(b.entries)
	whole, err := r.collect(b, no)
	if err != nil {
		return err
	}
	if !whole && from > 0 {
		// It may be whole in a batch of its own.
		if b, err = r.carry(b, from); err != nil {
			return err
		}
		from = 0
		if whole, err = r.collect(b, no); err != nil {
			return err
		}
	}
	begins := no == 0 && r.begins(s, r.plan.matters(b.entries[from:]))
	if s.Deferred && no != 0 && s.Space.Physical == 0 {
		return fmt.Errorf("%s: page 0 is neither in the file nor in the redo log", s.Name())
	}
	// How the other pages are encrypted is known once page 0 is recovered.
	first := no == 0 && (r.Keys != nil || s.Space.Cipher != nil)
	if !whole || begins || first || s.Space.Physical == 0 {
		err := r.alone(s, no, begins, b, from)
		b.cut(from)
		return err
	}
	b.space = s
	b.groups = append(b.groups, group{no, from, len(b.entries)})
	return nil
}

// begins reports whether page 0 with those entries is one that the log makes,
// whatever is in the file.
func (r *recovery) begins(s *openSpace, entries []entry) bool {
	return len(entries) > 0 && (entries[0].kind == Init || entries[0].kind == InitOlder && s.Deferred)
}

// fits reports whether the page can join the batch.
func (r *recovery) fits(s *openSpace, no innodb.PageNo) bool {
	b := r.currentBatch()
	if len(b.groups) == 0 {
		return true
	}
	if len(b.groups) == batchPages || (len(b.groups)+1)*s.Space.Physical > batchBytes {
		return false
	}
	file, _ := s.locate(no)
	before, _ := s.locate(b.groups[0].no)
	return file == before
}

// collect moves entries of page no of the current tablespace into the batch.
// It returns false if there are more than a batch can hold.
func (r *recovery) collect(b *batch, no innodb.PageNo) (bool, error) {
	space := r.head.space
	for r.head != nil && r.head.page == uint32(no) && r.head.space == space {
		if b.full() {
			return false, nil
		}
		b.add(r.head, r.data)
		if err := r.advance(); err != nil {
			return false, err
		}
	}
	return true, nil
}

func (r *recovery) currentBatch() *batch {
	if r.batch == nil {
		r.batch = <-r.free
		r.batch.reset()
	}
	return r.batch
}

// carry moves the entries of a batch that begin with one into the next batch, and
// submits the rest.
func (r *recovery) carry(b *batch, from int) (*batch, error) {
	next := <-r.free
	next.reset()
	for i := range b.entries[from:] {
		e := &b.entries[from+i]
		next.add(e, b.data(e))
	}
	b.cut(from)
	err := r.submit()
	r.batch = next
	return next, err
}

// submit hands the batch to a worker.
func (r *recovery) submit() error {
	r.Progress.Add(r.taken)
	r.taken = 0
	b := r.batch
	if b == nil || len(b.groups) == 0 {
		return context.Cause(r.ctx)
	}
	r.batch = nil
	b.space.hold()
	select {
	case r.work <- b:
		return nil
	case <-r.ctx.Done():
		r.free <- b
		return errors.Join(context.Cause(r.ctx), b.space.release())
	}
}

// alone recovers a page in this goroutine: one with more runs than a batch
// holds, given those at hand, which are the last ones of a batch; or page 0 where
// the log initialises it, because the geometry of all others is in it.
func (r *recovery) alone(s *openSpace, no innodb.PageNo, begins bool, b *batch, from int) error {
	unknown := s.Space.Physical == 0
	size := s.Space.Physical
	if begins || unknown {
		size = r.PageSize // until the flags are there: it may be smaller
	}
	p := &r.solo.page
	p.reset(s, no, r.solo.buf[:size])
	if err := r.solo.apply(p, b, b.entries[from:]); err != nil {
		return err
	}
	for r.head != nil && r.head.page == uint32(no) && innodb.SpaceID(r.head.space) == s.Space.ID {
		r.one.reset()
		r.one.add(r.head, r.data)
		if err := r.solo.apply(p, &r.one, r.one.entries); err != nil {
			return err
		}
		if err := r.advance(); err != nil {
			return err
		}
	}
	if p.unfit != nil {
		return p.unfit
	}
	if unknown && !p.fresh {
		return fmt.Errorf("%s: page 0 is neither in the file nor in the redo log", s.Name())
	}
	if no == 0 && p.fresh {
		if err := s.adopt(p.image); err != nil {
			return err
		}
		p.image = p.image[:s.Space.Physical]
		if err := r.openCipher(s, p.image); err != nil {
			return err
		}
	} else if no == 0 && p.ready && p.bad == nil && !p.freed {
		if err := r.readEncryption(s, p.image); err != nil {
			return err
		}
	}
	if err := r.solo.finish(p); err != nil || !p.dirty {
		return err
	}
	return r.solo.write(s, []place{{no, 0, p.sum}})
}

// adopt takes a tablespace's geometry from a page 0 that the log made.
func (s *openSpace) adopt(page0 []byte) error {
	found, err := innodb.ParseSpace(page0)
	if err != nil {
		return fmt.Errorf("%s: page 0 in the redo log: %w", s.Name(), err)
	}
	if found.ID != s.Space.ID {
		return fmt.Errorf("%s: page 0 in the redo log is of tablespace %d, not %d", s.Name(), found.ID, s.Space.ID)
	}
	s.Space = found
	return nil
}

// SetSizes makes each tablespace at least as long as page 0 says after
// recovery, and exactly that long if it was truncated in the log. Between the
// size that it was cut to then and that which it has grown to since, pages may
// be as they were before: the servers leave them too, as nothing reads a page
// there that was not initialised. extents: beyond the first extent only whole
// ones count, as MySQL has it (fil_node_open_file).
func SetSizes(root disk.Dir, plan *Plan, tablespaces []*Tablespace, extents bool) error {
	for _, t := range tablespaces {
		if err := setSize(root, t, len(plan.Trims(t.Space.ID)) > 0, extents); err != nil {
			return err
		}
	}
	return nil
}

// Lengthen makes each tablespace long enough for all pages that the plan changes,
// as they were on the server: for one whose recovery does not do so. The plan cannot
// be used any more afterwards.
func Lengthen(root disk.Dir, plan *Plan, tablespaces []*Tablespace, extents bool) error {
	pages, err := plan.reach()
	if err != nil {
		return err
	}
	for _, t := range tablespaces {
		if pages[t.Space.ID] == 0 {
			continue
		}
		s, err := openTablespace(root, t)
		if err == nil {
			err = errors.Join(s.resize(pages[t.Space.ID], false, extents), s.release())
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// reach returns how many pages each tablespace has at least, by the pages that
// are changed.
func (p *Plan) reach() (map[innodb.SpaceID]uint32, error) {
	it, err := p.merge()
	if err != nil {
		return nil, err
	}
	pages := make(map[innodb.SpaceID]uint32)
	for {
		e, _, err := it.next()
		if err != nil || e == nil {
			return pages, err
		}
		id := innodb.SpaceID(e.space)
		pages[id] = max(pages[id], e.page+1)
	}
}

func setSize(root disk.Dir, t *Tablespace, cut, extents bool) (err error) {
	if t.Space.Physical == 0 {
		return nil // deferred, and nothing in the log either
	}
	s, err := openTablespace(root, t)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, s.release()) }()
	head := make([]byte, innodb.SpaceHeaderSize)
	if _, err := s.files[0].ReadAt(head, 0); err != nil {
		return fmt.Errorf("reading page 0 of %s: %w", s.Name(), err)
	}
	found, err := innodb.ParseSpace(head)
	if err != nil {
		return fmt.Errorf("page 0 of %s: %w", s.Name(), err)
	}
	return s.resize(found.Size, cut, extents)
}
