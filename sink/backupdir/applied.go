package backupdir

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"io/fs"
	"maps"
	"path"
	"slices"
	"strings"
	"unicode/utf8"

	"hb/sink/replay/mariadb"
	"hb/stream/disk"
	"hb/xbstream/innodb"
	"hb/xbstream/innodb/mysqlredo"
	"hb/xbstream/metadata"
)

const (
	appliedVersion = 1
	maxApplied     = 1 << 30 // bytes
)

// Applied is the content of that file.
type Applied struct {
	Lsn   innodb.LSN
	Lost  string // a warning: see Left
	Files map[string]appliedFile
}

type appliedFile struct {
	Path       string          `json:"path,omitempty"`
	PathBase64 []byte          `json:"path_base64,omitempty"`
	Size       int64           `json:"size"`
	CRC32      *metadata.CRC32 `json:"crc32,omitempty"`
	// Unwritten are pages that are in use and zero, as the server had not written them.
	Unwritten []innodb.PageNo `json:"unwritten,omitempty"`
}

type appliedHead struct {
	Version int        `json:"hb_applied"`
	LSN     innodb.LSN `json:"lsn"`
	Lost    string     `json:"lost,omitempty"`
}

type appliedEnd struct {
	Files int             `json:"hb_applied_end"`
	CRC32 *metadata.CRC32 `json:"crc32"`
}

// isServerLog reports whether a file is one of the redo log that a server finds.
func isServerLog(name string) bool {
	return name == mariadb.LogName || strings.HasPrefix(name, "ib_logfile") || path.Dir(name) == mysqlredo.RedoDir
}

// isPassing reports whether a file is there only while apply works.
func isPassing(name string) bool { return IsMark(name) || strings.HasSuffix(name, ExtTemporary) }

// WriteApplied records what the directory holds at the end of the recovery.
func WriteApplied(root disk.Dir, b *Backup, lsn innodb.LSN, left Left) error {
	fail := func(err error) error { return fmt.Errorf("recording the directory's contents: %w", err) }
	placeholder := ""
	if b.Held() {
		placeholder = b.System
	}
	files, _, err := ListFiles(root, placeholder)
	if err != nil {
		return fail(err)
	}
	var text bytes.Buffer
	lines := json.NewEncoder(&text)
	lines.SetEscapeHTML(false)
	err = lines.Encode(appliedHead{appliedVersion, lsn, left.Lost})
	slices.SortFunc(files, func(a, b *File) int { return strings.Compare(a.Path, b.Path) })
	count := 0
	for _, f := range files {
		line := appliedFile{Path: f.Path, Size: f.Size, Unwritten: left.Unwritten[f.Path]}
		if f.Path == b.SystemFiles[0] {
			line.Path = b.System
		} else if isPassing(f.Path) {
			continue
		}
		if isServerLog(f.Path) {
			var rerr error
			line.CRC32, rerr = sumFile(root, f.Path)
			err = errors.Join(err, rerr)
		}
		if !utf8.ValidString(line.Path) {
			line.Path, line.PathBase64 = "", []byte(line.Path)
		}
		err = errors.Join(err, lines.Encode(line))
		count++
	}
	sum := metadata.CRC32(crc32.ChecksumIEEE(text.Bytes()))
	if err = errors.Join(err, lines.Encode(appliedEnd{count, &sum})); err != nil {
		return fail(err)
	}
	return ReplaceFile(root, AppliedName, text.Bytes(), nil)
}

func sumFile(root disk.Dir, name string) (*metadata.CRC32, error) {
	f, err := root.Open(name)
	if err != nil {
		return nil, err
	}
	crc := crc32.NewIEEE()
	_, err = io.Copy(crc, f)
	sum := metadata.CRC32(crc.Sum32())
	return &sum, errors.Join(err, f.Close())
}

// ReadApplied reads the file; nil: it does not exist.
func ReadApplied(root disk.Dir) (*Applied, error) {
	st, err := root.Lstat(AppliedName)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	var text []byte
	if err == nil && st.Size() > maxApplied {
		err = fmt.Errorf("it has %d bytes", st.Size())
	}
	if err == nil {
		text, err = root.ReadFile(AppliedName)
	}
	if err != nil {
		return nil, fmt.Errorf("reading %s: %w", AppliedName, err)
	}
	d, err := parseApplied(text)
	if err != nil {
		return nil, &DamageError{AppliedName, err}
	}
	return d, nil
}

func parseApplied(text []byte) (*Applied, error) {
	lines := bytes.SplitAfter(text, []byte{'\n'})
	if len(lines) < 3 || len(lines[len(lines)-1]) > 0 {
		return nil, errors.New("it is cut")
	}
	last := lines[len(lines)-2]
	var head appliedHead
	var end appliedEnd
	err := errors.Join(json.Unmarshal(lines[0], &head), json.Unmarshal(last, &end))
	switch {
	case err != nil:
		return nil, err
	case head.Version != appliedVersion:
		return nil, fmt.Errorf("it is of version %d, this hb knows %d", head.Version, appliedVersion)
	case end.CRC32 == nil || *end.CRC32 != metadata.CRC32(crc32.ChecksumIEEE(text[:len(text)-len(last)])):
		return nil, errors.New("wrong checksum")
	}
	d := &Applied{Lsn: head.LSN, Lost: head.Lost, Files: make(map[string]appliedFile, len(lines)-3)}
	for _, line := range lines[1 : len(lines)-2] {
		var f appliedFile
		if err := json.Unmarshal(line, &f); err != nil {
			return nil, err
		}
		if f.Path == "" {
			f.Path = string(f.PathBase64)
		}
		d.Files[f.Path] = f
	}
	if len(d.Files) != end.Files {
		return nil, fmt.Errorf("it lists %d files, not %d", len(d.Files), end.Files)
	}
	return d, nil
}

// Match makes sure that the files are there as recovery left them, as far as
// that is noted. Their content is yet to be read.
func (d *Applied) Match(files []*File) error {
	var wrong Faults
	found := make(map[string]*File, len(files))
	for _, f := range files {
		found[f.Path] = f
	}
	for _, name := range slices.Sorted(maps.Keys(d.Files)) {
		f, ok := found[name]
		switch want := d.Files[name].Size; {
		case !ok:
			wrong.Add(Missing("%s is missing, which hb apply left: copy the directory again, or extract and apply the backup again", name))
		case f.Size != want:
			wrong.Of(f, &DamageError{name, fmt.Errorf("it has %d bytes, %d by %s", f.Size, want, AppliedName)})
		}
	}
	return wrong.Err()
}

// MatchContent compares files that were read.
func (d *Applied) MatchContent(files []*File) error {
	var wrong Faults
	for _, f := range files {
		if want := d.Files[f.Path].CRC32; want != nil && metadata.CRC32(f.crc32) != *want {
			wrong.Of(f, &DamageError{f.Path, fmt.Errorf("its checksum is %08x, %08x by %s", f.crc32, uint32(*want), AppliedName)})
		}
	}
	return wrong.Err()
}

// SameLog reports whether the redo log is the one that recovery left, by the
// names, sizes and sums of its files.
func (d *Applied) SameLog(root disk.Dir) (bool, error) {
	files, _, err := ListFiles(root, "")
	if err != nil {
		return false, err
	}
	logs := 0
	for _, f := range files {
		if !isServerLog(f.Path) {
			continue
		}
		want, ok := d.Files[f.Path]
		if !ok || want.Size != f.Size || want.CRC32 == nil {
			return false, nil
		}
		sum, err := sumFile(root, f.Path)
		if err != nil {
			return false, err
		}
		if *sum != *want.CRC32 {
			return false, nil
		}
		logs++
	}
	return (logs > 0) == d.HasLog(), nil
}

// HasLog reports whether recovery left a redo log.
func (d *Applied) HasLog() bool {
	for name := range d.Files {
		if isServerLog(name) {
			return true
		}
	}
	return false
}
