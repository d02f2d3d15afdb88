package mysql

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"testing"

	"hb/source/mysqld/mysqldtest"
	"hb/source/mysqld/mysqldtest/census"
	"hb/xbstream/innodb"
	"hb/xbstream/innodb/mysqlredo/mlog"
	"hb/xbstream/innodb/redolog"
)

// instantColumns are the columns of a table in the order of the fields in its rows,
// with the phases of the test in which the table has them: those of CREATE TABLE,
// after the key DB_TRX_ID and DB_ROLL_PTR, and each later one after them all,
// wherever SQL has it; those that come at once in the order that SQL has them in.
var instantColumns = []struct {
	name     string
	from, to int                   // phases: [from, to)
	missing  string                // what SQL has where the row has none
	stored   func(v string) []byte // how a row has a value
}{
	{"id", 0, 9, "", storedInt[uint32]}, {"", 0, 9, "", nil}, {"", 0, 9, "", nil},
	{"v", 0, 9, "", storedText}, {"n", 0, 3, "", storedInt[uint64]}, {"w", 0, 9, "", storedText},
	{"a", 1, 5, "7", storedInt[uint32]}, {"b", 2, 9, "two", storedText}, {"d", 4, 9, "", storedText}, {"c", 4, 9, "abcde", storedText},
	// With these the NULL bits take two bytes.
	{"e1", 4, 9, "", storedInt[uint32]}, {"e2", 4, 9, "", storedInt[uint32]}, {"e3", 4, 9, "", storedInt[uint32]},
	{"e4", 4, 9, "", storedInt[uint32]}, {"e5", 4, 9, "", storedInt[uint32]}, {"e6", 4, 9, "", storedInt[uint32]},
}

// instantDDL begins each phase but the first.
var instantDDL = []string{
	"ADD COLUMN a INT NOT NULL DEFAULT 7 FIRST", "ADD COLUMN b VARCHAR(30) DEFAULT 'two' AFTER v", "DROP COLUMN n",
	"ADD COLUMN c CHAR(5) NOT NULL DEFAULT 'abcde', ADD COLUMN d VARCHAR(9) FIRST, " +
		"ADD COLUMN e1 INT, ADD COLUMN e2 INT, ADD COLUMN e3 INT, ADD COLUMN e4 INT, ADD COLUMN e5 INT, ADD COLUMN e6 INT", "DROP COLUMN a",
}

func storedText(v string) []byte { return []byte(v) }

// storedInt is a signed integer, whose highest bit is turned over.
func storedInt[T uint32 | uint64](v string) []byte {
	n, _ := strconv.ParseInt(v, 10, 64)
	b := make([]byte, binary.Size(T(0)))
	for i := range b {
		b[i] = byte(n >> (8 * (len(b) - 1 - i)))
	}
	b[0] ^= 0x80
	return b
}

// instantValue is the value of a column in a row; "NULL" is NULL.
func instantValue(column string, id int) string {
	switch {
	case column == "id":
		return strconv.Itoa(id)
	case column == "n" && id%5 != 0, column == "a":
		return strconv.Itoa(id * 1000)
	case column[0] == 'e' && (id+int(column[1]))%3 != 0:
		return strconv.Itoa(-id)
	case column[0] == 'e':
		return "NULL"
	case column == "w":
		return strings.Repeat("w", id*13%600)
	case column == "c":
		return fmt.Sprintf("%05d", id)
	case column == "v" && id%2 == 0, column == "b" && id%3 == 0, column == "d" && id%4 != 0, column == "n":
		return "NULL"
	}
	return strings.Repeat(column, id%9)
}

const instantRows = 40 // of each phase

// TestInstantServer: of tables that columns were added to and dropped from at once,
// each row on the pages of a server has the fields that the table had when the row
// was written, with the values that the server answers to SQL, and the rows fill
// the place that the page says they take.
func TestInstantServer(t *testing.T) {
	s := mysqldtest.Start(t, mysqldtest.Need(t, mysqldtest.MySQL97), mysqldtest.Options{})
	s.Exec(t, "CREATE DATABASE d")
	formats := []string{"DYNAMIC", "COMPACT", "REDUNDANT"}
	for _, format := range formats {
		table := "d." + format
		s.Exec(t, "CREATE TABLE "+table+" (id INT NOT NULL PRIMARY KEY, v VARCHAR(40), n BIGINT, w VARCHAR(600) NOT NULL) ENGINE=InnoDB CHARACTER SET latin1 ROW_FORMAT="+format)
		for phase := range len(instantDDL) + 1 {
			if phase > 0 {
				s.Exec(t, "ALTER TABLE "+table+" "+instantDDL[phase-1]+", ALGORITHM=INSTANT")
			}
			for i := range instantRows {
				s.Exec(t, instantInsert(table, phase, phase*instantRows+i))
			}
		}
	}
	s.WriteOut(t)
	s.Exec(t, "SET GLOBAL innodb_max_dirty_pages_pct = 90")
	answers := map[string]map[int]map[string]string{}
	for _, format := range formats { // the log must tell of the index
		s.Exec(t, instantInsert("d."+format, len(instantDDL), 99_999), "FLUSH ENGINE LOGS")
		answers[format] = instantAnswers(t, s, "d."+format)
	}
	if err := s.Kill(); err != nil {
		t.Fatal(err)
	}
	for _, format := range formats {
		t.Run(format, func(t *testing.T) { checkInstant(t, s.Datadir, format, answers[format]) })
	}
}

func instantInsert(table string, phase, id int) string {
	var names, values []string
	for _, c := range instantColumns {
		if c.name == "" || phase < c.from || phase >= c.to {
			continue
		}
		v := instantValue(c.name, id)
		if v != "NULL" {
			v = "'" + v + "'"
		}
		names, values = append(names, c.name), append(values, v)
	}
	return fmt.Sprintf("INSERT INTO %s (%s) VALUES (%s)", table, strings.Join(names, ", "), strings.Join(values, ", "))
}

// instantAnswers are the rows of a table as the server has them, by key and column.
func instantAnswers(t *testing.T, s *mysqldtest.Server, table string) map[int]map[string]string {
	t.Helper()
	var names, list []string
	for _, c := range instantColumns {
		if c.name != "" && c.to > len(instantDDL) {
			names, list = append(names, c.name), append(list, "IFNULL("+c.name+", 'NULL')")
		}
	}
	rows := map[int]map[string]string{}
	for _, r := range s.Rows(t, "SELECT "+strings.Join(list, ", ")+" FROM "+table) {
		row := map[string]string{}
		for i, v := range r {
			row[names[i]] = v
		}
		id, err := strconv.Atoi(row["id"])
		if err != nil {
			t.Fatal(err)
		}
		rows[id] = row
	}
	return rows
}

// checkInstant compares the rows of a table's pages with a server's answers.
func checkInstant(t *testing.T, data, table string, answers map[int]map[string]string) {
	files, err := census.ReadFiles(data)
	if err != nil {
		t.Fatal(err)
	}
	spaces := slices.Collect(maps.Values(files.Spaces))
	i := slices.IndexFunc(spaces, func(f *census.File) bool { return f.Name == "d/"+table+".ibd" })
	if i < 0 {
		t.Fatal("the table has no file")
	}
	f := spaces[i]
	const root, indexID = 4, 66 // after the root of the table's definition
	x := lastIndex(t, data, f.Space.ID)
	leaves, nodes := 0, 0
	for no := range f.Pages() {
		page := f.Page(no)
		if innodb.HeaderType(page) != innodb.TypeIndex || !bytes.Equal(page[indexID:indexID+8], f.Page(root)[indexID:indexID+8]) {
			continue
		}
		if get16(page, pageLevel) > 0 {
			nodes += instantPage(t, page, x, func(rec int, r *record) {
				child := innodb.PageNo(binary.BigEndian.Uint32(page[rec+r.data-childSize:]))
				if len(r.fields) != 2 && x.Compact || f.Page(child) == nil || innodb.HeaderType(f.Page(child)) != innodb.TypeIndex {
					t.Errorf("page %d: the node pointer at %d has %s and leads to page %d", no, rec, show(r), child)
				}
			})
			continue
		}
		leaves += instantPage(t, page, x, func(rec int, r *record) {
			id := int(binary.BigEndian.Uint32(page[rec:]) ^ 1<<31)
			if answers[id] == nil {
				t.Errorf("page %d: the server has no row %d", no, id)
				return
			}
			checkInstantRow(t, page, rec, r, answers[id])
			delete(answers, id)
		})
	}
	delete(answers, 99_999) // its page need not be written
	if leaves < (len(instantDDL)+1)*instantRows || nodes < 2 || len(answers) > 0 {
		t.Errorf("%d rows and %d node pointers were found, and not the rows %v", leaves, nodes, slices.Sorted(maps.Keys(answers)))
	}
}

// lastIndex is the index that the last insert of the log into a tablespace tells.
func lastIndex(t *testing.T, data string, id innodb.SpaceID) *mlog.Index {
	t.Helper()
	log, err := census.ReadLog(data, nil)
	if err != nil {
		t.Fatal(err)
	}
	var x mlog.Index
	err = log.Each(func(m *redolog.MTR) error {
		records(t, [][]byte{m.Records}, func(r mlog.Record, _ []byte) {
			if r.Type == mlog.Insert && r.Page.Space == id {
				if _, err := x.Parse(r.Type, r.Body); err != nil {
					t.Fatal(err)
				}
			}
		})
		return nil
	})
	if err != nil || len(x.Fields) != len(instantColumns) {
		t.Fatalf("the log tells of %d fields: %v", len(x.Fields), err)
	}
	return &x
}

// instantPage calls f for each row of a page and returns how many there are. They
// must fill their part of the page.
func instantPage(t *testing.T, page []byte, x *mlog.Index, f func(rec int, r *record)) (n int) {
	t.Helper()
	infimum, supremum := pageData+5, pageData+18
	if !x.Compact {
		infimum, supremum = pageData+7, pageData+22
	}
	end := supremum + 8 // its text; with REDUNDANT a zero after it
	if !x.Compact {
		end++
	}
	next := func(rec int) int {
		to := get16(page, rec-2)
		if x.Compact {
			to = int(uint16(rec + to))
		}
		return to
	}
	var r record
	for rec := next(infimum); rec != supremum && !t.Failed(); rec = next(rec) {
		if err := r.parse(page, rec, x); err != nil {
			t.Fatalf("the row at %d: %v", rec, err)
		}
		f(rec, &r)
		end += r.size()
		n++
	}
	if top := get16(page, pageHeapTop); get16(page, pageGarbage) == 0 && end != top {
		t.Errorf("page %d: the rows end at %d, by their lengths at %d", innodb.HeaderPageNo(page), top, end)
	} else if top < end {
		t.Errorf("page %d: the rows take %d bytes of %d", innodb.HeaderPageNo(page), end, top)
	}
	return n
}

// checkInstantRow compares a row with what the server answers.
func checkInstantRow(t *testing.T, page []byte, rec int, r *record, answer map[string]string) {
	t.Helper()
	id, _ := strconv.Atoi(answer["id"])
	phase := min(id/instantRows, len(instantDDL))
	for i, c := range instantColumns {
		if c.name == "" {
			continue
		}
		want, kept := answer[c.name]
		from, to := r.bounds(i)
		field := r.fields[i]
		if phase < c.from || phase >= c.to {
			missing := c.missing
			if missing == "" {
				missing = "NULL"
			}
			if !field.is(fieldAbsent) || kept && want != missing {
				t.Errorf("row %d, written before %s came or after it went: %s, the server has %q", id, c.name, show(r), want)
			}
			continue
		}
		if !kept {
			want = instantValue(c.name, id)
		}
		switch got := page[rec+from : rec+to]; {
		case field.is(fieldAbsent), field.is(fieldNull) != (want == "NULL"):
			t.Errorf("row %d: %s, the server has %q for %s", id, show(r), want, c.name)
		case want != "NULL" && !bytes.Equal(got, c.stored(want)):
			t.Errorf("row %d: %q for %s, the server has %q", id, got, c.name, want)
		}
	}
}
