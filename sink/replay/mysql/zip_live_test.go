package mysql

import (
	"bytes"
	"context"
	"database/sql"
	"encoding/binary"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"hb/sink/replay/mysql/deflate"
	"hb/source/mysqld/mysqldtest"
	"hb/source/mysqld/mysqldtest/census"
	"hb/xbstream/innodb"
	"hb/xbstream/innodb/mysqlredo/mlog"
)

// zipLoad fills compressed tables, one of each KEY_BLOCK_SIZE.
type zipLoad struct {
	rng   *rand.Rand
	root  *mysqldtest.Root
	sizes []int // KEY_BLOCK_SIZE
	words []string
}

func newZipLoad(root *mysqldtest.Root, pageSize int, seed uint64) *zipLoad {
	l := &zipLoad{rng: rand.New(rand.NewPCG(seed, 1)), root: root}
	for k := 1; k <= pageSize>>10; k *= 2 {
		l.sizes = append(l.sizes, k)
	}
	for range 50 {
		l.words = append(l.words, l.noise(2+l.rng.IntN(10)))
	}
	return l
}

func (l *zipLoad) noise(n int) string {
	b := make([]byte, n)
	for i := range b {
		b[i] = byte('a' + l.rng.IntN(26))
	}
	return string(b)
}

// text returns up to n bytes that compress more or less well.
func (l *zipLoad) text(n int) string {
	n = l.rng.IntN(n + 1)
	var b strings.Builder
	for b.Len() < n {
		if l.rng.IntN(4) == 0 {
			b.WriteString(l.noise(l.rng.IntN(20)))
		}
		b.WriteString(l.words[l.rng.IntN(len(l.words))])
	}
	return b.String()[:n]
}

// width is how long the variable columns of a table are, by KEY_BLOCK_SIZE.
func zipWidth(k int) (v1, v2 int) {
	if k < 4 {
		return 40, 90
	}
	return 60, 400
}

func (l *zipLoad) create() []string {
	out := []string{"CREATE DATABASE z", "SET GLOBAL innodb_purge_batch_size=5000"}
	for _, k := range l.sizes {
		v1, v2 := zipWidth(k)
		keys := ", KEY(v1), KEY(n, v1)"
		if k == 1 {
			keys = ", KEY(n)"
		}
		out = append(out, fmt.Sprintf("CREATE TABLE z.k%d (id INT NOT NULL PRIMARY KEY, v1 VARCHAR(%d), v2 VARCHAR(%d) NOT NULL, c CHAR(10), "+
			"n BIGINT NOT NULL, d DOUBLE, t LONGBLOB, u LONGBLOB%s) ENGINE=InnoDB CHARACTER SET latin1 ROW_FORMAT=COMPRESSED KEY_BLOCK_SIZE=%d", k, v1, v2, keys, k),
			fmt.Sprintf("CREATE TABLE z.s%d (a VARCHAR(20), b INT NOT NULL, c INT, PRIMARY KEY(a, b), UNIQUE KEY(c, b)) "+
				"ENGINE=InnoDB CHARACTER SET latin1 ROW_FORMAT=COMPRESSED KEY_BLOCK_SIZE=%d", k, k))
	}
	out = append(out, "CREATE TABLE z.f (id INT AUTO_INCREMENT PRIMARY KEY, t TEXT, FULLTEXT KEY(t)) ENGINE=InnoDB ROW_FORMAT=COMPRESSED KEY_BLOCK_SIZE=4")
	if l.root.AtLeast(5, 7) {
		out = append(out, "CREATE TABLE z.g (id INT AUTO_INCREMENT PRIMARY KEY, g GEOMETRY NOT NULL, SPATIAL KEY(g)) ENGINE=InnoDB ROW_FORMAT=COMPRESSED KEY_BLOCK_SIZE=2",
			"CREATE TABLE z.v (id INT AUTO_INCREMENT PRIMARY KEY, n INT, t VARCHAR(90), v INT AS (n+1) VIRTUAL, KEY(v, t)) ENGINE=InnoDB CHARACTER SET latin1 "+
				"ROW_FORMAT=COMPRESSED KEY_BLOCK_SIZE=4")
	}
	return out
}

// other returns one change of a table with an index of another kind, or of a
// definition.
func (l *zipLoad) other() []string {
	n, k := l.rng.IntN(300), l.sizes[l.rng.IntN(len(l.sizes))]
	kind := l.rng.IntN(20)
	switch {
	case kind == 0:
		return []string{fmt.Sprintf("ALTER TABLE z.k%d ADD KEY x (d, n)", k), fmt.Sprintf("ALTER TABLE z.k%d DROP KEY x", k)}
	case kind == 1:
		return []string{fmt.Sprintf("OPTIMIZE TABLE z.s%d", k)}
	case kind < 7:
		return []string{fmt.Sprintf("INSERT INTO z.f (t) VALUES ('%s %s')", l.text(50), l.text(50)), fmt.Sprintf("DELETE FROM z.f WHERE id=%d", n)}
	case !l.root.AtLeast(5, 7):
		return nil
	case kind < 14:
		var rows []string
		for range 1 + l.rng.IntN(10) {
			rows = append(rows, fmt.Sprintf("(ST_GeomFromText('LINESTRING(%d %d,%d %d)'))", l.rng.IntN(500), l.rng.IntN(500), l.rng.IntN(500), l.rng.IntN(500)))
		}
		return []string{"INSERT INTO z.g (g) VALUES " + strings.Join(rows, ","), fmt.Sprintf("DELETE FROM z.g WHERE id BETWEEN %d AND %d", n, n+3),
			fmt.Sprintf("UPDATE z.g SET g=ST_GeomFromText('POINT(%d 3)') WHERE id=%d", n, n*3)}
	}
	return []string{fmt.Sprintf("INSERT INTO z.v (n, t) VALUES (%d,'%s'), (%d,'%s')", n, l.text(90), n+1, l.text(90)),
		fmt.Sprintf("UPDATE z.v SET n=n+1 WHERE id BETWEEN %d AND %d", n, n+9), fmt.Sprintf("DELETE FROM z.v WHERE id=%d", n)}
}

func (l *zipLoad) null(s string) string {
	if l.rng.IntN(5) == 0 {
		return "NULL"
	}
	return s
}

func (l *zipLoad) blob() string {
	n := 30
	switch l.rng.IntN(12) {
	case 0:
		n = 3000
	case 1:
		n = 20000
	}
	return l.null("'" + l.text(n) + "'")
}

func (l *zipLoad) row(k, id int) string {
	v1, v2 := zipWidth(k)
	return fmt.Sprintf("(%d,%s,'%s',%s,%d,%s,%s,%s)", id, l.null("'"+l.text(v1)+"'"), l.text(v2), l.null("'"+l.text(10)+"'"),
		l.rng.IntN(1000), l.null("1.5"), l.blob(), l.blob())
}

// statement returns one change of a table.
func (l *zipLoad) statement(k, top int) string {
	v1, v2 := zipWidth(k)
	at := l.rng.IntN(top)
	where := fmt.Sprintf(" WHERE id BETWEEN %d AND %d", at, at+l.rng.IntN(30))
	switch l.rng.IntN(10) {
	case 0:
		return fmt.Sprintf("DELETE FROM z.k%d", k) + where
	case 1:
		return fmt.Sprintf("UPDATE z.k%d SET n=n+1, d=2.5", k) + where
	case 2:
		return fmt.Sprintf("UPDATE z.k%d SET v2='%s', v1='%s'", k, l.text(v2), l.text(v1)) + where
	case 3:
		return fmt.Sprintf("UPDATE z.k%d SET t=%s, u=%s", k, l.blob(), l.blob()) + where
	case 4:
		return fmt.Sprintf("UPDATE z.k%d SET v1=NULL, c=NULL", k) + where
	case 5:
		return fmt.Sprintf("REPLACE INTO z.s%d VALUES ('%s',%d,%s)", k, l.text(20), l.rng.IntN(1000), l.null(strconv.Itoa(l.rng.IntN(100))))
	case 6:
		return fmt.Sprintf("DELETE FROM z.s%d WHERE b BETWEEN %d AND %d", k, at%1000, at%1000+3)
	case 7:
		return fmt.Sprintf("UPDATE z.s%d SET c=c+1000, b=b+1 WHERE b=%d ORDER BY b DESC LIMIT 1", k, at%1000)
	}
	var rows []string
	for range 1 + l.rng.IntN(20) {
		rows = append(rows, l.row(k, l.rng.IntN(top)))
	}
	return fmt.Sprintf("REPLACE INTO z.k%d VALUES ", k) + strings.Join(rows, ",")
}

// run executes statements, some of which fail and are rolled back.
func (l *zipLoad) run(ctx context.Context, db *sql.DB, statements int) error {
	conn, err := db.Conn(ctx)
	if err != nil {
		return err
	}
	defer conn.Close()
	for i := range statements {
		q := []string{"BEGIN"}
		for range 1 + l.rng.IntN(4) {
			q = append(q, l.statement(l.sizes[l.rng.IntN(len(l.sizes))], 800))
		}
		end := "COMMIT"
		if i%9 == 0 {
			end = "ROLLBACK"
		}
		q = append(q, end)
		if i%3 == 0 {
			q = append(q, l.other()...)
		}
		for _, q := range q {
			if _, err := conn.ExecContext(ctx, q); err != nil && !strings.Contains(err.Error(), "Duplicate") {
				return fmt.Errorf("%.200s: %w", q, err)
			}
		}
	}
	return nil
}

// rows is the index of z.k: what its records look like.
var zipRows = mlog.Index{
	Compact: true, NUniq: 1,
	Fields: []mlog.Field{
		{Len: 4, NotNull: true}, {Len: 6, NotNull: true}, {Len: 7, NotNull: true},
		{}, {NotNull: true, Big: true}, {Len: 10}, {Len: 8, NotNull: true}, {Len: 8}, {Big: true}, {Big: true},
	},
	Physical: []int{0, 1, 2, 3, 4, 5, 6, 7, 8, 9},
}

// TestZipPageFidelity makes frames of the pages of real servers, finds their rows, makes
// the same pages of them again, and then others, which the server must take.
func TestZipPageFidelity(t *testing.T) {
	mysqldtest.Each(t, mysqldtest.MySQL, func(t *testing.T, root *mysqldtest.Root) {
		sizes := []int{16 << 10}
		if mysqldtest.Long() {
			sizes = append(sizes, 8<<10, 4<<10)
		}
		for _, size := range sizes {
			t.Run(strconv.Itoa(size>>10)+"k", func(t *testing.T) { testZipPages(t, root, size) })
		}
	})
}

func testZipPages(t *testing.T, root *mysqldtest.Root, pageSize int) {
	s := mysqldtest.Start(t, root, mysqldtest.Options{PageSize: pageSize, Init: []string{"innodb-file-per-table=ON"},
		Config: []string{"max-allowed-packet=64M"}})
	l := newZipLoad(root, pageSize, 1)
	s.Exec(t, l.create()...)
	if err := l.run(t.Context(), s.DB(), 700); err != nil {
		t.Fatal(err)
	}
	want := map[int]map[string]string{}
	for _, k := range l.sizes {
		want[k] = selectRows(t, s, k)
	}
	if err := s.Stop(); err != nil {
		t.Fatal(err)
	}
	files, err := census.ReadFiles(s.Datadir)
	if err != nil {
		t.Fatal(err)
	}
	var total zipCounts
	for _, file := range files.Spaces {
		if !file.Space.Zip() {
			continue
		}
		name := strings.TrimSuffix(filepath.Base(file.Name), ".ibd")
		c := &zipChecker{t: t, File: file, name: name, rows: map[string]string{}}
		c.old = !root.AtLeast(5, 7)
		c.run()
		total.add(&c.zipCounts)
		if name[0] != 'k' {
			continue
		}
		k, err := strconv.Atoi(name[1:])
		if err != nil {
			t.Fatal(err)
		}
		compareRows(t, name, c.rows, want[k])
	}
	t.Logf("%+v", total)
	if total.logged == 0 || total.leaves == 0 || total.nodes == 0 || total.secondary == 0 || total.deleted == 0 || total.blobs == 0 || total.same == 0 {
		t.Error("not every kind of page was there")
	}
	if total.other > 0 {
		t.Errorf("%d pages are not compressed as the server does", total.other)
	}
	rewriteZip(t, root, s.Datadir, files)
	s = mysqldtest.StartOn(t, root, s.Datadir, mysqldtest.Options{PageSize: pageSize})
	for _, k := range l.sizes {
		for _, table := range []string{"z.k", "z.s"} {
			for _, r := range s.Rows(t, fmt.Sprintf("CHECK TABLE %s%d EXTENDED", table, k)) {
				if r[3] != "OK" {
					t.Errorf("CHECK TABLE: %v", r)
				}
			}
		}
		compareRows(t, fmt.Sprintf("k%d", k), selectRows(t, s, k), want[k])
	}
}

func selectRows(t *testing.T, s *mysqldtest.Server, k int) map[string]string {
	t.Helper()
	rows := map[string]string{}
	for _, r := range s.Rows(t, fmt.Sprintf("SELECT id, CONCAT_WS(',', IFNULL(v1, 'NULL'), v2, n, IFNULL(LENGTH(t), 'NULL')) FROM z.k%d", k)) {
		rows[r[0]] = r[1]
	}
	return rows
}

// rewriteZip compresses all pages again that fit another level of compression
// than the server's.
func rewriteZip(t *testing.T, root *mysqldtest.Root, data string, files *census.Files) {
	t.Helper()
	done, failed := 0, 0
	for _, f := range files.Spaces {
		if !f.Space.Zip() {
			continue
		}
		for no := range f.Pages() {
			image := f.Page(no)
			if !isIndex(innodb.HeaderType(image)) {
				continue
			}
			sum, err := f.Space.Verify(image, no)
			p := &page{space: &f.Space, image: bytes.Clone(image)}
			if err := errors.Join(err, p.zipOpen(), p.open(true)); err != nil {
				t.Fatal(err)
			}
			p.zipWork.old = root.AtLeast(5, 7)
			if err := p.zipCompress(bytes.Clone(p.zip.index.encoded), done%(deflate.BestLevel+1)); err != nil {
				failed++
				continue
			}
			if err := p.zipStore(); err != nil {
				t.Fatal(err)
			}
			f.Space.Stamp(p.image, sum)
			copy(image, p.image)
			done++
		}
		if err := os.WriteFile(filepath.Join(data, f.Name), f.Bytes, 0o666); err != nil {
			t.Fatal(err)
		}
	}
	t.Logf("%d pages compressed again, %d do not fit", done, failed)
}

func compareRows(t *testing.T, name string, got, want map[string]string) {
	t.Helper()
	if len(got) != len(want) {
		t.Errorf("%s: %d rows, want %d", name, len(got), len(want))
	}
	for id, row := range want {
		if got[id] != row {
			t.Errorf("%s: row %s is %.200q, want %.200q", name, id, got[id], row)
			return
		}
	}
}

// zipCounts says what pages were there.
type zipCounts struct {
	pages, leaves, nodes, secondary int
	logged                          int // with a modification log
	deleted, free, blobs            int // records, BLOB pointers
	same, other                     int // recompressed: as the server's, or not
}

func (c *zipCounts) add(o *zipCounts) {
	for _, v := range [][2]*int{{&c.pages, &o.pages}, {&c.leaves, &o.leaves}, {&c.nodes, &o.nodes}, {&c.secondary, &o.secondary}, {&c.logged, &o.logged},
		{&c.deleted, &o.deleted}, {&c.free, &o.free}, {&c.blobs, &o.blobs}, {&c.same, &o.same}, {&c.other, &o.other}} {
		*v[0] += *v[1]
	}
}

// zipChecker checks the index pages of a tablespace.
type zipChecker struct {
	*census.File
	t    *testing.T
	name string
	old  bool // by a server with an old zlib
	rows map[string]string
	zipCounts
}

func (c *zipChecker) run() {
	for no := range c.Pages() {
		if image := c.Page(no); isIndex(innodb.HeaderType(image)) {
			if err := c.page(no, image); err != nil {
				c.t.Errorf("%s page %d: %v", c.name, no, err)
			}
		}
	}
	if c.name[0] == 'k' {
		if err := c.walk(); err != nil {
			c.t.Errorf("%s: %v", c.name, err)
		}
	}
}

// walk collects the rows of z.k: pages that are in no tree any more hold others.
func (c *zipChecker) walk() error {
	no := innodb.PageNo(3)
	for innodb.HeaderType(c.Page(no)) != innodb.TypeIndex { // the first is a root
		no++
	}
	for no != innodb.PageNull {
		p := &page{space: &c.Space, image: c.Page(no)}
		if err := p.zipOpen(); err != nil {
			return fmt.Errorf("page %d: %w", no, err)
		}
		if !p.isLeaf() {
			first := p.next(compact.infimum)
			no = innodb.PageNo(binary.BigEndian.Uint32(p.frame[first+4:]))
			continue
		}
		if err := c.collect(p); err != nil {
			return fmt.Errorf("page %d: %w", no, err)
		}
		no = innodb.PageNo(binary.BigEndian.Uint32(p.frame[innodb.OffsetNext:]))
	}
	return nil
}

func (c *zipChecker) page(no innodb.PageNo, image []byte) error {
	p := &page{id: innodb.PageID{Space: c.Space.ID, No: no}, space: &c.Space, image: bytes.Clone(image)}
	p.zipWork.old = c.old
	if err := p.zipOpen(); err != nil {
		return err
	}
	if err := p.open(true); err != nil {
		return err
	}
	if err := validate(p); err != nil {
		return err
	}
	c.count(p)
	fresh, level := p.zip.data[p.zip.end] == 0 && p.zip.end == pageData+zipStreamSize(p), defaultLevel
	if err := p.zipFinish(); err != nil {
		return err
	}
	if !bytes.Equal(p.image, image) {
		return errors.New("storing the frame changes the page")
	}
	if !fresh {
		c.logged++
	} else if err := p.zipCompress(bytes.Clone(p.zip.index.encoded), level); err != nil {
		return err
	} else if err := p.zipStore(); err != nil {
		return err
	} else if bytes.Equal(p.image, image) {
		c.same++
	} else {
		c.other++
	}
	return nil
}

// zipStreamSize is the length of the page's stream.
func zipStreamSize(p *page) int {
	_, _, n, err := p.zipWork.stream(p.image[pageData:], len(p.frame))
	if err != nil {
		return -1
	}
	return n
}

func (c *zipChecker) count(p *page) {
	c.pages++
	c.blobs += p.zip.blobs
	switch {
	case !p.isLeaf():
		c.nodes++
	case p.zip.index.clustered():
		c.leaves++
	default:
		c.secondary++
	}
	c.free += p.heapSize() - firstUser - p.get(pageRecords)
	for rec := p.next(compact.infimum); rec != compact.supremum; rec = p.next(rec) {
		if p.info(rec)&infoDeleted != 0 {
			c.deleted++
		}
	}
}

// collect reads the rows of a leaf of z.k.
func (c *zipChecker) collect(p *page) error {
	for rec := p.next(compact.infimum); rec != compact.supremum; rec = p.next(rec) {
		if p.info(rec)&infoDeleted != 0 {
			continue
		}
		if err := p.layout(&p.one, rec, &zipRows); err != nil {
			return err
		}
		value := func(i int) string {
			if p.one.fields[i].is(fieldNull) {
				return "NULL"
			}
			from, to := p.one.bounds(i)
			return string(p.frame[rec+from : rec+to])
		}
		blob := "NULL"
		if f := p.one.fields[8]; !f.is(fieldNull) {
			b := value(8)
			n := len(b)
			if f.is(fieldExtern) {
				n += -zipBlobSize + int(binary.BigEndian.Uint32([]byte(b[len(b)-4:])))
			}
			blob = strconv.Itoa(n)
		}
		id := binary.BigEndian.Uint32([]byte(value(0))) ^ 1<<31
		n := binary.BigEndian.Uint64([]byte(value(6))) ^ 1<<63
		c.rows[strconv.Itoa(int(id))] = fmt.Sprintf("%s,%s,%d,%s", value(3), value(4), n, blob)
	}
	return nil
}

// validate checks that lists, directory and heap of a compact page agree.
func validate(p *page) error {
	heap := make([]int, p.heapSize())
	see := func(rec int) error {
		if err := p.user(rec); err != nil {
			return err
		}
		no := p.heapNo(rec)
		if no < firstUser || no >= len(heap) || heap[no] != 0 {
			return fmt.Errorf("the record at %d has the heap number %d of %d", rec, no, len(heap))
		}
		heap[no] = rec
		return nil
	}
	slot, owned, n := 1, 0, 0
	for rec := p.next(compact.infimum); ; rec = p.next(rec) {
		owned++
		if count := p.owned(rec); count != 0 {
			if count != owned || p.get(p.slot(slot)) != rec {
				return fmt.Errorf("slot %d of %d owns %d records and is at %d; the record at %d owns %d", slot, p.slots(), owned, p.get(p.slot(slot)), rec, count)
			}
			slot, owned = slot+1, 0
		}
		if rec == compact.supremum {
			break
		}
		n++
		if err := see(rec); err != nil {
			return err
		}
	}
	if slot != p.slots() || n != p.get(pageRecords) {
		return fmt.Errorf("%d of %d slots, %d of %d records", slot, p.slots(), n, p.get(pageRecords))
	}
	for rec := p.get(pageFree); rec != 0; rec = p.next(rec) {
		if err := see(rec); err != nil {
			return err
		}
	}
	for no := firstUser; no < len(heap); no++ {
		if heap[no] == 0 {
			return fmt.Errorf("no record has the heap number %d", no)
		}
		if no > firstUser && heap[no] <= heap[no-1] {
			return fmt.Errorf("heap numbers are not in the order of addresses at %d", no)
		}
	}
	return nil
}
