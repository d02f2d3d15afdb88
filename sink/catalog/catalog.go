// Package catalog follows an archive chunk by chunk: it finds out what each file in
// it is, and whether the archive is complete. Chunks come in, from the archive's
// reader; entries and a summary come out.
package catalog

import (
	"errors"
	"fmt"
	"io"
	"maps"
	"path"
	"path/filepath"
	"slices"
	"strings"

	"hb/sink/backupdir"
	"hb/xbstream"
	"hb/xbstream/metadata"
)

// IncompleteError reports an archive of hb's that ends without its manifest:
// the backup that made it did not finish, no matter its exit status.
// errors.Is(err, io.ErrUnexpectedEOF) holds.
type IncompleteError struct {
	Files int64 // files that the archive holds
}

func (e *IncompleteError) Error() string {
	return fmt.Sprintf("the archive is incomplete: it ends after %d files without %s, so the backup did not finish; it cannot be restored", e.Files, metadata.ManifestName)
}

// Unwrap makes every IncompleteError a truncation.
func (e *IncompleteError) Unwrap() error { return io.ErrUnexpectedEOF }

// Catalog follows an archive chunk by chunk, adds up what each file is, and
// decides whether the archive is complete. It keeps a fixed amount for each
// file and nothing for a chunk.
type Catalog struct {
	Own  bool  // it begins with hb-archive.json
	any  bool  // a chunk has come
	at   int64 // where the current chunk begins in the archive
	open map[string]*openEntry
	done *xbstream.Names[entrySum] // files that ended and no manifest line has named
	dirs map[string]bool           // of files

	header   []byte // of hb-archive.json
	Archive  *metadata.Archive
	manifest *metadata.ManifestParser
	heads    metadata.CRC32 // of the chunks before the manifest
	index    indexProof
	ended    bool // the manifest has ended

	files int64 // files that ended, the manifest too
	bytes int64
}

// openEntry is a file that has not ended.
type openEntry struct {
	sum  xbstream.Sum // of plain payloads
	end  int64        // the file's size so far
	odd  bool         // it has holes or seeks, so that sum.CRC32 means nothing
	last bool         // it is the manifest
}

// entrySum is a file that has ended.
type entrySum struct {
	size   int64
	crc    uint32
	number uint32 // in the order of the files' ends; at most xbstream.MaxFiles
}

func New() *Catalog {
	return &Catalog{open: make(map[string]*openEntry), done: xbstream.NewNames[entrySum](), dirs: make(map[string]bool)}
}

// Add takes the next chunk. For an End chunk it returns the file's entry.
func (c *Catalog) Add(ch *xbstream.Chunk) (*Entry, error) {
	if !c.any {
		c.any, c.Own = true, ch.Path == metadata.ArchiveName
	}
	c.at = ch.At
	if err := c.checkOrder(ch); err != nil {
		return nil, err
	}
	switch ch.Type {
	case xbstream.Rename:
		c.rename(ch.Path, ch.NewPath)
		return nil, nil
	case xbstream.Remove:
		for _, path := range ch.Removed {
			c.forget(path)
		}
		return nil, nil
	}
	if ch.Rewrite {
		c.forget(ch.Path)
	}
	e := c.open[ch.Path]
	if e == nil {
		if err := c.checkPlace(ch); err != nil {
			return nil, err
		}
		e = &openEntry{last: c.Own && ch.Path == metadata.ManifestName}
		c.open[ch.Path] = e
	}
	if c.Own {
		c.index.add(ch)
	}
	if ch.Type == xbstream.End {
		return c.end(ch, e)
	}
	return nil, c.data(ch, e)
}

// checkOrder refuses an order that hb's own writer never makes.
func (c *Catalog) checkOrder(ch *xbstream.Chunk) error {
	bad := func(reason string) error {
		return &xbstream.CorruptError{Path: ch.Path, Offset: ch.At, Reason: reason}
	}
	if backupdir.IsMark(ch.Path) || backupdir.IsMark(ch.NewPath) {
		return bad("it has the name of a mark of hb's own")
	}
	if !c.Own {
		if isOwnName(ch.Path) || isOwnName(ch.NewPath) {
			return bad("unexpected here: an hb archive must begin with " + metadata.ArchiveName + ", so the beginning is missing")
		}
		return nil
	}
	switch {
	case ch.Type != xbstream.Payload && ch.Type != xbstream.End || ch.Flags != 0:
		return bad(fmt.Sprintf("a %v chunk with flags %#02x in an archive of hb's", ch.Type, ch.Flags))
	case c.ended:
		return bad("it comes after the manifest")
	case c.Archive == nil && ch.Path != metadata.ArchiveName:
		return bad("it comes before the end of " + metadata.ArchiveName)
	case c.manifest != nil && ch.Path != metadata.ManifestName:
		return bad("it comes within the manifest")
	case ch.First && ch.Path == metadata.ManifestName && len(c.open) > 0:
		return bad(fmt.Sprintf("the manifest begins before the end of %q", slices.Sorted(maps.Keys(c.open))[0]))
	}
	return nil
}

// checkPlace refuses a file that could not be unpacked: one whose name is too long,
// or that is a directory of others.
func (c *Catalog) checkPlace(ch *xbstream.Chunk) error {
	bad := func(reason string) error {
		return &xbstream.CorruptError{Path: ch.Path, Offset: ch.At, Reason: reason}
	}
	for part := range strings.SplitSeq(ch.Path, "/") {
		if len(part) > xbstream.MaxName {
			return bad(fmt.Sprintf("its name has a part of %d bytes, and file systems take %d", len(part), xbstream.MaxName))
		}
	}
	if c.dirs[ch.Path] {
		return bad("it is a file, and other files' directory")
	}
	for dir := path.Dir(ch.Path); dir != "." && dir != "/" && !c.dirs[dir]; dir = path.Dir(dir) {
		if c.done.Has(dir) || c.open[dir] != nil {
			return bad(fmt.Sprintf("%q is a file too", dir))
		}
		c.dirs[dir] = true
	}
	return nil
}

func isOwnName(path string) bool {
	return backupdir.IsOneOf(path, metadata.ArchiveName, metadata.ManifestName)
}

// data accounts for a chunk that brings bytes, or moves to where they belong.
func (c *Catalog) data(ch *xbstream.Chunk, e *openEntry) error {
	switch ch.Type {
	case xbstream.Payload:
		e.sum.Add(len(ch.Data), ch.CRC32)
	case xbstream.Sparse:
		e.sum.Chunks++
		e.odd = true
	case xbstream.Seek:
		e.odd = true
		return nil
	}
	e.end = max(e.end, ch.Offset+ch.Span())
	if !c.Own {
		return nil
	}
	switch ch.Path {
	case metadata.ArchiveName:
		if len(c.header)+len(ch.Data) > metadata.MaxArchiveSize {
			return c.spoilt(ch.Path, fmt.Errorf("it has more than %d bytes", metadata.MaxArchiveSize))
		}
		c.header = append(c.header, ch.Data...)
	case metadata.ManifestName:
		if c.manifest == nil {
			c.manifest, c.heads = metadata.NewManifestParser(nil, c.listed), metadata.CRC32(ch.HeadsCRC32)
		}
		_, err := c.manifest.Write(ch.Data)
		return c.spoilt(ch.Path, err)
	}
	return nil
}

// end accounts for a file's end.
func (c *Catalog) end(ch *xbstream.Chunk, e *openEntry) (*Entry, error) {
	delete(c.open, ch.Path)
	c.files++
	c.bytes += e.end
	entry := &Entry{Op: OpFile, Path: ch.Path, Size: e.end, Chunks: e.sum.Chunks}
	if !e.odd {
		entry.CRC32, entry.HasCRC32 = e.sum.CRC32, true
	}
	if !c.Own {
		c.done.Put(ch.Path, entrySum{size: e.end})
		return entry, nil
	}
	if e.last {
		return entry, c.endManifest()
	}
	c.done.Put(ch.Path, entrySum{e.end, e.sum.CRC32, uint32(c.files - 1)})
	if ch.Path == metadata.ArchiveName {
		var err error
		if c.Archive, err = metadata.UnmarshalArchive(c.header); err != nil {
			return nil, c.spoilt(ch.Path, err)
		}
		c.header = nil
	}
	return entry, nil
}

// listed compares one line of the manifest with what came.
func (c *Catalog) listed(f metadata.File) error {
	got, ok := c.done.Get(f.Path)
	mismatch := &xbstream.CorruptError{Path: f.Path, Offset: c.at}
	switch {
	case !ok:
		mismatch.Reason = "it is in the manifest, but not in the archive"
	case got.size != f.Size:
		mismatch.Reason, mismatch.Want, mismatch.Got = "size in the manifest", fmt.Sprint(f.Size), fmt.Sprint(got.size)
	case got.crc != f.CRC32:
		mismatch.Reason, mismatch.Want, mismatch.Got = "checksum in the manifest", fmt.Sprintf("%08x", f.CRC32), fmt.Sprintf("%08x", got.crc)
	default:
		c.index.listed(got.number)
		c.done.Delete(f.Path)
		return nil
	}
	return mismatch
}

func (c *Catalog) endManifest() error {
	if c.manifest == nil {
		return fmt.Errorf("%s is empty: %w", metadata.ManifestName, io.ErrUnexpectedEOF)
	}
	if err := c.manifest.Close(); err != nil {
		return c.spoilt(metadata.ManifestName, err)
	}
	if c.done.Len() > 0 {
		path := ""
		for p := range c.done.All() {
			if path == "" || p < path {
				path = p
			}
		}
		return &xbstream.CorruptError{Path: path, Offset: c.at, Reason: "it is in the archive, but not in the manifest"}
	}
	if got := c.manifest.Manifest().Version; got != c.Archive.Version {
		return &xbstream.CorruptError{Path: metadata.ManifestName, Offset: c.at,
			Reason: fmt.Sprintf("it is of another kind of backup than %s", metadata.ArchiveName), Want: fmt.Sprintf("version %d", c.Archive.Version), Got: fmt.Sprintf("version %d", got)}
	}
	if want := c.manifest.Manifest().Heads; want != c.heads {
		return &xbstream.CorruptError{
			Path: metadata.ManifestName, Offset: c.at, Reason: "the checksum over all chunks' heads: chunks are not those, or not in the order, that were written",
			Want: fmt.Sprintf("%08x", uint32(want)), Got: fmt.Sprintf("%08x", uint32(c.heads)),
		}
	}
	if reason := c.index.fault(c.manifest.IndexAt()); reason != "" {
		return &xbstream.CorruptError{Path: metadata.IndexName, Offset: c.index.at, Reason: reason}
	}
	c.ended = true
	return nil
}

// spoilt returns the error of the parsers of hb's own files: that they are cut, or of
// a later hb, or else damaged.
func (c *Catalog) spoilt(path string, err error) error {
	_, later := errors.AsType[*metadata.VersionError](err)
	_, told := errors.AsType[*xbstream.CorruptError](err)
	if err == nil || later || told || errors.Is(err, io.ErrUnexpectedEOF) {
		return err
	}
	return &xbstream.CorruptError{Path: path, Offset: c.at, Reason: err.Error()}
}

func (c *Catalog) rename(from, to string) {
	if from == to {
		return
	}
	sum, _ := c.done.Get(from)
	c.forget(to)
	c.done.Delete(from)
	c.done.Put(to, sum)
}

// forget takes a file that ended out of the totals.
func (c *Catalog) forget(path string) {
	if sum, ok := c.done.Get(path); ok {
		c.done.Delete(path)
		c.files--
		c.bytes -= sum.size
	}
}

// Header is what the archive says of itself; nil: it has not come, or is not one of hb's.
func (c *Catalog) Header() *metadata.Archive { return c.Archive }

// Finish decides, at the end of the archive, whether it is complete as far as
// that can be known.
func (c *Catalog) Finish() error {
	if c.Own && !c.ended {
		return &IncompleteError{Files: c.files}
	}
	return nil
}

// Explain adds to a cut of an archive of hb's that no manifest came.
func (c *Catalog) Explain(err error) error {
	if c.Own && !c.ended && errors.Is(err, io.ErrUnexpectedEOF) {
		if _, ok := errors.AsType[*IncompleteError](err); !ok {
			return errors.Join(&IncompleteError{Files: c.files}, err)
		}
	}
	return err
}

// manifestFacts returns the manifest's first line once it has been verified.
func (c *Catalog) manifestFacts() *metadata.Manifest {
	if !c.ended {
		return nil
	}
	return c.manifest.Manifest()
}

// warnings are the properties that cannot be proven.
func (c *Catalog) warnings() []string {
	if c.Own {
		return nil
	}
	w := []string{"this archive was not made by hb: that no file is missing from it cannot be proven"}
	if n, example := c.packed(); n > 0 {
		w = append(w, fmt.Sprintf("%d files, such as %s, are compressed or encrypted one by one: unpack them with the tool that made them before hb apply", n, example))
	}
	return w
}

// packed counts files of a foreign archive that were compressed or encrypted
// one by one (xtrabackup --compress, --encrypt).
func (c *Catalog) packed() (n int, example string) {
	for path := range c.done.All() {
		if slices.Contains(backupdir.PackedExts, filepath.Ext(path)) {
			if n++; n == 1 || path < example {
				example = path
			}
		}
	}
	return n, example
}
