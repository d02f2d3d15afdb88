package sink

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"slices"
	"strconv"
	"strings"

	"hb/sink/replay/mysql"
	"hb/source/innodb"
	"hb/source/innodb/mlog"
	"hb/stream/disk"
	"hb/xbstream/metadata"
)

// backupDir is what the metadata of an extracted backup say.
type backupDir struct {
	checkpoints     *metadata.Checkpoints
	checkpointsName string
	flavor          string             // metadata.FlavorMariaDB or metadata.FlavorMySQL
	version         string             // of the server, where a file states it
	own             bool               // an archive of hb's was extracted here
	archive         *metadata.Archive  // of an archive of hb's
	partial         bool               // not all tables are in it
	systemFiles     []string           // of the system tablespace, in order, as they are to be opened
	system          string             // the name that a server knows the first of them by
	pageSize        int                // innodb_page_size
	checksum        innodb.Checksum    // innodb_checksum_algorithm, where a file states it
	undo            int                // innodb_undo_tablespaces, likewise; -1: not stated
	manifest        *metadata.Manifest // of an archive of hb's, its first line; nil: there is none
}

func readBackupDir(root disk.Dir) (*backupDir, error) {
	no := func(format string, args ...any) error {
		return &NotBackupError{root.Name(), fmt.Sprintf(format, args...)}
	}
	if marked, err := exists(root, MarkerName); err != nil {
		return nil, fmt.Errorf("looking for %s: %w", MarkerName, err)
	} else if marked {
		return nil, no("extracting a backup into it was not finished (%s is there): extract it again", MarkerName)
	}
	b := &backupDir{undo: -1}
	var err error
	b.checkpoints, b.checkpointsName, err = metadata.ReadCheckpoints(root.FS())
	if errors.Is(err, fs.ErrNotExist) {
		return nil, no("this is no extracted backup: it has neither %s nor %s",
			metadata.XtraBackupNames.Checkpoints, metadata.MariaDBNames.Checkpoints)
	}
	if err != nil {
		return nil, err
	}
	switch b.checkpoints.BackupType {
	case metadata.FullBackup, metadata.LogApplied, metadata.Prepared:
	case metadata.Incremental:
		return nil, no("it is an incremental backup: hb applies full backups only")
	default:
		return nil, no("%s states an unknown backup_type %q", b.checkpointsName, b.checkpoints.BackupType)
	}
	if err := b.readRest(root); err != nil {
		return nil, err
	}
	if b.flavor, err = b.findFlavor(root); err != nil {
		return nil, err
	}
	return b, b.readSystem(root, no)
}

// findFlavor tells whose backup it is, where hb's own file does not. Only
// XtraBackup keeps the redo log under a name of its own, and says of a backup that
// it was prepared for good.
func (b *backupDir) findFlavor(root disk.Dir) (string, error) {
	if b.flavor != "" {
		return b.flavor, nil
	}
	found := make(map[string]bool)
	for _, name := range []string{mysql.LogName, mlog.RedoDir} {
		var err error
		if found[name], err = exists(root, name); err != nil {
			return "", fmt.Errorf("looking for the redo log: %w", err)
		}
	}
	switch {
	case found[mysql.LogName], found[mlog.RedoDir],
		b.version != "" && !strings.Contains(b.version, "MariaDB"),
		b.checkpoints.BackupType == metadata.Prepared:
		return metadata.FlavorMySQL, nil
	}
	return metadata.FlavorMariaDB, nil
}

// readRest reads the files that may be absent.
func (b *backupDir) readRest(root disk.Dir) error {
	info, _, err := metadata.ReadInfo(root.FS())
	switch {
	case err == nil:
		b.partial, b.version = info.Partial, info.ServerVersion
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
		b.own, b.archive, b.pageSize = true, archive, archive.PageSize
		b.flavor, b.version = archive.ServerFlavor, archive.ServerVersion
		b.partial = b.partial || archive.Options.Partial
		b.manifest, err = metadata.ReadManifestHead(root.FS())
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	case !errors.Is(err, fs.ErrNotExist):
		return fmt.Errorf("reading %s: %w", metadata.ArchiveName, err)
	default:
		if found, err := exists(root, metadata.ManifestName); err != nil {
			return fmt.Errorf("looking for the manifest: %w", err)
		} else if found {
			return missing("%s is missing: it is in the manifest; extract the backup again", metadata.ArchiveName)
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
	}{{"innodb_page_size", &b.pageSize}, {"innodb_undo_tablespaces", &b.undo}} {
		if v, ok := cnf.Get(number.name); ok {
			if *number.to, err = strconv.Atoi(v); err != nil {
				return fmt.Errorf("%s: %s: %w", metadata.MyCnfName, number.name, err)
			}
		}
	}
	if v, ok := cnf.Get("innodb_checksum_algorithm"); ok {
		b.checksum = checksums[strings.TrimPrefix(v, "strict_")]
	}
	if v, ok := cnf.Get("innodb_data_file_path"); ok {
		b.systemFiles, err = parseDataFilePath(v)
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
func (b *backupDir) readSystem(root disk.Dir, no func(string, ...any) error) error {
	if b.systemFiles == nil {
		b.systemFiles = []string{"ibdata1"}
		for i := 2; ; i++ {
			name := "ibdata" + strconv.Itoa(i)
			there, err := exists(root, name)
			if err != nil {
				return fmt.Errorf("looking at the system tablespace: %w", err)
			}
			if !there {
				break
			}
			b.systemFiles = append(b.systemFiles, name)
		}
	}
	if err := b.findHeld(root); err != nil {
		return err
	}
	for _, name := range b.systemFiles {
		if _, err := root.Lstat(name); errors.Is(err, fs.ErrNotExist) {
			return no("%s is missing", name)
		} else if err != nil {
			return fmt.Errorf("looking at the system tablespace: %w", err)
		}
	}
	if b.pageSize != 0 {
		return nil
	}
	space, err := readSpace(root, b.systemFiles[0])
	if err != nil {
		return fmt.Errorf("page 0 of %s: %w", b.systemFiles[0], err)
	}
	b.pageSize = space.Logical
	return nil
}

// isSystem reports whether a name is one of the system tablespace's.
func (b *backupDir) isSystem(name string) bool {
	return name == b.system || slices.Contains(b.systemFiles, name)
}

// readSpace reads page 0 of a file.
func readSpace(root disk.Dir, name string) (space innodb.Space, err error) {
	f, err := root.Open(name)
	if err != nil {
		return space, err
	}
	defer f.Close() // only read
	head := make([]byte, innodb.SpaceHeaderSize, innodb.MaxPageSize)
	if n, err := f.ReadAt(head, 0); n < len(head) {
		if innodb.AllZero(head[:n]) {
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

// pageLSN returns the LSN of a file's first page.
func pageLSN(root disk.Dir, name string) (innodb.LSN, error) {
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

// lockSystemTablespace takes the lock that a server takes on the first file of
// the system tablespace, so that it is sure that none runs here, and that none
// starts meanwhile. The lock belongs to the open file, not to the process as
// the server's does: recovery opens and closes the same file.
func lockSystemTablespace(root disk.Dir, name string) (unlock func() error, err error) {
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
	return f.Close, nil
}

// replayFrom says of which tablespaces older redo must not be applied, from what
// LSN on it must.
func (b *backupDir) replayFrom() map[innodb.SpaceID]innodb.LSN {
	if b.manifest == nil {
		return nil
	}
	return b.manifest.ReplayFrom
}

// temporary reports whether a tablespace was one that the server drops when it
// starts.
func (b *backupDir) temporary(id innodb.SpaceID) bool {
	return b.manifest != nil && slices.Contains(b.manifest.TemporarySpaces, id)
}
