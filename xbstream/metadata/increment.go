package metadata

import (
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"hash"
	"unicode/utf8"

	"hb/xbstream"
	"hb/xbstream/innodb"
	"hb/xbstream/innodb/delta"
)

const (
	// incrementVersion is the version of hb-archive.json and hb-manifest.json of
	// an incremental backup: an hb that knows only version 1 must refuse it.
	incrementVersion = 2

	// MaxZeroRanges bounds the ranges of zero pages of one file: further ones are in
	// its delta.
	MaxZeroRanges = 4096
	// maxZeroRange is the most that one range takes in JSON: "[4294967295,4294967295],".
	maxZeroRange = 24
	// maxLiveLine bounds a line of a live file in bytes: three paths, the ranges and the
	// fields around them.
	maxLiveLine = 3*6*xbstream.MaxPath + MaxZeroRanges*maxZeroRange + 512
	// maxServer bounds the identity of a server in bytes.
	maxServer = 256
)

// PointID identifies the state that a backup restores: SHA-256 of its
// hb-archive.json followed by its hb-manifest.json.
type PointID [sha256.Size]byte

// String is the id in 64 hexadecimal digits.
func (p PointID) String() string { return hex.EncodeToString(p[:]) }

// MarshalText writes the digits.
func (p PointID) MarshalText() ([]byte, error) { return []byte(p.String()), nil }

// UnmarshalText reads them.
func (p *PointID) UnmarshalText(text []byte) error {
	if len(text) != 2*len(p) {
		return fmt.Errorf("the id of a backup %.70q has not %d digits", text, 2*len(p))
	}
	if _, err := hex.Decode(p[:], text); err != nil {
		return fmt.Errorf("the id of a backup %q: %w", text, err)
	}
	return nil
}

// PointHash computes a PointID.
type PointHash struct{ h hash.Hash }

// NewPointHash begins with the bytes of hb-archive.json.
func NewPointHash(archive []byte) *PointHash {
	p := &PointHash{sha256.New()}
	p.h.Write(archive)
	return p
}

// Write takes the next bytes of hb-manifest.json. It does not fail.
func (p *PointHash) Write(b []byte) (int, error) { return p.h.Write(b) }

// Sum returns the id.
func (p *PointHash) Sum() (id PointID) {
	p.h.Sum(id[:0])
	return id
}

// Since is, in the manifest of an incremental backup, what it builds on.
type Since struct {
	Base PointID `json:"base"`
	// The base's LSNs. Pages whose LSN is FromLSN or more are in the increment; the
	// peers name CheckpointLSN as the increment's start.
	FromLSN       innodb.LSN `json:"from_lsn"`
	CheckpointLSN innodb.LSN `json:"checkpoint_lsn"`
	LastLSN       innodb.LSN `json:"last_lsn"`

	Live    int64 `json:"live"`    // lines of live files
	Dropped int64 `json:"dropped"` // lines of dropped files

	// PageTracking: the server's list of changed pages was used, so that not all
	// pages were read, and live files have no sum.
	PageTracking bool `json:"page_tracking,omitempty"`
}

func (s *Since) validate(own *Manifest) error {
	switch {
	case s.FromLSN > s.CheckpointLSN || s.CheckpointLSN > s.LastLSN:
		return fmt.Errorf("since: LSNs out of order: from %d, checkpoint %d, last %d", s.FromLSN, s.CheckpointLSN, s.LastLSN)
	case own.FromLSN < s.CheckpointLSN || own.LastLSN < s.LastLSN:
		return fmt.Errorf("since: the redo log of the increment is from LSN %d to %d, and that of the base reaches checkpoint %d and LSN %d", own.FromLSN, own.LastLSN, s.CheckpointLSN, s.LastLSN)
	case s.Live < 1 || s.Live > xbstream.MaxFiles || s.Dropped < 0 || s.Dropped > xbstream.MaxFiles:
		return fmt.Errorf("since: %d live files and %d dropped ones", s.Live, s.Dropped)
	case own.StandsFor != nil:
		return errors.New("since: an incremental backup stands for no other")
	}
	return nil
}

// Point is the id of the state that the backup with this manifest restores. own is the
// archive's own PointID.
func (m *Manifest) Point(own PointID) PointID {
	if m.StandsFor != nil {
		return *m.StandsFor
	}
	return own
}

// LiveKind says how a live file comes about.
type LiveKind string

// The kinds.
const (
	LiveCopied  LiveKind = "copied"  // the archive has the file
	LiveKept    LiveKind = "kept"    // it is the base's file
	LiveChanged LiveKind = "changed" // it is the base's file, with the pages of a delta over it
	LiveNew     LiveKind = "new"     // it is zeros, with the pages of a delta over them
)

// Live is a line of an incremental backup's manifest: one file of the server that the
// backup restores, and where its content is. The files of the backup itself (hb's own,
// the redo log, the peers' metadata) have none.
type Live struct {
	Path string
	Size int64 // bytes, of the restored file
	Kind LiveKind
	// Space is the tablespace, of which it is a file; nil: it is a file of another
	// engine, or of the server.
	Space *innodb.SpaceID
	// From is the base's file, of kept and changed files: its path in a full base's
	// archive, or among the live files of an incremental one.
	From string
	// Stored is the archive's file, of all kinds but kept: the file itself, or the delta.
	Stored string
	// Zero are the file's pages that are all zero, of changed files, in ascending order
	// without overlap, counted from the start of the file: at most MaxZeroRanges. Pages
	// that are in the delta override them.
	Zero []innodb.PageRange
	// Sum is over all pages of the file; nil: not all of them were read, or Space is nil.
	Sum *innodb.PageSum
	// CRC32 is that of the content, of files that are no tablespace's: by it a later
	// increment finds out whether the file has changed. nil: it is not known.
	CRC32 *uint32
}

// defaultStored is where the content of a live file is unless its line says otherwise.
func (l *Live) defaultStored() string {
	if l.Kind == LiveCopied {
		return l.Path
	}
	return l.Path + delta.Ext
}

// liveLine is a Live as JSON.
type liveLine struct {
	Live   jsonPath        `json:"live"`
	Size   int64           `json:"size"`
	Kind   LiveKind        `json:"kind"`
	Space  *innodb.SpaceID `json:"space,omitempty"`
	From   jsonPath        `json:"from,omitempty"`
	Stored jsonPath        `json:"stored,omitempty"`
	Zero   [][2]uint32     `json:"zero,omitempty"` // first page, number of pages
	Sum    *innodb.PageSum `json:"pages_sum,omitempty"`
	CRC32  *CRC32          `json:"crc32,omitempty"`
}

// droppedLine is the line of a file that the base has and the increment has not.
type droppedLine struct {
	Dropped jsonPath `json:"dropped"`
}

// livePrefix and droppedPrefix begin their lines, and no others.
const (
	livePrefix    = `{"live":`
	droppedPrefix = `{"dropped":`
)

// jsonPath is a path as JSON: a string, or {"base64":"…"} if it is not UTF-8.
type jsonPath string

type base64Path struct {
	Base64 []byte `json:"base64"`
}

// MarshalJSON writes the path.
func (p jsonPath) MarshalJSON() ([]byte, error) {
	if utf8.ValidString(string(p)) {
		return json.Marshal(string(p))
	}
	return json.Marshal(base64Path{[]byte(p)})
}

// UnmarshalJSON reads it.
func (p *jsonPath) UnmarshalJSON(text []byte) error {
	if len(text) > 0 && text[0] == '{' {
		var b base64Path
		if err := json.Unmarshal(text, &b); err != nil {
			return err
		}
		if base64.StdEncoding.EncodedLen(len(b.Base64)) == 0 {
			return errors.New("a path without base64")
		}
		*p = jsonPath(b.Base64)
		return nil
	}
	return json.Unmarshal(text, (*string)(p))
}

// Validate reports what is wrong with l.
func (l *Live) Validate() error {
	if err := l.checkPaths(); err != nil {
		return err
	}
	tablespace := l.Kind == LiveChanged || l.Kind == LiveNew
	switch {
	case l.Kind != LiveCopied && l.Kind != LiveKept && !tablespace:
		return fmt.Errorf("live file %q is of the unknown kind %.20q", l.Path, l.Kind)
	case l.Size < 0:
		return fmt.Errorf("live file %q has %d bytes", l.Path, l.Size)
	case tablespace != (l.Space != nil):
		return fmt.Errorf("live file %q is %s, and its tablespace is %v", l.Path, l.Kind, l.Space)
	case l.Space == nil && l.Sum != nil:
		return fmt.Errorf("live file %q has a sum over pages and is not a tablespace", l.Path)
	case l.Space != nil && l.CRC32 != nil:
		return fmt.Errorf("live file %q is a tablespace's, and has a checksum", l.Path)
	case len(l.Zero) > 0 && l.Kind != LiveChanged:
		return fmt.Errorf("live file %q is %s, and has zero pages over it", l.Path, l.Kind)
	case len(l.Zero) > MaxZeroRanges:
		return fmt.Errorf("live file %q has %d ranges of zero pages, more than %d", l.Path, len(l.Zero), MaxZeroRanges)
	}
	for i, r := range l.Zero {
		if r.First >= r.End || i > 0 && r.First < l.Zero[i-1].End || int64(r.End) > l.Size/minPhysical {
			return fmt.Errorf("live file %q has zero pages %d to %d out of order", l.Path, r.First, r.End)
		}
	}
	return nil
}

// minPhysical is the size in bytes of the smallest page: ROW_FORMAT=COMPRESSED,
// KEY_BLOCK_SIZE=1.
const minPhysical = 1 << 10

func (l *Live) checkPaths() error {
	if err := xbstream.CheckPath(l.Path); err != nil {
		return err
	}
	base, stored := l.Kind == LiveKept || l.Kind == LiveChanged, l.Kind != LiveKept
	if base != (l.From != "") || stored != (l.Stored != "") {
		return fmt.Errorf("live file %q is %s, from %q of the base and %q of the archive", l.Path, l.Kind, l.From, l.Stored)
	}
	for _, p := range []string{l.From, l.Stored} {
		if p != "" {
			if err := xbstream.CheckPath(p); err != nil {
				return err
			}
		}
	}
	return nil
}

func (l *Live) marshal() ([]byte, error) {
	if err := l.Validate(); err != nil {
		return nil, err
	}
	line := liveLine{Live: jsonPath(l.Path), Size: l.Size, Kind: l.Kind, Space: l.Space, Sum: l.Sum, CRC32: (*CRC32)(l.CRC32)}
	if l.From != l.Path {
		line.From = jsonPath(l.From)
	}
	if l.Stored != l.defaultStored() {
		line.Stored = jsonPath(l.Stored)
	}
	for _, r := range l.Zero {
		line.Zero = append(line.Zero, [2]uint32{uint32(r.First), uint32(r.End - r.First)})
	}
	return json.Marshal(line)
}

func unmarshalLive(text []byte) (Live, error) {
	var line liveLine
	if err := unmarshalOne(text, &line); err != nil {
		return Live{}, err
	}
	l := Live{Path: string(line.Live), Size: line.Size, Kind: line.Kind, Space: line.Space, From: string(line.From), Stored: string(line.Stored), Sum: line.Sum, CRC32: (*uint32)(line.CRC32)}
	if l.From == "" && (l.Kind == LiveKept || l.Kind == LiveChanged) {
		l.From = l.Path
	}
	if l.Stored == "" && l.Kind != LiveKept {
		l.Stored = l.defaultStored()
	}
	for _, z := range line.Zero {
		first, pages := z[0], z[1]
		if first+pages < first {
			return Live{}, fmt.Errorf("live file %q has %d zero pages from page %d on", l.Path, pages, first)
		}
		l.Zero = append(l.Zero, innodb.PageRange{First: innodb.PageNo(first), End: innodb.PageNo(first + pages)})
	}
	return l, l.Validate()
}

// AddLive lists a live file of an incremental backup, after the files of the archive.
func (w *ManifestWriter) AddLive(l Live) error {
	return w.addIncrement(&w.live, func() ([]byte, error) { return l.marshal() })
}

// AddDropped lists a file that the base has and the increment has not, after the live
// files. The path is the base's.
func (w *ManifestWriter) AddDropped(path string) error {
	return w.addIncrement(&w.dropped, func() ([]byte, error) {
		if err := xbstream.CheckPath(path); err != nil {
			return nil, err
		}
		return json.Marshal(droppedLine{jsonPath(path)})
	})
}

func (w *ManifestWriter) addIncrement(count *int64, marshal func() ([]byte, error)) error {
	if w.err != nil {
		return w.err
	}
	text, err := marshal()
	switch {
	case err != nil:
	case w.m.Since == nil:
		err = errors.New("a full backup has no lines of an incremental one")
	case count == &w.live && w.dropped > 0:
		err = errors.New("a live file after the dropped ones")
	}
	if err != nil {
		w.err = fmt.Errorf("%s: %w", ManifestName, err)
		return w.err
	}
	*count++
	return w.line(text)
}

// increment takes a line of a live or dropped file.
func (p *ManifestParser) increment(text []byte, dropped bool) error {
	since := p.m.Since
	switch {
	case since == nil:
		return errors.New("a full backup has a line of an incremental one")
	case p.files != p.m.Files:
		return fmt.Errorf("it lists %d files of the archive, %d announced", p.files, p.m.Files)
	case !dropped && p.dropped > 0:
		return errors.New("a live file after the dropped ones")
	}
	p.sum(text)
	if dropped {
		return p.dropLine(text)
	}
	l, err := unmarshalLive(text)
	if err != nil {
		return err
	}
	if p.live++; p.live > since.Live {
		return fmt.Errorf("it lists more than the %d live files it announces", since.Live)
	}
	if p.Live != nil {
		return p.Live(l)
	}
	return nil
}

func (p *ManifestParser) dropLine(text []byte) error {
	var line droppedLine
	if err := unmarshalOne(text, &line); err != nil {
		return err
	}
	path := string(line.Dropped)
	if err := xbstream.CheckPath(path); err != nil {
		return err
	}
	if p.dropped++; p.dropped > p.m.Since.Dropped {
		return fmt.Errorf("it lists more than the %d dropped files it announces", p.m.Since.Dropped)
	}
	if p.Dropped != nil {
		return p.Dropped(path)
	}
	return nil
}

// checkIncrement compares the lines that came with those announced.
func (m *Manifest) checkIncrement(live, dropped int64) error {
	var want Since
	if m.Since != nil {
		want = *m.Since
	}
	if live != want.Live || dropped != want.Dropped {
		return fmt.Errorf("it lists %d live and %d dropped files, and announced %d and %d", live, dropped, want.Live, want.Dropped)
	}
	return nil
}
