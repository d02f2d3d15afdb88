package recipes

import (
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"hb/source/infofile"
	"hb/source/mysqld/mysqldtest"
)

func init() { register("schedule.md", testSchedule, mysqldtest.MariaDB118) }

func testSchedule(t *testing.T, r *recipe, root *mysqldtest.Root) {
	for _, p := range []string{"flock", "systemd-analyze", "/usr/bin/systemctl", "crontab"} {
		mysqldtest.Program(t, p)
	}
	db := newHost(t, "db", root)
	fill(t, db.serve(mysqldtest.Options{Binlog: true}))
	n := nights{t: t, host: db, keep: 7, sums: map[string]map[string]string{}}
	sh := db.shell()

	if said := r.run(sh, "Account and options"); strings.Contains(said, "FAIL") || !strings.Contains(said, "backup at ") {
		t.Errorf("hb check says %s", said)
	}
	r.run(sh, "The script")
	n.passed()
	said := r.run(sh, "systemd")
	if strings.Contains(said, "/etc/systemd/system/") || !strings.Contains(said, "Next elapse") {
		t.Errorf("systemd-analyze says %s", said)
	}
	if to, err := os.Readlink(db.path("/etc/systemd/system/timers.target.wants/hb-nightly.timer")); err != nil || to != "/etc/systemd/system/hb-nightly.timer" {
		t.Errorf("the timer is not enabled: %s, %v", to, err)
	}
	n.passed()

	sh.must("sed -i s/^keep=7/keep=2/ /usr/local/bin/hb-nightly")
	n.keep = 2
	r.run(sh, "cron")
	line := sh.must("crontab -l")
	asCron := "env -i HOME=/root LOGNAME=root SHELL=/bin/sh PATH=/usr/bin:/bin sh -c '" + strings.Join(strings.Fields(line)[5:], " ") + "'"
	for range 2 {
		if said := sh.must(asCron); said != "" {
			t.Errorf("a night that passed says %q", said)
		}
		n.passed()
	}
	if said := r.run(sh, "Is there a backup of last night?"); strings.Count(said, "\n") != n.keep {
		t.Errorf("backups of last night: %q", said)
	}
	testFailingNights(t, &n, sh)
	sh.must(asCron)
	n.passed()

	r.run(sh, "Restore")
	names := slices.Sorted(maps.Keys(n.sums))
	restored(t, db, "/srv/restored", n.sums[names[len(names)-1]])
	for _, name := range names[:len(names)-1] {
		sh.must("hb extract --apply -C /srv/" + name + " /var/backups/mysql/" + name)
		restored(t, db, "/srv/"+name, n.sums[name])
	}
}

// testFailingNights: each ends with an exit code of its own, and no backup more or
// less.
func testFailingNights(t *testing.T, n *nights, sh *shell) {
	t.Helper()
	if err := n.host.stop(); err != nil {
		t.Fatal(err)
	}
	sh.fails(1, "exited with error code 3", "systemctl start hb-nightly.service")
	n.failed(3)
	n.host.resume()

	wait := sh.start("HB_THROTTLE=2MiB hb-nightly")
	await(t, "the backup", func() bool {
		parts, _ := filepath.Glob(n.host.path("/var/backups/mysql/*.part"))
		if len(parts) != 1 {
			return false
		}
		st, err := os.Stat(parts[0])
		return err == nil && st.Size() > 0
	})
	n.host.shell().fails(75, "still at work", "hb-nightly")
	if err := n.host.kill(); err != nil {
		t.Fatal(err)
	}
	if code, said := wait(); code != 5 {
		t.Errorf("the server was killed: exit code %d\n%s", code, said)
	}
	n.failed(5)
	n.host.resume()

	// An archive that is not what was written.
	sh.must(`rm /usr/local/bin/hb`)
	n.host.write("/usr/local/bin/hb", fmt.Sprintf("#!/bin/bash\n[ $1 = backup ] || exec %[1]s \"$@\"\n%[1]s \"$@\" | head -c -100000\n", hb))
	sh.fails(6, "hb: ", "hb-nightly")
	n.failed(0)
	sh.must("ln -sf " + hb + " /usr/local/bin/hb")
}

// nights knows which backups there must be.
type nights struct {
	t    *testing.T
	host *host
	keep int
	sums map[string]map[string]string // checksums of the tables, by the backup's name
}

// look returns the names of the backups, and how many unfinished ones there are.
func (n *nights) look() (backups []string, parts int) {
	n.t.Helper()
	entries, err := os.ReadDir(n.host.path("/var/backups/mysql"))
	if err != nil {
		n.t.Fatal(err)
	}
	for _, e := range entries {
		switch filepath.Ext(e.Name()) {
		case ".hb":
			backups = append(backups, e.Name())
		case ".part":
			parts++
		}
	}
	return backups, parts
}

// passed demands one new backup, and that no more than the oldest are gone. Then it
// changes the server's data.
func (n *nights) passed() {
	n.t.Helper()
	backups, parts := n.look()
	newest := backups[len(backups)-1]
	if _, ok := n.sums[newest]; ok || parts != 0 || n.info().Status != infofile.Complete {
		n.t.Fatalf("after a night that passed there are %v, %d parts, and %+v", backups, parts, n.info())
	}
	n.sums[newest] = checksums(n.t, n.host.db())
	want := slices.Sorted(maps.Keys(n.sums))
	for len(want) > n.keep {
		delete(n.sums, want[0])
		want = want[1:]
	}
	if !slices.Equal(backups, want) {
		n.t.Fatalf("there are %v, want %v", backups, want)
	}
	n.host.db().Exec(n.t, "INSERT INTO shop.orders (note) VALUES ('"+newest+"')")
	time.Sleep(time.Until(time.Now().Truncate(time.Second).Add(time.Second))) // the next has another name
}

// failed demands that all backups are what they were.
func (n *nights) failed(code int) {
	n.t.Helper()
	backups, parts := n.look()
	if want := slices.Sorted(maps.Keys(n.sums)); !slices.Equal(backups, want) || parts != 1 {
		n.t.Errorf("after a night that failed there are %v and %d parts, want %v and one", backups, parts, want)
	}
	if i := n.info(); i.ExitCode == nil || *i.ExitCode != code {
		n.t.Errorf("after a night that failed: %+v", i)
	}
}

// info returns what last.json says.
func (n *nights) info() (i infofile.Info) {
	n.t.Helper()
	if err := json.Unmarshal([]byte(n.host.read("/var/backups/mysql/last.json")), &i); err != nil {
		n.t.Fatal(err)
	}
	return i
}
