// Package listing shows which files an archive holds: entries come in, in any order, and
// a list comes out, for people, for a shell, or as JSON.
package listing

import (
	"cmp"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"unicode/utf8"

	"hb/sink/catalog"
	"hb/stream"
	"hb/xbstream/metadata"
)

// Version is that of the list as JSON. Keys may be added without a new one.
const Version = 1

// Options are what a list shows. The tags are the command line's.
type Options struct {
	Long     bool `short:"l" help:"Show sizes with units, mark encrypted tablespaces, and show totals by database."`
	JSON     bool `name:"json" help:"Write the list, the totals and what the archive says of itself as one JSON object."`
	Manifest bool `help:"Write the manifest instead: what hb backup --since needs of the archive."`
	// Patterns choose files; none: all.
	Patterns []string `arg:"" optional:"" name:"pattern" help:"List only files that match one of these: shell patterns for a path, for a directory, or, without a slash, for a file's name."`
}

// CheckManifest refuses what means nothing where the manifest is written. The error is a
// *stream.UsageError.
func (o *Options) CheckManifest() error {
	if o.Long || o.JSON || len(o.Patterns) > 0 {
		return stream.AsUsage(errors.New("--manifest writes the manifest as it is: no list in another form, and no patterns"))
	}
	return nil
}

// A Listing gathers the files that an archive leaves when it is extracted. Of a million
// files it must not become large.
type Listing struct {
	Options
	patterns *catalog.Patterns
	blocks   [][]file         // each but the last has blockFiles
	at       map[string]*file // each by its path, once one was renamed or removed; else nil
}

// blockFiles is how many files are kept in one piece: one slice of all would be in memory
// twice when it grows.
const blockFiles = 4096

// file is what the list keeps of a file.
type file struct {
	path   string // "": it is gone
	size   int64
	chunks int64
	crc    uint32
	hasCRC bool
}

// New begins a list. An invalid pattern is a *stream.UsageError.
func New(o Options) (*Listing, error) {
	patterns, err := catalog.NewPatterns(o.Patterns)
	return &Listing{Options: o, patterns: patterns}, err
}

// Add takes the archive's next record. It returns no error.
func (l *Listing) Add(e catalog.Entry) error {
	if e.Op == catalog.OpFile {
		l.put(file{e.Path, e.Size, e.Chunks, e.CRC32, e.HasCRC32})
		return nil
	}
	if l.at == nil {
		l.at = make(map[string]*file)
		for _, f := range l.kept() {
			l.at[f.path] = f
		}
	}
	if f := l.at[e.Path]; f != nil {
		moved := *f
		f.path = ""
		delete(l.at, e.Path)
		if moved.path = e.NewPath; e.Op == catalog.OpRename {
			l.put(moved)
		}
	}
	return nil
}

// put adds a file, in the place of one of that name.
func (l *Listing) put(f file) {
	last := len(l.blocks) - 1
	if last < 0 || len(l.blocks[last]) == blockFiles {
		l.blocks = append(l.blocks, make([]file, 0, blockFiles))
		last++
	}
	l.blocks[last] = append(l.blocks[last], f)
	if l.at != nil {
		if old := l.at[f.path]; old != nil {
			old.path = ""
		}
		l.at[f.path] = &l.blocks[last][len(l.blocks[last])-1]
	}
}

// kept are the files that are there.
func (l *Listing) kept() []*file {
	list := make([]*file, 0, len(l.blocks)*blockFiles)
	for _, block := range l.blocks {
		for i := range block {
			if block[i].path != "" {
				list = append(list, &block[i])
			}
		}
	}
	return list
}

// Write writes the list of the archive that s sums up to w, sorted by path. That no file
// matches the patterns is an error after that.
func (l *Listing) Write(w io.Writer, s *catalog.Summary) error {
	chosen := slices.DeleteFunc(l.kept(), func(f *file) bool { return !l.patterns.Choose(f.path) })
	slices.SortFunc(chosen, func(a, b *file) int { return strings.Compare(a.path, b.path) })
	write := writeShort
	switch {
	case l.JSON:
		write = writeJSON
	case l.Long:
		write = writeLong
	}
	err := write(w, s, chosen)
	if err == nil && len(chosen) == 0 && len(l.Patterns) > 0 {
		err = errors.New("the archive has no file that matches " + strings.Join(l.Patterns, " or "))
	}
	return err
}

// writeShort writes bytes, chunks and path, for a shell.
func writeShort(w io.Writer, _ *catalog.Summary, files []*file) error {
	for _, f := range files {
		if _, err := fmt.Fprintf(w, "%12d %6d %s\n", f.size, f.chunks, f.path); err != nil {
			return err
		}
	}
	return nil
}

// writeLong writes size and path, and then totals, for people. Of encrypted tablespaces it marks
// those that the manifest names.
func writeLong(w io.Writer, s *catalog.Summary, files []*file) error {
	encrypted := make(map[string]bool)
	if s.Manifest != nil && s.Manifest.Encryption != nil {
		for _, name := range s.Manifest.Encryption.Names {
			encrypted[name] = true
		}
	}
	for _, f := range files { // what was renamed or dropped has not the name that it had in the end
		if base, is := strings.CutSuffix(f.path, metadata.FixupRename); is {
			delete(encrypted, base+".ibd")
		}
		if base, is := strings.CutSuffix(f.path, metadata.FixupDelete); is {
			delete(encrypted, base+".ibd")
		}
	}
	for _, f := range files {
		mark := ""
		if encrypted[f.path] {
			mark = " (encrypted)"
		}
		if _, err := fmt.Fprintf(w, "%10v  %s%s\n", stream.Size(f.size), f.path, mark); err != nil {
			return err
		}
	}
	var all Total
	for _, t := range totals(files) {
		if err := t.write(w, cmp.Or(t.Name, "(in no database)")); err != nil {
			return err
		}
		all.Files, all.Bytes = all.Files+t.Files, all.Bytes+t.Bytes
	}
	return all.write(w, "total")
}

// A Total is how much of an archive a database is.
type Total struct {
	// Name is that of the directory; "": files in none.
	Name  string `json:"name"`
	Files int64  `json:"files"`
	Bytes int64  `json:"bytes"`
}

func (t *Total) write(w io.Writer, name string) error {
	_, err := fmt.Fprintf(w, "%10v  %6d files  %s\n", stream.Size(t.Bytes), t.Files, name)
	return err
}

// totals adds up files by their databases, sorted by name.
func totals(files []*file) (list []Total) {
	at := make(map[string]int)
	for _, f := range files {
		name, _, in := strings.Cut(f.path, "/")
		if !in {
			name = ""
		}
		i, known := at[name]
		if !known {
			i = len(list)
			at[name] = i
			list = append(list, Total{Name: name})
		}
		list[i].Files++
		list[i].Bytes += f.size
	}
	slices.SortFunc(list, func(a, b Total) int { return strings.Compare(a.Name, b.Name) })
	return list
}

// File is a file as JSON.
type File struct {
	Path       string          `json:"path,omitempty"`
	PathBase64 string          `json:"path_base64,omitempty"` // of one that is not UTF-8
	Size       int64           `json:"size"`
	Chunks     int64           `json:"chunks"`
	CRC32      *metadata.CRC32 `json:"crc32,omitempty"` // of the content, if it has no holes
}

// Document is the list as one JSON object. It is written piece by piece.
type Document struct {
	Version   int                `json:"hb_list"` // Version
	Archive   *metadata.Archive  `json:"archive,omitempty"`
	Manifest  *metadata.Manifest `json:"manifest,omitempty"`
	Complete  bool               `json:"complete"` // it has its manifest
	Indexed   bool               `json:"indexed"`  // it was not read except for its index and manifest
	Databases []Total            `json:"databases"`
	Files     []File             `json:"files"`
}

// writeJSON writes a Document, each file on a line of its own.
func writeJSON(w io.Writer, s *catalog.Summary, files []*file) error {
	d := Document{Version, s.Archive, s.Manifest, s.Manifest != nil, s.Indexed, totals(files), []File{}}
	if d.Databases == nil {
		d.Databases = []Total{}
	}
	head, err := json.Marshal(d)
	if err != nil {
		return err
	}
	if _, err := fmt.Fprintf(w, "%s", strings.TrimSuffix(string(head), "]}")); err != nil {
		return err
	}
	for i, f := range files {
		line, err := json.Marshal(f.told())
		if err != nil {
			return err
		}
		separator := ","
		if i == 0 {
			separator = ""
		}
		if _, err := fmt.Fprintf(w, "%s\n%s", separator, line); err != nil {
			return err
		}
	}
	_, err = io.WriteString(w, "\n]}\n")
	return err
}

// told is the file for programs.
func (f *file) told() File {
	told := File{Path: f.path, Size: f.size, Chunks: f.chunks}
	if f.hasCRC {
		told.CRC32 = (*metadata.CRC32)(&f.crc)
	}
	if !utf8.ValidString(f.path) {
		told.Path, told.PathBase64 = "", base64.StdEncoding.EncodeToString([]byte(f.path))
	}
	return told
}
