package replay

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"sync/atomic"

	"hb/source/innodb"
	"hb/stream/disk"
)

// Tablespace is a tablespace of the directory that is recovered.
type Tablespace struct {
	// Space is what page 0 says. Of a deferred one only ID is set.
	Space innodb.Space
	// Files are its files in order, relative to the directory; all but the last
	// have a fixed size.
	Files []File
	// Deferred: page 0 was not written yet when it was copied, or the file does
	// not exist: page 0 comes from the log, and the file is created if need be.
	Deferred bool
	// Unlogged: pages of it were written without redo after the log began them.
	Unlogged bool
	// MinSize is how long its last file must be at least, in bytes.
	MinSize int64
}

// File is one file of a tablespace.
type File struct {
	Path  string
	Pages innodb.PageNo // of all but the last file: its fixed size
}

// Name is how messages name the tablespace.
func (t *Tablespace) Name() string {
	if len(t.Files) == 0 {
		return fmt.Sprintf("tablespace %d", t.Space.ID)
	}
	return t.Files[0].Path
}

// openSpace is a tablespace whose files are open. Whoever works on it holds a
// reference; the last one to release it syncs and closes the files. It syncs
// even if it wrote nothing: an interrupted recovery may have.
type openSpace struct {
	*Tablespace
	files []disk.File
	refs  atomic.Int32
	sum   innodb.Checksum // of page 0, by which pages that begin anew are stamped
}

// openTablespace opens the files for reading and writing.
func openTablespace(root disk.Dir, t *Tablespace) (*openSpace, error) {
	s := &openSpace{Tablespace: t}
	s.refs.Store(1)
	for _, file := range t.Files {
		flags := os.O_RDWR
		if t.Deferred {
			flags |= os.O_CREATE
		}
		f, err := root.OpenFile(file.Path, flags, 0o660)
		if errors.Is(err, fs.ErrNotExist) && t.Deferred {
			err = fmt.Errorf("%w (its database directory is missing)", err)
		}
		if err != nil {
			return nil, errors.Join(fmt.Errorf("opening a tablespace: %w", err), s.release())
		}
		s.files = append(s.files, f)
	}
	return s, nil
}

func (s *openSpace) hold() *openSpace {
	s.refs.Add(1)
	return s
}

func (s *openSpace) release() error {
	if s.refs.Add(-1) > 0 {
		return nil
	}
	var errs []error
	for i, f := range s.files {
		if err := f.Sync(); err != nil {
			errs = append(errs, fmt.Errorf("syncing %s: %w", s.Files[i].Path, err))
		}
		errs = append(errs, f.Close())
	}
	return errors.Join(errs...)
}

// locate returns the file that holds a page, and the number of that file's
// first page.
func (s *openSpace) locate(no innodb.PageNo) (file int, first innodb.PageNo) {
	for file < len(s.Files)-1 && no-first >= s.Files[file].Pages {
		first += s.Files[file].Pages
		file++
	}
	return file, first
}

// readPages reads consecutive pages of one file; what is behind the end of the
// file is zero: an extension that the log will write.
func (s *openSpace) readPages(buf []byte, no innodb.PageNo) error {
	file, first := s.locate(no)
	n, err := s.files[file].ReadAt(buf, int64(no-first)*int64(s.Space.Physical))
	if err == io.EOF {
		clear(buf[n:])
		err = nil
	}
	if err != nil {
		return fmt.Errorf("reading page %d of %s: %w", no, s.Files[file].Path, err)
	}
	return nil
}

func (s *openSpace) writePages(buf []byte, no innodb.PageNo) error {
	file, first := s.locate(no)
	if _, err := s.files[file].WriteAt(buf, int64(no-first)*int64(s.Space.Physical)); err != nil {
		return fmt.Errorf("writing page %d of %s: %w", no, s.Files[file].Path, err)
	}
	return nil
}

// minPages is the size in pages of innodb_page_size below which no tablespace
// file is (FIL_IBD_FILE_INITIAL_SIZE).
const minPages = 4

// resize makes the tablespace at least, or with cut exactly, pages long. Only
// the last file changes.
func (s *openSpace) resize(pages uint32, cut, extents bool) error {
	last, first := s.locate(innodb.PageNo(pages))
	if last != len(s.Files)-1 {
		if cut {
			return fmt.Errorf("%s: the log cuts the tablespace to %d pages, which is not within its last file", s.Name(), pages)
		}
		return nil
	}
	f, name := s.files[last], s.Files[last].Path
	want := (int64(pages) - int64(first)) * int64(s.Space.Physical)
	if !cut {
		// As servers extend files (fil_space_extend_must_retry): in multiples of
		// 4096 bytes, smaller pages behind that being left to their first write;
		// but not below the four pages that they want to see when they open it.
		want = max(want&^4095, minPages*int64(s.Space.Logical), s.MinSize)
	}
	if extent := int64(s.Space.ExtentPages()) * int64(s.Space.Physical); extents && want > extent {
		want = (want + extent - 1) / extent * extent
	}
	st, err := f.Stat()
	if err != nil {
		return fmt.Errorf("looking at %s: %w", name, err)
	}
	if st.Size() == want || st.Size() > want && !cut {
		return nil
	}
	if err := f.Truncate(want); err != nil {
		return fmt.Errorf("setting the size of %s to %d bytes: %w", name, want, err)
	}
	return nil
}
