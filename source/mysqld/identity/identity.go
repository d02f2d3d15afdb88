// Package identity proves that files on disk are those of the connected server.
package identity

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"hb/source/mysqld"
	"hb/source/mysqld/position"
	"hb/stream/disk"
	"hb/xbstream/innodb"
)

// A Proof is why hb is certain that files on disk are the server's.
type Proof struct {
	// Holder is the process that holds InnoDB's lock on the first file of
	// the system tablespace, or the server's, if it lost the lock and has the
	// file open; 0 if the kernel cannot name it (it runs in another PID
	// namespace).
	Holder int
	// Server is the process at the other end of hb's socket, 0 if unknown.
	Server int
	// ByProcess: Holder and Server are one and the same, which proves it.
	ByProcess bool
	// Checkpoint is the checkpoint that the redo log on disk and the server
	// agreed on, 0 if no reader was given.
	Checkpoint innodb.LSN
}

// A DatadirError says that the files at a path are not, or not certainly, the
// connected server's.
type DatadirError struct {
	Path   string
	Reason string
	// Unproven means that nothing speaks against it, but that the proof
	// failed.
	Unproven bool
}

func (e *DatadirError) Error() string {
	return fmt.Sprintf("%s: not the data of the connected server: %s", e.Path, e.Reason)
}

// Files are the paths to check, which need not be those that the server
// gives: hb may see its files elsewhere.
type Files struct {
	Datadir string
	// SystemFile is the first file of the system tablespace. Empty: that of
	// the server's variables, its name under Datadir if the server's is under
	// the server's datadir.
	SystemFile string
	// Checkpoint reads the newest checkpoint of the redo log on disk. It may
	// be nil; then only the process can prove anything.
	Checkpoint func() (innodb.LSN, error)
}

// Prove proves that files on disk belong to the connected server. It
// writes nothing.
//
// The proof is the process: InnoDB (10.5 to 11.8) holds an fcntl lock on its
// first system file, whose holder the kernel names, and the kernel names the
// process at the other end of a Unix socket; if they are the same, the files
// are the server's. Where one of the two is unknown (TCP, another PID
// namespace, a socket that systemd opened) the process of the server's pid file
// takes the socket's place, and the host name must be this machine's and the
// checkpoint on disk must be the one that the server reports.
//
// A server loses the lock when it opens and closes the file once more, as CLONE
// makes it do (seen on 9.7.4). Then that it has the file open takes its place.
//
// The checkpoint is compared in either case if its reader is given, which
// proves that the redo log directory too is the server's.
func Prove(ctx context.Context, srv *mysqld.Server, files Files) (Proof, error) {
	var proof Proof
	fail := func(format string, args ...any) (Proof, error) {
		return proof, &DatadirError{Path: files.Datadir, Reason: fmt.Sprintf(format, args...)}
	}
	system, err := systemFile(srv, files)
	if err != nil {
		return proof, err
	}
	proof.Server = srv.PeerProcess()
	pidFile := readPidFile(srv, files)
	holder, locked, err := lockHolder(system)
	if err == nil && !locked {
		holder, locked, err = opener(system, proof.Server, pidFile)
	}
	switch {
	case errors.Is(err, os.ErrNotExist):
		return fail("it has no %s", system)
	case err != nil:
		return proof, err
	case !locked && !srv.Vars.Bool("innodb_read_only"):
		return fail("no running server holds %s", system)
	}
	proof.Holder = holder
	proof.ByProcess = holder > 0 && holder == proof.Server
	if !proof.ByProcess && holder > 0 && pidFile > 0 && pidFile != holder {
		return fail("process %d holds %s, but the server is process %d", holder, system, pidFile)
	}
	if files.Checkpoint != nil {
		if proof.Checkpoint, err = sameCheckpoint(ctx, srv, files); err != nil {
			return proof, err
		}
	}
	if proof.ByProcess {
		return proof, nil
	}
	return proof, circumstantial(srv, files, proof, pidFile)
}

// circumstantial decides where the kernel cannot name both processes.
func circumstantial(srv *mysqld.Server, files Files, proof Proof, pidFile int) error {
	unproven := func(format string, args ...any) error {
		return &DatadirError{Path: files.Datadir, Unproven: true, Reason: fmt.Sprintf(format, args...)}
	}
	host, err := os.Hostname()
	if err != nil {
		return fmt.Errorf("this machine's host name: %w", err)
	}
	switch theirs := srv.Vars.String("hostname"); {
	case proof.Holder > 0 && proof.Server > 1 && pidFile == 0:
		// Process 1 is systemd, which may have opened the socket.
		return unproven("process %d holds its files, but the socket belongs to process %d", proof.Holder, proof.Server)
	case proof.Holder > 0 && pidFile != proof.Holder:
		return unproven("process %d holds its files, and the server's pid file does not say that this is the server; connect through its socket", proof.Holder)
	case theirs != host:
		return unproven("the server's host name is %q, hb's is %q: %s", theirs, host, otherHost(srv))
	case proof.Checkpoint == 0:
		return unproven("only its redo log could prove it; connect through its socket")
	}
	return nil
}

// otherHost is what to do where the server has another host name than hb. Through a
// socket, both are on one machine.
func otherHost(srv *mysqld.Server) string {
	const name = "with the server's host name (docker run --uts host or --hostname, hostname in a Kubernetes pod)"
	if srv.ThroughSocket() {
		return "one of them is in a container; start hb's " + name
	}
	return "connect through the socket, on the server's machine; if hb is in a container, start that " + name
}

func systemFile(srv *mysqld.Server, files Files) (string, error) {
	if files.SystemFile != "" {
		return files.SystemFile, nil
	}
	list, err := srv.Vars.SystemFiles()
	if err != nil {
		return "", err
	}
	return files.local(srv.Vars, list[0]), nil
}

// local maps a path under the server's datadir to where hb sees it.
func (f Files) local(vars mysqld.Vars, path string) string {
	rel, err := filepath.Rel(vars.Datadir(), path)
	if err != nil || !filepath.IsLocal(rel) {
		return path
	}
	return filepath.Join(f.Datadir, rel)
}

// opener returns that of some processes, 0 for none, which has a file open.
func opener(path string, pids ...int) (pid int, found bool, err error) {
	file, err := os.Stat(path)
	if err != nil {
		return 0, false, fmt.Errorf("system tablespace: %w", err)
	}
	for _, pid := range pids {
		if pid <= 0 {
			continue
		}
		dir := fmt.Sprintf("/proc/%d/fd", pid)
		open, err := os.ReadDir(dir)
		if err != nil {
			continue // gone, another's, or in another PID namespace
		}
		for _, fd := range open {
			if st, err := os.Stat(filepath.Join(dir, fd.Name())); err == nil && os.SameFile(st, file) {
				return pid, true, nil
			}
		}
	}
	return 0, false, nil
}

// maxPidFile bounds a pid file, in bytes.
const maxPidFile = 64

// pidFile reads the process id that the server wrote, 0 if it cannot be read.
func readPidFile(srv *mysqld.Server, files Files) int {
	path := srv.Vars.String("pid_file")
	if path == "" {
		return 0
	}
	f, err := disk.OS.OpenRegular(files.local(srv.Vars, srv.Vars.Path("pid_file")), true)
	if err != nil {
		return 0
	}
	defer f.Close()
	text, err := io.ReadAll(io.LimitReader(f, maxPidFile))
	if err != nil {
		return 0
	}
	pid, err := strconv.Atoi(strings.TrimSpace(string(text)))
	if err != nil || pid < 1 {
		return 0
	}
	return pid
}

// Checkpoints move while they are compared: the one on disk must lie between
// the server's before and after; hb tries again a few times.
const (
	checkpointTries = 20
	checkpointPause = 50 * time.Millisecond
)

func sameCheckpoint(ctx context.Context, srv *mysqld.Server, files Files) (innodb.LSN, error) {
	var disk, before, after innodb.LSN
	for try := range checkpointTries {
		if try > 0 {
			select {
			case <-ctx.Done():
				return 0, ctx.Err()
			case <-time.After(checkpointPause):
			}
		}
		var err error
		if before, err = position.CheckpointLSN(ctx, srv); err != nil {
			return 0, err
		}
		if disk, err = files.Checkpoint(); err != nil {
			return 0, err
		}
		if after, err = position.CheckpointLSN(ctx, srv); err != nil {
			return 0, err
		}
		if before <= disk && disk <= after {
			return disk, nil
		}
	}
	return 0, &DatadirError{Path: files.Datadir, Reason: fmt.Sprintf("its redo log's checkpoint is %v, the server's is %v to %v", disk, before, after)}
}
