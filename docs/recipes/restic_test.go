package recipes

import (
	"encoding/json"
	"slices"
	"strings"
	"syscall"
	"testing"

	"hb/source/mysqld/mysqldtest"
)

func init() { register("restic.md", testRestic, mysqldtest.MariaDB1011) }

func testRestic(t *testing.T, r *recipe, root *mysqldtest.Root) {
	mysqldtest.Program(t, "restic")
	db := newHost(t, "db", root)
	server := db.serve(mysqldtest.Options{Binlog: true})
	fill(t, server)
	fillRandom(t, server)
	if err := db.stop(); err != nil { // its pages are in the files then, not in the redo log
		t.Fatal(err)
	}
	server = db.resume()
	sh := db.shell()
	r.run(sh, "Repository")
	r.run(sh, "Back up")
	before := stored(t, sh)
	if before < 24<<20 {
		t.Errorf("the repository has %d bytes", before)
	}
	server.Exec(t, "INSERT INTO shop.orders (note) VALUES ('one more')")
	sh.must("hb-restic")
	t.Logf("the repository has %d bytes, and then %d", before, stored(t, sh))
	if added := stored(t, sh) - before; added > 1<<20 {
		t.Errorf("the second backup, of a change of one row, added %d bytes to %d", added, before)
	}

	server.Exec(t, "UPDATE shop.photos SET photo = CONCAT('changed', photo)")
	want := checksums(t, server)
	testResticFails(t, db, sh)
	r.run(sh, "Restore")
	restored(t, db, "/srv/restored", want)
}

// testResticFails: the snapshot of a backup that fails is unfinished, and hb refuses it;
// only pipefail tells. If restic is killed, there is none, and the next run is not kept
// from its work.
func testResticFails(t *testing.T, db *host, sh *shell) {
	t.Helper()
	const env = ". /etc/hb-restic.env; "
	look := db.shell()
	before := stored(t, look)
	wait := sh.start("HB_THROTTLE=4MiB hb-restic")
	await(t, "the first data", func() bool { return stored(t, look) > before })
	if err := db.kill(); err != nil {
		t.Fatal(err)
	}
	if code, printed := wait(); code != 5 {
		t.Errorf("the server was killed: exit code %d\n%s", code, printed)
	}
	hasSnapshots(t, sh, "complete", "unfinished")
	sh.fails(6, "", env+"restic dump latest server.hb | hb verify")
	sh.fails(6, "", env+"restic dump --tag unfinished latest server.hb | hb extract --apply -C /srv/unfinished")
	db.resume()
	sh.must(env + "set +o pipefail; { hb backup | head -c 1000000; exit 5; } | restic backup --stdin --stdin-filename other.hb --tag other; set -o pipefail")

	wait = sh.start("HB_THROTTLE=4MiB hb-restic")
	await(t, "restic", func() bool { return db.killed("restic\x00backup") == nil })
	if code, printed := wait(); code != 128+int(syscall.SIGKILL) {
		t.Errorf("restic was killed: exit code %d\n%s", code, printed)
	}
	hasSnapshots(t, sh, "complete", "other", "unfinished")
	sh.must("hb-restic")
	hasSnapshots(t, sh, "complete", "other", "unfinished")
}

// stored is the size of the repository's data.
func stored(t *testing.T, sh *shell) (bytes int64) {
	t.Helper()
	if err := json.Unmarshal([]byte(sh.must("find /srv/restic/data -type f -printf '%s\n' | awk '{ n += $1 } END { print n + 0 }'")), &bytes); err != nil {
		t.Fatal(err)
	}
	return bytes
}

// hasSnapshots compares the tags of all snapshots, without those of runs.
func hasSnapshots(t *testing.T, sh *shell, want ...string) {
	t.Helper()
	var all []struct{ Tags []string }
	if err := json.Unmarshal([]byte(sh.must(". /etc/hb-restic.env; restic snapshots --json")), &all); err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, s := range all {
		got = append(got, strings.Join(slices.DeleteFunc(s.Tags, func(tag string) bool { return strings.HasPrefix(tag, "run-") }), ","))
	}
	if slices.Sort(got); !slices.Equal(got, want) {
		t.Errorf("the snapshots are %q, want %q", got, want)
	}
}
