package redo

import (
	"context"
	"errors"
	"fmt"
	"time"

	"hb/stream/disk"
	"hb/xbstream/innodb"
	"hb/xbstream/innodb/mysqlredo"
	"hb/xbstream/innodb/mysqlredo/mlog"
	"hb/xbstream/innodb/redolog"
	"hb/xbstream/keyring"
)

// surveyPause is how long hb leaves an idle log alone before its files are looked
// through.
const surveyPause = 200 * time.Millisecond

// defaultPageSize is the servers' default.
const defaultPageSize = 16 << 10

// mysqlLog is the log of a running MySQL, and how far it was read.
type mysqlLog struct {
	files  *mysqlredo.Files
	header mysqlredo.Header
	start  mysqlredo.Checkpoint
	cutter *mysqlredo.Cutter
	most   int    // bytes of the greatest read
	buf    []byte // for it; nil: nothing was read, as of a log that is only looked at
	size   int    // of the next read
	grants mlog.Grants
	crypt  sealedLog

	touched touchedPages

	surveyed time.Time
	passed   innodb.LSN // the newest checkpoint then: the server had written all before
}

// openMySQL opens the log in dir and positions it at its newest checkpoint.
func openMySQL(system disk.System, dir string, keys *keyring.Keys) (*mysqlLog, error) {
	files, err := mysqlredo.OpenFiles(system, dir)
	if err != nil {
		return nil, err
	}
	l := &mysqlLog{files: files, most: maxRead, size: minRead, grants: mlog.Grants{PageSize: defaultPageSize}}
	if l.header, l.start, err = files.Newest(); err != nil {
		return nil, errors.Join(err, files.Close())
	}
	l.cutter = mysqlredo.NewCutter(l.header.Format, l.start.LSN)
	l.crypt.keys = keys
	if err := l.crypt.begin(l.files); err != nil {
		return nil, errors.Join(err, files.Close())
	}
	l.cutter.Ciphers = l.crypt.server
	if c := files.Capacity(); c > 0 && c < innodb.LSN(l.most) {
		l.most = int(redolog.BlockOf(c))
		l.size = min(l.size, l.most)
	}
	return l, nil
}

func (l *mysqlLog) where() string { return l.files.Dir() }

func (l *mysqlLog) format() Format { return l.header.Format }

func (l *mysqlLog) begin() innodb.LSN { return l.start.LSN }

func (l *mysqlLog) head(string) []byte {
	head := mysqlredo.BackupHead(l.header, l.start, time.Now())
	mysqlredo.SetInfo(head, l.crypt.info)
	return head
}

func (l *mysqlLog) blocks() bool { return true }

func (l *mysqlLog) peek() ([]byte, error) { return nil, nil }

func (l *mysqlLog) lastBlock(live []byte, end innodb.LSN) ([]byte, error) {
	return mysqlredo.LastSealedBlock(l.header.Format, live, end, l.crypt.archive)
}

func (l *mysqlLog) touches(p innodb.PageID) bool { return l.touched.has(p) }

func (l *mysqlLog) sealed() bool { return l.crypt.any }

func (l *mysqlLog) close() error { return l.files.Close() }

func (l *mysqlLog) newest() (innodb.LSN, error) {
	h, c, err := l.files.Newest()
	if err == nil && h.Format != l.header.Format {
		err = fmt.Errorf("the redo log, of the format of %v, was replaced by one of that of %v", l.header.Format, h.Format)
	}
	return c.LSN, err
}

// next ignores the limit: every block proves itself.
func (l *mysqlLog) next(innodb.LSN) (reading, error) {
	at := l.cutter.Position()
	got := reading{start: at}
	if l.buf == nil {
		l.buf = make([]byte, l.most)
	}
	raw := l.buf[:l.size]
	n, err := l.files.ReadAt(raw, at)
	if gone, ok := errors.AsType[*mysqlredo.GoneError](err); ok {
		return got, &OverrunError{Read: l.cutter.Seen(), Now: gone.Now}
	}
	if err != nil {
		return got, err
	}
	raw = raw[:n]
	l.cutter.Feed(raw)
	for m, ok := l.cutter.Next(); ok; m, ok = l.cutter.Next() {
		got.ends = append(got.ends, m.End)
		if got.ops, err = l.fileOps(got.ops, m); err != nil {
			return got, err
		}
	}
	stop := l.cutter.Stop()
	got.bytes, got.end, got.why = raw[:l.cutter.Position()-at], l.cutter.End(), stop
	if stop.Cause == mysqlredo.StopPartialBlock {
		got.last = raw[len(got.bytes):][:redolog.BlockSize]
	}
	if err := l.crypt.seal(got.bytes, got.last); err != nil {
		return got, err
	}
	if stop.Cause == mysqlredo.StopEncrypted || stop.Cause == mysqlredo.StopSealed {
		if got.more, err = l.crypt.look(l.files); err != nil || got.more {
			l.cutter.Ciphers = l.crypt.server
			return got, err
		}
	}
	full := stop.Cause == mysqlredo.StopShort && n == l.size
	got.more = full && (len(got.bytes) > 0 || l.size < len(l.buf))
	l.adapt(full)
	return got, l.judge(stop, len(got.bytes) == 0 && !got.more)
}

// judge decides why there was no more to read.
func (l *mysqlLog) judge(stop mysqlredo.Stop, idle bool) error {
	switch {
	case stop.Newer:
		return &OverrunError{Read: l.cutter.Seen(), Now: stop.LSN + max(l.files.Capacity(), redolog.BlockSize)}
	case stop.Fatal():
		return fmt.Errorf("%s: %w", l.files.Dir(), stop)
	case idle && l.cutter.Seen() < l.passed:
		// The server had passed this place before it was read: something must be
		// here.
		return &OverrunError{Read: l.cutter.Seen(), Now: l.passed}
	case idle && time.Since(l.surveyed) > surveyPause:
		var err error
		l.passed, err = l.newest()
		l.surveyed = time.Now()
		return err
	}
	return nil
}

// adapt chooses the size of the next read: more while there is much, little
// while the log is idle.
func (l *mysqlLog) adapt(full bool) {
	if full {
		l.size = min(2*l.size, len(l.buf))
	} else {
		l.size = min(minRead, len(l.buf))
	}
}

// tellServer reports to the server from time to time how far hb has read.
// It never keeps back the end of what there is: a server that has no room left
// waits for the last byte of a file to be read before it writes on.
func (f *Follower) tellServer(ctx context.Context) error {
	told := f.End()
	for {
		if err := f.waitFor(ctx, func() bool { return f.done || f.end > told }); err != nil {
			return err
		}
		soon, cancel := context.WithTimeoutCause(ctx, advancePause, errSoon)
		err := f.waitFor(soon, func() bool { return f.done || f.end >= told+advanceStep })
		cancel()
		if err != nil && !errors.Is(err, errSoon) {
			return err
		}
		f.mu.Lock()
		end, done := f.end, f.done
		f.mu.Unlock()
		if done {
			return nil
		}
		if err := f.advance(ctx, end); err != nil {
			return fmt.Errorf("telling the server how far the redo log was read: %w", err)
		}
		told = end
	}
}

var errSoon = errors.New("time to tell the server")
