package tables

import (
	"bytes"
	"errors"
	"fmt"
	"hash/crc32"
	"os"
	"path"
	"slices"
	"strings"

	"hb/sink/backupdir"
	"hb/sink/catalog"
	"hb/sink/merge"
	"hb/stream"
	"hb/stream/disk"
	"hb/xbstream/innodb"
	"hb/xbstream/metadata"
)

// Selection chooses the files of an archive that the recovery of some tables needs, and makes
// of the directory that they are extracted to a partial backup of these tables, whose manifest
// lists all other tablespaces as left out: so apply passes over the redo of exactly those. It
// is an extract.Selection.
//
// Chosen are the tables' own files, the system tablespace, undo tablespaces, the redo log and
// what describes the backup; for whole databases also general tablespaces, to find the tables in
// them.
type Selection struct {
	want  *wanted
	parts *stream.Parts // nil: the archive is read from front to back
	ends  *ends         // nil: not known before its end
	// server: the directory is for a server to start on, which needs more: also the end of the
	// binary log, whose file has that name; "": none, or not known yet.
	server bool
	binlog string
	// left are the tablespaces that are known to be left out.
	left map[innodb.SpaceID]bool
	of   *metadata.Scope // of the archive
	// seen are the files of an archive that is read from front to back, by their names in it.
	seen []string
}

// dictionaryFile is the data dictionary of MySQL 8.0 and later. Tables do without: their
// tablespaces describe them.
const dictionaryFile = "mysql.ibd"

// serverDatabases are those without which a server does not start.
var serverDatabases = []string{"mysql", "performance_schema", "sys"}

// Select chooses the files for tables, and for all of databases, of an archive, which may be
// opened by its index. With the index it makes sure that each of the names is there: a
// *NotFoundError. server: a server is to start on the directory, so it also gets the data
// dictionary.
func Select(names []Name, parts *stream.Parts, server bool) (*Selection, error) {
	s := &Selection{want: newWanted(names), parts: parts, server: server}
	if parts == nil {
		return s, nil
	}
	if err := checkFull(parts.Archive); err != nil {
		return nil, err
	}
	s.knowBinlog(parts.Manifest)
	var err error
	if s.ends, err = indexedEnds(parts); err != nil {
		return nil, err
	}
	s.know(s.listed(), parts.Manifest)
	return s, s.want.missing(s.finals(s.listed()), parts.Manifest)
}

// know notes the tablespaces that will be left out.
func (s *Selection) know(files []metadata.File, m *metadata.Manifest) {
	_, left := s.split(files)
	s.of, s.left = m.Scope, make(map[innodb.SpaceID]bool, len(left))
	for _, id := range left {
		s.left[id] = true
	}
}

// PassesOver reports whether the redo of a tablespace is not needed, as far as that is known
// before the archive's end.
func (s *Selection) PassesOver(id innodb.SpaceID) bool { return s.left[id] || s.of.Leaves(id) }

// knowBinlog notes where the backup's end is in the binary log: a server that has it knows which
// prepared transactions are committed.
func (s *Selection) knowBinlog(m *metadata.Manifest) {
	if m != nil && m.Binlog != nil {
		s.binlog = m.Binlog.File
	}
}

// SelectChain is Select of what a chain makes. The part is of that.
func SelectChain(names []Name, chain *merge.Chain, server bool) (*Selection, *merge.Part, error) {
	s := &Selection{want: newWanted(names), server: server, ends: new(ends)}
	s.knowBinlog(chain.Manifest())
	var files []string
	var lines []metadata.File
	for _, l := range chain.Live() {
		files = append(files, l.Path)
		lines = append(lines, metadata.File{Path: l.Path, Space: l.Space})
	}
	s.know(lines, chain.Manifest())
	return s, &merge.Part{Databases: s.want.scope(), Choose: func(l *metadata.Live) bool {
		return s.needsLine(metadata.File{Path: l.Path, Space: l.Space}, l.Path)
	}}, s.want.missing(files, chain.Manifest())
}

// Bytes is how many bytes of data the tables' files have, without holes; 0: that is known only at
// the archive's end.
func (s *Selection) Bytes() (n int64) {
	if s.parts == nil {
		return 0
	}
	files := map[int]bool{}
	for i := range s.parts.Index.Files() {
		files[i] = s.want.has(s.ends.of(s.parts.Path(i)))
	}
	for c := range s.parts.Pick(files) {
		n += c.Len
	}
	return n
}

// checkFull refuses an increment that is given without its base.
func checkFull(a *metadata.Archive) error {
	if a != nil && a.Options.Incremental {
		return &merge.MismatchError{Name: "the archive", What: "it is an incremental backup: give the full backup that it builds on first, and then the increments"}
	}
	return nil
}

// listed are the files of an archive by its index, without the index.
func (s *Selection) listed() []metadata.File { return s.parts.Files[:len(s.parts.Files)-1] }

// finals are the names of files at the end, without those that are gone.
func (s *Selection) finals(files []metadata.File) (names []string) {
	for _, f := range files {
		if name := s.ends.of(f.Path); name != "" && !isFixup(f.Path) {
			names = append(names, name)
		}
	}
	return names
}

// Choose implements extract.Selection. What it chooses before the names at the end are known
// can be too much: Complete removes that.
func (s *Selection) Choose(file string) bool {
	if s.parts == nil {
		s.seen = append(s.seen, file)
	}
	return s.chooses(file)
}

func (s *Selection) chooses(file string) bool {
	switch {
	case backupdir.IsOneOf(file, metadata.ArchiveName, metadata.IndexName):
		return false
	case file == metadata.ManifestName:
		return s.parts == nil
	case s.parts == nil:
		return isFixup(file) || s.needs(file)
	case path.Ext(file) == metadata.FixupRename:
		return s.needsRename(file)
	case isFixup(file):
		return false
	}
	return s.needs(s.ends.of(file))
}

// needsRename reports whether a fix-up file is about a file that is needed.
func (s *Selection) needsRename(fixup string) bool {
	return s.needs(s.ends.of(strings.TrimSuffix(fixup, metadata.FixupRename) + backupdir.ExtTable))
}

// needs reports whether a file is needed, by its name at the end; "": it has none.
func (s *Selection) needs(file string) bool {
	if db, _, in := strings.Cut(file, "/"); in {
		return s.want.has(file) || s.server && slices.Contains(serverDatabases, db)
	}
	switch {
	case file == "":
		return false
	case file == dictionaryFile:
		return s.server
	case path.Ext(file) == backupdir.ExtTable: // a general tablespace, which can have tables of a database
		return len(s.want.whole) > 0
	case metadata.IsOwn(file), backupdir.UndoFile.MatchString(file), s.isBinlog(file):
		return true
	}
	return s.isSystem(file)
}

func (s *Selection) isBinlog(file string) bool { return s.server && file == s.binlog }

// isSystem reports whether a file that is in no directory is one of the system tablespace, by
// the manifest, if that is known.
func (s *Selection) isSystem(file string) bool {
	if s.parts == nil {
		return true
	}
	i := slices.IndexFunc(s.parts.Files, func(f metadata.File) bool { return f.Path == file })
	return i >= 0 && s.parts.Files[i].Space != nil
}

// RenamedError says that a table had another name when it was copied, which is known only
// after that from an archive that is read from front to back.
type RenamedError struct{ Was, Is string }

func (e *RenamedError) Error() string {
	return fmt.Sprintf("%s was renamed to %s while the backup was made, which hb comes to know only after it has passed the file: give the archive as a file or an address, with its index, not through a pipe", e.Was, e.Is)
}

// Complete implements extract.Selection.
func (s *Selection) Complete(root disk.Dir, sum *catalog.Summary) error {
	if sum.Archive == nil {
		return s.completeForeign(root)
	}
	if err := checkFull(sum.Archive); err != nil {
		return err
	}
	s.knowBinlog(sum.Manifest)
	files, err := s.files(root, sum.Manifest)
	if err != nil {
		return err
	}
	kept, err := s.keep(root, files)
	if err != nil {
		return err
	}
	return s.describe(root, sum, files, kept)
}

// files are those that the manifest lists. Those of an archive without an index become known
// here, and what became of their names.
func (s *Selection) files(root disk.Dir, m *metadata.Manifest) (files []metadata.File, err error) {
	if s.parts != nil {
		return s.listed(), nil
	}
	listed, err := backupdir.ReadManifest(root)
	if err != nil {
		return nil, err
	}
	for _, f := range listed {
		files = append(files, f)
	}
	slices.SortFunc(files, func(a, b metadata.File) int { return strings.Compare(a.Path, b.Path) })
	if s.ends, err = extractedEnds(root, files); err != nil {
		return nil, err
	}
	return files, s.want.missing(s.finals(files), m)
}

// keep removes what was extracted and is not needed, and returns what is.
func (s *Selection) keep(root disk.Dir, files []metadata.File) (kept []metadata.File, err error) {
	left := make(map[string]int) // files of directories
	for _, f := range files {
		need, extracted := s.needed(f), s.chooses(f.Path)
		switch {
		case need && !extracted:
			return nil, &RenamedError{f.Path, s.ends.of(f.Path)}
		case need:
			kept = append(kept, f)
			left[path.Dir(f.Path)]++
		case extracted:
			if err := root.Remove(f.Path); err != nil {
				return nil, fmt.Errorf("removing what is not needed: %w", err)
			}
			left[path.Dir(f.Path)] += 0
		}
	}
	for dir, n := range left {
		if n == 0 && dir != "." {
			if err := root.Remove(dir); err != nil {
				return nil, fmt.Errorf("removing what is not needed: %w", err)
			}
		}
	}
	return kept, nil
}

// needed reports whether the directory is to have a file, once the names at the end are known.
func (s *Selection) needed(f metadata.File) bool {
	switch {
	case f.Path == metadata.ArchiveName, f.Path == metadata.IndexName:
		return false // hb writes the one again, and not the other
	case isFixup(f.Path):
		return path.Ext(f.Path) == metadata.FixupRename && s.needsRename(f.Path)
	}
	return s.needsLine(f, s.ends.of(f.Path))
}

// split returns the tablespaces that the directory is to have, and those that it leaves out.
func (s *Selection) split(files []metadata.File) (there, left []innodb.SpaceID) {
	has := make(map[innodb.SpaceID]bool)
	for _, f := range files {
		if f.Space != nil && s.needed(f) {
			there, has[*f.Space] = append(there, *f.Space), true
		}
	}
	for _, f := range files {
		if f.Space != nil && !has[*f.Space] {
			left = append(left, *f.Space)
		}
	}
	return there, left
}

// needsLine is needs for a file that a manifest lists: one that is in no directory, and not
// the backup's own, must be a tablespace, or the binary log.
func (s *Selection) needsLine(f metadata.File, final string) bool {
	return s.needs(final) && (path.Dir(f.Path) != "." || metadata.IsOwn(f.Path) || f.Space != nil || s.isBinlog(f.Path))
}

// describe makes the directory a partial backup: its manifest lists what is there, and what is
// left out.
func (s *Selection) describe(root disk.Dir, sum *catalog.Summary, files, kept []metadata.File) error {
	there, left := s.split(files)
	if len(there) == 0 {
		return &merge.MismatchError{Name: "the archive", What: "its manifest does not say which file is which tablespace, as that of hb's first version: restore the whole backup elsewhere (hb extract --apply), and copy the tables from there"}
	}
	m := *sum.Manifest
	scope := metadata.Scope{LeftOut: []metadata.SpaceRange{}}
	if m.Scope != nil {
		scope.LeftOut = m.Scope.LeftOut
	}
	scope.LeftOut = metadata.JoinRanges(scope.LeftOut, left, there)
	scope.Databases = s.want.scope()
	// Dropped databases and later increments are of no interest, and the binary log stays here.
	m.Scope, m.Since, m.StandsFor, m.Tracking, m.BinlogHome, m.DroppedDatabases = &scope, nil, nil, nil, nil, nil
	m.Encryption = m.Encryption.Of(s.needs)
	a := *sum.Archive
	a.Options.Partial = true
	a.Version = a.Options.Version()
	return write(root, &a, &m, kept)
}

// write writes the archive's description, and the manifest.
func write(root disk.Dir, a *metadata.Archive, m *metadata.Manifest, files []metadata.File) error {
	header, err := a.Marshal()
	if err != nil {
		return err
	}
	files = append([]metadata.File{{Path: metadata.ArchiveName, Size: int64(len(header)), CRC32: crc32.ChecksumIEEE(header)}}, files...)
	m.Files, m.Bytes = int64(len(files)), 0
	for _, f := range files {
		m.Bytes += f.Size
	}
	var text bytes.Buffer
	w, err := metadata.NewManifestWriter(&text, *m)
	if err != nil {
		return err
	}
	for _, f := range files {
		if err := w.Add(f); err != nil {
			return err
		}
	}
	if err := w.Close(); err != nil {
		return err
	}
	if err := put(root, metadata.ArchiveName, header); err != nil {
		return err
	}
	return put(root, metadata.ManifestName, text.Bytes())
}

// put writes a file, in the place of one that there may be.
func put(root disk.Dir, name string, content []byte) error {
	f, err := root.OpenFile(name, os.O_CREATE|os.O_TRUNC|os.O_WRONLY|backupdir.NoFollow, backupdir.FileMode)
	if err != nil {
		return err
	}
	_, err = f.Write(content)
	if err := errors.Join(err, f.Sync(), f.Close()); err != nil {
		return fmt.Errorf("writing %s: %w", name, err)
	}
	return nil
}
