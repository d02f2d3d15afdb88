package overlay

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"slices"

	"hb/stream/disk"
)

// file is an open file, a disk.File.
type file struct {
	*node
	store   *store
	name    string
	content Content // nil: none
	at      int64   // of Read and Write
}

func (f *file) Name() string { return f.name }

func (f *file) Stat() (fs.FileInfo, error) { return f.info(f.name), nil }

// Statx fails: nobody made the file.
func (f *file) Statx() (disk.Facts, error) {
	return disk.Facts{}, fail("statx", f.name, errors.ErrUnsupported)
}

func (f *file) Close() error {
	if f.content == nil {
		return nil
	}
	return f.content.Close()
}

// Sync has nothing to do: all is thrown away.
func (f *file) Sync() error { return nil }

func (f *file) Chown(int, int) error { return nil }

// Lock has nothing to do: nobody else has the file.
func (f *file) Lock() error { return nil }

func (f *file) Unlock() error { return nil }

func (f *file) StartWriteback(int64, int64) {}

func (f *file) Read(p []byte) (int, error) {
	n, err := f.ReadAt(p, f.at)
	f.at += int64(n)
	if n > 0 && err == io.EOF {
		err = nil
	}
	return n, err
}

func (f *file) Write(p []byte) (int, error) {
	n, err := f.WriteAt(p, f.at)
	f.at += int64(n)
	return n, err
}

// after returns the first extent that ends after off. They are in order.
func after(list []extent, off int64) int {
	i, _ := slices.BinarySearchFunc(list, off, func(e extent, off int64) int {
		if e.end() <= off {
			return -1
		}
		return 1
	})
	return i
}

// span is the part of length bytes at off that is in one extent, or in none; at
// is where that is, or -1.
func span(list []extent, off, length int64) (size, at int64) {
	i := after(list, off)
	if i == len(list) {
		return length, -1
	}
	if e := list[i]; e.off <= off {
		return min(length, e.end()-off), e.at + off - e.off
	}
	return min(length, list[i].off-off), -1
}

// ReadAtOnce is ReadAt.
func (f *file) ReadAtOnce(p []byte, off int64) (int, error) { return f.ReadAt(p, off) }

func (f *file) ReadAt(p []byte, off int64) (int, error) {
	f.mu.RLock()
	defer f.mu.RUnlock()
	if off >= f.size {
		return 0, io.EOF
	}
	want := int(min(int64(len(p)), f.size-off))
	for n := 0; n < want; {
		size, at := span(f.written, off+int64(n), int64(want-n))
		part := p[n : n+int(size)]
		var err error
		if at >= 0 {
			_, err = f.store.file().ReadAt(part, at)
		} else {
			err = f.readContent(part, off+int64(n))
		}
		if err != nil {
			return n, err
		}
		n += int(size)
	}
	if want < len(p) {
		return want, io.EOF
	}
	return want, nil
}

// readContent reads what nothing was written over.
func (f *file) readContent(p []byte, off int64) error {
	n := 0
	if f.content != nil && off < f.based {
		var err error
		n, err = f.content.ReadAt(p[:min(int64(len(p)), f.based-off)], off)
		if err != nil && err != io.EOF {
			return err
		}
	}
	clear(p[n:])
	return nil
}

func (f *file) WriteAt(p []byte, off int64) (int, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.mode.IsDir() {
		return 0, fail("write", f.name, errors.New("it is a directory"))
	}
	for n := 0; n < len(p); {
		size, at := span(f.written, off+int64(n), int64(len(p)-n))
		fresh := at < 0
		if fresh {
			var err error
			if at, err = f.store.alloc(size); err != nil {
				return n, err
			}
		}
		if _, err := f.store.file().WriteAt(p[n:n+int(size)], at); err != nil {
			return n, fmt.Errorf("writing a temporary file in %s: %w (give another place with --tmpdir)", f.store.dir.Name(), err)
		}
		if fresh {
			f.note(extent{off + int64(n), size, at})
		}
		n += int(size)
	}
	f.size = max(f.size, off+int64(len(p)))
	return len(p), nil
}

// note enters an extent that was written where nothing was.
func (n *node) note(e extent) {
	i := after(n.written, e.off)
	if i > 0 {
		if before := &n.written[i-1]; before.end() == e.off && before.at+before.n == e.at {
			before.n += e.n
			return
		}
	}
	n.written = slices.Insert(n.written, i, e)
}

func (f *file) Truncate(size int64) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if size < f.size {
		f.based = min(f.based, size)
		i := after(f.written, size)
		if i < len(f.written) && f.written[i].off < size {
			f.written[i].n = size - f.written[i].off
			i++
		}
		f.written = f.written[:i]
	}
	f.size = size
	return nil
}

var (
	_ disk.Dir  = (*Dir)(nil)
	_ disk.File = (*file)(nil)
)
