package main

import (
	"bufio"
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"hb/source/mysqld/mysqldtest"
)

// TestCheckGrants: an account without privileges gets them from what hb check
// prints, and nothing else; then hb check and hb backup succeed.
func TestCheckGrants(t *testing.T) {
	mysqldtest.Each(t, []string{mysqldtest.MariaDB1011, mysqldtest.MySQL97, mysqldtest.MySQL57}, func(t *testing.T, root *mysqldtest.Root) {
		s := mysqldtest.Start(t, root, mysqldtest.Options{Binlog: true})
		s.Exec(t, "CREATE DATABASE d", "CREATE TABLE d.i (id INT PRIMARY KEY) ENGINE=InnoDB",
			"CREATE TABLE d.m (id INT) ENGINE=MyISAM", "INSERT INTO d.m VALUES (1), (2)",
			"CREATE USER 'night-ly'@'localhost' IDENTIFIED BY 'pw'")
		base := []string{"--no-defaults", "-S", s.Socket, "-u", "night-ly", "--password=pw", "--tmpdir=" + t.TempDir()}
		r := finish(t, hb(t, append([]string{"check", "--rate-interval=10ms"}, base...)...))
		if r.code != 3 || strings.Count(r.stderr, "\n") != 1 || !strings.Contains(r.stderr, "a backup would fail now: privileges\n") {
			t.Errorf("without privileges: exit code %d, %q", r.code, r.stderr)
		}
		grants := 0
		for line := range strings.Lines(r.stdout) {
			if statement, ok := strings.CutPrefix(line, "    GRANT "); ok {
				s.Exec(t, strings.TrimSuffix("GRANT "+strings.TrimSpace(statement), ";"))
				grants++
			}
		}
		wants := []string{"FAIL     privileges: ", "ok       version: ", "tested with " + number(s.Value(t, "SELECT VERSION()")), "tables without transactions: 1 with ", "d/m (MyISAM, "}
		if !root.MariaDB() {
			wants = append(wants, "warning  files: all in the data directory can be read; the rest is not known yet", "warning  data directory: not known yet")
		}
		wantLines(t, r.stdout, wants...)

		r = succeed(t, hb(t, append([]string{"check", "--rate-interval=10ms"}, base...)...))
		wantLines(t, r.stdout, "ok       privileges: ", "ok       features: ", "ok       data directory: "+s.Datadir, "ok       redo log: ", "redo rate: the log holds ", "space: ")
		if strings.Contains(r.stdout, "FAIL") || r.stderr != "" {
			t.Errorf("with the printed privileges: %q, %q", r.stdout, r.stderr)
		}
		backup := hb(t, append([]string{"backup"}, base...)...)
		backup.Stdout = io.Discard
		succeed(t, backup)
		t.Logf("with %d printed statements:\n%s", grants, r.stdout)
	})
}

// number is the first part of a version, "10.11.18".
func number(version string) string {
	number, _, _ := strings.Cut(version, "-")
	return number
}

// wantLines makes sure that a report has all of some texts.
func wantLines(t *testing.T, report string, wants ...string) {
	t.Helper()
	for _, want := range wants {
		if !strings.Contains(report, want) {
			t.Errorf("no %q in\n%s", want, report)
		}
	}
}

// TestCheckAgrees: hb check ends as hb backup does, and goes on after the first
// failure.
func TestCheckAgrees(t *testing.T) {
	root := mysqldtest.Need(t, mysqldtest.MySQL97)
	s := mysqldtest.Start(t, root, mysqldtest.Options{TCP: true})
	other := mysqldtest.Start(t, root, mysqldtest.Options{})
	s.Exec(t, "CREATE DATABASE d", "CREATE TABLE d.t (id INT) ENGINE=InnoDB", "CREATE USER nobody@localhost IDENTIFIED BY 'pw'")
	base := []string{"--no-defaults", "-S", s.Socket}
	agree := func(what string, code int, args []string, wants ...string) {
		t.Helper()
		b := finish(t, hb(t, append(append([]string{"backup"}, base...), args...)...))
		c := finish(t, hb(t, append(append([]string{"check", "--rate-interval=10ms"}, base...), args...)...))
		if code != 0 && b.stdout != "" {
			t.Errorf("%s: the backup began before it was refused", what)
		}
		if b.code != code || c.code != code {
			t.Errorf("%s: backup ends with %d, check with %d; want %d: %s%s", what, b.code, c.code, code, b.stderr, c.stdout)
		}
		wantLines(t, c.stdout, wants...)
	}
	info := filepath.Join(t.TempDir(), "info")
	agree("wrong password", 3, []string{"-u", "nobody", "--password=wrong"}, "FAIL     connection: ", "Access denied")
	agree("another server's files", 3, []string{"-u", "root", "--datadir=" + other.Datadir}, "FAIL     data directory: ", "ok       privileges: ", "space: ")
	agree("no such files", 3, []string{"-u", "root", "--datadir=/nowhere"}, "FAIL     files: /nowhere", "ok       privileges: ", "ok       features: ")
	agree("no place to spool", 2, []string{"-u", "root", "--tmpdir=/nowhere"}, "FAIL     options: ", "FAIL     space: ", "ok       privileges: ")
	agree("no recipient", 2, []string{"-u", "root", "--encrypt-to=nobody"}, "FAIL     options: ", "ok       data directory: ")
	agree("no information", 2, []string{"-u", "root", "--info-file=/nowhere/info"}, "FAIL     options: ", "ok       data directory: ")
	s.Exec(t, "CREATE USER some@localhost IDENTIFIED BY 'pw'", "GRANT BACKUP_ADMIN, PROCESS, RELOAD ON *.* TO some@localhost",
		"GRANT SELECT ON performance_schema.log_status TO some@localhost")
	some := []string{"-u", "some", "--password=pw"}
	agree("no table without transactions", 0, some, "ok       privileges: ", "there are none")
	s.Exec(t, "CREATE TABLE d.m (id INT) ENGINE=MyISAM")
	agree("a table without transactions", 3, some, "GRANT LOCK TABLES, SELECT ON *.* TO 'some'@'localhost';", "d/m (MyISAM")
	s.Exec(t, "ALTER INSTANCE DISABLE INNODB REDO_LOG")
	agree("no redo log", 4, []string{"-u", "root"}, "FAIL     features: ", "DISABLE INNODB REDO_LOG", "ok       files: ", "redo rate: ")
	agree("no privileges and no redo log", 3, []string{"-u", "nobody", "--password=pw"}, "FAIL     privileges: ", "FAIL     features: ", "DISABLE INNODB REDO_LOG")
	s.Exec(t, "ALTER INSTANCE ENABLE INNODB REDO_LOG")

	r := succeed(t, hb(t, append([]string{"check", "--rate-interval=10ms", "-uroot", "--info-file=" + info, "--log-format=json"}, base...)...))
	if _, err := os.Lstat(info); !os.IsNotExist(err) {
		t.Errorf("hb check wrote the info file: %v", err)
	}
	checks := reportObjects(t, r.stdout)
	if rate := checks["redo rate"]; rate["redo_capacity"] == 0.0 || rate["result"] == nil {
		t.Errorf("redo rate: %v", rate)
	}
	if v := checks["version"]; v["result"] != "ok" || v["level"] != "INFO" || v["server"] != "MySQL "+s.Value(t, "SELECT VERSION()") {
		t.Errorf("version: %v", v)
	}
	r = succeed(t, hb(t, append([]string{"check", "--rate-interval=10ms", "-uroot", "--quiet"}, base...)...))
	if strings.Contains(r.stdout, "ok  ") {
		t.Errorf("--quiet: %q", r.stdout)
	}
	busy := hb(t, append([]string{"check", "--rate-interval=500ms", "-uroot"}, base...)...)
	var report bytes.Buffer
	busy.Stdout = &report
	if err := busy.Start(); err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- busy.Wait() }()
	for written := false; !written; {
		s.Exec(t, "INSERT INTO d.t VALUES (1)")
		select {
		case err := <-ended:
			if err != nil {
				t.Error(err)
			}
			written = true
		default:
		}
	}
	wantLines(t, report.String(), "B/s the server comes round in ")
	full, err := os.OpenFile("/dev/full", os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer full.Close()
	cmd := hb(t, append([]string{"check", "--rate-interval=10ms", "-uroot"}, base...)...)
	cmd.Stdout = full
	if r := finish(t, cmd); r.code != 1 || !strings.Contains(r.stderr, "writing the report") {
		t.Errorf("a report that cannot be written: exit code %d, %q", r.code, r.stderr)
	}
}

// reportObjects reads a report in JSON, by what was checked.
func reportObjects(t *testing.T, report string) map[string]map[string]any {
	t.Helper()
	checks := make(map[string]map[string]any)
	lines := bufio.NewScanner(strings.NewReader(report))
	for lines.Scan() {
		var o map[string]any
		if err := json.Unmarshal(lines.Bytes(), &o); err != nil {
			t.Fatalf("%q: %v", lines.Text(), err)
		}
		checks[fmt.Sprint(o["check"])] = o
	}
	return checks
}

// TestCheckEncrypted: all that is encrypted is named at once.
func TestCheckEncrypted(t *testing.T) {
	root := mysqldtest.Need(t, mysqldtest.MariaDB1011)
	keys := filepath.Join(t.TempDir(), "keys")
	if err := os.WriteFile(keys, []byte("1;770A8A65DA156D24EE2A093277530142\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	s := mysqldtest.Start(t, root, mysqldtest.Options{Config: []string{"plugin-load-add=file_key_management",
		"file-key-management-filename=" + keys, "innodb-encrypt-log=ON"}})
	r := finish(t, hb(t, "check", "--no-defaults", "--rate-interval=10ms", "-u", "root", "-S", s.Socket))
	if r.code != 4 {
		t.Errorf("exit code %d", r.code)
	}
	wantLines(t, r.stdout, "FAIL     features: ", "innodb_encrypt_log=ON", "active plugin file_key_management", "ok       files: ", "space: ")
}

// TestCheckUnreadable: hb as a user who may not read the server's files.
func TestCheckUnreadable(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip(mysqldtest.SkipMark, "only root can be somebody else")
	}
	const somebody = 65534
	s := mysqldtest.Start(t, mysqldtest.Need(t, mysqldtest.MariaDB1011), mysqldtest.Options{TCP: true})
	s.Exec(t, "CREATE USER c@127.0.0.1 IDENTIFIED BY 'pw'", "GRANT ALL ON *.* TO c@127.0.0.1")
	dir, err := os.MkdirTemp("/tmp", "hb") // which anybody may enter
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	program, err := os.ReadFile(exe)
	if err != nil {
		t.Fatal(err)
	}
	copied := filepath.Join(dir, "hb")
	if err := os.WriteFile(copied, program, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	for _, command := range []string{"backup", "check"} {
		cmd := exec.Command(copied, command, "--no-defaults", "-h", "127.0.0.1", "-P", fmt.Sprint(s.Port), "-u", "c", "--password=pw", "--tmpdir=/tmp")
		cmd.Env = append(os.Environ(), asHB+"=1")
		cmd.Dir = "/"
		cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: somebody, Gid: somebody}}
		r := finish(t, cmd)
		if r.code != 3 || !strings.Contains(r.stdout+r.stderr, "cannot be read: permission denied; run hb as root or as the server's own user") {
			t.Errorf("%s: exit code %d, %q, %q", command, r.code, r.stdout, r.stderr)
		}
		if command == "check" {
			wantLines(t, r.stdout, "ok       privileges: ", "FAIL     files: ")
		}
	}
}
