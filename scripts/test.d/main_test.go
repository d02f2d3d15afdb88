// Package testd tests hb as its users run it: it builds hb, and runs that.
package testd

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"
	"golang.org/x/sys/unix"

	"hb/scripts/test.d/hbtest"
	"hb/source/mysqld/mysqldtest"
	"hb/stream/disk/disktest"
	"hb/stream/terminal"
	"hb/xbstream/xbtest"
)

// built is the hb that these tests run.
var built string

func TestMain(m *testing.M) {
	if file := os.Getenv(asPeak); file != "" {
		os.Exit(runPeak(file, os.Args[1:]))
	}
	os.Exit(runTests(m))
}

// runTests builds hb as users have it, or with the race detector if the tests have
// that, and runs them.
func runTests(m *testing.M) int {
	dir, err := os.MkdirTemp("", "hb-test-")
	if err == nil {
		defer os.RemoveAll(dir)
		err = os.Chmod(dir, 0o755) // other users run it too
	}
	if err == nil {
		built = filepath.Join(dir, "hb")
		build := exec.Command("go", "build", "-trimpath", "-o", built, "hb")
		build.Env = append(os.Environ(), "CGO_ENABLED=0")
		if mysqldtest.Race {
			build = exec.Command("go", "build", "-o", built, "-race", "hb")
		}
		var out []byte
		if out, err = build.CombinedOutput(); err != nil {
			err = fmt.Errorf("go build: %w\n%s", err, out)
		}
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	os.Setenv("PATH", dir+string(os.PathListSeparator)+os.Getenv("PATH"))
	return m.Run()
}

// TestScripts runs the scripts in testdata/script: what the commands do that
// needs no server.
//
// Besides testscript's own commands they have
//
//	exits CODE [<FILE] [NAME=VALUE]... hb ARG...
//	                               hb must end with that exit code
//	mkarchive FILE                 a small whole archive
//	mkchain NAME [tracked]         a full backup and two increments: NAME0, NAME1, NAME2
//	truncate FILE N                cut a file to N bytes; -N: by N bytes
//	flip FILE OFFSET               flip a bit; negative offsets count from the end
func TestScripts(t *testing.T) {
	testscript.Run(t, testscript.Params{
		Dir: filepath.Join("..", "..", "testdata", "script"),
		Cmds: map[string]func(*testscript.TestScript, bool, []string){
			"exits": exits, "mkarchive": mkarchive, "truncate": truncate, "flip": flip, "mkchain": mkchain,
		},
	})
}

// exits runs hb and checks its exit code; stdout and stderr go to the files
// out and err.
func exits(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: exits CODE [<FILE] [NAME=VALUE]... hb ARG...")
	}
	want, rest := args[0], args[1:]
	var stdin *os.File
	if name, ok := strings.CutPrefix(rest[0], "<"); ok {
		f, err := os.Open(ts.MkAbs(name))
		ts.Check(err)
		defer f.Close()
		stdin, rest = f, rest[1:]
	}
	env := append(os.Environ(), "HOME="+ts.Getenv("HOME"))
	for len(rest) > 1 && strings.Contains(rest[0], "=") {
		env, rest = append(env, rest[0]), rest[1:]
	}
	cmd := exec.Command(built, rest[1:]...)
	cmd.Dir, cmd.Env = ts.MkAbs("."), env
	if stdin != nil {
		cmd.Stdin = stdin
	}
	out, err := os.Create(ts.MkAbs("out"))
	ts.Check(err)
	defer out.Close()
	errs, err := os.Create(ts.MkAbs("err"))
	ts.Check(err)
	defer errs.Close()
	cmd.Stdout, cmd.Stderr = out, errs
	var exit *exec.ExitError
	if err := cmd.Run(); err != nil && !errors.As(err, &exit) {
		ts.Check(err)
	}
	if got := strconv.Itoa(cmd.ProcessState.ExitCode()); got != want {
		ts.Fatalf("exit code %s, want %s\n%s", got, want, ts.ReadFile("err"))
	}
}

// mkarchive writes an archive of three small files.
func mkarchive(ts *testscript.TestScript, _ bool, args []string) {
	a := xbtest.NewArchiver(xbtest.SamplePage, 1000, 2000)
	a.Put("db/t.frm", []byte("a definition"))
	a.Put("ibdata1", bytes.Repeat([]byte("page"), 8<<10))
	archive, err := a.Finish()
	ts.Check(err)
	ts.Check(os.WriteFile(ts.MkAbs(args[0]), archive, 0o644))
}

func truncate(ts *testscript.TestScript, _ bool, args []string) {
	b := ts.ReadFile(args[0])
	ts.Check(os.WriteFile(ts.MkAbs(args[0]), []byte(b[:offset(ts, b, args[1])]), 0o644))
}

func flip(ts *testscript.TestScript, _ bool, args []string) {
	b := []byte(ts.ReadFile(args[0]))
	b[offset(ts, string(b), args[1])] ^= 1
	ts.Check(os.WriteFile(ts.MkAbs(args[0]), b, 0o644))
}

func offset(ts *testscript.TestScript, b, text string) int {
	n, err := strconv.Atoi(text)
	ts.Check(err)
	if n < 0 {
		n += len(b)
	}
	return n
}

// Hb returns a command that runs hb with the given arguments.
func hb(t *testing.T, args ...string) *exec.Cmd {
	t.Helper()
	return exec.Command(built, args...)
}

// filled starts a server with a table that takes some time to back up.
func filled(t *testing.T, root *mysqldtest.Root, o mysqldtest.Options) *mysqldtest.Server {
	t.Helper()
	s := mysqldtest.Start(t, root, o)
	s.Exec(t, "CREATE DATABASE d", "CREATE TABLE d.t (id INT AUTO_INCREMENT PRIMARY KEY, v LONGTEXT) ENGINE=InnoDB",
		"INSERT INTO d.t (v) VALUES (REPEAT(LPAD(1, 16, 'x'), 200))")
	for range 12 { // doubled each time, to 4096 rows
		s.Exec(t, "INSERT INTO d.t (v) SELECT REPEAT(LPAD(id, 16, 'x'), 200) FROM d.t")
	}
	return s
}

// all are the names of all servers.
var all = slices.Concat(mysqldtest.MariaDB, mysqldtest.MySQL)

// refused: hb apply refuses the directory that a failed command has left.
func refused(t *testing.T, dir string) {
	t.Helper()
	if r := hbtest.Finish(t, hb(t, "apply", dir)); r.Code != 8 {
		t.Errorf("apply of what was left: exit code %d, %q", r.Code, r.Stderr)
	}
}

// answers starts a server on a recovered directory and compares the table.
func answers(t *testing.T, s *mysqldtest.Server, dir string) {
	t.Helper()
	r := mysqldtest.StartOn(t, s.Root, dir, mysqldtest.Options{})
	const query = "SELECT SUM(CRC32(v)) FROM d.t"
	if got, want := r.Value(t, query), s.Value(t, query); got != want {
		t.Errorf("the restored table's sum is %s, want %s", got, want)
	}
	if r := hbtest.Finish(t, hb(t, "verify", dir)); r.Code != 8 || !strings.Contains(r.Stderr, "is in use") {
		t.Errorf("verifying what a server runs on: exit code %d, %q", r.Code, r.Stderr)
	}
	if err := r.Stop(); err != nil {
		t.Error(err)
	}
}

// pipe runs commands as a shell's pipeline, the last one's output going to a
// buffer, and returns how each ended.
func pipe(t *testing.T, cmds ...*exec.Cmd) []hbtest.Result {
	t.Helper()
	outs := make([]bytes.Buffer, len(cmds))
	errs := make([]bytes.Buffer, len(cmds))
	for i, cmd := range cmds {
		cmd.Stderr = &errs[i]
		if i == len(cmds)-1 {
			cmd.Stdout = &outs[i]
			break
		}
		r, w, err := os.Pipe()
		if err != nil {
			t.Fatal(err)
		}
		defer r.Close()
		cmd.Stdout, cmds[i+1].Stdin = w, r
	}
	for _, cmd := range cmds {
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		if w, ok := cmd.Stdout.(*os.File); ok {
			w.Close()
		}
		if r, ok := cmd.Stdin.(*os.File); ok {
			r.Close()
		}
	}
	results := make([]hbtest.Result, len(cmds))
	for i, cmd := range cmds {
		cmd.Wait() // its outcome is in ProcessState
		results[i] = hbtest.Result{Code: cmd.ProcessState.ExitCode(), Stdout: outs[i].String(), Stderr: errs[i].String()}
	}
	return results
}

// piped is pipe for commands that must all end well.
func piped(t *testing.T, cmds ...*exec.Cmd) {
	t.Helper()
	for i, r := range pipe(t, cmds...) {
		if r.Code != 0 {
			t.Fatalf("%s: exit code %d\n%s", strings.Join(cmds[i].Args, " "), r.Code, r.Stderr)
		}
	}
}

// TestPipelines are the pipes of the README, with the real programs.
func TestPipelines(t *testing.T) {
	zstd, ageTool, keygen := mysqldtest.Program(t, "zstd"), mysqldtest.Program(t, "age"), mysqldtest.Program(t, "age-keygen")
	mbstream := mysqldtest.Need(t, mysqldtest.MariaDB1011)
	mysqldtest.Each(t, all, func(t *testing.T, root *mysqldtest.Root) {
		s := filled(t, root, mysqldtest.Options{Binlog: true})
		dir := t.TempDir()
		at := func(name string) string { return filepath.Join(dir, name) }
		backup := func(args ...string) *exec.Cmd {
			return hb(t, append([]string{"backup", "--no-defaults", "-u", "root", "-S", s.Socket}, args...)...)
		}
		key := at("key")
		recipient := regexp.MustCompile("age1[0-9a-z]+").FindString(hbtest.Succeed(t, exec.Command(keygen, "-o", key)).Stderr)

		piped(t, backup(), hb(t, "extract", "-C", at("plain")))
		hbtest.Succeed(t, hb(t, "verify", at("plain")))
		hbtest.Succeed(t, hb(t, "apply", at("plain")))
		hbtest.Succeed(t, hb(t, "verify", at("plain")))
		answers(t, s, at("plain"))

		piped(t, backup(), exec.Command(zstd, "-q"), hb(t, "extract", "--apply", "--memory", "32M", "-C", at("outside")))
		hbtest.Succeed(t, hb(t, "verify", at("outside")))
		answers(t, s, at("outside"))
		piped(t, backup(), hb(t, "verify", "--replay"))

		archive := at("archive")
		out, err := os.Create(archive)
		if err != nil {
			t.Fatal(err)
		}
		cmd := backup("--compress", "--encrypt-to", recipient)
		cmd.Stdout = out
		if r := hbtest.Succeed(t, cmd); !strings.Contains(r.Stderr, "backup complete") {
			t.Errorf("stderr = %q", r.Stderr)
		}
		if err := out.Close(); err != nil {
			t.Fatal(err)
		}
		if err := os.Mkdir(at("by others"), 0o755); err != nil {
			t.Fatal(err)
		}
		piped(t, exec.Command(ageTool, "-d", "-i", key, archive), exec.Command(zstd, "-d", "-q"),
			mbstream.Tool("mbstream", "-x", "-C", at("by others")))
		hbtest.Succeed(t, hb(t, "apply", at("by others")))
		answers(t, s, at("by others"))

		if r := hbtest.Finish(t, hb(t, "extract", "-C", at("no key"), archive)); r.Code != 10 || !strings.Contains(r.Stderr, "identity") {
			t.Errorf("without a key: exit code %d, %s", r.Code, r.Stderr)
		}
		hbtest.Succeed(t, hb(t, "extract", "--apply", "-i", key, "-C", at("in one pass"), archive))
		answers(t, s, at("in one pass"))
		hbtest.Succeed(t, hb(t, "extract", "-i", key, "-C", at("with key"), archive))
		hbtest.Succeed(t, hb(t, "apply", at("with key")))
		if r := hbtest.Succeed(t, hb(t, "apply", at("with key"))); !strings.Contains(r.Stderr, "nothing to do") {
			t.Errorf("the second apply says %q", r.Stderr)
		}
		answers(t, s, at("with key"))

		for _, args := range [][]string{{}, {"--replay"}} {
			r := hbtest.Succeed(t, hb(t, append([]string{"verify", "-i", key, archive}, args...)...))
			if !strings.Contains(r.Stderr, "verified") || r.Stdout != "" {
				t.Errorf("verify %v says %q, %q", args, r.Stdout, r.Stderr)
			}
		}

		r := hbtest.Succeed(t, hb(t, "list", "-i", key, archive))
		if !strings.Contains(r.Stdout, " d/t.ibd\n") || !strings.Contains(r.Stderr, "binlog.00000") {
			t.Errorf("list says %q, %q", r.Stdout, r.Stderr)
		}
	})
}

// badInput is a backup that must fail, and how.
type badInput struct {
	name string
	args []string
	code int
	says string // on stderr
}

// TestRefusedBackups: what stops a backup before anything is locked or sent.
func TestRefusedBackups(t *testing.T) {
	root := mysqldtest.Need(t, mysqldtest.MariaDB1011)
	s := filled(t, root, mysqldtest.Options{Binlog: true})
	other := mysqldtest.Start(t, root, mysqldtest.Options{})
	s.Exec(t, "CREATE USER nobody@localhost IDENTIFIED BY 'pw'", "CREATE USER reload@localhost IDENTIFIED BY 'pw'",
		"GRANT RELOAD, PROCESS ON *.* TO reload@localhost", "CREATE USER some@localhost IDENTIFIED BY 'pw'",
		"GRANT RELOAD, PROCESS, BINLOG MONITOR ON *.* TO some@localhost")
	base := []string{"backup", "--no-defaults", "-S", s.Socket}
	for _, test := range []badInput{
		{"wrong password", []string{"-u", "nobody", "--password=wrong"}, 3, "Access denied"},
		{"no privilege", []string{"-u", "nobody", "--password=pw"}, 3, "GRANT RELOAD, PROCESS, BINLOG MONITOR ON *.* TO 'nobody'@'localhost';"},
		{"one privilege lacks", []string{"-u", "reload", "--password=pw"}, 3, "GRANT BINLOG MONITOR ON"},
		{"privilege of an option lacks", []string{"-u", "some", "--password=pw", "--slave-info"}, 3, "SLAVE MONITOR"},
		{"another server's files", []string{"-u", "root", "--datadir=" + other.Datadir}, 3, "not the data of the connected server"},
		{"no such files", []string{"-u", "root", "--datadir=/nowhere"}, 3, "/nowhere"},
		{"no such place to spool", []string{"-u", "root", "--tmpdir=/nowhere"}, 2, "/nowhere"},
	} {
		r := hbtest.Finish(t, hb(t, append(append([]string{}, base...), test.args...)...))
		if r.Code != test.code || !strings.Contains(r.Stderr, test.says) || r.Stdout != "" {
			t.Errorf("%s: exit code %d, %d bytes on stdout, stderr %q; want code %d and %q",
				test.name, r.Code, len(r.Stdout), r.Stderr, test.code, test.says)
		}
		// One cause, and what to do about it.
		if n := strings.Count(r.Stderr, "\n"); n > 3 || strings.Count(r.Stderr, "hb: ") != n {
			t.Errorf("%s: %d lines on stderr: %s", test.name, n, r.Stderr)
		}
	}
	unlocked(t, s)
	r := hbtest.Finish(t, hb(t, append(append([]string{}, base...), "-u", "some", "--password=pw")...))
	if r.Code != 0 {
		t.Errorf("with exactly the printed privileges: %s", r.Stderr)
	}
}

// TestSecrets: a password is nowhere to be seen: not in the list of processes,
// not in what hb says, not in the archive. A passphrase can come from a
// descriptor.
func TestSecrets(t *testing.T) {
	const password, passphrase = "sesame-4711", "open-0815"
	s := filled(t, mysqldtest.Need(t, mysqldtest.MariaDB1011), mysqldtest.Options{})
	s.Exec(t, "CREATE USER secretive@localhost IDENTIFIED BY '"+password+"'", "GRANT ALL ON *.* TO secretive@localhost")
	descriptor := func(cmd *exec.Cmd) {
		r, w, err := os.Pipe()
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { r.Close() })
		if _, err := w.WriteString(passphrase + "\n"); err != nil {
			t.Fatal(err)
		}
		w.Close()
		cmd.ExtraFiles = []*os.File{r}
	}
	for _, flag := range []string{"-p" + password, "--password=" + password} {
		cmd := hb(t, "backup", "--no-defaults", "-u", "secretive", flag, "-S", s.Socket, "--throttle=20MiB", "--encrypt-passphrase-file=/dev/fd/3")
		descriptor(cmd)
		var out, errs bytes.Buffer
		cmd.Stdout, cmd.Stderr = &out, &errs
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		line, err := []byte(nil), error(nil)
		mysqldtest.Await(t, "hb has hidden its password", func() bool {
			line, err = os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", cmd.Process.Pid))
			// There is none yet where the kernel still starts the program.
			return err != nil || len(line) > 0 && !bytes.Contains(line, []byte(password))
		})
		if err != nil || bytes.Contains(line, []byte(password)) || !bytes.Contains(line, []byte("secretive")) {
			t.Errorf("the list of processes has %q, %v", line, err)
		}
		if err := cmd.Wait(); err != nil || strings.Contains(errs.String(), password) {
			t.Fatalf("%v: %s", err, errs.String())
		}
		archive, dir := filepath.Join(t.TempDir(), "archive"), filepath.Join(t.TempDir(), "backup")
		if err := os.WriteFile(archive, out.Bytes(), 0o600); err != nil {
			t.Fatal(err)
		}
		cmd = hb(t, "extract", "--passphrase-file=/dev/fd/3", "-C", dir, archive)
		descriptor(cmd)
		hbtest.Succeed(t, cmd)
		for name, content := range disktest.ReadTree(t, dir) {
			for _, secret := range []string{password, passphrase} {
				if strings.Contains(content, secret) {
					t.Errorf("%s holds %q", name, secret)
				}
			}
		}
	}
	for _, args := range [][]string{
		{"backup", "--password", password}, {"backup", "-p", password}, {"backup", "-p" + password, "--no-such"},
		{"list", "--password=" + password}, {"list", "-p" + password},
	} {
		r := hbtest.Finish(t, hb(t, args...))
		if r.Code != 2 || strings.Contains(r.Stderr, password) {
			t.Errorf("%v: exit code %d, %s", args, r.Code, r.Stderr)
		}
	}
	if got := terminal.MaskedCommand([]string{"/bin/hb", "backup", "-p" + password, "--password=" + password, "-p", "--port=1"}); got != "hb backup -p... --password=... -p --port=1" {
		t.Errorf("masked: %s", got)
	}
}

// lockStatements are what is blocked by any backup lock that is left.
func lockStatements(root *mysqldtest.Root) []string {
	if root.MariaDB() {
		return []string{"BACKUP STAGE START", "BACKUP STAGE BLOCK_COMMIT", "BACKUP STAGE END"}
	}
	return []string{"INSERT INTO d.t (v) VALUES ('written')", "CREATE TABLE d.unlocked (id INT)", "DROP TABLE d.unlocked"}
}

// unlocked proves that no backup lock is left on the server.
func unlocked(t *testing.T, s *mysqldtest.Server) {
	t.Helper()
	s.Exec(t, "SET GLOBAL lock_wait_timeout = 5")
	conn, err := s.DB().Conn(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	for _, q := range append([]string{"SET lock_wait_timeout = 5"}, lockStatements(s.Root)...) {
		if _, err := conn.ExecContext(t.Context(), q); err != nil {
			t.Fatalf("a lock is left: %s: %v", q, err)
		}
	}
}

// TestTerminal: the archive never goes to a terminal.
func TestTerminal(t *testing.T) {
	master, err := os.OpenFile("/dev/ptmx", os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer master.Close()
	if err := unix.IoctlSetPointerInt(int(master.Fd()), unix.TIOCSPTLCK, 0); err != nil {
		t.Fatal(err)
	}
	n, err := unix.IoctlGetInt(int(master.Fd()), unix.TIOCGPTN)
	if err != nil {
		t.Fatal(err)
	}
	tty, err := os.OpenFile("/dev/pts/"+strconv.Itoa(n), os.O_RDWR|syscall.O_NOCTTY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer tty.Close()
	cmd := hb(t, "backup", "--no-defaults")
	cmd.Stdout = tty
	if r := hbtest.Finish(t, cmd); r.Code != 2 || !strings.Contains(r.Stderr, "terminal") {
		t.Errorf("exit code %d, %q", r.Code, r.Stderr)
	}
}

// TestBrokenBackups: what ends a backup on its way. It must end with the right
// code and a message, leave no lock and no file, and no archive that passes.
func TestBrokenBackups(t *testing.T) {
	mysqldtest.Each(t, append([]string{mysqldtest.MariaDB1011}, mysqldtest.MySQL...), testBrokenBackups)
}

func testBrokenBackups(t *testing.T, root *mysqldtest.Root) {
	s := filled(t, root, mysqldtest.Options{})
	tmp := t.TempDir()
	slow := func(args ...string) *exec.Cmd {
		return hb(t, append([]string{"backup", "--no-defaults", "-u", "root", "-S", s.Socket, "--throttle=5MiB", "--tmpdir=" + tmp}, args...)...)
	}
	check := func(what string, r hbtest.Result, code int, says string) {
		t.Helper()
		if r.Code != code || !strings.Contains(r.Stderr, says) {
			t.Errorf("%s: exit code %d, %q; want code %d and %q", what, r.Code, r.Stderr, code, says)
		}
		if left, err := os.ReadDir(tmp); err != nil || len(left) != 0 {
			t.Errorf("%s: left in --tmpdir: %v, %v", what, left, err)
		}
	}
	// The reader goes away.
	head := exec.Command("head", "-c", "2000000")
	check("broken pipe", pipe(t, slow(), head)[0], 9, "hb: writing to standard output: broken pipe: the program that reads it")
	unlocked(t, s)

	// The disk behind standard output is full.
	full, err := os.OpenFile("/dev/full", os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer full.Close()
	cmd := slow()
	cmd.Stdout = full
	check("full disk", hbtest.Finish(t, cmd), 1, "hb: writing to standard output: no space left on device\nhb: make room and start again\n")
	unlocked(t, s)

	// A signal. What came out is no archive. A signal that is ignored when hb starts
	// stays ignored.
	for _, signal := range []os.Signal{syscall.SIGTERM, syscall.SIGINT, syscall.SIGHUP, syscall.SIGQUIT} {
		cmd, archive := slow(), filepath.Join(t.TempDir(), "archive")
		if signal == syscall.SIGTERM {
			cmd.Path, cmd.Args = "/bin/sh", append([]string{"sh", "-c", `trap "" HUP; exec "$@"`, "sh"}, cmd.Args...)
		}
		interrupted(t, cmd, archive, func() {
			if signal == syscall.SIGTERM {
				if err := cmd.Process.Signal(syscall.SIGHUP); err != nil {
					t.Fatal(err)
				}
				time.Sleep(200 * time.Millisecond) // for what must not happen
			}
			if err := cmd.Process.Signal(signal); err != nil {
				t.Fatal(err)
			}
		}, func(r hbtest.Result) { check(signal.String(), r, 130, "interrupted by signal "+signal.String()) })
		unlocked(t, s)
	}

	// The server dies.
	cmd = slow()
	interrupted(t, cmd, filepath.Join(t.TempDir(), "archive"), func() {
		if err := s.Kill(); err != nil {
			t.Fatal(err)
		}
	}, func(r hbtest.Result) {
		check("server killed", r, 5, "hb: the connection to the server is lost: the server was stopped")
	})
}

// interrupted runs a backup into a file, disturbs it on its way, checks how it
// ended, and that the file does not pass for an archive.
func interrupted(t *testing.T, cmd *exec.Cmd, archive string, disturb func(), check func(hbtest.Result)) {
	t.Helper()
	out, err := os.Create(archive)
	if err != nil {
		t.Fatal(err)
	}
	defer out.Close()
	var errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = out, &errs
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	mysqldtest.Await(t, "pages are on their way", func() bool {
		st, err := out.Stat()
		return err != nil || st.Size() > 3<<20
	})
	disturb()
	cmd.Wait() // its outcome is in ProcessState
	check(hbtest.Result{Code: cmd.ProcessState.ExitCode(), Stderr: errs.String()})
	if r := hbtest.Finish(t, hb(t, "list", archive)); r.Code != 6 {
		t.Errorf("what came out ends list with exit code %d, want 6: %s", r.Code, r.Stderr)
	}
}

// TestRunningDatadir: apply keeps its hands off a running server's files.
func TestRunningDatadir(t *testing.T) {
	s := mysqldtest.Start(t, mysqldtest.Need(t, mysqldtest.MariaDB1011), mysqldtest.Options{})
	if r := hbtest.Finish(t, hb(t, "apply", s.Datadir)); r.Code != 8 {
		t.Errorf("exit code %d, %q", r.Code, r.Stderr)
	}
	if got := s.Value(t, "SELECT COUNT(*) FROM mysql.global_priv"); got == "0" {
		t.Error("the server lost its users")
	}
}

// TestSlaveInfo backs a replica up, and makes a second replica of its source
// from what --slave-info recorded.
func TestSlaveInfo(t *testing.T) {
	mysqldtest.Each(t, mysqldtest.MariaDB, func(t *testing.T, root *mysqldtest.Root) {
		src := mysqldtest.Start(t, root, mysqldtest.Options{Binlog: true})
		at, err := src.BinlogPosition(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		replica := mysqldtest.Start(t, root, mysqldtest.Options{ServerID: 2})
		at.GTID = "" // by file position, which --slave-info must then record
		mysqldtest.Attach(t, replica, src, at)
		src.Exec(t, "CREATE DATABASE d", "CREATE TABLE d.t (id INT PRIMARY KEY, v TEXT)", "INSERT INTO d.t VALUES (1, 'before')")
		mysqldtest.CatchUp(t, replica, src, 30*time.Second)
		dir := filepath.Join(t.TempDir(), "copy")
		piped(t, hb(t, "backup", "--no-defaults", "-u", "root", "-S", replica.Socket, "--slave-info"), hb(t, "extract", "-C", dir))
		hbtest.Succeed(t, hb(t, "apply", dir))
		files, err := filepath.Glob(filepath.Join(dir, "*backup_slave_info"))
		if err != nil || len(files) != 1 {
			t.Fatalf("files with the replication's position: %v, %v", files, err)
		}
		text, err := os.ReadFile(files[0])
		if err != nil {
			t.Fatal(err)
		}
		src.Exec(t, "INSERT INTO d.t VALUES (2, 'after')")
		second := mysqldtest.StartOn(t, root, dir, mysqldtest.Options{ServerID: 3, Config: []string{"skip-slave-start"}})
		m := regexp.MustCompile(`^CHANGE MASTER TO MASTER_LOG_FILE='(\S+)', MASTER_LOG_POS=(\d+);\n$`).FindStringSubmatch(string(text))
		if m == nil {
			t.Fatalf("the replication's position is %q", text)
		}
		at.File = m[1]
		if at.Pos, err = strconv.ParseUint(m[2], 10, 64); err != nil {
			t.Fatal(err)
		}
		mysqldtest.Attach(t, second, src, at)
		mysqldtest.CatchUp(t, second, src, 30*time.Second)
		if got := second.Value(t, "SELECT GROUP_CONCAT(v ORDER BY id) FROM d.t"); got != "before,after" {
			t.Errorf("the second replica has %q", got)
		}
	})
}
