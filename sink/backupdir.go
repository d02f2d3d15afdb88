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

	"golang.org/x/sys/unix"

	"hb/sink/replay/mariadb"
	"hb/source/innodb"
	"hb/source/innodb/redolog"
	"hb/xbstream/metadata"
)

// backupDir is what the metadata of an extracted backup say.
type backupDir struct {
	checkpoints     *metadata.Checkpoints
	checkpointsName string
	own             bool     // an archive of hb's was extracted here
	partial         bool     // not all tables are in it
	systemFiles     []string // of the system tablespace, in order
	pageSize        int      // innodb_page_size
}

// exact reports whether the backup's last LSN is the end of a mini-transaction.
// The tool of 10.5 counts the blocks that it copied.
func (b *backupDir) exact(f redolog.Format) bool { return b.own || f != redolog.MariaDB105 }

func readBackupDir(dir string, root *os.Root) (*backupDir, error) {
	no := func(format string, args ...any) error { return &NotBackupError{dir, fmt.Sprintf(format, args...)} }
	if marked, err := IsMarked(dir); err != nil {
		return nil, err
	} else if marked {
		return nil, no("extracting a backup into it was not finished (%s is there): extract it again", MarkerName)
	}
	b := &backupDir{}
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
	if _, err := root.Lstat(mariadb.LogName); errors.Is(err, fs.ErrNotExist) {
		if _, err := root.Lstat("xtrabackup_logfile"); err == nil {
			return nil, no("it is a backup of MySQL: this hb applies backups of MariaDB only")
		}
		return nil, no("the redo log %s is missing", mariadb.LogName)
	}
	return b, b.readSystem(root, no)
}

// readRest reads the files that may be absent.
func (b *backupDir) readRest(root *os.Root) error {
	info, _, err := metadata.ReadInfo(root.FS())
	switch {
	case err == nil:
		b.partial = info.Partial
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
		b.own, b.pageSize = true, archive.PageSize
		b.partial = b.partial || archive.Options.Partial
	case !errors.Is(err, fs.ErrNotExist):
		return fmt.Errorf("reading %s: %w", metadata.ArchiveName, err)
	}
	cnf, err := metadata.ReadMyCnf(root.FS())
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	if v, ok := cnf.Get("innodb_page_size"); ok {
		if b.pageSize, err = strconv.Atoi(v); err != nil {
			return fmt.Errorf("%s: innodb_page_size: %w", metadata.MyCnfName, err)
		}
	}
	if v, ok := cnf.Get("innodb_data_file_path"); ok {
		b.systemFiles, err = parseDataFilePath(v)
	}
	return err
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
func (b *backupDir) readSystem(root *os.Root, no func(string, ...any) error) error {
	if b.systemFiles == nil {
		b.systemFiles = []string{"ibdata1"}
		for i := 2; ; i++ {
			name := "ibdata" + strconv.Itoa(i)
			if _, err := root.Lstat(name); err != nil {
				break
			}
			b.systemFiles = append(b.systemFiles, name)
		}
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

// readSpace reads page 0 of a file.
func readSpace(root *os.Root, name string) (space innodb.Space, err error) {
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

// lockSystemTablespace takes the lock that a server takes on the first file of
// the system tablespace, so that it is sure that none runs here, and that none
// starts meanwhile. The lock belongs to the open file, not to the process as
// the server's does: recovery opens and closes the same file.
func lockSystemTablespace(root *os.Root, name string) (unlock func() error, err error) {
	f, err := root.OpenFile(name, os.O_RDWR, 0)
	if err != nil {
		return nil, fmt.Errorf("opening the system tablespace: %w", err)
	}
	lock := unix.Flock_t{Type: unix.F_WRLCK}
	if err := unix.FcntlFlock(f.Fd(), unix.F_OFD_SETLK, &lock); err != nil {
		if errors.Is(err, unix.EAGAIN) || errors.Is(err, unix.EACCES) {
			err = errors.New("it is in use: a server, or another hb, is running on this directory")
		}
		return nil, errors.Join(fmt.Errorf("locking %s: %w", name, err), f.Close())
	}
	return f.Close, nil
}
