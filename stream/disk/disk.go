// Package disk is the file system as hb uses it: directories and files behind
// interfaces, so that tests can make any operation fail (package disktest).
// Nothing but the system's own calls is behind them in hb itself: [OS].
//
// A [Dir] keeps to the directory that was opened, as an os.Root does: no name leads
// outside of it, not even through links. Errors are those of package os.
package disk

import (
	"errors"
	"io"
	"io/fs"
	"os"
	"syscall"
)

// System reaches files by their paths.
type System interface {
	Mkdir(path string, perm fs.FileMode) error
	Open(path string) (File, error)
	// OpenRegular opens a regular file to read it, and nothing else: it does not wait
	// for the other end of a pipe, and follows a symbolic link at the end of the
	// path only if links is set. The error is ErrNotRegular, or that of the
	// system for a link (ELOOP).
	OpenRegular(path string, links bool) (File, error)
	// OpenDir opens a directory. The error for a file is syscall.ENOTDIR.
	OpenDir(path string) (Dir, error)
	ReadDir(path string) ([]fs.DirEntry, error)
	Stat(path string) (fs.FileInfo, error)
	// Statx is Stat with all that Linux knows, such as when the file was made. It
	// fails on other systems.
	Statx(path string) (Facts, error)
	// Lstatx is Statx of a symbolic link itself.
	Lstatx(path string) (Facts, error)
	Readlink(path string) (string, error)
	// Temp makes a temporary file in a directory: without a name where the file
	// system can, else its name is removed at once.
	Temp(dir string) (File, error)
}

// Dir is an open directory. The methods are those of os.Root; ReadDir sorts by
// name.
type Dir interface {
	// Name is the path that it was opened by.
	Name() string
	OpenDir(name string) (Dir, error)
	Open(name string) (File, error)
	OpenFile(name string, flag int, perm fs.FileMode) (File, error)
	ReadFile(name string) ([]byte, error)
	ReadDir(name string) ([]fs.DirEntry, error)
	Stat(name string) (fs.FileInfo, error)
	Lstat(name string) (fs.FileInfo, error)
	Readlink(name string) (string, error)
	Mkdir(name string, perm fs.FileMode) error
	MkdirAll(name string, perm fs.FileMode) error
	Rename(from, to string) error
	Link(from, to string) error
	Symlink(target, name string) error
	Remove(name string) error
	RemoveAll(name string) error
	FS() fs.FS
	Close() error
}

// File is an open file. The methods are those of os.File, and some system calls
// that those lack.
type File interface {
	io.Reader
	io.Writer
	io.ReaderAt
	io.WriterAt
	io.Closer
	// ReadAtOnce is ReadAt of data that nobody needs again soon: the pages that it
	// brings into the page cache do not stay there, and earlier ones do, as far as
	// the system can distinguish them.
	ReadAtOnce(p []byte, off int64) (int, error)
	Name() string
	Stat() (fs.FileInfo, error)
	Statx() (Facts, error)
	Truncate(size int64) error
	Sync() error
	Chown(uid, gid int) error
	// Lock takes a write lock on the whole file, which belongs to the open
	// file and ends with it. The error is ErrLocked if anyone else has one. On
	// Linux servers take the same; on other systems only hb is known to.
	Lock() error
	// Unlock takes that lock away. Closing does so only when no process has the
	// open file any more, and a process that is being started has all of this one's.
	Unlock() error
	// StartWriteback lets the disk begin with n bytes at off. It promises
	// nothing: Sync returns the result.
	StartWriteback(off, n int64)
}

// Facts are the results of Statx. Times are nanoseconds since 1970.
type Facts struct {
	Mode              fs.FileMode // only the type
	Dev, Ino          uint64      // together they are one file's
	Links             uint64      // names that the file has; 0: it was removed, and lives as long as it is open
	Size              int64       // in bytes
	Modified, Changed int64
	Born              int64 // 0: the file system does not record it
}

// ErrNotRegular says that something else than a file with data has a file's name.
var ErrNotRegular = errors.New("it is not a regular file")

// ErrLocked says that a file is locked by another process.
var ErrLocked = errors.New("it is in use by another process")

// SyncDir makes the names in a directory durable, where that can be asked for.
func SyncDir(d Dir, name string) error { return sync(d.Open(name)) }

// SyncPath is SyncDir of a directory by its path.
func SyncPath(s System, path string) error { return sync(s.Open(path)) }

func sync(f File, err error) error {
	if err != nil {
		return err
	}
	return errors.Join(syncNames(f), f.Close())
}

// OS is the operating system.
var OS System = system{}

type system struct{}

func (system) Mkdir(path string, perm fs.FileMode) error { return os.Mkdir(path, perm) }

func (system) Open(path string) (File, error) { return opened(os.Open(path)) }

func (system) OpenRegular(path string, links bool) (File, error) {
	f, err := os.OpenFile(path, os.O_RDONLY|openFlags(links), 0)
	if err != nil {
		return nil, err
	}
	st, err := f.Stat()
	if err == nil && !st.Mode().IsRegular() {
		err = &fs.PathError{Op: "open", Path: path, Err: ErrNotRegular}
	}
	if err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return file{f}, nil
}

func (system) OpenDir(path string) (Dir, error) {
	root, err := os.OpenRoot(path)
	if err != nil {
		// os reports this only in the text of its error.
		if st, e := os.Stat(path); e == nil && !st.IsDir() {
			err = &fs.PathError{Op: "open", Path: path, Err: syscall.ENOTDIR}
		}
		return nil, err
	}
	return newDir(root), nil
}

func (system) ReadDir(path string) ([]fs.DirEntry, error) { return os.ReadDir(path) }

func (system) Readlink(path string) (string, error) { return os.Readlink(path) }

func (system) Stat(path string) (fs.FileInfo, error) { return os.Stat(path) }

func (system) Temp(dir string) (File, error) {
	if f, err := unnamed(dir); err == nil {
		return file{f}, nil
	}
	f, err := os.CreateTemp(dir, "hb-spool-*")
	if err != nil {
		return nil, err
	}
	if err := os.Remove(f.Name()); err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return file{f}, nil
}

// dir is a Dir of the operating system.
type dir struct{ *os.Root }

func (d dir) Open(name string) (File, error) { return opened(d.Root.Open(name)) }

func (d dir) OpenFile(name string, flag int, perm fs.FileMode) (File, error) {
	return opened(d.Root.OpenFile(name, flag, perm))
}

func (d dir) OpenDir(name string) (Dir, error) {
	root, err := d.OpenRoot(name)
	if err != nil {
		return nil, err
	}
	return newDir(root), nil
}

func (d dir) ReadDir(name string) ([]fs.DirEntry, error) { return fs.ReadDir(d.FS(), name) }

// file is a File of the operating system.
type file struct{ *os.File }

func opened(f *os.File, err error) (File, error) {
	if err != nil {
		return nil, err
	}
	return file{f}, nil
}
