package workload

import (
	"strings"
	"testing"
	"time"

	"hb/source/mysqld/mysqldtest"
)

// TestCheckFinds breaks one thing after the other and demands that Check says so.
func TestCheckFinds(t *testing.T) {
	root := mysqldtest.Need(t, mysqldtest.MariaDB1011)
	s := mysqldtest.Start(t, root, mysqldtest.Options{})
	l, err := Prepare(t.Context(), s.DB(), Options{DDLRate: 40})
	if err != nil {
		t.Fatal(err)
	}
	run(t, l, 3*time.Second)
	if err := Check(t.Context(), s.DB()); err != nil {
		t.Fatal(err)
	}
	breaks := []struct{ sql, says string }{
		{"DROP DATABASE hb_empty", "database hb_empty"},
		{"DROP TRIGGER hb_docs.tr_0_INSERT", "triggers"},
		{"DROP VIEW hb_bank.totals; CREATE VIEW hb_bank.totals AS SELECT 0 AS tab, 200 AS n, 200000 AS total", ""},
		{"UPDATE hb_bank.acct_zip8 SET balance = balance + 1 WHERE id = 7", "account (table, id, balance, by journal): 4, 7"},
		{"UPDATE hb_docs.audit SET bytes = bytes + 1 WHERE tab = 1 AND writer = 2", "audit of `hb_docs`.`docs_redundant`"},
		{"UPDATE hb_docs.docs_dynamic SET h = h + 1 LIMIT 1", "body of a document in `hb_docs`.`docs_dynamic`"},
		{"DELETE FROM hb_docs.tags LIMIT 1", "document without its two tags"},
		{"UPDATE hb_misc.parts_range SET v = v + 1 WHERE id = 3", "of `hb_misc`.`parts_range`"},
		{"DELETE FROM hb_misc.log_myisam WHERE n = 2 AND writer = 1", "rows of `hb_misc`.`log_myisam`"},
		{"DELETE FROM hb_misc.log_aria WHERE n > 2 AND writer = 2", "rows of `hb_misc`.`log_aria`"},
		{"DELETE FROM hb_misc.merge_two WHERE writer = 1 AND n = 1", "rows of `hb_misc`.`merge_two`"},
		{"UPDATE hb_misc.log_csv SET payload = 'x' WHERE n = 1", "payload of `hb_misc`.`log_csv`"},
		{"DELETE FROM hb_misc.bulk LIMIT 1", "part of a big transaction"},
		{"UPDATE hb_misc.geo SET x = x + 5000 LIMIT 1", "point (id)"},
		{"CREATE TABLE hb_ddl1.stray (id INT PRIMARY KEY, v INT, pad INT, h INT)", "tables of the DDL connection"},
	}
	for _, b := range breaks {
		for q := range strings.SplitSeq(b.sql, "; ") {
			s.Exec(t, q)
		}
	}
	err = Check(t.Context(), s.DB())
	if err == nil {
		t.Fatal("Check finds nothing")
	}
	for _, b := range breaks {
		if !strings.Contains(err.Error(), b.says) {
			t.Errorf("after %s: Check does not say %q:\n%v", b.sql, b.says, err)
		}
	}
}

// TestIndexesAreRead demands that the statements that compare an index with its
// table do read the index.
func TestIndexesAreRead(t *testing.T) {
	root := mysqldtest.Need(t, mysqldtest.MariaDB1011)
	s := mysqldtest.Start(t, root, mysqldtest.Options{})
	l, err := Prepare(t.Context(), s.DB(), Options{})
	if err != nil {
		t.Fatal(err)
	}
	run(t, l, 3*time.Second)
	d, err := readDialect(t.Context(), s.DB())
	if err != nil {
		t.Fatal(err)
	}
	c := &checker{ctx: t.Context(), db: s.DB(), d: d}
	list, err := c.indexQueries()
	if err != nil {
		t.Fatal(err)
	}
	if len(list) < 30 {
		t.Errorf("%d indexes, want more", len(list))
	}
	for _, i := range list {
		if got := s.Rows(t, "EXPLAIN "+i.byIndex)[0][5]; got != i.key {
			t.Errorf("index %s of %s: the server would read %q for %s", i.key, i.table, got, i.byIndex)
		}
		if got := s.Rows(t, "EXPLAIN "+i.byTable)[0][5]; got == i.key {
			t.Errorf("index %s of %s: the server would read it for %s", i.key, i.table, i.byTable)
		}
	}
}
