package testd

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"hb/scripts/test.d/hbtest"
	"hb/source/mysqld/mysqldtest"
)

// TestTwoBackups: of two backups of one server, the second is refused before it copies
// anything if the first does not end in time, and waits for it if it may. hb check says
// that there is one.
func TestTwoBackups(t *testing.T) {
	mysqldtest.Each(t, []string{mysqldtest.MariaDB1011, mysqldtest.MySQL97, mysqldtest.MySQL57}, func(t *testing.T, root *mysqldtest.Root) {
		s := filled(t, root, mysqldtest.Options{Binlog: true})
		s.Exec(t, "CREATE TABLE d.m (id INT) ENGINE=MyISAM", "INSERT INTO d.m VALUES (1)")
		dir := t.TempDir()
		account := []string{"--no-defaults", "-u", "root", "-S", s.Socket}
		throttle := "10MiB"
		if root.MariaDB() { // its data are less than 30 MiB: they must take longer than two commands
			throttle = "4MiB"
		}
		first := hb(t, append([]string{"backup", "--throttle=" + throttle}, account...)...)
		archive := filepath.Join(dir, "first")
		out, err := os.Create(archive)
		if err != nil {
			t.Fatal(err)
		}
		defer out.Close()
		var errs bytes.Buffer
		first.Stdout, first.Stderr = out, &errs
		if err := first.Start(); err != nil {
			t.Fatal(err)
		}
		mysqldtest.Await(t, "the first backup copies", func() bool {
			st, err := out.Stat()
			return err != nil || st.Size() > 1<<20
		})
		r := hbtest.Finish(t, hb(t, append([]string{"backup", "--lock-wait-timeout=1"}, account...)...))
		if r.Code != 5 || r.Stdout != "" || !strings.HasPrefix(r.Stderr, "hb: another hb backs this server up, and did not finish within 1s: connection ") {
			t.Errorf("the second backup: exit code %d, %d bytes, %s", r.Code, len(r.Stdout), r.Stderr)
		}
		r = hbtest.Succeed(t, hb(t, append([]string{"check", "--rate-interval=10ms"}, account...)...))
		wantLines(t, r.Stdout, "warning  other backups: another hb backs this server up: connection ")
		third := hb(t, append([]string{"backup", "--log-format=json"}, account...)...)
		waited := pipe(t, third, hb(t, "extract", "--apply", "-C", filepath.Join(dir, "third")))
		if err := first.Wait(); err != nil {
			t.Errorf("the first backup: %v: %s", err, errs.String())
		}
		for i, r := range waited {
			if r.Code != 0 {
				t.Errorf("the third backup, command %d: exit code %d: %s", i, r.Code, r.Stderr)
			}
		}
		hbtest.Succeed(t, hb(t, "verify", "--replay", archive))
		answers(t, s, filepath.Join(dir, "third"))
		r = hbtest.Succeed(t, hb(t, append([]string{"check", "--rate-interval=10ms"}, account...)...))
		wantLines(t, r.Stdout, "ok       other backups: ")
	})
}
