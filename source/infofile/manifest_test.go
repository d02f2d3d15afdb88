package infofile

import (
	"errors"
	"os"
	"path/filepath"
	"syscall"
	"testing"

	"hb/stream/disk"
	"hb/stream/disk/disktest"
)

// TestManifest: the file is there when the backup is complete, and until then, or if it
// fails, what was there before.
func TestManifest(t *testing.T) {
	path := filepath.Join(t.TempDir(), "manifest")
	is := func(want string) {
		t.Helper()
		text, err := os.ReadFile(path)
		if err != nil && want != "" || string(text) != want {
			t.Errorf("it has %q, %v, want %q", text, err, want)
		}
		if left, err := os.ReadDir(filepath.Dir(path)); err != nil || len(left) > 1 {
			t.Errorf("%v, %v", left, err)
		}
	}
	lost := errors.New("lost")
	for _, round := range []struct {
		text, before, after string
		err                 error
	}{{"one", "", "", lost}, {"two", "", "two", nil}, {"three", "two", "two", lost}, {"four", "two", "four", nil}} {
		m, err := createManifest(disk.OS, path)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := m.Write([]byte(round.text)); err != nil {
			t.Fatal(err)
		}
		if text, _ := os.ReadFile(path); string(text) != round.before {
			t.Errorf("during the backup it has %q, want %q", text, round.before)
		}
		if err := m.End(round.err); !errors.Is(err, round.err) || err != nil && round.err == nil {
			t.Error(err)
		}
		is(round.after)
	}
	var none *Manifest
	if err := none.End(lost); !errors.Is(err, lost) {
		t.Error(err)
	}
	if m, err := CreateManifest("", nil); m != nil || err != nil {
		t.Error(m, err)
	}
}

// TestManifestFaults: whatever operation fails, hb says so, and the file is the old one or
// the new one.
func TestManifestFaults(t *testing.T) {
	run := func(t *testing.T, set func(*disktest.Faults)) (*disktest.Faults, string, error) {
		dir := t.TempDir()
		path := filepath.Join(dir, "manifest")
		if err := os.WriteFile(path, []byte("old"), 0o644); err != nil {
			t.Fatal(err)
		}
		d := disktest.NewFaults(dir)
		set(d)
		m, err := createManifest(d, path)
		if err != nil {
			return d, path, err
		}
		_, err = m.Write([]byte("new"))
		return d, path, m.End(err)
	}
	d, _, err := run(t, func(*disktest.Faults) {})
	if err != nil {
		t.Fatal(err)
	}
	n := 0
	for _, op := range d.Ops() {
		for _, dead := range []bool{false, true} {
			f, path, err := run(t, func(f *disktest.Faults) { f.Fail(op, syscall.EIO, dead) })
			switch {
			case !f.Hit():
				t.Errorf("%v did not happen", op)
			case err == nil && op.Kind != disktest.CloseRead || err != nil && !errors.Is(err, syscall.EIO):
				t.Errorf("%v failed (later ones too: %v): %v", op, dead, err)
			}
			if text, err2 := os.ReadFile(path); err2 != nil || string(text) != "new" && (err == nil || string(text) != "old") {
				t.Errorf("%v failed: %q, %v; hb said %v", op, text, err2, err)
			}
			n++
		}
	}
	if n < 10 {
		t.Errorf("only %d faults", n)
	}
}
