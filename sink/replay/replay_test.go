package replay

import (
	"bytes"
	"cmp"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"

	"hb/stream/disk"
	"hb/stream/disk/disktest"
	"hb/xbstream/innodb"
	"hb/xbstream/innodb/innodbtest"
)

const (
	pageSize = 4096 // in tablespaces with the flags innodbtest.Full4K
	baseLSN  = 1 << 20
)

// fakeDialect has runs of an offset and the bytes to write there, or "init".
type fakeDialect struct{}

func (fakeDialect) NewApplier() Applier { return new(fakeApplier) }

// fakeApplier works on a copy, so that forgetting Begin or Finish shows.
type fakeApplier struct {
	id    innodb.PageID
	image []byte
	page  []byte
}

func (a *fakeApplier) Begin(image []byte, id innodb.PageID, _ *innodb.Space) error {
	a.id, a.image, a.page = id, image, bytes.Clone(image)
	return nil
}

func (a *fakeApplier) Apply(_ innodb.LSN, run []byte) error { return fakeApply(a.page, a.id, run) }

func (a *fakeApplier) Finish() error {
	copy(a.image, a.page)
	return nil
}

func fakeApply(page []byte, id innodb.PageID, run []byte) error {
	if string(run[:4]) == "bad!" {
		return errors.New("it is bad")
	}
	if string(run[:4]) == "init" {
		clear(page)
		binary.BigEndian.PutUint32(page[4:], uint32(id.No))
		binary.BigEndian.PutUint32(page[34:], uint32(id.Space))
		return nil
	}
	// Depends on what is there, so that order and repetition count.
	at := int(binary.BigEndian.Uint16(run))
	for i, b := range run[2:] {
		page[at+i] = page[at+i]*3 + b
	}
	return nil
}

// scene is a directory with tablespaces, a log, and what must become of it.
type scene struct {
	t      *testing.T
	dir    string
	runs   []Run
	trims  map[innodb.SpaceID][]Trim
	pages  map[innodb.PageID][]byte // expected images
	lsn    innodb.LSN
	spaces map[innodb.SpaceID]*Tablespace
}

func newScene(t *testing.T, spaces, pages int) *scene {
	s := &scene{
		t: t, dir: t.TempDir(), lsn: baseLSN,
		pages: make(map[innodb.PageID][]byte), spaces: make(map[innodb.SpaceID]*Tablespace),
		trims: make(map[innodb.SpaceID][]Trim),
	}
	for id := range innodb.SpaceID(spaces) {
		space, err := innodb.ParseFlags(innodbtest.Full4K)
		if err != nil {
			t.Fatal(err)
		}
		space.ID, space.Size = id, uint32(pages)
		file := innodbtest.Tablespace{ID: id, Flags: innodbtest.Full4K, Pages: pages, LSN: baseLSN / 2,
			Fill: func(page []byte, no innodb.PageNo) { page[200] = byte(no) }}.Bytes()
		for no := range innodb.PageNo(pages) {
			s.pages[innodb.PageID{Space: id, No: no}] = bytes.Clone(file[int(no)*pageSize:][:pageSize])
		}
		name := fmt.Sprintf("s%d.ibd", id)
		if err := os.WriteFile(filepath.Join(s.dir, name), file, 0o644); err != nil {
			t.Fatal(err)
		}
		s.spaces[id] = &Tablespace{Space: space, Files: []File{{Path: name}}}
	}
	return s
}

// find finds a tablespace as RestoreDoublewrite wants it.
func (s *scene) find(id innodb.SpaceID) (*Tablespace, error) { return s.spaces[id], nil }

// mtr adds a mini-transaction of some runs.
func (s *scene) mtr(runs ...Run) {
	start := s.lsn
	for i := range runs {
		s.lsn += 100
		runs[i].LSN = s.lsn
	}
	s.lsn += 100
	for _, r := range runs {
		r.Start, r.End = start, s.lsn
		body := []byte("init")
		if r.Kind == Change {
			body = binary.BigEndian.AppendUint16(nil, uint16(300+r.LSN%1000))
			body = append(body, fmt.Sprintf("run at %d", r.LSN)...)
		}
		r.Records = body
		s.runs = append(s.runs, r)
		s.expect(&r, body)
	}
}

// expect applies the run to what is expected, at once and in the log's order.
func (s *scene) expect(r *Run, body []byte) {
	if r.Kind == Free {
		return
	}
	page := s.pages[r.Page]
	if page == nil {
		page = make([]byte, pageSize)
		s.pages[r.Page] = page
	}
	if err := fakeApply(page, r.Page, body); err != nil {
		s.t.Fatal(err)
	}
	restamp(page, r.End)
}

// restamp stamps a page that was changed.
func restamp(page []byte, lsn innodb.LSN) {
	innodbtest.Seal(page, innodbtest.Full4K, lsn, innodb.ChecksumFullCRC32)
}

// minEntries is about how many short runs the smallest store holds.
const minEntries = minBytes / 8

// recover copies the scene's files to a new directory and recovers them.
func (s *scene) recover(memory int64, parallel int) (string, Result, error) {
	dir := s.t.TempDir()
	if err := os.CopyFS(dir, os.DirFS(s.dir)); err != nil {
		s.t.Fatal(err)
	}
	r, err := s.recoverIn(dir, memory, parallel, fakeDialect{})
	return dir, r, err
}

func (s *scene) recoverIn(dir string, memory int64, parallel int, d Log) (Result, error) {
	root := disktest.Open(s.t, dir)
	plan := NewPlan(root, memory)
	defer plan.Close()
	for i := range s.runs {
		if err := plan.Add(&s.runs[i]); err != nil {
			s.t.Fatal(err)
		}
	}
	for id, trims := range s.trims {
		for _, trim := range trims {
			if err := plan.Trim(id, trim); err != nil {
				s.t.Fatal(err)
			}
		}
	}
	r, err := Recover(s.t.Context(), plan, Options{
		Root: root, Log: d, Identity: Identity{baseLSN, s.lsn}, PageSize: pageSize, End: s.lsn, Parallel: parallel,
		Tablespace: func(id innodb.SpaceID) (*Tablespace, error) {
			t := s.spaces[id]
			if t == nil {
				return nil, nil
			}
			c := *t
			return &c, nil
		},
	})
	if err == nil && memory < 1<<20 && plan.Spilled() == 0 && len(s.runs) > 4*minEntries {
		s.t.Errorf("%d runs in %d bytes, and nothing was put aside", len(s.runs), memory)
	}
	return r, err
}

// check compares the files with what is expected.
func (s *scene) check(dir string) {
	s.t.Helper()
	files := make(map[innodb.SpaceID][]byte)
	for id, t := range s.spaces {
		b, err := os.ReadFile(filepath.Join(dir, t.Files[0].Path))
		if err != nil {
			s.t.Fatal(err)
		}
		files[id] = b
	}
	wrong := 0
	for id, want := range s.pages {
		b := files[id.Space]
		at := int(id.No) * pageSize
		if at+pageSize > len(b) || !bytes.Equal(b[at:at+pageSize], want) {
			if wrong++; wrong < 4 {
				s.t.Errorf("page %v differs", id)
			}
		}
	}
	if wrong > 0 {
		s.t.Errorf("%d of %d pages differ", wrong, len(s.pages))
	}
	if _, err := os.Lstat(filepath.Join(dir, SpillName)); !errors.Is(err, fs.ErrNotExist) {
		s.t.Errorf("the temporary file is there: %v", err)
	}
}

// TestRecoverOutdated: a server never writes a page that it frees soon, so that the log
// changes pages that no file has as they were. What counts is what the log begins after
// that, also where the page has more runs than are looked at at a time.
func TestRecoverOutdated(t *testing.T) {
	id := innodb.PageID{Space: 1, No: 5}
	for _, c := range []struct {
		name string
		then func(s *scene)
		ok   bool
	}{
		{"initialised", func(s *scene) { s.mtr(Run{Page: id, Kind: Init}); s.mtr(Run{Page: id}) }, true},
		{"freed", func(s *scene) { s.mtr(Run{Page: id, Kind: Free}) }, true},
		{"nothing", func(*scene) {}, false},
		{"changed", func(s *scene) { s.mtr(Run{Page: id}) }, false},
	} {
		for _, outdated := range []int{10, 2 * batchEntries} {
			for _, memory := range []int64{1, 64 << 20} {
				s := newScene(t, 2, 10)
				for range outdated {
					s.lsn += 100
					s.runs = append(s.runs, Run{Page: id, LSN: s.lsn, Start: s.lsn, End: s.lsn + 100, Records: []byte("bad!")})
				}
				c.then(s)
				s.mtr(Run{Page: innodb.PageID{Space: 1, No: 6}})
				dir, _, err := s.recover(memory, 2)
				if c.ok && err != nil || !c.ok && (err == nil || !strings.Contains(err.Error(), "s1.ibd, page 5: the redo record at LSN 1048676 does not fit: it is bad")) {
					t.Errorf("%s, after %d runs, with %d bytes of memory: %v", c.name, outdated, memory, err)
				}
				if err == nil {
					s.check(dir)
				}
			}
		}
	}
}

// TestRecover replays a random log in many ways; what must come out is known
// from applying it run by run as it is made.
func TestRecover(t *testing.T) {
	s := newScene(t, 5, 300)
	random := rand.New(rand.NewPCG(7, 7))
	page := func() innodb.PageID {
		return innodb.PageID{Space: innodb.SpaceID(random.IntN(5)), No: innodb.PageNo(1 + random.IntN(random.IntN(299)+1))}
	}
	hot := innodb.PageID{Space: 2, No: 77}
	freed := make(map[innodb.PageID]bool)
	for range 30000 {
		var runs []Run
		seen := make(map[innodb.PageID]bool)
		for range 1 + random.IntN(4) {
			id := page()
			if random.IntN(3) == 0 {
				id = hot
			}
			kind := Change
			if freed[id] || random.IntN(400) == 0 && !seen[id] {
				kind = Init
				delete(freed, id)
			}
			seen[id] = true
			runs = append(runs, Run{Page: id, Kind: kind})
		}
		s.mtr(runs...)
		if id := page(); random.IntN(300) == 0 && id != hot && !freed[id] {
			s.mtr(Run{Page: id, Kind: Free})
			freed[id] = true
		}
	}
	for id := range freed { // what those hold at the end is undefined
		s.mtr(Run{Page: id, Kind: Init})
	}
	if n := len(s.runs); n < batchEntries*2 {
		t.Fatalf("only %d runs", n)
	}
	for _, memory := range []int64{1, 1 << 18, 64 << 20} {
		for _, parallel := range []int{1, 3} {
			dir, r, err := s.recover(memory, parallel)
			if err != nil {
				t.Fatalf("memory %d, %d workers: %v", memory, parallel, err)
			}
			s.check(dir)
			// Once more: all pages are as new as the log.
			again, err := s.recoverIn(dir, memory, parallel, fakeDialect{})
			if err != nil {
				t.Fatal(err)
			}
			s.check(dir)
			if again.Current == 0 || again.Current+again.Pages != r.Pages+r.Current {
				t.Errorf("first %+v, again %+v", r, again)
			}
		}
	}
}

// TestInterrupted fails after n runs, in any order that the workers
// come to, and goes on from there.
func TestInterrupted(t *testing.T) {
	s := newScene(t, 3, 200)
	random := rand.New(rand.NewPCG(9, 9))
	for range 3000 {
		s.mtr(Run{Page: innodb.PageID{Space: innodb.SpaceID(random.IntN(3)), No: innodb.PageNo(random.IntN(199) + 1)}})
	}
	file, err := os.ReadFile(filepath.Join(s.dir, "s1.ibd"))
	if err != nil {
		t.Fatal(err)
	}
	for no := innodb.PageNo(7); no < 200; no += 10 { // they stay as they are, between others that are written
		id := innodb.PageID{Space: 1, No: no}
		s.mtr(Run{Page: id, Kind: Free})
		copy(s.pages[id], file[int(no)*pageSize:])
	}
	skips := 0
	for n := 100; n < 3000; n += 400 {
		dir := t.TempDir()
		if err := os.CopyFS(dir, os.DirFS(s.dir)); err != nil {
			t.Fatal(err)
		}
		failing := failingDialect{left: new(atomic.Int64)}
		failing.left.Store(int64(n))
		if _, err := s.recoverIn(dir, 1<<20, 1, failing); !errors.Is(err, errFault) {
			t.Fatalf("error %v", err)
		}
		root, err := disk.OS.OpenDir(dir)
		if err != nil {
			t.Fatal(err)
		}
		// Tear the last page that was being written.
		skips += tear(t, root)
		if _, err := RestoreDoublewrite(root, Identity{baseLSN, s.lsn}, s.find); err != nil {
			t.Fatal(err)
		}
		root.Close()
		if _, err := s.recoverIn(dir, 1<<20, 2, fakeDialect{}); err != nil {
			t.Fatal(err)
		}
		s.check(dir)
	}
	if skips == 0 {
		t.Error("no slot had a page between others that was not to be written")
	}
}

var errFault = errors.New("no more")

// failingDialect fails after so many runs, of all appliers together.
type failingDialect struct{ left *atomic.Int64 }

func (d failingDialect) NewApplier() Applier { return &failingApplier{left: d.left} }

type failingApplier struct {
	fakeApplier
	left *atomic.Int64
}

func (a *failingApplier) Apply(mtr innodb.LSN, run []byte) error {
	if a.left.Add(-1) < 0 {
		return errFault
	}
	return a.fakeApplier.Apply(mtr, run)
}

// tear makes half of each page in the doublewrite file zero where it belongs. It
// returns how many of its pages belong nowhere.
func tear(t *testing.T, root disk.Dir) (skips int) {
	b, err := root.ReadFile(DoublewriteName)
	if err != nil {
		t.Fatal(err)
	}
	for ; len(b) > dwHeader; b = b[min(dwSlotSize, len(b)):] {
		if string(b[:8]) != dwMagic {
			continue
		}
		count, space := int(binary.BigEndian.Uint32(b[12:])), binary.BigEndian.Uint32(b[20:])
		f, err := root.OpenFile(fmt.Sprintf("s%d.ibd", space), os.O_RDWR, 0)
		if err != nil {
			t.Fatal(err)
		}
		for i := range count {
			no := innodb.PageNo(binary.BigEndian.Uint32(b[dwHeader+4*i:]))
			if no == skipped {
				skips++
				continue
			}
			at := int64(no) * pageSize
			if _, err := f.WriteAt(make([]byte, pageSize/2), at+pageSize/2); err != nil {
				t.Fatal(err)
			}
		}
		f.Close()
	}
	return skips
}

func TestRecoverErrors(t *testing.T) {
	id := innodb.PageID{Space: 1, No: 5}
	for name, tc := range map[string]struct {
		make func(s *scene)
		want string
	}{
		"bad page": {func(s *scene) {
			s.mtr(Run{Page: id})
			s.damage(id)
		}, "s1.ibd: page 5: wrong checksum"},
		"changed after it was freed": {func(s *scene) {
			s.mtr(Run{Page: id, Kind: Free})
			s.mtr(Run{Page: id})
		}, "after it was freed"},
		"missing file": {func(s *scene) {
			s.mtr(Run{Page: id})
			os.Remove(filepath.Join(s.dir, "s1.ibd"))
		}, "s1.ibd"},
		"encrypted, and no keys": {func(s *scene) {
			s.mtr(Run{Page: id})
			s.spaces[1].Space.Encryption = innodb.Encryption{Present: true, Scheme: 1, KeyID: 3, MinVersion: 2}
		}, "key 3, version 2 is needed"},
		"encrypted by MySQL": {func(s *scene) {
			s.mtr(Run{Page: id, Kind: Init})
			s.spaces[1].Space.FullCRC32, s.spaces[1].Space.Flags = false, 1<<13
		}, "has no key"},
		"newer than the log": {func(s *scene) {
			s.mtr(Run{Page: id})
			page := s.pages[id]
			restamp(page, s.lsn+1)
			s.write(id, page)
		}, "newer than the redo log"},
	} {
		t.Run(name, func(t *testing.T) {
			s := newScene(t, 2, 10)
			tc.make(s)
			_, _, err := s.recover(1<<20, 2)
			if err == nil || !strings.Contains(err.Error(), tc.want) {
				t.Errorf("error %v, want one with %q", err, tc.want)
			}
		})
	}
	s := newScene(t, 2, 10)
	s.mtr(Run{Page: id})
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	root := disktest.Open(t, s.dir)
	plan := NewPlan(root, 1<<20)
	if _, err := Recover(ctx, plan, Options{Root: root, Log: fakeDialect{}, PageSize: pageSize}); !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled: %v", err)
	}
}

func (s *scene) write(id innodb.PageID, page []byte) {
	name := filepath.Join(s.dir, s.spaces[id.Space].Files[0].Path)
	f, err := os.OpenFile(name, os.O_RDWR, 0)
	if err != nil {
		s.t.Fatal(err)
	}
	if _, err := f.WriteAt(page, int64(id.No)*pageSize); err != nil {
		s.t.Fatal(err)
	}
	if err := f.Close(); err != nil {
		s.t.Fatal(err)
	}
}

func (s *scene) damage(id innodb.PageID) {
	page := bytes.Clone(s.pages[id])
	page[1000] ^= 1
	s.write(id, page)
}

// TestInitOlder: such an initialisation gives way to a page that is newer, and
// takes the place of one that is older, or not there. A bad page may be newer.
func TestInitOlder(t *testing.T) {
	s := newScene(t, 1, 20)
	newer, older, bad, beyond := innodb.PageID{No: 3}, innodb.PageID{No: 4}, innodb.PageID{No: 5}, innodb.PageID{No: 20}
	for _, id := range []innodb.PageID{newer, older, bad, beyond} {
		s.mtr(Run{Page: id, Kind: InitOlder}, Run{Page: id})
	}
	bulk := s.lsn // a bulk load filled the page after that
	page := s.pages[newer]
	page[1000]++
	restamp(page, bulk)
	s.write(newer, page)
	s.mtr(Run{Page: newer})
	dir, _, err := s.recover(1<<20, 2)
	if err != nil {
		t.Fatal(err)
	}
	s.check(dir)

	s.damage(bad)
	if _, _, err := s.recover(1<<20, 2); err == nil || !strings.Contains(err.Error(), "page 5: wrong checksum") {
		t.Errorf("a damaged page: %v", err)
	}
}

// TestDiscard: what the log did to a tablespace before it was made again does not
// matter.
func TestDiscard(t *testing.T) {
	p := NewPlan(disktest.Open(t, t.TempDir()), 1)
	defer p.Close()
	for lsn := innodb.LSN(100); lsn < 200; lsn += 10 {
		for space := range innodb.SpaceID(2) {
			if err := p.Add(&Run{Page: innodb.PageID{Space: space, No: 1}, LSN: lsn, Records: []byte{1}, Start: lsn, End: lsn + 10}); err != nil {
				t.Fatal(err)
			}
		}
	}
	if err := errors.Join(p.Discard(1, 150), p.Discard(1, 120)); err != nil {
		t.Fatal(err)
	}
	m, err := p.merge()
	if err != nil {
		t.Fatal(err)
	}
	got := map[uint32]int{}
	for {
		e, _, err := m.next()
		if err != nil {
			t.Fatal(err)
		}
		if e == nil {
			break
		}
		if e.space == 1 && e.lsn < 150 {
			t.Errorf("entry at %d", e.lsn)
		}
		got[e.space]++
	}
	if got[0] != 10 || got[1] != 5 {
		t.Errorf("entries by tablespace: %v", got)
	}
}

// TestPassOver: of tablespaces that are passed over nothing is kept, in memory or on disk.
func TestPassOver(t *testing.T) {
	p := NewPlan(disktest.Open(t, t.TempDir()), 1)
	defer p.Close()
	p.PassOver(func(id innodb.SpaceID) bool { return id%2 == 1 })
	for space := range innodb.SpaceID(6) {
		for _, kind := range []Kind{Init, Change} {
			if err := p.Add(&Run{Page: innodb.PageID{Space: space}, Kind: kind, LSN: 100, Records: []byte{1}, Start: 100, End: 110}); err != nil {
				t.Fatal(err)
			}
		}
	}
	if got := slices.Sorted(maps.Keys(p.Spaces())); !slices.Equal(got, []innodb.SpaceID{0, 2, 4}) || p.Runs() != 6 || p.Begins(3) || !p.Begins(4) {
		t.Errorf("%d runs of tablespaces %d; begins 3: %v, 4: %v", p.Runs(), got, p.Begins(3), p.Begins(4))
	}
}

// TestPlanOrder: whatever the limit, entries come out sorted, whole, and
// without those that a later initialisation or truncation made needless.
func TestPlanOrder(t *testing.T) {
	root := disktest.Open(t, t.TempDir())
	for _, p := range []*Plan{NewPlan(root, 1), NewPlan(root, 1)} {
		planOrder(t, p)
		if err := p.Close(); err != nil {
			t.Error(err)
		}
	}
}

func planOrder(t *testing.T, p *Plan) {
	random := rand.New(rand.NewPCG(3, 3))
	const n = 50 * minEntries
	last := make(map[innodb.PageID]innodb.LSN) // of the last initialisation
	for i := range n {
		r := Run{
			Page: innodb.PageID{Space: innodb.SpaceID(random.IntN(9)), No: innodb.PageNo(random.IntN(400))},
			LSN:  innodb.LSN(1000 + 10*i), Records: fmt.Appendf(nil, "%d", i), Start: innodb.LSN(999 + 10*i), End: innodb.LSN(1009 + 10*i),
		}
		if random.IntN(50) == 0 {
			r.Kind = Init
			last[r.Page] = r.LSN
		}
		if i%5000 == 4999 { // longer than a block, or than all that fits in memory
			r.Records = append(r.Records, make([]byte, i%3*maxBlock)...)
		}
		if err := p.Add(&r); err != nil {
			t.Fatal(err)
		}
	}
	trim := Trim{LSN: 1000 + 10*n/2, All: true}
	if err := p.Trim(4, trim); err != nil {
		t.Fatal(err)
	}
	if err := p.Settle(); err != nil || p.Spilled() == 0 {
		t.Errorf("%d bytes were put aside, %v", p.Spilled(), err)
	}
	m, err := p.merge()
	if err != nil {
		t.Fatal(err)
	}
	var before entry
	got := 0
	for {
		e, records, err := m.next()
		if err != nil {
			t.Fatal(err)
		}
		if e == nil {
			break
		}
		i := int(e.lsn-1000) / 10
		want := fmt.Appendf(nil, "%d", i)
		if i%5000 == 4999 {
			want = append(want, make([]byte, i%3*maxBlock)...)
		}
		if !bytes.Equal(records, want) {
			t.Fatalf("records %q at %d, want %q", records, e.lsn, want)
		}
		if got > 0 && order(&before, e) >= 0 {
			t.Fatalf("%v at %d after %v at %d", e.id(), e.lsn, before.id(), before.lsn)
		}
		if e.space == 4 && e.lsn < uint64(trim.LSN) {
			t.Fatalf("%v at %d was truncated away", e.id(), e.lsn)
		}
		if innodb.LSN(e.lsn) >= last[e.id()] && e.mtrStart() != innodb.LSN(e.lsn)-1 || e.mtrEnd() != innodb.LSN(e.lsn)+9 {
			t.Fatalf("entry %+v", e)
		}
		before = *e
		got++
	}
	wanted := 0
	random = rand.New(rand.NewPCG(3, 3))
	for i := range n {
		id := innodb.PageID{Space: innodb.SpaceID(random.IntN(9)), No: innodb.PageNo(random.IntN(400))}
		random.IntN(50)
		lsn := innodb.LSN(1000 + 10*i)
		if lsn >= last[id] && (id.Space != 4 || lsn >= trim.LSN) {
			wanted++
		}
	}
	if got < wanted || cmp.Compare(got, n) >= 0 {
		t.Errorf("%d entries came out of %d, at least %d matter", got, n, wanted)
	}
}

// TestPlanFails: what cannot be put aside is told, at the latest when all is
// wanted back.
func TestPlanFails(t *testing.T) {
	for _, op := range []disktest.Op{{Kind: disktest.OpenWrite, Name: SpillName, N: 1}, {Kind: disktest.Remove, Name: SpillName, N: 1},
		{Kind: disktest.Write, Name: SpillName, N: 1}, {Kind: disktest.Write, Name: SpillName, N: 2}} {
		for _, runs := range []int{minEntries + 1, 2*minEntries + 1, 10 * minEntries} {
			for _, halved := range []bool{false, true} {
				dir := t.TempDir()
				f := disktest.NewFaults(dir)
				f.Fail(op, syscall.ENOSPC, false)
				root, err := f.OpenDir(dir)
				if err != nil {
					t.Fatal(err)
				}
				p := NewPlan(root, 1)
				if halved {
					p = NewPlan(root, 1)
				}
				for i := 0; i < runs && err == nil; i++ {
					lsn := innodb.LSN(1000 + 10*i)
					err = p.Add(&Run{Page: innodb.PageID{No: innodb.PageNo(i)}, LSN: lsn, Records: []byte{1}, Start: lsn, End: lsn + 10})
				}
				if err == nil {
					_, err = p.merge()
				}
				if f.Hit() != errors.Is(err, syscall.ENOSPC) {
					t.Errorf("%v failed (%v), %d runs, halved %v: %v", op, f.Hit(), runs, halved, err)
				}
				if err := errors.Join(p.Close(), root.Close()); err != nil {
					t.Error(err)
				}
			}
		}
	}
}
