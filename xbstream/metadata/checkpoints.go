package metadata

import (
	"fmt"
	"io/fs"
	"strconv"

	"hb/xbstream/innodb"
)

// The backup types that the peers write.
const (
	FullBackup  = "full-backuped" // not prepared
	Incremental = "incremental"
	LogApplied  = "log-applied"   // MariaDB: prepared; XtraBackup: prepared, more incrementals may follow
	Prepared    = "full-prepared" // XtraBackup: prepared for good
)

// Checkpoints is xtrabackup_checkpoints, or mariadb_backup_checkpoints. The
// peers read it by position, so that the order of the lines is fixed and
// fields that a release does not know must be nil:
//
//	mariadb-backup 10.5     none
//	mariadb-backup 10.11+   RecoverBinlogInfo
//	XtraBackup 2.4          Compact, RecoverBinlogInfo
//	XtraBackup 8.0          FlushedLSN, in some releases with those of 2.4
//	XtraBackup 8.4          FlushedLSN, RedoMemory, RedoFrames
type Checkpoints struct {
	BackupType string
	FromLSN    innodb.LSN // 0, or the ToLSN of the backup that an incremental one continues
	ToLSN      innodb.LSN // the newest checkpoint when the redo was copied
	LastLSN    innodb.LSN // the end of the copied redo

	Compact           *uint64 // 0 or 1
	RecoverBinlogInfo *uint64 // 0 or 1
	FlushedLSN        *uint64
	RedoMemory        *uint64 // bytes
	RedoFrames        *uint64 // pages

	Extra []Pair // lines that hb does not know, kept
}

// optional lists the trailing fields in the file's order.
func (c *Checkpoints) optional() []struct {
	key   string
	value **uint64
} {
	return []struct {
		key   string
		value **uint64
	}{
		{"compact", &c.Compact},
		{"recover_binlog_info", &c.RecoverBinlogInfo},
		{"flushed_lsn", &c.FlushedLSN},
		{"redo_memory", &c.RedoMemory},
		{"redo_frames", &c.RedoFrames},
	}
}

// Marshal returns the file's content.
func (c *Checkpoints) Marshal() ([]byte, error) {
	ps := pairs{
		{"backup_type", c.BackupType},
		{"from_lsn", c.FromLSN.String()},
		{"to_lsn", c.ToLSN.String()},
		{"last_lsn", c.LastLSN.String()},
	}
	for _, o := range c.optional() {
		if *o.value != nil {
			ps = append(ps, Pair{o.key, strconv.FormatUint(**o.value, 10)})
		}
	}
	return append(ps, c.Extra...).format(XtraBackupNames.Checkpoints)
}

// UnmarshalCheckpoints reads a file's content. Trailing fields may be absent.
func UnmarshalCheckpoints(text []byte) (*Checkpoints, error) {
	const file = "xtrabackup_checkpoints"
	ps, err := parsePairs(file, text)
	if err != nil {
		return nil, err
	}
	c := new(Checkpoints)
	var ok bool
	if c.BackupType, ok = ps.take("backup_type"); !ok || c.BackupType == "" {
		return nil, fmt.Errorf("%s has no backup_type", file)
	}
	for _, f := range []struct {
		key   string
		value *innodb.LSN
	}{{"from_lsn", &c.FromLSN}, {"to_lsn", &c.ToLSN}, {"last_lsn", &c.LastLSN}} {
		n, err := ps.number(file, f.key)
		if err != nil {
			return nil, err
		}
		if n == nil {
			return nil, fmt.Errorf("%s has no %s", file, f.key)
		}
		*f.value = innodb.LSN(*n)
	}
	for _, o := range c.optional() {
		if *o.value, err = ps.number(file, o.key); err != nil {
			return nil, err
		}
	}
	c.Extra = ps
	return c, nil
}

// number takes an unsigned number, nil if the key is absent.
func (ps *pairs) number(file, key string) (*uint64, error) {
	text, ok := ps.take(key)
	if !ok {
		return nil, nil
	}
	n, err := strconv.ParseUint(text, 10, 64)
	if err != nil {
		return nil, fmt.Errorf("%s: %s: %w", file, key, err)
	}
	return &n, nil
}

// ReadCheckpoints reads the file of either family in dir and returns the name
// under which it was found. The error is fs.ErrNotExist if the directory has none.
func ReadCheckpoints(dir fs.FS) (c *Checkpoints, name string, err error) {
	name, text, err := readEither(dir, func(n Names) string { return n.Checkpoints })
	if err != nil {
		return nil, name, err
	}
	c, err = UnmarshalCheckpoints(text)
	return c, name, err
}
