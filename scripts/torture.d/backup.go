package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"hb/scripts/torture.d/load"
	"hb/scripts/torture.d/load/ddl"
)

// backup is what became of hb backup.
type backup struct {
	code   int    // killed: -1
	stderr string // what it said
}

// A backup that takes longer than this hangs.
const backupTimeout = 4 * time.Minute

// passphrase is the name of the file that archives are encrypted by.
func (r *round) passphrase() string { return filepath.Join(r.dir, "passphrase") }

func (r *round) archive() string { return filepath.Join(r.dir, "archive.hb") }

// scope are the options that choose tables; none: the backup is of all.
func (p *plan) scope() []string {
	if slices.Contains(p.loads, "left out") {
		return []string{ddl.LeftOut}
	}
	return nil
}

// backUp runs hb backup into the archive, while the fault takes its course.
func (r *round) backUp(ctx context.Context) (*backup, error) {
	if r.hurt.before != nil {
		if err := r.hurt.before(ctx, r); err != nil {
			return nil, &ownError{"do the harm", err}
		}
	}
	restoreGlobals, err := r.setGlobals(ctx)
	if err != nil {
		return nil, err
	}
	args := append([]string{"backup"}, r.reach()...)
	args = append(args, "--tmpdir="+r.dir)
	for _, a := range r.plan.backup {
		args = append(args, strings.ReplaceAll(a, "@PASS@", r.passphrase()))
	}
	args = slices.Concat(args, r.scope(), r.chained(r.chain))
	cmd := exec.CommandContext(ctx, r.hb.plain, args...)
	if r.hurt.rule != nil {
		cmd.Path = r.hb.faulty
		cmd.Env = append(os.Environ(), "HB_TORTURE="+r.hurt.rule(r))
	}
	during, stop := context.WithCancel(ctx)
	defer stop()
	harm := make(chan error, 2)
	if r.hurt.during != nil {
		go func() { harm <- r.hurt.during(during, r) }()
	} else {
		harm <- nil
	}
	if r.hurt.victim {
		go func() { harm <- r.disturbVictim(during) }()
	} else {
		harm <- nil
	}
	b, err := r.pipeBackup(cmd)
	stop()
	err = errors.Join(err, restoreGlobals())
	for range cap(harm) {
		// It is told to end with the backup.
		if e := <-harm; e != nil && !errors.Is(e, context.Canceled) && !r.hurt.harmsServer {
			err = errors.Join(err, &ownError{"do the harm", e})
		}
	}
	if b != nil {
		r.note("hb backup ended with %d", b.code)
	}
	return b, err
}

// pipeBackup runs the command and lets its archive go through the pipe of the
// plan.
func (r *round) pipeBackup(cmd *exec.Cmd) (*backup, error) {
	archive, err := os.Create(r.archive())
	if err != nil {
		return nil, err
	}
	said, err := r.logFile("hb backup", cmd)
	if err != nil {
		return nil, errors.Join(err, archive.Close())
	}
	cmd.Stderr = said
	var piped chan error
	if r.pipe == "fast" {
		cmd.Stdout = archive
	} else {
		from, to, err := os.Pipe()
		if err != nil {
			return nil, err
		}
		cmd.Stdout = to
		defer to.Close()
		piped = make(chan error, 1)
		go func() { piped <- errors.Join(r.carry(archive, from), from.Close()) }()
	}
	hung := false
	if err = cmd.Start(); err == nil {
		if w, ok := cmd.Stdout.(*os.File); ok && piped != nil {
			err = w.Close()
		}
		timer := time.AfterFunc(backupTimeout, func() { hung = true; _ = cmd.Process.Signal(syscall.SIGQUIT) })
		_ = cmd.Wait() // what became of it is in ProcessState
		timer.Stop()
	}
	if piped != nil {
		err = errors.Join(err, <-piped)
	}
	err = errors.Join(err, archive.Close(), said.Close())
	if err != nil {
		return nil, err
	}
	if hung {
		return nil, fmt.Errorf("hb backup did not end within %v", backupTimeout)
	}
	text, err := os.ReadFile(said.Name())
	return &backup{cmd.ProcessState.ExitCode(), string(text)}, err
}

// carry carries the archive as a slow network would, or one that stalls.
func (r *round) carry(to io.Writer, from io.Reader) error {
	buf := make([]byte, 256<<10)
	for n, stalled := 0, false; ; {
		k, err := io.ReadFull(from, buf)
		if _, werr := to.Write(buf[:k]); werr != nil {
			return werr
		}
		n += k
		switch {
		case err == io.EOF || err == io.ErrUnexpectedEOF:
			return nil
		case err != nil:
			return err
		case r.pipe == "slow":
			time.Sleep(6 * time.Millisecond) // about 40 MB/s
		case !stalled && n > int(r.at[5]*float64(20<<20)):
			stalled = true
			time.Sleep(1500 * time.Millisecond)
		}
	}
}

// documented are the exit codes that a backup which fails may have. 2 is that of
// a wrong command line, and of a panic.
var documented = []int{1, 3, 4, 5, 9, 130}

// judgeFailure looks at a backup that failed: it must have had a reason, have
// said it, have left no lock, and no archive that anybody takes for complete.
func (r *round) judgeFailure(ctx context.Context, b *backup) error {
	killed := b.code == -1
	switch {
	case killed && r.fault == "hb killed":
	case strings.Contains(b.stderr, "panic:") || strings.Contains(b.stderr, "goroutine "):
		return fmt.Errorf("hb backup panicked:\n%s", b.stderr)
	case !slices.Contains(documented, b.code):
		return fmt.Errorf("hb backup ended with code %d:\n%s", b.code, b.stderr)
	case r.hurt.harmless:
		if why := r.excused(b); why == "" {
			return fmt.Errorf("hb backup failed without need, with code %d (%s):\n%s", b.code, b.lastLine(), b.stderr)
		}
	}
	if st, err := os.Stat(r.archive()); err != nil || st.Size() == 0 {
		return err
	}
	dir := filepath.Join(r.dir, "of a failed backup")
	code, said, err := r.command(ctx, r.hb.plain, "", "extract", "--no-defaults", "-C", dir, r.identity(), r.archive())
	if err != nil {
		return err
	}
	if code == 0 && !killed {
		return fmt.Errorf("hb backup ended with code %d, but hb extract takes its archive for complete:\n%s\n%s", b.code, b.stderr, said)
	}
	if r.hurt.harmsServer {
		return nil
	}
	return r.nothingLeft(ctx)
}

// excused says why a backup may fail though nothing hurt it.
func (r *round) excused(b *backup) string {
	if b.code == 5 && strings.Contains(b.stderr, "redo log") && (r.has("log 24M") || r.has("log 2x12M") || r.has("log 5x8M") || r.has("log 32M")) {
		return "the redo log is small"
	}
	if b.code == 1 && strings.Contains(b.stderr, "the server began to encrypt the tablespace while hb copied it") && r.has(encryptionBegins) {
		return "the server began to encrypt the system tablespace"
	}
	if b.code == 5 && strings.Contains(b.stderr, "built an index in ") && r.has("one file for all tables") {
		return "an index was built where it cannot be copied again"
	}
	return ""
}

// lastLine is what hb said last.
func (b *backup) lastLine() string {
	lines := strings.Split(strings.TrimSpace(b.stderr), "\n")
	return lines[len(lines)-1]
}

// nothingLeft demands that a failed backup's connections have gone, and with them
// its locks.
func (r *round) nothingLeft(ctx context.Context) error {
	for end := time.Now().Add(15 * time.Second); ; load.Sleep(ctx, 50*time.Millisecond) {
		left, err := load.Table(ctx, r.source.DB(), "SELECT id, command, state, info FROM information_schema.processlist WHERE user = '"+account+"'")
		if err != nil || len(left) == 0 {
			return err
		}
		if time.Now().After(end) {
			return fmt.Errorf("hb backup failed, and its connections are still there: %v", left)
		}
	}
}

// identity is the option that opens the archive.
func (r *round) identity() string { return "--passphrase-file=" + r.passphrase() }

// logFile begins the log of a command.
func (r *round) logFile(name string, cmd *exec.Cmd) (*os.File, error) {
	r.ran++
	f, err := os.Create(filepath.Join(r.dir, fmt.Sprintf("%02d %s.log", r.ran, name)))
	if err != nil {
		return nil, err
	}
	rule := ""
	for _, e := range cmd.Env {
		if strings.HasPrefix(e, "HB_TORTURE=") {
			rule = "'" + e + "' "
		}
	}
	_, err = fmt.Fprintf(f, "# %s%s\n", rule, strings.Join(cmd.Args, " "))
	return f, err
}

// command runs a program with its output in a log; rule is one for the faulty hb.
func (r *round) command(ctx context.Context, program, rule string, args ...string) (code int, said string, err error) {
	cmd := exec.CommandContext(ctx, program, args...)
	if rule != "" {
		cmd.Env = append(os.Environ(), "HB_TORTURE="+rule)
	}
	return r.runLogged(cmd, args[0])
}

func (r *round) runLogged(cmd *exec.Cmd, name string) (code int, said string, err error) {
	f, err := r.logFile(filepath.Base(cmd.Path)+" "+filepath.Base(name), cmd)
	if err != nil {
		return 0, "", err
	}
	cmd.Stdout, cmd.Stderr = f, f
	err = cmd.Run()
	var exit *exec.ExitError
	if errors.As(err, &exit) {
		err = nil
	}
	if err = errors.Join(err, f.Close()); err != nil {
		return 0, "", fmt.Errorf("%v: %w", cmd.Args, err)
	}
	text, err := os.ReadFile(f.Name())
	if strings.Contains(string(text), "panic:") {
		err = fmt.Errorf("%s panicked:\n%s", cmd.Args[0], text)
	}
	return cmd.ProcessState.ExitCode(), string(text), err
}
