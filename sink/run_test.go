package sink

import (
	"bytes"
	"path/filepath"
	"runtime"
	"runtime/debug"
	"testing"

	"hb/sink/apply"
	"hb/xbstream/xbtest"
)

// TestRun: one way to extract, with recovery and without, which leaves the process's
// settings as they were.
func TestRun(t *testing.T) {
	archive, err := xbtest.Sample()
	if err != nil {
		t.Fatal(err)
	}
	_, _, last, err := xbtest.SampleFiles()
	if err != nil {
		t.Fatal(err)
	}
	processors, limit := runtime.GOMAXPROCS(0), debug.SetMemoryLimit(-1)
	parent := t.TempDir()
	one, two := filepath.Join(parent, "one"), filepath.Join(parent, "two")
	extracted, applied, err := Run(t.Context(), bytes.NewReader(archive), Options{Directory: one})
	if err != nil || extracted.Files == 0 || applied != nil {
		t.Fatalf("extracted: %+v, applied: %+v, %v", extracted, applied, err)
	}
	want, err := apply.Run(t.Context(), one, apply.Options{Tool: "hb test"})
	if err != nil || want.LSN != last {
		t.Fatalf("%+v, %v; want LSN %d", want, err, last)
	}
	_, applied, err = Run(t.Context(), bytes.NewReader(archive), Options{Directory: two, Apply: true, Tool: "hb test"})
	if err != nil || applied.LSN != want.LSN || !applied.ReadAhead {
		t.Errorf("applied: %+v, %v; want LSN %d", applied, err, want.LSN)
	}
	if p, l := runtime.GOMAXPROCS(0), debug.SetMemoryLimit(-1); p != processors || l != limit {
		t.Errorf("GOMAXPROCS is %d and was %d, the memory limit is %d and was %d", p, processors, l, limit)
	}
}
