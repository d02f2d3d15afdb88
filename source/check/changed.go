package check

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"math/rand/v2"
	"slices"
	"strconv"

	"hb/source/datadir"
	"hb/source/pages"
	"hb/source/since"
	"hb/source/subject"
	"hb/stream/disk"
	"hb/xbstream/innodb"
)

// changes is what an increment has of the tablespaces. Which pages changed only their LSNs
// tell, and to read all pages is most of the work of a backup, so that a sample has to do:
// also where the server lists them, as only one program at a time may ask it for the list.
type changes struct {
	bytes  int64 // of all tablespaces
	looked int   // pages of the sample
	hits   int   // of these, those that the increment has
	dirty  int64 // bytes of pages that the server has changed and not written yet

	changed []picked // the hits
}

// picked are pages of one file, by their numbers in it.
type picked struct {
	of      *pages.File
	numbers []int64
}

const (
	// changeSample is how many pages the sample has: that of one byte at random from each of
	// as many equal parts of all tablespaces. They tell 1 % from 0.5 % or 2 %, wherever the
	// changes are.
	changeSample = 4096
	// deviations is how many standard deviations above the estimate its bound is, which one
	// sample in 700 exceeds.
	deviations = 3
)

// share returns the part of the pages that changed, and a bound of it.
func (c *changes) share() (about, most float64) {
	if c.looked == 0 {
		return 0, 1
	}
	n := float64(c.looked)
	about = float64(c.hits) / n
	// The upper end of Wilson's interval, which is right for few hits, too.
	const z = deviations
	return about, (about + z*z/(2*n) + z*math.Sqrt(about*(1-about)/n+z*z/(4*n*n))) / (1 + z*z/n)
}

// size returns about how many bytes of pages the increment has, and a bound of that.
func (c *changes) size() (about, most int64) {
	p, q := c.share()
	return int64(p * float64(c.bytes)), min(int64(q*float64(c.bytes))+c.dirty, c.bytes)
}

// String describes the bytes of pages.
func (c *changes) String() string {
	p, q := c.share()
	return fmt.Sprintf("of pages that changed since the base (%.3g%% of %d that hb looked at, so at most %.3g%% of all)", p*100, c.looked, q*100)
}

// measureChanges takes the sample, of the system tablespace and of those listed.
func measureChanges(ctx context.Context, s *subject.Subject, tablespaces []datadir.File) (*changes, error) {
	files, err := s.Inventory.System(ctx, s.Layout.System)
	if err != nil {
		return nil, err
	}
	look, err := s.Inventory.Look(ctx, tablespaces)
	if err != nil {
		return nil, err
	}
	c := new(changes)
	if err := c.sample(ctx, s.Disk, append(files, look.Files...), s.Increment()); err != nil {
		return nil, err
	}
	const status = "Innodb_buffer_pool_pages_dirty"
	counts, err := s.Server.Control.Status(ctx, status)
	if err != nil {
		return nil, err
	}
	dirty, err := strconv.ParseInt(counts[status], 10, 64)
	c.dirty = dirty * int64(s.PageSize)
	return c, err
}

// sample looks at pages from all over the files.
func (c *changes) sample(ctx context.Context, system disk.System, files []*pages.File, increment *pages.Increment) error {
	for _, f := range files {
		c.bytes += f.Size
	}
	parts := min(c.bytes, changeSample)
	part, pick := int64(0), int64(0)
	next := func() { // sets pick, a byte of all files one after the other
		first, end := c.bytes/parts*part, c.bytes/parts*(part+1)
		pick = first + rand.Int64N(end-first)
		part++
	}
	if parts > 0 {
		next()
	}
	at := int64(0) // the file's first byte
	for _, f := range files {
		p := picked{of: f}
		for ; pick < at+f.Size && part <= parts; next() {
			p.numbers = append(p.numbers, (pick-at)/int64(f.Space.Physical))
		}
		if err := c.look(ctx, system, p, increment); err != nil {
			return err
		}
		at += f.Size
	}
	return nil
}

// look looks at pages of a file.
func (c *changes) look(ctx context.Context, system disk.System, p picked, increment *pages.Increment) error {
	whole := increment.Whole(p.of)
	var changed []int64
	err := p.read(ctx, system, func(no int64, page []byte) error {
		c.looked++
		if !innodb.AllZero(page) && (whole || pages.IsChanged(&p.of.Space, innodb.PageNo(no), page, increment.From)) {
			changed = append(changed, no)
		}
		return nil
	})
	if c.hits += len(changed); len(changed) > 0 {
		c.changed = append(c.changed, picked{p.of, changed})
	}
	return err
}

// write writes the hits to w: they compress as the increment will.
func (c *changes) write(ctx context.Context, system disk.System, w io.Writer) error {
	for _, p := range c.changed {
		p.numbers = slices.Compact(p.numbers)
		if err := p.read(ctx, system, func(_ int64, page []byte) error {
			_, err := w.Write(page)
			return err
		}); err != nil {
			return err
		}
	}
	return nil
}

// read passes on the pages, but for those that are gone.
func (p picked) read(ctx context.Context, system disk.System, take func(no int64, page []byte) error) (err error) {
	if len(p.numbers) == 0 {
		return nil
	}
	f, err := system.OpenRegular(p.of.Path, p.of.Linked)
	if err != nil {
		return datadir.IgnoreGone(err)
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	page := make([]byte, p.of.Space.Physical)
	for _, no := range p.numbers {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		_, err := f.ReadAt(page, no*int64(len(page)))
		if err == io.EOF {
			continue
		}
		if err == nil {
			err = take(no, page)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// sentFiles leaves out files of other engines that an increment does not send, as nothing
// was written to them since the base began.
func sentFiles(base *since.Base, files []datadir.File) (sent []datadir.File) {
	var same int64
	for _, f := range files {
		if old, ok := base.At(f.Name); ok && old.Size == f.Size {
			same += f.Size
		}
	}
	if same <= since.PeersCopy {
		return files
	}
	began := base.Manifest.Start.UnixNano()
	for _, f := range files {
		if old, ok := base.At(f.Name); !ok || old.Size != f.Size || max(f.Modified, f.Changed) >= began {
			sent = append(sent, f)
		}
	}
	return sent
}
