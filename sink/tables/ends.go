package tables

import (
	"fmt"
	"path"
	"strings"

	"hb/sink/backupdir"
	"hb/sink/catalog"
	"hb/stream"
	"hb/stream/disk"
	"hb/xbstream/metadata"
)

// ends are what became of files during a backup, by its fix-up files.
type ends struct {
	renamed map[string]string // paths without the extension
	gone    map[string]bool
}

// isFixup reports whether a file of an archive of hb's says what became of another one.
func isFixup(file string) bool {
	ext := path.Ext(file)
	return ext == metadata.FixupDelete || ext == metadata.FixupRename
}

// readEnds reads the fix-up files, by their paths.
func readEnds(files map[string][]byte) (*ends, error) {
	e := &ends{renamed: make(map[string]string), gone: make(map[string]bool)}
	for file, text := range files {
		base := strings.TrimSuffix(file, path.Ext(file))
		if path.Ext(file) == metadata.FixupDelete {
			e.gone[base] = true
			continue
		}
		to, err := backupdir.SpacePath(strings.TrimRight(string(text), "\x00\r\n"))
		if err != nil {
			return nil, &backupdir.DamageError{File: file, Err: err}
		}
		e.renamed[base] = strings.TrimSuffix(to, backupdir.ExtTable)
	}
	return e, nil
}

// indexedEnds reads the fix-up files of an archive by its index.
func indexedEnds(parts *stream.Parts) (*ends, error) {
	files, err := catalog.ReadMembers(parts, isFixup, backupdir.MaxRenameFile)
	if err != nil {
		return nil, err
	}
	return readEnds(files)
}

// extractedEnds reads those that were extracted.
func extractedEnds(root disk.Dir, files []metadata.File) (*ends, error) {
	texts := make(map[string][]byte)
	for _, f := range files {
		if !isFixup(f.Path) {
			continue
		}
		text, err := readFixup(root, f.Path)
		if err != nil {
			return nil, err
		}
		texts[f.Path] = text
	}
	return readEnds(texts)
}

// of is the name of a file at the end of the backup; "": it has none any more.
func (e *ends) of(file string) string {
	base, table := strings.CutSuffix(file, backupdir.ExtTable)
	switch to := e.renamed[base]; {
	case !table:
		return file
	case e.gone[base]:
		return ""
	case to != "":
		return to + backupdir.ExtTable
	}
	return file
}

// readFixup reads a fix-up file that was extracted.
func readFixup(root disk.Dir, file string) ([]byte, error) {
	st, err := root.Stat(file)
	if err != nil {
		return nil, fmt.Errorf("looking at %s: %w", file, err)
	}
	if st.Size() > backupdir.MaxRenameFile {
		return nil, &backupdir.DamageError{File: file, Err: fmt.Errorf("it has %d bytes, more than a name can have", st.Size())}
	}
	text, err := root.ReadFile(file)
	if err != nil {
		return nil, fmt.Errorf("reading %s: %w", file, err)
	}
	return text, nil
}
