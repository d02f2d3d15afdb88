package delta_test

import (
	"bytes"
	"compress/gzip"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"hb/xbstream/innodb"
	"hb/xbstream/innodb/delta"
)

// pagesOf reads a file with the pages' numbers and contents, front to back.
func pagesOf(t *testing.T, pageSize int, content []byte) map[innodb.PageNo][]byte {
	t.Helper()
	pages := make(map[innodb.PageNo][]byte)
	order, err := readAll(pageSize, content, pages)
	if err != nil {
		t.Fatal(err)
	}
	if len(order) != len(pages) {
		t.Errorf("%d pages, %d of them different ones", len(order), len(pages))
	}
	return pages
}

func readAll(pageSize int, content []byte, pages map[innodb.PageNo][]byte) (order []innodb.PageNo, err error) {
	r, err := delta.NewReader(iotest{bytes.NewReader(content)}, pageSize)
	if err != nil {
		return nil, err
	}
	for {
		no, page, err := r.Next()
		if err == io.EOF {
			return order, nil
		}
		if err != nil {
			return order, err
		}
		order = append(order, no)
		pages[no] = bytes.Clone(page)
	}
}

// iotest gives a few bytes at a time.
type iotest struct{ r io.Reader }

func (i iotest) Read(p []byte) (int, error) { return i.r.Read(p[:min(len(p), 1000)]) }

// memory is a file in memory.
type memory struct {
	b     []byte
	reads []int64
}

func (m *memory) WriteAt(p []byte, off int64) (int, error) {
	if end := int(off) + len(p); end > len(m.b) {
		m.b = append(m.b, make([]byte, end-len(m.b))...)
	}
	return copy(m.b[off:], p), nil
}

func (m *memory) ReadAt(p []byte, off int64) (int, error) {
	m.reads = append(m.reads, off)
	return bytes.NewReader(m.b).ReadAt(p, off)
}

// write writes a file of pages, and returns it and how much was put aside.
func write(t *testing.T, pageSize int, order []innodb.PageNo, page func(innodb.PageNo) []byte) ([]byte, int) {
	t.Helper()
	var out bytes.Buffer
	var aside memory
	w, err := delta.NewWriter(&out, pageSize, func() (delta.File, error) { return &aside, nil })
	if err != nil {
		t.Fatal(err)
	}
	for _, no := range order {
		if err := w.Add(no, page(no)); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	if w.Len() != int64(len(order)) || w.Close() == nil {
		t.Errorf("%d pages were added, the writer counts %d", len(order), w.Len())
	}
	return out.Bytes(), len(aside.b)
}

// same reads a peer's files in both ways, and writes them again: to the same bytes.
func same(t *testing.T, name string, meta, content []byte) delta.Meta {
	t.Helper()
	m, err := delta.ParseMeta(meta)
	if err != nil {
		t.Fatalf("%s: %v\n%s", name, err, meta)
	}
	if got := m.Marshal(); !bytes.Equal(got, meta) {
		t.Errorf("%s: meta %q, written again %q", name, meta, got)
	}
	pages := make(map[innodb.PageNo][]byte)
	order, err := readAll(m.PageSize, content, pages)
	if err != nil {
		t.Fatalf("%s: %v", name, err)
	}
	for no, page := range pages { // the pages say themselves which they are
		if got := innodb.HeaderPageNo(page); m.Space != 0 && (got != no || innodb.HeaderSpace(page) != m.Space) { // 0 has a doublewrite area
			t.Errorf("%s: page %d says it is page %d of tablespace %d", name, no, got, innodb.HeaderSpace(page))
		}
	}
	if again, _ := write(t, m.PageSize, order, func(no innodb.PageNo) []byte { return pages[no] }); !bytes.Equal(again, content) {
		t.Errorf("%s: %d bytes, and another %d when they are written again", name, len(content), len(again))
	}
	l, err := delta.ReadList(bytes.NewReader(content), int64(len(content)), m.PageSize)
	if err != nil {
		t.Fatalf("%s: %v", name, err)
	}
	checkList(t, l, content, m.PageSize, pages)
	return m
}

// checkList compares a list with what the Reader found.
func checkList(t *testing.T, l *delta.List, content []byte, pageSize int, pages map[innodb.PageNo][]byte) {
	t.Helper()
	n, before := 0, innodb.PageNo(0)
	for no, at := range l.Pages() {
		found, ok := l.Find(no)
		next, isNext := l.Next(before)
		if !ok || found != at || !isNext || next != no || !bytes.Equal(content[at:][:pageSize], pages[no]) {
			t.Fatalf("page %d at %d, found at %d; the next from %d is %d", no, at, found, before, next)
		}
		if _, ok := l.Find(no + 1); ok != (pages[no+1] != nil) {
			t.Fatalf("page %d: found %v", no+1, ok)
		}
		n, before = n+1, no+1
	}
	if n != len(pages) || l.Len() != n {
		t.Errorf("%d pages listed, %d read", n, len(pages))
	}
	if _, ok := l.Next(before); ok {
		t.Errorf("there is a page from %d on", before)
	}
}

// TestGolden has files that mariadb-backup wrote: see TestPeerWrites.
func TestGolden(t *testing.T) {
	files := goldens(t)
	clusters := 0
	for name, content := range files {
		if base, ok := strings.CutSuffix(name, delta.Ext); ok {
			same(t, name, files[base+delta.ExtMeta], content)
			clusters = max(clusters, bytes.Count(content, []byte("xtra")))
		}
	}
	if len(files) < 14 || clusters < 1 {
		t.Errorf("%d files, of up to %d full clusters", len(files), clusters)
	}
}

func goldens(t testing.TB) map[string][]byte {
	t.Helper()
	names, err := filepath.Glob("testdata/*.gz")
	if err != nil {
		t.Fatal(err)
	}
	files := make(map[string][]byte)
	for _, name := range names {
		b, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		z, err := gzip.NewReader(bytes.NewReader(b))
		if err != nil {
			t.Fatal(err)
		}
		content, err := io.ReadAll(z)
		if err != nil {
			t.Fatal(err)
		}
		files[strings.TrimSuffix(filepath.Base(name), ".gz")] = content
	}
	return files
}

// made is the content of a page in tests.
func made(size int, no innodb.PageNo) []byte {
	page := make([]byte, size)
	for i := 0; i < size; i += 4 {
		binary.BigEndian.PutUint32(page[i:], uint32(no)^uint32(i))
	}
	return page
}

// TestSizes writes files about the sizes where clusters and memory are full, with pages in
// any order, and looks at the layout by its arithmetic.
func TestSizes(t *testing.T) {
	for _, size := range []int{1 << 10, 4 << 10} {
		c := delta.Capacity(size)
		for _, n := range []int{0, 1, c - 1, c, c + 1, 2 * c, 2*c + 1, delta.Memory/size + 1, delta.Memory/size + c} {
			order := make([]innodb.PageNo, n)
			for i := range order {
				order[i] = innodb.PageNo(3 * i)
			}
			rand.New(rand.NewPCG(1, uint64(n))).Shuffle(n, func(i, j int) { order[i], order[j] = order[j], order[i] })
			content, aside := write(t, size, order, func(no innodb.PageNo) []byte { return made(size, no) })
			if want := (n + n/c + 1) * size; len(content) != want {
				t.Errorf("%d pages of %d: %d bytes, want %d", n, size, len(content), want)
			}
			// A cluster of small pages fits in memory: it is never put aside.
			if most := min(n, c) * size; (aside > 0) != (most > delta.Memory) {
				t.Errorf("%d pages of %d: %d bytes were put aside", n, size, aside)
			}
			pages := pagesOf(t, size, content)
			for no, page := range pages {
				if !bytes.Equal(page, made(size, no)) {
					t.Fatalf("%d pages of %d: page %d", n, size, no)
				}
			}
			file := &memory{b: content}
			l, err := delta.ReadList(file, int64(len(content)), size)
			if err != nil {
				t.Fatal(err)
			}
			if len(file.reads) != n/c+1 {
				t.Errorf("%d pages of %d: the list took %d reads", n, size, len(file.reads))
			}
			checkList(t, l, content, size, pages)
		}
	}
}

// TestLargePages: clusters that do not fit in memory come out the same.
func TestLargePages(t *testing.T) {
	const size = 16 << 10
	n := delta.Memory/size*2 + 7
	order := make([]innodb.PageNo, n)
	for i := range order {
		order[i] = innodb.PageNo(i)
	}
	content, aside := write(t, size, order, func(no innodb.PageNo) []byte { return made(size, no) })
	if aside != n*size {
		t.Errorf("%d bytes were put aside, want %d", aside, n*size)
	}
	for i, no := range order {
		if !bytes.Equal(content[(i+1)*size:][:size], made(size, no)) {
			t.Fatalf("page %d", no)
		}
	}
}

// TestWriterRefuses what no reader would take.
func TestWriterRefuses(t *testing.T) {
	add := func(no innodb.PageNo, page []byte) error {
		w, err := delta.NewWriter(io.Discard, 1024, nil)
		if err != nil {
			t.Fatal(err)
		}
		if err := w.Add(70000, made(1024, 70000)); err != nil {
			t.Fatal(err)
		}
		err = w.Add(no, page)
		if err != nil && (w.Close() != err || w.Add(1, made(1024, 1)) != err) {
			t.Error("the writer goes on after an error")
		}
		return err
	}
	if _, ok := errors.AsType[*delta.DuplicateError](add(70000, made(1024, 1))); !ok {
		t.Error("a page may come twice")
	}
	for no, size := range map[innodb.PageNo]int{1: 1023, 2: 2048, innodb.PageNull: 1024} {
		if add(no, make([]byte, size)) == nil {
			t.Errorf("page %d of %d bytes was taken", no, size)
		}
	}
	for _, no := range []innodb.PageNo{0, 69999, 70001, 1<<32 - 2} {
		if err := add(no, made(1024, no)); err != nil {
			t.Error(err)
		}
	}
	for _, size := range []int{0, 512, 1000, 3 << 10, 128 << 10} {
		if _, err := delta.NewWriter(io.Discard, size, nil); err == nil {
			t.Errorf("pages of %d bytes were taken", size)
		}
	}
}

// TestWriterFaults: a place aside that fails is an error, and so is an output that does.
func TestWriterFaults(t *testing.T) {
	fault := errors.New("fault")
	const size = 16 << 10
	for name, temp := range map[string]func() (delta.File, error){
		"made":  func() (delta.File, error) { return nil, fault },
		"write": func() (delta.File, error) { return faulty{write: fault}, nil },
		"read":  func() (delta.File, error) { return faulty{read: fault}, nil },
	} {
		w, err := delta.NewWriter(io.Discard, size, temp)
		if err != nil {
			t.Fatal(err)
		}
		for no := innodb.PageNo(0); no < delta.Memory/size+1 && err == nil; no++ {
			err = w.Add(no, made(size, no))
		}
		if err = w.Close(); !errors.Is(err, fault) {
			t.Errorf("%s: %v", name, err)
		}
	}
	w, err := delta.NewWriter(writerFunc(func([]byte) (int, error) { return 0, fault }), size, nil)
	if err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); !errors.Is(err, fault) {
		t.Error(err)
	}
}

type faulty struct{ read, write error }

func (f faulty) ReadAt(p []byte, _ int64) (int, error)  { return 0, f.read }
func (f faulty) WriteAt(p []byte, _ int64) (int, error) { return len(p), f.write }

type writerFunc func([]byte) (int, error)

func (f writerFunc) Write(p []byte) (int, error) { return f(p) }

// TestDamage: both readers refuse what no writer makes, and tell a cut from damage.
func TestDamage(t *testing.T) {
	const size = 1024
	c := delta.Capacity(size)
	var order []innodb.PageNo
	for i := range c + 3 {
		order = append(order, innodb.PageNo(i))
	}
	good, _ := write(t, size, order, func(no innodb.PageNo) []byte { return made(size, no) })
	second := (1 + c) * size // the second cluster's index
	edit := func(f func(b []byte) []byte) []byte { return f(bytes.Clone(good)) }
	put := func(at int, v uint32) []byte {
		return edit(func(b []byte) []byte { binary.BigEndian.PutUint32(b[at:], v); return b })
	}
	for name, b := range map[string][]byte{
		"no magic":                   put(0, 0),
		"no magic in the second":     put(second, 0x58545242),
		"a cluster that is not full": put(4*c, 0xFFFFFFFF),
		"the first is the last":      edit(func(b []byte) []byte { copy(b, "XTRA"); return b }),
		"a page twice in a cluster":  put(8, 0),
		"a page twice":               put(second+4, 1),
		"bytes at the end":           append(bytes.Clone(good), 0),
		"a cluster at the end":       append(bytes.Clone(good), good[second:]...),
	} {
		stream, list := both(b, size)
		if stream == nil || list == nil || errors.Is(stream, io.ErrUnexpectedEOF) || errors.Is(list, io.ErrUnexpectedEOF) {
			t.Errorf("%s: %v, %v", name, stream, list)
		}
	}
	for _, b := range [][]byte{put(second+16, 5), edit(func(b []byte) []byte { copy(b[second:], "xtra"); return b })} {
		if stream, list := both(b, size); stream == nil || list == nil {
			t.Errorf("%v, %v", stream, list)
		}
	}
	for n := 0; n < len(good); n += 1 + n%331 {
		if stream, list := both(good[:n], size); !errors.Is(stream, io.ErrUnexpectedEOF) || !errors.Is(list, io.ErrUnexpectedEOF) {
			t.Fatalf("cut at %d: %v, %v", n, stream, list)
		}
	}
}

// both reads a file in both ways.
func both(b []byte, size int) (stream, list error) {
	_, stream = readAll(size, b, make(map[innodb.PageNo][]byte))
	_, list = delta.ReadList(bytes.NewReader(b), int64(len(b)), size)
	return stream, list
}

// TestMeta reads what peers write, in their forms.
func TestMeta(t *testing.T) {
	for text, want := range map[string]delta.Meta{
		"page_size = 16384\nzip_size = 0 \nspace_id = 7\n":                          {PageSize: 16384, Space: 7},
		"page_size = 16384\nzip_size = 0\nspace_id = 4294967279\nspace_flags = 0\n": {PageSize: 16384, Space: 4294967279, HasFlags: true},
		"space_flags = 41\nspace_id = 9\nzip_size = 4096\npage_size = 4096":         {PageSize: 4096, ZipSize: 4096, Space: 9, Flags: 41, HasFlags: true},
		"page_size = 16384\n\nlater = what\r\n":                                     {PageSize: 16384},
	} {
		if got, err := delta.ParseMeta([]byte(text)); err != nil || got != want {
			t.Errorf("%q: %+v, %v", text, got, err)
		}
		if want.HasFlags && !strings.Contains(string(want.Marshal()), fmt.Sprintf("\nspace_flags = %d\n", want.Flags)) {
			t.Errorf("%q", want.Marshal())
		}
		if got, err := delta.ParseMeta(want.Marshal()); err != nil || got != want {
			t.Errorf("%q: %+v, %v", want.Marshal(), got, err)
		}
	}
	for _, text := range []string{
		"", "space_id = 1\n", "page_size = 0\n", "page_size = 16384", "page_size = -1\n", "page_size = 4294967296\n", "page_size\n",
		"page_size = 16384\npage_size = 16384\n", "page_size = 16384\nzip_size = 8192\n", "page_size = 16384\nspace_id = x\n",
		"page_size = 16384\n" + strings.Repeat("#", delta.MaxMeta),
	} {
		if m, err := delta.ParseMeta([]byte(text)); err == nil && text != "page_size = 16384" {
			t.Errorf("%.60q: %+v", text, m)
		}
	}
}

// FuzzDelta: both readers agree, and what they take is written again to the same pages.
func FuzzDelta(f *testing.F) {
	for name, content := range goldens(f) {
		if strings.HasSuffix(name, delta.Ext) && len(content) < 64<<10 {
			f.Add(content, uint8(4))
		}
	}
	f.Add([]byte("XTRA\xff\xff\xff\xff"+strings.Repeat("\x00", 1016)), uint8(0))
	f.Fuzz(func(t *testing.T, content []byte, code uint8) {
		size := 1024 << (code % 7)
		pages := make(map[innodb.PageNo][]byte)
		order, stream := readAll(size, content, pages)
		l, list := delta.ReadList(bytes.NewReader(content), int64(len(content)), size)
		if (stream == nil) != (list == nil) {
			t.Fatalf("front to back: %v; the list: %v", stream, list)
		}
		if stream != nil {
			return
		}
		checkList(t, l, content, size, pages)
		again, _ := write(t, size, order, func(no innodb.PageNo) []byte { return pages[no] })
		second := make(map[innodb.PageNo][]byte)
		if got, err := readAll(size, again, second); err != nil || !slices.Equal(got, order) || len(second) != len(pages) {
			t.Fatalf("written again: %v", err)
		}
	})
}

// FuzzMeta: what is read is written so that it reads the same.
func FuzzMeta(f *testing.F) {
	f.Add([]byte("page_size = 16384\nzip_size = 0 \nspace_id = 7\nspace_flags = 21\n"))
	f.Fuzz(func(t *testing.T, text []byte) {
		m, err := delta.ParseMeta(text)
		if err != nil {
			return
		}
		if again, err := delta.ParseMeta(m.Marshal()); err != nil || again != m {
			t.Errorf("%+v, %v", again, err)
		}
	})
}
