// Package backupdir is what a backup directory is, for all commands: which files hb
// keeps in it for itself and what they hold (marks, state), what the backup says of
// itself, its manifest, the pages of its tablespaces, and how it is held so that no
// server starts on it.
//
// A directory comes in by its files; out of it come facts about them, or an error
// that says what is wrong: *[DamageError], *[MissingError] or *[NotBackupError].
package backupdir

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"slices"
	"strconv"
	"strings"
	"syscall"

	"hb/sink/replay/mysql/scan"
	"hb/stream/disk"
	"hb/xbstream/innodb"
	"hb/xbstream/innodb/mysqlredo"
	"hb/xbstream/metadata"
)

// Backup is the metadata of an extracted backup.
type Backup struct {
	Checkpoints     *metadata.Checkpoints
	CheckpointsName string
	Flavor          string             // metadata.FlavorMariaDB or metadata.FlavorMySQL
	ServerVersion   string             // as the server states it ("10.11.18-MariaDB-log"), where a file does
	Own             bool               // an archive of hb's was extracted here
	Archive         *metadata.Archive  // of an archive of hb's
	Partial         bool               // a backup of the peers' that does not have all tables; hb's own: see LeftOut
	SystemFiles     []string           // of the system tablespace, in order, as they are to be opened
	System          string             // the name that a server knows the first of them by
	PageSize        int                // innodb_page_size
	KeyAlgorithm    string             // with which MariaDB encrypts, where a file states it
	EncryptTables   *bool              // innodb_encrypt_tables, where a file states it
	Checksum        innodb.Checksum    // innodb_checksum_algorithm, where a file states it
	Undo            int                // innodb_undo_tablespaces, likewise; -1: not stated
	Manifest        *metadata.Manifest // of an archive of hb's, its first line; or nil
}

func Read(root disk.Dir) (*Backup, error) {
	no := func(format string, args ...any) error {
		return &NotBackupError{root.Name(), fmt.Sprintf(format, args...)}
	}
	if marked, err := Exists(root, MarkerName); err != nil {
		return nil, fmt.Errorf("looking for %s: %w", MarkerName, err)
	} else if marked {
		return nil, no("an earlier extract into this directory did not finish (%s exists): remove the directory and extract again", MarkerName)
	}
	if partial, err := Exists(root, PartialName); err != nil {
		return nil, fmt.Errorf("looking for %s: %w", PartialName, err)
	} else if partial {
		return nil, no("only some files of an archive were extracted here (%s exists): extract the whole archive", PartialName)
	}
	b := &Backup{Undo: -1}
	var err error
	b.Checkpoints, b.CheckpointsName, err = metadata.ReadCheckpoints(root.FS())
	if errors.Is(err, fs.ErrNotExist) {
		return nil, no("this is not an extracted backup: it has neither %s nor %s",
			metadata.XtraBackupNames.Checkpoints, metadata.MariaDBNames.Checkpoints)
	}
	if err != nil {
		return nil, err
	}
	switch b.Checkpoints.BackupType {
	case metadata.FullBackup, metadata.LogApplied, metadata.Prepared:
	case metadata.Incremental:
		return nil, no("it is an incremental backup, which cannot be applied by itself: hb extract takes the archives of a whole chain")
	default:
		return nil, no("%s states an unknown backup_type %q", b.CheckpointsName, b.Checkpoints.BackupType)
	}
	if err := b.readRest(root); err != nil {
		return nil, err
	}
	if b.Flavor, err = b.findFlavor(root); err != nil {
		return nil, err
	}
	return b, b.readSystem(root, no)
}

// findFlavor finds out which tool's backup it is, if hb's own file does not say so.
// Only XtraBackup keeps the redo log under a name of its own, and marks a backup that
// it was prepared for good.
func (b *Backup) findFlavor(root disk.Dir) (string, error) {
	if b.Flavor != "" {
		return b.Flavor, nil
	}
	found := make(map[string]bool)
	for _, name := range []string{scan.LogName, mysqlredo.RedoDir} {
		var err error
		if found[name], err = Exists(root, name); err != nil {
			return "", fmt.Errorf("looking for the redo log: %w", err)
		}
	}
	switch {
	case found[scan.LogName], found[mysqlredo.RedoDir],
		b.ServerVersion != "" && !strings.Contains(b.ServerVersion, "MariaDB"),
		b.Checkpoints.BackupType == metadata.Prepared:
		return metadata.FlavorMySQL, nil
	}
	return metadata.FlavorMariaDB, nil
}

// readRest reads the files that may be absent.
func (b *Backup) readRest(root disk.Dir) error {
	info, _, err := metadata.ReadInfo(root.FS())
	switch {
	case err == nil:
		b.Partial, b.ServerVersion = info.Partial, info.ServerVersion
	case !errors.Is(err, fs.ErrNotExist):
		return err
	}
	text, err := root.ReadFile(metadata.ArchiveName)
	switch {
	case err == nil:
		archive, err := metadata.UnmarshalArchive(text)
		if err != nil {
			return err
		}
		b.Own, b.Archive, b.PageSize = true, archive, archive.PageSize
		b.Flavor, b.ServerVersion = archive.ServerFlavor, archive.ServerVersion
		b.Partial = false // it says which tablespaces are not in it
		b.Manifest, err = metadata.ReadManifestHead(root.FS())
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	case !errors.Is(err, fs.ErrNotExist):
		return fmt.Errorf("reading %s: %w", metadata.ArchiveName, err)
	default:
		if found, err := Exists(root, metadata.ManifestName); err != nil {
			return fmt.Errorf("looking for the manifest: %w", err)
		} else if found {
			return Missing("%s is missing: it is in the manifest; extract the backup again", metadata.ArchiveName)
		}
	}
	cnf, err := metadata.ReadMyCnf(root.FS())
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	for _, number := range []struct {
		name string
		to   *int
	}{{"innodb_page_size", &b.PageSize}, {"innodb_undo_tablespaces", &b.Undo}} {
		if v, ok := cnf.Get(number.name); ok {
			if *number.to, err = strconv.Atoi(v); err != nil {
				return fmt.Errorf("%s: %s: %w", metadata.MyCnfName, number.name, err)
			}
		}
	}
	if v, ok := cnf.Get("innodb_encrypt_tables"); ok {
		is := v == "ON" || v == "FORCE"
		b.EncryptTables = &is
	}
	b.KeyAlgorithm, _ = cnf.Get("file_key_management_encryption_algorithm")
	if v, ok := cnf.Get("innodb_checksum_algorithm"); ok {
		b.Checksum = checksums[strings.TrimPrefix(v, "strict_")]
	}
	if v, ok := cnf.Get("innodb_data_file_path"); ok {
		b.SystemFiles, err = parseDataFilePath(v)
	}
	return err
}

// checksums are the values of innodb_checksum_algorithm.
var checksums = map[string]innodb.Checksum{
	"crc32": innodb.ChecksumCRC32, "innodb": innodb.ChecksumLegacy, "none": innodb.ChecksumNone,
	"full_crc32": innodb.ChecksumFullCRC32,
}

// parseDataFilePath takes the file names from innodb_data_file_path:
// "ibdata1:12M;ibdata2:10M:autoextend". A backup holds them by base name.
func parseDataFilePath(v string) ([]string, error) {
	var names []string
	for part := range strings.SplitSeq(v, ";") {
		name, _, _ := strings.Cut(strings.TrimSpace(part), ":")
		name = path.Base(name)
		if name == "." || name == "/" || slices.Contains(names, name) {
			return nil, fmt.Errorf("%s: innodb_data_file_path %q", metadata.MyCnfName, v)
		}
		names = append(names, name)
	}
	return names, nil
}

// readSystem looks at the system tablespace, which every backup has.
func (b *Backup) readSystem(root disk.Dir, no func(string, ...any) error) error {
	if b.SystemFiles == nil {
		b.SystemFiles = []string{"ibdata1"}
		for i := 2; ; i++ {
			name := "ibdata" + strconv.Itoa(i)
			there, err := Exists(root, name)
			if err != nil {
				return fmt.Errorf("looking at the system tablespace: %w", err)
			}
			if !there {
				break
			}
			b.SystemFiles = append(b.SystemFiles, name)
		}
	}
	if err := b.findHeld(root); err != nil {
		return err
	}
	for _, name := range b.SystemFiles {
		if _, err := root.Lstat(name); errors.Is(err, fs.ErrNotExist) {
			return no("%s is missing", name)
		} else if err != nil {
			return fmt.Errorf("looking at the system tablespace: %w", err)
		}
	}
	if b.PageSize != 0 {
		return nil
	}
	space, err := ReadSpace(root, b.SystemFiles[0])
	if err != nil {
		return fmt.Errorf("page 0 of %s: %w", b.SystemFiles[0], err)
	}
	b.PageSize = space.Logical
	return nil
}

// IsSystem reports whether a name is one of the system tablespace's.
func (b *Backup) IsSystem(name string) bool {
	return name == b.System || slices.Contains(b.SystemFiles, name)
}

// ReadSpace reads page 0 of a file.
func ReadSpace(root disk.Dir, name string) (space innodb.Space, err error) {
	f, err := root.Open(name)
	if err != nil {
		return space, err
	}
	defer f.Close() // only read
	head := make([]byte, innodb.SpaceHeaderSize, innodb.MaxPageSize)
	if n, err := f.ReadAt(head, 0); n < len(head) {
		if err == io.EOF && innodb.AllZero(head[:n]) {
			return space, innodb.ErrZeroHeader
		}
		return space, err
	}
	if space, err = innodb.ParseSpace(head); err != nil {
		return space, err
	}
	page := head[:space.Physical]
	if _, err := f.ReadAt(page, 0); err != nil {
		return space, err
	}
	return innodb.ParseSpace(page)
}

// PageLSN returns the LSN of a file's first page.
func PageLSN(root disk.Dir, name string) (innodb.LSN, error) {
	f, err := root.Open(name)
	if err != nil {
		return 0, fmt.Errorf("opening a tablespace: %w", err)
	}
	defer f.Close() // only read
	head := make([]byte, innodb.SpaceHeaderSize)
	if _, err := f.ReadAt(head, 0); err != nil {
		return 0, fmt.Errorf("reading page 0 of %s: %w", name, err)
	}
	return innodb.HeaderLSN(head), nil
}

// LockSystem takes the lock that a server takes on the first file of
// the system tablespace, so that it is sure that none runs here, and that none
// starts in the meantime. The lock belongs to the open file, not to the process as
// the server's does: recovery opens and closes the same file.
func LockSystem(root disk.Dir, name string) (unlock func() error, err error) {
	f, err := root.OpenFile(name, os.O_RDWR, 0)
	if err != nil {
		return nil, fmt.Errorf("opening the system tablespace: %w", err)
	}
	if err := f.Lock(); err != nil {
		if errors.Is(err, disk.ErrLocked) {
			err = &NotBackupError{root.Name(), name + " is in use: a server, or another hb, is running on this directory"}
		} else {
			err = fmt.Errorf("locking %s: %w", name, err)
		}
		return nil, errors.Join(err, f.Close())
	}
	return func() error { return errors.Join(f.Unlock(), f.Close()) }, nil
}

// ReplayFrom returns to which tablespaces older redo must not be applied, from what
// LSN on it must.
func (b *Backup) ReplayFrom() map[innodb.SpaceID]innodb.LSN {
	if b.Manifest == nil {
		return nil
	}
	return b.Manifest.ReplayFrom
}

// Temporary reports whether a tablespace was one that the server drops when it
// starts.
func (b *Backup) Temporary(id innodb.SpaceID) bool {
	return b.Manifest != nil && slices.Contains(b.Manifest.TemporarySpaces, id)
}

// LeftOut reports whether a partial backup of hb's leaves out a tablespace, because its
// manifest says so: nobody asked for its table.
func (b *Backup) LeftOut(id innodb.SpaceID) bool {
	return b.Manifest != nil && b.Manifest.Scope.Leaves(id)
}

const (
	DirMode  = 0o750
	FileMode = 0o640
)

// Open opens a directory that must be there.
func Open(system disk.System, dir string) (disk.Dir, error) {
	root, err := system.OpenDir(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, &NotBackupError{dir, "the directory does not exist"}
	}
	if errors.Is(err, syscall.ENOTDIR) {
		return nil, &NotBackupError{dir, "it is a file, not a directory: hb extract -C DIR FILE unpacks an archive, and hb apply DIR goes on from there"}
	}
	if err != nil {
		return nil, fmt.Errorf("opening the backup directory: %w", err)
	}
	return root, nil
}

// SystemSpace returns the files of the system tablespace in order, as their
// pages are to be verified.
func (b *Backup) SystemSpace(root disk.Dir) ([]innodb.File, error) {
	name := b.SystemFiles[0]
	space, err := ReadSpace(root, name)
	if err == nil && space.ID != 0 {
		err = fmt.Errorf("it is tablespace %d", space.ID)
	}
	if err != nil {
		return nil, &DamageError{name, fmt.Errorf("page 0: %w", err)}
	}
	trxSys, err := ReadPage(root, name, &space, innodb.TrxSysPage)
	if err != nil {
		return nil, err
	}
	if _, err := space.Verify(trxSys, innodb.TrxSysPage); err != nil {
		return nil, &DamageError{name, err}
	}
	area := space.DoublewriteArea(trxSys)
	var files []innodb.File
	var pages int64
	for _, name := range b.SystemFiles {
		st, err := root.Stat(name)
		if err != nil {
			return nil, fmt.Errorf("looking at the system tablespace: %w", err)
		}
		files = append(files, innodb.File{Space: space, First: innodb.PageNo(pages), Exempt: area})
		pages += st.Size() / int64(space.Physical)
	}
	return files, nil
}

// ReadPage reads a page of a tablespace's first file.
func ReadPage(root disk.Dir, name string, space *innodb.Space, no innodb.PageNo) ([]byte, error) {
	f, err := root.Open(name)
	if err != nil {
		return nil, fmt.Errorf("opening a tablespace: %w", err)
	}
	page := make([]byte, space.Physical)
	_, err = f.ReadAt(page, int64(no)*int64(space.Physical))
	if err == io.EOF {
		err = io.ErrUnexpectedEOF
	}
	if err := errors.Join(err, f.Close()); err != nil {
		return nil, fmt.Errorf("reading page %d of %s: %w", no, name, err)
	}
	return page, nil
}
