package metadata

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/bits"
	"time"
	"unicode/utf8"

	"hb/xbstream/innodb"
)

const (
	// ArchiveName is the first file of an archive.
	ArchiveName = "hb-archive.json"
	// ArchiveVersion is the version of a full backup's archive, of all tables;
	// LastArchiveVersion is the highest that this hb reads. See ArchiveFlags.Version.
	ArchiveVersion     = 1
	LastArchiveVersion = partialVersion
	// MaxArchiveSize bounds hb-archive.json in bytes.
	MaxArchiveSize = 64 << 10
)

// The servers that hb backs up.
const (
	FlavorMariaDB = "mariadb"
	FlavorMySQL   = "mysql"
)

// Archive is hb-archive.json. The name of the host is left out on purpose.
type Archive struct {
	Version       int          `json:"hb_archive"`     // by Options: see ArchiveFlags.Version
	HBVersion     string       `json:"hb_version"`     // of the hb that wrote it
	ServerFlavor  string       `json:"server_flavor"`  // FlavorMariaDB or FlavorMySQL
	ServerVersion string       `json:"server_version"` // as the server states it: "10.11.18-MariaDB-log"
	PageSize      int          `json:"page_size"`      // innodb_page_size in bytes
	StartLSN      innodb.LSN   `json:"start_lsn"`      // the checkpoint from which the redo is copied
	RedoFormat    string       `json:"redo_format"`    // name of the redo log's format
	Created       time.Time    `json:"created"`        // when the backup began
	Options       ArchiveFlags `json:"options"`
}

// ArchiveFlags is how the archive was made.
type ArchiveFlags struct {
	Compressed bool `json:"compressed"` // a zstd stage around it
	Encrypted  bool `json:"encrypted"`  // an age stage around it
	Partial    bool `json:"partial"`    // not all tables are in it

	Incremental bool `json:"incremental,omitempty"` // only what changed since another backup is in it
}

// Version is that of hb-archive.json, and of hb-manifest.json, of such an archive: the
// lowest that does not know it must refuse it.
func (f ArchiveFlags) Version() int {
	switch {
	case f.Partial:
		return partialVersion
	case f.Incremental:
		return incrementVersion
	}
	return ArchiveVersion
}

// VersionError reports a file of a version that this hb does not know.
type VersionError struct {
	File       string
	Got, Known int
}

func (e *VersionError) Error() string {
	return fmt.Sprintf("%s is of version %d, this hb knows versions up to %d: use a newer hb", e.File, e.Got, e.Known)
}

func checkVersion(file string, got, known int) error {
	if got > known {
		return &VersionError{File: file, Got: got, Known: known}
	}
	if got < 1 {
		return fmt.Errorf("%s states no version", file)
	}
	return nil
}

// Limits of InnoDB: UNIV_PAGE_SIZE_MIN and UNIV_PAGE_SIZE_MAX of all releases
// since 5.7 and 10.1.
const (
	minPageSize = 4 << 10
	maxPageSize = 64 << 10
)

// maxText bounds each text field.
const maxText = 1024

// Server is the server's family and version, as in "MariaDB 10.11.18-MariaDB-log".
func (a *Archive) Server() string {
	if a.ServerFlavor == FlavorMariaDB {
		return "MariaDB " + a.ServerVersion
	}
	return "MySQL " + a.ServerVersion
}

// Validate reports what is wrong with a.
func (a *Archive) Validate() error {
	if err := checkVersion(ArchiveName, a.Version, LastArchiveVersion); err != nil {
		return err
	}
	var problem string
	switch {
	case a.Version != a.Options.Version():
		problem = fmt.Sprintf("version %d, incremental: %v, partial: %v", a.Version, a.Options.Incremental, a.Options.Partial)
	case a.ServerFlavor != FlavorMariaDB && a.ServerFlavor != FlavorMySQL:
		problem = fmt.Sprintf("unknown server_flavor %q", a.ServerFlavor)
	case a.PageSize < minPageSize || a.PageSize > maxPageSize || bits.OnesCount(uint(a.PageSize)) != 1:
		problem = fmt.Sprintf("page_size %d", a.PageSize)
	case a.Created.IsZero():
		problem = "no time of creation"
	}
	for _, f := range []struct{ name, text string }{
		{"hb_version", a.HBVersion}, {"server_version", a.ServerVersion}, {"redo_format", a.RedoFormat},
	} {
		if f.text == "" || len(f.text) > maxText || !utf8.ValidString(f.text) {
			problem = fmt.Sprintf("%s %.40q", f.name, f.text)
		}
	}
	if problem != "" {
		return fmt.Errorf("%s: %s", ArchiveName, problem)
	}
	return nil
}

// Marshal returns the file's content.
func (a *Archive) Marshal() ([]byte, error) {
	if err := a.Validate(); err != nil {
		return nil, err
	}
	text, err := json.MarshalIndent(a, "", "  ")
	if err != nil {
		return nil, fmt.Errorf("%s: %w", ArchiveName, err)
	}
	return append(text, '\n'), nil
}

// UnmarshalArchive reads and validates a file's content.
func UnmarshalArchive(text []byte) (*Archive, error) {
	if len(text) > MaxArchiveSize {
		return nil, fmt.Errorf("%s has %d bytes, more than %d", ArchiveName, len(text), MaxArchiveSize)
	}
	a := new(Archive)
	if err := unmarshalVersioned(ArchiveName, "hb_archive", LastArchiveVersion, text, a); err != nil {
		return nil, err
	}
	return a, a.Validate()
}

// unmarshalVersioned reads only the version first, since in a later
// version any other field may have another shape.
func unmarshalVersioned(file, key string, known int, text []byte, v any) error {
	var fields map[string]json.RawMessage
	if err := unmarshalOne(text, &fields); err != nil {
		return fmt.Errorf("%s: %w", file, err)
	}
	var version int
	if raw, ok := fields[key]; ok {
		if err := json.Unmarshal(raw, &version); err != nil {
			return fmt.Errorf("%s: %s: %w", file, key, err)
		}
	}
	if err := checkVersion(file, version, known); err != nil {
		return err
	}
	if err := json.Unmarshal(text, v); err != nil {
		return fmt.Errorf("%s: %w", file, err)
	}
	return nil
}

// unmarshalOne reads text that must be one JSON value; a cut one is a
// truncation.
func unmarshalOne(text []byte, v any) error {
	dec := json.NewDecoder(bytes.NewReader(text))
	err := dec.Decode(v)
	if err == io.EOF {
		err = io.ErrUnexpectedEOF
	}
	if err != nil {
		return err
	}
	if _, err := dec.Token(); err != io.EOF {
		return errors.New("more than one JSON value")
	}
	return nil
}
