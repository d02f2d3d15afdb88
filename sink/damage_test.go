package sink

import (
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"testing"

	"hb/sink/apply"
	"hb/sink/backupdir"
	"hb/sink/sinktest"
	"hb/source/mysqld/mysqldtest"
	"hb/stream/disk/disktest"
	"hb/xbstream/xbtest"
)

// damageSeed is where all random damage comes from; a failing test names it.
const damageSeed = 20261124

// tally is how many trials ended with which code.
type tally struct {
	mu    sync.Mutex
	codes map[string]map[int]int // by reader
}

// tryAll gives all damaged archives to all readers, on all processors. None may
// succeed, and a directory that it made must be marked as not a backup.
func tryAll(t *testing.T, f *sinktest.Form, all []sinktest.Damage) {
	t.Helper()
	result := &tally{codes: make(map[string]map[int]int)}
	for _, r := range sinktest.Readers {
		result.codes[r.Name] = make(map[int]int)
	}
	scratch := disktest.Memory(t)
	var next atomic.Int64
	var workers sync.WaitGroup
	for w := range runtime.GOMAXPROCS(0) {
		workers.Go(func() {
			dir := filepath.Join(scratch, fmt.Sprint(w))
			for i := int(next.Add(1)) - 1; i < len(all) && !t.Failed(); i = int(next.Add(1)) - 1 {
				archive := all[i].Archive()
				for _, r := range sinktest.Readers {
					try(t, f, result, &all[i], r, archive, dir)
				}
			}
		})
	}
	workers.Wait()
	for _, r := range sinktest.Readers {
		t.Logf("seed %d, %s, %s: %d trials, exit codes %v", damageSeed, f.Name, r.Name, len(all), result.codes[r.Name])
	}
}

func try(t *testing.T, f *sinktest.Form, result *tally, d *sinktest.Damage, r sinktest.Reader, archive []byte, dir string) {
	err := f.Read(t.Context(), r, archive, dir)
	code := sinktest.Code(err)
	result.mu.Lock()
	result.codes[r.Name][code]++
	result.mu.Unlock()
	if _, statErr := os.Stat(dir); statErr == nil {
		defer os.RemoveAll(dir)
	}
	if err == nil {
		t.Errorf("%s, %s: %s takes it for good (seed %d)", f.Name, d.What, r.Name, damageSeed)
		return
	}
	if !slices.Contains(d.Codes, code) {
		t.Errorf("%s, %s, %s: exit code %d, want one of %v (seed %d): %v", f.Name, d.What, r.Name, code, d.Codes, damageSeed, err)
	}
	if _, statErr := os.Stat(dir); statErr == nil {
		refusedByApply(t, dir)
	}
}

// refusedByApply: a directory that an extract left behind is not a backup.
func refusedByApply(t *testing.T, dir string) {
	marked, err := backupdir.IsMarked(dir)
	if err != nil || !marked {
		t.Errorf("%s is left without its mark: %v", dir, err)
	}
	if _, err := apply.Run(context.Background(), dir, apply.Options{}); !hasType[*backupdir.NotBackupError](err) {
		t.Errorf("apply of what was left: %v", err)
	}
}

// TestUndamaged: the archive that the tests below damage is a good one, in all
// its forms, and apply makes of it what the redo says.
func TestUndamaged(t *testing.T) {
	_, contents, last, err := xbtest.SampleFiles()
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range sinktest.Forms(t) {
		dir := filepath.Join(t.TempDir(), "backup")
		for _, r := range sinktest.Readers {
			if err := f.Read(t.Context(), r, f.Bytes, dir); err != nil {
				t.Fatalf("%s: %s: %v", f.Name, r.Name, err)
			}
		}
		got := disktest.ReadTree(t, dir)
		for name, want := range contents {
			if got[name] != string(want) {
				t.Errorf("%s: %s differs", f.Name, name)
			}
		}
		result, err := apply.Run(t.Context(), dir, apply.Options{Tool: "test"})
		if err != nil || result.LSN != last || result.Pages == 0 {
			t.Errorf("%s: apply: %+v, %v; want LSN %d", f.Name, result, err, last)
		}
		t.Logf("%s: %d bytes, %d parts", f.Name, len(f.Bytes), len(f.Units)-1)
	}
}

// someOf is how many random trials there are: full in the long form, a
// twentieth otherwise.
func someOf(full int) int {
	if mysqldtest.Long() {
		return full
	}
	return full / 20
}

// TestCuts cuts the archive between all of its chunks and at 1,000 random bytes.
// Each cut is an incomplete archive to every reader.
func TestCuts(t *testing.T) {
	mysqldtest.Heavy(t)
	for _, f := range sinktest.Forms(t) {
		rng := rand.New(rand.NewPCG(damageSeed, 1))
		var all []sinktest.Damage
		for _, n := range f.Units[:len(f.Units)-1] {
			all = append(all, f.Cut(n))
		}
		for range someOf(1000) {
			all = append(all, f.Cut(rng.IntN(len(f.Bytes))))
		}
		tryAll(t, f, all)
	}
}

// TestFlips flips random bits, one at a time, 10,000 in each form.
func TestFlips(t *testing.T) {
	mysqldtest.Heavy(t)
	for _, f := range sinktest.Forms(t) {
		rng := rand.New(rand.NewPCG(damageSeed, 2))
		var all []sinktest.Damage
		for range someOf(10_000) {
			all = append(all, f.Flip(rng.IntN(8*len(f.Bytes))))
		}
		tryAll(t, f, all)
	}
}

// TestMovedChunks swaps, doubles and drops chunks of the archive, and in its
// other forms the blocks and sealed parts around them, 1,000 times in each.
func TestMovedChunks(t *testing.T) {
	mysqldtest.Heavy(t)
	for _, f := range sinktest.Forms(t) {
		rng := rand.New(rand.NewPCG(damageSeed, 3))
		var all []sinktest.Damage
		for range someOf(1000) {
			all = append(all, f.Move(rng))
		}
		tryAll(t, f, all)
	}
}
