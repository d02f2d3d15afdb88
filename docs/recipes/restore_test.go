package recipes

import (
	"testing"

	"hb/source/mysqld/mysqldtest"
)

func init() { register("restore.md", testRestore, mysqldtest.MariaDB1011, mysqldtest.MySQL97) }

func testRestore(t *testing.T, r *recipe, root *mysqldtest.Root) {
	db := newHost(t, "db", root)
	server := db.serve(mysqldtest.Options{Binlog: true})
	fill(t, server)
	want := checksums(t, server)
	sh := db.shell()
	r.run(sh, "Restore a server")
	server.Exec(t, "DELETE FROM shop.orders WHERE id % 2 = 0", "DROP TABLE shop.old_orders")
	r.run(sh, "Extract")
	r.run(sh, "Replace the old directory")
	hasTables(t, db.db(), want)
	r.runAll(sh)
}
