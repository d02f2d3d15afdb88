package datadir

import (
	"errors"
	"io"
	"io/fs"
	"time"

	"hb/stream/disk"
)

// FileID tells files apart across renames and reuse of a name. Inode numbers
// are reused soon after a file is deleted, so that the birth time counts too
// (zero on file systems that have none).
type FileID struct {
	dev, ino uint64
	born     int64 // nanoseconds
}

// Born is when the file was made; zero: the file system does not record it.
func (f FileID) Born() time.Time {
	if f.born == 0 {
		return time.Time{}
	}
	return time.Unix(0, f.born)
}

// File is one file of a listing.
type File struct {
	Path string // on disk
	Name string // relative to the data directory, as the archive has it
	FileID
	Linked   bool // the server has it by a symbolic link
	Size     int64
	Modified int64 // nanoseconds
	Changed  int64 // nanoseconds, ctime
}

// SameContent reports whether nothing was written to the file since it was
// listed as old. A file that is written through a memory map can escape this.
func (f File) SameContent(old File) bool {
	return f.FileID == old.FileID && f.Size == old.Size &&
		f.Modified == old.Modified && f.Changed == old.Changed
}

// Stat describes the file at path, following symbolic links.
func Stat(system disk.System, path, name string) (File, error) {
	facts, err := system.Statx(path)
	if err != nil {
		return File{}, err
	}
	return newFile(path, name, facts), nil
}

// StatOpen describes the open file f, which was listed as info.
func StatOpen(f disk.File, info File) (File, error) {
	facts, err := f.Statx()
	if err != nil {
		return File{}, err
	}
	now := newFile(info.Path, info.Name, facts)
	now.Linked = info.Linked
	return now, nil
}

func newFile(path, name string, f disk.Facts) File {
	return File{
		Path: path, Name: name, Size: f.Size, Modified: f.Modified, Changed: f.Changed,
		FileID: FileID{dev: f.Dev, ino: f.Ino, born: f.Born},
	}
}

// IgnoreGone passes every error but that a file is not there any more, which
// DDL explains and the final settling notices.
func IgnoreGone(err error) error {
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}

// ReadAll reads a file, but not more than the first n bytes of it.
func ReadAll(system disk.System, path string, n int64) (_ []byte, err error) {
	f, err := system.OpenRegular(path, true)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	return io.ReadAll(io.NewSectionReader(f, 0, n))
}
