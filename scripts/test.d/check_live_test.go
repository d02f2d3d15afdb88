package testd

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

	"hb/scripts/test.d/hbtest"
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
		r := hbtest.Finish(t, hb(t, append([]string{"check", "--rate-interval=10ms"}, base...)...))
		if r.Code != 3 || strings.Count(r.Stderr, "\n") != 1 || !strings.Contains(r.Stderr, "a backup would fail now: privileges\n") {
			t.Errorf("without privileges: exit code %d, %q", r.Code, r.Stderr)
		}
		only := hbtest.Succeed(t, hb(t, append([]string{"check", "--grants"}, base...)...)).Stdout
		grants := 0
		for line := range strings.Lines(only) {
			if !strings.Contains(r.Stdout, "\n    "+line) {
				t.Errorf("not in the report: %q", line)
			}
			s.Exec(t, strings.TrimSuffix(strings.TrimSpace(line), ";"))
			grants++
		}
		if strings.Count(r.Stdout, "\n    GRANT ") != grants || strings.Count(only, "GRANT ") != grants {
			t.Errorf("%q, in the report %q", only, r.Stdout)
		}
		if again := hbtest.Succeed(t, hb(t, append([]string{"check", "--grants"}, base...)...)).Stdout; again != "" {
			t.Errorf("with all privileges: %q", again)
		}
		wants := []string{"FAIL     privileges: ", "ok       version: ", "tested with " + number(s.Value(t, "SELECT VERSION()")), "tables without transactions: 1 with ", "d/m (MyISAM, "}
		if !root.MariaDB() {
			wants = append(wants, "warning  files: all in the data directory can be read; the rest is not checked: ", "warning  data directory: not checked: ")
		}
		wantLines(t, r.Stdout, wants...)

		r = hbtest.Succeed(t, hb(t, append([]string{"check", "--rate-interval=10ms"}, base...)...))
		wantLines(t, r.Stdout, "ok       privileges: ", "ok       features: ", "ok       data directory: "+s.Datadir, "ok       redo log: ", "redo rate: the log holds ", "space: ")
		if strings.Contains(r.Stdout, "FAIL") || r.Stderr != "" {
			t.Errorf("with the printed privileges: %q, %q", r.Stdout, r.Stderr)
		}
		backup := hb(t, append([]string{"backup"}, base...)...)
		backup.Stdout = io.Discard
		hbtest.Succeed(t, backup)
		t.Logf("with %d printed statements:\n%s", grants, r.Stdout)
	})
}

// TestCheckGrantsTracking: where MySQL lists the pages that it changes, hb check --grants
// --since asks for what an increment needs to use the list, and no more: with exactly that,
// a backup marks the server and its increment reads only the listed pages.
func TestCheckGrantsTracking(t *testing.T) {
	s := mysqldtest.Start(t, mysqldtest.Need(t, mysqldtest.MySQL97), mysqldtest.Options{})
	const all = "BACKUP_ADMIN, PROCESS, RELOAD"
	s.Exec(t, "CREATE USER few@localhost IDENTIFIED BY 'pw'", "CREATE DATABASE d",
		"CREATE TABLE d.t (id INT AUTO_INCREMENT PRIMARY KEY, v VARCHAR(7900) CHARACTER SET latin1) ENGINE=InnoDB", "INSERT INTO d.t (v) VALUES (REPEAT('x', 7900))")
	dir := t.TempDir()
	account := []string{"--no-defaults", "-S", s.Socket, "-u", "few", "--password=pw", "--tmpdir=" + dir}
	base, increment := filepath.Join(dir, "base.json"), filepath.Join(dir, "increment.json")
	lacks := func(options ...string) string {
		t.Helper()
		r := hbtest.Succeed(t, hb(t, append(append([]string{"check", "--grants"}, account...), options...)...))
		return r.Stdout
	}
	want := func(got, names string) {
		t.Helper()
		if !strings.HasPrefix(got, "GRANT "+names+" ON *.* TO 'few'@'localhost';\n") {
			t.Errorf("hb asks for %q, want %s", got, names)
		}
	}
	want(lacks("--since", base), all) // the component is not installed
	s.Exec(t, "INSTALL COMPONENT 'file://component_mysqlbackup'", "SELECT mysqlbackup_page_track_set(1)")
	for range 12 { // two rows a page: the list is past its first block of 2044 pages
		s.Exec(t, "INSERT INTO d.t (v) SELECT v FROM d.t")
	}
	s.WriteOut(t)
	want(lacks(), all)
	statements := lacks("--since", base) // which need not be there yet
	want(statements, all+", SYSTEM_VARIABLES_ADMIN")
	for line := range strings.Lines(statements) {
		s.Exec(t, strings.TrimSuffix(strings.TrimSpace(line), ";"))
	}
	if got := lacks("--since", base); got != "" {
		t.Errorf("with all that hb asked for: %q", got)
	}
	for _, args := range [][]string{{"--manifest-out", base}, {"--since", base, "--manifest-out", increment}} {
		cmd := hb(t, append(append([]string{"backup"}, account...), args...)...)
		cmd.Stdout = io.Discard
		if r := hbtest.Succeed(t, cmd); strings.Contains(r.Stderr, "warning") {
			t.Error(r.Stderr)
		}
		s.Exec(t, "UPDATE d.t SET v = 'changed' WHERE id < 100")
	}
	text, err := os.ReadFile(increment)
	if err != nil || !strings.Contains(string(text), `"page_tracking":true`) {
		t.Errorf("%v: the increment did not use the server's list: %.1000s", err, text)
	}
	for p := range strings.SplitSeq(all+", SYSTEM_VARIABLES_ADMIN", ", ") {
		s.Exec(t, "REVOKE "+p+" ON *.* FROM few@localhost")
		want(lacks("--since", base), p)
		s.Exec(t, "GRANT "+p+" ON *.* TO few@localhost")
	}
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
		b := hbtest.Finish(t, hb(t, append(append([]string{"backup"}, base...), args...)...))
		c := hbtest.Finish(t, hb(t, append(append([]string{"check", "--rate-interval=10ms"}, base...), args...)...))
		if code != 0 && b.Stdout != "" {
			t.Errorf("%s: the backup began before it was refused", what)
		}
		if b.Code != code || c.Code != code {
			t.Errorf("%s: backup ends with %d, check with %d; want %d: %s%s", what, b.Code, c.Code, code, b.Stderr, c.Stdout)
		}
		wantLines(t, c.Stdout, wants...)
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
	agree("no non-transactional table", 0, some, "ok       privileges: ", "there are none")
	s.Exec(t, "CREATE TABLE d.m (id INT) ENGINE=MyISAM")
	agree("a non-transactional table", 3, some, "GRANT LOCK TABLES, SELECT ON *.* TO 'some'@'localhost';", "d/m (MyISAM")
	s.Exec(t, "ALTER INSTANCE DISABLE INNODB REDO_LOG")
	agree("no redo log", 4, []string{"-u", "root"}, "FAIL     features: ", "DISABLE INNODB REDO_LOG", "ok       files: ", "redo rate: ")
	agree("no privileges and no redo log", 3, []string{"-u", "nobody", "--password=pw"}, "FAIL     privileges: ", "FAIL     features: ", "DISABLE INNODB REDO_LOG")
	s.Exec(t, "ALTER INSTANCE ENABLE INNODB REDO_LOG")

	r := hbtest.Succeed(t, hb(t, append([]string{"check", "--rate-interval=10ms", "-uroot", "--info-file=" + info, "--log-format=json"}, base...)...))
	if _, err := os.Lstat(info); !os.IsNotExist(err) {
		t.Errorf("hb check wrote the info file: %v", err)
	}
	checks := reportObjects(t, r.Stdout)
	if rate := checks["redo rate"]; rate["redo_capacity"] == 0.0 || rate["result"] == nil {
		t.Errorf("redo rate: %v", rate)
	}
	if v := checks["version"]; v["result"] != "ok" || v["level"] != "INFO" || v["server"] != "MySQL "+s.Value(t, "SELECT VERSION()") {
		t.Errorf("version: %v", v)
	}
	on := s.Value(t, "SELECT @@log_bin") == "1"
	if b := checks["binary log"]; b["log_bin"] != on || (b["level"] == "WARN") == on {
		t.Errorf("log_bin is on: %v; binary log: %v", on, b)
	}
	logDir := t.TempDir()
	apart := mysqldtest.Start(t, root, mysqldtest.Options{Config: []string{"log-bin=" + logDir + "/b"}})
	elsewhere := hbtest.Succeed(t, hb(t, "check", "--rate-interval=10ms", "--no-defaults", "-uroot", "-S", apart.Socket))
	wantLines(t, elsewhere.Stdout, "warning  binary log: ", "at "+logDir+"/b: hb apply asks for --log-bin")
	r = hbtest.Succeed(t, hb(t, append([]string{"check", "--rate-interval=10ms", "-uroot", "--quiet"}, base...)...))
	if strings.Contains(r.Stdout, "ok  ") {
		t.Errorf("--quiet: %q", r.Stdout)
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
	wantLines(t, report.String(), "B/s it wraps in ")
	full, err := os.OpenFile("/dev/full", os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer full.Close()
	cmd := hb(t, append([]string{"check", "--rate-interval=10ms", "-uroot"}, base...)...)
	cmd.Stdout = full
	if r := hbtest.Finish(t, cmd); r.Code != 1 || !strings.Contains(r.Stderr, "writing the report") {
		t.Errorf("a report that cannot be written: exit code %d, %q", r.Code, r.Stderr)
	}
}

// reportObjects reads a report in JSON, by what was checked.
func reportObjects(t *testing.T, report string) map[string]map[string]any {
	t.Helper()
	hbtest.Messages(t, report)
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

// TestCheckSurprises: hb check warns of tables whose rows no backup has, and of pages
// from a time without checksums.
func TestCheckSurprises(t *testing.T) {
	mysqldtest.Each(t, []string{mysqldtest.MariaDB1011, mysqldtest.MySQL97, mysqldtest.MySQL57}, func(t *testing.T, root *mysqldtest.Root) {
		s := mysqldtest.Start(t, root, mysqldtest.Options{})
		check := func() map[string]map[string]any {
			return reportObjects(t, hbtest.Succeed(t, hb(t, "check", "--no-defaults", "-uroot", "-S", s.Socket, "--rate-interval=10ms", "--log-format=json")).Stdout)
		}
		s.Exec(t, "CREATE DATABASE d", "CREATE TABLE d.i (id INT PRIMARY KEY) ENGINE=InnoDB", "CREATE TABLE d.m (id INT) ENGINE=MyISAM", "CREATE VIEW d.v AS SELECT 1")
		before := check()
		for _, what := range []string{"rows elsewhere", "page checksums"} {
			if f := before[what]; f["result"] != "ok" {
				t.Errorf("before: %v", f)
			}
		}
		if seconds, ok := before["redo rate"]["backup_seconds"].(float64); !ok || seconds <= 0 {
			t.Errorf("before: %v", before["redo rate"])
		}
		if root.MariaDB() {
			s.Exec(t, "INSTALL SONAME 'ha_blackhole'")
		}
		s.Exec(t, "CREATE TABLE d.mem (id INT) ENGINE=MEMORY", "CREATE TABLE d.black (id INT) ENGINE=BLACKHOLE")
		if !root.MariaDB() { // whose files of 10.5 and later have checksums always
			s.Exec(t, "SET GLOBAL innodb_checksum_algorithm=none",
				"CREATE TABLE d.none (id INT PRIMARY KEY) ENGINE=InnoDB", "INSERT INTO d.none VALUES (1)")
			s.WriteOut(t)
			s.Exec(t, "SET GLOBAL innodb_checksum_algorithm=crc32")
		}
		after := check()
		if f := after["rows elsewhere"]; f["result"] != "warning" || f["unstored_tables"] != 2.0 || !strings.HasSuffix(fmt.Sprint(f["msg"]), ": d/black (BLACKHOLE), d/mem (MEMORY)") {
			t.Errorf("tables without rows: %v", f)
		}
		if f := after["page checksums"]; !root.MariaDB() && (f["result"] != "warning" || !strings.Contains(fmt.Sprint(f["msg"]), "d/none.ibd")) {
			t.Errorf("pages without checksums: %v", f)
		}
	})
}

// TestCheckEncrypted: hb check of a server that encrypts all that it can names the key file that
// it found.
func TestCheckEncrypted(t *testing.T) {
	root := mysqldtest.Need(t, mysqldtest.MariaDB1011)
	keys := filepath.Join(t.TempDir(), "keys")
	if err := os.WriteFile(keys, []byte("1;770A8A65DA156D24EE2A093277530142\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	s := mysqldtest.Start(t, root, mysqldtest.Options{Config: []string{"plugin-load-add=file_key_management",
		"file-key-management-filename=" + keys, "innodb-encrypt-log=ON", "innodb-encrypt-tables=ON", "aria-encrypt-tables=ON"}})
	r := hbtest.Finish(t, hb(t, "check", "--no-defaults", "--rate-interval=10ms", "-u", "root", "-S", s.Socket))
	if r.Code != 0 {
		t.Errorf("exit code %d", r.Code)
	}
	wantLines(t, r.Stdout, "ok       features: ", "ok       keys: the key file "+keys, "ok       files: ", "space: ")
	if err := os.Rename(keys, keys+".hidden"); err != nil {
		t.Fatal(err)
	}
	for _, command := range []string{"check", "backup"} {
		r := hbtest.Finish(t, hb(t, command, "--no-defaults", "-u", "root", "-S", s.Socket))
		if r.Code != 10 || !strings.Contains(r.Stdout+r.Stderr, "the key of the redo log and Aria tables is needed, and is not in the server's key file") {
			t.Errorf("%s without the key file: exit code %d, %s%s", command, r.Code, r.Stdout, r.Stderr)
		}
	}
	if err := os.Rename(keys+".hidden", keys); err != nil {
		t.Fatal(err)
	}
	passphrase := filepath.Join(t.TempDir(), "passphrase")
	if err := os.WriteFile(passphrase, []byte("secret\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, args := range [][]string{nil, {"--encrypt-passphrase-file", passphrase}} {
		cmd := hb(t, append([]string{"check", "--no-defaults", "--rate-interval=10ms", "-u", "root", "-S", s.Socket}, args...)...)
		if r := hbtest.Finish(t, cmd); strings.Contains(r.Stdout, "it does not have them with --encrypt-passphrase-file") != (args != nil) {
			t.Errorf("%q: %s", args, r.Stdout)
		}
	}
}

// TestCheckUnreadable: hb as a user who may not read the server's files.
func TestCheckUnreadable(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip(mysqldtest.SkipMark, "only root can be somebody else")
	}
	const somebody = 65534
	// Anybody may enter /tmp, and perhaps not the directory of the other tests.
	dir, err := os.MkdirTemp("/tmp", "hb")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	t.Setenv("TMPDIR", dir)
	s := mysqldtest.Start(t, mysqldtest.Need(t, mysqldtest.MariaDB1011), mysqldtest.Options{TCP: true})
	s.Exec(t, "CREATE USER c@127.0.0.1 IDENTIFIED BY 'pw'", "GRANT ALL ON *.* TO c@127.0.0.1")
	program, err := os.ReadFile(built)
	if err != nil {
		t.Fatal(err)
	}
	copied := filepath.Join(dir, "hb")
	if err := os.WriteFile(copied, program, 0o755); err != nil {
		t.Fatal(err)
	}
	unreadable := func(command, path string) {
		t.Helper()
		cmd := exec.Command(copied, command, "--no-defaults", "-h", "127.0.0.1", "-P", fmt.Sprint(s.Port), "-u", "c", "--password=pw", "--tmpdir=/tmp")
		cmd.Dir = "/"
		cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: somebody, Gid: somebody}}
		r := hbtest.Finish(t, cmd)
		if r.Code != 3 || !strings.Contains(r.Stdout+r.Stderr, path+" cannot be read: permission denied; run hb as root or as the server's own user") {
			t.Errorf("%s: exit code %d, %q, %q", command, r.Code, r.Stdout, r.Stderr)
		}
		if command == "check" {
			wantLines(t, r.Stdout, "ok       privileges: ", "FAIL     files: ")
		}
	}
	for _, command := range []string{"backup", "check"} {
		unreadable(command, "")
	}
	// The data directory itself may be entered, as Debian's, and that of a database
	// may not.
	s.Exec(t, "CREATE DATABASE closed")
	if err := os.Chmod(filepath.Join(s.Datadir, "closed"), 0o700); err != nil {
		t.Fatal(err)
	}
	for d := s.Datadir; d != dir; d = filepath.Dir(d) {
		if err := os.Chmod(d, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	for _, command := range []string{"backup", "check"} {
		unreadable(command, s.Datadir+"/closed")
	}
}
