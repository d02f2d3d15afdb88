package disk

import (
	"os"
	"os/exec"
	"path/filepath"
	"testing"
)

// TestUnlock: a lock ends with Unlock, although another process has the open file,
// as each has that is being started at the moment.
func TestUnlock(t *testing.T) {
	path := filepath.Join(t.TempDir(), "f")
	open := func() file {
		f, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR, 0o600)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { f.Close() })
		return file{f}
	}
	locked := open()
	if err := locked.Lock(); err != nil {
		t.Fatal(err)
	}
	if err := open().Lock(); err != ErrLocked {
		t.Fatalf("a second lock: %v", err)
	}
	child := exec.Command("cat") // until its standard input ends
	end, err := child.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	child.ExtraFiles = []*os.File{locked.File}
	if err := child.Start(); err != nil {
		t.Fatal(err)
	}
	if err := locked.Unlock(); err != nil {
		t.Error(err)
	}
	if err := locked.Close(); err != nil {
		t.Error(err)
	}
	if err := open().Lock(); err != nil {
		t.Errorf("after Unlock: %v", err)
	}
	if err := end.Close(); err != nil {
		t.Error(err)
	}
	if err := child.Wait(); err != nil {
		t.Error(err)
	}
}
