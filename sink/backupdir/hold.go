package backupdir

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"runtime"
	"syscall"

	"hb/stream/disk"
)

// No server must start on a directory that apply is not done with. A file of
// hb's own means nothing to a server, and none of the series has a mark of its
// own for this. So while apply works the first file of the system tablespace has
// another name, and its own one is a symlink that leads to itself:
//
//	ibdata1.hb-held                the file
//	ibdata1 → ibdata1/hb-apply-has-not-finished,run-it-again
//
// Every series looks at that file (stat) before it opens or makes any other of
// InnoDB's, gets ELOOP, and ends: "Too many levels of symbolic links", "Can't
// determine file permissions" (os_file_get_status). It leaves the directory as it
// was, except for what comes before InnoDB: MariaDB has recovered its Aria tables and
// begun a new Aria log, as it does at its first start in any case, and MySQL has made
// auto.cnf. Seen on 5.6.24, 5.7.29, 9.7.4, 10.5.23, 10.11.18 and 11.8.9. A link to a
// file that does not exist would do, too, but some then log a new database, and
// advise to remove the link.
//
// Both steps are atomic: link(2) gives the file its second name, a rename puts
// the symlink over the first; at the end a rename puts the file back over the
// symlink. That is the last thing that apply does. The state file (ApplyingName)
// is made before and removed before it, so that a directory that is held and
// has no state file is finished, and that nothing is done again to a directory
// on which a server may have run already. Should that file have been lost before,
// the directory is not marked as recovered, and stays held.
//
// Where links cannot be made, an empty directory stands in the file's place: see
// directoryPlace.
const (
	ExtHeld  = ".hb-held"
	heldText = "hb-apply-has-not-finished,run-it-again"
)

// A placeholder is what stands in the place of a file that has its other name.
type placeholder interface {
	// aside gives the file its other name.
	aside(root disk.Dir, name, held string) error
	// put puts the placeholder in its place, and stands reports whether it is there.
	put(root disk.Dir, name string) error
	stands(root disk.Dir, name string) (bool, error)
	// back puts the file back.
	back(root disk.Dir, name, held string) error
}

// systemPlace is that of this operating system.
var systemPlace = placeOn(runtime.GOOS)

// HoldAs has directories held as on the operating system of that name, until undo is
// called: for tests.
func HoldAs(goos string) (undo func()) {
	before := systemPlace
	systemPlace = placeOn(goos)
	return func() { systemPlace = before }
}

func placeOn(system string) placeholder {
	if system == "windows" {
		return directoryPlace{}
	}
	return linkPlace{}
}

// linkPlace is the symlink. Until that is there, and afterwards, the file has its
// own name. A file system without links gets a directory.
type linkPlace struct{ directoryPlace }

func (linkPlace) target(name string) string { return name + "/" + heldText }

// noLinks reports whether a link cannot be made here: the file system has none, or
// the user may not make one.
func noLinks(err error) bool {
	return errors.Is(err, errors.ErrUnsupported) || errors.Is(err, fs.ErrPermission) || errors.Is(err, syscall.EMLINK)
}

func (p linkPlace) aside(root disk.Dir, name, held string) error {
	err := root.Link(name, held)
	if noLinks(err) {
		return p.directoryPlace.aside(root, name, held)
	}
	return err
}

func (p linkPlace) put(root disk.Dir, name string) error {
	temporary := name + ExtTemporary
	if err := removeIfThere(root, temporary); err != nil {
		return err
	}
	err := root.Symlink(p.target(name), temporary)
	if noLinks(err) {
		return p.directoryPlace.put(root, name)
	}
	if err != nil {
		return err
	}
	return root.Rename(temporary, name)
}

func (p linkPlace) stands(root disk.Dir, name string) (bool, error) {
	st, err := root.Lstat(name)
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	if err != nil || st.Mode().Type() != fs.ModeSymlink {
		return err == nil && st.IsDir(), err
	}
	target, err := root.Readlink(name)
	return target == p.target(name), err
}

func (p linkPlace) back(root disk.Dir, name, held string) error {
	st, err := root.Lstat(name)
	switch {
	case err == nil && st.IsDir():
		return p.directoryPlace.back(root, name, held)
	case err != nil && !errors.Is(err, fs.ErrNotExist):
		return err
	}
	if err := root.Rename(held, name); err != nil {
		return err
	}
	// A rename does nothing where both are the same file: hold was interrupted.
	return removeIfThere(root, held)
}

// directoryPlace is an empty directory. The servers named above end at it too, on
// Linux: "is not a regular file". Between its two steps there is neither file nor
// directory for a moment; the file that is held is complete or as it was.
type directoryPlace struct{}

func (directoryPlace) aside(root disk.Dir, name, held string) error { return root.Rename(name, held) }

// put removes the file's own name first, if it was not given up but has a second.
func (directoryPlace) put(root disk.Dir, name string) error {
	if err := removeIfThere(root, name); err != nil {
		return err
	}
	return root.Mkdir(name, DirMode)
}

func (directoryPlace) stands(root disk.Dir, name string) (bool, error) {
	st, err := root.Lstat(name)
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	return err == nil && st.IsDir(), err
}

func (directoryPlace) back(root disk.Dir, name, held string) error {
	if err := removeIfThere(root, name); err != nil {
		return err
	}
	return root.Rename(held, name)
}

func removeIfThere(root disk.Dir, name string) error {
	if err := root.Remove(name); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}

// findHeld finds out whether the system tablespace is held, or was being so, and
// takes its name from there.
func (b *Backup) findHeld(root disk.Dir) error {
	b.System = b.SystemFiles[0]
	held, err := Exists(root, b.System+ExtHeld)
	if err == nil && held {
		err = b.checkHeld(root)
	}
	if err != nil {
		return fmt.Errorf("looking at the system tablespace: %w", err)
	}
	if held {
		b.SystemFiles[0] = b.System + ExtHeld
	}
	return nil
}

// checkHeld makes sure that nobody has made a file in the place of the held one.
func (b *Backup) checkHeld(root disk.Dir) error {
	if ours, err := systemPlace.stands(root, b.System); ours || err != nil {
		return err
	}
	st, err := root.Lstat(b.System)
	if errors.Is(err, fs.ErrNotExist) {
		return nil // someone removed it
	}
	if err != nil {
		return err
	}
	held, err := root.Lstat(b.System + ExtHeld)
	if err == nil && !os.SameFile(st, held) {
		err = &NotBackupError{root.Name(), fmt.Sprintf("%s is not the file that hb apply put aside as %s: a server, or someone, made it again; extract the backup again", b.System, b.System+ExtHeld)}
	}
	return err
}

// Held reports whether the system tablespace has its other name.
func (b *Backup) Held() bool { return b.SystemFiles[0] != b.System }

// Hold keeps servers off the directory.
func (b *Backup) Hold(root disk.Dir) error {
	fail := func(err error) error { return fmt.Errorf("keeping servers off the directory: %w", err) }
	if !b.Held() {
		if err := systemPlace.aside(root, b.System, b.System+ExtHeld); err != nil {
			return fail(err)
		}
		b.SystemFiles[0] = b.System + ExtHeld
	}
	// The second name is on disk before the first is given up.
	if err := SyncIn(root, "."); err != nil {
		return err
	}
	if there, err := systemPlace.stands(root, b.System); there || err != nil {
		return err
	}
	if err := systemPlace.put(root, b.System); err != nil {
		return fail(err)
	}
	return SyncIn(root, ".")
}

// Release gives the directory to servers.
func (b *Backup) Release(root disk.Dir) error {
	if err := systemPlace.back(root, b.System, b.SystemFiles[0]); err != nil {
		return fmt.Errorf("giving %s its name back: %w", b.System, err)
	}
	b.SystemFiles[0] = b.System
	return SyncIn(root, ".")
}
