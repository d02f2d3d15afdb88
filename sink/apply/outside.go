package apply

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"

	"hb/sink/backupdir"
	"hb/stream/disk"
	"hb/xbstream/innodb"
	"hb/xbstream/metadata"
)

// Tablespaces that lay outside the data directory (DATA DIRECTORY, general and undo
// tablespaces elsewhere) are inside it in a backup. Where it is restored in the
// place of its server, the old files are still out there, and a server that is
// started finds them, too: 9.7 does not start ("Multiple files found for the same
// tablespace ID"), 5.6 and 5.7 use the old ones, or lose the table.

// asideSuffix ends the names of such files once they were set aside.
const asideSuffix = ".hb-aside"

// outsideFiles are the tablespaces of the backup that lay outside its server's data
// directory, where this machine has a file at that place.
func outsideFiles(of *metadata.External) (paths []string, err error) {
	for _, s := range of.Spaces {
		if !s.Outside || !filepath.IsAbs(s.File) {
			continue
		}
		switch st, err := os.Lstat(s.File); {
		case errors.Is(err, fs.ErrNotExist):
		case err != nil:
			return nil, fmt.Errorf("looking for a tablespace outside the data directory: %w", err)
		case st.Mode().IsRegular():
			paths = append(paths, s.File)
		}
	}
	slices.Sort(paths)
	return slices.Compact(paths), nil
}

// checkOutside makes sure, before anything is changed, that every old file outside the
// directory can get its other name.
func (a *applier) checkOutside() error {
	if !a.InPlace {
		return nil
	}
	external, err := metadata.ReadExternal(a.root.FS())
	if err != nil {
		return err
	}
	paths, err := outsideFiles(external)
	if err != nil {
		return err
	}
	return checkAsideNames(paths)
}

// CheckInPlace is what Options.InPlace checks of names that are to be set aside, for a
// backup that is not extracted yet: of its tablespaces, and of its binary log, by its
// manifest, which may be nil.
func CheckInPlace(of *metadata.External, m *metadata.Manifest) error {
	paths, err := outsideFiles(of)
	if err != nil {
		return err
	}
	if m != nil && m.Binlog != nil && m.BinlogHome != nil && filepath.IsAbs(m.BinlogHome.Base) {
		for _, f := range findBinlogFiles(m.BinlogHome.Base, "", m.Binlog.File) {
			if _, err := os.Lstat(f.path); err == nil {
				paths = append(paths, f.path)
			}
		}
	}
	return checkAsideNames(paths)
}

// checkAsideNames is checkAsideName for several files; the error names all of them.
func checkAsideNames(paths []string) error {
	var all []error
	for _, p := range paths {
		dir, err := disk.OS.OpenDir(filepath.Dir(p))
		if err != nil {
			return fmt.Errorf("looking for a file that was set aside: %w", err)
		}
		all = append(all, checkAsideName(dir, p), dir.Close())
	}
	return errors.Join(all...)
}

// checkAsideName returns an error if a file in a directory has a namesake set aside
// already.
func checkAsideName(dir disk.Dir, p string) error {
	if taken, err := backupdir.Exists(dir, filepath.Base(p)+asideSuffix); err != nil {
		return fmt.Errorf("looking for a file that was set aside: %w", err)
	} else if taken {
		return &backupdir.NotBackupError{Dir: p + asideSuffix, What: "it is there already, of an earlier restore: remove it, or move it away"}
	}
	return nil
}

// settleOutside warns of old files outside the directory, or sets them aside where
// that was asked for.
func (a *applier) settleOutside() error {
	external, err := metadata.ReadExternal(a.root.FS())
	if err != nil {
		return err
	}
	paths, err := outsideFiles(external)
	if err != nil || len(paths) == 0 {
		return err
	}
	if !a.InPlace {
		const most = 5
		text := fmt.Sprintf("the backup has %d tablespaces inside its directory that lay outside it, and the old files are still there: %q", len(paths), paths[:min(most, len(paths))])
		if n := len(paths) - most; n > 0 {
			text += fmt.Sprintf(" and %d more", n)
		}
		a.result.Warnings = append(a.result.Warnings, text+": before a server is started in the place of the old one, move them away, or run this with --in-place")
		return nil
	}
	if err := checkStopped(external.System); err != nil {
		return err
	}
	if err := checkAsideNames(paths); err != nil {
		return err
	}
	for _, p := range paths {
		if err := setAside(p); err != nil {
			return fmt.Errorf("setting %s aside: %w", p, err)
		}
		a.result.Warnings = append(a.result.Warnings, fmt.Sprintf("set aside %s, which lay outside the data directory: it is %s now", p, p+asideSuffix))
	}
	return nil
}

// checkStopped makes sure that no server runs on a system tablespace, which is named
// as the server saw it. The files outside do not show it: a server closes a file that
// it has not read or written for a while.
func checkStopped(system string) error {
	if !filepath.IsAbs(system) {
		return nil // the backup does not record where the server had it
	}
	dir, err := disk.OS.OpenDir(filepath.Dir(system))
	if errors.Is(err, fs.ErrNotExist) {
		return nil // it was moved away, or this is another machine
	}
	if err != nil {
		return fmt.Errorf("looking whether the server of the backup runs: %w", err)
	}
	return errors.Join(tryLock(dir, filepath.Base(system)), dir.Close())
}

// tryLock locks a system tablespace, if there is one, and unlocks it.
func tryLock(dir disk.Dir, name string) error {
	switch st, err := dir.Lstat(name); {
	case errors.Is(err, fs.ErrNotExist):
		return nil
	case err != nil:
		return fmt.Errorf("looking whether the server of the backup runs: %w", err)
	case !st.Mode().IsRegular():
		return nil // hb's own mark, of a directory that is not recovered
	}
	unlock, err := backupdir.LockSystem(dir, name)
	if err != nil {
		return err
	}
	return unlock()
}

// setAside renames an old file, if it is a tablespace and no server uses it.
func setAside(p string) (err error) {
	dir, err := disk.OS.OpenDir(filepath.Dir(p))
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, dir.Close()) }()
	name := filepath.Base(p)
	if _, err := backupdir.ReadSpace(dir, name); err != nil && !errors.Is(err, innodb.ErrZeroHeader) {
		return &backupdir.NotBackupError{Dir: p, What: fmt.Sprintf("it is not a tablespace (%v): see what it is", err)}
	}
	unlock, err := backupdir.LockSystem(dir, name)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, unlock()) }()
	return renameAside(dir, p)
}

// renameAside renames a file in a directory, if no server has it open.
func renameAside(dir disk.Dir, p string) error {
	name := filepath.Base(p)
	if pid := openedBy(p); pid != 0 {
		return &backupdir.NotBackupError{Dir: p, What: fmt.Sprintf("it is in use by process %d: stop the server first", pid)}
	}
	if err := checkAsideName(dir, p); err != nil {
		return err
	}
	if err := dir.Rename(name, name+asideSuffix); err != nil {
		return err
	}
	return disk.SyncDir(dir, ".")
}

// openedBy returns a process, other than this one, that has a file open, as far as
// the system shows: MariaDB locks only the system tablespace.
func openedBy(p string) int {
	file, err := os.Stat(p)
	if err != nil {
		return 0
	}
	fds, _ := filepath.Glob("/proc/[0-9]*/fd/*") // none on other systems than Linux
	for _, fd := range fds {
		pid, err := strconv.Atoi(filepath.Base(filepath.Dir(filepath.Dir(fd))))
		if err != nil || pid == os.Getpid() {
			continue
		}
		if st, err := os.Stat(fd); err == nil && os.SameFile(st, file) {
			return pid
		}
	}
	return 0
}
