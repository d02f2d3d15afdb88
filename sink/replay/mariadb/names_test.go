package mariadb

import (
	"bytes"
	"fmt"
	"io"
	"runtime"
	"strings"
	"testing"

	"hb/sink/replay"
	"hb/stream/disk"
	"hb/xbstream/innodb"
	"hb/xbstream/innodb/innodbtest"
	"hb/xbstream/innodb/mariadbredo"
)

// namingLog is a log that names so many files, each with 60 bytes, twice.
func namingLog(files int) (log []byte, end innodb.LSN) {
	const start = 1 << 20
	made := innodbtest.Log{Form: innodbtest.MariaDB108, Start: start}
	for i := range 2 * files {
		id := uint32(i%files) + 0x204080 // four bytes in the log
		made.MTR(innodbtest.MariaDBFile(byte(mariadbredo.FileModify)<<4, id, fmt.Sprintf("./database/%045d.ibd", i%files)))
	}
	head := mariadbredo.BackupHead(mariadbredo.Format108, mariadbredo.Checkpoint{LSN: start, End: start}, "test")
	return append(head, made.Bytes()...), made.End()
}

func scanNames(t *testing.T, files int, memory int64) (*replay.Scanned, error) {
	t.Helper()
	raw, end := namingLog(files)
	log, err := ReadLog(io.NopCloser(bytes.NewReader(raw)), nil)
	if err != nil {
		t.Fatal(err)
	}
	root, err := disk.OS.OpenDir(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	defer root.Close()
	plan := replay.NewPlan(root, memory)
	defer plan.Close()
	return log.Scan(plan, replay.Goal{Target: end, Exact: true})
}

// TestNamesMemory: the names of 100,000 files take less than 20 MiB, and of more
// files than there is memory for, an error says so.
func TestNamesMemory(t *testing.T) {
	const files = 100_000
	var before, after runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&before)
	got, err := scanNames(t, files, 1<<20)
	if err != nil {
		t.Fatal(err)
	}
	runtime.GC()
	runtime.ReadMemStats(&after)
	if took := int64(after.HeapAlloc - before.HeapAlloc); took > 20<<20 {
		t.Errorf("the names take %d bytes", took)
	} else {
		t.Logf("%d bytes a file", took/files)
	}
	h := got.Named[0x204080+7]
	if len(got.Named) != files || h.First != "./database/"+fmt.Sprintf("%045d.ibd", 7) || h.Name != h.First {
		t.Errorf("%d files, one of them %+v", len(got.Named), h)
	}
	if _, err := scanNames(t, 2*files, 1<<20); err == nil || !strings.Contains(err.Error(), "--memory") {
		t.Errorf("more than the memory allows: %v", err)
	}
	if got, err := scanNames(t, 2*files, 64<<20); err != nil || len(got.Named) != 2*files {
		t.Errorf("with more memory: %v", err)
	}
}
