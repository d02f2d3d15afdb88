package apply

import (
	"errors"
	"fmt"
	"io"
	"path"
	"strings"
	"unicode/utf8"

	"hb/sink/backupdir"
	"hb/sink/replay"
	"hb/stream/disk"
	"hb/xbstream/innodb"
	"hb/xbstream/innodb/tde"
	"hb/xbstream/keyring"
)

// zeroPages are the pages of tables that are in use and zero now that all records are
// applied, in files that have such pages.
type zeroPages []zeroFile

type zeroFile struct {
	space *replay.Tablespace
	lost  int           // how many of them the server had written
	first innodb.PageNo // of the lost ones
	// fresh are those that the server took into use and had not written yet when the log
	// ended. MariaDB does so when it builds an index: one mini-transaction takes a page
	// into use, and another one, once the page is full, initialises it (seen in logs of
	// 10.5.23 and 10.11.18 that end between the two).
	fresh []innodb.PageNo
}

// findZero looks for pages that are in use and zero. hb backup notices most of those
// whose content was lost; it cannot where the server changed the page map since the
// checkpoint and may write pages without redo (MySQL up to 5.7, MariaDB 10.5). To look
// at all pages would take as long as hb verify does. But hb extract leaves holes for
// pages that are zero, and recovery writes those that the log makes: what is still in a
// hole is found without reading. A directory without holes is left to hb verify.
//
// A lost page is a warning and no failure, as nobody knows what tablespaces of very old
// servers have. Of the system tablespace, of which that is known, hb notes only the pages
// that the server had not written yet. Its other pages, and all of one that has several
// files, are left to hb verify.
func (t *tablespaces) findZero(root disk.Dir, keys *keyring.Keys) (zeroPages, error) {
	var out zeroPages
	kept := 0
	for _, s := range t.all {
		if !looksInto(s) {
			continue
		}
		f := zeroFile{space: s}
		err := eachZeroPage(root, s, keys, func(no innodb.PageNo) {
			switch {
			case t.isFresh(s, no) && kept < backupdir.MaxPages:
				f.fresh = append(f.fresh, no)
				kept++
				return
			case s.Space.ID == 0:
				return
			case f.lost == 0:
				f.first = no
			}
			f.lost++
		})
		if err != nil {
			return nil, err
		}
		if f.lost > 0 || len(f.fresh) > 0 {
			out = append(out, f)
		}
	}
	return out, nil
}

// looksInto reports whether hb looks for pages that are in use and zero in a tablespace.
func looksInto(s *replay.Tablespace) bool {
	return path.Ext(s.Name()) == backupdir.ExtTable || s.Space.ID == 0 && len(s.Files) == 1
}

// isFresh reports whether a page that is in use and zero is one that the server had not
// written yet: the log drops its table, or takes the page into use and would have what
// is in it.
func (t *tablespaces) isFresh(s *replay.Tablespace, no innodb.PageNo) bool {
	id := s.Space.ID
	switch {
	case t.ignored[id]:
		return true
	case !t.rules.logged || t.changed[id] == 0:
		return false
	case t.isCreated(s):
		return true
	case t.before == nil:
		return false
	}
	for _, r := range t.before[id] {
		if r[0] <= no && no < r[1] {
			return false
		}
	}
	return true
}

// isCreated reports whether all that a tablespace holds is from the log.
func (t *tablespaces) isCreated(s *replay.Tablespace) bool {
	h := t.log.Named[s.Space.ID]
	return h != nil && h.Created && !h.Deleted && !h.Again
}

// listZero lists the pages that are in use and zero before any record is applied, in
// tablespaces that the log changes and does not create; nil: not known, as they are too
// many, or a page map is damaged. A page that is in use only after that was taken into
// use by the log.
func (t *tablespaces) listZero(root disk.Dir, keys *keyring.Keys) (map[innodb.SpaceID][]backupdir.PageRange, error) {
	out := make(map[innodb.SpaceID][]backupdir.PageRange)
	if !t.rules.logged {
		return out, nil
	}
	ranges := 0
	for _, s := range t.all {
		id := s.Space.ID
		if !looksInto(s) || s.Deferred || t.ignored[id] || t.changed[id] == 0 || t.isCreated(s) {
			continue
		}
		err := eachZeroPage(root, s, keys, func(no innodb.PageNo) {
			list := out[id]
			if n := len(list); n > 0 && list[n-1][1] == no {
				list[n-1][1]++
			} else if ranges++; ranges <= backupdir.MaxPages {
				out[id] = append(list, backupdir.PageRange{no, no + 1})
			}
		})
		if _, ok := errors.AsType[*backupdir.DamageError](err); ok || keyring.IsKeyError(err) || errors.Is(err, innodb.ErrNoKey) || ranges > backupdir.MaxPages {
			return nil, nil // whether a damaged page matters is for the recovery to say
		}
		if err != nil {
			return nil, err
		}
	}
	return out, nil
}

// warning says which tables have lost pages; "" if there are none.
func (z zeroPages) warning() string {
	const most = 5
	var lost []string
	for _, f := range z {
		if f.lost > 0 {
			lost = append(lost, fmt.Sprintf("%s (page %d, of %d)", f.space.Name(), f.first, f.lost))
		}
	}
	if len(lost) == 0 {
		return ""
	}
	more := ""
	if n := len(lost) - most; n > 0 {
		more = fmt.Sprintf(" and %d more", n)
	}
	return fmt.Sprintf("pages are in use and zero, so that their content was lost on the server, before the backup or during it: "+
		"%s%s: check these tables (CHECK TABLE) before you rely on them", strings.Join(lost[:min(len(lost), most)], ", "), more)
}

// unwritten are the pages that the server had not written yet, by file.
func (z zeroPages) unwritten() map[string][]innodb.PageNo {
	out := make(map[string][]innodb.PageNo)
	for _, f := range z {
		if name := f.space.Name(); len(f.fresh) > 0 && utf8.ValidString(name) { // JSON would change others
			out[name] = f.fresh
		}
	}
	return out
}

// warnLost warns of lost pages, if there are any.
func (a *applier) warnLost(warning string) {
	if warning != "" {
		a.result.Warnings = append(a.result.Warnings, warning)
	}
}

// warnAgain repeats what an earlier run found, whose user may not have seen it.
func (a *applier) warnAgain() error {
	left, err := backupdir.ReadApplied(a.root)
	if left != nil {
		a.warnLost(left.Lost)
	}
	return err
}

// eachZeroPage calls a function for each page in holes of a table's file that is in use.
// MySQL encrypts all pages that have descriptors but page 0.
func eachZeroPage(root disk.Dir, s *replay.Tablespace, keys *keyring.Keys, visit func(innodb.PageNo)) (err error) {
	fail := func(err error) error {
		if page, ok := errors.AsType[*innodb.PageError](err); ok {
			return &backupdir.DamageError{File: s.Name(), Err: page}
		}
		return fmt.Errorf("looking for lost pages in %s: %w", s.Name(), err)
	}
	f, err := root.Open(s.Name())
	if err != nil {
		return fail(err)
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	var use *innodb.Usage
	var space innodb.Space
	var page []byte
	for from, to := range disk.Holes(f) {
		if use == nil {
			if space, err = backupdir.ReadSpace(root, s.Name()); err != nil {
				return fail(err)
			}
			if space.Cipher, err = tde.OpenToVerify(&space, nil, keys); err != nil {
				return fail(err)
			}
			page = make([]byte, space.Physical)
			if use, err = innodb.NewUsage(&space, func(page []byte, no innodb.PageNo) error { return readPage(f, page, no) }); err != nil {
				return fail(err)
			}
		}
		size := int64(space.Physical)
		for no := (from + size - 1) / size; (no+1)*size <= to; no++ {
			used, err := use.InUse(innodb.PageNo(no))
			if err == nil && used {
				err = readPage(f, page, innodb.PageNo(no))
			}
			if err != nil {
				return fail(err)
			}
			if used && innodb.AllZero(page) {
				visit(innodb.PageNo(no))
			}
		}
	}
	return nil
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
