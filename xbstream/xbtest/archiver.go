// Package xbtest makes archives for tests, and reads them.
package xbtest

import (
	"bytes"
	"maps"
	"time"

	"hb/xbstream"
	"hb/xbstream/innodb"
	"hb/xbstream/innodb/mariadbredo"
	"hb/xbstream/metadata"
)

// Archiver makes an archive with hb's own writer. Its methods keep the first error, which
// Finish and Close return.
type Archiver struct {
	Out      bytes.Buffer      // the archive as far as it is written
	Files    []metadata.File   // that have ended
	Manifest metadata.Manifest // how the manifest begins: Finish fills in counts and sums
	// Index makes the index that Finish writes of the one that is right, which is what
	// there is of it if the archive can have none; it writes none if that is nil. Moved is by how many bytes the manifest is wrong about where
	// it begins.
	Index func(right []byte) []byte
	Moved int64
	// Live and Dropped are lines of the manifest of an incremental backup.
	Live    []metadata.Live
	Dropped []string

	w       *xbstream.Writer
	indexAt int64 // where the index begins; 0: no index
	err     error
}

// Begin begins an archive with nothing: Close ends it.
func Begin() *Archiver {
	a := new(Archiver)
	a.w = xbstream.NewWriter(&a.Out)
	return a
}

// NewArchiver begins an archive of hb's, with its header, of a MariaDB 10.11 with pages of
// so many bytes and redo from from to last. Finish ends it.
func NewArchiver(pageSize int, from, last innodb.LSN) *Archiver {
	return newArchiver(Header(pageSize, from), from, last)
}

// NewIncrement begins that of an incremental backup. Finish fills in how many files are
// live, and how many dropped.
func NewIncrement(pageSize int, from, last innodb.LSN, since metadata.Since) *Archiver {
	head := Header(pageSize, from)
	head.Options.Incremental = true
	head.Version = head.Options.Version()
	a := newArchiver(head, from, last)
	a.Manifest.Since = &since
	return a
}

func newArchiver(header *metadata.Archive, from, last innodb.LSN) *Archiver {
	a := Begin()
	a.Manifest = metadata.Manifest{FromLSN: from, CheckpointLSN: from, LastLSN: last, Start: began, End: began.Add(time.Minute),
		Binlog: &metadata.BinlogPos{File: "binlog.000003", Pos: 1234, GTID: "0-1-77"}}
	head, err := header.Marshal()
	a.note(err)
	a.Put(metadata.ArchiveName, head)
	return a
}

var began = time.Unix(1_800_000_000, 0).UTC()

// Header is the header of such an archive.
func Header(pageSize int, from innodb.LSN) *metadata.Archive {
	return &metadata.Archive{
		Version: metadata.ArchiveVersion, HBVersion: "test", ServerFlavor: metadata.FlavorMariaDB,
		ServerVersion: "10.11.18-MariaDB", PageSize: pageSize, StartLSN: from, RedoFormat: mariadbredo.Format108.String(), Created: began,
	}
}

func (a *Archiver) note(err error) {
	if a.err == nil {
		a.err = err
	}
}

// Heads is the sum of the chunks' heads so far, as a manifest has it.
func (a *Archiver) Heads() metadata.CRC32 { return metadata.CRC32(a.w.HeadsCRC32()) }

// Create begins a file.
func (a *Archiver) Create(name string) *xbstream.File {
	f, err := a.w.Create(name)
	a.note(err)
	return f
}

// Write adds to a file.
func (a *Archiver) Write(f *xbstream.File, content []byte) {
	if f != nil {
		_, err := f.Write(content)
		a.note(err)
	}
}

// End ends a file.
func (a *Archiver) End(f *xbstream.File) {
	if f == nil {
		return
	}
	a.note(f.Close())
	a.Files = append(a.Files, metadata.File{Path: f.Path(), Size: f.Sum().Size, CRC32: f.Sum().CRC32})
}

// Put adds a whole file.
func (a *Archiver) Put(name string, content []byte) {
	f := a.Create(name)
	a.Write(f, content)
	a.End(f)
}

// Interleave adds whole files, of each in turn a piece of at most so many bytes.
func (a *Archiver) Interleave(names []string, contents map[string][]byte, piece int) {
	rest, open := maps.Clone(contents), make(map[string]*xbstream.File)
	for left := len(names); left > 0; {
		for _, name := range names {
			f, begun := open[name]
			switch {
			case !begun:
				f = a.Create(name)
				open[name] = f
			case len(rest[name]) == 0:
				continue
			}
			n := min(len(rest[name]), piece)
			a.Write(f, rest[name][:n])
			if rest[name] = rest[name][n:]; len(rest[name]) == 0 {
				a.End(f)
				left--
			}
		}
	}
}

// Finish writes index and manifest of all files that have ended, ends the archive and
// returns it.
func (a *Archiver) Finish() ([]byte, error) {
	index, ok := a.w.Index()
	if a.Index != nil {
		index, ok = a.Index(index), true
	}
	if ok && index != nil {
		a.indexAt = a.w.Written() + a.Moved
		a.Put(metadata.IndexName, index)
	}
	a.List(a.Files)
	return a.Close()
}

// List writes a manifest that lists files, whether they are those of the archive or not.
func (a *Archiver) List(files []metadata.File) {
	a.Manifest.Heads, a.Manifest.Files, a.Manifest.Bytes = a.Heads(), int64(len(files)), 0
	for _, f := range files {
		a.Manifest.Bytes += f.Size
	}
	if since := a.Manifest.Since; since != nil {
		since.Live, since.Dropped = int64(len(a.Live)), int64(len(a.Dropped))
	}
	out := a.Create(metadata.ManifestName)
	if a.err != nil {
		return
	}
	w, err := metadata.NewManifestWriter(out, a.Manifest)
	if a.note(err); err != nil {
		return
	}
	w.IndexAt = a.indexAt
	for _, f := range files {
		a.note(w.Add(f))
	}
	for _, l := range a.Live {
		a.note(w.AddLive(l))
	}
	for _, path := range a.Dropped {
		a.note(w.AddDropped(path))
	}
	a.note(w.Close())
	a.note(out.Close())
}

// Close ends the archive as it is and returns it.
func (a *Archiver) Close() ([]byte, error) {
	a.note(a.w.Close())
	return a.Out.Bytes(), a.err
}
