package extract

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"sync"

	"hb/sink/backupdir"
	"hb/stream/disk"
)

const (
	markerText  = "hb extract has not finished in this directory, or has failed.\nIt is not a backup: remove it and extract again.\n"
	partialText = "hb extract --files put some files of an archive into this directory.\nIt is not a backup: hb apply does not take it.\n"
)

// Target is a new directory, marked as incomplete, that [Target.Extract] fills once. Its
// unexported methods may be called from several goroutines.
type Target struct {
	dir  string
	Root disk.Dir // open; the caller of Open closes it

	mu   sync.Mutex
	dirs map[string]struct{} // directories made, by path below the root
}

// Open makes dir, with those above it that are missing, or takes it if it is empty,
// and marks it. A lost+found, as in a new file system, does not count. A directory
// that will not do is a *backupdir.TargetError. system is the files that dir is
// among; nil: the operating system's.
func Open(system disk.System, dir string) (*Target, error) {
	if system == nil {
		system = disk.OS
	}
	if err := makeDir(system, filepath.Clean(dir), backupdir.DirMode); err != nil {
		return nil, &backupdir.TargetError{Dir: dir, Reason: "it cannot be made", Err: bare(err)}
	}
	root, err := system.OpenDir(dir)
	if err != nil {
		return nil, &backupdir.TargetError{Dir: dir, Reason: "it cannot be opened", Err: bare(err)}
	}
	t := &Target{dir: dir, Root: root, dirs: make(map[string]struct{})}
	if err := t.begin(); err != nil {
		return nil, errors.Join(err, root.Close())
	}
	return t, nil
}

// parentMode is that of directories above the target, less the process's umask: they
// are the user's, not the backup's, and a server must get through them.
const parentMode = 0o777

// makeDir makes a directory, and those above it that are missing, unless it is
// there. Each is in the one above it on disk before anything comes into it.
func makeDir(system disk.System, dir string, mode fs.FileMode) error {
	parent := filepath.Dir(dir)
	err := system.Mkdir(dir, mode)
	if errors.Is(err, fs.ErrNotExist) && parent != dir {
		if err := makeDir(system, parent, parentMode); err != nil {
			return err
		}
		err = system.Mkdir(dir, mode)
	}
	if errors.Is(err, fs.ErrExist) {
		return nil
	}
	if err != nil {
		return err
	}
	return disk.SyncPath(system, parent)
}

func (t *Target) begin() error {
	if err := t.checkEmpty(); err != nil {
		return err
	}
	return t.mark()
}

func (t *Target) mark() error { return t.put(backupdir.MarkerName, markerText) }

// markPartial says in the directory that it has some files of an archive only.
func (t *Target) markPartial() error { return t.put(backupdir.PartialName, partialText) }

// put makes one of hb's own files, and makes it durable.
func (t *Target) put(name, text string) error {
	f, err := t.create(name)
	if err != nil {
		return err
	}
	_, err = io.WriteString(f, text)
	if err := errors.Join(err, f.Sync(), f.Close()); err != nil {
		return fmt.Errorf("marking the target directory: %w", err)
	}
	return t.syncDir(".")
}

func (t *Target) checkEmpty() error {
	entries, err := t.Root.ReadDir(".")
	if err != nil {
		return &backupdir.TargetError{Dir: t.dir, Reason: "it cannot be read", Err: bare(err)}
	}
	for _, e := range entries {
		if e.Name() == "lost+found" {
			continue
		}
		if marked, err := backupdir.Exists(t.Root, backupdir.MarkerName); err != nil || marked {
			return &backupdir.TargetError{Dir: t.dir, Reason: "it is left from an extract that did not finish: remove it first", Err: err}
		}
		reason := fmt.Sprintf("it is not empty (it holds %q): extract into an empty or a new directory", e.Name())
		if server, err := backupdir.Exists(t.Root, "ibdata1"); err != nil || server {
			reason += "; to replace what a server has there, stop the server and move its files away first"
		}
		return &backupdir.TargetError{Dir: t.dir, Reason: reason}
	}
	return nil
}

// create makes a new file and what directories it needs.
func (t *Target) create(name string) (disk.File, error) {
	if err := t.makeDirs(path.Dir(name)); err != nil {
		return nil, err
	}
	f, err := t.Root.OpenFile(name, os.O_CREATE|os.O_EXCL|os.O_WRONLY|backupdir.NoFollow, backupdir.FileMode)
	if err != nil {
		return nil, t.error("creating", name, err)
	}
	return f, nil
}

// reopen opens a file that create made; trunc empties it.
func (t *Target) reopen(name string, trunc bool) (disk.File, error) {
	flags := os.O_WRONLY | backupdir.NoFollow
	if trunc {
		flags |= os.O_TRUNC
	}
	f, err := t.Root.OpenFile(name, flags, 0)
	if err != nil {
		return nil, t.error("opening", name, err)
	}
	return f, nil
}

// makeDirs makes a directory and those above it. Each must be new, or made
// here before: one that someone else put there, or a symlink, is an error.
func (t *Target) makeDirs(name string) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.makeDirsLocked(name)
}

func (t *Target) makeDirsLocked(name string) error {
	if name == "." {
		return nil
	}
	if _, ok := t.dirs[name]; ok {
		return nil
	}
	if err := t.makeDirsLocked(path.Dir(name)); err != nil {
		return err
	}
	if err := t.Root.Mkdir(name, backupdir.DirMode); err != nil {
		return t.error("making directory", name, err)
	}
	t.dirs[name] = struct{}{}
	return nil
}

// forgetRemoved forgets the directories that a Selection has removed.
func (t *Target) forgetRemoved() error {
	for name := range t.dirs {
		there, err := backupdir.Exists(t.Root, name)
		if err != nil {
			return t.error("looking at directory", name, err)
		}
		if !there {
			delete(t.dirs, name)
		}
	}
	return nil
}

func (t *Target) rename(from, to string) error {
	if err := t.makeDirs(path.Dir(to)); err != nil {
		return err
	}
	if err := t.Root.Rename(from, to); err != nil {
		return t.error("renaming", from, err)
	}
	return nil
}

func (t *Target) remove(name string) error {
	if err := t.Root.Remove(name); err != nil {
		return t.error("removing", name, err)
	}
	return nil
}

func (t *Target) error(what, name string, err error) error {
	return fmt.Errorf("%s %s: %w", what, filepath.Join(t.dir, name), bare(err))
}

// bare takes the path off an error that will get a fuller one.
func bare(err error) error {
	if pathErr, ok := errors.AsType[*fs.PathError](err); ok {
		return pathErr.Err
	}
	if linkErr, ok := errors.AsType[*os.LinkError](err); ok {
		return linkErr.Err
	}
	return err
}

// Finish makes all names durable and then takes the mark away. What it has files of must
// be on disk. If that cannot be
// made durable, the mark is put back as far as it can be: what failed is marked.
func (t *Target) Finish() error {
	names := []string{"."}
	for name := range t.dirs {
		names = append(names, name)
	}
	if err := each(names, syncParallel, t.syncDir); err != nil {
		return err
	}
	if err := t.remove(backupdir.MarkerName); err != nil {
		return err
	}
	if err := t.syncDir("."); err != nil {
		return errors.Join(err, t.mark())
	}
	return nil
}

func (t *Target) syncDir(name string) error {
	if err := disk.SyncDir(t.Root, name); err != nil {
		return t.error("syncing directory", name, err)
	}
	return nil
}

// each calls fn for all names from n goroutines and returns their errors.
func each(names []string, n int, fn func(string) error) error {
	var (
		wg   sync.WaitGroup
		mu   sync.Mutex
		errs []error
		in   = make(chan string)
	)
	for range min(n, len(names)) {
		wg.Go(func() {
			for name := range in {
				if err := fn(name); err != nil {
					mu.Lock()
					errs = append(errs, err)
					mu.Unlock()
				}
			}
		})
	}
	for _, name := range names {
		in <- name
	}
	close(in)
	wg.Wait()
	return errors.Join(errs...)
}
