package replay

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"sync/atomic"

	"hb/stream/disk"
	"hb/xbstream/innodb"
	"hb/xbstream/innodb/tde"
	"hb/xbstream/keyring"
)

// Tablespace is a tablespace of the directory that is recovered.
type Tablespace struct {
	// Space is what page 0 has. Of a deferred one only ID is set.
	Space innodb.Space
	// Files are its files in order, relative to the directory; all but the last
	// have a fixed size.
	Files []File
	// Deferred: page 0 was not written yet when it was copied, or the file does
	// not exist: page 0 comes from the log, and the file is created if need be.
	Deferred bool
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
	sum   innodb.Checksum // of page 0, by which initialised pages are stamped
}

// openTablespace opens the files for reading and writing.
func openTablespace(root disk.Dir, t *Tablespace) (*openSpace, error) {
	s := &openSpace{Tablespace: t}
	s.refs.Store(1)
	for _, file := range t.Files {
		f, err := t.open(root, file.Path)
		if err != nil {
			return nil, errors.Join(fmt.Errorf("opening a tablespace: %w", err), s.release())
		}
		s.files = append(s.files, f)
	}
	return s, nil
}

// open opens a file, and makes it and its database's directory if the log does.
func (t *Tablespace) open(root disk.Dir, name string) (disk.File, error) {
	if !t.Deferred {
		return root.OpenFile(name, os.O_RDWR, 0)
	}
	if err := root.MkdirAll(path.Dir(name), 0o750); err != nil {
		return nil, err
	}
	return root.OpenFile(name, os.O_RDWR|os.O_CREATE, 0o660)
}

func (s *openSpace) hold() *openSpace {
	s.refs.Add(1)
	return s
}

func (s *openSpace) release() error {
	if s.refs.Add(-1) > 0 {
		return nil
	}
	err := s.sync()
	for _, f := range s.files {
		err = errors.Join(err, f.Close())
	}
	return err
}

// sync puts all that was written on disk.
func (s *openSpace) sync() error {
	var errs []error
	for i, f := range s.files {
		if err := f.Sync(); err != nil {
			errs = append(errs, fmt.Errorf("syncing %s: %w", s.Files[i].Path, err))
		}
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

// readPages reads consecutive pages of one file; a page after the end of the
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

// CheckMade makes sure that recovery made those pages of a tablespace, from one
// on, that are in use: the copy held none of them. It is to be called before
// SetSizes.
func CheckMade(root disk.Dir, t *Tablespace, from innodb.PageNo, keys *keyring.Keys) (err error) {
	s, err := openTablespace(root, t)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, s.release()) }()
	page := make([]byte, s.Space.Physical)
	if err := s.readPages(page, 0); err != nil {
		return err
	}
	head, err := innodb.ParseSpace(page)
	if err != nil {
		return fmt.Errorf("page 0 of %s: %w", s.Name(), err)
	}
	if head.Cipher, err = tde.OpenToVerify(&head, page, keys); err != nil {
		return fmt.Errorf("%s: %w", s.Name(), err)
	}
	use, err := innodb.NewUsage(&head, s.readPages)
	for no := from; err == nil && no < innodb.PageNo(head.Size); no++ {
		var used bool
		if used, err = use.InUse(no); err != nil || !used {
			continue
		}
		if err = s.readPages(page, no); err == nil && innodb.AllZero(page) {
			return fmt.Errorf("%s: page %d is in use, and neither in the file nor in the redo log: the file was cut to %d pages", s.Name(), no, from)
		}
	}
	if err != nil {
		return fmt.Errorf("looking for the missing pages of %s: %w", s.Name(), err)
	}
	return nil
}

// minPages is the size in pages of innodb_page_size below which no tablespace
// file is (FIL_IBD_FILE_INITIAL_SIZE).
const minPages = 4

// grow makes the file of a tablespace that the log creates long enough that page 0 is
// never cut off, wherever its writing is interrupted.
func (s *openSpace) grow(size int64) error {
	st, err := s.files[0].Stat()
	if err == nil && st.Size() < size {
		err = s.files[0].Truncate(size)
	}
	if err != nil {
		return fmt.Errorf("setting the size of %s to %d bytes: %w", s.Name(), size, err)
	}
	return nil
}

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
		// 4096 bytes; later writes make room for smaller pages after that;
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
