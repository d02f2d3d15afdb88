package apply

import (
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path"
	"slices"
	"strings"

	"hb/sink/apply/fixup"
	"hb/sink/backupdir"
	"hb/sink/replay"
	"hb/sink/replay/mysql/scan"
	"hb/stream/disk"
	"hb/xbstream/innodb"
	"hb/xbstream/innodb/mysqlredo"
	"hb/xbstream/innodb/redolog"
	"hb/xbstream/metadata"
)

// mysqlFamily is MySQL 5.6 to 9.x, and Percona Server.
type mysqlFamily struct {
	*applier
	log *scan.Log
}

// mysqlSeries is the needs of the series that write one redo format.
type mysqlSeries struct {
	files fileRules
	// flushFiles is how many files of the system tablespace have the LSN at
	// which the server begins a new redo log; 0: it does not begin one.
	flushFiles int
	// newLog writes the redo log that the server finds, into a directory; nil:
	// it finds none.
	newLog func(m *mysqlFamily, home disk.Dir, s *replay.Scanned) error
	// tempRsegs: slots 1 to 32 of the rollback segments are those of temporary
	// tables, which every start recreates.
	tempRsegs bool
	// implicitUndo: the first two undo tablespaces always exist. All releases that
	// were generally available (8.0.11 and later) make them.
	implicitUndo bool
}

var (
	// mysql5 are 5.6 and 5.7: a server that finds no redo log makes one that begins
	// at FLUSH LSN. Recovery carries out the log's file operations.
	mysql5 = fileRules{find: (*tablespaces).findTop, path: mysqlPath, renamed: wasRenamed, removes: true, extents: true, lengthen: true, sysTables: true}
	// mysql8 are 8.0 and later: files are the data dictionary's business. The log says
	// that a file grows before it does, and a checkpoint may come between: then the log
	// after that does not say so.
	mysql8 = fileRules{find: (*tablespaces).findTop, path: mysqlPath, extents: true, lengthen: true}

	// Without a redo log 8.0 and later lose the AUTO_INCREMENT counters. What
	// 8.0.30 and later take as a log with nothing but those in it was seen on
	// 9.7.4. Servers before get the whole log, to recover once more what they
	// find done: by the pages' LSNs nothing is done twice.
	seriesOf = map[mysqlredo.Format]*mysqlSeries{
		mysqlredo.Format56:   {files: mysql5, flushFiles: allFiles},
		mysqlredo.Format57:   {files: mysql5, flushFiles: 1, tempRsegs: true},
		mysqlredo.Format801:  {files: mysql8, newLog: (*mysqlFamily).rebuild},
		mysqlredo.Format803:  {files: mysql8, newLog: (*mysqlFamily).rebuild, implicitUndo: true},
		mysqlredo.Format8020: {files: mysql8, newLog: (*mysqlFamily).rebuild, implicitUndo: true},
		mysqlredo.Format8030: {files: mysql8, newLog: (*mysqlFamily).synthesize, flushFiles: 1, implicitUndo: true},
	}
)

const allFiles = 1 << 30

func wasRenamed(h *replay.FileHistory) bool { return h.Renamed }

func (m *mysqlFamily) series() *mysqlSeries { return seriesOf[m.log.Header.Format] }

func (m *mysqlFamily) rules() *fileRules {
	if m.log == nil {
		return &mysql8 // of a directory without it: files are found alike
	}
	return &m.series().files
}

// goal is the LSN that the backup states, at which position and data agree.
// XtraBackup 2.4 states how far it has copied blocks.
func (m *mysqlFamily) goal() replay.Goal {
	c := m.backup.Checkpoints
	return replay.Goal{Needed: redolog.Canonical(c.ToLSN), Target: redolog.Canonical(c.LastLSN), Exact: m.backup.Own}
}

// alreadyApplied relies on the metadata of the tool that recovered the backup: once a
// server has run on it, nothing is left to check that against.
func (m *mysqlFamily) alreadyApplied() (innodb.LSN, bool, error) {
	c := m.backup.Checkpoints
	return c.LastLSN, c.BackupType == metadata.Prepared, nil
}

// checkApplied: there must be a log for the server, or else the LSN at which it
// begins one. What other tools leave is their business.
func (m *mysqlFamily) checkApplied(lsn innodb.LSN) error {
	if !m.backup.Own {
		return nil
	}
	for _, name := range []string{mysqlredo.RingName(0), mysqlredo.RedoDir} {
		if found, err := backupdir.Exists(m.root, name); err != nil {
			return err
		} else if found {
			log, err := mysqlredo.OpenFiles(disk.OS, m.dir)
			if err != nil {
				return &backupdir.DamageError{File: name, Err: err}
			}
			return log.Close()
		}
	}
	if m.backup.Archive.RedoFormat == mysqlredo.Format8030.String() {
		return backupdir.Missing("%s is missing: hb apply leaves a redo log there; extract and apply the backup again", mysqlredo.RedoDir)
	}
	return m.checkFlushLSN(mysqlredo.FlushLSN(lsn), mysqlredo.FlushLSN(redolog.Canonical(lsn)))
}

// ranSince: a server moves the checkpoint past that of the log which apply left:
// FlushLSN at most. 5.6 and 5.7 make the whole log there.
func (m *mysqlFamily) ranSince(lsn innodb.LSN) bool {
	log, err := mysqlredo.OpenFiles(disk.OS, m.dir)
	if err != nil {
		return false
	}
	_, c, err := log.Newest()
	return errors.Join(err, log.Close()) == nil && c.LSN > mysqlredo.FlushLSN(lsn)
}

func (m *mysqlFamily) openLog() (redoLog, error) {
	for _, name := range []string{mysqlredo.RedoDir, mysqlredo.RingName(0)} {
		if found, err := backupdir.Exists(m.root, name); err != nil {
			return nil, fmt.Errorf("looking for a redo log: %w", err)
		} else if found {
			return nil, &backupdir.NotBackupError{Dir: m.dir, What: fmt.Sprintf("%s is there, a server's own redo log: this is not a backup, or a server has run on it", name)}
		}
	}
	log, err := scan.OpenLog(m.root, m.backup.PageSize, m.Keys)
	if err != nil {
		return nil, m.needLog(scan.LogName, err)
	}
	m.log = log
	return log, nil
}

func (m *mysqlFamily) fixUp() error {
	if m.backup.Own {
		return fixup.Anywhere(m.root)
	}
	return fixup.ByID(m.root, m.backup.IsSystem, nil)
}

// findTop finds the tablespaces in the top directory: mysql.ibd, undo and
// general ones.
func (t *tablespaces) findTop(root disk.Dir) error {
	top, err := root.ReadDir(".")
	if err != nil {
		return fmt.Errorf("listing the backup directory: %w", err)
	}
	for _, d := range top {
		name := d.Name()
		if d.IsDir() || t.backup.IsSystem(name) ||
			!backupdir.UndoFile.MatchString(name) && path.Ext(name) != backupdir.ExtTable {
			continue
		}
		if err := t.findTable(root, name); err != nil {
			return err
		}
	}
	return nil
}

// flagShared marks a general tablespace (FSP_FLAGS_POS_SHARED).
const flagShared = 1 << 11

// mysqlPath returns where in a backup the file is that the log names so:
// db/table (5.6), ./db/table.ibd, ./general.ibd, or an absolute path.
func mysqlPath(h *replay.FileHistory, name string) (string, error) {
	if h.Flags&flagShared != 0 {
		name = path.Base(name)
	}
	return backupdir.SpacePath(name)
}

// recovered makes the new log while the old one is there.
func (m *mysqlFamily) recovered(s *replay.Scanned) (backupdir.State, error) {
	if err := m.makeLog(s, m.series().newLog); err != nil {
		return backupdir.State{}, err
	}
	return backupdir.State{Stage: backupdir.StageFinish, End: s.End, Format: uint32(m.log.Header.Format)}, nil
}

// makeLog makes a new log in backupdir.NewRedoDir.
func (m *mysqlFamily) makeLog(s *replay.Scanned, by func(m *mysqlFamily, home disk.Dir, s *replay.Scanned) error) error {
	if err := m.root.RemoveAll(backupdir.NewRedoDir); err != nil {
		return fmt.Errorf("removing an unfinished redo log: %w", err)
	}
	if by == nil {
		return nil
	}
	if err := m.root.Mkdir(backupdir.NewRedoDir, backupdir.DirMode); err != nil {
		return fmt.Errorf("making the new redo log: %w", err)
	}
	home, err := m.root.OpenDir(backupdir.NewRedoDir)
	if err == nil {
		err = errors.Join(by(m, home, s), home.Close())
	}
	if err != nil {
		return fmt.Errorf("making the new redo log: %w", err)
	}
	return m.ownLikeData(backupdir.NewRedoDir)
}

// synthesize makes a log with nothing but dynamic metadata in it.
func (m *mysqlFamily) synthesize(home disk.Dir, s *replay.Scanned) error {
	if err := home.Mkdir(mysqlredo.RedoDir, backupdir.DirMode); err != nil {
		return err
	}
	f, err := home.OpenFile(path.Join(mysqlredo.RedoDir, mysqlredo.RedoName(0)), os.O_WRONLY|os.O_CREATE|os.O_EXCL, backupdir.FileMode)
	if err != nil {
		return err
	}
	err = mysqlredo.WriteSynthetic(f, mysqlredo.Synthetic{End: s.End, UUID: m.log.Header.UUID, Meta: s.Meta.Sorted()})
	if err == nil {
		err = f.Sync()
	}
	return errors.Join(err, f.Close(), disk.SyncDir(home, mysqlredo.RedoDir), disk.SyncDir(home, "."))
}

// rebuild makes the server's own log from the captured one.
func (m *mysqlFamily) rebuild(home disk.Dir, s *replay.Scanned) error {
	f, err := m.root.Open(scan.LogName)
	if err != nil {
		return err
	}
	return errors.Join(mysqlredo.Rebuild(home, f, s.End, m.log.Cipher()), f.Close())
}

// ownLikeData gives the files of a directory the owner of the data files.
func (m *mysqlFamily) ownLikeData(dir string) error {
	like, err := m.root.Stat(m.backup.SystemFiles[0])
	if err != nil {
		return fmt.Errorf("looking at the system tablespace: %w", err)
	}
	return fs.WalkDir(m.root.FS(), dir, func(name string, _ fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		f, err := m.root.Open(name)
		if err != nil {
			return err
		}
		return errors.Join(backupdir.SameOwner(f, like), f.Close())
	})
}

// finish leaves a directory with the log that the server expects, or with the
// LSN from which it makes one.
func (m *mysqlFamily) finish(s backupdir.State) error {
	series := seriesOf[mysqlredo.Format(s.Format)]
	if err := m.clearDoublewrite(); err != nil {
		return err
	}
	for i, name := range m.backup.SystemFiles {
		if i == series.flushFiles {
			break
		}
		if err := m.stampFlushLSN(name, mysqlredo.FlushLSN(s.End)); err != nil {
			return err
		}
	}
	if err := m.removeLinks(); err != nil {
		return err
	}
	return m.placeLog()
}

// placeLog moves the new log to where the server looks for it, and takes the
// backup's log away.
func (m *mysqlFamily) placeLog() error {
	files, err := m.root.ReadDir(backupdir.NewRedoDir)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("placing the new redo log: %w", err)
	}
	for _, f := range files {
		if err := m.root.Rename(backupdir.NewRedoDir+"/"+f.Name(), f.Name()); err != nil {
			return fmt.Errorf("placing the new redo log: %w", err)
		}
	}
	// The log is out of the one directory and in the other, before the first is
	// removed.
	if len(files) > 0 {
		if err := backupdir.SyncIn(m.root, backupdir.NewRedoDir); err != nil {
			return err
		}
	}
	if err := m.writeCheckpoints(metadata.Prepared); err != nil {
		return err
	}
	if err := backupdir.SyncIn(m.root, "."); err != nil {
		return err
	}
	for _, name := range []string{backupdir.NewRedoDir, scan.LogName} {
		if err := m.root.RemoveAll(name); err != nil {
			return fmt.Errorf("removing %s: %w", name, err)
		}
	}
	return nil
}

func (m *mysqlFamily) checkHandOver(t *tablespaces, s *replay.Scanned) error {
	for _, s := range t.all {
		if s.Deferred {
			return notByServer(m.dir, "%s is only in the redo log, from which a server does not make it", s.Name())
		}
	}
	if err := t.checkReused(m.dir, m.log.Header.Format == mysqlredo.Format56); err != nil {
		return err
	}
	if m.log.Header.Format < mysqlredo.Format801 {
		return m.checkRenames(&s.Files)
	}
	m.warnSmallPool(int64(s.End - m.log.Start()))
	return nil
}

// 9.7.4 keeps the records of its redo log in the buffer pool until it has recovered the pages, and
// leaves 256 frames for those. With 170 to 220 MiB of redo and pools of 128 and 256 MiB, it mostly
// waited for a free frame for ever ("Difficult to find free blocks in the buffer pool"), also after
// a crash of its own; with 1 GiB never. While it runs, innodb_redo_log_capacity bounds its log; that
// of a backup has all that was written meanwhile.
const (
	defaultPool    = 128 << 20
	poolForOneByte = 5
)

// warnSmallPool says how large a buffer pool the server needs for a redo log, if the default is
// too small.
func (m *mysqlFamily) warnSmallPool(log int64) {
	if need := log * poolForOneByte; need > defaultPool {
		m.result.Warnings = append(m.result.Warnings, fmt.Sprintf("the redo log has %d MiB, which the server holds in its buffer pool while it recovers: "+
			"start it with innodb_buffer_pool_size of at least %d MiB, or it may wait for a free block for ever", log>>20, need>>20))
	}
}

// checkRenames refuses a log in which names go round: that one table gets the name
// that another had, or its own again. A server before 8.0 renames files as it reads
// the log, if they have the name that the log renames them from, and stops where the
// other one is still there (5.7.29: "Cannot rename … for space ID … because the target
// file exists"). hb's backups have the files by their last names.
func (m *mysqlFamily) checkRenames(f *replay.Files) error {
	first := make(map[string]bool)
	for _, h := range f.Named {
		if !h.Deleted {
			first[h.First] = true
		}
	}
	for _, id := range slices.Sorted(maps.Keys(f.Named)) {
		if h := f.Named[id]; h.Renamed && !h.Deleted && (first[h.Name] || h.Returned()) {
			return notByServer(m.dir, "the redo log renames a table to %s, a name that a table had before, and a server before 8.0 may not get through that", h.Name)
		}
	}
	return nil
}

func (m *mysqlFamily) prepareHandOver(s *replay.Scanned) error {
	return m.makeLog(s, (*mysqlFamily).rebuild)
}

func (m *mysqlFamily) handOver() error {
	if err := m.removeLinks(); err != nil {
		return err
	}
	return m.placeLog()
}

func (m *mysqlFamily) keepsLog() bool { return false }

// checkHandedOver has nothing to check, like alreadyApplied.
func (m *mysqlFamily) checkHandedOver(backupdir.State) error { return nil }

// clearDoublewrite zeroes the doublewrite area of the system tablespace: the
// copies of pages in it are older than the pages are now.
func (m *mysqlFamily) clearDoublewrite() (err error) {
	fail := func(err error) error { return fmt.Errorf("clearing the doublewrite area: %w", err) }
	name := m.backup.SystemFiles[0]
	space, err := backupdir.ReadSpace(m.root, name)
	if err != nil {
		return fail(err)
	}
	f, err := m.root.OpenFile(name, os.O_RDWR, 0)
	if err != nil {
		return fail(err)
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	st, err := f.Stat()
	if err != nil {
		return fail(err)
	}
	page := make([]byte, space.Physical)
	if _, err := f.ReadAt(page, int64(innodb.TrxSysPage)*int64(len(page))); err != nil {
		return fail(err)
	}
	zero := make([]byte, space.ExtentPages()*space.Physical)
	for _, area := range space.DoublewriteArea(page) {
		at := int64(area.First) * int64(space.Physical)
		if area.First <= innodb.TrxSysPage || at+int64(len(zero)) > st.Size() {
			return fail(fmt.Errorf("page %d of %s says it is at page %d", innodb.TrxSysPage, name, area.First))
		}
		if _, err := f.WriteAt(zero, at); err != nil {
			return fail(err)
		}
	}
	if err := f.Sync(); err != nil {
		return fail(err)
	}
	return nil
}

// removeLinks removes the .isl files beside tables that are in the directory:
// they would lead the server to the files that the backup was made of.
func (m *mysqlFamily) removeLinks() error {
	var links []string
	err := backupdir.EachFile(m.root, func(file string) error {
		if path.Ext(file) != ".isl" {
			return nil
		}
		there, err := backupdir.Exists(m.root, strings.TrimSuffix(file, ".isl")+backupdir.ExtTable)
		if err == nil && there {
			links = append(links, file)
		}
		return err
	})
	for _, link := range links {
		err = cmp.Or(err, m.root.Remove(link), backupdir.SyncIn(m.root, path.Dir(link)))
	}
	if err != nil {
		return fmt.Errorf("removing the links of tables with DATA DIRECTORY: %w", err)
	}
	return nil
}

// dictionaryID is the id of mysql.ibd (dict_sys_t::s_dict_space_id).
const dictionaryID = 0xFFFFFFFE

// complete makes sure that the tablespaces are there that a server needs for
// itself, the data dictionary's and those for undo.
func (m *mysqlFamily) complete(t *tablespaces) error {
	if m.log.Header.Format >= mysqlredo.Format803 && t.ids[dictionaryID] == nil && !m.backup.LeftOut(dictionaryID) {
		return backupdir.Missing("mysql.ibd, the data dictionary, is missing: the backup is incomplete")
	}
	return m.checkUndo(t)
}
