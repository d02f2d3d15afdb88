package source

import (
	"fmt"
	"log/slog"
	"strings"
	"time"

	"hb/source/mysqld/locks"
	"hb/stream"
	"hb/xbstream/metadata"
)

// Result describes a backup.
type Result struct {
	Manifest metadata.Manifest
	Locks    []locks.Timing // in the order in which they were asked for
	Bytes    int64          // of the archive, before compression
}

// Describe describes the archive in a few lines, and the time and the locks that it
// took. sent is its size after the stages, in bytes.
func (r *Result) Describe(sent int64, took time.Duration) string {
	var b strings.Builder
	m := &r.Manifest
	if m.Scope != nil {
		b.WriteString("partial ")
	}
	if m.Since != nil {
		b.WriteString("incremental ")
	}
	fmt.Fprintf(&b, "backup complete: %s in %s, %s/s", stream.Size(sent), took, stream.Rate(sent, took))
	if s := m.Since; s != nil {
		fmt.Fprintf(&b, "\nchanges since LSN %d, when the backup %.12s… began: %d files of the server, %d of the base are gone", s.FromLSN, s.Base, s.Live, s.Dropped)
		if s.PageTracking {
			b.WriteString("\nhb read only the pages that the server lists as changed, and held LOCK INSTANCE FOR BACKUP meanwhile: DDL waited")
		}
	}
	fmt.Fprintf(&b, "\nredo from LSN %d to %d", m.FromLSN, m.LastLSN)
	if m.Binlog != nil {
		fmt.Fprintf(&b, "\nbinlog %s:%d %s", m.Binlog.File, m.Binlog.Pos, m.Binlog.GTID)
	}
	for _, l := range r.Locks {
		fmt.Fprintf(&b, "\n%s: waited %s, held %s", l.Lock, l.Wait.Round(time.Microsecond), l.Held.Round(time.Microsecond))
	}
	if n := len(m.Warnings); n > 0 {
		fmt.Fprintf(&b, "\nwarnings: %d, as told above; the manifest has them too", n)
	}
	return b.String()
}

// Facts are the same for programs.
func (r *Result) Facts() []slog.Attr {
	m := &r.Manifest
	facts := []slog.Attr{slog.Int64("archive_bytes", r.Bytes), slog.Uint64("from_lsn", uint64(m.FromLSN)), slog.Uint64("last_lsn", uint64(m.LastLSN))}
	if m.Binlog != nil {
		facts = append(facts, slog.Any("binlog", m.Binlog))
	}
	return append(facts, slog.Any("locks", r.Locks), slog.Any("manifest", m))
}
