package workload

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"
)

// Tables of AUTO_INCREMENT counters whose highest rows are deleted: the counter
// is above what the rows show, and counter_marks knows it.
var (
	counterTables = []string{quote(miscDB, "counter_redundant"), quote(miscDB, "counter_dynamic"), quote(miscDB, "counter_zip")}
	counterMarks  = quote(miscDB, "counter_marks")
)

func (d *dialect) counterSchema(writers int) []string {
	zip := "ROW_FORMAT=COMPRESSED"
	if d.pageSize > 16384 {
		zip = ""
	}
	var q []string
	for i, clause := range []string{"ROW_FORMAT=REDUNDANT", "ROW_FORMAT=DYNAMIC", zip} {
		q = append(q, "CREATE TABLE "+counterTables[i]+" (id BIGINT NOT NULL AUTO_INCREMENT PRIMARY KEY, writer INT NOT NULL) ENGINE=InnoDB "+clause)
	}
	return append(q, "CREATE TABLE "+counterMarks+" (tab INT NOT NULL, writer INT NOT NULL, highest BIGINT NOT NULL, PRIMARY KEY (tab, writer)) ENGINE=InnoDB",
		fmt.Sprintf("INSERT INTO %s SELECT a.n - 1, b.n, 0 FROM %s a, %s b WHERE a.n <= %d AND b.n <= %d",
			counterMarks, quote(miscDB, "numbers"), quote(miscDB, "numbers"), len(counterTables), writers))
}

// count draws numbers, deletes the rows that have them, and notes the highest.
func (w *writer) count() error {
	i := w.rnd.IntN(len(counterTables))
	t := counterTables[i]
	return w.transaction(func() (bool, error) {
		for range 1 + w.rnd.IntN(3) {
			if err := w.exec("INSERT INTO "+t+" (writer) VALUES (?)", w.no); err != nil {
				return false, err
			}
		}
		return true, w.execAll(
			fmt.Sprintf("UPDATE %s SET highest = LAST_INSERT_ID() WHERE tab = %d AND writer = %d", counterMarks, i, w.no),
			fmt.Sprintf("DELETE FROM %s WHERE writer = %d", t, w.no))
	})
}

// counters demands that no number is given out again that was given out before
// and deleted, where the server keeps its counters.
func (c *checker) counters() error {
	if !c.d.persistent {
		return nil
	}
	for i, t := range counterTables {
		_, table, _ := strings.Cut(t, ".")
		if err := c.none("AUTO_INCREMENT of "+t+" and the highest number that was given out", fmt.Sprintf(
			"SELECT t.auto_increment, m.n FROM information_schema.tables t, (SELECT MAX(highest) n FROM %s WHERE tab = %d) m"+
				" WHERE t.table_schema = ? AND t.table_name = ? AND m.n > 0 AND COALESCE(t.auto_increment, 0) <= m.n", counterMarks, i),
			miscDB, strings.Trim(table, "`")); err != nil {
			return err
		}
	}
	return nil
}

// XA transactions insert a row into both of these tables; xa_marks says how far
// each writer's last one has come.
var (
	xaTables = []string{quote(miscDB, "xa_one"), quote(miscDB, "xa_two")}
	xaMarks  = quote(miscDB, "xa_marks")
)

// Stages of an XA transaction, noted by another session: the one before it is
// prepared, after that, before it is ended, and after that.
const (
	xaBegun    = "begun"
	xaPrepared = "prepared"
	xaEnding   = "ending"
	xaEnded    = "ended"
)

func (d *dialect) xaSchema(writers int) []string {
	cols := " (writer INT NOT NULL, n BIGINT NOT NULL, pad VARCHAR(1000) CHARACTER SET latin1 NOT NULL, PRIMARY KEY (writer, n), KEY pad (pad(20))) ENGINE=InnoDB "
	return []string{
		"CREATE TABLE " + xaTables[0] + cols + "ROW_FORMAT=COMPACT", "CREATE TABLE " + xaTables[1] + cols + "ROW_FORMAT=DYNAMIC",
		"CREATE TABLE " + xaMarks + " (writer INT NOT NULL PRIMARY KEY, n BIGINT NOT NULL, stage VARCHAR(20) NOT NULL) ENGINE=InnoDB",
		fmt.Sprintf("INSERT INTO %s SELECT n, 0, '%s' FROM %s WHERE n <= %d", xaMarks, xaEnded, quote(miscDB, "numbers"), writers),
	}
}

// xid is the name of a writer's nth XA transaction.
func xid(writer int, n int64) string { return fmt.Sprintf("hb-%d-%d", writer, n) }

// xaCommits reports whether the nth XA transaction is committed: the others are
// rolled back.
func xaCommits(n int64) bool { return n%3 != 0 }

// xa runs one XA transaction that stays prepared for a moment.
func (w *writer) xa() error {
	n := w.xaSeq + 1
	id := "'" + xid(w.no, n) + "'"
	end := "XA COMMIT "
	if !xaCommits(n) {
		end = "XA ROLLBACK "
	}
	pad := strings.Repeat("x", w.rnd.IntN(900))
	insert := func(t string) string { return fmt.Sprintf("INSERT INTO %s VALUES (%d, %d, '%s')", t, w.no, n, pad) }
	if err := errors.Join(w.xaMark(n, xaBegun),
		w.execAll("XA START "+id, insert(xaTables[0]), insert(xaTables[1]), "XA END "+id, "XA PREPARE "+id),
		w.xaMark(n, xaPrepared)); err != nil {
		return err
	}
	time.Sleep(time.Duration(w.rnd.IntN(60)) * time.Millisecond)
	if err := errors.Join(w.xaMark(n, xaEnding), w.exec(end+id), w.xaMark(n, xaEnded)); err != nil {
		return err
	}
	w.xaSeq = n
	return nil
}

// xaMark notes a stage; the session of an XA transaction cannot.
func (w *writer) xaMark(n int64, stage string) error {
	ctx, cancel := context.WithTimeout(context.Background(), statementTimeout)
	defer cancel()
	q := "UPDATE " + xaMarks + " SET n = ?, stage = ? WHERE writer = ?"
	start := time.Now()
	_, err := w.l.db.ExecContext(ctx, q, n, stage, w.no)
	w.note(q, start)
	if err != nil {
		return fmt.Errorf("%s: %w", q, err)
	}
	return nil
}

// prepared returns the names of the XA transactions that are prepared.
func prepared(ctx context.Context, db querier) ([]string, error) {
	c := &checker{ctx: ctx, db: db}
	var names []string
	err := c.rows(func(v []string) { names = append(names, v[3]) }, "XA RECOVER")
	return names, err
}

// xaTransactions demands that XA transactions are whole or not there, and
// prepared exactly where the marks say so.
func (c *checker) xaTransactions() error {
	if !c.d.xa {
		return nil
	}
	names, err := prepared(c.ctx, c.db)
	if err != nil {
		return err
	}
	err = c.rows(func(v []string) {
		var writer int
		var n int64
		if _, err := fmt.Sscan(v[0]+" "+v[1], &writer, &n); err != nil {
			c.fault("marks of XA transactions: %v", v)
			return
		}
		there := v[3] != ""
		is := slices.Contains(names, xid(writer, n))
		names = slices.DeleteFunc(names, func(name string) bool { return name == xid(writer, n) })
		ok := false
		switch v[2] {
		case xaBegun:
			ok = !there
		case xaPrepared:
			ok = !there && is
		case xaEnding:
			ok = there == (!is && xaCommits(n))
		case xaEnded:
			ok = !is && there == (n > 0 && xaCommits(n))
		}
		if !ok {
			c.fault("XA transaction %s is %q, prepared: %v, its rows are there: %v", xid(writer, n), v[2], is, there)
		}
	}, "SELECT m.writer, m.n, m.stage, x.n FROM "+xaMarks+" m LEFT JOIN "+xaTables[0]+" x ON x.writer = m.writer AND x.n = m.n")
	if err != nil {
		return err
	}
	for _, name := range names {
		if strings.HasPrefix(name, "hb-") {
			c.fault("XA transaction %s is prepared, though a later one was begun", name)
		}
	}
	return errors.Join(
		c.none("rows of XA transactions (writer, n)", fmt.Sprintf("SELECT writer, n FROM (SELECT writer, n, pad FROM %s UNION ALL SELECT writer, n, pad FROM %s) x GROUP BY writer, n, pad HAVING COUNT(*) <> 2 OR n %% 3 = 0",
			xaTables[0], xaTables[1])),
		c.none("lost XA transactions (writer, begun, rows)", fmt.Sprintf("SELECT m.writer, m.n, COUNT(x.n) r FROM %s m LEFT JOIN %s x ON x.writer = m.writer AND x.n < m.n WHERE m.n > 0"+
			" GROUP BY m.writer, m.n HAVING r <> (m.n - 1) - (m.n - 1) DIV 3", xaMarks, xaTables[0])))
}
