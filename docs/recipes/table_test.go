package recipes

import (
	"os"
	"testing"

	"hb/source/mysqld/mysqldtest"
)

func init() {
	register("table.md", testTable, mysqldtest.MariaDB1011, mysqldtest.MariaDB118, mysqldtest.MySQL57, mysqldtest.MySQL97)
}

func testTable(t *testing.T, r *recipe, root *mysqldtest.Root) {
	db, other := newHost(t, "db", root), newHost(t, "other", root)
	server := db.serve(mysqldtest.Options{Binlog: true})
	fill(t, server)
	server.Exec(t, "CREATE TABLE shop.items (id INT PRIMARY KEY, v VARCHAR(100), KEY (v)) ENGINE=InnoDB", "INSERT INTO shop.items SELECT id, LEFT(note, 100) FROM shop.orders",
		"CREATE VIEW shop.cheap AS SELECT id FROM shop.items WHERE id < 10")
	want := checksums(t, server)
	sh := db.shell()
	r.run(sh, "One table back")
	server.Exec(t, "DROP TABLE shop.orders")
	r.run(sh, "A table that was dropped")
	hasTables(t, server, want)
	server.Exec(t, "INSERT INTO shop.orders (id, note) VALUES (1000000, 'new')")
	after := checksums(t, server)
	server.Exec(t, "DELETE FROM shop.orders WHERE id % 3 = 0")
	r.run(sh, "Beside today's table")
	hasTables(t, server, after)
	server.Exec(t, "UPDATE shop.orders SET note = 'by mistake'")
	r.run(sh, "In the place of today's table")
	hasTables(t, server, want)
	server.Exec(t, "DROP TABLE shop.orders")
	r.run(sh, "With the server's client")
	hasTables(t, server, want)
	there := other.serve(mysqldtest.Options{})
	archive, err := os.ReadFile(db.path("/var/backups/backup.hb"))
	if err != nil {
		t.Fatal(err)
	}
	other.write("/var/backups/backup.hb", string(archive))
	remote := other.shell()
	r.run(remote, "A whole database, on another server")
	for _, name := range []string{"orders", "old_orders", "items"} {
		name = "`shop`.`" + name + "`"
		if got := checksums(t, there)[name]; got != want[name] || got == "" {
			t.Errorf("%s: %s has checksum %q, not %q", root.Name, name, got, want[name])
		}
	}
	if n := there.Value(t, "SELECT COUNT(*) FROM shop.cheap"); n != "9" && n != server.Value(t, "SELECT COUNT(*) FROM shop.cheap") {
		t.Errorf("%s: the view shows %s rows", root.Name, n)
	}
	r.run(sh, "Clean up")
}
