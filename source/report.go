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

// LockReport is a mysqld.LockTime for programs, in milliseconds.
type LockReport struct {
	Lock   string  `json:"lock"`
	Waited float64 `json:"waited_ms"`
	Held   float64 `json:"held_ms"`
}

// LockReports are those of all locks, in the order in which they were asked for.
func (r *Result) LockReports() []LockReport {
	out := make([]LockReport, len(r.Locks))
	for i, l := range r.Locks {
		out[i] = LockReport{l.Lock, milliseconds(l.Wait), milliseconds(l.Held)}
	}
	return out
}

func milliseconds(d time.Duration) float64 {
	return float64(d.Round(time.Microsecond)) / float64(time.Millisecond)
}

// Facts are what Describe says, for programs.
func (r *Result) Facts() []slog.Attr {
	return []slog.Attr{slog.Int64("archive_bytes", r.Bytes), slog.Any("locks", r.LockReports()), slog.Any("manifest", &r.Manifest)}
}
