package datadir

import (
	"maps"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"hb/stream/disk"
	"hb/xbstream/innodb"
)

// TestTruncations: each truncation is seen when it begins and when it ends.
func TestTruncations(t *testing.T) {
	dir := t.TempDir()
	w, err := WatchTruncations(disk.OS, dir)
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := w.Close(); err != nil {
			t.Error(err)
		}
	}()
	expect := func(want ...innodb.SpaceID) {
		t.Helper()
		ids, err := w.Seen()
		if err != nil {
			t.Fatal(err)
		}
		if got := slices.Sorted(maps.Keys(ids)); !slices.Equal(got, want) {
			t.Errorf("truncated: %v, want %v", got, want)
		}
	}
	expect()
	for _, name := range []string{"undo_3_trunc.log", "ib_17_40_trunc.log", "ib_logfile1", "undo_x_trunc.log", "ib_99999999999_1_trunc.log"} {
		if err := os.WriteFile(filepath.Join(dir, name), nil, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if running, err := w.running(); err != nil || !running {
		t.Errorf("running = %v, %v", running, err)
	}
	if cut, err := w.Of(3); err != nil || !cut {
		t.Errorf("of what is being truncated: %v, %v", cut, err)
	}
	expect(3, 17)
	expect()
	if err := os.Remove(filepath.Join(dir, "undo_3_trunc.log")); err != nil {
		t.Fatal(err)
	}
	if cut, err := w.Of(3); err != nil || !cut {
		t.Errorf("of what was truncated, and void: %v, %v", cut, err)
	}
	expect(3)
	if cut, err := w.Of(3); err != nil || cut {
		t.Errorf("of what was truncated before: %v, %v", cut, err)
	}
	if err := os.Remove(filepath.Join(dir, "ib_17_40_trunc.log")); err != nil {
		t.Fatal(err)
	}
	if running, err := w.running(); err != nil || running {
		t.Errorf("running = %v, %v", running, err)
	}
	expect(17)
	if err := os.RemoveAll(dir); err != nil {
		t.Fatal(err)
	}
	if _, err := w.Seen(); err == nil {
		t.Error("a watched directory that is gone is no error")
	}
}
