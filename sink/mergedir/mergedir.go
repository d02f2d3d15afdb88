// Package mergedir puts an incremental backup of mariadb-backup or XtraBackup, a directory,
// onto the directory of the backup that it builds on, which was applied before. What comes out
// is a full backup that is not applied yet: package apply goes on from there.
//
// The tools do both in one step (--prepare --incremental-dir) and trust their input.
// Here everything that can be known is compared before the first change; killed later, the
// directory has the mark of an extract that did not finish, and no server starts on it.
package mergedir

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"strings"
	"time"

	"hb/sink/apply"
	"hb/sink/backupdir"
	"hb/sink/merge"
	"hb/stream/disk"
	"hb/stream/progress"
	"hb/xbstream/innodb"
	"hb/xbstream/metadata"
)

// Options are how [Run] works. The zero value is useful.
type Options struct {
	Progress *progress.Tracker // counts what is done; nil: nobody looks
	System   disk.System       // the files that directories are among; nil: the operating system's
}

// Result is what Run did.
type Result struct {
	FromLSN, LastLSN innodb.LSN
	Changed          int      // tablespaces with changed pages
	Pages            int64    // that were written
	Dropped          []string // tablespaces of the base that the increment does not have
	Warnings         []string
}

// Describe describes the result, and the time that it took.
func (r *Result) Describe(inc string, took time.Duration) string {
	return fmt.Sprintf("merged %s: %d changed pages of %d tablespaces, %d tablespaces dropped, in %s", inc, r.Pages, r.Changed, len(r.Dropped), took)
}

// merging is one Run under way.
type merging struct {
	ctx    context.Context
	root   disk.Dir // of the base
	inc    disk.Dir
	base   *backupdir.Backup
	tool   *tool                 // that made the increment
	points *metadata.Checkpoints // of the increment
	name   string                // of the file that has them
	result Result

	entries []*entry                  // the increment's tablespaces
	others  map[string]bool           // its other files
	spaces  map[string]innodb.SpaceID // the base's tablespaces: all but the system tablespace
}

// Run puts the increment in the directory inc onto the directory dir. An increment that does
// not continue from the base is a *merge.MismatchError, one that is damaged a
// *backupdir.DamageError or a *backupdir.MissingError, and a directory that is none of
// both a *backupdir.NotBackupError.
func Run(ctx context.Context, dir, inc string, o Options) (_ *Result, err error) {
	if o.System == nil {
		o.System = disk.OS
	}
	m := &merging{ctx: ctx, others: make(map[string]bool), spaces: make(map[string]innodb.SpaceID)}
	if m.root, err = backupdir.Open(o.System, dir); err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, m.root.Close()) }()
	if m.inc, err = backupdir.Open(o.System, inc); err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, m.inc.Close()) }()
	if err := m.checkBase(); err != nil {
		return nil, err
	}
	unlock, err := backupdir.LockSystem(m.root, m.base.SystemFiles[0])
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, unlock()) }()
	for _, check := range []func() error{m.checkIncrement, m.readIncrement, m.readBase, m.match} {
		if err := check(); err != nil {
			return nil, err
		}
	}
	o.Progress.Begin("merging the increment", 0)
	if err := m.change(); err != nil {
		return nil, err
	}
	return &m.result, nil
}

// no says why this cannot be the base.
func (m *merging) no(what string) error {
	return &backupdir.NotBackupError{Dir: m.root.Name(), What: what}
}

// checkBase makes sure that the directory was applied, by hb or by the increment's tool, and
// that no server has run on it.
func (m *merging) checkBase() error {
	look, err := apply.Inspect(m.root, apply.Options{})
	if err != nil {
		return err
	}
	m.base = look.Backup()
	m.tool = tools[m.base.Flavor]
	if m.base.Held() {
		return m.no("an earlier hb apply did not finish: run it again, without --merge")
	}
	handed, err := backupdir.Exists(m.root, backupdir.HandedOverName)
	if err != nil {
		return fmt.Errorf("looking for %s: %w", backupdir.HandedOverName, err)
	}
	_, done, err := look.Recovered()
	if err != nil {
		return err
	}
	if handed {
		return m.no("its recovery was left to a server: an increment needs a base that was applied")
	}
	return m.tool.checkBase(m, done)
}

// checkIncrement makes sure that the increment continues from the base.
func (m *merging) checkIncrement() error {
	no := func(what string) error { return &backupdir.NotBackupError{Dir: m.inc.Name(), What: what} }
	var err error
	m.points, m.name, err = metadata.ReadCheckpoints(m.inc.FS())
	if errors.Is(err, fs.ErrNotExist) {
		return no("this is not an extracted backup: it has no xtrabackup_checkpoints")
	}
	if err != nil {
		return err
	}
	for _, name := range []string{backupdir.MarkerName, backupdir.PartialName, metadata.ArchiveName, metadata.ManifestName} {
		if there, err := backupdir.Exists(m.inc, name); err != nil {
			return fmt.Errorf("looking for %s: %w", name, err)
		} else if there {
			return no(fmt.Sprintf("it has a file %s, of an archive of hb's: extract the archives of the chain together, hb extract -C DIR ARCHIVE INCREMENT", name))
		}
	}
	base := m.base.Checkpoints
	switch {
	case m.points.BackupType != metadata.Incremental:
		return no(fmt.Sprintf("%s says that it is of the type %q, not an incremental backup", m.name, m.points.BackupType))
	case m.points.FromLSN != base.ToLSN:
		return &merge.MismatchError{Name: m.inc.Name(), What: fmt.Sprintf("it continues from LSN %d, and %s is of LSN %d: an increment between them is missing, or it is of another chain", m.points.FromLSN, m.root.Name(), base.ToLSN)}
	case m.points.ToLSN < base.ToLSN || m.points.LastLSN < base.LastLSN:
		return &merge.MismatchError{Name: m.inc.Name(), What: fmt.Sprintf("it ends at LSN %d, and %s at LSN %d", m.points.LastLSN, m.root.Name(), base.LastLSN)}
	}
	m.result.FromLSN, m.result.LastLSN = m.points.FromLSN, m.points.LastLSN
	return m.checkInfo()
}

// checkInfo compares the servers' families and page sizes, where the increment states them.
func (m *merging) checkInfo() error {
	info, _, err := metadata.ReadInfo(m.inc.FS())
	if err == nil && info.ServerVersion != "" && strings.Contains(info.ServerVersion, "MariaDB") != (m.base.Flavor == metadata.FlavorMariaDB) {
		return &merge.MismatchError{Name: m.inc.Name(), What: fmt.Sprintf("it is of a server %s, and the base of %s", info.ServerVersion, m.base.Flavor)}
	}
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	cnf, err := metadata.ReadMyCnf(m.inc.FS())
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	if size, ok := cnf.Get("innodb_page_size"); ok && size != fmt.Sprint(m.base.PageSize) {
		return &merge.MismatchError{Name: m.inc.Name(), What: fmt.Sprintf("it has pages of %s bytes, and the base of %d", size, m.base.PageSize)}
	}
	return m.checkServer(cnf)
}

// checkServer compares the servers, where both directories name theirs, as those of
// XtraBackup do. XtraBackup compares LSNs only, which another server's may happen to fit.
func (m *merging) checkServer(cnf *metadata.MyCnf) error {
	const key = "server_uuid"
	of, err := metadata.ReadMyCnf(m.root.FS())
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	a, known := of.Get(key)
	b, stated := cnf.Get(key)
	if known && stated && a != b {
		return &merge.MismatchError{Name: m.inc.Name(), What: fmt.Sprintf("it is of the server %s, and %s of %s", b, m.root.Name(), a)}
	}
	return nil
}
