package census

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"hb/xbstream/innodb"
	"hb/xbstream/innodb/mysqlredo/mlog"
	"hb/xbstream/innodb/redolog"
	"hb/xbstream/metadata"
)

// Files are the tablespaces of a data directory, read into memory.
type Files struct {
	PageSize   int
	Spaces     map[innodb.SpaceID]*File
	systemPath string // innodb_data_file_path
}

// File is one tablespace: a file, or the system tablespace's files behind one
// another.
type File struct {
	Name  string
	Space innodb.Space
	Bytes []byte
	begin []innodb.PageNo // where the files of the system tablespace begin
}

// Page returns a page, or nil if the file is too short.
func (f *File) Page(no innodb.PageNo) []byte {
	size := f.Space.Physical
	if at := int(no) * size; at+size <= len(f.Bytes) {
		return f.Bytes[at : at+size]
	}
	return nil
}

// Pages is the number of pages.
func (f *File) Pages() innodb.PageNo { return innodb.PageNo(len(f.Bytes) / f.Space.Physical) }

// ReadFiles reads the tablespaces of a data directory, except for the temporary
// one. Files whose page 0 does not identify them count as absent.
func ReadFiles(data string) (*Files, error) {
	f := &Files{Spaces: map[innodb.SpaceID]*File{}}
	err := fs.WalkDir(os.DirFS(data), ".", func(name string, d fs.DirEntry, err error) error {
		base := filepath.Base(name)
		isSpace := strings.HasSuffix(base, ".ibd") || strings.HasSuffix(base, ".ibu") || strings.HasPrefix(base, "ibdata") || strings.HasPrefix(base, "undo")
		if err != nil || d.IsDir() || !isSpace {
			return err
		}
		b, err := os.ReadFile(filepath.Join(data, name))
		if err != nil {
			return err
		}
		if strings.HasPrefix(base, "ibdata") {
			return f.addSystem(name, b)
		}
		return f.add(name, b)
	})
	f.systemPath += ":autoextend"
	if s := f.Spaces[0]; err == nil && s == nil {
		err = errors.New("no system tablespace in " + data)
	} else if err == nil {
		f.PageSize = s.Space.Logical
	}
	return f, err
}

// addSystem adds the next file of the system tablespace: ibdata1, ibdata2 ….
func (f *Files) addSystem(name string, b []byte) error {
	f.systemPath = strings.TrimPrefix(fmt.Sprintf("%s;%s:%d", f.systemPath, name, len(b)), ";")
	if s := f.Spaces[0]; s != nil {
		s.begin = append(s.begin, s.Pages())
		s.Bytes = append(s.Bytes, b...)
		return nil
	}
	return f.add(name, b)
}

func (f *Files) add(name string, b []byte) error {
	space, err := innodb.ParseSpace(b)
	if err != nil {
		return nil
	}
	if other := f.Spaces[space.ID]; other != nil {
		return fmt.Errorf("%s and %s are both tablespace %d", other.Name, name, space.ID)
	}
	f.Spaces[space.ID] = &File{Name: name, Space: space, Bytes: b}
	return nil
}

// Applier is what replays records: replay.Applier.
type Applier interface {
	Begin(image []byte, id innodb.PageID, space *innodb.Space) error
	Apply(mtr innodb.LSN, run []byte) error
	Finish() error
}

// Page is what a replay made of one page.
type Page struct {
	ID    innodb.PageID
	File  *File
	Base  innodb.LSN // of the page before
	LSN   innodb.LSN // of the last change applied; 0: none
	Image []byte
	// Packed: it was stored with COMPRESSION.
	Packed bool
	Runs   []Change // all, applied or not
	Err    error    // of the first run that could not be applied
	ErrAt  innodb.LSN
}

// Change is a run: consecutive records of one page in one mini-transaction.
type Change struct {
	Start, End, LSN innodb.LSN // of the mini-transaction; of the first record
	Records         []byte
}

// Types lists the records of the run.
func (r *Change) Types() (out []mlog.Type) {
	for b := r.Records; len(b) > 0; {
		rec, _, err := mlog.ParseRecord(b)
		if err != nil {
			return out
		}
		out = append(out, rec.Type)
		b = b[rec.Size:]
	}
	return out
}

// Replay is a simple replay, all in memory: what the engine is compared with.
type Replay struct {
	Files   *Files
	Sum     innodb.Checksum // of pages that the log makes
	Pages   map[innodb.PageID]*Page
	Census  Counts // of the records that were applied
	Skipped Counts // of those that pages had, or whose tablespace is gone
	Deleted map[innodb.SpaceID]innodb.LSN
	Emptied map[innodb.SpaceID]innodb.LSN // 5.7: truncated, what is older is void
	Missing map[innodb.SpaceID]int        // runs of tablespaces that no file is of
	// renamed are the ends of those mini-transactions that rename a tablespace
	// and do other things too.
	renamed map[innodb.PageID]map[innodb.LSN]bool
}

// NewReplay gathers the runs of a log up to end.
func NewReplay(files *Files, log *Log, end innodb.LSN) (*Replay, error) {
	r := &Replay{
		Files: files, Pages: map[innodb.PageID]*Page{}, Deleted: map[innodb.SpaceID]innodb.LSN{},
		Emptied: map[innodb.SpaceID]innodb.LSN{}, Missing: map[innodb.SpaceID]int{},
		renamed: map[innodb.PageID]map[innodb.LSN]bool{},
	}
	system := files.Spaces[0]
	var err error
	if r.Sum, err = system.Space.Verify(system.Page(0), 0); err != nil {
		return nil, err
	}
	return r, log.Each(func(m *redolog.MTR) error {
		if m.End > end {
			return nil
		}
		return r.gather(m)
	})
}

func (r *Replay) gather(m *redolog.MTR) error {
	var run *Change
	var page innodb.PageID
	for at := 0; at < len(m.Records); {
		rec, _, err := mlog.ParseRecord(m.Records[at:])
		if err != nil {
			return err
		}
		b := m.Records[at : at+rec.Size]
		switch {
		case rec.Type == mlog.FileDelete:
			r.Deleted[rec.Page.Space] = m.Start
			run = nil
		case rec.Type == mlog.Truncate:
			r.Emptied[rec.Page.Space] = innodb.LSN(binary.BigEndian.Uint64(rec.Body))
			run = nil
		case !rec.Type.IsPage():
			r.Census[rec.Type]++
			run = nil
			if rec.Type == mlog.FileRename && rec.Size < len(m.Records) {
				r.noteRename(rec.Page, m.End)
			}
		case run != nil && rec.Page == page:
			run.Records = append(run.Records, b...)
		default:
			page = rec.Page
			p := r.Pages[page]
			if p == nil {
				p = &Page{ID: page, File: r.Files.Spaces[page.Space]}
				r.Pages[page] = p
			}
			p.Runs = append(p.Runs, Change{Start: m.Start, End: m.End, LSN: redolog.Advance(m.Start, at), Records: append([]byte(nil), b...)})
			run = &p.Runs[len(p.Runs)-1]
		}
		at += rec.Size
	}
	return nil
}

func (r *Replay) noteRename(page innodb.PageID, end innodb.LSN) {
	if r.renamed[page] == nil {
		r.renamed[page] = map[innodb.LSN]bool{}
	}
	r.renamed[page][end] = true
}

// Run applies what was gathered.
func (r *Replay) Run(newApplier func() Applier) {
	a := newApplier()
	for id, p := range r.Pages {
		if p.File == nil {
			r.Missing[id.Space] += len(p.Runs)
			continue
		}
		func() {
			defer func() {
				if x := recover(); x != nil {
					p.Err = fmt.Errorf("panic: %v", x)
				}
			}()
			r.page(a, p)
		}()
	}
}

func (r *Replay) page(a Applier, p *Page) {
	p.Image = make([]byte, p.File.Space.Physical)
	if b := p.File.Page(p.ID.No); b != nil {
		copy(p.Image, b)
	}
	image, err := plain(p.Image)
	if err != nil {
		p.Err = err
		return
	}
	p.Packed = innodb.HeaderType(p.Image) == pageCompressed
	p.Image = image
	sum, bad := p.File.Space.Verify(p.Image, p.ID.No)
	p.Base = innodb.HeaderLSN(p.Image)
	begun := false
	space := p.File.Space
	for i := range p.Runs {
		run := &p.Runs[i]
		types := run.Types()
		switch {
		case types[0] == mlog.InitFilePage, types[0] == mlog.InitFilePage2 && (bad != nil || p.Base <= run.LSN):
			clear(p.Image)
			p.Base, begun, bad, sum = 0, false, nil, innodb.ChecksumUnset
		}
		if run.LSN < p.Base || run.Start < r.Emptied[p.ID.Space] {
			r.Skipped.Add(run.Records)
			continue
		}
		if bad != nil {
			p.Err, p.ErrAt = bad, run.LSN
			return
		}
		if !begun {
			if p.Err = a.Begin(p.Image, p.ID, &space); p.Err != nil {
				return
			}
			begun = true
		}
		if p.Err = a.Apply(run.Start, run.Records); p.Err != nil {
			p.ErrAt = run.LSN
			return
		}
		p.LSN = run.End
		r.Census.Add(run.Records)
	}
	if !begun {
		return
	}
	if p.Err = a.Finish(); p.Err != nil {
		p.ErrAt = p.LSN
		return
	}
	space.SetLSN(p.Image, p.LSN)
	if sum == innodb.ChecksumUnset {
		sum = r.Sum
	}
	space.Stamp(p.Image, sum)
}

// Strip copies a backup without what a replay does not need: of the tablespaces
// all pages are zeroed that the log does not change and nobody looks at, and of
// the other files only those are copied that the backup tool made.
func (r *Replay) Strip(t testing.TB, backup, target string) {
	t.Helper()
	write := func(name string, b []byte) {
		name = filepath.Join(target, name)
		if err := errors.Join(os.MkdirAll(filepath.Dir(name), 0o755), os.WriteFile(name, b, 0o644)); err != nil {
			t.Fatal(err)
		}
	}
	for id, f := range r.Files.Spaces {
		if len(f.begin) > 0 {
			t.Fatal("more than one file of the system tablespace")
		}
		for no := range f.Pages() {
			p := innodb.PageID{Space: id, No: no}
			if r.Pages[p] == nil && no > 0 && p != (innodb.PageID{Space: 0, No: innodb.TrxSysPage}) && innodb.HeaderType(f.Page(no)) != rsegArray {
				clear(f.Page(no))
			}
		}
		write(f.Name, f.Bytes)
	}
	for _, name := range []string{logName, metadata.XtraBackupNames.Checkpoints, metadata.MyCnfName} {
		b, err := os.ReadFile(filepath.Join(backup, name))
		if err != nil {
			t.Fatal(err)
		}
		write(name, b)
	}
}

// rsegArray is the type of the page that lists an undo tablespace's rollback
// segments.
const rsegArray = 21
