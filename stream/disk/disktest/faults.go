package disktest

import (
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"path"
	"path/filepath"
	"sync"

	"hb/stream/disk"
)

// Op is one operation on the file system: the N-th of its kind on that name,
// counted from 1. Unlike its place in the order of all of them, this stays the
// same when several goroutines work.
type Op struct {
	Kind Kind
	Name string // below the base of Faults
	N    int
}

func (o Op) String() string { return fmt.Sprintf("%s %s #%d", o.Kind, o.Name, o.N) }

// Kind is what an operation does.
type Kind string

// The kinds of operations. Files opened only for reading have kinds of their own, as
// its closing cannot lose anything.
const (
	Mkdir     Kind = "mkdir"
	OpenDir   Kind = "open directory"
	CloseDir  Kind = "close directory"
	OpenRead  Kind = "open"
	OpenWrite Kind = "open to write"
	Close     Kind = "close"
	CloseRead Kind = "close after reading"
	Read      Kind = "read"
	Write     Kind = "write"
	Truncate  Kind = "truncate"
	Sync      Kind = "sync"
	Chown     Kind = "chown"
	Lock      Kind = "lock"
	Stat      Kind = "stat"
	ReadDir   Kind = "list"
	Readlink  Kind = "read link"
	Rename    Kind = "rename"
	Link      Kind = "link"
	Symlink   Kind = "symlink"
	Remove    Kind = "remove"
)

// Changes reports whether such an operation changes the disk: to be
// killed before any other is to be killed before the next one that does.
func (k Kind) Changes() bool {
	switch k {
	case Mkdir, OpenWrite, Write, Truncate, Chown, Rename, Link, Symlink, Remove:
		return true
	}
	return false
}

// Errors without a Rule.
var (
	// ErrTorn has a read succeed, with other bytes at its end, as if the data
	// was being written.
	ErrTorn = errors.New("torn")
	// ErrDead has the process end before the operation; a write is half done.
	ErrDead = errors.New("dead")
	// ErrPower is ErrDead of the whole machine: writes that were not synced are lost.
	// It needs LosePower.
	ErrPower = errors.New("no power")
)

// tornBytes is how many bytes at the end of a torn read are wrong.
const tornBytes = 512

// Faults is the operating system's files, but operations fail that were chosen.
// One that fails does nothing; a write first writes half, and a close closes.
// Its methods may be called from several goroutines.
type Faults struct {
	// Before, if set, is called for each operation before it is done, one at a time.
	Before func(Op)

	// Rule, if set, decides instead of Fail about each operation: nil, or the
	// error that it fails with. It may take its time.
	Rule func(Op) error
	// Die ends the process: for ErrDead.
	Die func()

	base  string
	real  disk.System // the system below
	power *power

	mu    sync.Mutex
	seen  map[Op]int // by kind and name
	ops   []Op
	fail  Op
	err   error
	after bool
	hit   bool
}

var _ disk.System = (*Faults)(nil)

// NewFaults returns a file system in which nothing fails yet. Names below base
// are told relative to it.
func NewFaults(base string) *Faults {
	return &Faults{base: base, real: disk.OS, seen: make(map[Op]int)}
}

// Fail lets an operation fail with err, and with after all that follow it, as
// those of a disk do that is gone.
func (f *Faults) Fail(op Op, err error, after bool) { f.fail, f.err, f.after = op, err, after }

// Ops returns the operations so far, in order.
func (f *Faults) Ops() []Op {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.ops
}

// Hit reports whether the operation that was to fail has failed.
func (f *Faults) Hit() bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.hit
}

// at counts an operation and returns its error.
func (f *Faults) at(kind Kind, name string) error {
	if rel, err := filepath.Rel(f.base, name); filepath.IsAbs(name) && err == nil {
		name = rel
	}
	if f.Rule != nil {
		if err := f.Rule(Op{Kind: kind, Name: name}); err != nil {
			if kind != Write {
				f.dead(err)
			}
			return &fs.PathError{Op: string(kind), Path: name, Err: err}
		}
		return nil
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	op := Op{Kind: kind, Name: name}
	f.seen[op]++
	op.N = f.seen[op]
	f.ops = append(f.ops, op)
	if f.Before != nil {
		f.Before(op)
	}
	if op == f.fail || f.hit && f.after {
		f.hit = true
		return &fs.PathError{Op: string(kind), Path: name, Err: f.err}
	}
	return nil
}

// LosePower remembers writes until they are synced: for ErrPower. The seed decides
// which of them are lost then.
func (f *Faults) LosePower(seed uint64) {
	f.power = &power{rnd: rand.New(rand.NewPCG(seed, 0)), files: make(map[uint64]*unsynced)}
}

// dead ends the process if err demands that.
func (f *Faults) dead(err error) {
	if errors.Is(err, ErrPower) {
		f.power.fail()
		f.Die()
	}
	if errors.Is(err, ErrDead) {
		f.Die()
	}
}

// Mkdir implements disk.System.
func (f *Faults) Mkdir(name string, perm fs.FileMode) error {
	if err := f.at(Mkdir, name); err != nil {
		return err
	}
	return f.real.Mkdir(name, perm)
}

// Open implements disk.System.
func (f *Faults) Open(name string) (disk.File, error) {
	if err := f.at(OpenRead, name); err != nil {
		return nil, err
	}
	return f.file(name, CloseRead)(f.real.Open(name))
}

// OpenRegular implements disk.System.
func (f *Faults) OpenRegular(name string, links bool) (disk.File, error) {
	if err := f.at(OpenRead, name); err != nil {
		return nil, err
	}
	return f.file(name, CloseRead)(f.real.OpenRegular(name, links))
}

// Readlink implements disk.System.
func (f *Faults) Readlink(name string) (string, error) {
	if err := f.at(Readlink, name); err != nil {
		return "", err
	}
	return f.real.Readlink(name)
}

// OpenDir implements disk.System.
func (f *Faults) OpenDir(name string) (disk.Dir, error) {
	if err := f.at(OpenDir, name); err != nil {
		return nil, err
	}
	return f.dir(name)(f.real.OpenDir(name))
}

// ReadDir implements disk.System.
func (f *Faults) ReadDir(name string) ([]fs.DirEntry, error) {
	if err := f.at(ReadDir, name); err != nil {
		return nil, err
	}
	return f.real.ReadDir(name)
}

// Stat implements disk.System.
func (f *Faults) Stat(name string) (fs.FileInfo, error) {
	if err := f.at(Stat, name); err != nil {
		return nil, err
	}
	return f.real.Stat(name)
}

// Lstatx implements disk.System.
func (f *Faults) Lstatx(name string) (disk.Facts, error) {
	if err := f.at(Stat, name); err != nil {
		return disk.Facts{}, err
	}
	return f.real.Lstatx(name)
}

// Statx implements disk.System.
func (f *Faults) Statx(name string) (disk.Facts, error) {
	if err := f.at(Stat, name); err != nil {
		return disk.Facts{}, err
	}
	return f.real.Statx(name)
}

// Temp implements disk.System.
func (f *Faults) Temp(dir string) (disk.File, error) {
	if err := f.at(OpenWrite, dir); err != nil {
		return nil, err
	}
	return f.file(dir, Close)(f.real.Temp(dir))
}

// file wraps an opened file.
func (f *Faults) file(name string, closing Kind) func(disk.File, error) (disk.File, error) {
	return func(in disk.File, err error) (disk.File, error) {
		if err != nil {
			return nil, err
		}
		return &file{in, f, name, closing}, nil
	}
}

func (f *Faults) dir(name string) func(disk.Dir, error) (disk.Dir, error) {
	return func(in disk.Dir, err error) (disk.Dir, error) {
		if err != nil {
			return nil, err
		}
		return &dir{in, f, name}, nil
	}
}

// dir is a directory with faults.
type dir struct {
	disk.Dir
	faults *Faults
	path   string
}

func (d *dir) at(kind Kind, name string) error { return d.faults.at(kind, d.join(name)) }

func (d *dir) join(name string) string { return path.Join(d.path, name) }

func (d *dir) OpenDir(name string) (disk.Dir, error) {
	if err := d.at(OpenDir, name); err != nil {
		return nil, err
	}
	return d.faults.dir(d.join(name))(d.Dir.OpenDir(name))
}

func (d *dir) Open(name string) (disk.File, error) { return d.OpenFile(name, os.O_RDONLY, 0) }

func (d *dir) OpenFile(name string, flag int, perm fs.FileMode) (disk.File, error) {
	opening, closing := OpenWrite, Close
	if flag == os.O_RDONLY {
		opening, closing = OpenRead, CloseRead
	}
	if err := d.at(opening, name); err != nil {
		return nil, err
	}
	return d.faults.file(d.join(name), closing)(d.Dir.OpenFile(name, flag, perm))
}

func (d *dir) ReadFile(name string) ([]byte, error) {
	for _, kind := range []Kind{OpenRead, Read, CloseRead} {
		if err := d.at(kind, name); err != nil && kind != CloseRead {
			return nil, err
		}
	}
	return d.Dir.ReadFile(name)
}

func (d *dir) ReadDir(name string) ([]fs.DirEntry, error) { return fs.ReadDir(d.FS(), name) }

func (d *dir) Stat(name string) (fs.FileInfo, error) {
	if err := d.at(Stat, name); err != nil {
		return nil, err
	}
	return d.Dir.Stat(name)
}

func (d *dir) Lstat(name string) (fs.FileInfo, error) {
	if err := d.at(Stat, name); err != nil {
		return nil, err
	}
	return d.Dir.Lstat(name)
}

func (d *dir) Readlink(name string) (string, error) {
	if err := d.at(Readlink, name); err != nil {
		return "", err
	}
	return d.Dir.Readlink(name)
}

func (d *dir) Mkdir(name string, perm fs.FileMode) error {
	if err := d.at(Mkdir, name); err != nil {
		return err
	}
	return d.Dir.Mkdir(name, perm)
}

func (d *dir) MkdirAll(name string, perm fs.FileMode) error {
	if err := d.at(Mkdir, name); err != nil {
		return err
	}
	return d.Dir.MkdirAll(name, perm)
}

func (d *dir) Rename(from, to string) error {
	if err := d.at(Rename, from); err != nil {
		return err
	}
	return d.Dir.Rename(from, to)
}

func (d *dir) Link(from, to string) error {
	if err := d.at(Link, to); err != nil {
		return err
	}
	return d.Dir.Link(from, to)
}

func (d *dir) Symlink(target, name string) error {
	if err := d.at(Symlink, name); err != nil {
		return err
	}
	return d.Dir.Symlink(target, name)
}

func (d *dir) Remove(name string) error {
	if err := d.at(Remove, name); err != nil {
		return err
	}
	return d.Dir.Remove(name)
}

func (d *dir) RemoveAll(name string) error {
	if err := d.at(Remove, name); err != nil {
		return err
	}
	return d.Dir.RemoveAll(name)
}

func (d *dir) FS() fs.FS { return fsys{d} }

func (d *dir) Close() error {
	err := d.at(CloseDir, ".")
	if cerr := d.Dir.Close(); err == nil {
		err = cerr
	}
	return err
}

// fsys is a directory as an fs.FS: files opened there have faults, too.
type fsys struct{ d *dir }

func (s fsys) Open(name string) (fs.File, error) {
	f, err := s.d.Open(name)
	if err != nil {
		return nil, err
	}
	return listable{f.(*file)}, nil
}

// listable is a file that may be a directory.
type listable struct{ *file }

func (l listable) ReadDir(n int) ([]fs.DirEntry, error) {
	if err := l.at(ReadDir); err != nil {
		return nil, err
	}
	return l.File.(fs.ReadDirFile).ReadDir(n)
}

// file is a file with faults.
type file struct {
	disk.File
	faults  *Faults
	path    string
	closing Kind
}

func (f *file) at(kind Kind) error { return f.faults.at(kind, f.path) }

// Fd lets disk.Holes see the file's holes.
func (f *file) Fd() uintptr { return f.File.(interface{ Fd() uintptr }).Fd() }

func (f *file) Read(p []byte) (int, error) {
	if err := f.at(Read); err != nil {
		return 0, err
	}
	return f.File.Read(p)
}

func (f *file) ReadAt(p []byte, off int64) (int, error) {
	if err := f.at(Read); err != nil {
		return f.badRead(f.File.ReadAt, p, off, err)
	}
	return f.File.ReadAt(p, off)
}

// badRead reads half of what it should, or all of it, torn.
func (f *file) badRead(read func([]byte, int64) (int, error), p []byte, off int64, err error) (int, error) {
	if !errors.Is(err, ErrTorn) {
		n, _ := read(p[:len(p)/2], off)
		return n, err
	}
	n, err := read(p, off)
	for i := max(0, n-tornBytes); i < n; i++ {
		p[i] ^= 0xA5
	}
	return n, err
}

func (f *file) ReadAtOnce(p []byte, off int64) (int, error) {
	if err := f.at(Read); err != nil {
		return f.badRead(f.File.ReadAtOnce, p, off, err)
	}
	return f.File.ReadAtOnce(p, off)
}

func (f *file) Write(p []byte) (int, error) {
	fault := f.at(Write)
	if err := f.faults.power.writes(f.File, -1, int64(len(p))); err != nil {
		return 0, err
	}
	if fault != nil {
		n, _ := f.File.Write(p[:len(p)/2])
		f.faults.dead(fault)
		return n, fault
	}
	return f.File.Write(p)
}

func (f *file) WriteAt(p []byte, off int64) (int, error) {
	fault := f.at(Write)
	if err := f.faults.power.writes(f.File, off, int64(len(p))); err != nil {
		return 0, err
	}
	if fault != nil {
		n, _ := f.File.WriteAt(p[:len(p)/2], off)
		f.faults.dead(fault)
		return n, fault
	}
	return f.File.WriteAt(p, off)
}

func (f *file) Truncate(size int64) error {
	if err := f.at(Truncate); err != nil {
		return err
	}
	if err := f.faults.power.writes(f.File, size, -1); err != nil {
		return err
	}
	return f.File.Truncate(size)
}

func (f *file) Sync() error {
	if err := f.at(Sync); err != nil {
		return err
	}
	err := f.File.Sync()
	if err == nil {
		f.faults.power.synced(f.File)
	}
	return err
}

func (f *file) Stat() (fs.FileInfo, error) {
	if err := f.at(Stat); err != nil {
		return nil, err
	}
	return f.File.Stat()
}

func (f *file) Statx() (disk.Facts, error) {
	if err := f.at(Stat); err != nil {
		return disk.Facts{}, err
	}
	return f.File.Statx()
}

func (f *file) Chown(uid, gid int) error {
	if err := f.at(Chown); err != nil {
		return err
	}
	return f.File.Chown(uid, gid)
}

func (f *file) Lock() error {
	if err := f.at(Lock); err != nil {
		return err
	}
	return f.File.Lock()
}

func (f *file) Close() error {
	err := f.at(f.closing)
	if cerr := f.File.Close(); err == nil {
		err = cerr
	}
	return err
}

var (
	_ disk.File      = (*file)(nil)
	_ fs.ReadDirFile = listable{}
)
