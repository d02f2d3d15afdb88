package disk_test

import (
	"os"
	"path/filepath"
	"testing"

	"hb/stream/disk"
	"hb/stream/disk/disktest"
)

// TestReplacePlanted: what somebody put where the temporary file will be is not
// written to.
func TestReplacePlanted(t *testing.T) {
	dir := t.TempDir()
	victim := filepath.Join(dir, "victim")
	if err := os.WriteFile(victim, []byte("kept"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink("victim", filepath.Join(dir, ".tmp")); err != nil {
		t.Fatal(err)
	}
	d := disktest.Open(t, dir)
	for _, text := range []string{"first", "second"} {
		if err := disk.Replace(d, "file", ".tmp", 0o600, []byte(text), nil); err != nil {
			t.Fatal(err)
		}
		if got, err := os.ReadFile(filepath.Join(dir, "file")); err != nil || string(got) != text {
			t.Errorf("%q, %v", got, err)
		}
	}
	if got, err := os.ReadFile(victim); err != nil || string(got) != "kept" {
		t.Errorf("the file that a link led to has %q, %v", got, err)
	}
}
