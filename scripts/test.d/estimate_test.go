package testd

import (
	"encoding/json"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"hb/scripts/test.d/hbtest"
	"hb/source/mysqld/mysqldtest"
)

// estimate compares an estimate with the backup that is then made.
func estimate(t *testing.T, account []string, options ...string) (about, expected float64) {
	t.Helper()
	args := append(append([]string{"backup", "--log-format=json"}, account...), options...)
	r := hbtest.Succeed(t, hb(t, append(args, "--estimate")...))
	expected, err := strconv.ParseFloat(strings.TrimSuffix(r.Stdout, "\n"), 64)
	if err != nil || strings.Count(r.Stdout, "\n") != 1 {
		t.Fatalf("standard output has %q", r.Stdout)
	}
	said := hbtest.Messages(t, r.Stderr)
	size := float64(len(hbtest.Succeed(t, hb(t, args...)).Stdout))
	if about, err = said[len(said)-1]["estimated_bytes"].(json.Number).Float64(); err != nil {
		t.Fatal(err)
	}
	t.Logf("%v: estimated %.0f, expected at most %.0f, is %.0f bytes; %s", options, about, expected, size, said[len(said)-1]["msg"])
	// Until the next checkpoint there is more redo than a backup will have.
	if about < 0.85*size || about > 1.5*size || size > expected || expected > 2.5*size {
		t.Errorf("%v: estimated %.0f, expected at most %.0f, is %.0f bytes", options, about, expected, size)
	}
	return about, expected
}

// TestEstimate: what --estimate says is about what a backup then has, and the
// number for aws is one that it does not exceed.
func TestEstimate(t *testing.T) {
	keygen := mysqldtest.Program(t, "age-keygen")
	recipient := regexp.MustCompile("age1[0-9a-z]+").FindString(hbtest.Succeed(t, exec.Command(keygen)).Stdout)
	mysqldtest.Each(t, []string{mysqldtest.MariaDB1011, mysqldtest.MySQL97}, func(t *testing.T, root *mysqldtest.Root) {
		s := mysqldtest.Start(t, root, mysqldtest.Options{Binlog: true})
		// Digits compress as much as data do that people have.
		digits := "CONCAT(" + strings.Repeat("SHA2(RAND(), 256), ", 6) + "'')"
		s.Exec(t, "CREATE DATABASE d", "CREATE TABLE d.t (id INT AUTO_INCREMENT PRIMARY KEY, v VARCHAR(2000)) ENGINE=InnoDB",
			"INSERT INTO d.t (v) VALUES ("+digits+")")
		for range 15 { // doubled each time
			s.Exec(t, "INSERT INTO d.t (v) SELECT "+digits+" FROM d.t")
		}
		// What is not in the files yet cannot be estimated.
		s.WriteOut(t)
		base := filepath.Join(t.TempDir(), "base.json")
		account := []string{"--no-defaults", "-u", "root", "-S", s.Socket}
		stages := []string{"--compress", "--encrypt-to", recipient}
		estimate(t, account, "--manifest-out", base)
		estimate(t, account, stages...)
		// 12,000 of 32,768 rows that lie together, and a new table.
		s.Exec(t, "UPDATE d.t SET v = "+digits+" WHERE id BETWEEN 8000 AND 20000", "CREATE TABLE d.new LIKE d.t", "INSERT INTO d.new SELECT * FROM d.t WHERE id < 5000")
		s.WriteOut(t)
		full, _ := estimate(t, account)
		increment, most := estimate(t, account, "--since", base)
		if increment > 0.8*full || most > 1.5*increment {
			t.Errorf("an increment was estimated as %.0f bytes, at most %.0f, and a full backup as %.0f", increment, most, full)
		}
		estimate(t, account, append(stages, "--since", base)...)
		unlocked(t, s)
		r := hbtest.Finish(t, hb(t, "backup", "--no-defaults", "-u", "root", "-S", s.Socket, "--estimate", "--quiet"))
		if _, err := strconv.Atoi(strings.TrimSpace(r.Stdout)); err != nil || r.Stderr != "" {
			t.Errorf("--quiet: %q, %q", r.Stdout, r.Stderr)
		}
		if r := hbtest.Finish(t, hb(t, "backup", "--no-defaults", "-u", "root", "-S", s.Socket, "--datadir=/nowhere", "--estimate")); r.Code != 3 || r.Stdout != "" {
			t.Errorf("another server's files: exit code %d, %q", r.Code, r.Stdout)
		}
	})
}
