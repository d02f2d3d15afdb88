package merge_test

import (
	"bytes"
	"context"
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"io"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"hb/sink/merge"
	"hb/stream"
	"hb/stream/leaktest"
	"hb/xbstream/innodb"
	"hb/xbstream/innodb/delta"
	"hb/xbstream/innodb/innodbtest"
	"hb/xbstream/metadata"
	"hb/xbstream/xbtest"
)

func TestMain(m *testing.M) { os.Exit(leaktest.Run(m)) }

const (
	pageSize = 4 << 10
	flags    = innodbtest.Full4K
)

// file is a file of the model's server.
type file struct {
	id    innodb.SpaceID // of a tablespace
	space bool
	pages [][]byte // of a tablespace
	text  []byte   // of another file
}

func (f *file) bytes() []byte {
	if !f.space {
		return f.text
	}
	return bytes.Join(f.pages, nil)
}

func (f *file) clone() *file {
	c := *f
	c.pages = slices.Clone(f.pages) // pages are replaced, never written to
	return &c
}

// model is a server, at a moment: it knows nothing of how archives are made or merged.
type model struct {
	rng   *rand.Rand
	lsn   innodb.LSN
	next  innodb.SpaceID
	files map[string]*file
	names int
}

func newModel(seed uint64) *model {
	m := &model{rng: rand.New(rand.NewPCG(seed, 7)), lsn: 1000, next: 10, files: make(map[string]*file)}
	m.files["ibdata1"] = m.tablespace(0, 9)
	for range 5 {
		m.create()
	}
	m.files["db/m.MYD"] = &file{text: []byte("rows of MyISAM")}
	m.files["aria_log_control"] = &file{text: []byte("control")}
	return m
}

func (m *model) tablespace(id innodb.SpaceID, pages int) *file {
	f := &file{id: id, space: true}
	for no := range pages {
		f.pages = append(f.pages, m.page(id, innodb.PageNo(no), pages))
	}
	return f
}

// page makes a new version of a page, of now.
func (m *model) page(id innodb.SpaceID, no innodb.PageNo, pages int) []byte {
	m.lsn += 10
	t := innodbtest.Tablespace{ID: id, Flags: flags, Pages: pages, LSN: m.lsn, Fill: func(page []byte, no innodb.PageNo) {
		if no == 0 {
			binary.BigEndian.PutUint16(page[innodb.OffsetType:], uint16(innodb.TypeFSPHeader))
		}
		for at := 200; at < pageSize-100; at += 512 {
			binary.BigEndian.PutUint64(page[at:], m.rng.Uint64())
		}
	}}
	return t.Page(no)
}

func (m *model) create() {
	m.names++
	m.files[fmt.Sprintf("db/t%d.ibd", m.names)] = m.tablespace(m.next, 1+m.rng.IntN(12))
	m.next++
}

// tables are the names of tables' files, sorted.
func (m *model) tables() (names []string) {
	for name := range m.files {
		if strings.HasSuffix(name, ".ibd") {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	return names
}

// change does something, as servers do.
func (m *model) change() {
	tables := m.tables()
	if len(tables) < 2 {
		m.create()
		return
	}
	name := tables[m.rng.IntN(len(tables))]
	f := m.files[name].clone()
	m.files[name] = f
	set := func(no int) { f.pages[no] = m.page(f.id, innodb.PageNo(no), len(f.pages)) }
	switch m.rng.IntN(11) {
	case 0:
		m.create()
	case 10: // only the redo log knows what is in it, until something is written
		m.names++
		m.files[fmt.Sprintf("db/z%d.ibd", m.names)] = &file{id: m.next, space: true, pages: slices.Repeat([][]byte{make([]byte, pageSize)}, 8)}
		m.next++
	case 1: // DROP
		delete(m.files, name)
	case 2: // RENAME, perhaps to the name of one that is dropped
		to := fmt.Sprintf("db2/r%d.ibd", m.rng.IntN(4))
		delete(m.files, name)
		m.files[to] = f
	case 3: // two exchange their names
		other := tables[m.rng.IntN(len(tables))]
		m.files[name], m.files[other] = m.files[other], f
	case 4: // it grows
		for range 1 + m.rng.IntN(300) {
			f.pages = append(f.pages, nil)
			set(len(f.pages) - 1)
		}
		set(0)
	case 5: // it is cut
		if n := m.rng.IntN(len(f.pages)); n > 0 {
			f.pages = f.pages[:n]
			set(0)
		}
	case 6: // pages become zero
		for no := 1 + m.rng.IntN(4); no < len(f.pages); no += 1 + m.rng.IntN(3) {
			f.pages[no] = make([]byte, pageSize)
		}
	case 7: // TRUNCATE: a new id under the same name
		m.files[name] = m.tablespace(m.next, 3)
		m.next++
	case 8:
		m.files["db/m.MYD"] = &file{text: fmt.Appendf(nil, "rows of MyISAM at %d", m.lsn)}
	default:
		for no := m.rng.IntN(3); no < len(f.pages); no += 1 + m.rng.IntN(5) {
			set(no)
		}
	}
	m.files["ibdata1"] = m.files["ibdata1"].clone()
	s := m.files["ibdata1"]
	s.pages[3] = m.page(0, 3, len(s.pages))
}

// state is a backup of the model that was made: its archive and what the next builds on.
type state struct {
	archive []byte
	files   map[string]*file
	since   metadata.Since
	id      metadata.PointID
	tracked bool // its manifest has no sums
}

// own are the files of the backup itself.
func own(lsn innodb.LSN, typ string, from innodb.LSN) map[string][]byte {
	c, err := (&metadata.Checkpoints{BackupType: typ, FromLSN: from, ToLSN: lsn, LastLSN: lsn + 5}).Marshal()
	if err != nil {
		panic(err)
	}
	i, err := (&metadata.Info{Incremental: typ == metadata.Incremental, FromLSN: from, ToLSN: lsn, Format: "xbstream"}).Marshal()
	if err != nil {
		panic(err)
	}
	return map[string][]byte{
		"ib_logfile0": fmt.Appendf(nil, "redo from %d", lsn), "xtrabackup_checkpoints": c, "xtrabackup_info": i, "backup-my.cnf": []byte("[mysqld]\n"),
	}
}

func putOwn(a *xbtest.Archiver, files map[string][]byte) {
	for _, name := range slices.Sorted(maps.Keys(files)) {
		a.Put(name, files[name])
	}
}

// done ends an archive.
func (m *model) done(t testing.TB, a *xbtest.Archiver) *state {
	t.Helper()
	b, err := a.Finish()
	if err != nil {
		t.Fatal(err)
	}
	s := &state{archive: b, files: maps.Clone(m.files)}
	files := xbtest.ReadAll(t, bytes.NewReader(b))
	h := metadata.NewPointHash(files[metadata.ArchiveName])
	h.Write(files[metadata.ManifestName])
	s.id = h.Sum()
	mf := a.Manifest
	s.since = metadata.Since{Base: s.id, FromLSN: mf.FromLSN, CheckpointLSN: mf.CheckpointLSN, LastLSN: mf.LastLSN}
	m.lsn += 100
	return s
}

// full makes a full backup. Files stand in the archive under other names than on the server
// where odd says so.
func (m *model) full(t testing.TB) *state {
	t.Helper()
	m.lsn += 100
	a := xbtest.NewArchiver(pageSize, m.lsn, m.lsn+5)
	a.Manifest.Server = "the server"
	contents := make(map[string][]byte)
	for name, f := range m.files {
		contents[name] = f.bytes()
	}
	a.Interleave(slices.Sorted(maps.Keys(contents)), contents, 3*pageSize)
	a.Put("db/gone.del", nil)
	putOwn(a, own(m.lsn, metadata.FullBackup, 0))
	return m.done(t, a)
}

// increment makes an incremental backup since another one.
func (m *model) increment(t testing.TB, base *state, edit func(a *xbtest.Archiver)) *state {
	t.Helper()
	m.lsn += 100
	since := base.since
	since.PageTracking = m.rng.IntN(4) == 0 // then there are no sums
	a := xbtest.NewIncrement(pageSize, m.lsn, m.lsn+5, since)
	a.Manifest.Server = "the server"
	byID := make(map[innodb.SpaceID]string)
	for name, f := range base.files {
		if f.space {
			byID[f.id] = name
		}
	}
	used := make(map[string]bool)
	for i, name := range slices.Sorted(maps.Keys(m.files)) {
		f := m.files[name]
		live := metadata.Live{Path: name, Size: int64(len(f.bytes()))}
		old, has := byID[f.id]
		switch {
		case f.space && has:
			m.changed(t, a, &live, f, old, base.since.FromLSN, i%2 == 0)
			used[old] = true
		case f.space:
			m.asNew(t, a, &live, f)
		case base.files[name] != nil && bytes.Equal(base.files[name].text, f.text):
			live.Kind, live.From = metadata.LiveKept, name
			used[name] = true
			live.CRC32 = crcOf(f.text)
		default:
			live.Kind, live.Stored = metadata.LiveCopied, name
			a.Put(name, f.text)
		}
		if since.PageTracking {
			live.Sum = nil
		}
		a.Live = append(a.Live, live)
	}
	for _, name := range slices.Sorted(maps.Keys(base.files)) {
		now := m.files[name]
		if replaced := now != nil && slices.ContainsFunc(a.Live, func(l metadata.Live) bool { return l.Path == name && l.From == "" }); !used[name] && !replaced {
			a.Dropped = append(a.Dropped, name)
		}
	}
	a.Put("db/gone2.del", nil)
	putOwn(a, own(m.lsn, metadata.Incremental, base.since.CheckpointLSN))
	if edit != nil {
		edit(a)
	}
	s := m.done(t, a)
	s.tracked = since.PageTracking
	return s
}

func crcOf(b []byte) *uint32 {
	crc := crc32.ChecksumIEEE(b)
	return &crc
}

// sum is what a scan finds.
func sum(f *file) *innodb.PageSum {
	space, err := innodb.ParseFlags(flags)
	if err != nil {
		panic(err)
	}
	s := new(innodb.PageSum)
	for no, page := range f.pages {
		s.Toggle(innodb.PageNo(no), page, &space)
	}
	return s
}

// changed stores the pages that changed, by their LSNs alone.
func (m *model) changed(t testing.TB, a *xbtest.Archiver, live *metadata.Live, f *file, old string, from innodb.LSN, ranges bool) {
	t.Helper()
	live.Space, live.From, live.Sum = &f.id, old, sum(f)
	var pages []innodb.PageNo
	for no, page := range f.pages {
		zero := innodb.AllZero(page)
		switch {
		case zero && ranges:
			if n := len(live.Zero); n > 0 && live.Zero[n-1].End == innodb.PageNo(no) {
				live.Zero[n-1].End++
			} else {
				live.Zero = append(live.Zero, innodb.PageRange{First: innodb.PageNo(no), End: innodb.PageNo(no) + 1})
			}
		case zero || innodb.HeaderLSN(page) >= from:
			pages = append(pages, innodb.PageNo(no))
		}
	}
	live.Kind = metadata.LiveChanged
	m.delta(t, a, live, f, pages)
}

func (m *model) asNew(t testing.TB, a *xbtest.Archiver, live *metadata.Live, f *file) {
	t.Helper()
	live.Kind, live.Space, live.Sum = metadata.LiveNew, &f.id, sum(f)
	var pages []innodb.PageNo
	for no, page := range f.pages {
		if !innodb.AllZero(page) {
			pages = append(pages, innodb.PageNo(no))
		}
	}
	m.delta(t, a, live, f, pages)
}

func (m *model) delta(t testing.TB, a *xbtest.Archiver, live *metadata.Live, f *file, pages []innodb.PageNo) {
	t.Helper()
	name, size := live.Path, pageSize
	if innodb.AllZero(f.bytes()) && len(f.pages)%4 == 0 {
		// Nobody knows the size of its pages: it is said to be the server's.
		size *= 4
		for i, r := range live.Zero {
			live.Zero[i] = innodb.PageRange{First: r.First / 4, End: r.End / 4}
		}
		pages = nil
	}
	if len(pages)%3 == 1 { // a name in the archive that is not the server's
		name = strings.Replace(live.Path, ".ibd", "@hb1.ibd", 1)
	}
	live.Stored = name + delta.Ext
	a.Put(name+delta.ExtMeta, delta.Meta{PageSize: size, Space: f.id, Flags: flags, HasFlags: len(pages)%2 == 0 && size == pageSize}.Marshal())
	out := a.Create(live.Stored)
	var b bytes.Buffer
	w, err := delta.NewWriter(&b, size, nil)
	if err != nil {
		t.Fatal(err)
	}
	for _, no := range pages {
		if err := w.Add(no, f.pages[no]); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	for rest := b.Bytes(); len(rest) > 0; { // chunks that cut pages
		n := min(len(rest), 5*pageSize+100)
		a.Write(out, rest[:n])
		rest = rest[n:]
	}
	a.End(out)
}

// chain merges archives that are in files, in the way of the command line.
func mergeFiles(ctx context.Context, names []string, w io.Writer) (result *merge.Result, err error) {
	a, err := merge.Open(ctx, stream.ReadFlags{Archive: names[0]}, names[1:], "", nil, nil)
	if err != nil {
		return nil, err
	}
	defer func() {
		if cerr := a.Close(); err == nil {
			err = cerr
		}
	}()
	return a.Run(ctx, w, merge.Options{HBVersion: "test"})
}

// save writes archives into files.
func save(t testing.TB, states ...*state) (names []string) {
	t.Helper()
	dir := t.TempDir()
	for i, s := range states {
		name := filepath.Join(dir, fmt.Sprintf("%d.hb", i))
		if err := os.WriteFile(name, s.archive, 0o600); err != nil {
			t.Fatal(err)
		}
		names = append(names, name)
	}
	return names
}
