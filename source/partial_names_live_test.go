package source_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"hb/source"
	"hb/source/mysqld/mysqldtest"
	"hb/source/scope"
)

// backupTables makes a partial backup, restores it, and starts a server on it. The server that
// was backed up is stopped before, and its directories elsewhere are removed.
func backupTables(t *testing.T, s *mysqldtest.Server, o scope.Options, elsewhere ...string) *mysqldtest.Server {
	t.Helper()
	archive, target := filepath.Join(t.TempDir(), "archive"), filepath.Join(t.TempDir(), "restored")
	if _, err := backupSome(t, s, archive, source.Options{Scope: o}, nil); err != nil {
		t.Fatal(err)
	}
	if err := s.Stop(); err != nil {
		t.Fatal(err)
	}
	for _, dir := range elsewhere {
		if err := os.RemoveAll(dir); err != nil {
			t.Fatal(err)
		}
	}
	restoreSome(t, s.Root, archive, target)
	return mysqldtest.StartOn(t, s.Root, target, mysqldtest.Options{})
}

// TestPartialVector: the vector index of a table, which MariaDB has in a table of its own,
// goes with the table.
func TestPartialVector(t *testing.T) {
	t.Parallel()
	s := mysqldtest.Start(t, mysqldtest.Need(t, mysqldtest.MariaDB118), mysqldtest.Options{})
	numbers(t, s)
	const near = " ORDER BY VEC_DISTANCE_EUCLIDEAN(v, VEC_FromText('[5,5,5]')) LIMIT 3"
	engines := map[string]string{"vec": "InnoDB", "vec_my": "MyISAM", "left_vec": "InnoDB"}
	for table, engine := range engines {
		s.Exec(t, "CREATE TABLE d."+table+" (id INT PRIMARY KEY, v VECTOR(3) NOT NULL, VECTOR INDEX (v)) ENGINE="+engine,
			"INSERT INTO d."+table+" SELECT s, VEC_FromText(CONCAT('[', s, ',5,5]')) FROM d.seq WHERE s < 300")
	}
	if found, err := filepath.Glob(filepath.Join(s.Datadir, "d", "vec#i#*.ibd")); err != nil || len(found) != 1 {
		t.Fatalf("the vector index is in %q, %v", found, err)
	}
	r := backupTables(t, s, scope.Options{Databases: []string{"d.vec d.vec_my"}})
	for table := range engines {
		if strings.HasPrefix(table, "left") {
			continue
		}
		if got := r.Rows(t, "EXPLAIN SELECT id FROM d."+table+near); got[0][5] != "v" {
			t.Errorf("%s is searched without its index: %q", table, got)
		}
		if got := r.Rows(t, "SELECT id FROM d."+table+near); len(got) != 3 || got[0][0] != "5" {
			t.Errorf("%s: near are %q", table, got)
		}
		r.Exec(t, "INSERT INTO d."+table+" VALUES (1000, VEC_FromText('[1000,5,5]'))", "DELETE FROM d."+table+" WHERE id = 5")
		if got := r.Rows(t, "CHECK TABLE d."+table+" EXTENDED"); got[len(got)-1][3] != "OK" {
			t.Errorf("%v", got)
		}
	}
	gone(t, r, "d.left_vec")
	r.Exec(t, "CREATE TABLE d.left_vec (id INT PRIMARY KEY, v VECTOR(3) NOT NULL, VECTOR INDEX (v)) ENGINE=InnoDB")
}
