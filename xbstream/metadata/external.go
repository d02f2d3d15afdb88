package metadata

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
)

const (
	// ExternalName is XtraBackup's list of tablespaces whose place the backup
	// does not show (8.0 and later). It is one of its last files. hb writes it
	// for 5.6, 5.7 and MariaDB, too, if there are such tablespaces. A table of 5.6 that
	// lay elsewhere cannot be dropped where the backup has it: the server fails
	// an assertion (5.6.24, row0mysql.cc, data_dir_path). It has to be moved
	// out, and its new path written to db/t.isl, before the server starts.
	ExternalName = "xtrabackup_tablespaces"

	externalVersion = 2
	// MaxExternal bounds the file in bytes: some 100 for each tablespace.
	MaxExternal = 64 << 20
)

// The types of an ExternalSpace, as INFORMATION_SCHEMA.FILES almost has them.
const (
	ExternalTable = "TABLESPACE"
	ExternalUndo  = "UNDO_LOG"
)

// ExternalSpace is a tablespace that lay outside the data directory, or an undo
// tablespace wherever it lay. In a backup it is in the data directory, as
// NAME.ibd or NAME.ibu ("db/t.ibd", "archive.ibd"); undo tablespaces that the
// server itself made keep their own names (undo_001). XtraBackup puts it back to
// where it came from; hb leaves it where it is, where a server finds it by its
// id.
type ExternalSpace struct {
	File string `json:"file_name"`       // on the server that was backed up
	Name string `json:"tablespace_name"` // "db/t", "innodb_undo_001", "archive"
	Type string `json:"tablespace_type"`
	// Outside: it lay outside the data directory. XtraBackup does not record this.
	Outside bool `json:"hb_outside,omitempty"`
}

// External is the content of xtrabackup_tablespaces.
type External struct {
	Spaces []ExternalSpace
	// System is the path of the first file of the system tablespace, on the server
	// that was backed up: a server that runs has that file locked. XtraBackup does
	// not state it.
	System string
}

type external struct {
	Version int             `json:"version"`
	Spaces  []ExternalSpace `json:"external_tablespaces"`
	System  string          `json:"hb_system_tablespace,omitempty"`
}

// Marshal returns the file's content: one line of JSON.
func (e *External) Marshal() ([]byte, error) {
	spaces := e.Spaces
	if spaces == nil {
		spaces = []ExternalSpace{}
	}
	text, err := json.Marshal(external{externalVersion, spaces, e.System})
	if err != nil {
		return nil, fmt.Errorf("%s: %w", ExternalName, err)
	}
	if len(text) >= MaxExternal {
		return nil, fmt.Errorf("%s would have %d bytes, more than %d", ExternalName, len(text), MaxExternal)
	}
	return append(text, '\n'), nil
}

// UnmarshalExternal reads a file's content.
func UnmarshalExternal(text []byte) (*External, error) {
	var e external
	if err := unmarshalVersioned(ExternalName, "version", externalVersion, text, &e); err != nil {
		return nil, err
	}
	for _, s := range e.Spaces {
		if s.Name == "" || s.Type != ExternalTable && s.Type != ExternalUndo {
			return nil, fmt.Errorf("%s: tablespace %.60q of type %.20q", ExternalName, s.Name, s.Type)
		}
	}
	return &External{e.Spaces, e.System}, nil
}

// ReadExternal reads the file in dir; there need be none.
func ReadExternal(dir fs.FS) (*External, error) {
	text, err := readBounded(dir, ExternalName, MaxExternal)
	if errors.Is(err, fs.ErrNotExist) {
		return &External{}, nil
	}
	if err != nil {
		return nil, err
	}
	return UnmarshalExternal(text)
}
