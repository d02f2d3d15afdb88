package sink

import (
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"

	"hb/sink/replay"
	"hb/source/innodb"
	"hb/source/innodb/mlog"
	"hb/source/innodb/redolog"
	"hb/stream/disk"
	"hb/xbstream/metadata"
)

// ApplyingName is a file that is in a directory while Apply works on it, and
// that says how far it is.
const ApplyingName = "hb-applying"

// state is the content of that file.
type state struct {
	Stage string `json:"stage"` // one of the following, or "": not begun
	// The rest is what the later stages need: where the redo log begins, the LSN
	// of the directory, and the format of its redo log.
	From   innodb.LSN `json:"from,omitempty"`
	End    innodb.LSN `json:"end,omitempty"`
	Format uint32     `json:"format,omitempty"`
}

const (
	stageReplay = "replay" // pages are being recovered
	stageFinish = "finish" // all pages are recovered and on disk
	stageServer = "server" // the redo log is being made one that a server finds
)

// HandedOverName is a file that Apply leaves in a directory that it made ready
// for recovery by the server: a state, of stageServer.
const HandedOverName = "hb-by-server"

// formats says which redo formats there are in a family.
var formats = map[string]func(uint32) bool{
	metadata.FlavorMariaDB: func(f uint32) bool {
		return f == uint32(redolog.MariaDB105) || f == uint32(redolog.MariaDB108)
	},
	metadata.FlavorMySQL: func(f uint32) bool { return f <= uint32(mlog.LastFormat) },
}

// maxState bounds the file's size in bytes.
const maxState = 4 << 10

func readState(root disk.Dir, name, flavor string) (state, error) {
	var s state
	text, err := root.ReadFile(name)
	if errors.Is(err, fs.ErrNotExist) {
		return s, nil
	}
	if err == nil && len(text) > maxState {
		err = fmt.Errorf("%d bytes", len(text))
	}
	if err == nil {
		err = json.Unmarshal(text, &s)
	}
	if err == nil && s.Stage != stageReplay && s.Stage != stageServer &&
		(s.Stage != stageFinish || !formats[flavor](s.Format)) {
		err = fmt.Errorf("unknown stage %q", s.Stage)
	}
	if err != nil {
		return s, fmt.Errorf("reading %s: %w", name, err)
	}
	return s, nil
}

// enter begins a stage of the work: from the first one on no server starts.
func (a *applier) enter(s state) error {
	if err := writeState(a.root, ApplyingName, s); err != nil {
		return err
	}
	return a.backup.hold(a.root)
}

func writeState(root disk.Dir, name string, s state) error {
	text, err := json.Marshal(s)
	if err != nil {
		return fmt.Errorf("writing %s: %w", name, err)
	}
	return replaceFile(root, name, append(text, '\n'), nil)
}

// extTemporary ends the names of files that are to take another one's place.
const extTemporary = ".hb-tmp"

// replaceFile gives a file new content, all or nothing, with the owner and mode
// of the file given.
func replaceFile(root disk.Dir, name string, content []byte, like fs.FileInfo) error {
	temporary := name + extTemporary
	mode := fs.FileMode(0o640)
	var own func(disk.File) error
	if like != nil {
		mode = like.Mode().Perm()
		own = func(f disk.File) error { return sameOwner(f, like) }
	}
	if err := disk.Replace(root, name, temporary, mode, content, own); err != nil {
		return fmt.Errorf("writing %s: %w", name, err)
	}
	return nil
}

// finish makes the directory one that a server starts on. Every step can be
// repeated.
func (a *applier) finish(s state) error {
	a.Progress.Begin("finishing", 0)
	if err := a.enter(s); err != nil {
		return err
	}
	if err := a.family.finish(s); err != nil {
		return err
	}
	return a.clean()
}

// clean ends the work on the directory.
func (a *applier) clean() error {
	if err := syncIn(a.root, "."); err != nil {
		return err
	}
	for _, name := range []string{replay.DoublewriteName, replay.SpillName, ApplyingName} {
		if err := a.root.Remove(name); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("removing %s: %w", name, err)
		}
	}
	if err := syncIn(a.root, "."); err != nil {
		return err
	}
	return a.backup.release(a.root)
}

// writeCheckpoints gives the backup another type.
func (a *applier) writeCheckpoints(backupType string) error {
	c := *a.backup.checkpoints
	c.BackupType = backupType
	text, err := c.Marshal()
	if err != nil {
		return err
	}
	st, err := a.root.Stat(a.backup.checkpointsName)
	if err != nil {
		return fmt.Errorf("looking at %s: %w", a.backup.checkpointsName, err)
	}
	return replaceFile(a.root, a.backup.checkpointsName, text, st)
}

// stampFlushLSN writes the LSN at which a server begins a new redo log, if it
// finds none, to the first page of a file of the system tablespace. Should this
// page have been torn by an interrupted run, the fields that both forms differ
// in are exactly those that are written now.
func (a *applier) stampFlushLSN(name string, lsn innodb.LSN) (err error) {
	fail := func(err error) error { return fmt.Errorf("writing the LSN to the first page of %s: %w", name, err) }
	space, err := readSpace(a.root, a.backup.systemFiles[0])
	if err != nil {
		return fail(err)
	}
	f, err := a.root.OpenFile(name, os.O_RDWR, 0)
	if err != nil {
		return fail(err)
	}
	page := make([]byte, space.Physical)
	_, err = f.ReadAt(page, 0)
	if err == nil {
		// In formats older than full_crc32 the checksum leaves the field out.
		binary.BigEndian.PutUint64(page[innodb.OffsetFlushLSN:], uint64(lsn))
		if space.FullCRC32 {
			space.Stamp(page, innodb.ChecksumFullCRC32)
		}
		_, err = f.WriteAt(page, 0)
	}
	if err == nil {
		err = f.Sync()
	}
	if err = errors.Join(err, f.Close()); err != nil {
		return fail(err)
	}
	return nil
}

// checkFlushLSN makes sure that the server will begin its redo log at the LSN
// given, in one form or another: see stampFlushLSN.
func (a *applier) checkFlushLSN(want ...innodb.LSN) error {
	name := a.backup.systemFiles[0]
	space, err := readSpace(a.root, name)
	if err != nil {
		return fmt.Errorf("page 0 of %s: %w", name, err)
	}
	page, err := readPage(a.root, name, &space, 0)
	if err != nil {
		return err
	}
	if got := innodb.LSN(binary.BigEndian.Uint64(page[innodb.OffsetFlushLSN:])); !slices.Contains(want, got) {
		return &DamageError{name, fmt.Errorf("page 0 says that the directory is of LSN %d, not %d: a server has run on it, or it is not what hb apply left", got, want[0])}
	}
	return nil
}

// syncTree syncs the directory and those of the databases: names in them may
// have changed.
func syncTree(root disk.Dir) error {
	top, err := root.ReadDir(".")
	if err != nil {
		return fmt.Errorf("listing the backup directory: %w", err)
	}
	for _, d := range top {
		if d.IsDir() {
			if err := syncIn(root, d.Name()); err != nil {
				return err
			}
		}
	}
	return syncIn(root, ".")
}

func syncIn(root disk.Dir, name string) error {
	if err := disk.SyncDir(root, name); err != nil {
		return fmt.Errorf("syncing directory %s: %w", name, err)
	}
	return nil
}
