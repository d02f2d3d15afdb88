package recipes

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math/rand/v2"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"hb/source/mysqld/mysqldtest"
)

// hb is the hb program.
var hb string

func buildHB(dir string) (string, error) {
	name := filepath.Join(dir, "hb")
	cmd := exec.Command("go", "build", "-o", name, "hb")
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		return "", fmt.Errorf("build hb: %w\n%s", err, out)
	}
	return name, nil
}

// host stands for a machine: this one, with directories of its own in the place
// of those in ownDirs, root's home, an account mysql, and an address. What runs on
// it runs in a mount namespace; the files are below root. /tmp is everyone's.
type host struct {
	t       *testing.T
	name    string
	root    string
	address string
	at      *mysqldtest.Root

	mu     sync.Mutex
	server *mysqldtest.Server // nil if none runs
	opts   mysqldtest.Options
}

// ownDirs are the directories that each host has for itself. All are empty at
// first, except for /etc, which is a copy, and /usr/local/bin, which has hb and the
// programs of the server.
var ownDirs = []string{"/etc", "/mnt", "/run", "/srv", "/usr/local/bin", "/var/backups", "/var/lib", "/var/log", "/var/spool"}

// serverPort is the port of every host's server.
const serverPort = 3306

// newHost makes a machine with the programs of a server, which does not run yet.
func newHost(t *testing.T, name string, at *mysqldtest.Root) *host {
	t.Helper()
	probe := exec.Command("true")
	probe.SysProcAttr = &syscall.SysProcAttr{Unshareflags: syscall.CLONE_NEWNS}
	if err := probe.Run(); err != nil {
		mysqldtest.Missing(t, fmt.Errorf("cannot have a mount namespace: %w", err))
	}
	h := &host{t: t, name: name, root: t.TempDir(), address: newAddress(t), at: at}
	for _, d := range append(ownDirs, "/home/root", "/tmp", "/var/lib/mysql", "/run/mysqld", "/run/sshd", "/var/spool/cron/crontabs") {
		if err := os.MkdirAll(h.path(d), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	h.copyEtc()
	if err := os.Symlink(hb, h.path("/usr/local/bin/hb")); err != nil {
		t.Fatal(err)
	}
	for name, tool := range map[string]string{
		"mariadb": "mysql", "mysql": "mysql", "mariadbd": "mysqld", "mysqld": "mysqld",
		"mariadb-binlog": "mariadb-binlog", "mysqlbinlog": "mysqlbinlog",
		"mbstream": "mbstream", "mariadb-backup": "mariadb-backup",
	} {
		if at.HasTool(tool) {
			h.program(name, at, tool)
		}
	}
	h.configure(mysqldtest.Options{})
	h.serveSystemctl()
	t.Cleanup(func() {
		if err := h.kill(); err != nil {
			t.Error(err)
		}
	})
	return h
}

// program gives the host one of a server's programs.
func (h *host) program(name string, from *mysqldtest.Root, tool string) {
	h.t.Helper()
	h.write("/usr/local/bin/"+name, "#!/bin/sh\nexec "+filepath.Join(from.Dir, "run", tool)+" \"$@\"\n")
}

// newAddress returns one of the addresses that this machine has for itself, at
// which nobody listens on the server's port.
func newAddress(t *testing.T) string {
	t.Helper()
	for {
		n := rand.Uint32()
		address := netip.AddrFrom4([4]byte{127, byte(n >> 16), byte(n >> 8), byte(n)}).String()
		l, err := net.Listen("tcp", net.JoinHostPort(address, strconv.Itoa(serverPort)))
		if err == nil {
			l.Close()
			return address
		}
		if !errors.Is(err, syscall.EADDRINUSE) {
			t.Fatal(err)
		}
	}
}

// finds lets the host find others by their names.
func (h *host) finds(others ...*host) {
	h.t.Helper()
	hosts := h.read("/etc/hosts")
	for _, o := range others {
		hosts += o.address + " " + o.name + "\n"
	}
	h.write("/etc/hosts", hosts)
}

// within makes a command one that runs on the host.
func (h *host) within(cmd *exec.Cmd) *exec.Cmd {
	in := exec.Command("bash", slices.Concat([]string{"-c", enter + "exec \"$@\"", "bash", h.root}, ownDirs, []string{"--"}, cmd.Args)...)
	in.SysProcAttr = &syscall.SysProcAttr{Unshareflags: syscall.CLONE_NEWNS}
	return in
}

// copyEtc gives the host /etc, with no server's option files but its own.
func (h *host) copyEtc() {
	h.t.Helper()
	if out, err := exec.Command("cp", "-a", "/etc/.", h.path("/etc")).CombinedOutput(); err != nil {
		h.t.Fatalf("copy /etc: %v\n%s", err, out)
	}
	for _, f := range []string{"/etc/mysql", "/etc/my.cnf"} {
		if err := os.RemoveAll(h.path(f)); err != nil {
			h.t.Fatal(err)
		}
	}
	h.write("/home/root/.my.cnf", "[client]\nuser=root\n")
	h.write("/etc/mysql/my.cnf", "[mysqld]\n"+strings.Join(h.at.Lines(), "\n")+"\n!includedir /etc/mysql/conf.d\n")
	if err := os.MkdirAll(h.path("/etc/mysql/conf.d"), 0o755); err != nil {
		h.t.Fatal(err)
	}
	for file, line := range map[string]string{"/etc/passwd": "mysql:x:27333:27333::/nonexistent:/bin/false\n", "/etc/group": "mysql:x:27333:\n"} {
		var out strings.Builder
		for _, l := range strings.SplitAfter(h.read(file), "\n") {
			if f := strings.Split(l, ":"); f[0] == "root" && len(f) > 6 {
				f[5] = h.path("/home/root")
				l = strings.Join(f, ":")
			}
			if !strings.HasPrefix(l, "mysql:") {
				out.WriteString(l)
			}
		}
		h.write(file, out.String()+line)
	}
}

// path is where a file of the host is seen from outside.
func (h *host) path(name string) string { return filepath.Join(h.root, name) }

// write writes a file of the host, a program if it is in a directory of those.
func (h *host) write(name, text string) {
	h.t.Helper()
	mode := os.FileMode(0o644)
	if strings.Contains(name, "/bin/") {
		mode = 0o755
	}
	err := os.MkdirAll(filepath.Dir(h.path(name)), 0o755)
	if err = errors.Join(err, os.WriteFile(h.path(name), []byte(text), mode)); err != nil {
		h.t.Fatal(err)
	}
}

// read reads a file of the host.
func (h *host) read(name string) string {
	h.t.Helper()
	b, err := os.ReadFile(h.path(name))
	if err != nil {
		h.t.Fatal(err)
	}
	return string(b)
}

// configure says with which options the host's server starts from now on. It
// also reads /etc/mysql/conf.d.
func (h *host) configure(o mysqldtest.Options) {
	o.Dir, o.Datadir = h.path("/run/mysqld"), h.path("/var/lib/mysql")
	o.Address, o.Port, o.Within, o.TLS = h.address, serverPort, h.within, true
	o.Config = append(o.Config, "!includedir "+h.path("/etc/mysql/conf.d"))
	h.opts = o
}

// serve starts a new server on /var/lib/mysql. systemctl start mariadb does so
// from then on, with the same options. All clients find it by themselves.
func (h *host) serve(o mysqldtest.Options) *mysqldtest.Server {
	h.t.Helper()
	h.configure(o)
	s, err := mysqldtest.Launch(h.t.Context(), h.at, h.opts)
	if err == nil {
		err = h.started(s)
	}
	if err != nil {
		h.t.Fatal(err)
	}
	return s
}

// resume starts the server on what is in /var/lib/mysql.
func (h *host) resume() *mysqldtest.Server {
	h.t.Helper()
	if err := h.control("start"); err != nil {
		h.t.Fatal(err)
	}
	return h.db()
}

// db is the host's server, which must run.
func (h *host) db() *mysqldtest.Server {
	h.t.Helper()
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.server == nil {
		h.t.Fatalf("no server runs on %s", h.name)
	}
	return h.server
}

// started notes a server, and puts its socket where clients look for it.
func (h *host) started(s *mysqldtest.Server) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.server = s
	const socket = "/run/mysqld/mysqld.sock"
	if err := os.Remove(h.path(socket)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return os.Symlink(s.Socket, h.path(socket))
}

// stop stops the server cleanly. It does nothing if none runs.
func (h *host) stop() error {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.server == nil {
		return nil
	}
	err := h.server.Stop()
	h.server = nil
	return err
}

// kill kills the server. It does nothing if none runs.
func (h *host) kill() error {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.server == nil {
		return nil
	}
	err := h.server.Kill()
	h.server = nil
	return err
}

// awaitFiles waits until files arrive in a directory.
func (h *host) awaitFiles(dir string) {
	h.t.Helper()
	await(h.t, "files in "+dir, func() bool {
		files, err := os.ReadDir(h.path(dir))
		return err == nil && len(files) > 2
	})
}

// killed kills the one process on the host whose command line begins so; a zero
// byte separates arguments.
func (h *host) killed(command string) error {
	lines, err := filepath.Glob("/proc/[0-9]*/cmdline")
	if err != nil {
		return err
	}
	// What is mounted is told by its path in its own file system, which may be
	// mounted elsewhere than on /.
	own := filepath.Join(filepath.Base(filepath.Dir(h.root)), filepath.Base(h.root)) + "/"
	var found []int
	for _, name := range lines {
		line, err := os.ReadFile(name)
		mounts, err2 := os.ReadFile(filepath.Join(filepath.Dir(name), "mountinfo"))
		if err != nil || err2 != nil { // it has ended
			continue
		}
		if strings.HasPrefix(string(line), command) && strings.Contains(string(mounts), own) {
			pid, err := strconv.Atoi(filepath.Base(filepath.Dir(name)))
			if err != nil {
				return err
			}
			found = append(found, pid)
		}
	}
	if len(found) != 1 {
		return fmt.Errorf("on %s these processes are %q: %v, want one", h.name, command, found)
	}
	return syscall.Kill(found[0], syscall.SIGKILL)
}

// asSystemctl makes the test binary be systemctl; it is where the test listens.
const asSystemctl = "HB_RECIPE_SYSTEMCTL"

// serveSystemctl gives the host a systemctl that starts and stops its server.
func (h *host) serveSystemctl() {
	exe, err := os.Executable()
	if err != nil {
		h.t.Fatal(err)
	}
	dir, err := os.MkdirTemp("/tmp", "hb") // a socket's path is short
	if err != nil {
		h.t.Fatal(err)
	}
	socket := filepath.Join(dir, "s")
	l, err := net.Listen("unix", socket)
	if err != nil {
		h.t.Fatal(err)
	}
	var served sync.WaitGroup
	served.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return // closed
			}
			h.answer(c)
		}
	})
	h.t.Cleanup(func() {
		l.Close()
		served.Wait()
		os.RemoveAll(dir)
	})
	h.write("/usr/local/bin/systemctl", "#!/bin/sh\n"+asSystemctl+"="+socket+" exec "+exe+" \"$@\"\n")
}

// answer does what a systemctl asks for.
func (h *host) answer(c net.Conn) {
	defer c.Close()
	line, err := bufio.NewReader(c).ReadString('\n')
	if err == nil {
		err = h.systemctl(strings.Fields(line))
	}
	if err != nil {
		fmt.Fprint(c, err)
	}
}

// systemctl does what systemctl does with these arguments, as far as tests need it.
func (h *host) systemctl(args []string) error {
	unit := args[len(args)-1]
	name, _, _ := strings.Cut(unit, ".")
	switch what := strings.Join(args[:len(args)-1], " "); {
	case unit == "daemon-reload":
		return nil
	case name == "mariadb" || name == "mysql" || name == "mysqld":
		return h.control(what)
	case what == "enable --now" || what == "enable":
		// The real one, which needs no running systemd for that.
		out, err := exec.Command("/usr/bin/systemctl", "--root="+h.root, "enable", unit).CombinedOutput()
		if err != nil {
			return fmt.Errorf("systemctl enable %s: %w\n%s", unit, err, out)
		}
		return nil
	case what == "start":
		return h.startUnit(name + ".service")
	}
	return fmt.Errorf("systemctl %s: the test cannot do that", strings.Join(args, " "))
}

// startUnit runs what the unit of a service that runs once has as ExecStart, with
// as little in the environment as systemd gives it.
func (h *host) startUnit(unit string) error {
	text, err := os.ReadFile(h.path("/etc/systemd/system/" + unit))
	if err != nil {
		return err
	}
	_, command, ok := strings.Cut(string(text), "\nExecStart=")
	if !ok || !strings.Contains(string(text), "\nType=oneshot\n") {
		return fmt.Errorf("%s: the test cannot start this:\n%s", unit, text)
	}
	command, _, _ = strings.Cut(command, "\n")
	sh := h.shell()
	defer sh.end()
	if code, printed := sh.try("env -i PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin " + command); code != 0 {
		return fmt.Errorf("job for %s failed because the control process exited with error code %d\n%s", unit, code, printed)
	}
	return nil
}

// control starts or stops the server.
func (h *host) control(what string) error {
	switch what {
	case "stop":
		return h.stop()
	case "restart":
		if err := h.stop(); err != nil {
			return err
		}
	case "start":
	default:
		return fmt.Errorf("systemctl %s: the test cannot do that", what)
	}
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	s, err := mysqldtest.LaunchOn(ctx, h.at, h.path("/var/lib/mysql"), h.opts)
	if err != nil {
		return err
	}
	return h.started(s)
}

// askSystemctl is systemctl's end.
func askSystemctl(socket string, args []string) int {
	c, err := net.Dial("unix", socket)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	fmt.Fprintln(c, strings.Join(args, " "))
	if said, err := io.ReadAll(c); len(said) > 0 || err != nil {
		fmt.Fprintln(os.Stderr, string(said), err)
		return 1
	}
	return 0
}

// patience is how long a block may take.
const patience = 3 * time.Minute

// shell is a terminal on a host: bash, in which directory and variables stay from
// block to block. A command that fails ends it, and the next block has a new one.
type shell struct {
	host    *host
	network bool // has a network of its own
	cmd     *exec.Cmd
	out     *os.File // what the blocks print
	say     *os.File // names of files with blocks go here
	done    *os.File // a line comes from here after each block
	seen    int      // how much of out was returned
}

// enter makes the machine, in a mount namespace.
const enter = `set -euo pipefail
root=$1
shift
while [ "$1" != -- ]; do
	mount --bind "$root$1" "$1"
	shift
done
shift
`

// driver is what the shell does: make the machine, then one block after the other.
const driver = enter + `cd
while read -r block <&3; do
	. "$block" 3<&- 4>&- </dev/null
	echo >&4
done
`

// shell opens a terminal.
func (h *host) shell() *shell {
	s := &shell{host: h}
	h.t.Cleanup(s.end)
	return s
}

// open starts the shell's process.
func (s *shell) open() error {
	h := s.host
	in, say, err := os.Pipe()
	if err != nil {
		return err
	}
	done, out, err := os.Pipe()
	if err != nil {
		return err
	}
	defer in.Close()
	defer out.Close()
	if s.out, err = os.CreateTemp(h.path("/tmp"), "out"); err != nil {
		return err
	}
	s.cmd = exec.Command("bash", slices.Concat([]string{"-c", driver, "bash", h.root}, ownDirs, []string{"--"})...)
	s.cmd.SysProcAttr = &syscall.SysProcAttr{Unshareflags: syscall.CLONE_NEWNS, Setpgid: true, Pdeathsig: syscall.SIGKILL}
	if s.network {
		s.cmd.SysProcAttr.Unshareflags |= syscall.CLONE_NEWNET
	}
	s.cmd.Env = []string{"HOME=" + h.path("/home/root"), "TMPDIR=" + h.path("/tmp"), "USER=root", "LANG=C.UTF-8",
		"PATH=/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"}
	s.cmd.Stdout, s.cmd.Stderr, s.cmd.ExtraFiles = s.out, s.out, []*os.File{in, out}
	s.say, s.done = say, done
	return s.cmd.Start()
}

// try runs commands, and returns their exit code and what they printed.
func (s *shell) try(text string) (code int, printed string) {
	if s.cmd == nil {
		if err := s.open(); err != nil {
			return -1, err.Error()
		}
	}
	if err := s.hand(text); err != nil {
		return -1, err.Error()
	}
	s.done.SetReadDeadline(time.Now().Add(patience))
	_, err := s.done.Read(make([]byte, 1))
	if err != nil && !errors.Is(err, io.EOF) {
		return -1, err.Error() + "\n" + s.printed() // it hangs; the cleanup ends it
	}
	printed = s.printed()
	if err != nil {
		cmd := s.cmd
		s.end()
		code = cmd.ProcessState.ExitCode()
	}
	return code, printed
}

// must is try for commands of the test's own that must not fail.
func (s *shell) must(text string) (printed string) {
	s.host.t.Helper()
	code, printed := s.try(text)
	if code != 0 {
		s.host.t.Fatalf("on %s this ends with exit code %d:\n%s\n%s", s.host.name, code, text, printed)
	}
	return printed
}

// start is try beside what the test does next. The function that it returns waits
// for the end; it must be called.
func (s *shell) start(text string) (wait func() (code int, printed string)) {
	type outcome struct {
		code    int
		printed string
	}
	ended := make(chan outcome, 1)
	go func() {
		code, printed := s.try(text)
		ended <- outcome{code, printed}
	}()
	return func() (int, string) {
		o := <-ended
		return o.code, o.printed
	}
}

// fails is try for commands that must end with an exit code, and say something.
func (s *shell) fails(code int, says, text string) {
	s.host.t.Helper()
	if got, printed := s.try(text); got != code || !strings.Contains(printed, says) {
		s.host.t.Errorf("on %s this ends with exit code %d, want %d and %q:\n%s\n%s", s.host.name, got, code, says, text, printed)
	}
}

// hand gives commands to the shell's process.
func (s *shell) hand(text string) error {
	f, err := os.CreateTemp(s.host.path("/tmp"), "block")
	if err != nil {
		return err
	}
	_, err = f.WriteString(text)
	if err = errors.Join(err, f.Close()); err != nil {
		return err
	}
	_, err = fmt.Fprintln(s.say, f.Name())
	return err
}

// printed returns what was printed since it was called last.
func (s *shell) printed() string {
	b, err := os.ReadFile(s.out.Name())
	if err != nil {
		return err.Error()
	}
	from := s.seen
	s.seen = len(b)
	return string(b[from:])
}

// end ends the shell and all that it left running. It does nothing to one that
// has ended.
func (s *shell) end() {
	if s.cmd == nil {
		return
	}
	s.say.Close()
	if _, err := s.done.Read(make([]byte, 1)); err != nil && !errors.Is(err, io.EOF) {
		syscall.Kill(-s.cmd.Process.Pid, syscall.SIGKILL) // it hangs
	}
	s.cmd.Wait() // its outcome is in ProcessState
	syscall.Kill(-s.cmd.Process.Pid, syscall.SIGKILL)
	s.done.Close()
	s.out.Close()
	s.cmd, s.seen = nil, 0
}
