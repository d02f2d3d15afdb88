package recipes

import (
	"fmt"
	"strings"
	"testing"

	"hb/source/mysqld/mysqldtest"
)

func init() { register("ssh.md", testSSH, mysqldtest.MariaDB1011, mysqldtest.MySQL97) }

func testSSH(t *testing.T, r *recipe, root *mysqldtest.Root) {
	mysqldtest.Program(t, "zstd")
	db, spare := newHost(t, "db", root), newHost(t, "spare", root)
	server := db.serve(mysqldtest.Options{Binlog: true})
	fill(t, server)
	want := checksums(t, server)
	spare.sshd(db)
	db.sshd(spare)
	sh, keeper := db.shell(), spare.shell()

	r.run(sh, "To another machine over ssh")
	r.run(sh, "In one pass")
	sameTables(t, server, spare.db())
	r.run(sh, "In two steps, compressed")
	restored(t, spare, "/srv/copy", want)
	r.run(keeper, "Fetched by the other machine")
	keeper.must("hb extract --apply -C /srv/fetched db.hb")
	restored(t, spare, "/srv/fetched", want)
	if root.MariaDB() {
		testSSHFails(t, db, spare, sh)
	}
}

// testSSHFails: what the table of the recipe says.
func testSSHFails(t *testing.T, db, spare *host, sh *shell) {
	t.Helper()
	sh.must(`ssh spare "mkdir /srv/full && mount -t tmpfs -o size=4M none /srv/full"`)
	for _, test := range []struct {
		dir                   string
		backup, ssh, pipeline int
		happens               func() error
	}{
		{"/srv/full/copy", 9, 1, 1, nil},
		{"/srv/killed", 9, 255, 255, func() error { return spare.killed("hb\x00extract\x00-C\x00/srv/killed") }},
		{"/srv/cut", 9, 255, 255, func() error { return spare.killed("sshd: root@notty") }},
		{"/srv/died", 5, 6, 6, db.kill},
	} {
		wait := sh.start(fmt.Sprintf(`HB_THROTTLE=2MiB hb backup | ssh spare "hb extract -C %s" || { echo "codes ${PIPESTATUS[*]}"; exit %[2]d; }`,
			test.dir, test.pipeline))
		if test.happens != nil {
			spare.awaitFiles(test.dir)
			if err := test.happens(); err != nil {
				t.Fatal(err)
			}
		}
		code, printed := wait()
		if want := fmt.Sprintf("codes %d %d\n", test.backup, test.ssh); code != test.pipeline || !strings.HasSuffix(printed, want) {
			t.Errorf("%s: exit code %d, %s; want %d, %s", test.dir, code, printed, test.pipeline, want)
		}
		sh.fails(8, "", "ssh spare hb apply "+test.dir)
	}
}
