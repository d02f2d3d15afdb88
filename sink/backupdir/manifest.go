package backupdir

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
	"hb/stream/disk"
	"hb/stream/progress"
	"hb/xbstream"
	"hb/xbstream/innodb"
	"hb/xbstream/metadata"
)

// File is a file of a directory that is read through.
type File struct {
	Path  string
	Size  int64
	crc32 uint32 // of its content, once it was read
	// pages is what its pages are verified by; nil: they are not. zero: it must
	// be zero, as its page 0 is. learn, if not nil, sets these when the file is
	// open.
	Pages *CheckedFile
	Zero  bool
	Learn func(f *File, file disk.File) error
	// usage, if not nil, is which of its pages are in use: those must not be zero.
	Usage  func() (*innodb.Usage, error)
	Unused []innodb.PageNo // that are in use all the same

	mu     sync.Mutex // of the rest, except for next
	f      disk.File
	crcs   []uint32 // of its segments
	next   int      // the segment that nobody has yet
	left   int      // segments that were not read
	faulty bool     // it has a fault, which is among Faults
}

// SegmentSize is how much of a file a worker reads at a time: a multiple of
// every page size.
const SegmentSize = 4 << 20

func (f *File) segments() int { return max(1, int((f.Size+SegmentSize-1)/SegmentSize)) }

// ListFiles lists the files of a directory, and directories without any. A
// lost+found, as in a new file system, is not part of a backup, nor is what stands
// in the place of a file: the name given, or "".
func ListFiles(root disk.Dir, placeholder string) (files []*File, empty []string, err error) {
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
			case name == "lost+found", name == placeholder:
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
				return &NotBackupError{root.Name(), fmt.Sprintf("%s is not a regular file (%v); a backup holds only regular files", name, st.Mode().Type())}
			}
			files = append(files, &File{Path: name, Size: st.Size()})
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
	todo  []*File // the first may be partly given out
	done  []*File // opened, to be closed after an error
}

// ReadFiles reads files through, as fast as several goroutines can, for their
// CRC-32 and their pages. It reads all of them, whatever is wrong with some.
func ReadFiles(ctx context.Context, root disk.Dir, files []*File, parallel int, m *progress.Tracker) error {
	var total int64
	for _, f := range files {
		total += f.Size
	}
	var wrong Faults
	r := &reading{root: root, phase: m.Begin("reading all files", total), todo: files}
	var wg sync.WaitGroup
	for range parallel {
		wg.Go(func() {
			buf := make([]byte, SegmentSize)
			for ctx.Err() == nil {
				f, segment := r.take()
				if f == nil {
					return
				}
				if f.isFaulty() {
					continue
				}
				if err := r.read(f, segment, buf); err != nil {
					wrong.Of(f, err)
				}
			}
		})
	}
	wg.Wait()
	err := context.Cause(ctx)
	if err == nil {
		err = wrong.Err()
	}
	for _, f := range r.done {
		if f.f != nil {
			err = errors.Join(err, f.f.Close())
		}
	}
	return err
}

// take returns the next segment.
func (r *reading) take() (*File, int) {
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
func (f *File) open(root disk.Dir) (disk.File, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.f == nil {
		file, err := root.Open(f.Path)
		if err != nil {
			return nil, err
		}
		f.f = file
		if f.Learn != nil {
			if err := f.Learn(f, file); err != nil {
				return nil, err
			}
		}
	}
	return f.f, nil
}

func (r *reading) read(f *File, segment int, buf []byte) error {
	file, err := f.open(r.root)
	if err != nil {
		return err
	}
	off := int64(segment) * SegmentSize
	buf = buf[:min(SegmentSize, f.Size-off)]
	if _, err := io.ReadFull(io.NewSectionReader(file, off, int64(len(buf))), buf); err != nil {
		if err == io.EOF {
			err = io.ErrUnexpectedEOF
		}
		return fmt.Errorf("reading %s: %w", f.Path, err)
	}
	if err := f.check(buf, off); err != nil {
		return err
	}
	r.phase.Add(int64(len(buf)))
	return f.finish(segment, crc32.ChecksumIEEE(buf))
}

// check verifies the pages in a segment.
func (f *File) check(data []byte, off int64) error {
	if f.Zero && !innodb.AllZero(data) {
		return &DamageError{f.Path, errPage0Lost}
	}
	if f.Pages == nil {
		return nil
	}
	whole := len(data) - len(data)%f.Pages.Physical
	if err := f.Pages.Check(data[:whole], off); err != nil {
		return err
	}
	if err := f.checkUsed(data[:whole], off); err != nil {
		return err
	}
	return f.Pages.checkTail(data[whole:], off+int64(whole))
}

// checkUsed makes sure that no page is zero that is in use.
func (f *File) checkUsed(data []byte, off int64) error {
	if f.Usage == nil {
		return nil
	}
	var use *innodb.Usage
	size := f.Pages.Physical
	for at := 0; at < len(data); at += size {
		no := f.Pages.First + innodb.PageNo((off+int64(at))/int64(size))
		if !innodb.AllZero(data[at:at+size]) || f.Pages.Exempts(no) || slices.Contains(f.Unused, no) {
			continue
		}
		var err error
		if use == nil {
			use, err = f.Usage()
		}
		used := false
		if err == nil {
			used, err = use.InUse(no)
		}
		if errors.Is(err, innodb.ErrNoKey) {
			continue // the checksums of this file were not verified either, which verify says
		}
		if err != nil {
			return &DamageError{f.Path, fmt.Errorf("looking which pages are in use: %w", err)}
		}
		if used {
			return &DamageError{f.Path, fmt.Errorf("page %d is in use, and zero", no)}
		}
	}
	return nil
}

// finish records that a segment was read, and closes the file after the last one.
func (f *File) finish(segment int, crc uint32) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.crcs[segment] = crc
	if f.left--; f.left > 0 {
		return nil
	}
	f.crc32 = 0
	for i, crc := range f.crcs {
		f.crc32 = xbstream.CombineCRC32(f.crc32, crc, min(SegmentSize, f.Size-int64(i)*SegmentSize))
	}
	f.crcs = nil
	err := f.f.Close()
	f.f = nil
	if err != nil {
		return fmt.Errorf("reading %s: %w", f.Path, err)
	}
	return nil
}

// ReadManifest reads the manifest in a directory.
func ReadManifest(root disk.Dir) (files map[string]metadata.File, err error) {
	f, err := root.Open(metadata.ManifestName)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, Missing("%s is missing: the backup is incomplete, or was not extracted to its end", metadata.ManifestName)
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

// MatchManifest makes sure that a directory holds the manifest's files and no
// other, by name and size. The files' content is yet to be read.
func MatchManifest(root disk.Dir, files []*File, empty []string, listed map[string]metadata.File) error {
	var wrong Faults
	extra := func(name string) error {
		return &NotBackupError{root.Name(), fmt.Sprintf("%s is there, but not in %s: move it out of the backup", name, metadata.ManifestName)}
	}
	found := make(map[string]bool, len(files))
	for _, f := range files {
		found[f.Path] = true
		want, ok := listed[f.Path]
		switch {
		case f.Path == metadata.ManifestName:
		case !ok:
			wrong.Of(f, extra(f.Path))
		case f.Size != want.Size:
			wrong.Of(f, &DamageError{f.Path, fmt.Errorf("it has %d bytes, %d by the manifest", f.Size, want.Size)})
		}
	}
	for _, name := range empty {
		wrong.Add(extra(name))
	}
	for _, name := range slices.Sorted(maps.Keys(listed)) {
		if !found[name] {
			wrong.Add(Missing("%s is missing: it is in the manifest; extract the backup again", name))
		}
	}
	return wrong.Err()
}

// MatchContent compares files that were read with the manifest.
func MatchContent(files []*File, listed map[string]metadata.File) error {
	var wrong Faults
	for _, f := range files {
		if want, ok := listed[f.Path]; ok && f.crc32 != want.CRC32 {
			wrong.Of(f, &DamageError{f.Path, fmt.Errorf("its checksum is %08x, %08x by the manifest", f.crc32, want.CRC32)})
		}
	}
	return wrong.Err()
}

// CheckNames makes sure that a directory holds what was extracted, by name and
// size.
func CheckNames(root disk.Dir) (files []*File, listed map[string]metadata.File, err error) {
	if listed, err = ReadManifest(root); err != nil {
		return nil, nil, err
	}
	files, empty, err := ListFiles(root, "")
	if err != nil {
		return nil, nil, err
	}
	// An interrupted run may have left these. They are not read with the others:
	// this run makes them again, and removes them, while files are compared.
	files = slices.DeleteFunc(files, func(f *File) bool {
		return f.Path == ApplyingName+ExtTemporary || f.Path == replay.SpillName
	})
	return files, listed, MatchManifest(root, files, empty, listed)
}
