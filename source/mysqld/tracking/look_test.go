package tracking_test

import (
	"errors"
	"fmt"
	"hash/maphash"
	"io"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"hb/source/mysqld/tracking"
	"hb/xbstream/innodb"
)

// A page is one as a full scan sees it.
type page struct {
	lsn  innodb.LSN
	hash uint64
	zero bool
}

// An image is all pages of a server's files, by tablespace.
type image map[innodb.SpaceID][]page

var seed = maphash.MakeSeed()

// look reads all pages of a data directory, whose server may be running. It knows
// nothing of lists.
func look(t testing.TB, dir string) image {
	t.Helper()
	im := image{}
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		name := filepath.Base(path)
		switch {
		case errors.Is(err, fs.ErrNotExist):
			return nil
		case err != nil:
			return err
		case d.IsDir() && strings.HasPrefix(name, "#"):
			return fs.SkipDir
		case d.Type().IsRegular() && (strings.HasSuffix(name, ".ibd") || strings.HasSuffix(name, ".ibu") || strings.HasPrefix(name, "undo_") || name == "ibdata1"):
			return im.add(path)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return im
}

// add reads a file. A page that is being written is read again. A file that DDL removes
// or begins is left out.
func (im image) add(path string) error {
	f, err := os.Open(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	} else if err != nil {
		return err
	}
	defer f.Close()
	head := make([]byte, innodb.MaxPageSize)
	var space innodb.Space
	err = again(func() error {
		n, err := f.ReadAt(head, 0)
		if err != nil && err != io.EOF {
			return err
		}
		if space, err = innodb.ParseSpace(head[:n]); err == nil {
			_, err = space.Verify(head[:space.Physical], 0)
		}
		return err
	})
	if errors.Is(err, innodb.ErrZeroHeader) {
		return nil
	} else if err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	file := innodb.File{Space: space}
	b := make([]byte, space.Physical)
	var pages []page
	for off := int64(0); ; off += int64(len(b)) {
		end := false
		err := again(func() error {
			n, err := f.ReadAt(b, off)
			if end = err == io.EOF && n < len(b); end {
				return nil
			}
			if err != nil && err != io.EOF {
				return err
			}
			_, err = file.VerifyAt(b, off)
			return err
		})
		if err != nil {
			return fmt.Errorf("%s: %w", path, err)
		}
		if end {
			break
		}
		pages = append(pages, page{innodb.HeaderLSN(b), maphash.Bytes(seed, b), innodb.AllZero(b)})
	}
	if im[space.ID] != nil {
		return fmt.Errorf("%s: a second file of tablespace %d", path, space.ID)
	}
	im[space.ID] = pages
	return nil
}

func again(f func() error) error {
	for try := 0; ; try++ {
		err := f()
		if err == nil || try == 40 || errors.Is(err, innodb.ErrZeroHeader) {
			return err
		}
		time.Sleep(5 * time.Millisecond)
	}
}

// A verdict is what a list is worth, compared with two images.
type verdict struct {
	changed int // pages that the increment needs, by the images
	byRule  int // of these, by their LSN
	missing []innodb.PageID
	more    int // listed, and not needed
	spared  int // not listed, though the rule asks for them: the base has them as they are
}

func (v verdict) String() string {
	return fmt.Sprintf("%d changed pages, %d by their LSN, %d missing in the list (%v), %d more in the list, %d spared by it", v.changed, v.byRule, len(v.missing), v.missing[:min(len(v.missing), 20)], v.more, v.spared)
}

// judge compares a list with images of a base, whose list began at a reset and whose redo
// began at from, and of now. An increment needs of a tablespace that the base has every page
// that differs, by the rule for scans each with an LSN of from or more, or without an
// LSN. Pages that are newer than the list are in the increment's redo, but for those of
// tablespaces that were changed without it.
func judge(before, after image, list *tracking.Pages, from, reset innodb.LSN, unlogged ...innodb.SpaceID) (v verdict) {
	for _, id := range slices.Sorted(maps.Keys(after)) {
		base, known := before[id]
		for no, p := range after[id] {
			at := innodb.PageID{Space: id, No: innodb.PageNo(no)}
			rule := p.lsn >= from || p.lsn == 0 && !p.zero
			differs := no >= len(base) && !p.zero || no < len(base) && base[no].hash != p.hash
			switch {
			case !known, p.lsn >= list.Until && !slices.Contains(unlogged, id):
			case differs, p.lsn > reset:
				if v.changed++; rule {
					v.byRule++
				}
				if !list.Has(at) {
					v.missing = append(v.missing, at)
				}
			case list.Has(at):
				v.more++
			case rule:
				v.spared++
			}
		}
	}
	return v
}
