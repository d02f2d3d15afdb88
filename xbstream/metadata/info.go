package metadata

import (
	"fmt"
	"io/fs"
	"time"

	"hb/xbstream/innodb"
)

// Info is xtrabackup_info, or mariadb_backup_info: the facts about a backup
// besides its LSNs. Nil and empty fields in the lower part are lines that a
// release does not write.
type Info struct {
	UUID            string
	Name            string // of the history record
	ToolName        string
	ToolCommand     string // with secrets masked
	ToolVersion     string
	IBBackupVersion string // the same again
	ServerVersion   string
	StartTime       string // InfoTime, in the server's time zone
	EndTime         string
	LockTime        string // seconds
	BinlogPos       string // BinlogPos.InfoText
	FromLSN         innodb.LSN
	ToLSN           innodb.LSN
	Partial         bool
	Incremental     bool
	Format          string // "file", "tar", "xbstream"; MariaDB "mbstream"
	Compact         *bool  // XtraBackup 2.4
	Compressed      bool
	Encrypted       *bool // XtraBackup

	Extra []Pair // lines that hb does not know, kept
}

// InfoTime is the layout of the info file's times.
const InfoTime = time.DateTime

// infoField is one line of the file: its key and how to turn it to text and
// back. text returns false for a line that is not written.
type infoField struct {
	key  string
	text func() (string, bool)
	set  func(string) error
}

// fields lists the lines in their order.
func (i *Info) fields() []infoField {
	fs := []infoField{
		stringField("uuid", &i.UUID), stringField("name", &i.Name),
		stringField("tool_name", &i.ToolName), stringField("tool_command", &i.ToolCommand),
		stringField("tool_version", &i.ToolVersion), stringField("ibbackup_version", &i.IBBackupVersion),
		stringField("server_version", &i.ServerVersion),
		stringField("start_time", &i.StartTime), stringField("end_time", &i.EndTime),
		stringField("lock_time", &i.LockTime), stringField("binlog_pos", &i.BinlogPos),
		lsnField("innodb_from_lsn", &i.FromLSN), lsnField("innodb_to_lsn", &i.ToLSN),
		boolField("partial", &i.Partial, "Y"), boolField("incremental", &i.Incremental, "Y"),
		stringField("format", &i.Format),
		optionalField("compact", &i.Compact),
		boolField("compressed", &i.Compressed, "compressed"),
		optionalField("encrypted", &i.Encrypted),
	}
	return fs
}

func stringField(key string, p *string) infoField {
	return infoField{key,
		func() (string, bool) { return *p, true },
		func(s string) error { *p = s; return nil }}
}

func lsnField(key string, p *innodb.LSN) infoField {
	return infoField{key,
		func() (string, bool) { return p.String(), true },
		func(s string) error {
			_, err := fmt.Sscanf(s, "%d", (*uint64)(p))
			return err
		}}
}

// boolField is a line with yes or "N".
func boolField(key string, p *bool, yes string) infoField {
	return infoField{key,
		func() (string, bool) { return yesNo(*p, yes), true },
		func(s string) (err error) { *p, err = parseYesNo(s, yes); return err }}
}

// optionalField is a line of "Y" or "N" that may be absent.
func optionalField(key string, p **bool) infoField {
	return infoField{key,
		func() (string, bool) { return yesNo(*p != nil && **p, "Y"), *p != nil },
		func(s string) error {
			v, err := parseYesNo(s, "Y")
			*p = &v
			return err
		}}
}

func yesNo(v bool, yes string) string {
	if v {
		return yes
	}
	return "N"
}

func parseYesNo(s, yes string) (bool, error) {
	if s != yes && s != "N" {
		return false, fmt.Errorf("want %s or N, got %.20q", yes, s)
	}
	return s == yes, nil
}

// Marshal returns the file's content.
func (i *Info) Marshal() ([]byte, error) {
	var ps pairs
	for _, f := range i.fields() {
		if text, ok := f.text(); ok {
			ps = append(ps, Pair{f.key, text})
		}
	}
	return append(ps, i.Extra...).format(XtraBackupNames.Info)
}

// UnmarshalInfo reads a file's content. Any line may be absent.
func UnmarshalInfo(text []byte) (*Info, error) {
	const file = "xtrabackup_info"
	ps, err := parsePairs(file, text)
	if err != nil {
		return nil, err
	}
	i := new(Info)
	for _, f := range i.fields() {
		value, ok := ps.take(f.key)
		if !ok {
			continue
		}
		if err := f.set(value); err != nil {
			return nil, fmt.Errorf("%s: %s: %w", file, f.key, err)
		}
	}
	i.Extra = ps
	return i, nil
}

// ReadInfo reads the file of either family in dir and returns the name under
// which it was found. The error is fs.ErrNotExist if the directory has none.
func ReadInfo(dir fs.FS) (i *Info, name string, err error) {
	name, text, err := readEither(dir, func(n Names) string { return n.Info })
	if err != nil {
		return nil, name, err
	}
	i, err = UnmarshalInfo(text)
	return i, name, err
}
