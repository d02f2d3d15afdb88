package testd

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"hb/scripts/test.d/hbtest"
	"hb/source/mysqld/mysqldtest"
)

// window is a program in a terminal of tmux.
type window struct {
	t      *testing.T
	tmux   string
	socket string
}

// newWindow runs a shell command in a window so many columns wide. What it leaves
// on the screen stays until the test ends.
func newWindow(t *testing.T, columns int, command string) *window {
	t.Helper()
	w := &window{t, mysqldtest.Program(t, "tmux"), filepath.Join(t.TempDir(), "tmux")}
	t.Cleanup(func() { w.run("kill-server") })
	w.run("-f", os.DevNull, "new-session", "-d", "-x", strconv.Itoa(columns), "-y", "20", command+"; sleep 1000")
	return w
}

func (w *window) run(args ...string) string {
	w.t.Helper()
	cmd := exec.Command(w.tmux, append([]string{"-S", w.socket}, args...)...)
	// The server that the first one starts must know characters beyond ASCII.
	cmd.Env = append(os.Environ(), "LC_ALL=C.UTF-8")
	out, err := cmd.CombinedOutput()
	if err != nil {
		w.t.Fatalf("tmux %s: %v: %s", strings.Join(args, " "), err, out)
	}
	return string(out)
}

func (w *window) resize(columns int) {
	w.t.Helper()
	w.run("resize-window", "-x", strconv.Itoa(columns), "-y", "20")
}

// lines are those on the screen.
func (w *window) lines() []string {
	w.t.Helper()
	text := strings.TrimRight(w.run("capture-pane", "-p"), "\n ")
	if text == "" {
		return nil
	}
	return strings.Split(text, "\n")
}

// shows waits until the screen has exactly lines that match the patterns, and no
// other.
func (w *window) shows(patterns ...string) {
	w.t.Helper()
	var lines []string
	for end := time.Now().Add(20 * time.Second); time.Now().Before(end); time.Sleep(50 * time.Millisecond) {
		if lines = w.lines(); matchAll(lines, patterns) {
			w.t.Logf("the screen:\n%s", strings.Join(lines, "\n"))
			return
		}
	}
	w.t.Fatalf("the screen has\n%s\nwant\n%s", strings.Join(lines, "\n"), strings.Join(patterns, "\n"))
}

func matchAll(lines, patterns []string) bool {
	if len(lines) != len(patterns) {
		return false
	}
	for i, p := range patterns {
		if !regexp.MustCompile("^(?:" + p + ")$").MatchString(lines[i]) {
			return false
		}
	}
	return true
}

// A number of bytes as it is shown.
const sizePattern = `[0-9.]+ (?:B|KiB|MiB)`

// TestProgressOnTerminal looks at the progress of a backup in a window that is
// wide or narrow, and becomes the other meanwhile. It is one line, as long as the
// window lets it be, that a message stands above, and that is gone at the end. The
// archive is what it would be without it.
func TestProgressOnTerminal(t *testing.T) {
	s := filled(t, mysqldtest.Need(t, mysqldtest.MariaDB1011), mysqldtest.Options{Binlog: true})
	const wide, narrow = 120, 44
	all := fmt.Sprintf(`hb: copying tablespaces \d+%%, %s of %s, ETA [0-9hms]+, %s/s, redo lag %[1]s, spool %[1]s`, sizePattern, sizePattern, sizePattern)
	some := `hb: copying tablespaces \d+%, ETA [0-9hms]+`
	for _, columns := range [][]int{{wide, narrow, wide}, {narrow, wide, narrow}} {
		archive := filepath.Join(t.TempDir(), "archive")
		w := newWindow(t, columns[0], fmt.Sprintf("%s backup --no-defaults -u root -S %s --throttle 4MiB > %s; echo code $?", built, s.Socket, archive))
		for _, n := range columns {
			w.resize(n)
			if n == wide {
				w.shows(all)
			} else {
				w.shows(some)
			}
		}
		pid := strings.TrimSpace(w.run("list-panes", "-F", "#{pane_pid}"))
		children, err := os.ReadFile(fmt.Sprintf("/proc/%s/task/%[1]s/children", pid))
		if err != nil {
			t.Fatal(err)
		}
		child, err := strconv.Atoi(strings.TrimSpace(string(children)))
		if err != nil {
			t.Fatal(err)
		}
		w.resize(wide)
		w.shows(all)
		if err := syscall.Kill(child, syscall.SIGUSR1); err != nil {
			t.Fatal(err)
		}
		w.shows(all, all)
		w.shows(all, `hb: backup complete: .*`, `hb: redo from LSN \d+ to \d+`, `hb: binlog .*`, `hb: BACKUP STAGE START: .*`, `hb: BACKUP STAGE BLOCK_DDL: .*`,
			`hb: BACKUP STAGE BLOCK_COMMIT: .*`, `code 0`)
		wholeArchive(t, archive)
	}
}

// wholeArchive makes sure that a file is an archive from its first byte to its
// last.
func wholeArchive(t *testing.T, file string) {
	t.Helper()
	content, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.HasPrefix(content, []byte("XBSTCK")) {
		t.Errorf("it begins with %q", content[:min(20, len(content))])
	}
	hbtest.Succeed(t, hb(t, "verify", file))
	// One byte more, or less, is noticed: nothing comes after the end.
	for _, wrong := range [][]byte{append(content, '\n'), content[:len(content)-1]} {
		cmd := hb(t, "list")
		cmd.Stdin = bytes.NewReader(wrong)
		if r := hbtest.Finish(t, cmd); r.Code != 6 && r.Code != 7 {
			t.Errorf("with another end: exit code %d", r.Code)
		}
	}
}

// jsonLine is what all messages for programs have.
type jsonLine struct {
	Time     time.Time
	Level    string
	Msg      string
	ExitCode int   `json:"exit_code"`
	Bytes    int64 // of the archive
	Seconds  float64
	Locks    []struct {
		Lock   string
		Waited float64 `json:"waited_ms"`
		Held   float64 `json:"held_ms"`
	}
	Manifest struct {
		LastLSN uint64 `json:"last_lsn"`
		Binlog  struct{ File string }
	}
	Phase       string
	Done, Total int64
}

func jsonLines(t *testing.T, text string) (lines []jsonLine) {
	t.Helper()
	hbtest.Messages(t, text)
	for line := range strings.Lines(text) {
		var l jsonLine
		if err := json.Unmarshal([]byte(line), &l); err != nil || l.Time.IsZero() || l.Level == "" || l.Msg == "" {
			t.Fatalf("%v: %q", err, line)
		}
		lines = append(lines, l)
	}
	return lines
}

// TestProgressForPrograms: where standard error is not a terminal, progress is
// reported when a signal asks for it, as text, as JSON, and with --quiet; and so do
// all commands that may take long. The summary has its facts.
func TestProgressForPrograms(t *testing.T) {
	mysqldtest.Each(t, faultServers, func(t *testing.T, root *mysqldtest.Root) {
		s := filled(t, root, mysqldtest.Options{Binlog: true})
		archive := filepath.Join(t.TempDir(), "archive")
		backup := func(args ...string) (text string) {
			t.Helper()
			out, err := os.Create(archive)
			if err != nil {
				t.Fatal(err)
			}
			defer out.Close()
			cmd := hb(t, append([]string{"backup", "--no-defaults", "-u", "root", "-S", s.Socket, "--throttle=20MiB"}, args...)...)
			cmd.Stdout = out
			return asked(t, cmd)
		}
		text := backup()
		told := regexp.MustCompile(`(?m)^hb: copying tablespaces \d+%, .* of .*, .*/s, (redo lag .*, )?spool .*$`)
		if !told.MatchString(text) || !strings.Contains(text, "hb: backup complete: ") || strings.Contains(text, "\x1b") {
			t.Errorf("it says %q", text)
		}
		wholeArchive(t, archive)
		answers := regexp.MustCompile(`^(hb: (not begun yet|looking at the server|waiting for|listing tablespaces|copying tablespaces).*\n)+$`)
		if text := backup("--quiet"); !told.MatchString(text) || !answers.MatchString(text) {
			t.Errorf("--quiet says %q", text)
		}
		lines := jsonLines(t, backup("--log-format=json"))
		// The last answer tells of pages, see asked.
		last, answer := lines[len(lines)-1], lines[max(0, len(lines)-2)]
		st, err := os.Stat(archive)
		if err != nil {
			t.Fatal(err)
		}
		if answer.Msg != "progress" || answer.Phase != "copying tablespaces" || answer.Done <= 0 || answer.Total <= answer.Done {
			t.Errorf("progress: %+v", answer)
		}
		if last.Level != "INFO" || last.Bytes != st.Size() || last.Seconds <= 0 || len(last.Locks) == 0 || last.Locks[0].Lock == "" ||
			last.Manifest.LastLSN == 0 || last.Manifest.Binlog.File == "" {
			t.Errorf("the archive has %d bytes; summary: %+v", st.Size(), last)
		}
	})
}

// asked runs a backup, asks how far it is until it has copied pages, and returns
// what it said. Redo comes before pages, so that several answers may be needed.
func asked(t *testing.T, cmd *exec.Cmd) string {
	t.Helper()
	errs, err := os.Create(filepath.Join(t.TempDir(), "errors"))
	if err != nil {
		t.Fatal(err)
	}
	defer errs.Close()
	cmd.Stderr = errs
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	said := func() string {
		text, err := os.ReadFile(errs.Name())
		if err != nil {
			t.Fatal(err)
		}
		return string(text)
	}
	mysqldtest.Await(t, "it can be asked, and does not die of it", func() bool { return catches(cmd.Process.Pid, syscall.SIGUSR1) })
	copied := regexp.MustCompile(`copying tablespaces.*[1-9].* of |"copying tablespaces".*"done":[1-9]`)
	mysqldtest.Await(t, "it tells of copied pages", func() bool {
		if err := cmd.Process.Signal(syscall.SIGUSR1); err != nil {
			t.Fatal(err)
		}
		return copied.MatchString(said())
	})
	if err := cmd.Wait(); err != nil {
		t.Fatalf("%v: %s", err, said())
	}
	return said()
}

// TestProgressOfReaders: extract and verify tell how far they are in a pipe, and
// in a file of which they know the size; apply and verify of a directory do so in
// each of their phases.
func TestProgressOfReaders(t *testing.T) {
	archive := loadedBackup(t, mysqldtest.Need(t, mysqldtest.MariaDB1011))
	dir := t.TempDir()
	for i, args := range [][]string{{"extract", "-C", filepath.Join(dir, "piped")}, {"verify"}} {
		r, w, err := os.Pipe()
		if err != nil {
			t.Fatal(err)
		}
		cmd := hb(t, args...)
		cmd.Stdin = r
		errs, err := os.Create(filepath.Join(dir, "errors"))
		if err != nil {
			t.Fatal(err)
		}
		defer errs.Close()
		cmd.Stderr = errs
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		r.Close()
		content, err := os.ReadFile(archive)
		if err != nil {
			t.Fatal(err)
		}
		half := len(content) / 2
		if _, err := w.Write(content[:half]); err != nil {
			t.Fatal(err)
		}
		mysqldtest.Await(t, "it can be asked, and does not die of it", func() bool { return catches(cmd.Process.Pid, syscall.SIGUSR1) })
		mysqldtest.Await(t, "it has said how far it is", func() bool {
			if err := cmd.Process.Signal(syscall.SIGUSR1); err != nil {
				t.Fatal(err)
			}
			said, err := os.ReadFile(errs.Name())
			return err != nil || len(said) > 0
		})
		if _, err := w.Write(content[half:]); err != nil {
			t.Fatal(err)
		}
		w.Close()
		err = cmd.Wait()
		said, e := os.ReadFile(errs.Name())
		if err := errors.Join(err, e); err != nil {
			t.Fatalf("%v: %s", err, said)
		}
		want := regexp.MustCompile(`^hb: ` + []string{"extracting", "verifying"}[i] + `, [0-9.]+ MiB\b`)
		if !want.Match(said) {
			t.Errorf("%v says %q", args, said)
		}
	}
	copied := filepath.Join(dir, "copy")
	for _, test := range []struct {
		args   []string
		phases []string
	}{
		{[]string{"extract", "-C", copied, archive}, []string{"extracting"}},
		{[]string{"verify", copied}, []string{"reading all files", "reading the redo log"}},
		{[]string{"apply", copied}, []string{"reading all files", "recovering pages"}},
	} {
		// A phase may be over before it is asked for: then once more.
		seen := make(map[string]bool)
		for try := 0; try < 20 && !sees(seen, test.phases); try++ {
			if err := os.RemoveAll(copied); err != nil {
				t.Fatal(err)
			}
			if test.args[0] != "extract" {
				hbtest.Succeed(t, hb(t, "extract", "-C", copied, archive))
			}
			for _, l := range besieged(t, hb(t, append(test.args, "--log-format=json", "--parallel=1")...)) {
				if l.Done > 0 && l.Done <= l.Total {
					seen[l.Phase] = true
				}
			}
		}
		if !sees(seen, test.phases) {
			t.Errorf("%v tells of %v, want %v", test.args, seen, test.phases)
		}
	}
}

func sees(seen map[string]bool, phases []string) bool {
	for _, p := range phases {
		if !seen[p] {
			return false
		}
	}
	return true
}

// besieged asks a command all the time how far it is, and returns what it said.
func besieged(t *testing.T, cmd *exec.Cmd) []jsonLine {
	t.Helper()
	var errs bytes.Buffer
	cmd.Stderr = &errs
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	ended := make(chan error)
	go func() { ended <- cmd.Wait() }()
	mysqldtest.Await(t, "it can be asked, and does not die of it", func() bool { return catches(cmd.Process.Pid, syscall.SIGUSR1) })
	for {
		select {
		case err := <-ended:
			if err != nil {
				t.Fatalf("%v: %s", err, errs.String())
			}
			return jsonLines(t, errs.String())
		case <-time.After(time.Millisecond):
			_ = cmd.Process.Signal(syscall.SIGUSR1) // it may just have ended
		}
	}
}

// catches reports whether a process will not die of a signal: it catches it, or has
// ended.
func catches(pid int, signal syscall.Signal) bool {
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	_, mask, ok := strings.Cut(string(status), "\nSigCgt:\t")
	if err != nil || !ok || strings.Contains(string(status), "(zombie)") {
		return true
	}
	mask, _, _ = strings.Cut(mask, "\n")
	caught, err := strconv.ParseUint(mask, 16, 64)
	return err == nil && caught&(1<<(signal-1)) != 0
}
