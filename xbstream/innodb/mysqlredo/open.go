package mysqlredo

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path/filepath"
	"slices"
	"time"

	"hb/stream/disk"
	"hb/xbstream/innodb"
	"hb/xbstream/innodb/redolog"
)

// openTries is how often headers are read again that do not make sense: a
// running server writes them one at a time, and long between.
const openTries = 100

// GoneError says that the server has recycled the file that hb was to read.
type GoneError struct {
	LSN innodb.LSN // that hb was to read
	Now innodb.LSN // an LSN that the server has certainly reached
}

func (e *GoneError) Error() string {
	return fmt.Sprintf("the redo at LSN %d is gone: the server is past %d and has used its file again", e.LSN, e.Now)
}

// Files reads the log files of a server, running or not. In those of a running one
// only the blocks themselves prove that they are the right ones: see Cutter.
type Files struct {
	log logFiles
	dir string
}

// logFiles is one of the two ways in which the log is kept.
type logFiles interface {
	// newest reads the newest checkpoint and the header of the file that it is
	// in.
	newest() (Header, Checkpoint, error)
	// heads returns the heads of the files that have a checkpoint or may have one, the
	// newest file's first.
	heads() ([][]byte, error)
	// locate returns the file that the byte of an LSN lies in, where, and how
	// many log bytes lie there in one piece; nil if the server has not made that
	// file yet.
	locate(lsn innodb.LSN) (file disk.File, offset, contiguous int64, err error)
	// shorter returns the error for a file at an LSN that ends before it should.
	shorter(lsn innodb.LSN) error
	capacity() innodb.LSN
	close() error
}

// OpenFiles opens the log in dir, the server's innodb_log_group_home_dir: the
// files in RedoDir if that is there, else the ring of ib_logfile*.
func OpenFiles(system disk.System, dir string) (*Files, error) {
	f := &Files{dir: dir}
	switch _, err := system.Stat(filepath.Join(dir, RedoDir)); {
	case err == nil:
		f.dir = filepath.Join(dir, RedoDir)
		f.log = &redoFiles{disk: system, dir: f.dir}
	case !errors.Is(err, fs.ErrNotExist):
		return nil, err
	default:
		ring, err := openRing(system, dir)
		if err != nil {
			return nil, err
		}
		f.log = ring
	}
	if _, _, err := f.Newest(); err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return f, nil
}

// Dir is the directory that the files are in.
func (f *Files) Dir() string { return f.dir }

// Capacity is how many log bytes a ring holds; 0 since 8.0.30.
func (f *Files) Capacity() innodb.LSN { return f.log.capacity() }

// Newest reads the newest checkpoint that the log has now, and the header of
// the file that it is in. Flags that make the log worthless are a *FlagsError.
func (f *Files) Newest() (Header, Checkpoint, error) {
	h, c, err := f.log.newest()
	if err != nil {
		return h, c, fmt.Errorf("%s: %w", f.dir, err)
	}
	return h, c, nil
}

// Infos returns the encryption information of all files of the log that have it, the
// newest file's first.
func (f *Files) Infos() ([][]byte, error) {
	heads, err := f.log.heads()
	if err != nil {
		return nil, fmt.Errorf("%s: %w", f.dir, err)
	}
	var infos [][]byte
	for _, head := range heads {
		info := Info(head)
		if info != nil && !slices.ContainsFunc(infos, func(have []byte) bool { return bytes.Equal(have, info) }) {
			infos = append(infos, info)
		}
	}
	return infos, nil
}

// ReadAt reads log bytes, beginning at an LSN that begins a block, into b, whose
// length is a multiple of blockSize. n is less than len(b) where the server has not
// made the next file yet. A file that the server has recycled is a *GoneError.
func (f *Files) ReadAt(b []byte, lsn innodb.LSN) (n int, err error) {
	for n < len(b) {
		at := lsn + innodb.LSN(n)
		file, offset, contiguous, err := f.log.locate(at)
		if err != nil || file == nil {
			return n, err
		}
		part := b[n:min(int64(len(b)), int64(n)+contiguous)]
		m, err := file.ReadAt(part, offset)
		if err == io.EOF {
			err = f.log.shorter(at)
		}
		if err != nil {
			return n, fmt.Errorf("reading the redo log at LSN %d: %w", at, err)
		}
		n += m
	}
	return n, nil
}

// Close closes the files.
func (f *Files) Close() error { return f.log.close() }

// WriteLinear writes the log of a server that is not running, from its newest
// checkpoint to the end of the last whole mini-transaction, as
// xtrabackup_logfile holds it, and returns that end. at becomes part of the
// creator.
func (f *Files) WriteLinear(w io.Writer, at time.Time) (end innodb.LSN, err error) {
	h, c, err := f.Newest()
	if err != nil {
		return 0, err
	}
	if end, err = f.end(h.Format, c); err != nil {
		return 0, err
	}
	if _, err := w.Write(BackupHead(h, c, at)); err != nil {
		return 0, err
	}
	buf := make([]byte, 1<<20)
	for lsn := redolog.BlockOf(c.LSN); lsn < redolog.BlockOf(end); {
		b := buf[:min(innodb.LSN(len(buf)), redolog.BlockOf(end)-lsn)]
		n, err := f.ReadAt(b, lsn)
		if err == nil && n < len(b) {
			err = io.ErrUnexpectedEOF
		}
		if err == nil {
			_, err = w.Write(b)
		}
		if err != nil {
			return 0, err
		}
		lsn += innodb.LSN(n)
	}
	last := make([]byte, blockSize)
	if _, err := f.ReadAt(last, redolog.BlockOf(end)); err != nil {
		return 0, err
	}
	if last, err = LastBlock(h.Format, last, end); err != nil {
		return 0, err
	}
	_, err = w.Write(last)
	return end, err
}

// end finds the end of the last whole mini-transaction.
func (f *Files) end(format Format, c Checkpoint) (innodb.LSN, error) {
	cut := NewCutter(format, c.LSN)
	cut.Settled = true
	buf := make([]byte, 1<<20)
	for {
		n, err := f.ReadAt(buf, cut.Position())
		if err != nil {
			return 0, err
		}
		before := cut.Position()
		cut.Feed(buf[:n])
		for _, ok := cut.Next(); ok; _, ok = cut.Next() {
		}
		switch stop := cut.Stop(); {
		case stop.Fatal() && stop.Cause != StopBlockNumber:
			return 0, stop
		case stop.Cause != StopShort || cut.Position() == before:
			return cut.End(), nil
		}
	}
}

// ringFiles are ib_logfile0 and so on.
type ringFiles struct {
	files []disk.File
	size  int64
	ring  Ring
	known bool // ring is
}

func openRing(system disk.System, dir string) (*ringFiles, error) {
	r := new(ringFiles)
	for no := range maxRing {
		path := filepath.Join(dir, RingName(no))
		file, err := system.Open(path)
		if no > 0 && errors.Is(err, fs.ErrNotExist) {
			break
		}
		if err != nil {
			return nil, errors.Join(fmt.Errorf("opening the redo log: %w", err), r.close())
		}
		r.files = append(r.files, file)
		st, err := file.Stat()
		if err == nil && no > 0 && st.Size() != r.size {
			err = fmt.Errorf("%s has %d bytes, %s has %d: the server was stopped while it made its redo log",
				path, st.Size(), RingName(0), r.size)
		}
		if err != nil {
			return nil, errors.Join(err, r.close())
		}
		r.size = st.Size()
	}
	return r, nil
}

func (r *ringFiles) newest() (h Header, c Checkpoint, err error) {
	head := make([]byte, HeaderSize)
	for range openTries {
		if _, err := r.files[0].ReadAt(head, 0); err != nil {
			return h, c, fmt.Errorf("reading the redo log's header: %w", err)
		}
		if h, err = ParseHeader(head); err != nil {
			continue
		}
		if c, err = h.Checkpoint(head); err == nil {
			break
		}
	}
	if err == nil {
		err = h.Flags.Check()
	}
	if err == nil && !h.Format.Ring() {
		err = fmt.Errorf("a redo log of the format of %v is not kept in %s", h.Format, RingName(0))
	}
	if err == nil && !r.known {
		r.ring, err = NewRing(len(r.files), r.size, c)
		r.known = err == nil
	}
	return h, c, err
}

func (r *ringFiles) heads() ([][]byte, error) {
	head := make([]byte, HeaderSize)
	if _, err := r.files[0].ReadAt(head, 0); err != nil {
		return nil, fmt.Errorf("reading the redo log's header: %w", err)
	}
	return [][]byte{head}, nil
}

func (r *ringFiles) locate(lsn innodb.LSN) (disk.File, int64, int64, error) {
	no, offset, contiguous := r.ring.Locate(lsn)
	return r.files[no], offset, contiguous, nil
}

func (r *ringFiles) shorter(innodb.LSN) error { return io.ErrUnexpectedEOF }

func (r *ringFiles) capacity() innodb.LSN { return r.ring.Capacity() }

func (r *ringFiles) close() error {
	var errs []error
	for _, f := range r.files {
		errs = append(errs, f.Close())
	}
	return errors.Join(errs...)
}

// redoFiles are the files in RedoDir. The server makes a file complete, with its
// header, before it gives it its name. It renames files that it no longer needs to
// …_tmp, and later writes the next life of such a file into it: whoever still has it
// open sees that.
type redoFiles struct {
	disk    disk.System
	dir     string
	uuid    uint32
	known   bool // uuid is
	file    disk.File
	current RedoFile // of file
}

func (r *redoFiles) newest() (h Header, c Checkpoint, err error) {
	for range openTries {
		// The checkpoint may move on to a file that was looked at before it did.
		if h, c, err = r.newestOnce(); !errors.Is(err, ErrNoCheckpoint) {
			break
		}
	}
	return h, c, err
}

// newestOnce looks for the newest checkpoint once.
func (r *redoFiles) newestOnce() (Header, Checkpoint, error) {
	files, heads, err := r.list()
	if err != nil {
		return Header{}, Checkpoint{}, err
	}
	if r.known && files[0].Header.UUID != r.uuid {
		return Header{}, Checkpoint{}, errors.New("the redo log was replaced by another one")
	}
	r.uuid, r.known = files[0].Header.UUID, true
	for i := len(files) - 1; i >= 0; i-- {
		c, ok, err := files[i].Checkpoint(heads[files[i].ID])
		if err != nil || ok {
			return files[i].Header, c, err
		}
	}
	return Header{}, Checkpoint{}, ErrNoCheckpoint
}

func (r *redoFiles) heads() ([][]byte, error) {
	files, heads, err := r.list()
	var out [][]byte
	for i := len(files) - 1; i >= 0; i-- {
		out = append(out, heads[files[i].ID])
	}
	return out, err
}

// list describes all files of the log and returns their heads. It looks again
// where the server came between.
func (r *redoFiles) list() (files []RedoFile, heads map[uint64][]byte, err error) {
	for range openTries {
		if files, heads, err = r.look(); err == nil {
			if err = CheckSequence(files); err == nil {
				break
			}
		}
		if _, failed := errors.AsType[*fs.PathError](err); failed && !errors.Is(err, fs.ErrNotExist) {
			break // not the server's doing
		}
	}
	for _, f := range files {
		err = errors.Join(err, f.Header.Flags.Check())
	}
	return files, heads, err
}

func (r *redoFiles) look() (files []RedoFile, heads map[uint64][]byte, err error) {
	entries, err := r.disk.ReadDir(r.dir)
	if err != nil {
		return nil, nil, fmt.Errorf("the redo log has vanished: %w", err)
	}
	heads = make(map[uint64][]byte)
	for _, e := range entries {
		id, ok := ParseRedoName(e.Name())
		if !ok {
			continue
		}
		file, f, head, err := r.open(id)
		if errors.Is(err, fs.ErrNotExist) {
			continue // renamed since
		}
		if err != nil {
			return nil, nil, err
		}
		if err := file.Close(); err != nil {
			return nil, nil, err
		}
		files = append(files, f)
		heads[id] = head
	}
	return files, heads, nil
}

// open opens a file and describes it.
func (r *redoFiles) open(id uint64) (disk.File, RedoFile, []byte, error) {
	file, err := r.disk.Open(filepath.Join(r.dir, RedoName(id)))
	if err != nil {
		return nil, RedoFile{}, nil, err
	}
	head := make([]byte, HeaderSize)
	f, err := describe(file, id, head)
	if err != nil {
		return nil, f, nil, errors.Join(fmt.Errorf("%s: %w", RedoName(id), err), file.Close())
	}
	return file, f, head, nil
}

func describe(file disk.File, id uint64, head []byte) (f RedoFile, err error) {
	st, err := file.Stat()
	if err != nil {
		return f, err
	}
	for range openTries {
		if _, err := file.ReadAt(head, 0); err != nil {
			return f, err
		}
		if f, err = NewRedoFile(id, st.Size(), head); err == nil {
			break
		}
	}
	return f, err
}

func (r *redoFiles) locate(lsn innodb.LSN) (disk.File, int64, int64, error) {
	if r.file == nil || !r.current.Has(lsn) {
		found, err := r.find(lsn)
		if err != nil || !found {
			return nil, 0, 0, err
		}
	}
	return r.file, r.current.Offset(lsn), int64(r.current.End() - lsn), nil
}

// find opens the file that has an LSN, and reports whether there is one.
func (r *redoFiles) find(lsn innodb.LSN) (bool, error) {
	for range openTries {
		files, _, err := r.list()
		if err != nil {
			return false, err
		}
		if first := files[0]; lsn < first.Header.StartLSN {
			return false, &GoneError{LSN: lsn, Now: first.Header.StartLSN}
		}
		for _, f := range files {
			if !f.Has(lsn) {
				continue
			}
			took, err := r.take(f)
			if took || err != nil {
				return took, err
			}
		}
		if lsn >= files[len(files)-1].End() {
			return false, nil
		}
	}
	return false, &GoneError{LSN: lsn, Now: lsn}
}

// take goes over to another file, unless that is another one by now.
func (r *redoFiles) take(want RedoFile) (bool, error) {
	file, f, _, err := r.open(want.ID)
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	if f.Header.StartLSN != want.Header.StartLSN || f.Header.UUID != r.uuid {
		return false, file.Close()
	}
	old := r.file
	r.file, r.current = file, f
	if old == nil {
		return true, nil
	}
	return true, old.Close()
}

// shorter: the server recycles a file of another size than those to come by
// cutting it first.
func (r *redoFiles) shorter(lsn innodb.LSN) error {
	files, _, err := r.list()
	if err == nil && lsn < files[0].Header.StartLSN {
		err = &GoneError{LSN: lsn, Now: files[0].Header.StartLSN}
	} else if err == nil {
		err = io.ErrUnexpectedEOF
	}
	return err
}

func (r *redoFiles) capacity() innodb.LSN { return 0 }

func (r *redoFiles) close() error {
	if r.file == nil {
		return nil
	}
	file := r.file
	r.file = nil
	return file.Close()
}
