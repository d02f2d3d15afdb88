package metadata

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"strings"
)

// MaxTextFile bounds the peers' text files in bytes. The longest are those
// with a GTID set or a command line.
const MaxTextFile = 1 << 20

// Pair is one "key = value" line.
type Pair struct{ Key, Value string }

// pairs is a file of such lines, in their order.
type pairs []Pair

// parsePairs reads lines of "key = value". Empty lines are skipped.
func parsePairs(file string, text []byte) (pairs, error) {
	if len(text) > MaxTextFile {
		return nil, fmt.Errorf("%s has %d bytes, more than %d", file, len(text), MaxTextFile)
	}
	var ps pairs
	for line := range strings.SplitSeq(string(text), "\n") {
		line = strings.TrimSuffix(line, "\r")
		if strings.TrimSpace(line) == "" {
			continue
		}
		key, value, ok := strings.Cut(line, "=")
		key = strings.TrimSpace(key)
		if !ok || key == "" {
			return nil, fmt.Errorf("%s: line %.60q is not of the form \"key = value\"", file, line)
		}
		ps = append(ps, Pair{key, strings.TrimSpace(value)})
	}
	return ps, nil
}

// take removes the first pair of the key and returns its value.
func (ps *pairs) take(key string) (string, bool) {
	for i, p := range *ps {
		if p.Key == key {
			*ps = append((*ps)[:i:i], (*ps)[i+1:]...)
			return p.Value, true
		}
	}
	return "", false
}

// format writes the pairs. Values must be such that they can be read again.
func (ps pairs) format(file string) ([]byte, error) {
	var b strings.Builder
	for _, p := range ps {
		if strings.ContainsAny(p.Key+p.Value, "\r\n\x00") || strings.Contains(p.Key, "=") || p.Key != strings.TrimSpace(p.Key) || p.Key == "" {
			return nil, fmt.Errorf("%s: %q = %q does not fit on one line", file, p.Key, p.Value)
		}
		fmt.Fprintf(&b, "%s = %s\n", p.Key, strings.TrimSpace(p.Value))
	}
	if b.Len() > MaxTextFile {
		return nil, fmt.Errorf("%s would have %d bytes, more than %d", file, b.Len(), MaxTextFile)
	}
	return []byte(b.String()), nil
}

// Names are the metadata files' names in one family of releases.
type Names struct {
	Checkpoints string
	Info        string
	BinlogInfo  string
	SlaveInfo   string
	GaleraInfo  string
}

var (
	// XtraBackupNames are those of XtraBackup, and of mariadb-backup before
	// 11.1.
	XtraBackupNames = Names{
		Checkpoints: "xtrabackup_checkpoints",
		Info:        "xtrabackup_info",
		BinlogInfo:  "xtrabackup_binlog_info",
		SlaveInfo:   "xtrabackup_slave_info",
		GaleraInfo:  "xtrabackup_galera_info",
	}
	// MariaDBNames are those of mariadb-backup 11.1 and later, which falls
	// back to the old ones when it reads.
	MariaDBNames = Names{
		Checkpoints: "mariadb_backup_checkpoints",
		Info:        "mariadb_backup_info",
		BinlogInfo:  "mariadb_backup_binlog_info",
		SlaveInfo:   "mariadb_backup_slave_info",
		GaleraInfo:  "mariadb_backup_galera_info",
	}
)

// Names that all families share.
const (
	DonorGaleraInfoName = "donor_galera_info"
	MyCnfName           = "backup-my.cnf"
)

// readEither reads the file that pick names, of the new family or else of the
// old, and returns its name too. The error is fs.ErrNotExist if there is
// neither.
func readEither(dir fs.FS, pick func(Names) string) (name string, text []byte, err error) {
	for _, names := range []Names{MariaDBNames, XtraBackupNames} {
		name = pick(names)
		text, err = readText(dir, name)
		if !errors.Is(err, fs.ErrNotExist) {
			return name, text, err
		}
	}
	return name, nil, err
}

// readText reads a text file of bounded size.
func readText(dir fs.FS, name string) ([]byte, error) { return readBounded(dir, name, MaxTextFile) }

func readBounded(dir fs.FS, name string, limit int) ([]byte, error) {
	f, err := dir.Open(name)
	if err != nil {
		return nil, err
	}
	text, err := io.ReadAll(io.LimitReader(f, int64(limit)+1))
	if err := errors.Join(err, f.Close()); err != nil {
		return nil, fmt.Errorf("reading %s: %w", name, err)
	}
	if len(text) > limit {
		return nil, fmt.Errorf("%s has more than %d bytes", name, limit)
	}
	return text, nil
}
