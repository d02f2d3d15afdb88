package infofile

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"hb/source/mysqld/locks"
	"hb/stream/disk"
	"hb/stream/disk/disktest"
	"hb/stream/leaktest"
	"hb/xbstream/metadata"
)

func TestMain(m *testing.M) { os.Exit(leaktest.Run(m)) }

// TestFile: what the file says while a backup runs, when it was complete, and when
// it failed.
func TestFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "info")
	f, err := createOn(disk.OS, path, "hb backup", "v1")
	if err != nil {
		t.Fatal(err)
	}
	if i := disktest.ReadJSON[Info](t, path); i.Version != Version || i.Status != Running || i.PID != os.Getpid() || i.ExitCode != nil || !i.End.IsZero() || i.Start.IsZero() {
		t.Errorf("it runs: %+v", i)
	}
	var wg sync.WaitGroup
	for range 10 {
		wg.Go(func() { f.Warn("look out") })
	}
	wg.Wait()
	f.Note(func(i *Info) {
		i.Locks = []locks.Timing{{Lock: "LOCK", Wait: 1500 * time.Microsecond, Held: time.Second}}
		i.Manifest = &metadata.Manifest{LastLSN: 77}
		i.Bytes = 99
	})
	if err := f.End(nil, 0, ""); err != nil {
		t.Fatal(err)
	}
	i := disktest.ReadJSON[Info](t, path)
	if i.Status != Complete || *i.ExitCode != 0 || i.Error != "" || i.Bytes != 99 || i.Manifest.LastLSN != 77 || len(i.Warnings) != 10 || i.End.IsZero() {
		t.Errorf("complete: %+v", i)
	}
	text, err := os.ReadFile(path)
	if err != nil || !strings.Contains(strings.Join(strings.Fields(string(text)), " "), `{ "lock": "LOCK", "waited_ms": 1.5, "held_ms": 1000 }`) {
		t.Errorf("%v: %s", err, text)
	}
	lost := errors.New("lost")
	if err := f.End(lost, 5, "it was lost"); !errors.Is(err, lost) {
		t.Fatal(err)
	}
	if i := disktest.ReadJSON[Info](t, path); i.Status != Failed || *i.ExitCode != 5 || i.Error != "it was lost" {
		t.Errorf("failed: %+v", i)
	}
	if left, err := os.ReadDir(filepath.Dir(path)); err != nil || len(left) != 1 {
		t.Errorf("%v, %v", left, err)
	}
}

// TestNoFile: nobody asked for one.
func TestNoFile(t *testing.T) {
	f, err := Create("", nil, "hb backup", "v1")
	if f != nil || err != nil {
		t.Fatal(f, err)
	}
	f.Warn("text")
	f.Note(func(*Info) { t.Error("noted") })
	lost := errors.New("lost")
	if first, second := f.End(nil, 0, ""), f.End(lost, 1, "why"); first != nil || !errors.Is(second, lost) {
		t.Error(first, second)
	}
}

// TestPlaces: a device stays what it is, a link leads to the file.
func TestPlaces(t *testing.T) {
	dir := t.TempDir()
	if _, err := createOn(disk.OS, "/dev/null", "hb backup", "v1"); err == nil {
		t.Error("a device was taken for a file")
	}
	if st, err := os.Stat("/dev/null"); err != nil || st.Mode()&os.ModeCharDevice == 0 {
		t.Fatal("the device is gone", err)
	}
	if _, err := createOn(disk.OS, filepath.Join(dir, "none", "info"), "hb backup", "v1"); !errors.Is(err, os.ErrNotExist) {
		t.Error(err)
	}
	if _, err := createOn(disk.OS, dir, "hb backup", "v1"); err == nil {
		t.Error("a directory was taken for a file")
	}
	target, link := filepath.Join(dir, "target"), filepath.Join(dir, "link")
	if err := errors.Join(os.WriteFile(target, nil, 0o644), os.Symlink(target, link)); err != nil {
		t.Fatal(err)
	}
	archive, err := os.Open(target)
	if err != nil {
		t.Fatal(err)
	}
	defer archive.Close()
	if _, err := Create(link, archive, "hb backup", "v1"); err == nil || !strings.Contains(err.Error(), "archive") {
		t.Errorf("over the archive: %v", err)
	}
	if _, err := createOn(disk.OS, link, "hb backup", "v1"); err != nil {
		t.Fatal(err)
	}
	if st, err := os.Lstat(link); err != nil || st.Mode()&os.ModeSymlink == 0 {
		t.Errorf("the link is gone: %v", err)
	}
	if i := disktest.ReadJSON[Info](t, target); i.Status != Running {
		t.Errorf("%+v", i)
	}
}

// TestFaults: whatever operation fails, alone or with all that follow, it is said,
// and the file has what it had before or what it should have, as a whole.
func TestFaults(t *testing.T) {
	run := func(t *testing.T, set func(*disktest.Faults)) (*disktest.Faults, string, error) {
		dir := t.TempDir()
		d := disktest.NewFaults(dir)
		set(d)
		path := filepath.Join(dir, "info")
		f, err := createOn(d, path, "hb backup", "v1")
		if err != nil {
			return d, path, err
		}
		return d, path, f.End(nil, 0, "")
	}
	d, _, err := run(t, func(*disktest.Faults) {})
	if err != nil {
		t.Fatal(err)
	}
	n := 0
	for _, op := range d.Ops() {
		for _, dead := range []bool{false, true} {
			f, path, err := run(t, func(f *disktest.Faults) { f.Fail(op, syscall.EIO, dead) })
			switch quiet := op.Kind == disktest.CloseRead || op.Kind == disktest.Stat; {
			case !f.Hit():
				t.Errorf("%v did not happen", op)
			case err == nil && (!quiet || dead):
				t.Errorf("%v failed (later ones too: %v), and nothing was said", op, dead)
			case err != nil && !errors.Is(err, syscall.EIO):
				t.Errorf("%v: %v", op, err)
			}
			if _, err := os.Stat(path); err == nil {
				disktest.ReadJSON[Info](t, path)
			}
			n++
		}
	}
	if n < 20 {
		t.Errorf("only %d faults", n)
	}
}

// TestCheck: Check refuses what Create would refuse, and makes no file.
func TestCheck(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "info")
	for _, p := range []string{"", path} {
		if err := Check(p); err != nil {
			t.Errorf("%q: %v", p, err)
		}
	}
	if _, err := os.Lstat(path); !os.IsNotExist(err) {
		t.Errorf("the file was made: %v", err)
	}
	for _, p := range []string{dir, filepath.Join(dir, "nowhere", "info"), os.DevNull} {
		if err := Check(p); err == nil {
			t.Errorf("%q passes", p)
		}
	}
}
