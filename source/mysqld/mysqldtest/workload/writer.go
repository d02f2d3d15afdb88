package workload

import (
	"context"
	"fmt"
	"hash/crc32"
	"strings"
	"time"
)

// writer is the state of one of the connections that write rows.
type writer struct {
	*session
	no       int // its number in the tables: 1 ... Writers
	seq      int64
	mark     int64
	xaSeq    int64
	accounts []account
	docs     []account
	logs     []logTable
}

// write is the life of one writer.
func (l *Load) write(ctx context.Context, s *session) error {
	w := &writer{session: s, no: s.id + 1, accounts: l.d.accounts(), docs: l.d.docTables(), logs: l.d.logTables()}
	for q, to := range map[string]*int64{
		"SELECT COALESCE(MAX(seq), 0) FROM " + quote(bankDB, "journal") + " WHERE writer = ?": &w.seq,
		"SELECT n FROM " + quote(miscDB, "marks") + " WHERE writer = ?":                       &w.mark,
		"SELECT n FROM " + xaMarks + " WHERE writer = ?":                                      &w.xaSeq,
	} {
		v, err := s.ints(q, w.no)
		if err != nil {
			return err
		}
		if len(v) != 1 {
			return fmt.Errorf("%s: %d rows, want 1", q, len(v))
		}
		*to = v[0]
	}
	for start := time.Now(); pace(ctx, start, l.o.Rate); {
		start = time.Now()
		if err := w.step(); err != nil {
			return err
		}
	}
	return nil
}

// step does one piece of work, chosen at random.
func (w *writer) step() error {
	switch n := w.rnd.IntN(100); {
	case n < 40:
		return w.transfer()
	case n < 43:
		return w.count()
	case n < 45 && w.l.d.xa:
		return w.xa()
	case n < 45:
		return w.transfer()
	case n < 50:
		return w.transferByProcedure()
	case n < 65:
		return w.document()
	case n < 77:
		return w.moveRows()
	case n < 87:
		return w.log()
	case n < 94:
		return w.point()
	case n < 97:
		return w.bulk()
	default:
		return w.extras()
	}
}

// text returns n letters.
func (w *writer) text(n int) string {
	const letters = "abcdefghijklmnopqrstuvwxyz      "
	b := make([]byte, n)
	for i := range b {
		b[i] = letters[w.rnd.IntN(len(letters))]
	}
	return string(b)
}

// size returns a size up to most, mostly small.
func (w *writer) size(most int) int {
	f := w.rnd.Float64()
	return int(f * f * f * float64(most))
}

// transfer moves an amount between two accounts of any two tables, and journals it.
func (w *writer) transfer() error {
	ft, tt := w.rnd.IntN(len(w.accounts)), w.rnd.IntN(len(w.accounts))
	fid, tid := w.rnd.IntN(w.l.o.Accounts)+1, w.rnd.IntN(w.l.o.Accounts)+1
	amount := int64(w.rnd.IntN(100))
	seq := w.seq + 1
	commit := w.rnd.IntN(100) >= 12
	err := w.transaction(func() (bool, error) {
		from := func() error {
			return w.exec("UPDATE "+w.accounts[ft].name+" SET balance = balance - ?, note = ?, code = ? WHERE id = ?",
				amount, w.text(w.rnd.IntN(200)), fmt.Sprintf("c%d-%d-%d", fid, w.no, seq), fid)
		}
		to := func() error {
			return w.exec("UPDATE "+w.accounts[tt].name+" SET balance = balance + ?, extra = ? WHERE id = ?",
				amount, w.text(w.size(20000)), tid)
		}
		first, second := from, to
		if tt < ft || tt == ft && tid < fid { // one order for all: few deadlocks
			first, second = to, from
		}
		if err := first(); err != nil {
			return false, err
		}
		if w.rnd.IntN(5) == 0 {
			if err := w.undone(ft, fid); err != nil {
				return false, err
			}
		}
		if err := second(); err != nil {
			return false, err
		}
		err := w.exec("INSERT INTO "+quote(bankDB, "journal")+" (writer, seq, ftab, fid, ttab, tid, amount) VALUES (?,?,?,?,?,?,?)",
			w.no, seq, ft, fid, tt, tid, amount)
		return commit, err
	})
	w.seq = seq // a number that was rolled back is not used again
	return err
}

// undone changes rows and takes it back to a savepoint.
func (w *writer) undone(t, id int) error {
	return w.execAll("SAVEPOINT a",
		fmt.Sprintf("UPDATE %s SET balance = 0, extra = NULL WHERE id = %d", w.accounts[t].name, id),
		fmt.Sprintf("INSERT INTO %s (id, code, balance) VALUES (%d, 'never %d', 1)", w.accounts[t].name, 1000000+w.no, w.no),
		"ROLLBACK TO SAVEPOINT a")
}

func (w *writer) transferByProcedure() error {
	w.seq++
	a, b := w.rnd.IntN(w.l.o.Accounts)+1, w.rnd.IntN(w.l.o.Accounts)+1
	return w.transaction(func() (bool, error) {
		err := w.exec("CALL "+quote(bankDB, "move")+"(?,?,?,?,?)", w.no, w.seq, min(a, b), max(a, b), w.rnd.IntN(50))
		return w.rnd.IntN(10) > 0, err
	})
}

// keepDocs is how many documents a writer keeps in each table.
const keepDocs = 25

// document inserts, changes or deletes documents of this writer.
func (w *writer) document() error {
	t := w.rnd.IntN(len(w.docs))
	name := w.docs[t].name
	ids, err := w.ints("SELECT id FROM "+name+" WHERE writer = ? ORDER BY id", w.no)
	if err != nil {
		return err
	}
	return w.transaction(func() (bool, error) {
		commit := w.rnd.IntN(10) > 0
		for range 1 + w.rnd.IntN(2) {
			var err error
			switch n := w.rnd.IntN(10); {
			case len(ids) < 5 || len(ids) < keepDocs && n < 4:
				err = w.insertDoc(t, name)
			case n < 8 && len(ids) < keepDocs:
				body := w.body()
				err = w.exec("UPDATE "+name+" SET title = ?, txt = ?, body = ?, len = ?, h = ? WHERE id = ?",
					w.title(), w.words(), body, len(body), crc32.ChecksumIEEE(body), ids[w.rnd.IntN(len(ids))])
			default:
				err = w.exec("DELETE FROM "+name+" WHERE id = ?", ids[w.rnd.IntN(len(ids))])
			}
			if err != nil {
				return false, err
			}
		}
		return commit, nil
	})
}

func (w *writer) insertDoc(t int, name string) error {
	body := w.body()
	err := w.exec("INSERT INTO "+name+" (writer, title, txt, body, len, h) VALUES (?,?,?,?,?,?)",
		w.no, w.title(), w.words(), body, len(body), crc32.ChecksumIEEE(body))
	if err != nil || t != 0 {
		return err
	}
	tags := quote(docsDB, "tags")
	return w.execAll("SET @doc = LAST_INSERT_ID()", "INSERT INTO "+tags+" VALUES (@doc, 1), (@doc, 2)")
}

func (w *writer) title() string { return "title " + w.text(w.rnd.IntN(50)) }

// ftWords are the words that documents consist of; none is a stop word.
var ftWords = []string{"redopage", "mtrlog", "ibdspace", "undotree", "checkpoint", "flushlist"}

func (w *writer) words() string {
	var b strings.Builder
	for range w.rnd.IntN(40) {
		b.WriteString(ftWords[w.rnd.IntN(len(ftWords))] + " ")
	}
	return b.String()
}

// body returns bytes of which some compress and some do not.
func (w *writer) body() []byte {
	b := make([]byte, w.size(w.l.o.MaxBlob))
	for i := 0; i < len(b)/2; i++ {
		b[i] = byte(w.rnd.Uint32())
	}
	return b
}

// moveRows moves value between rows of a partitioned table and the rows between
// its partitions.
func (w *writer) moveRows() error {
	t := partTables()[w.rnd.IntN(len(partTables()))]
	a, b := w.rnd.IntN(partRows)+1, w.rnd.IntN(partRows)+1
	if a > b {
		a, b = b, a
	}
	amount := w.rnd.IntN(100)
	return w.transaction(func() (bool, error) {
		if err := w.exec("UPDATE "+t+" SET v = v - ?, d = ?, pad = ? WHERE id = ?", amount, w.rnd.IntN(400), w.text(w.rnd.IntN(300)), a); err != nil {
			return false, err
		}
		err := w.exec("UPDATE "+t+" SET v = v + ?, d = ? WHERE id = ?", amount, w.rnd.IntN(400), b)
		return w.rnd.IntN(10) > 0, err
	})
}

// keepLogs is how many rows a writer keeps in each non-transactional table that
// can delete.
const keepLogs = 150

// log adds the next row to every non-transactional table, then says so in marks.
func (w *writer) log() error {
	n := w.mark + 1
	payload := ftWords[n%int64(len(ftWords))] + strings.Repeat(" x", w.rnd.IntN(90))
	payload = strings.TrimRight(payload, " ")
	h := crc32.ChecksumIEEE([]byte(payload))
	for _, l := range w.logs {
		t := quote(miscDB, l.name)
		if err := w.exec("INSERT INTO "+t+" (writer, n, payload, h) VALUES (?,?,?,?)", w.no, n, payload, h); err != nil {
			return err
		}
		if !l.keyed {
			continue
		}
		old := max(1, n-int64(w.rnd.IntN(50)))
		if err := w.exec("UPDATE "+t+" SET payload = ?, h = ? WHERE writer = ? AND n = ?", payload, h, w.no, old); err != nil {
			return err
		}
	}
	for _, l := range w.logs {
		if l.deletes && n%20 == 0 {
			if err := w.exec("DELETE FROM "+quote(miscDB, l.name)+" WHERE writer = ? AND n < ?", w.no, n-keepLogs); err != nil {
				return err
			}
		}
	}
	if w.l.d.engines["MRG_MYISAM"] {
		if err := w.exec("INSERT INTO "+quote(miscDB, "merge_all")+" VALUES (?,?)", w.no, n); err != nil {
			return err
		}
	}
	if err := w.exec("UPDATE "+quote(miscDB, "marks")+" SET n = ? WHERE writer = ?", n, w.no); err != nil {
		return err
	}
	w.mark = n
	return nil
}

// keepPoints is how many points a writer keeps.
const keepPoints = 200

// point inserts, moves or deletes a point of this writer.
func (w *writer) point() error {
	t := quote(miscDB, "geo")
	ids, err := w.ints("SELECT id FROM "+t+" WHERE writer = ?", w.no)
	if err != nil {
		return err
	}
	x, y := w.rnd.IntN(1000), w.rnd.IntN(1000)
	return w.transaction(func() (bool, error) {
		var err error
		switch n := w.rnd.IntN(10); {
		case len(ids) < 20 || len(ids) < keepPoints && n < 6:
			err = w.exec("INSERT INTO "+t+" (writer, x, y, g) VALUES (?,?,?,POINT(?,?)),(?,?,?,POINT(?,?))", w.no, x, y, x, y, w.no, y, x, y, x)
		case n < 8:
			err = w.exec("UPDATE "+t+" SET x = ?, y = ?, g = POINT(?,?) WHERE id = ?", x, y, x, y, ids[w.rnd.IntN(len(ids))])
		default:
			err = w.exec("DELETE FROM "+t+" WHERE id = ?", ids[w.rnd.IntN(len(ids))])
		}
		return w.rnd.IntN(10) > 0 || !w.l.d.spatial, err
	})
}

// bulk replaces this writer's batch by another in one transaction.
func (w *writer) bulk() error {
	n := w.rnd.IntN(numbers) + 1
	t := quote(miscDB, "bulk")
	return w.transaction(func() (bool, error) {
		if err := w.exec("DELETE FROM "+t+" WHERE writer = ?", w.no); err != nil {
			return false, err
		}
		err := w.exec("INSERT INTO "+t+" SELECT ?, ?, n, ?, REPEAT(CHAR(97 + n % 26), n % 500) FROM "+quote(miscDB, "numbers")+" WHERE n <= ?",
			w.no, w.rnd.IntN(1<<20), n, n)
		return w.rnd.IntN(3) > 0, err
	})
}

// extras draws a number from the sequence and works in a temporary table.
func (w *writer) extras() error {
	if w.l.d.sequence {
		err := w.exec("INSERT INTO "+quote(miscDB, "seq_used")+" VALUES (NEXT VALUE FOR "+quote(miscDB, "seq")+", ?)", w.no)
		if err != nil {
			return err
		}
	}
	t := quote(miscDB, "scratch")
	return w.execAll("CREATE TEMPORARY TABLE "+t+" (n INT PRIMARY KEY, s VARCHAR(200)) ENGINE=InnoDB",
		"INSERT INTO "+t+" SELECT n, REPEAT('t', 200) FROM "+quote(miscDB, "numbers"),
		"DELETE FROM "+t+" WHERE n % 3 = 0",
		"DROP TEMPORARY TABLE "+t)
}
