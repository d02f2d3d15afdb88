package source

import (
	"fmt"
	"log/slog"
	"strings"
	"time"
)

// Describe says in a few lines what the archive holds and what making it took.
func (r *Result) Describe() string {
	var b strings.Builder
	m := &r.Manifest
	fmt.Fprintf(&b, "redo from LSN %d to %d", m.FromLSN, m.LastLSN)
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

// Facts are what Describe says, for programs.
func (r *Result) Facts() []slog.Attr {
	return []slog.Attr{slog.Int64("archive_bytes", r.Bytes), slog.Any("locks", r.Locks), slog.Any("manifest", &r.Manifest)}
}
