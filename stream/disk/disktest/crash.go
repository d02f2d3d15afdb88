//go:build unix

package disktest

import (
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"math/rand/v2"
	"os"
	"path"
	"path/filepath"
	"slices"
	"sync"
	"syscall"

	"hb/stream/disk"
)

// Crashing is the operating system's files below a directory, on a machine that
// crashes. It keeps what would be on the disk then: the state at the beginning, and
// everything synced since. Of each change of a directory that was not
// synced, and of each piece that was written to a file since its last sync, the
// crash keeps or loses any: it keeps no order between them.
//
// A change of two directories, as by a rename, is kept or lost as one, and is on
// disk when both are synced. It is simpler than any file system in that; and
// crueler, as those with a journal keep their order.
//
// Its methods may be called from several goroutines.
type Crashing struct {
	disk.System // for reading

	base string

	mu     sync.Mutex
	nodes  map[[2]uint64]*node
	root   *node
	names  []*names // not on disk yet, in order
	seq    int
	ops    []string // changes and syncs so far: what, and the name
	last   int      // the operation at which it crashes; 0: none
	err    error
	where  string // what it crashed at
	failed error  // of the model itself
}

// node is a file, a directory or a link.
type node struct {
	mode    fs.FileMode
	target  string            // of a link
	entries map[string]*entry // of a directory, on disk
	content []byte            // of a file, on disk
	pending []piece           // likewise, not on disk
	open    *os.File          // keeps the inode number from being used again
}

// entry is the file or directory of a name.
type entry struct {
	to  *node // nil: nothing
	seq int
}

// names is a change of one or two directories.
type names struct {
	seq     int
	updates []update
	unsaved map[*node]bool // directories that were not synced since
}

type update struct {
	dir  *node
	name string
	to   *node
}

// piece is a write to a file, or a change of its size.
type piece struct {
	off      int64
	data     []byte
	truncate bool
}

// NewCrashing returns the files below base, which must be all on disk. Close it.
func NewCrashing(base string) (*Crashing, error) {
	c := &Crashing{System: disk.OS, base: base, nodes: make(map[[2]uint64]*node)}
	var err error
	c.root, err = c.load(base)
	if err != nil {
		return nil, errors.Join(err, c.Close())
	}
	return c, nil
}

// Close ends its use.
func (c *Crashing) Close() error {
	var errs []error
	for _, n := range c.nodes {
		if n.open != nil {
			errs = append(errs, n.open.Close())
		}
	}
	return errors.Join(errs...)
}

// CrashAt lets the n-th change or sync, counted from 1, and all that follow fail.
func (c *Crashing) CrashAt(n int) { c.last, c.err = n, syscall.EIO }

// Where returns at which operation it crashed.
func (c *Crashing) Where() string { return fmt.Sprintf("operation %d, %s", c.last, c.where) }

// Ops are the changes and syncs so far, each with its name relative to base.
func (c *Crashing) Ops() []string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return slices.Clone(c.ops)
}

// load reads the disk.
func (c *Crashing) load(name string) (*node, error) {
	n, err := c.node(name)
	if err != nil || !n.mode.IsDir() {
		return n, err
	}
	entries, err := os.ReadDir(name)
	if err != nil {
		return nil, err
	}
	for _, e := range entries {
		to, err := c.load(filepath.Join(name, e.Name()))
		if err != nil {
			return nil, err
		}
		n.entries[e.Name()] = &entry{to: to}
	}
	return n, nil
}

// node returns the node that has a name now. One that was not seen before is new,
// with its present content.
func (c *Crashing) node(name string) (*node, error) {
	st, err := os.Lstat(name)
	if err != nil {
		return nil, err
	}
	sys := st.Sys().(*syscall.Stat_t)
	key := [2]uint64{uint64(sys.Dev), sys.Ino}
	if n := c.nodes[key]; n != nil && n.mode.Type() == st.Mode().Type() {
		return n, nil
	}
	n := &node{mode: st.Mode()}
	switch {
	case n.mode.Type() == fs.ModeSymlink:
		n.target, err = os.Readlink(name)
	case n.mode.IsDir():
		n.entries = make(map[string]*entry)
		n.open, err = os.Open(name)
	default:
		if n.open, err = os.Open(name); err == nil {
			n.content, err = os.ReadFile(name)
		}
	}
	c.nodes[key] = n
	return n, err
}

// relative is a name below base.
func (c *Crashing) relative(name string) string {
	if rel, err := filepath.Rel(c.base, name); err == nil {
		return rel
	}
	return name
}

// begin counts an operation, which is done under the lock, and returns whether the
// machine has crashed.
func (c *Crashing) begin(what, name string) error {
	c.ops = append(c.ops, what+" "+c.relative(name))
	if c.failed != nil {
		return c.failed
	}
	if c.last > 0 && len(c.ops) >= c.last {
		if c.where == "" {
			c.where = what + " " + name
		}
		return &fs.PathError{Op: what, Path: name, Err: c.err}
	}
	return nil
}

// changed records the present nodes of names, by their paths.
func (c *Crashing) changed(paths ...string) {
	c.seq++
	n := &names{seq: c.seq, unsaved: make(map[*node]bool)}
	for _, p := range paths {
		dir, err := c.node(filepath.Dir(p))
		if err != nil {
			c.failed = err
			return
		}
		to, err := c.node(p)
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			c.failed = err
			return
		}
		if errors.Is(err, fs.ErrNotExist) {
			to = nil
		}
		n.updates = append(n.updates, update{dir, filepath.Base(p), to})
		n.unsaved[dir] = true
	}
	c.names = append(c.names, n)
}

// change does a change of names, under the lock.
func (c *Crashing) change(what string, do func() error, paths ...string) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if err := c.begin(what, paths[0]); err != nil {
		return err
	}
	if err := do(); err != nil {
		return err
	}
	c.changed(paths...)
	return nil
}

// synced puts a directory or file on disk.
func (c *Crashing) synced(n *node) {
	if !n.mode.IsDir() {
		n.content = write(n.content, n.pending, nil)
		n.pending = nil
		return
	}
	c.names = slices.DeleteFunc(c.names, func(ch *names) bool {
		delete(ch.unsaved, n)
		if len(ch.unsaved) > 0 {
			return false
		}
		for _, u := range ch.updates {
			set(u.dir.entries, u, ch.seq)
		}
		return true
	})
}

// set makes a name stand for something, unless it does for something newer.
func set(entries map[string]*entry, u update, seq int) {
	if old := entries[u.name]; old == nil || old.seq < seq {
		entries[u.name] = &entry{u.to, seq}
	}
}

// write returns content with pieces in it, those that keep wants; nil: all.
func write(content []byte, pieces []piece, keep func() bool) []byte {
	content = slices.Clone(content)
	for _, p := range pieces {
		if keep != nil && !keep() {
			continue
		}
		end := p.off + int64(len(p.data))
		if p.truncate {
			content = content[:min(int64(len(content)), end)]
		}
		if grow := end - int64(len(content)); grow > 0 {
			content = append(content, make([]byte, grow)...)
		}
		copy(content[p.off:], p.data)
	}
	return content
}

// Keep decides what of the changes a crash keeps, each by itself.
type Keep struct{ Names, Data func() bool }

// The crashes that keep nothing and everything of what was not synced.
var (
	KeepNothing = Keep{never, never}
	KeepAll     = Keep{always, always}
)

func never() bool  { return false }
func always() bool { return true }

// KeepNames is a crash that keeps any of the names, by chance, and no data.
func KeepNames(r *rand.Rand) Keep { return Keep{func() bool { return r.IntN(2) == 0 }, never} }

// KeepAny is a crash that keeps anything by chance.
func KeepAny(r *rand.Rand) Keep {
	return Keep{func() bool { return r.IntN(2) == 0 }, func() bool { return r.IntN(2) == 0 }}
}

// Leave makes, in an empty directory, the state of the disk after a crash.
func (c *Crashing) Leave(dir string, keep Keep) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.failed != nil {
		return c.failed
	}
	dirs := make(map[*node]map[string]*entry)
	for _, n := range c.nodes {
		if n.mode.IsDir() {
			dirs[n] = maps.Clone(n.entries)
		}
	}
	for _, ch := range c.names {
		if !keep.Names() {
			continue
		}
		for _, u := range ch.updates {
			set(dirs[u.dir], u, ch.seq)
		}
	}
	made := make(map[*node]string)
	var make func(n *node, name string) error
	make = func(n *node, name string) error {
		switch {
		case n.mode.Type() == fs.ModeSymlink:
			return os.Symlink(n.target, name)
		case made[n] != "":
			return os.Link(made[n], name)
		case !n.mode.IsDir():
			made[n] = name
			return os.WriteFile(name, write(n.content, n.pending, keep.Data), 0o640)
		}
		if name != dir {
			if err := os.Mkdir(name, 0o750); err != nil {
				return err
			}
		}
		for _, child := range slices.Sorted(maps.Keys(dirs[n])) {
			if to := dirs[n][child].to; to != nil {
				if err := make(to, filepath.Join(name, child)); err != nil {
					return err
				}
			}
		}
		return nil
	}
	return make(c.root, dir)
}

// Mkdir implements disk.System.
func (c *Crashing) Mkdir(name string, perm fs.FileMode) error {
	return c.change("mkdir", func() error { return disk.OS.Mkdir(name, perm) }, name)
}

// Open implements disk.System.
func (c *Crashing) Open(name string) (disk.File, error) {
	f, err := disk.OS.Open(name)
	return c.file(f, name, err)
}

// OpenDir implements disk.System.
func (c *Crashing) OpenDir(name string) (disk.Dir, error) {
	d, err := disk.OS.OpenDir(name)
	if err != nil {
		return nil, err
	}
	return &crashingDir{d, c, name}, nil
}

func (c *Crashing) file(f disk.File, name string, err error) (disk.File, error) {
	if err != nil {
		return nil, err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	n, err := c.node(name)
	if err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return &crashingFile{File: f, c: c, n: n, name: name}, nil
}

// crashingDir is a directory on such a machine.
type crashingDir struct {
	disk.Dir
	c    *Crashing
	path string
}

func (d *crashingDir) join(name string) string { return path.Join(d.path, name) }

func (d *crashingDir) OpenDir(name string) (disk.Dir, error) {
	in, err := d.Dir.OpenDir(name)
	if err != nil {
		return nil, err
	}
	return &crashingDir{in, d.c, d.join(name)}, nil
}

func (d *crashingDir) Open(name string) (disk.File, error) { return d.OpenFile(name, os.O_RDONLY, 0) }

func (d *crashingDir) OpenFile(name string, flag int, perm fs.FileMode) (disk.File, error) {
	var f disk.File
	open := func() (err error) {
		f, err = d.Dir.OpenFile(name, flag, perm)
		return err
	}
	_, err := d.Dir.Lstat(name)
	switch {
	case flag&os.O_CREATE != 0 && errors.Is(err, fs.ErrNotExist):
		err = d.c.change("create", open, d.join(name))
	default:
		err = open()
	}
	made, err := d.c.file(f, d.join(name), err)
	if err == nil && flag&os.O_TRUNC != 0 {
		err = made.Truncate(0)
	}
	return made, err
}

func (d *crashingDir) Mkdir(name string, perm fs.FileMode) error {
	return d.c.change("mkdir", func() error { return d.Dir.Mkdir(name, perm) }, d.join(name))
}

func (d *crashingDir) MkdirAll(name string, perm fs.FileMode) error {
	if name == "." {
		return nil
	}
	if err := d.MkdirAll(path.Dir(name), perm); err != nil {
		return err
	}
	if err := d.Mkdir(name, perm); !errors.Is(err, fs.ErrExist) {
		return err
	}
	return nil
}

func (d *crashingDir) Rename(from, to string) error {
	return d.c.change("rename", func() error { return d.Dir.Rename(from, to) }, d.join(from), d.join(to))
}

func (d *crashingDir) Link(from, to string) error {
	return d.c.change("link", func() error { return d.Dir.Link(from, to) }, d.join(to))
}

func (d *crashingDir) Symlink(target, name string) error {
	return d.c.change("symlink", func() error { return d.Dir.Symlink(target, name) }, d.join(name))
}

func (d *crashingDir) Remove(name string) error {
	return d.c.change("remove", func() error { return d.Dir.Remove(name) }, d.join(name))
}

func (d *crashingDir) RemoveAll(name string) error {
	entries, err := d.Dir.ReadDir(name)
	if err == nil {
		for _, e := range entries {
			if err := d.RemoveAll(path.Join(name, e.Name())); err != nil {
				return err
			}
		}
	}
	if err := d.Remove(name); !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}

// crashingFile is a file on such a machine.
type crashingFile struct {
	disk.File
	c    *Crashing
	n    *node
	name string
	at   int64 // where Write goes
}

func (f *crashingFile) Write(p []byte) (int, error) {
	n, err := f.WriteAt(p, f.at)
	f.at += int64(n)
	return n, err
}

func (f *crashingFile) WriteAt(p []byte, off int64) (int, error) {
	f.c.mu.Lock()
	defer f.c.mu.Unlock()
	if err := f.c.begin("write", f.name); err != nil {
		return 0, err
	}
	n, err := f.File.WriteAt(p, off)
	for done := 0; done < n; {
		size := min(n-done, pieceSize-int(off+int64(done))%pieceSize)
		f.n.pending = append(f.n.pending, piece{off: off + int64(done), data: slices.Clone(p[done : done+size])})
		done += size
	}
	return n, err
}

func (f *crashingFile) Truncate(size int64) error {
	f.c.mu.Lock()
	defer f.c.mu.Unlock()
	if err := f.c.begin("truncate", f.name); err != nil {
		return err
	}
	f.n.pending = append(f.n.pending, piece{off: size, truncate: true})
	return f.File.Truncate(size)
}

func (f *crashingFile) Sync() error {
	f.c.mu.Lock()
	defer f.c.mu.Unlock()
	if err := f.c.begin("sync", f.name); err != nil {
		return err
	}
	f.c.synced(f.n)
	return nil
}
