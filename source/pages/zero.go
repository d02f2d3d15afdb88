package pages

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"

	"hb/source/datadir"
	"hb/xbstream/innodb"
	"hb/xbstream/innodb/tde"
	"hb/xbstream/keyring"
)

// ZeroPage is a page of a copy that is zero although the tablespace, as it was on
// disk just then, has it in use. That is right while the server has not written the
// page yet, which the redo log then makes. If the log has no record of the page, its
// content is lost.
type ZeroPage struct {
	innodb.PageID
	Key  Key
	File datadir.File // as it was copied
	size int          // of the page, bytes
	// Listed is the LSN of the page map that marks it as in use.
	Listed innodb.LSN
}

// maxZeroPages bounds how many are kept: one that is lost suffices to fail a backup.
const maxZeroPages = 1 << 16

// usage is which pages of a file are in use, by the file's own page maps now.
type usage struct {
	mu sync.Mutex
	of *innodb.Usage // nil: not asked yet
	// gaveUp: the page map could not be read, as in a file that was cut meanwhile, or
	// without a key. Each page would wait for it again.
	gaveUp bool
	// unwritten are in use, and no server writes them.
	unwritten map[innodb.PageNo]bool
}

// ZeroPages are those of the newest copy of each file. full: there may be more.
func (c *Copier) ZeroPages() (_ []ZeroPage, full bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.zero, len(c.zero) == maxZeroPages
}

// forgetZero forgets those of a former copy of a file.
func (c *Copier) forgetZero(key Key) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.zero = slices.DeleteFunc(c.zero, func(z ZeroPage) bool { return z.Key == key })
}

// Written reports whether the server has written a page since: of the very file that
// was copied. It returns false for a file that has another name now.
func (c *Copier) Written(z ZeroPage) (_ bool, err error) {
	f, err := c.Disk.OpenRegular(z.File.Path, z.File.Linked)
	if err != nil {
		return false, datadir.IgnoreGone(err)
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	now, err := datadir.StatOpen(f, z.File)
	if err != nil || now.FileID != z.File.FileID {
		return false, err
	}
	page := make([]byte, z.size)
	if _, err := f.ReadAt(page, int64(z.No)*int64(z.size)); err != nil {
		return false, fmt.Errorf("reading page %d of %s again: %w", z.No, z.File.Path, noEOF(err))
	}
	return !innodb.AllZero(page), nil
}

// noteZero looks whether a page that is zero may be. What cannot be told now, as the
// server is writing or hb has no key, is let pass. The error is one of the system.
func (c *Copier) noteZero(ctx context.Context, t *File, no innodb.PageNo) error {
	if t.undo || t.Space.First != 0 || t.Space.Exempts(no) {
		return nil // undo tablespaces are cut and extended in place
	}
	t.usage.mu.Lock()
	defer t.usage.mu.Unlock()
	if t.usage.gaveUp {
		return nil
	}
	var used bool
	var listed innodb.LSN
	err := datadir.Retry(ctx, func() (err error) {
		if t.usage.of == nil {
			of, err := innodb.NewUsage(&t.Space.Space, t.readPage)
			if err != nil {
				return err
			}
			t.usage.unwritten, err = c.neverWritten(t)
			if t.usage.gaveUp = keyring.IsKeyError(err); t.usage.gaveUp {
				return nil
			}
			if err != nil {
				return err
			}
			t.usage.of = of
		}
		used, err = t.usage.of.InUse(no)
		listed = t.usage.of.Listed(no)
		return err
	})
	if datadir.SystemFailed(err) {
		return fmt.Errorf("reading which pages are in use: %w", err)
	}
	t.usage.gaveUp = t.usage.gaveUp || err != nil
	if t.usage.gaveUp || !used || listed == 0 || t.usage.unwritten[no] {
		return nil
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.zero) < maxZeroPages {
		c.zero = append(c.zero, ZeroPage{PageID: innodb.PageID{Space: t.Space.ID, No: no}, Key: t.Key(), File: t.File, size: t.Space.Physical, Listed: listed})
	}
	return nil
}

// readPage reads a page of the file as it is now.
func (t *File) readPage(page []byte, no innodb.PageNo) error {
	_, err := t.f.ReadAt(page, int64(no)*int64(len(page)))
	return noEOF(err)
}

// neverWritten returns the pages that are in use and that no server ever writes, which
// only the system tablespace has. Without the keys of MariaDB hb cannot tell them.
func (c *Copier) neverWritten(t *File) (map[innodb.PageNo]bool, error) {
	space := t.Space.Space
	if space.ID != 0 {
		return nil, nil
	}
	var err error
	if space.Cipher, err = tde.Open(&space, nil, c.Keys); err != nil {
		return nil, err
	}
	list, err := space.NeverWritten(t.readPage)
	pages := make(map[innodb.PageNo]bool, len(list))
	for _, no := range list {
		pages[no] = true
	}
	return pages, err
}
