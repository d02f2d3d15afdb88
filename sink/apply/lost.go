package apply

import (
	"errors"
	"fmt"
	"io"
	"path"
	"strings"

	"hb/sink/backupdir"
	"hb/sink/replay"
	"hb/stream/disk"
	"hb/xbstream/innodb"
)

// noteLost warns of pages of tables that are in use and zero now that all records are
// applied: their content was lost on the server. hb backup notices most of them; it
// cannot where the server changed the page map since the checkpoint and may write pages
// without redo (MySQL up to 5.7, MariaDB 10.5). To look at all pages would take as long
// as hb verify does. But hb extract leaves holes for pages that are zero, and recovery
// writes those that the log makes: what is still in a hole is found without reading. A
// directory without holes is left to hb verify.
//
// It is a warning and no failure, as nobody knows what tablespaces of very old servers
// have. The system tablespace, of which that is known, is left to hb verify, too.
func (t *tablespaces) noteLost(root disk.Dir) error {
	const most = 5
	var lost []string
	for _, s := range t.all {
		if path.Ext(s.Name()) != backupdir.ExtTable {
			continue
		}
		n, first, err := lostPages(root, s)
		if page, ok := errors.AsType[*innodb.PageError](err); ok {
			return &backupdir.DamageError{File: s.Name(), Err: page}
		}
		if err != nil {
			return fmt.Errorf("looking for lost pages in %s: %w", s.Name(), err)
		}
		if n > 0 {
			lost = append(lost, fmt.Sprintf("%s (page %d, of %d)", s.Name(), first, n))
		}
	}
	if len(lost) == 0 {
		return nil
	}
	more := ""
	if n := len(lost) - most; n > 0 {
		more = fmt.Sprintf(" and %d more", n)
	}
	t.warnings = append(t.warnings, fmt.Sprintf("pages are in use and zero, so that their content was lost on the server, before the backup or during it: "+
		"%s%s: check these tables (CHECK TABLE) before you rely on them", strings.Join(lost[:min(len(lost), most)], ", "), more))
	return nil
}

// lostPages returns how many pages in holes of a table's file are in use, and the first
// one.
func lostPages(root disk.Dir, s *replay.Tablespace) (n int, first innodb.PageNo, err error) {
	f, err := root.Open(s.Name())
	if err != nil {
		return 0, 0, err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	var use *innodb.Usage
	var space innodb.Space
	var page []byte
	for from, to := range disk.Holes(f) {
		if use == nil {
			if space, err = backupdir.ReadSpace(root, s.Name()); err != nil {
				return 0, 0, err
			}
			page = make([]byte, space.Physical)
			if use, err = innodb.NewUsage(&space, func(page []byte, no innodb.PageNo) error { return readPage(f, page, no) }); err != nil {
				return 0, 0, err
			}
		}
		size := int64(space.Physical)
		for no := (from + size - 1) / size; (no+1)*size <= to; no++ {
			used, err := use.InUse(innodb.PageNo(no))
			if err == nil && used {
				err = readPage(f, page, innodb.PageNo(no))
			}
			if err != nil {
				return 0, 0, err
			}
			if !used || !innodb.AllZero(page) {
				continue
			}
			if n++; n == 1 {
				first = innodb.PageNo(no)
			}
		}
	}
	return n, first, nil
}

// readPage reads a page of a file. What is past its end is zero.
func readPage(f disk.File, page []byte, no innodb.PageNo) error {
	n, err := f.ReadAt(page, int64(no)*int64(len(page)))
	if err == io.EOF {
		clear(page[n:])
		err = nil
	}
	return err
}
