package recipes

import (
	"strings"
	"testing"
	"time"

	"hb/source/mysqld/mysqldtest"
)

// TestQuickStart does what README.md shows, as it stands there, on a server with
// tables of two engines: it comes back from the backup with all of them.
func TestQuickStart(t *testing.T) {
	mysqldtest.Each(t, []string{mysqldtest.MariaDB1011, mysqldtest.MySQL97}, func(t *testing.T, root *mysqldtest.Root) {
		r := read(t, "../../README.md")
		db := newHost(t, "db", root)
		s := db.serve(mysqldtest.Options{Binlog: true})
		s.Exec(t, "CREATE DATABASE shop", "CREATE TABLE shop.orders (id INT AUTO_INCREMENT PRIMARY KEY, note TEXT) ENGINE=InnoDB",
			"INSERT INTO shop.orders (note) VALUES (REPEAT('order ', 200))", "INSERT INTO shop.orders (note) SELECT note FROM shop.orders",
			"CREATE TABLE shop.old_orders (id INT PRIMARY KEY) ENGINE=MyISAM", "INSERT INTO shop.old_orders VALUES (7)")
		sh := db.shell()
		sh.must("export HB_RATE_INTERVAL=1") // a reader has more time
		var want map[string]string
		for _, b := range r.take("Quick start") {
			if strings.Contains(b.text, "systemctl stop") {
				want = checksums(t, s)
			}
			began := time.Now()
			printed := sh.must(b.script())
			t.Logf("%v:\n%s%s", time.Since(began).Round(time.Millisecond), b.text, printed)
		}
		if want == nil {
			t.Fatal("nothing was restored")
		}
		hasTables(t, db.db(), want)
		r.complete()
	})
}
