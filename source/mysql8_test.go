package source

import (
	"strings"
	"testing"
	"time"

	"hb/xbstream/metadata"
)

// TestCheckpointWait: DDL waits for no longer than reading all pages takes, at 1 GiB a
// second, but for the seconds in which a server makes two checkpoints at all.
func TestCheckpointWait(t *testing.T) {
	for bytes, want := range map[int64]time.Duration{
		0: 5 * time.Second, 5 << 30: 5 * time.Second, 20 << 30: 20 * time.Second, 60 << 30: time.Minute, 1 << 45: time.Minute,
	} {
		if got := checkpointWait(bytes); got != want {
			t.Errorf("%d bytes: %v, want %v", bytes, got, want)
		}
	}
}

// TestDescribeTracked: an increment for which DDL waited, whatever --lock-ddl says, tells so.
func TestDescribeTracked(t *testing.T) {
	for _, tracked := range []bool{false, true} {
		r := Result{Manifest: metadata.Manifest{Since: &metadata.Since{PageTracking: tracked}}}
		if text := r.Describe(1, time.Second); strings.Contains(text, "DDL waited") != tracked {
			t.Errorf("of tracked pages: %v: %q", tracked, text)
		}
	}
}
