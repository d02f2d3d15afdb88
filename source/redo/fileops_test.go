package redo

import (
	"fmt"
	"reflect"
	"runtime"
	"slices"
	"strings"
	"testing"

	"hb/xbstream/innodb"
	"hb/xbstream/innodb/innodbtest"
	"hb/xbstream/innodb/redolog"
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

// TestHeldFiles: what the log does to files after it is held, and before the end that is
// chosen then, counts; what it does later does not.
func TestHeldFiles(t *testing.T) {
	f := &Follower{log: &mariadbLog{}, ops: make(map[innodb.SpaceID]*FileState), opsLimit: 20 << 20}
	if f.log.blocks() {
		t.Fatal("it is a log in blocks")
	}
	f.held, f.heldEnd = true, 100
	for i, name := range []string{"before", "at", "after"} {
		end := innodb.LSN(200 + 100*i)
		f.ends = append(f.ends, end)
		f.heldOps = append(f.heldOps, fileOp{kind: fileRenamed, space: innodb.SpaceID(i + 1), name: "./d/" + name + ".ibd", end: end})
	}
	if err := f.truncate(300); err != nil {
		t.Fatal(err)
	}
	var got []string
	for id := range innodb.SpaceID(4) {
		if s := f.ops[id]; s != nil {
			got = append(got, s.Name())
		}
	}
	if want := []string{"d/before.ibd", "d/at.ibd"}; !slices.Equal(got, want) {
		t.Errorf("known are %q, want %q", got, want)
	}
}

// TestImportedAgain: pages that change after the deletion of their tablespace are those of
// one that was imported, also if the tablespace was reported as changed before.
func TestImportedAgain(t *testing.T) {
	file := func(first byte) []byte { return innodbtest.MariaDBFile(first, 7, "./d/t.ibd") }
	create, remove, named, change := file(0x80), file(0x90), file(0xB0), innodbtest.MariaDBWrite(7, 3, 200, "text")
	for what, c := range map[string]struct {
		log  [][]byte
		want FileState
	}{
		"changed":                  {[][]byte{named, change}, FileState{Changed: true}},
		"dropped":                  {[][]byte{change, remove}, FileState{Changed: true, Deleted: true}},
		"dropped, and named":       {[][]byte{change, remove, named}, FileState{Changed: true, Deleted: true}},
		"imported":                 {[][]byte{change, remove, named, change}, FileState{Changed: true, Deleted: true, Again: true}},
		"imported, not changed":    {[][]byte{remove, named}, FileState{Deleted: true}},
		"imported, and dropped":    {[][]byte{change, remove, change, remove}, FileState{Changed: true, Deleted: true}},
		"imported twice":           {[][]byte{change, remove, change, remove, change}, FileState{Changed: true, Deleted: true, Again: true}},
		"dropped, and made again":  {[][]byte{change, remove, create, change}, FileState{Changed: true}},
		"imported, and made again": {[][]byte{remove, change, remove, create, change}, FileState{Changed: true}},
	} {
		f := &Follower{ops: make(map[innodb.SpaceID]*FileState), opsLimit: 20 << 20}
		var l mariadbLog
		for i, records := range c.log {
			ops, err := l.fileOps(nil, redolog.MTR{Records: records, Start: innodb.LSN(100 * i), End: innodb.LSN(100*i + 50)})
			if err != nil {
				t.Fatal(err)
			}
			for _, op := range ops {
				if err := f.track(op); err != nil {
					t.Fatal(err)
				}
			}
		}
		got := FileState{Changed: f.ops[7].Changed, Deleted: f.ops[7].Deleted, Again: f.ops[7].Again}
		if !reflect.DeepEqual(got, c.want) {
			t.Errorf("%s: %+v, want %+v", what, got, c.want)
		}
	}
}
