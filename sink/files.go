package sink

import (
	"context"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"io/fs"
	"maps"
	"path"
	"slices"
	"sync"

	"hb/sink/replay"
	"hb/source/innodb"
	"hb/stream/disk"
	"hb/stream/progress"
	"hb/xbstream"
	"hb/xbstream/metadata"
)

// dirFile is a file of a directory that is read through.
type dirFile struct {
	path  string
	size  int64
	crc32 uint32 // of its content, once it was read
	// pages is what its pages are verified by; nil: they are not. zero: it must
	// be zero, as its page 0 is. learn, if not nil, sets these when the file is
	// open.
	pages *checkedFile
	zero  bool
	learn func(f *dirFile, file disk.File) error

	mu   sync.Mutex // of the rest, but for next
	f    disk.File
	crcs []uint32 // of its segments
	next int      // the segment that nobody has yet
	left int      // segments that were not read
}

// readSegment is how much of a file a worker reads at a time: a multiple of
// every page size.
const readSegment = 4 << 20

func (f *dirFile) segments() int { return max(1, int((f.size+readSegment-1)/readSegment)) }

// listFiles lists the files of a directory, and directories without any. A
// lost+found, as in a new file system, is no part of a backup.
func listFiles(root disk.Dir) (files []*dirFile, empty []string, err error) {
	var walk func(dir string) error
	walk = func(dir string) error {
		entries, err := root.ReadDir(dir)
		if err != nil {
			return fmt.Errorf("listing the backup directory: %w", err)
		}
		if len(entries) == 0 && dir != "." {
			empty = append(empty, dir)
		}
		for _, e := range entries {
			name := path.Join(dir, e.Name())
			switch {
			case name == "lost+found":
				continue
			case e.IsDir():
				if err := walk(name); err != nil {
					return err
				}
				continue
			}
			st, err := root.Lstat(name)
			if err != nil {
				return fmt.Errorf("listing the backup directory: %w", err)
			}
			if !st.Mode().IsRegular() {
				return &NotBackupError{root.Name(), fmt.Sprintf("%s is no regular file (%v): no backup holds such", name, st.Mode().Type())}
			}
			files = append(files, &dirFile{path: name, size: st.Size()})
		}
		return nil
	}
	return files, empty, walk(".")
}

// reading is several goroutines that read files through.
type reading struct {
	root  disk.Dir
	phase *progress.Phase
	mu    sync.Mutex
	todo  []*dirFile // the first may be partly given out
	done  []*dirFile // opened, to be closed after an error
}

// readFiles reads files through, as fast as several goroutines can, for their
// CRC-32 and their pages.
func readFiles(ctx context.Context, root disk.Dir, files []*dirFile, parallel int, m *progress.Meter) error {
	var total int64
	for _, f := range files {
		total += f.size
	}
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	r := &reading{root: root, phase: m.Begin("reading all files", total), todo: files}
	var wg sync.WaitGroup
	for range parallel {
		wg.Go(func() {
			buf := make([]byte, readSegment)
			for ctx.Err() == nil {
				f, segment := r.take()
				if f == nil {
					return
				}
				if err := r.read(f, segment, buf); err != nil {
					cancel(err)
				}
			}
		})
	}
	wg.Wait()
	err := context.Cause(ctx)
	for _, f := range r.done {
		if f.f != nil {
			err = errors.Join(err, f.f.Close())
		}
	}
	return err
}

// take returns the next segment.
func (r *reading) take() (*dirFile, int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(r.todo) == 0 {
		return nil, 0
	}
	f := r.todo[0]
	if f.next == 0 {
		f.left = f.segments()
		f.crcs = make([]uint32, f.left)
		r.done = append(r.done, f)
	}
	segment := f.next
	if f.next++; f.next == len(f.crcs) {
		r.todo = r.todo[1:]
	}
	return f, segment
}

// open opens a file for the first of its readers.
func (f *dirFile) open(root disk.Dir) (disk.File, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.f == nil {
		file, err := root.Open(f.path)
		if err != nil {
			return nil, err
		}
		f.f = file
		if f.learn != nil {
			if err := f.learn(f, file); err != nil {
				return nil, err
			}
		}
	}
	return f.f, nil
}

func (r *reading) read(f *dirFile, segment int, buf []byte) error {
	file, err := f.open(r.root)
	if err != nil {
		return err
	}
	off := int64(segment) * readSegment
	buf = buf[:min(readSegment, f.size-off)]
	if _, err := io.ReadFull(io.NewSectionReader(file, off, int64(len(buf))), buf); err != nil {
		if err == io.EOF {
			err = io.ErrUnexpectedEOF
		}
		return fmt.Errorf("reading %s: %w", f.path, err)
	}
	if err := f.check(buf, off); err != nil {
		return err
	}
	r.phase.Add(int64(len(buf)))
	return f.finish(segment, crc32.ChecksumIEEE(buf))
}

// check verifies the pages in a segment.
func (f *dirFile) check(data []byte, off int64) error {
	if f.zero && !innodb.AllZero(data) {
		return &DamageError{f.path, errPage0Lost}
	}
	if f.pages == nil {
		return nil
	}
	whole := len(data) - len(data)%f.pages.Physical
	if err := f.pages.check(data[:whole], off); err != nil {
		return err
	}
	return f.pages.checkTail(data[whole:], off+int64(whole))
}

// finish notes that a segment was read, and closes the file behind the last
// one.
func (f *dirFile) finish(segment int, crc uint32) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.crcs[segment] = crc
	if f.left--; f.left > 0 {
		return nil
	}
	f.crc32 = 0
	for i, crc := range f.crcs {
		f.crc32 = xbstream.CombineCRC32(f.crc32, crc, min(readSegment, f.size-int64(i)*readSegment))
	}
	f.crcs = nil
	err := f.f.Close()
	f.f = nil
	if err != nil {
		return fmt.Errorf("reading %s: %w", f.path, err)
	}
	return nil
}

// manifestOf reads the manifest in a directory.
func manifestOf(root disk.Dir) (files map[string]metadata.File, err error) {
	f, err := root.Open(metadata.ManifestName)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, missing("%s is missing: the backup is incomplete, or was not extracted to its end", metadata.ManifestName)
	}
	if err != nil {
		return nil, fmt.Errorf("opening the manifest: %w", err)
	}
	files = make(map[string]metadata.File)
	p := metadata.NewManifestParser(nil, func(f metadata.File) error {
		if _, twice := files[f.Path]; twice {
			return fmt.Errorf("it lists %q twice", f.Path)
		}
		files[f.Path] = f
		return nil
	})
	_, err = io.Copy(p, f)
	if err := errors.Join(err, f.Close()); err != nil {
		return nil, err
	}
	if err := p.Close(); err != nil {
		return nil, &DamageError{metadata.ManifestName, err}
	}
	return files, nil
}

// matchManifest makes sure that a directory holds the manifest's files and no
// other, by name and size. The files' content is yet to be read.
func matchManifest(root disk.Dir, files []*dirFile, empty []string, listed map[string]metadata.File) error {
	extra := func(name string) error {
		return &NotBackupError{root.Name(), fmt.Sprintf("%s is there, but not in %s: move it out of the backup", name, metadata.ManifestName)}
	}
	found := make(map[string]bool, len(files))
	for _, f := range files {
		found[f.path] = true
		want, ok := listed[f.path]
		switch {
		case f.path == metadata.ManifestName || f.path == ApplyingName+extTemporary || f.path == replay.SpillName:
		case !ok:
			return extra(f.path)
		case f.size != want.Size:
			return &DamageError{f.path, fmt.Errorf("it has %d bytes, %d by the manifest", f.size, want.Size)}
		}
	}
	if len(empty) > 0 {
		return extra(empty[0])
	}
	for _, name := range slices.Sorted(maps.Keys(listed)) {
		if !found[name] {
			return missing("%s is missing: it is in the manifest; extract the backup again", name)
		}
	}
	return nil
}

// matchContent compares files that were read with the manifest.
func matchContent(files []*dirFile, listed map[string]metadata.File) error {
	for _, f := range files {
		if want, ok := listed[f.path]; ok && f.crc32 != want.CRC32 {
			return &DamageError{f.path, fmt.Errorf("its checksum is %08x, %08x by the manifest", f.crc32, want.CRC32)}
		}
	}
	return nil
}

// checkNames makes sure that a directory holds what was extracted, by name and
// size.
func checkNames(root disk.Dir) (files []*dirFile, listed map[string]metadata.File, err error) {
	if listed, err = manifestOf(root); err != nil {
		return nil, nil, err
	}
	files, empty, err := listFiles(root)
	if err != nil {
		return nil, nil, err
	}
	return files, listed, matchManifest(root, files, empty, listed)
}
