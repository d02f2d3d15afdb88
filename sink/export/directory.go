package export

import (
	"errors"
	"fmt"
	"strings"

	"hb/sink/backupdir"
	"hb/sink/export/committed"
	"hb/stream/disk"
	"hb/xbstream/innodb"
	"hb/xbstream/innodb/dict"
	"hb/xbstream/keyring"
	"hb/xbstream/metadata"
)

// Options are how a directory is read.
type Options struct {
	Keys   *keyring.Keys // of encrypted tablespaces; nil: none are known
	System disk.System   // nil: that of the operating system
	// Served: Directory.Finish had a server run on it just now.
	Served bool
	// Below is set where nobody needs the directory any more, and it is below the one that
	// tables are written to, under this name: their files are moved instead of copied.
	Below string
}

// A Directory is a recovered backup, whole or of some tables, on which no server has run.
type Directory struct {
	root    disk.Dir
	keys    *keyring.Keys
	below   string // see Options
	backup  *backupdir.Backup
	version int              // of the server: 50729 for MySQL 5.7.29, 101118 for MariaDB 10.11.18
	dict    *dict.Dictionary // of MySQL 5 and MariaDB

	system *Pages
	files  []disk.File      // of the system tablespace
	state  *committed.State // what is pending; nil: nobody has asked yet
}

// First versions of servers, as cfg.FromDict and cfg.Version have them.
const (
	firstPurePK    = 50700  // imports tables whose primary key has a prefix
	firstSDI       = 80000  // describes tables in their tablespaces
	firstMariaDB   = 100000 //
	firstInstantOK = 100600 // imports tables whose columns were dropped or moved instantly
)

// OpenDirectory opens a directory that hb apply, or the tool that made the backup, recovered.
// It is a *backupdir.NotBackupError if it is not one.
func OpenDirectory(path string, o Options) (_ *Directory, err error) {
	if o.System == nil {
		o.System = disk.OS
	}
	root, err := backupdir.Open(o.System, path)
	if err != nil {
		return nil, err
	}
	d := &Directory{root: root, keys: o.Keys, below: o.Below}
	defer func() {
		if err != nil {
			err = errors.Join(err, d.Close())
		}
	}()
	if d.backup, err = backupdir.Read(root); err != nil {
		return nil, err
	}
	if err := d.checkRecovered(o.Served); err != nil {
		return nil, err
	}
	if d.version, err = versionNumber(d.backup.ServerVersion); err != nil {
		return nil, &backupdir.NotBackupError{Dir: path, What: err.Error()}
	}
	if err := d.openSystem(); err != nil {
		return nil, err
	}
	if !d.hasSDI() {
		d.dict, err = dict.Read(d.system)
	}
	return d, err
}

// Close closes all files.
func (d *Directory) Close() error {
	var all []error
	for _, f := range d.files {
		all = append(all, f.Close())
	}
	return errors.Join(append(all, d.root.Close())...)
}

// Root is the directory.
func (d *Directory) Root() disk.Dir { return d.root }

// Version is the server's: 50729 for MySQL 5.7.29, 101118 for MariaDB 10.11.18.
func (d *Directory) Version() int { return d.version }

// MariaDB reports whether the server is one of MariaDB.
func (d *Directory) MariaDB() bool { return d.version >= firstMariaDB }

// System is the system tablespace.
func (d *Directory) System() *Pages { return d.system }

func (d *Directory) hasSDI() bool { return !d.MariaDB() && d.version >= firstSDI }

// checkRecovered makes sure that the pages are those of the end of the redo log.
func (d *Directory) checkRecovered(served bool) error {
	no := func(what string) error { return &backupdir.NotBackupError{Dir: d.root.Name(), What: what} }
	for _, name := range []string{backupdir.ApplyingName, backupdir.HandedOverName} {
		if there, err := backupdir.Exists(d.root, name); err != nil {
			return err
		} else if there {
			return no(fmt.Sprintf("it is not recovered (%s exists): run hb apply without --by-server first", name))
		}
	}
	applied, err := backupdir.ReadApplied(d.root)
	switch {
	case err != nil:
		return err
	case applied == nil && d.backup.Checkpoints.BackupType != metadata.LogApplied && d.backup.Checkpoints.BackupType != metadata.Prepared:
		return no("it is not recovered: run hb apply first")
	case applied == nil && d.backup.Own && !served:
		return no("hb apply has not recovered it, or a server has run here since then: extract the backup again, and run hb apply")
	case applied == nil:
		return nil
	}
	same, err := applied.SameLog(d.root)
	if err == nil && !same {
		err = no("a server has run here since hb apply: tables are exported from what hb apply left; extract and apply the backup again")
	}
	return err
}

// versionNumber reads the number at the begin of a server's version.
func versionNumber(text string) (int, error) {
	var major, minor, patch int
	if n, _ := fmt.Sscanf(text, "%d.%d.%d", &major, &minor, &patch); n != 3 || major > 99 || minor > 99 || patch > 99 || major < 5 || minor < 0 || patch < 0 {
		return 0, fmt.Errorf("it does not say which server the backup is of (its version is %q), and hb needs that to export tables", text)
	}
	number := major*10000 + minor*100 + patch
	if maria := strings.Contains(text, "MariaDB"); maria != (number >= firstMariaDB) {
		return 0, fmt.Errorf("the version of its server is %q, which hb does not know", text)
	}
	return number, nil
}

// openSystem opens the system tablespace.
func (d *Directory) openSystem() error {
	var files []File
	for _, name := range d.backup.SystemFiles {
		f, size, err := d.open(name)
		if err != nil {
			return err
		}
		d.files = append(d.files, f)
		files = append(files, File{ReaderAt: f, Name: name, Size: size})
	}
	var err error
	d.system, err = Open(files, d.keys)
	return err
}

// open opens a file, and returns its size in bytes.
func (d *Directory) open(name string) (disk.File, int64, error) {
	f, err := d.root.Open(name)
	if err != nil {
		return nil, 0, fmt.Errorf("opening a tablespace: %w", err)
	}
	st, err := f.Stat()
	if err == nil && !st.Mode().IsRegular() {
		err = fmt.Errorf("%s: %w", name, disk.ErrNotRegular)
	}
	if err != nil {
		return nil, 0, errors.Join(err, f.Close())
	}
	return f, st.Size(), nil
}

// with opens a tablespace of one file for the time of a call.
func (d *Directory) with(name string, f func(*Pages) error) (err error) {
	file, size, err := d.open(name)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, file.Close()) }()
	p, err := Open([]File{{ReaderAt: file, Name: name, Size: size}}, d.keys)
	if err != nil {
		return err
	}
	return f(p)
}

// spaceID reads the id of a tablespace from its page 0.
func (d *Directory) spaceID(name string) (innodb.SpaceID, error) {
	space, err := backupdir.ReadSpace(d.root, name)
	if err != nil {
		return 0, &backupdir.DamageError{File: name, Err: fmt.Errorf("page 0: %w", err)}
	}
	return space.ID, nil
}
