package metadata

import (
	"bufio"
	"bytes"
	"encoding/base64"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"hash"
	"hash/crc32"
	"io"
	"io/fs"
	"math"
	"time"
	"unicode/utf8"

	"hb/xbstream"
	"hb/xbstream/innodb"
)

const (
	// ManifestName is the last file of an archive.
	ManifestName = "hb-manifest.json"
	// ManifestVersion is the version of a full backup's manifest, of all tables. It is
	// that of the archive: see ArchiveFlags.Version.
	ManifestVersion = 1

	// MaxManifestHead bounds the first line in bytes; the warnings, and what a
	// partial backup leaves out, may make it long.
	MaxManifestHead = 3 << 20
	// MaxWarnings and maxWarning bound the warnings, number and bytes each.
	MaxWarnings = 1000
	maxWarning  = 512
	// maxManifestLine bounds the other lines: a path of MaxPath bytes, each
	// written as \u00xx, and the fields around it.
	maxManifestLine = 6*xbstream.MaxPath + 256
	// maxGTID bounds a GTID set; MySQL's grow with the number of servers that
	// ever wrote.
	maxGTID = 256 << 10
)

// Manifest is what hb-manifest.json has about the backup as a whole: its first line.
type Manifest struct {
	Version int   `json:"hb_manifest"` // see ArchiveFlags.Version
	Files   int64 `json:"files"`       // files in the archive without the manifest
	Bytes   int64 `json:"bytes"`       // their sizes together
	// Heads is the checksum of the heads of all chunks before the manifest
	// (xbstream.Writer.HeadsCRC32): the files' own know nothing of the order in
	// which chunks of different files came.
	Heads CRC32 `json:"heads_crc32"`

	// The redo in the archive begins at FromLSN, a checkpoint. CheckpointLSN
	// is the newest checkpoint when copying ended: the start of a next
	// incremental backup. LastLSN is what the server reported under the final
	// lock; the redo reaches it.
	FromLSN       innodb.LSN `json:"from_lsn"`
	CheckpointLSN innodb.LSN `json:"checkpoint_lsn"`
	LastLSN       innodb.LSN `json:"last_lsn"`

	// Server identifies the server: what never changes over the life of its data
	// directory. "" in manifests of hb's first version.
	Server string `json:"server,omitempty"`
	// Since is set in the manifest of an incremental backup.
	Since *Since `json:"since,omitempty"`
	// StandsFor is set in an archive that hb merge made: the id of the last increment in
	// it. What builds on that one builds on this archive, too.
	StandsFor *PointID `json:"stands_for,omitempty"`

	// Scope is set in the manifest of a partial backup.
	Scope *Scope `json:"scope,omitempty"`

	// Tracking is set if MySQL has a list of the pages that it changed since before hb
	// copied any.
	Tracking *PageTracking `json:"tracking,omitempty"`

	Binlog *BinlogPos `json:"binlog,omitempty"` // where replication goes on, if the server writes a binary log
	// BinlogHome is set where the end of the binary log is in the archive, and the
	// server had it outside of its data directory.
	BinlogHome *BinlogHome `json:"binlog_home,omitempty"`
	Start      time.Time   `json:"start"`
	End        time.Time   `json:"end"`
	Locks      LockTimes   `json:"lock_ms"`

	// MySQL. UndoSpaces are the ids of the undo tablespaces in the archive: a
	// server that misses one makes an empty one in its place and does not report it,
	// so that hb apply looks for each. TemporarySpaces are those that the server
	// had and that are not in the archive, because it drops them when it
	// starts: the redo log of 5.6 names them nevertheless.
	UndoSpaces      []innodb.SpaceID `json:"undo_spaces,omitempty"`
	TemporarySpaces []innodb.SpaceID `json:"temporary_spaces,omitempty"`
	// ReplayFrom gives for some tablespaces a checkpoint after which their copy
	// began: redo from before must not be applied to them. It may be of another
	// life of the tablespace, which MySQL 5.7 truncates without a word in the
	// redo log.
	ReplayFrom map[innodb.SpaceID]innodb.LSN `json:"replay_from,omitempty"`

	// Pages that have no checksum, and those of them that might be torn: see
	// innodb.Tally.
	UnsummedPages int64 `json:"unsummed_pages,omitempty"`
	UnprovenPages int64 `json:"unproven_pages,omitempty"`

	// KeyChecks tell MariaDB's keys from others, by name: see keyring.Keys.Checks. They are of
	// the keys that hb backup was given or found.
	KeyChecks map[string]string `json:"key_checks,omitempty"`
	// Encryption is set if something is encrypted at rest, or there are KeyChecks.
	Encryption *Encryption `json:"encryption,omitempty"`

	// DroppedDatabases are directories in the archive whose databases were dropped
	// before its end: a server that finds one, though empty, has such a database.
	DroppedDatabases []string `json:"dropped_databases,omitempty"`

	Warnings []string `json:"warnings,omitempty"`
}

// PageTracking is where MySQL's list of the pages that it changed since a backup begins.
type PageTracking struct {
	Run      string     `json:"run"`       // identifies the run of the server, only in which the list can be trusted
	ResetLSN innodb.LSN `json:"reset_lsn"` // of the reset with which the list begins
}

// LockTimes is how long the backup kept others from working, in milliseconds.
type LockTimes struct {
	DDL    int64 `json:"ddl"`
	Commit int64 `json:"commit"`
}

// File is one line of the manifest: one file of the archive.
type File struct {
	Path  string
	Size  int64  // bytes
	CRC32 uint32 // CRC-32 (IEEE) of the content
	// Space is the tablespace whose pages the file holds; nil: it holds none, or the
	// archive is an incremental one, or of hb's first version.
	Space *innodb.SpaceID
}

// Validate reports what is wrong with m.
func (m *Manifest) Validate() error {
	if err := checkVersion(ManifestName, m.Version, LastArchiveVersion); err != nil {
		return err
	}
	var problem string
	switch {
	case m.Version != m.version():
		problem = fmt.Sprintf("version %d", m.Version)
	case len(m.Server) > maxServer:
		problem = fmt.Sprintf("an identity of the server of %d bytes", len(m.Server))
	case m.Tracking != nil && (len(m.Tracking.Run) > maxServer || m.Tracking.ResetLSN > m.LastLSN):
		problem = fmt.Sprintf("page tracking since LSN %d, run of the server %.40q", m.Tracking.ResetLSN, m.Tracking.Run)
	case m.Files < 1 || m.Files > xbstream.MaxFiles:
		problem = fmt.Sprintf("%d files", m.Files)
	case m.Bytes < 0:
		problem = fmt.Sprintf("%d bytes", m.Bytes)
	case m.FromLSN > m.LastLSN || m.CheckpointLSN > m.LastLSN || m.FromLSN > m.CheckpointLSN:
		problem = fmt.Sprintf("LSNs out of order: from %d, checkpoint %d, last %d", m.FromLSN, m.CheckpointLSN, m.LastLSN)
	case m.Start.IsZero() || m.End.Before(m.Start):
		problem = fmt.Sprintf("it began at %v and ended at %v", m.Start, m.End)
	case m.UnprovenPages < 0 || m.UnsummedPages < m.UnprovenPages:
		problem = fmt.Sprintf("%d pages without a checksum, %d of them unproven", m.UnsummedPages, m.UnprovenPages)
	case m.Locks.DDL < 0 || m.Locks.Commit < 0:
		problem = "negative lock times"
	case len(m.Warnings) > MaxWarnings:
		problem = fmt.Sprintf("%d warnings, more than %d", len(m.Warnings), MaxWarnings)
	}
	for _, w := range m.Warnings {
		if len(w) > maxWarning {
			problem = fmt.Sprintf("a warning of %d bytes", len(w))
		}
	}
	if problem != "" {
		return fmt.Errorf("%s: %s", ManifestName, problem)
	}
	if m.Since != nil {
		if err := m.Since.validate(m); err != nil {
			return fmt.Errorf("%s: %w", ManifestName, err)
		}
	}
	if m.Scope != nil {
		if err := m.Scope.validate(); err != nil {
			return fmt.Errorf("%s: %w", ManifestName, err)
		}
	}
	if m.Encryption != nil {
		if err := m.Encryption.validate(); err != nil {
			return fmt.Errorf("%s: %w", ManifestName, err)
		}
	}
	if m.Binlog != nil {
		if err := m.Binlog.Validate(); err != nil {
			return fmt.Errorf("%s: %w", ManifestName, err)
		}
	}
	if m.BinlogHome != nil {
		if err := m.BinlogHome.Validate(); err != nil {
			return fmt.Errorf("%s: %w", ManifestName, err)
		}
	}
	return nil
}

// version is the manifest's version, by what the backup is.
func (m *Manifest) version() int {
	return ArchiveFlags{Incremental: m.Since != nil, Partial: m.Scope != nil}.Version()
}

// AddWarning adds a warning, shortened if it is too long, and leaves it out
// where there are too many.
func (m *Manifest) AddWarning(text string) {
	if len(m.Warnings) < MaxWarnings {
		m.Warnings = append(m.Warnings, cutText(text, maxWarning))
	}
}

// cutText shortens s to n bytes at most without cutting a character. It makes
// s valid UTF-8, which JSON would do to it anyway.
func cutText(s string, n int) string {
	s = string(bytes.ToValidUTF8([]byte(s), []byte("?")))
	if len(s) <= n {
		return s
	}
	for !utf8.RuneStart(s[n]) {
		n--
	}
	return s[:n]
}

// fileLine is a File as JSON.
type fileLine struct {
	Path       string `json:"path,omitempty"`
	PathBase64 string `json:"path_base64,omitempty"`
	Size       int64  `json:"size"`
	CRC32      *CRC32 `json:"crc32"`

	Space *innodb.SpaceID `json:"space,omitempty"`
}

// endLine is the manifest's last line.
type endLine struct {
	Version int    `json:"hb_manifest_end"`
	Files   int64  `json:"files"`
	CRC32   *CRC32 `json:"crc32"`
	IndexAt int64  `json:"index_at,omitempty"` // 0: no index
}

// endPrefix begins the last line, and no other.
const endPrefix = `{"hb_manifest_end"`

// CRC32 is a CRC-32 (IEEE), in JSON a string of 8 hexadecimal digits.
type CRC32 uint32

// MarshalText writes the digits.
func (c CRC32) MarshalText() ([]byte, error) { return fmt.Appendf(nil, "%08x", uint32(c)), nil }

// UnmarshalText reads them.
func (c *CRC32) UnmarshalText(text []byte) error {
	var b [4]byte
	if len(text) != 2*len(b) {
		return fmt.Errorf("crc32 %.20q has not 8 digits", text)
	}
	if _, err := hex.Decode(b[:], text); err != nil {
		return fmt.Errorf("crc32 %q: %w", text, err)
	}
	*c = CRC32(binary.BigEndian.Uint32(b[:]))
	return nil
}

func (f File) marshal() ([]byte, error) {
	if err := xbstream.CheckPath(f.Path); err != nil {
		return nil, err
	}
	if f.Size < 0 {
		return nil, fmt.Errorf("file %q has %d bytes", f.Path, f.Size)
	}
	line := fileLine{Path: f.Path, Size: f.Size, CRC32: (*CRC32)(&f.CRC32), Space: f.Space}
	if !utf8.ValidString(f.Path) {
		line.Path, line.PathBase64 = "", base64.StdEncoding.EncodeToString([]byte(f.Path))
	}
	return json.Marshal(line)
}

func unmarshalFile(text []byte) (File, error) {
	var line fileLine
	if err := unmarshalOne(text, &line); err != nil {
		return File{}, err
	}
	f := File{Path: line.Path, Size: line.Size, Space: line.Space}
	if line.PathBase64 != "" {
		raw, err := base64.StdEncoding.DecodeString(line.PathBase64)
		if err != nil {
			return File{}, fmt.Errorf("path_base64: %w", err)
		}
		f.Path = string(raw)
	}
	if err := xbstream.CheckPath(f.Path); err != nil {
		return File{}, err
	}
	if f.Size < 0 {
		return File{}, fmt.Errorf("size %d", f.Size)
	}
	if line.CRC32 == nil {
		return File{}, errors.New("no crc32")
	}
	f.CRC32 = uint32(*line.CRC32)
	return f, nil
}

// ManifestWriter writes a manifest. It counts the files that it lists: the totals
// that the first line promised must be right.
type ManifestWriter struct {
	// IndexAt is where the archive's index begins, in bytes; 0: it has none. It is
	// written by Close.
	IndexAt int64

	w     *bufio.Writer
	crc   hash.Hash32
	m     Manifest
	files int64
	bytes int64

	live, dropped int64
	err           error
}

// manifestBuffer gathers lines, so that an archive's file gets few, large
// chunks.
const manifestBuffer = 1 << 20

// NewManifestWriter writes the first line of a manifest to w. Version is
// filled in.
func NewManifestWriter(w io.Writer, m Manifest) (*ManifestWriter, error) {
	m.Version = m.version()
	if err := m.Validate(); err != nil {
		return nil, err
	}
	mw := &ManifestWriter{w: bufio.NewWriterSize(w, manifestBuffer), crc: crc32.NewIEEE(), m: m}
	head, err := json.Marshal(&m)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", ManifestName, err)
	}
	if len(head) > MaxManifestHead {
		return nil, fmt.Errorf("%s: its first line has %d bytes, more than %d", ManifestName, len(head), MaxManifestHead)
	}
	return mw, mw.line(head)
}

func (w *ManifestWriter) line(text []byte) error {
	text = append(text, '\n')
	w.crc.Write(text)
	if _, err := w.w.Write(text); err != nil {
		w.err = fmt.Errorf("writing %s: %w", ManifestName, err)
	}
	return w.err
}

// Add lists one file.
func (w *ManifestWriter) Add(f File) error {
	if w.err != nil {
		return w.err
	}
	text, err := f.marshal()
	if err == nil && w.live+w.dropped > 0 {
		err = fmt.Errorf("file %q after the live ones", f.Path)
	}
	if err != nil {
		w.err = fmt.Errorf("%s: %w", ManifestName, err)
		return w.err
	}
	w.files++
	w.bytes += f.Size
	return w.line(text)
}

// Close writes the last line and flushes. It fails if the files listed are
// not those that the first line counted. It does not close the writer below.
func (w *ManifestWriter) Close() error {
	if w.err != nil {
		return w.err
	}
	if w.files != w.m.Files || w.bytes != w.m.Bytes {
		w.err = fmt.Errorf("%s: %d files of %d bytes listed, %d of %d announced", ManifestName, w.files, w.bytes, w.m.Files, w.m.Bytes)
		return w.err
	}
	if err := w.m.checkIncrement(w.live, w.dropped); err != nil {
		w.err = fmt.Errorf("%s: %w", ManifestName, err)
		return w.err
	}
	crc := CRC32(w.crc.Sum32())
	text, err := json.Marshal(endLine{Version: w.m.Version, Files: w.files, CRC32: &crc, IndexAt: w.IndexAt})
	if err != nil {
		w.err = fmt.Errorf("%s: %w", ManifestName, err)
		return w.err
	}
	if err := w.line(text); err != nil {
		return err
	}
	if err := w.w.Flush(); err != nil {
		w.err = fmt.Errorf("writing %s: %w", ManifestName, err)
		return w.err
	}
	w.err = fmt.Errorf("%s: already closed", ManifestName)
	return nil
}

// ManifestParser reads a manifest from the bytes that are written to it, in
// pieces of any size, and hands on its lines as they come. Only Close says
// that the manifest is whole.
type ManifestParser struct {
	// Live and Dropped are called for each such file of an incremental backup, unless
	// they are nil. Their errors end the parsing.
	Live    func(Live) error
	Dropped func(path string) error

	head    func(*Manifest) error
	file    func(File) error
	pending []byte // an unfinished line
	crc     uint32 // of all finished lines
	m       *Manifest
	files   int64
	bytes   int64
	live    int64
	dropped int64
	indexAt int64
	ended   bool
	err     error
}

// NewManifestParser returns a parser that calls head for the first line and
// then file for each file. Either may be nil. Their errors end the parsing.
func NewManifestParser(head func(*Manifest) error, file func(File) error) *ManifestParser {
	return &ManifestParser{head: head, file: file}
}

// Write takes the next bytes of the manifest.
func (p *ManifestParser) Write(b []byte) (int, error) {
	if p.err != nil {
		return 0, p.err
	}
	total := len(b)
	for len(b) > 0 {
		line, rest, whole := bytes.Cut(b, []byte{'\n'})
		most := maxManifestLine
		switch {
		case p.m == nil:
			most = MaxManifestHead
		case p.m.Since != nil:
			most = maxLiveLine
		}
		if len(p.pending)+len(line) > most {
			return 0, p.fail(fmt.Errorf("line %d has more than %d bytes", p.files+p.live+p.dropped+2, most))
		}
		p.pending = append(p.pending, line...)
		if !whole {
			break
		}
		if err := p.line(p.pending); err != nil {
			return 0, p.fail(err)
		}
		p.pending = p.pending[:0]
		b = rest
	}
	return total, nil
}

func (p *ManifestParser) fail(err error) error {
	p.err = fmt.Errorf("%s: %w", ManifestName, err)
	return p.err
}

func (p *ManifestParser) line(text []byte) error {
	switch {
	case p.ended:
		return errors.New("it continues after its end line")
	case p.m == nil:
		m := new(Manifest)
		if err := unmarshalVersioned(ManifestName, "hb_manifest", LastArchiveVersion, text, m); err != nil {
			return err
		}
		if err := m.Validate(); err != nil {
			return err
		}
		p.m = m
		p.sum(text)
		if p.head != nil {
			return p.head(m)
		}
		return nil
	case bytes.HasPrefix(text, []byte(endPrefix)):
		return p.end(text)
	case bytes.HasPrefix(text, []byte(livePrefix)), bytes.HasPrefix(text, []byte(droppedPrefix)):
		if err := p.increment(text, bytes.HasPrefix(text, []byte(droppedPrefix))); err != nil {
			return fmt.Errorf("line %d: %w", p.files+p.live+p.dropped+2, err)
		}
		return nil
	}
	f, err := unmarshalFile(text)
	if err != nil {
		return fmt.Errorf("line %d: %w", p.files+2, err)
	}
	if p.live+p.dropped > 0 {
		return fmt.Errorf("file %q after the live ones", f.Path)
	}
	p.files++
	if p.files > p.m.Files || f.Size > math.MaxInt64-p.bytes {
		return fmt.Errorf("it lists more than the %d files it announces", p.m.Files)
	}
	p.bytes += f.Size
	p.sum(text)
	if p.file != nil {
		return p.file(f)
	}
	return nil
}

func (p *ManifestParser) sum(text []byte) {
	p.crc = crc32.Update(p.crc, crc32.IEEETable, text)
	p.crc = crc32.Update(p.crc, crc32.IEEETable, []byte{'\n'})
}

func (p *ManifestParser) end(text []byte) error {
	var e endLine
	if err := unmarshalOne(text, &e); err != nil {
		return fmt.Errorf("end line: %w", err)
	}
	switch {
	case e.CRC32 == nil:
		return errors.New("end line: no crc32")
	case e.Files != p.m.Files || p.files != p.m.Files || p.bytes != p.m.Bytes:
		return fmt.Errorf("it lists %d files of %d bytes, announced %d of %d, and ends after %d", p.files, p.bytes, p.m.Files, p.m.Bytes, e.Files)
	case *e.CRC32 != CRC32(p.crc):
		return fmt.Errorf("checksum: want %08x, got %08x", uint32(*e.CRC32), p.crc)
	}
	if err := p.m.checkIncrement(p.live, p.dropped); err != nil {
		return err
	}
	p.ended, p.indexAt = true, e.IndexAt
	return nil
}

// Close reports whether the manifest came whole.
func (p *ManifestParser) Close() error {
	if p.err != nil {
		return p.err
	}
	if !p.ended || len(p.pending) > 0 {
		return p.fail(fmt.Errorf("it is cut: %w", io.ErrUnexpectedEOF))
	}
	return nil
}

// ReadManifestHead reads the first line of the manifest in dir, whose rest was
// checked when the archive was extracted. The error is fs.ErrNotExist if there is
// none.
func ReadManifestHead(dir fs.FS) (*Manifest, error) {
	f, err := dir.Open(ManifestName)
	if err != nil {
		return nil, err
	}
	p := NewManifestParser(nil, nil)
	text, err := bufio.NewReader(io.LimitReader(f, MaxManifestHead+1)).ReadBytes('\n')
	if errors.Is(err, io.EOF) {
		err = io.ErrUnexpectedEOF
	}
	if err := errors.Join(err, f.Close()); err != nil {
		return nil, fmt.Errorf("reading %s: %w", ManifestName, err)
	}
	_, err = p.Write(text)
	return p.Manifest(), err
}

// IndexAt returns where the archive's index begins; 0: the archive has none.
func (p *ManifestParser) IndexAt() int64 { return p.indexAt }

// Manifest returns the first line's facts, or nil before they came.
func (p *ManifestParser) Manifest() *Manifest { return p.m }
