package oracle

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"hb/xbstream/innodb"
)

// FilesOf lists the files of a directory for which is holds, by relative name.
func FilesOf(dir string, is func(name string, size int64) bool) (out []string, err error) {
	return out, filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() {
			return err
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		name, err := filepath.Rel(dir, path)
		if err == nil && is(name, info.Size()) {
			out = append(out, name)
		}
		return err
	})
}

// IsPages reports whether a file consists of InnoDB's pages.
func IsPages(name string) bool {
	base := filepath.Base(name)
	return filepath.Ext(base) == ".ibd" || filepath.Ext(base) == ".ibu" || strings.HasPrefix(base, "ibdata") || strings.HasPrefix(base, "undo")
}

// SameTablespaces compares the files of pages in two directories: those that came
// back whole, and those that came back although they had been hurt. With latched,
// pages may differ as laterStamps says. What a page holds that is free means nothing: an
// undo tablespace that the log truncates may have pages from before it (MariaDB).
func SameTablespaces(whole, hurt string, latched bool) error {
	names, err := FilesOf(whole, func(name string, _ int64) bool { return IsPages(name) })
	if err != nil {
		return err
	}
	for _, name := range names {
		x, err := os.ReadFile(filepath.Join(whole, name))
		if err != nil {
			return err
		}
		y, err := os.ReadFile(filepath.Join(hurt, name))
		if errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("%s is missing", name)
		}
		if err != nil {
			return err
		}
		if bytes.Equal(x, y) {
			continue
		}
		if x, y := withoutFree(x, y); !bytes.Equal(x, y) && !(latched && laterStamps(x, y)) {
			return fmt.Errorf("%s is another%s", name, FirstDifference(name, whole, hurt))
		}
	}
	return nil
}

// SameUserFiles compares the files that a chain restored with those of a full backup, in
// the directories of users' databases. Pages may differ in their LSN (see laterStamps), in
// their checksum, and in whether they are stored compressed: hb apply writes what it
// changes as it is, and what has to be changed depends on the checkpoint. What a page
// holds that is free means nothing: MySQL 5.7 writes one that it used while it built an
// index without redo, and has freed since, when it pleases (seen with the page that such
// a build copied to the root).
func SameUserFiles(a, b string) error {
	users := func(name string, _ int64) bool {
		db := filepath.Dir(name)
		return db != "." && !slices.Contains([]string{"mysql", "sys", "performance_schema", "#innodb_redo", "#innodb_temp"}, db)
	}
	names, err := FilesOf(a, users)
	others, err2 := FilesOf(b, users)
	if err = errors.Join(err, err2); err != nil {
		return err
	}
	slices.Sort(names)
	slices.Sort(others)
	if !slices.Equal(names, others) {
		return fmt.Errorf("the chain restores the files %q, and a full backup %q", names, others)
	}
	for _, name := range names {
		x, err := os.ReadFile(filepath.Join(a, name))
		y, err2 := os.ReadFile(filepath.Join(b, name))
		if err = errors.Join(err, err2); err != nil {
			return err
		}
		if !bytes.Equal(x, y) && !sameContents(x, y) {
			return fmt.Errorf("the chain restores another %s than a full backup%s", name, FirstDifference(name, a, b))
		}
	}
	return nil
}

// sameContents reports whether two files of pages have the same contents.
func sameContents(a, b []byte) bool {
	space, err := innodb.ParseSpace(a)
	if err != nil || len(a) != len(b) || len(a)%space.Physical != 0 {
		return false
	}
	a, b = withoutFree(a, b)
	for size := space.Physical; len(a) > 0; a, b = a[size:], b[size:] {
		if !bytes.Equal(a[:size], b[:size]) && !sameContent(&space, a[:size], b[:size]) {
			return false
		}
	}
	return true
}

// withoutFree returns two files of one length, without what pages hold that differ and are
// free in both by the page maps.
func withoutFree(a, b []byte) (x, y []byte) {
	useA, err := usageOf(a)
	useB, err2 := usageOf(b)
	if errors.Join(err, err2) != nil || len(a) != len(b) {
		return a, b
	}
	x, y = bytes.Clone(a), bytes.Clone(b)
	for at, size := 0, useA.pageSize; at+size <= len(a); at += size {
		if no := innodb.PageNo(at / size); !bytes.Equal(a[at:][:size], b[at:][:size]) && useA.isFree(no) && useB.isFree(no) {
			clear(x[at:][:size])
			clear(y[at:][:size])
		}
	}
	return x, y
}

// usage is which pages of a file are in use.
type usage struct {
	*innodb.Usage
	pageSize int // bytes
}

func usageOf(file []byte) (*usage, error) {
	space, err := innodb.ParseSpace(file)
	if err != nil || len(file) < space.Physical {
		return nil, errors.Join(err, errors.New("there is no page 0"))
	}
	use, err := innodb.NewUsage(&space, func(page []byte, no innodb.PageNo) error {
		copy(page, file[min(len(file), int(no)*len(page)):])
		return nil
	})
	return &usage{use, space.Physical}, err
}

func (u *usage) isFree(no innodb.PageNo) bool {
	used, err := u.InUse(no)
	return err == nil && !used
}

// sameContent reports whether two pages have the same content.
func sameContent(space *innodb.Space, a, b []byte) bool {
	x, err := plainPage(space, a)
	y, err2 := plainPage(space, b)
	return err == nil && err2 == nil && bytes.Equal(x, y)
}

// plainPage is a page that is not compressed any more, without LSN and checksums.
func plainPage(space *innodb.Space, page []byte) ([]byte, error) {
	plain := bytes.Clone(page)
	var err error
	switch {
	case space.PageCompressed && space.Compressed(page):
		err = space.Decompress(plain, page)
	case space.Packed(page):
		err = innodb.Unpack(plain, page)
	}
	clearStamps(space, plain)
	clear(plain[26:34]) // MySQL leaves there how the page was compressed
	return plain, err
}

// clearStamps takes LSN and checksums out of a page.
func clearStamps(space *innodb.Space, page []byte) {
	clear(page[:4])    // checksum
	clear(page[16:24]) // LSN
	if !space.Zip() {
		clear(page[len(page)-8:]) // checksum and LSN again
	}
}

// laterStamps reports whether two files of pages differ only in that pages of the
// first have a later LSN, and therefore another checksum.
//
// MySQL stamps each page that a mini-transaction latched for writing, also one that
// it did not change: when a page is split, its left sibling. The redo log has no
// record of such a page. Where the log makes a page that is not in the file, the page
// gets the LSN of its last record; where a copy of the page is in the file, it may
// have a later one (9.7.4; seen with mini-transactions that split page 321 and
// stamped page 320).
func laterStamps(later, earlier []byte) bool {
	space, err := innodb.ParseSpace(later)
	if err != nil || len(later) != len(earlier) || len(later)%space.Physical != 0 {
		return false
	}
	for ; len(later) > 0; later, earlier = later[space.Physical:], earlier[space.Physical:] {
		x, y := bytes.Clone(later[:space.Physical]), bytes.Clone(earlier[:space.Physical])
		if bytes.Equal(x, y) {
			continue
		}
		if innodb.HeaderLSN(x) <= innodb.HeaderLSN(y) || innodb.HeaderLSN(y) == 0 {
			return false
		}
		clearStamps(&space, x)
		clearStamps(&space, y)
		if !bytes.Equal(x, y) {
			return false
		}
	}
	return true
}
