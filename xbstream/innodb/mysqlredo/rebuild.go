package mysqlredo

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"path/filepath"
	"strings"

	"hb/stream/disk"
	"hb/xbstream/innodb"
	"hb/xbstream/innodb/redolog"
)

const (
	// rebuiltCreator is the creator of logs that a server finds and recovers
	// from: those that do not begin with "MySQL " make 8.0.30 and later warn.
	rebuiltCreator = "MySQL restored by hb"

	// minRebuilt is the size of the files of a rebuilt log at least: enough for
	// what a server with many threads needs to have free.
	minRebuilt = 48 << 20
	// maxRebuilt is the size of a file in RedoDir at most: the server allows
	// 16 GiB.
	maxRebuilt = 1 << 30

	rebuildBuffer = 1 << 20
)

// Rebuild writes, from a linear log, the log files that a server of that format
// has, so that it recovers by itself. home is its innodb_log_group_home_dir, in
// most cases the data directory; it must hold no redo log. The log ends exactly
// at end, which is the end of a mini-transaction; that the log does not reach it
// is an error, and the log after it is left out. Encrypted blocks stay encrypted; c verifies
// them, and cuts the last one. Without any, it may be nil.
func Rebuild(home disk.Dir, log io.Reader, end innodb.LSN, c BlockCipher) error {
	return rebuild(home, log, end, c, maxRebuilt)
}

func rebuild(home disk.Dir, log io.Reader, end innodb.LSN, c BlockCipher, limit int64) (err error) {
	in := bufio.NewReaderSize(log, rebuildBuffer)
	begin, err := in.Peek(HeaderSize + blockSize)
	if err != nil && err != io.EOF {
		return err
	}
	l, err := ParseLinear(begin)
	if err != nil {
		return err
	}
	if err := l.Header.Flags.Check(); err != nil {
		return err
	}
	info := bytes.Clone(Info(begin))
	if _, err := in.Discard(HeaderSize); err != nil {
		return err
	}
	out, err := newRebuilt(home, l, end, limit)
	if err != nil {
		return err
	}
	out.info = info
	err = copyLog(out, in, l, redolog.Canonical(end), c)
	return errors.Join(err, out.finish())
}

// copyLog writes the blocks up to the one of end, which is cut there.
func copyLog(out *rebuilt, in io.Reader, l Linear, end innodb.LSN, c BlockCipher) error {
	if end < redolog.Canonical(l.Checkpoint.LSN) {
		return fmt.Errorf("the redo log begins at LSN %d, after the %d where it should end", l.Checkpoint.LSN, end)
	}
	b := make([]byte, blockSize)
	for at := l.Start(); at <= redolog.BlockOf(end); at += blockSize {
		if _, err := io.ReadFull(in, b); err != nil {
			return fmt.Errorf("the redo log ends before LSN %d: %w", end, err)
		}
		block := b
		var err error
		if at == redolog.BlockOf(end) {
			block, err = LastSealedBlock(l.Header.Format, b, end, c)
		} else if stop := checkSealed(l.Header.Format, b, at, c); stop.Cause != 0 {
			err = stop
		}
		if err != nil {
			return err
		}
		if err := out.write(block); err != nil {
			return err
		}
	}
	return nil
}

// checkSealed is checkBlock for a whole block that may be encrypted.
func checkSealed(f Format, b []byte, at innodb.LSN, c BlockCipher) Stop {
	if !Sealed(b) || c == nil {
		return checkBlock(f, b, at, true)
	}
	plain := make([]byte, blockSize)
	if _, ok := Unseal(plain, b, []BlockCipher{c}, 0); !ok {
		return Stop{Cause: StopSealed, LSN: at}
	}
	return checkBlock(f, plain, at, true)
}

// rebuilt is a log that is being written, file by file. All files have the same
// size.
type rebuilt struct {
	home     disk.Dir
	dir      string // that of the files, in home
	linear   Linear
	header   Header
	info     []byte // of the key that encrypts blocks, for each file; nil: there is none
	size     int64
	count    int
	made     int
	file     disk.File
	out      *bufio.Writer
	room     int64 // in the current file
	nextFile innodb.LSN
}

func newRebuilt(home disk.Dir, l Linear, end innodb.LSN, limit int64) (*rebuilt, error) {
	r := &rebuilt{home: home, dir: ".", linear: l, header: l.Header, nextFile: l.Start()}
	r.header.Creator = rebuiltCreator
	if err := noLog(home, r.dir); err != nil {
		return nil, err
	}
	need := max(int64(redolog.BlockOf(end)+blockSize-l.Start()), blockSize)
	if l.Header.Format.Ring() {
		// Twice what there is: recovery writes, and must not catch up with itself.
		r.count, r.size = 2, roundUp(max(need+HeaderSize, minRebuilt), 1<<20)
		return r, nil
	}
	r.dir = RedoDir
	r.size = min(limit, roundUp(need+need/8+HeaderSize, redoGranule))
	r.size = max(r.size, min(limit, minRebuilt))
	r.count = int((need + r.size - HeaderSize - 1) / (r.size - HeaderSize))
	if err := home.Mkdir(r.dir, 0o750); err != nil && !errors.Is(err, os.ErrExist) {
		return nil, err
	}
	return r, noLog(home, r.dir)
}

func roundUp(n, to int64) int64 { return (n + to - 1) / to * to }

// noLog returns an error if there are log files in a directory.
func noLog(home disk.Dir, dir string) error {
	entries, err := home.ReadDir(dir)
	if err != nil {
		return err
	}
	for _, e := range entries {
		if strings.HasPrefix(e.Name(), ringPrefix) || strings.HasPrefix(e.Name(), redoPrefix) {
			return fmt.Errorf("%s is in the way: move the old redo log away first", filepath.Join(home.Name(), dir, e.Name()))
		}
	}
	return nil
}

// write appends a block.
func (r *rebuilt) write(block []byte) error {
	if r.room == 0 {
		if err := r.next(); err != nil {
			return err
		}
	}
	r.room -= blockSize
	_, err := r.out.Write(block)
	return err
}

// next begins the next file with its header.
func (r *rebuilt) next() error {
	if err := r.close(); err != nil {
		return err
	}
	name := RingName(r.made)
	if !r.header.Format.Ring() {
		name = RedoName(uint64(r.made))
	}
	file, err := r.home.OpenFile(path.Join(r.dir, name), os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o640)
	if err != nil {
		return err
	}
	r.file, r.out = file, bufio.NewWriterSize(file, rebuildBuffer)
	r.room = (r.size - HeaderSize) / blockSize * blockSize
	_, err = r.out.Write(r.head())
	r.made++
	r.nextFile += innodb.LSN(r.size - HeaderSize)
	return err
}

// head is the header of the next file. Only the first one has the checkpoint.
func (r *rebuilt) head() []byte {
	h := r.header
	b := head(h, r.linear.Checkpoint)
	if r.made > 0 {
		clear(b)
	}
	h.StartLSN = r.nextFile
	h.Flags &^= FileFull
	if !h.Format.Ring() && r.made+1 < r.count {
		h.Flags |= FileFull
	}
	copy(b, h.Marshal())
	SetInfo(b, r.info)
	return b
}

// close ends the current file, which has its full size, with nothing in the
// part that was not written.
func (r *rebuilt) close() error {
	if r.file == nil {
		return nil
	}
	file := r.file
	r.file = nil
	return errors.Join(r.out.Flush(), file.Truncate(r.size), file.Sync(), file.Close())
}

// finish makes the files that were not needed, and makes all of them durable.
func (r *rebuilt) finish() error {
	for r.made < r.count {
		if err := r.next(); err != nil {
			return errors.Join(err, r.close())
		}
	}
	return errors.Join(r.close(), disk.SyncDir(r.home, r.dir), disk.SyncDir(r.home, "."))
}
