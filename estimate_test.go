package main

import (
	"os/exec"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"hb/source/mysqld/mysqldtest"
)

// TestEstimate: what --estimate says is about what a backup then has, and the
// number for aws is one that it does not exceed.
func TestEstimate(t *testing.T) {
	keygen := mysqldtest.Program(t, "age-keygen")
	recipient := regexp.MustCompile("age1[0-9a-z]+").FindString(succeed(t, exec.Command(keygen)).stdout)
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
		s.Exec(t, "SET GLOBAL innodb_max_dirty_pages_pct = 0")
		for end := time.Now().Add(60 * time.Second); s.Rows(t, "SHOW GLOBAL STATUS LIKE 'Innodb_buffer_pool_pages_dirty'")[0][1] != "0"; time.Sleep(100 * time.Millisecond) {
			if time.Now().After(end) {
				t.Fatal("the server does not write its pages")
			}
		}
		for _, args := range [][]string{nil, {"--compress", "--encrypt-to", recipient}} {
			args = append([]string{"backup", "--no-defaults", "-u", "root", "-S", s.Socket, "--log-format=json"}, args...)
			r := succeed(t, hb(t, append(args, "--estimate")...))
			expected, err := strconv.ParseFloat(strings.TrimSuffix(r.stdout, "\n"), 64)
			if err != nil || strings.Count(r.stdout, "\n") != 1 {
				t.Fatalf("standard output has %q", r.stdout)
			}
			said := jsonLines(t, r.stderr)
			archive := succeed(t, hb(t, args...)).stdout
			size, estimate := float64(len(archive)), float64(said[0].Bytes)
			t.Logf("%v: estimated %.0f, expected at most %.0f, is %.0f bytes", args[7:], estimate, expected, size)
			// Until the next checkpoint there is more redo than a backup will have.
			if len(said) != 1 || estimate < 0.85*size || estimate > 1.5*size || size > expected || expected > 2.5*size {
				t.Errorf("%v: estimated %.0f, expected at most %.0f, is %.0f bytes", args[7:], estimate, expected, size)
			}
		}
		unlocked(t, s)
		r := finish(t, hb(t, "backup", "--no-defaults", "-u", "root", "-S", s.Socket, "--estimate", "--quiet"))
		if _, err := strconv.Atoi(strings.TrimSpace(r.stdout)); err != nil || r.stderr != "" {
			t.Errorf("--quiet: %q, %q", r.stdout, r.stderr)
		}
		if r := finish(t, hb(t, "backup", "--no-defaults", "-u", "root", "-S", s.Socket, "--datadir=/nowhere", "--estimate")); r.code != 3 || r.stdout != "" {
			t.Errorf("another server's files: exit code %d, %q", r.code, r.stdout)
		}
	})
}
