package backupdir

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"hb/sink/replay"
)

// AppliedName is a file that apply leaves in a directory that it recovered: what
// is in there, so that the directory, or a copy of it, can be verified until a
// server starts on it. It has one JSON object a line:
//
//	{"hb_applied":1,"lsn":N,"lost":W}                of the directory
//	{"path":P,"size":N,"crc32":C,"unwritten":[N,…]}  a file
//	{"hb_applied_end":N,"crc32":C}                   number of files, CRC-32 of all lines before
//
// A path that is not UTF-8 is under "path_base64". Only files of the redo log have
// a CRC-32, which recovery made. All others are known in other ways: pages by
// their own checksums, files of other engines by the backup's manifest. So no file
// has to be read again. "lost", a warning, and "unwritten" are there if pages in use
// are zero: see Left.
const AppliedName = "hb-applied.json"

// ApplyingName is a file that is in a directory while apply works on it, and
// that says how far it is.
const ApplyingName = "hb-applying"

// HandedOverName is a file that apply leaves in a directory that it made ready
// for recovery by the server: a state, of StageServer.
const HandedOverName = "hb-by-server"

// ExtTemporary ends the names of files that are to take another one's place.
const ExtTemporary = ".hb-tmp"

// NewRedoDir is where a new redo log is made before it takes its place.
const NewRedoDir = "hb-redo"

// MarkerName is a file that stands in a directory while it is being
// extracted. It is the first to be created and the last to be removed, so that
// a directory with it is never a whole backup.
const MarkerName = "hb-incomplete"

// PartialName is a file in a directory into which only some files of an archive were
// extracted: it is no backup.
const PartialName = "hb-partial"

// IsMark reports whether path is one that hb keeps in a directory for itself:
// apply believes what that file says about its progress.
func IsMark(path string) bool {
	top, _, _ := strings.Cut(path, "/")
	return IsOneOf(top, MarkerName, PartialName, ApplyingName, AppliedName, HandedOverName, replay.DoublewriteName, replay.SpillName, NewRedoDir) ||
		len(top) >= len(ExtHeld) && IsOneOf(top[len(top)-len(ExtHeld):], ExtHeld)
}

// IsOneOf compares names as case-insensitive file systems do.
func IsOneOf(name string, names ...string) bool {
	return slices.ContainsFunc(names, func(n string) bool { return strings.EqualFold(n, name) })
}

// IsMarked reports whether dir holds an extract that has not finished.
func IsMarked(dir string) (bool, error) {
	_, err := os.Lstat(filepath.Join(dir, MarkerName))
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	return err == nil, err
}
