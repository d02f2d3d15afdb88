package testd

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"hb/scripts/test.d/hbtest"
	"hb/sink/catalog"
	"hb/source/mysqld/mysqldtest"
	"hb/stream/disk/disktest"
	"hb/xbstream/innodb"
)

// faultServers are those that faults are tried on: one of each order of steps.
var faultServers = []string{mysqldtest.MariaDB1011, mysqldtest.MySQL57, mysqldtest.MySQL97}

// endsWithin is how long a backup may take to give up.
const endsWithin = 20 * time.Second

// victim is a server under load that is backed up while something goes wrong.
type victim struct {
	*mysqldtest.Server
	tmp  string // --tmpdir
	load func() // ends the load and waits for it
}

// newVictim starts a server with a table of about 13 MiB and one that is
// written all the time.
func newVictim(t *testing.T, root *mysqldtest.Root, config ...string) *victim {
	t.Helper()
	v := &victim{Server: filled(t, root, mysqldtest.Options{Config: config}), tmp: t.TempDir(), load: func() {}}
	v.Exec(t, "CREATE USER backup@localhost", "GRANT ALL ON *.* TO backup@localhost",
		"CREATE TABLE d.w (id INT AUTO_INCREMENT PRIMARY KEY, v VARCHAR(2000)) ENGINE=InnoDB",
		"CREATE TABLE d.m (id INT AUTO_INCREMENT PRIMARY KEY, v VARCHAR(200)) ENGINE=MyISAM")
	if !root.MariaDB() && root.AtLeast(8, 0) {
		v.Exec(t, "GRANT BACKUP_ADMIN ON *.* TO backup@localhost")
	}
	v.startLoad(t)
	return v
}

// startLoad writes until the test, or load, ends it. The server may die under it.
func (v *victim) startLoad(t *testing.T) {
	stop := make(chan struct{})
	var writers sync.WaitGroup
	for _, q := range []string{
		"INSERT INTO d.w (v) VALUES (REPEAT('w', 2000))",
		"UPDATE d.t SET v = CONCAT(SUBSTR(v, 2), 'y') WHERE id % 100 = 7 LIMIT 20",
		"INSERT INTO d.m (v) VALUES ('row')",
	} {
		writers.Go(func() {
			for {
				select {
				case <-stop:
					return
				case <-time.After(5 * time.Millisecond):
					_, _ = v.DB().ExecContext(t.Context(), q)
				}
			}
		})
	}
	v.load = sync.OnceFunc(func() { close(stop); writers.Wait() })
	t.Cleanup(v.load)
}

// restart starts the server again after it was killed.
func (v *victim) restart(t *testing.T) {
	t.Helper()
	v.load()
	v.Server = mysqldtest.StartOn(t, v.Root, v.Datadir, mysqldtest.Options{})
	v.startLoad(t)
}

// command is a backup of the victim that takes some seconds.
func (v *victim) command(t *testing.T, args ...string) *exec.Cmd {
	return hb(t, append([]string{"backup", "--no-defaults", "-u", "backup", "-S", v.Socket, "--throttle=40MiB", "--tmpdir=" + v.tmp}, args...)...)
}

// running is a backup under way.
type running struct {
	*exec.Cmd
	archive string
	stderr  bytes.Buffer
	ended   chan struct{}
}

// start starts a backup into a file.
func (v *victim) start(t *testing.T, cmd *exec.Cmd) *running {
	t.Helper()
	r := &running{Cmd: cmd, archive: filepath.Join(t.TempDir(), "archive"), ended: make(chan struct{})}
	out, err := os.Create(r.archive)
	if err != nil {
		t.Fatal(err)
	}
	defer out.Close()
	if cmd.Stdout == nil {
		cmd.Stdout = out
	}
	cmd.Stderr = &r.stderr
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go func() {
		_ = cmd.Wait() // its outcome is in ProcessState
		close(r.ended)
	}()
	return r
}

// sleep waits so long, or until the backup has ended.
func (r *running) sleep(d time.Duration) {
	select {
	case <-r.ended:
	case <-time.After(d):
	}
}

// holds waits until a backup holds what says of itself that it is locked.
func (v *victim) holds(t *testing.T, r *running, query string) {
	t.Helper()
	for v.Value(t, query) == "0" {
		select {
		case <-r.ended:
			t.Fatalf("the backup ended before it was locked: %s", r.stderr.String())
		case <-time.After(2 * time.Millisecond):
		}
	}
}

// killed is the exit code of a process that a signal ended.
const killed = -1

// end waits for the backup and checks what holds whatever went wrong: it ends
// soon, with a code that is documented, nothing is left of it, and its archive is
// complete if and only if it says so. (A process that was killed says nothing:
// it may have been about to.) It returns the exit code.
func (v *victim) end(t *testing.T, r *running, what string, codes ...int) int {
	t.Helper()
	select {
	case <-r.ended:
	case <-time.After(endsWithin):
		_ = r.Process.Signal(syscall.SIGQUIT) // shows where it hangs
		<-r.ended
		t.Fatalf("%s: the backup does not end\n%s", what, r.stderr.String())
	}
	code := r.ProcessState.ExitCode()
	if code != 0 && !slices.Contains(codes, code) {
		t.Errorf("%s: exit code %d, want one of %v: %s", what, code, codes, r.stderr.String())
	}
	if left, err := os.ReadDir(v.tmp); err != nil || len(left) != 0 {
		t.Errorf("%s: left in --tmpdir: %v, %v", what, left, err)
	}
	for _, command := range []string{"list", "extract", "verify"} {
		got := readFile(t, command, r.archive)
		if code != killed && (got == 0) != (code == 0) || got != 0 && got != 6 {
			t.Errorf("%s: backup ends with exit code %d (%s), %s of its archive with %d", what, code, r.stderr.String(), command, got)
		}
	}
	t.Logf("%s: exit code %d: %s", what, code, strings.TrimSpace(r.stderr.String()))
	return code
}

// faultSeed is where all random moments come from.
const faultSeed = 20261124

// readFile has a command read an archive, and returns its exit code.
func readFile(t *testing.T, command, archive string) int {
	t.Helper()
	args := []string{command}
	if command == "extract" {
		args = append(args, "-C", filepath.Join(disktest.Memory(t), "target"))
	}
	return hbtest.Finish(t, hb(t, append(args, archive)...)).Code
}

// free proves that the server is as if no backup had been: no session, no lock,
// and neither DDL nor commits wait.
func (v *victim) free(t *testing.T, what string) {
	t.Helper()
	const sessions = "SELECT COUNT(*) FROM information_schema.processlist WHERE user = 'backup'"
	for began := time.Now(); v.Value(t, sessions) != "0"; time.Sleep(10 * time.Millisecond) {
		if time.Since(began) > 10*time.Second {
			t.Fatalf("%s: sessions are left: %v", what, v.Rows(t, "SHOW FULL PROCESSLIST"))
		}
	}
	unlocked(t, v.Server)
	began := time.Now()
	v.Exec(t, "CREATE TABLE d.free (id INT PRIMARY KEY) ENGINE=InnoDB", "INSERT INTO d.free VALUES (1)", "DROP TABLE d.free")
	if took := time.Since(began); took > 5*time.Second {
		t.Errorf("%s: DDL and a commit took %v", what, took)
	}
	if !v.Root.MariaDB() && v.Root.AtLeast(8, 0) {
		const locks = "SELECT COUNT(*) FROM performance_schema.metadata_locks WHERE object_type IN ('BACKUP LOCK', 'GLOBAL') AND lock_duration = 'EXPLICIT'"
		if n := v.Value(t, locks); n != "0" {
			t.Errorf("%s: %s explicit locks are left", what, n)
		}
	}
}

// length is how long an undisturbed backup takes.
func (v *victim) length(t *testing.T) time.Duration {
	t.Helper()
	began := time.Now()
	if code := v.end(t, v.start(t, v.command(t)), "undisturbed"); code != 0 {
		t.Fatal("the backup fails though nothing disturbs it")
	}
	return time.Since(began)
}

// moments is how many random moments are tried.
func moments() int {
	if mysqldtest.Long() {
		return 20
	}
	return 2
}

// hit does something to a backup at a moment, and at earlier ones while the backup
// still ends with 0: then it was over, or needed nothing any more that was taken
// from it. A test that never hits says nothing.
func hit(t *testing.T, at time.Duration, try func(at time.Duration) (code int)) {
	t.Helper()
	const tries = 8
	for range tries {
		if try(at) != 0 {
			return
		}
		at /= 2
	}
	t.Errorf("the backup ended with 0, %d times, the last time after %v", tries, at)
}

// TestFaultKilledServer kills the server at random moments of a backup.
func TestFaultKilledServer(t *testing.T) {
	mysqldtest.Each(t, faultServers, func(t *testing.T, root *mysqldtest.Root) {
		v := newVictim(t, root)
		length := v.length(t)
		rng := rand.New(rand.NewPCG(faultSeed, 10))
		for i := range moments() {
			hit(t, time.Duration(rng.Int64N(int64(length))), func(at time.Duration) int {
				r := v.start(t, v.command(t))
				r.sleep(at)
				if err := v.Kill(); err != nil {
					t.Fatal(err)
				}
				// 3: it could not be reached any more.
				code := v.end(t, r, fmt.Sprintf("seed %d, %d: killed after %v of %v", faultSeed, i, at, length), 3, 5)
				v.restart(t)
				v.free(t, "killed")
				return code
			})
		}
	})
}

// TestFaultSignals interrupts backups at random moments, and some of them twice.
func TestFaultSignals(t *testing.T) {
	mysqldtest.Each(t, faultServers, func(t *testing.T, root *mysqldtest.Root) {
		v := newVictim(t, root)
		length := v.length(t)
		rng := rand.New(rand.NewPCG(faultSeed, 11))
		for i := range 2 * moments() {
			signal := []syscall.Signal{syscall.SIGINT, syscall.SIGTERM}[i%2]
			hit(t, time.Duration(rng.Int64N(int64(length))), func(at time.Duration) int {
				what := fmt.Sprintf("seed %d, %d: %v after %v of %v", faultSeed, i, signal, at, length)
				r := v.start(t, v.command(t))
				r.sleep(at)
				_ = r.Process.Signal(signal) // it may have ended
				codes := []int{130}
				if i%4 >= 2 {
					// The second ends the process at once, if it comes in time.
					what, codes = what+", twice", append(codes, killed)
					r.sleep(time.Duration(rng.IntN(20)) * time.Millisecond)
					_ = r.Process.Signal(signal)
				}
				code := v.end(t, r, what, codes...)
				v.free(t, what)
				return code
			})
		}
	})
}

// lockedQuery says whether a session of the backup holds a lock, or might.
func lockedQuery(root *mysqldtest.Root) string {
	if !root.MariaDB() && root.AtLeast(8, 0) {
		return "SELECT COUNT(*) FROM performance_schema.metadata_locks WHERE object_type = 'BACKUP LOCK' AND lock_duration = 'EXPLICIT'"
	}
	return "SELECT COUNT(*) FROM information_schema.processlist WHERE user = 'backup'"
}

// TestFaultCutConnection takes the backup's connections away while it holds its
// locks: by KILL, and by closing the socket under them.
func TestFaultCutConnection(t *testing.T) {
	mysqldtest.Each(t, faultServers, func(t *testing.T, root *mysqldtest.Root) {
		v := newVictim(t, root)
		rng := rand.New(rand.NewPCG(faultSeed, 12))
		for i := range moments() {
			r := v.start(t, v.command(t, "--lock-ddl-per-table"))
			v.holds(t, r, lockedQuery(root))
			r.sleep(time.Duration(rng.IntN(1000)) * time.Millisecond)
			for _, row := range v.Rows(t, "SELECT id FROM information_schema.processlist WHERE user = 'backup'") {
				_, _ = v.DB().ExecContext(t.Context(), "KILL "+row[0]) // it may be gone
			}
			what := fmt.Sprintf("%d: KILL", i)
			if v.end(t, r, what, 5) == 0 {
				t.Errorf("%s: the backup did not notice", what)
			}
			v.free(t, what)

			p := newProxy(t, v.Socket)
			cmd := hb(t, "backup", "--no-defaults", "-u", "backup", "-S", p.socket, "--throttle=40MiB", "--tmpdir="+v.tmp, "--lock-ddl-per-table")
			r = v.start(t, cmd)
			v.holds(t, r, lockedQuery(root))
			r.sleep(time.Duration(rng.IntN(1000)) * time.Millisecond)
			p.cut()
			what = fmt.Sprintf("%d: socket cut", i)
			if v.end(t, r, what, 3, 5) == 0 {
				t.Errorf("%s: the backup did not notice", what)
			}
			v.free(t, what)
		}
	})
}

// proxy stands between a client and a server's socket.
type proxy struct {
	socket string
	l      net.Listener
	mu     sync.Mutex
	conns  []net.Conn
}

func newProxy(t *testing.T, server string) *proxy {
	t.Helper()
	dir, err := os.MkdirTemp("", "hb")
	if err != nil {
		t.Fatal(err)
	}
	p := &proxy{socket: filepath.Join(dir, "s")}
	if p.l, err = net.Listen("unix", p.socket); err != nil {
		t.Fatal(err)
	}
	var serving sync.WaitGroup
	serving.Go(func() {
		for {
			client, err := p.l.Accept()
			if err != nil {
				return
			}
			behind, err := net.Dial("unix", server)
			if err != nil {
				client.Close()
				continue
			}
			p.mu.Lock()
			p.conns = append(p.conns, client, behind)
			p.mu.Unlock()
			for _, pair := range [][2]net.Conn{{client, behind}, {behind, client}} {
				serving.Go(func() {
					_, _ = io.Copy(pair[0], pair[1])
					pair[0].Close()
				})
			}
		}
	})
	t.Cleanup(func() { p.cut(); serving.Wait(); os.RemoveAll(dir) })
	return p
}

// cut closes everything.
func (p *proxy) cut() {
	p.l.Close()
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, c := range p.conns {
		c.Close()
	}
}

// TestFaultLockTimeout: a lock that is not granted in time.
func TestFaultLockTimeout(t *testing.T) {
	mysqldtest.Each(t, faultServers, func(t *testing.T, root *mysqldtest.Root) {
		v := newVictim(t, root)
		holder, err := v.DB().Conn(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		defer holder.Close()
		run := func(q string) {
			t.Helper()
			if _, err := holder.ExecContext(t.Context(), q); err != nil {
				t.Fatalf("%s: %v", q, err)
			}
		}
		release := "UNLOCK TABLES"
		waiting := make(chan error, 1)
		waiting <- nil
		switch {
		case root.MariaDB():
			run("BACKUP STAGE START")
			release = "BACKUP STAGE END"
		case root.AtLeast(8, 0): // DDL that waits for a reader keeps the instance from being locked
			<-waiting
			run("BEGIN")
			run("SELECT COUNT(*) FROM d.w")
			release = "COMMIT"
			go func() {
				_, err := v.DB().ExecContext(t.Context(), "ALTER TABLE d.w ADD COLUMN c INT")
				waiting <- err
			}()
			mysqldtest.Await(t, "the ALTER waits", func() bool {
				return v.Value(t, "SELECT COUNT(*) FROM performance_schema.metadata_locks WHERE object_type = 'BACKUP LOCK'") != "0"
			})
		default:
			run("LOCK TABLES d.m WRITE")
		}
		r := v.start(t, v.command(t, "--lock-wait-timeout=1"))
		if v.end(t, r, "lock not granted", 5) == 0 {
			t.Error("the backup did without its lock")
		}
		run(release)
		if err := <-waiting; err != nil {
			t.Error(err)
		}
		v.free(t, "lock not granted")
	})
}

// TestFaultLostOutput: nobody takes the archive.
func TestFaultLostOutput(t *testing.T) {
	mysqldtest.Each(t, faultServers, func(t *testing.T, root *mysqldtest.Root) {
		v := newVictim(t, root)
		// Standard output is closed.
		cmd := v.command(t)
		closed := exec.Command("sh", append([]string{"-c", `exec "$0" "$@" >&-`, built}, cmd.Args[1:]...)...)
		closed.Env = cmd.Env
		if v.end(t, v.start(t, closed), "stdout closed", 1, 2) == 0 {
			t.Error("an archive without standard output is complete")
		}
		v.free(t, "stdout closed")

		// Whoever reads is killed.
		pr, pw, err := os.Pipe()
		if err != nil {
			t.Fatal(err)
		}
		// It takes less than the archive before, so that the backup cannot have ended.
		reader := exec.Command("sh", "-c", "head -c 100000 >/dev/null; exec sleep 60")
		reader.Stdin = pr
		if err := reader.Start(); err != nil {
			t.Fatal(err)
		}
		pr.Close()
		cmd = v.command(t)
		cmd.Stdout = pw
		r := v.start(t, cmd)
		pw.Close()
		r.sleep(100 * time.Millisecond)
		if err := reader.Process.Kill(); err != nil {
			t.Fatal(err)
		}
		_ = reader.Wait() // killed
		v.end(t, r, "downstream killed", 9)
		v.free(t, "downstream killed")
	})
}

// TestFaultNobodyReads: a backup whose archive nobody takes any more ends at a
// signal, and gives its locks back.
func TestFaultNobodyReads(t *testing.T) {
	mysqldtest.Each(t, faultServers, func(t *testing.T, root *mysqldtest.Root) {
		v := newVictim(t, root)
		pr, pw, err := os.Pipe()
		if err != nil {
			t.Fatal(err)
		}
		defer pr.Close()
		for _, args := range [][]string{nil, {"--compress"}} {
			cmd := v.command(t, args...)
			cmd.Stdout = pw
			r := v.start(t, cmd)
			r.sleep(2 * time.Second) // it stands still by then
			if err := r.Process.Signal(syscall.SIGTERM); err != nil {
				t.Fatal(err)
			}
			v.end(t, r, fmt.Sprint("signal, nobody reads ", args), 130)
			v.free(t, "signal, nobody reads")
		}
		if err := pw.Close(); err != nil {
			t.Fatal(err)
		}
	})
}

// TestFaultFullSpool: the disk for what waits is full, as the archive is not taken, or as
// tables without transactions do not fit.
func TestFaultFullSpool(t *testing.T) {
	mysqldtest.Each(t, faultServers, func(t *testing.T, root *mysqldtest.Root) {
		v := newVictim(t, root, "innodb-flush-log-at-trx-commit=0")
		if err := unix.Mount("tmpfs", v.tmp, "tmpfs", 0, "size=2m"); err != nil {
			t.Skipf("%s needs to mount a small file system: %v", mysqldtest.SkipMark, err)
		}
		defer unix.Unmount(v.tmp, unix.MNT_DETACH)
		pr, pw, err := os.Pipe()
		if err != nil {
			t.Fatal(err)
		}
		defer pr.Close()
		cmd := v.command(t)
		cmd.Stdout = pw
		r := v.start(t, cmd)
		pw.Close()
		head := make([]byte, 1<<20)
		if _, err := io.ReadFull(pr, head); err != nil {
			t.Fatal(err)
		}
		// The archive's reader is as good as dead. Writers must not be kept
		// waiting by what hb holds: it has to give up, though it cannot write.
		var busy sync.WaitGroup
		busy.Go(func() {
			for {
				select {
				case <-r.ended:
					return
				default:
					_, _ = v.DB().ExecContext(t.Context(), "UPDATE d.t SET v = REVERSE(v) LIMIT 1000")
				}
			}
		})
		r.sleep(time.Minute)
		v.end(t, r, "spool full", 1)
		busy.Wait()
		if !strings.Contains(r.stderr.String(), "no space left") {
			t.Errorf("stderr: %s", r.stderr.String())
		}
		v.free(t, "spool full")

		// A backup whose archive is taken at once fails likewise, if the files that it holds
		// back until its end do not fit: it keeps 16 MiB in memory.
		v.load()
		v.Exec(t, "CREATE TABLE d.large (v TEXT) ENGINE=MyISAM", "INSERT INTO d.large SELECT REPEAT('l', 60000) FROM d.t LIMIT 340")
		r = v.start(t, v.command(t))
		r.sleep(time.Minute)
		if v.end(t, r, "stage full", 1) == 0 || !strings.Contains(r.stderr.String(), "no space left on device (give another place with --tmpdir)") {
			t.Errorf("stage full: stderr: %s", r.stderr.String())
		}
		v.free(t, "stage full")
	})
}

// TestFaultOverrun stops hb while the server goes around a small redo log. (8.0
// and later keep what a registered reader has not read.)
func TestFaultOverrun(t *testing.T) {
	mysqldtest.Each(t, []string{mysqldtest.MariaDB1011, mysqldtest.MySQL57}, func(t *testing.T, root *mysqldtest.Root) {
		v := newVictim(t, root, "innodb-flush-log-at-trx-commit=0", "innodb-log-file-size=4M")
		r := v.start(t, v.command(t))
		v.holds(t, r, "SELECT COUNT(*) FROM information_schema.processlist WHERE user = 'backup'")
		r.sleep(500 * time.Millisecond)
		if err := r.Process.Signal(syscall.SIGSTOP); err != nil {
			t.Fatal(err)
		}
		for range 12 {
			v.Exec(t, "UPDATE d.t SET v = REVERSE(v) LIMIT 1000")
		}
		if err := r.Process.Signal(syscall.SIGCONT); err != nil {
			t.Fatal(err)
		}
		if v.end(t, r, "overrun", 5) == 0 {
			t.Error("redo is missing and the backup did not notice")
		}
		if !strings.Contains(r.stderr.String(), "redo") {
			t.Errorf("stderr: %s", r.stderr.String())
		}
		v.free(t, "overrun")
	})
}

// TestFaultRemovedTablespace: the file of a table is removed under the server, before
// the backup begins or while it copies pages.
func TestFaultRemovedTablespace(t *testing.T) {
	mysqldtest.Each(t, slices.Concat(mysqldtest.MariaDB, []string{mysqldtest.MySQL57, mysqldtest.MySQL97}), func(t *testing.T, root *mysqldtest.Root) {
		v := newVictim(t, root)
		for _, when := range []string{"while it is written", "before", "during"} {
			// So that its creation is not in the redo log, which could make it again.
			name := "gone_" + when[:5]
			v.Exec(t, "CREATE TABLE d."+name+" (id INT AUTO_INCREMENT PRIMARY KEY, v TEXT) ENGINE=InnoDB", "INSERT INTO d."+name+" (v) VALUES ('row')")
			v.load()
			if err := v.Stop(); err != nil {
				t.Fatal(err)
			}
			v.restart(t)
			if v.Value(t, "SELECT v FROM d."+name) != "row" { // and the server has it open
				t.Fatal("no row")
			}
			var size int64
			gone := func() {
				file := filepath.Join(v.Datadir, "d", name+".ibd")
				st, err := os.Stat(file)
				if err := errors.Join(err, os.Remove(file)); err != nil {
					t.Fatal(err)
				}
				size = st.Size()
			}
			if when != "during" {
				gone()
			}
			r := v.start(t, v.command(t))
			v.holds(t, r, "SELECT COUNT(*) FROM information_schema.processlist WHERE user = 'backup'")
			if when == "while it is written" {
				v.Exec(t, "INSERT INTO d."+name+" (v) VALUES ('written')")
			}
			if when == "during" {
				for !strings.Contains(archived(t, r), "d/"+name+".ibd") { // as a chunk has it
					r.sleep(10 * time.Millisecond)
				}
				gone()
			}
			// The dictionary of 10.5 cannot tell it from a discarded one: there is a warning.
			warned := root.MariaDB() && !root.AtLeast(10, 6)
			switch code := v.end(t, r, "removed "+when, 1); {
			case code == 0 && warned && when != "while it is written" && strings.Contains(r.stderr.String(), "d/"+name+", has no file"):
			case code != 0 && !strings.Contains(r.stderr.String(), name):
				t.Errorf("removed %s: stderr does not name the file: %s", when, r.stderr.String())
			case code == 0 && when != "during":
				t.Errorf("removed %s: a table is missing and the backup did not notice", when)
			case code == 0 && archivedSize(t, r.archive, "d/"+name+".ibd") != size:
				// After the last look at the files there is nothing to notice: all is copied.
				t.Errorf("removed %s: the archive does not hold the table, and the backup says nothing", when)
			}
			v.free(t, "removed "+when)
			v.Exec(t, "DROP TABLE d."+name)
		}
	})
}

// TestFaultDamagedPage flips one bit of a page of a live tablespace that the server
// does not hold in memory. The backup fails and names file and page.
func TestFaultDamagedPage(t *testing.T) {
	mysqldtest.Each(t, all, func(t *testing.T, root *mysqldtest.Root) {
		s := filled(t, root, mysqldtest.Options{})
		if err := s.Stop(); err != nil {
			t.Fatal(err)
		}
		file := filepath.Join(s.Datadir, "d", "t.ibd")
		page := flipPage(t, file)
		// It would otherwise read again what it held when it was stopped.
		s = mysqldtest.StartOn(t, root, s.Datadir, mysqldtest.Options{Config: []string{"innodb-buffer-pool-load-at-startup=OFF"}})
		v := &victim{Server: s, tmp: t.TempDir()}
		v.Exec(t, "CREATE USER backup@localhost", "GRANT ALL ON *.* TO backup@localhost")
		if !root.MariaDB() && root.AtLeast(8, 0) {
			v.Exec(t, "GRANT BACKUP_ADMIN ON *.* TO backup@localhost")
		}
		r := v.start(t, v.command(t))
		if v.end(t, r, "damaged page", 1) == 0 {
			t.Error("a damaged page is in a complete archive")
		}
		if text := r.stderr.String(); !strings.Contains(text, file) || !strings.Contains(text, fmt.Sprintf("page %d", page)) {
			t.Errorf("stderr does not name %s and page %d: %s", file, page, text)
		}
		v.free(t, "damaged page")
	})
}

// archived is what a backup has written so far.
func archived(t *testing.T, r *running) string {
	t.Helper()
	b, err := os.ReadFile(r.archive)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// archivedSize is the size that an archive has of a file, -1 if it has not.
func archivedSize(t *testing.T, archive, name string) int64 {
	t.Helper()
	f, err := os.Open(archive)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	size := int64(-1)
	_, err = catalog.List(t.Context(), f, func(e catalog.Entry) error {
		if e.Path == name {
			size = e.Size
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return size
}

// flipPage flips a bit in the middle of some page in the last third of a
// tablespace, and returns its number.
func flipPage(t *testing.T, file string) innodb.PageNo {
	t.Helper()
	f, err := os.OpenFile(file, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		t.Fatal(err)
	}
	const size = 16 << 10
	page := make([]byte, size)
	for no := info.Size() / size * 2 / 3; ; no++ {
		if _, err := f.ReadAt(page, no*size); err != nil {
			t.Fatal(err)
		}
		if innodb.AllZero(page) {
			continue
		}
		page[size/2] ^= 4
		if _, err := f.WriteAt(page, no*size); err != nil {
			t.Fatal(err)
		}
		return innodb.PageNo(no)
	}
}
