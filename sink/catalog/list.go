package catalog

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"strings"
	"time"

	"hb/xbstream"
	"hb/xbstream/metadata"
)

// Op is the kind of an Entry.
type Op uint8

const (
	OpFile   Op = iota // a file that has ended
	OpRename           // Path is renamed to NewPath (MariaDB)
	OpRemove           // Path is gone (MariaDB)
)

// Entry is one record of an archive about a file.
type Entry struct {
	Op       Op
	Path     string
	NewPath  string // OpRename
	Size     int64  // bytes, holes included
	Chunks   int64  // payload chunks
	CRC32    uint32 // CRC-32 (IEEE) of the content, if HasCRC32
	HasCRC32 bool
}

// Summary describes a whole archive.
type Summary struct {
	Files    int64 // files that it leaves, the manifest included
	Bytes    int64 // their sizes together, holes included
	Archive  *metadata.Archive
	Manifest *metadata.Manifest
	Dialect  xbstream.Dialect
	// Foreign is set for an archive that hb did not make: Archive and
	// Manifest are nil, and Warnings says so.
	Foreign bool
	// Indexed is set where the archive was not read from front to back: what it says
	// is known by its index and its manifest, and Files and Bytes are of what was read
	// or listed.
	Indexed  bool
	Warnings []string
}

// List reads an archive, already without its stages, to its end and calls fn
// for each file when it ends. The archive is complete only if List returns
// without an error; the rules are those of extract. The Summary holds what is
// known in any case.
func List(ctx context.Context, r io.Reader, fn func(Entry) error) (*Summary, error) {
	rd := xbstream.NewReader(r, xbstream.ReaderOptions{})
	cat := New()
	err := list(ctx, rd, cat, fn)
	return cat.Summary(rd), cat.Explain(err)
}

func list(ctx context.Context, rd *xbstream.Reader, cat *Catalog, fn func(Entry) error) error {
	return follow(ctx, rd, cat, func(ch *xbstream.Chunk, entry *Entry) error {
		for _, e := range entries(ch, entry) {
			if err := fn(e); err != nil {
				return err
			}
		}
		return nil
	})
}

// follow reads an archive to its end, and calls fn with each chunk, and with the entry of
// a file that ends there.
func follow(ctx context.Context, rd *xbstream.Reader, cat *Catalog, fn func(*xbstream.Chunk, *Entry) error) error {
	for {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		ch, err := rd.Next()
		if err == io.EOF {
			return cat.Finish()
		}
		if err != nil {
			return err
		}
		entry, err := cat.Add(ch)
		if err != nil {
			return err
		}
		if err := fn(ch, entry); err != nil {
			return err
		}
	}
}

// entries are the Entries of a chunk.
func entries(ch *xbstream.Chunk, ended *Entry) []Entry {
	switch ch.Type {
	case xbstream.End:
		return []Entry{*ended}
	case xbstream.Rename:
		return []Entry{{Op: OpRename, Path: ch.Path, NewPath: ch.NewPath}}
	case xbstream.Remove:
		var es []Entry
		for _, path := range ch.Removed {
			es = append(es, Entry{Op: OpRemove, Path: path})
		}
		return es
	}
	return nil
}

func (c *Catalog) Summary(rd *xbstream.Reader) *Summary {
	return &Summary{
		Files: c.files, Bytes: c.bytes, Archive: c.Archive, Manifest: c.manifestFacts(),
		Dialect: rd.Dialect(), Foreign: c.any && !c.Own, Warnings: c.warnings(),
	}
}

// Size is how much a backup is, for programs.
func (s *Summary) Size() []slog.Attr {
	return []slog.Attr{slog.Int64("files", s.Files), slog.Int64("bytes", s.Bytes)}
}

// About describes a backup for programs: where it is from, and its position.
func (s *Summary) About() []slog.Attr {
	facts := []slog.Attr{slog.Bool("foreign", s.Foreign)}
	if s.Archive != nil {
		facts = append(facts, slog.String("server", s.Archive.Server()), slog.Time("created", s.Archive.Created))
	}
	if m := s.Manifest; m != nil && m.Binlog != nil {
		facts = append(facts, slog.Any("binlog", m.Binlog))
	}
	return facts
}

// Facts are all of that, and the redo log that the manifest states.
func (s *Summary) Facts() []slog.Attr {
	facts := append(s.Size(), s.About()...)
	if m := s.Manifest; m != nil {
		facts = append(facts, slog.Uint64("from_lsn", uint64(m.FromLSN)), slog.Uint64("last_lsn", uint64(m.LastLSN)))
	}
	return facts
}

// DescribeEncryption says in one line what is encrypted at rest, and what a restore needs; "":
// nothing is, or the archive does not tell.
func (s *Summary) DescribeEncryption() string {
	if s.Archive == nil || s.Manifest == nil {
		return ""
	}
	return s.Manifest.Encryption.Describe(s.Archive.ServerFlavor)
}

// Describe describes the archive in a few lines.
func (s *Summary) Describe() string {
	var b strings.Builder
	switch {
	case s.Archive != nil:
		fmt.Fprintf(&b, "backup of %s by hb %s, begun %s", s.Archive.Server(), s.Archive.HBVersion, s.Archive.Created.Format(time.RFC3339))
	case s.Foreign && s.Dialect != xbstream.AnyDialect:
		fmt.Fprintf(&b, "xbstream archive of %v's", s.Dialect)
	case s.Foreign:
		b.WriteString("xbstream archive")
	}
	fmt.Fprintf(&b, "\n%d files, %d bytes", s.Files, s.Bytes)
	if m := s.Manifest; m != nil {
		state := "complete"
		if s.Indexed {
			state = "listed by its index, without reading the files: hb verify proves them"
		}
		if m.Scope != nil {
			fmt.Fprintf(&b, "\nsome tables only: %v", m.Scope)
		}
		fmt.Fprintf(&b, "\n%s; redo from LSN %d to %d", state, m.FromLSN, m.LastLSN)
		if m.Binlog != nil {
			fmt.Fprintf(&b, "\nbinary log position: %s", m.Binlog.InfoText())
		}
		for _, w := range m.Warnings {
			fmt.Fprintf(&b, "\nwarning at backup: %s", w)
		}
	}
	return b.String()
}
