package redo

import (
	"fmt"
	"runtime"
	"strings"
	"testing"

	"hb/xbstream/innodb"
)

// TestFileMemory: 100,000 files with names of 60 bytes, each told twice, take less
// than 20 MiB, and about what is counted; more than there is memory for is an error.
func TestFileMemory(t *testing.T) {
	const files = 100_000
	f := &Follower{ops: make(map[innodb.SpaceID]*FileState), opsLimit: 20 << 20}
	name := func(i int) string { return "./database/" + fmt.Sprintf("%045d.ibd", i) }
	var before, after runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&before)
	for i := range 2 * files {
		if err := f.track(fileOp{space: innodb.SpaceID(i%files + 1), name: name(i % files)}); err != nil {
			t.Fatal(err)
		}
	}
	runtime.GC()
	runtime.ReadMemStats(&after)
	took := int64(after.HeapAlloc - before.HeapAlloc)
	if took > 20<<20 || took > int64(f.opsSize)*5/4 || took < int64(f.opsSize)/2 {
		t.Errorf("%d files take %d bytes, counted as %d", files, took, f.opsSize)
	} else {
		t.Logf("%d bytes a file", took/files)
	}
	if s := f.ops[8]; s.Name() != "database/"+fmt.Sprintf("%045d.ibd", 7) {
		t.Errorf("one of them: %+v", s)
	}
	var err error
	for i := files; err == nil && i < 2*files; i++ {
		err = f.track(fileOp{space: innodb.SpaceID(i + 1), name: name(i)})
	}
	if err == nil || !strings.Contains(err.Error(), "20 MiB") {
		t.Errorf("more than the memory allows: %v", err)
	}
}
