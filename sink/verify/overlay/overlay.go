// Package overlay is a directory for trying things out: its files have the content of
// files elsewhere, and writes to them go into one temporary file without a name. So
// hb verify looks at a backup, and rehearses its recovery, with the code that
// recovers it, and nothing of the backup is changed.
package overlay

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math/rand/v2"
	"os"
	"path"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"hb/stream/disk"
)

// Content is what a file held before anything was written to it.
type Content interface {
	io.ReaderAt
	io.Closer
}

// Dir is the directory, or one in it: a disk.Dir.
type Dir struct {
	*tree
	root *node
	name string
}

// tree is what all directories of one overlay share.
type tree struct {
	mu    sync.Mutex // of all names
	store store
}

// New returns an empty directory, which messages call name. What is written
// goes to a temporary file in tmp, which is made when it is needed. The caller
// keeps tmp open until Discard.
func New(name string, tmp disk.Dir) *Dir {
	return &Dir{tree: &tree{store: store{dir: tmp}}, root: newDir(), name: name}
}

func newDir() *node { return &node{mode: fs.ModeDir | 0o700, entries: make(map[string]*node)} }

// Add puts a file into the directory, and makes the directories that it is in.
// open is called whenever the file is opened; what is after the content, up to
// size, is zero. A file of the same name is replaced.
func (d *Dir) Add(name string, size int64, open func() (Content, error)) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	dir, err := d.makeDirs(path.Dir(name))
	if err != nil {
		return err
	}
	dir.entries[path.Base(name)] = &node{mode: 0o600, size: size, based: size, open: open}
	return nil
}

// AddBytes is Add of a file whose first bytes are given, and the rest zero.
func (d *Dir) AddBytes(name string, size int64, b []byte) error {
	return d.Add(name, size, func() (Content, error) { return content(b), nil })
}

// content is a Content in memory.
type content []byte

func (c content) ReadAt(p []byte, off int64) (int, error) {
	if off >= int64(len(c)) {
		return 0, io.EOF
	}
	n := copy(p, c[off:])
	if n < len(p) {
		return n, io.EOF
	}
	return n, nil
}

func (content) Close() error { return nil }

// Written returns how many bytes the temporary file has.
func (d *Dir) Written() int64 {
	d.store.mu.Lock()
	defer d.store.mu.Unlock()
	return d.store.size
}

// Discard throws all writes away. All files must be closed before.
func (d *Dir) Discard() error { return d.store.close() }

// Close ends the use of the directory; open files stay open.
func (d *Dir) Close() error { return nil }

// Name is what messages call the directory.
func (d *Dir) Name() string { return d.name }

// OpenDir is that of a disk.Dir.
func (d *Dir) OpenDir(name string) (disk.Dir, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	n := d.find(name)
	if n == nil || !n.mode.IsDir() {
		return nil, fail("open", name, fs.ErrNotExist)
	}
	return &Dir{d.tree, n, path.Join(d.name, name)}, nil
}

// node is a file or a directory.
type node struct {
	mode    fs.FileMode
	entries map[string]*node // of a directory
	target  string           // of a symlink

	mu      sync.RWMutex
	open    func() (Content, error) // nil: a file that was made here
	size    int64
	based   int64 // how far the content counts
	written []extent
}

// extent is a run of bytes that was written: n at off, which are in the store
// at at.
type extent struct{ off, n, at int64 }

func (e extent) end() int64 { return e.off + e.n }

// store is the temporary file.
type store struct {
	dir disk.Dir

	mu   sync.Mutex
	f    disk.File
	size int64
}

// alloc returns where in the file n bytes can be put.
func (s *store) alloc(n int64) (int64, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.f == nil {
		f, err := Temporary(s.dir)
		if err != nil {
			return 0, fmt.Errorf("making a temporary file in %s: %w", s.dir.Name(), err)
		}
		s.f = f
	}
	at := s.size
	s.size += n
	return at, nil
}

// file returns the file, after an alloc.
func (s *store) file() disk.File {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.f
}

func (s *store) close() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.f == nil {
		return nil
	}
	err := s.f.Close()
	s.f = nil
	return err
}

// Temporary makes a file without a name in dir.
func Temporary(dir disk.Dir) (disk.File, error) {
	for {
		name := "hb-tmp-" + strconv.FormatUint(rand.Uint64(), 36)
		f, err := dir.OpenFile(name, os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o600)
		if errors.Is(err, fs.ErrExist) {
			continue
		}
		if err == nil {
			if err = dir.Remove(name); err != nil {
				err = errors.Join(err, f.Close())
			}
		}
		if err != nil {
			return nil, err
		}
		return f, nil
	}
}

// fail is the error of an operation on a name.
func fail(op, name string, err error) error { return &fs.PathError{Op: op, Path: name, Err: err} }

// find returns the node of a name, or nil. d.mu is held.
func (d *Dir) find(name string) *node {
	n := d.root
	if name == "." {
		return n
	}
	for part := range strings.SplitSeq(path.Clean(name), "/") {
		if n = n.entries[part]; n == nil {
			return nil
		}
	}
	return n
}

// makeDirs finds a directory, and makes it and those above it if need be. d.mu
// is held.
func (d *Dir) makeDirs(name string) (*node, error) {
	n := d.root
	if name == "." {
		return n, nil
	}
	for part := range strings.SplitSeq(path.Clean(name), "/") {
		next := n.entries[part]
		if next == nil {
			next = newDir()
			n.entries[part] = next
		}
		if !next.mode.IsDir() {
			return nil, fail("mkdir", name, errors.New("a file has that name"))
		}
		n = next
	}
	return n, nil
}

// MkdirAll is that of os.Root.
func (d *Dir) MkdirAll(name string, _ fs.FileMode) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	_, err := d.makeDirs(name)
	return err
}

// Mkdir is that of os.Root.
func (d *Dir) Mkdir(name string, _ fs.FileMode) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	parent := d.find(path.Dir(name))
	switch {
	case parent == nil:
		return fail("mkdir", name, fs.ErrNotExist)
	case parent.entries[path.Base(name)] != nil:
		return fail("mkdir", name, fs.ErrExist)
	}
	_, err := d.makeDirs(name)
	return err
}

// Open is that of os.Root.
func (d *Dir) Open(name string) (disk.File, error) { return d.OpenFile(name, os.O_RDONLY, 0) }

// OpenFile is that of os.Root.
func (d *Dir) OpenFile(name string, flag int, _ fs.FileMode) (disk.File, error) {
	n, err := d.entry(name, flag)
	if err != nil {
		return nil, fail("open", name, err)
	}
	f := &file{node: n, store: &d.store, name: path.Join(d.name, name)}
	if n.open != nil {
		if f.content, err = n.open(); err != nil {
			return nil, err
		}
	}
	if flag&os.O_TRUNC != 0 {
		if err := f.Truncate(0); err != nil {
			return nil, errors.Join(err, f.Close())
		}
	}
	return f, nil
}

// entry returns the node to open, and makes it if asked to.
func (d *Dir) entry(name string, flag int) (*node, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	n := d.find(name)
	switch {
	case n != nil && flag&os.O_EXCL != 0:
		return nil, fs.ErrExist
	case n != nil && n.mode.Type() == fs.ModeSymlink:
		return nil, syscall.ELOOP
	case n != nil:
		return n, nil
	case flag&os.O_CREATE == 0:
		return nil, fs.ErrNotExist
	}
	parent := d.find(path.Dir(name))
	if parent == nil || !parent.mode.IsDir() {
		return nil, fs.ErrNotExist
	}
	n = &node{mode: 0o600}
	parent.entries[path.Base(name)] = n
	return n, nil
}

// ReadFile is that of os.Root.
func (d *Dir) ReadFile(name string) ([]byte, error) {
	f, err := d.Open(name)
	if err != nil {
		return nil, err
	}
	b, err := io.ReadAll(f)
	return b, errors.Join(err, f.Close())
}

// ReadDir is that of a disk.Dir.
func (d *Dir) ReadDir(name string) ([]fs.DirEntry, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	n := d.find(name)
	if n == nil || !n.mode.IsDir() {
		return nil, fail("open", name, fs.ErrNotExist)
	}
	out := make([]fs.DirEntry, 0, len(n.entries))
	for base, entry := range n.entries {
		out = append(out, fs.FileInfoToDirEntry(entry.info(base)))
	}
	slices.SortFunc(out, func(a, b fs.DirEntry) int { return strings.Compare(a.Name(), b.Name()) })
	return out, nil
}

// Stat is that of os.Root.
func (d *Dir) Stat(name string) (fs.FileInfo, error) {
	st, err := d.Lstat(name)
	if err == nil && st.Mode().Type() == fs.ModeSymlink {
		return nil, fail("stat", name, syscall.ELOOP)
	}
	return st, err
}

// Lstat is that of os.Root.
func (d *Dir) Lstat(name string) (fs.FileInfo, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	n := d.find(name)
	if n == nil {
		return nil, fail("lstat", name, fs.ErrNotExist)
	}
	return n.info(path.Base(name)), nil
}

// Readlink is that of os.Root.
func (d *Dir) Readlink(name string) (string, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	n := d.find(name)
	switch {
	case n == nil:
		return "", fail("readlink", name, fs.ErrNotExist)
	case n.mode.Type() != fs.ModeSymlink:
		return "", fail("readlink", name, fs.ErrInvalid)
	}
	return n.target, nil
}

// Symlink is that of os.Root. The link leads nowhere: to open it is an
// error, as with a link to itself.
func (d *Dir) Symlink(target, name string) error {
	return d.enter("symlink", name, &node{mode: fs.ModeSymlink | 0o777, target: target})
}

// Link is that of os.Root.
func (d *Dir) Link(from, to string) error {
	d.mu.Lock()
	n := d.find(from)
	d.mu.Unlock()
	if n == nil {
		return fail("link", from, fs.ErrNotExist)
	}
	return d.enter("link", to, n)
}

// enter gives a node a name that must be free.
func (d *Dir) enter(op, name string, n *node) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	parent := d.find(path.Dir(name))
	switch {
	case parent == nil || !parent.mode.IsDir():
		return fail(op, name, fs.ErrNotExist)
	case parent.entries[path.Base(name)] != nil:
		return fail(op, name, fs.ErrExist)
	}
	parent.entries[path.Base(name)] = n
	return nil
}

// Rename is that of os.Root: nothing happens where both names are one file's.
func (d *Dir) Rename(from, to string) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	n, source, target := d.find(from), d.find(path.Dir(from)), d.find(path.Dir(to))
	if n == nil || target == nil {
		return fail("rename", from, fs.ErrNotExist)
	}
	if target.entries[path.Base(to)] == n {
		return nil
	}
	delete(source.entries, path.Base(from))
	target.entries[path.Base(to)] = n
	return nil
}

// Remove is that of os.Root.
func (d *Dir) Remove(name string) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	n := d.find(name)
	switch {
	case n == nil:
		return fail("remove", name, fs.ErrNotExist)
	case len(n.entries) > 0:
		return fail("remove", name, errors.New("it is not empty"))
	}
	delete(d.find(path.Dir(name)).entries, path.Base(name))
	return nil
}

// RemoveAll is that of os.Root.
func (d *Dir) RemoveAll(name string) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if parent := d.find(path.Dir(name)); parent != nil {
		delete(parent.entries, path.Base(name))
	}
	return nil
}

// FS is that of os.Root.
func (d *Dir) FS() fs.FS { return fsys{d} }

// fsys is the directory as an fs.FS.
type fsys struct{ d *Dir }

func (f fsys) Open(name string) (fs.File, error)          { return f.d.Open(name) }
func (f fsys) ReadDir(name string) ([]fs.DirEntry, error) { return f.d.ReadDir(name) }
func (f fsys) Stat(name string) (fs.FileInfo, error)      { return f.d.Stat(name) }

// info is a node's description.
type info struct {
	name string
	size int64
	mode fs.FileMode
}

func (n *node) info(name string) info {
	n.mu.RLock()
	defer n.mu.RUnlock()
	return info{name, n.size, n.mode}
}

func (i info) Name() string       { return i.name }
func (i info) Size() int64        { return i.size }
func (i info) Mode() fs.FileMode  { return i.mode }
func (i info) ModTime() time.Time { return time.Time{} }
func (i info) IsDir() bool        { return i.mode.IsDir() }
func (i info) Sys() any           { return nil }
