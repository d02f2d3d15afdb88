package recipes

import (
	"testing"

	"hb/source/mysqld/mysqldtest"
)

func init() { register("ssh.md", testSSH, mysqldtest.MariaDB1011) }

func testSSH(t *testing.T, r *recipe, root *mysqldtest.Root) {
	db, spare := newHost(t, "db", root), newHost(t, "spare", root)
	original := db.serve(mysqldtest.Options{Binlog: true})
	fill(t, original)
	spare.sshd(db)
	sh := db.shell()
	r.runAll(sh)
	sameTables(t, original, spare.resume())
}
