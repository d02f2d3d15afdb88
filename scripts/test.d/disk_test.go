package testd

import (
	"crypto/sha256"
	"errors"
	"io/fs"
	"maps"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"hb/scripts/test.d/hbtest"
	"hb/sink/backupdir"
	"hb/source/mysqld/mysqldtest"
	"hb/source/mysqld/mysqldtest/workload"
	"hb/stream/disk/disktest"
)

// TestFaultDisk fills the disk under extract and apply, and kills apply; and both
// as one pass: with the backup of a server of each family under load.
func TestFaultDisk(t *testing.T) {
	servers := []string{mysqldtest.MariaDB1011, mysqldtest.MySQL97}
	if mysqldtest.Long() {
		servers = all
	}
	mysqldtest.Each(t, servers, func(t *testing.T, root *mysqldtest.Root) {
		archive := loadedBackup(t, root)
		dir := filepath.Join(disktest.Memory(t), "backup")
		hbtest.Succeed(t, hb(t, "extract", "-C", dir, archive))
		want := filepath.Join(disktest.Memory(t), "applied")
		mustCopy(t, want, dir)
		began := time.Now()
		hbtest.Succeed(t, hb(t, "apply", "--parallel", "2", want))
		took := time.Since(began)

		t.Run("extract on a full disk", func(t *testing.T) { extractFull(t, []string{archive}) })
		t.Run("apply on a full disk", func(t *testing.T) { applyFull(t, dir, want) })
		t.Run("apply killed", func(t *testing.T) { applyKilled(t, dir, want, took) })
		t.Run("one pass on a full disk", func(t *testing.T) { restoreFull(t, []string{archive}, want) })
		t.Run("one pass killed", func(t *testing.T) { restoreKilled(t, []string{archive}, want) })
	})
}

// loadedBackup makes an archive while a server is written to.
func loadedBackup(t *testing.T, root *mysqldtest.Root) string {
	t.Helper()
	s := mysqldtest.Start(t, root, mysqldtest.Options{})
	load, err := workload.Prepare(t.Context(), s.DB(), workload.Options{Rate: 60, MaxBlob: 30000})
	if err != nil {
		t.Fatal(err)
	}
	archive := filepath.Join(t.TempDir(), "archive")
	workload.During(t, load, func() { backupTo(t, s, archive) })
	if err := s.Kill(); err != nil {
		t.Fatal(err)
	}
	return archive
}

// backupTo makes an archive, not too fast.
func backupTo(t *testing.T, s *mysqldtest.Server, archive string, options ...string) {
	t.Helper()
	out, err := os.Create(archive)
	if err != nil {
		t.Fatal(err)
	}
	cmd := hb(t, append([]string{"backup", "--no-defaults", "-u", "root", "-S", s.Socket, "--throttle", "30M"}, options...)...)
	cmd.Stdout = out
	hbtest.Succeed(t, cmd)
	if err := out.Close(); err != nil {
		t.Fatal(err)
	}
}

// rounds is how often something is done: in the long form as often as the
// figures in README say.
func rounds(long int) int {
	if mysqldtest.Long() {
		return long
	}
	return 3
}

func mustCopy(t *testing.T, to, from string) {
	t.Helper()
	if err := errors.Join(os.RemoveAll(to), mysqldtest.CopyTree(to, from)); err != nil {
		t.Fatal(err)
	}
}

// onDisk is how many bytes a file system has in use.
func onDisk(t *testing.T, dir string) int64 {
	t.Helper()
	var st unix.Statfs_t
	if err := unix.Statfs(dir, &st); err != nil {
		t.Fatal(err)
	}
	return int64(st.Blocks-st.Bfree) * st.Bsize
}

// extractFull extracts into file systems of sizes from next to nothing to just
// too small.
func extractFull(t *testing.T, archives []string) {
	extract := func(target string) *exec.Cmd {
		return hb(t, append([]string{"extract", "-C", target}, archives...)...)
	}
	disk := mysqldtest.Tmpfs(t, 4<<30)
	hbtest.Succeed(t, extract(filepath.Join(disk, "backup")))
	most := onDisk(t, disk) - 64<<10
	n := rounds(20)
	for i := range n {
		size := 8<<10 + (most-8<<10)*int64(i)/int64(n-1)
		target := filepath.Join(mysqldtest.Tmpfs(t, size), "backup")
		r := hbtest.Finish(t, extract(target))
		if r.Code != 1 || !strings.Contains(r.Stderr, "no space left") {
			t.Errorf("extract on a disk of %d bytes of %d: exit code %d, %q", size, most+64<<10, r.Code, r.Stderr)
		}
		refused(t, target)
	}
	t.Logf("%d sizes up to %d bytes", n, most)
}

// applyFull applies on file systems with room for nothing at all to just too
// little, and then with room.
func applyFull(t *testing.T, backup, want string) {
	const most = 4 << 30
	disk := mysqldtest.Tmpfs(t, most)
	dir := filepath.Join(disk, "backup")
	mustCopy(t, dir, backup)
	used := onDisk(t, disk)
	peak := peakOf(t, disk, func() { hbtest.Succeed(t, hb(t, "apply", "--parallel", "2", "--memory", "1M", dir)) })
	n := rounds(20)
	for i := range n {
		mysqldtest.ResizeTmpfs(t, disk, most)
		mustCopy(t, dir, backup)
		// A page at least is missing.
		size := used + (peak-used-4<<10)*int64(i)/int64(n)
		mysqldtest.ResizeTmpfs(t, disk, size)
		r := hbtest.Finish(t, hb(t, "apply", "--parallel", "2", "--memory", "1M", dir))
		if r.Code != 1 || !strings.Contains(r.Stderr, "no space left") {
			t.Errorf("apply with %d bytes of %d free: exit code %d, %q", size-used, peak-used, r.Code, r.Stderr)
		}
		mysqldtest.ResizeTmpfs(t, disk, most)
		hbtest.Succeed(t, hb(t, "apply", "--parallel", "2", dir))
		same(t, dir, want)
	}
	t.Logf("%d sizes from %d to %d bytes", n, used, peak)
}

// peakOf returns the most bytes that a file system had in use while f ran.
func peakOf(t *testing.T, disk string, f func()) (peak int64) {
	t.Helper()
	done := make(chan struct{})
	go func() { defer close(done); f() }()
	for {
		peak = max(peak, onDisk(t, disk))
		select {
		case <-done:
			return peak
		case <-time.After(200 * time.Microsecond):
		}
	}
}

// killSome runs commands and kills them at random moments of the time that they take.
// After each of n that were killed, look finds what is left.
func killSome(t *testing.T, n int, took time.Duration, command func() *exec.Cmd, look func()) {
	t.Helper()
	for try, kills := 0, 0; kills < n; try++ {
		if try > 20*n {
			t.Fatalf("it was killed only %d times", kills)
		}
		cmd := command()
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		timer := time.AfterFunc(rand.N(took), func() { cmd.Process.Kill() })
		cmd.Wait() // its outcome is in ProcessState
		timer.Stop()
		if status := cmd.ProcessState.Sys().(syscall.WaitStatus); status.Signaled() {
			kills++
			look()
		} else if !cmd.ProcessState.Success() {
			t.Fatalf("%s: %v", strings.Join(cmd.Args[1:], " "), cmd.ProcessState)
		}
	}
}

// applyKilled kills apply at random moments and then lets it end.
func applyKilled(t *testing.T, backup, want string, took time.Duration) {
	dir := filepath.Join(disktest.Memory(t), "backup")
	half, n := 0, rounds(50)
	killSome(t, n, took, func() *exec.Cmd {
		mustCopy(t, dir, backup)
		return hb(t, "apply", "--parallel", "2", dir)
	}, func() {
		if st, err := os.Lstat(filepath.Join(dir, "ibdata1")); err != nil {
			t.Fatal(err)
		} else if st.Mode().Type() == fs.ModeSymlink {
			half++
		}
		hbtest.Succeed(t, hb(t, "apply", dir))
		same(t, dir, want)
	})
	t.Logf("killed %d times, %d of them half done", n, half)
}

// restoreFull extracts and applies in one pass, on file systems that are too small
// for the one or for the other.
func restoreFull(t *testing.T, archives []string, want string) {
	const most = 4 << 30
	disk := mysqldtest.Tmpfs(t, most)
	dir := filepath.Join(disk, "backup")
	hbtest.Succeed(t, hb(t, append([]string{"extract", "-C", dir}, archives...)...))
	extracted := onDisk(t, disk)
	if err := os.RemoveAll(dir); err != nil {
		t.Fatal(err)
	}
	restore := func() *exec.Cmd {
		return hb(t, append([]string{"extract", "--apply", "--parallel", "2", "--memory", "1M", "-C", dir}, archives...)...)
	}
	peak := peakOf(t, disk, func() { hbtest.Succeed(t, restore()) })
	same(t, dir, want)
	n, resumed := rounds(20), 0
	for i := range n {
		if err := os.RemoveAll(dir); err != nil {
			t.Fatal(err)
		}
		size := 8<<10 + (extracted-12<<10)*int64(i)/int64(n)
		if i%2 == 1 {
			size = extracted + (peak-extracted-4<<10)*int64(i)/int64(n)
		}
		mysqldtest.ResizeTmpfs(t, disk, size)
		if r := hbtest.Finish(t, restore()); r.Code != 1 || !strings.Contains(r.Stderr, "no space left") {
			t.Errorf("on a disk of %d bytes of %d: exit code %d, %q", size, peak, r.Code, r.Stderr)
		}
		mysqldtest.ResizeTmpfs(t, disk, most)
		if goesOn(t, dir, want) {
			resumed++
		}
	}
	t.Logf("%d sizes up to %d bytes, %d of those extracted, %d resumed", n, peak, extracted, resumed)
}

// restoreKilled kills the one pass at random moments.
func restoreKilled(t *testing.T, archives []string, want string) {
	dir := filepath.Join(disktest.Memory(t), "backup")
	restore := func() *exec.Cmd {
		return hb(t, append([]string{"extract", "--apply", "--parallel", "2", "-C", dir}, archives...)...)
	}
	began := time.Now()
	hbtest.Succeed(t, restore())
	took := time.Since(began)
	resumed, n := 0, rounds(50)
	killSome(t, n, took, func() *exec.Cmd {
		if err := os.RemoveAll(dir); err != nil {
			t.Fatal(err)
		}
		return restore()
	}, func() {
		if goesOn(t, dir, want) {
			resumed++
		}
	})
	t.Logf("killed %d times, %d of them resumed", n, resumed)
}

// goesOn reports whether apply goes on in a directory that one pass left, which
// must then end in the same bytes; else it must be refused.
func goesOn(t *testing.T, dir, want string) bool {
	t.Helper()
	marked, err := backupdir.IsMarked(dir)
	if err != nil {
		t.Fatal(err)
	}
	if files, err := os.ReadDir(dir); marked || err != nil || len(files) == 0 {
		refused(t, dir)
		return false
	}
	if r := hbtest.Finish(t, hb(t, "apply", dir)); r.Code != 0 {
		t.Errorf("apply cannot go on: exit code %d, %q", r.Code, r.Stderr)
		return true
	}
	same(t, dir, want)
	return true
}

// same compares all files of two directories.
func same(t *testing.T, got, want string) {
	t.Helper()
	a, b := contents(t, got), contents(t, want)
	for _, name := range slices.Sorted(maps.Keys(a)) {
		if a[name] != b[name] {
			t.Errorf("%s differs", name)
		}
	}
	if len(a) != len(b) {
		t.Errorf("%d files, want %d", len(a), len(b))
	}
}

// contents returns the hashes of all files in a directory.
func contents(t *testing.T, dir string) map[string][sha256.Size]byte {
	t.Helper()
	sums := make(map[string][sha256.Size]byte)
	err := fs.WalkDir(os.DirFS(dir), ".", func(name string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		b, err := os.ReadFile(filepath.Join(dir, name))
		sums[name] = sha256.Sum256(b)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return sums
}
