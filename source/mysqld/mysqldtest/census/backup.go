package census

import (
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"hb/source/mysqld/mysqldtest"
	"hb/xbstream/innodb"
	"hb/xbstream/innodb/mysqlredo"
	"hb/xbstream/metadata"
)

// logName is the redo log of a backup.
const logName = "xtrabackup_logfile"

// Backup makes an extracted backup, not yet applied, of a data directory that
// no server uses: its files, its redo log up to end, and what the backup tools
// state with them.
func Backup(t testing.TB, data string, log *Log, end innodb.LSN, target string) {
	t.Helper()
	err := fs.WalkDir(os.DirFS(data), ".", func(name string, d fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case d.IsDir() && notCopied(name):
			return fs.SkipDir
		case d.IsDir():
			return os.MkdirAll(filepath.Join(target, name), 0o755)
		case !d.Type().IsRegular() || notCopied(name):
			return nil
		}
		return mysqldtest.CopyFile(filepath.Join(target, name), filepath.Join(data, name))
	})
	if err != nil {
		t.Fatal(err)
	}
	files, err := ReadFiles(data)
	if err != nil {
		t.Fatal(err)
	}
	described, err := describe(files, log, end)
	if err != nil {
		t.Fatal(err)
	}
	for name, content := range described {
		if err := os.WriteFile(filepath.Join(target, name), content, 0o644); err != nil {
			t.Fatal(err)
		}
	}
}

// describe returns the files that a backup tool adds.
func describe(files *Files, log *Log, end innodb.LSN) (map[string][]byte, error) {
	sum, _ := files.Spaces[0].Space.Verify(files.Spaces[0].Page(0), 0)
	algorithm := map[innodb.Checksum]string{innodb.ChecksumLegacy: "innodb", innodb.ChecksumNone: "none"}[sum]
	if algorithm == "" {
		algorithm = "crc32"
	}
	c := metadata.Checkpoints{BackupType: metadata.FullBackup, ToLSN: log.Checkpoint.LSN, LastLSN: end}
	checkpoints, err := c.Marshal()
	cnf := fmt.Sprintf("[mysqld]\ninnodb_checksum_algorithm=%s\ninnodb_data_file_path=%s\ninnodb_page_size=%d\n",
		algorithm, files.systemPath, files.PageSize)
	return map[string][]byte{
		logName:                              log.BackupLog(),
		metadata.XtraBackupNames.Checkpoints: checkpoints,
		metadata.MyCnfName:                   []byte(cnf),
	}, err
}

// notCopied reports whether backup tools leave a file or directory out.
func notCopied(name string) bool {
	base := filepath.Base(name)
	for _, p := range []string{mysqlredo.RingName(0)[:len("ib_logfile")], mysqlredo.RedoDir, "#innodb_temp", "ibtmp", "auto.cnf", "ib_buffer_pool", "binlog.", "mysqld.pid"} {
		if strings.HasPrefix(base, p) {
			return true
		}
	}
	return strings.HasSuffix(base, "dblwr") || strings.HasSuffix(base, ".pem")
}
