package sink_test

import (
	"bytes"
	"context"
	"fmt"
	"log"
	"os"
	"path/filepath"

	"hb/sink"
	"hb/sink/apply"
	"hb/sink/extract"
	"hb/xbstream/xbtest"
)

// A small archive becomes a directory that a server starts on, in one pass.
func ExampleRestore() {
	archive, err := xbtest.Sample()
	if err != nil {
		log.Fatal(err)
	}
	parent, err := os.MkdirTemp("", "")
	if err != nil {
		log.Fatal(err)
	}
	defer os.RemoveAll(parent)
	dir := filepath.Join(parent, "restored")
	extracted, applied, err := sink.Restore(context.Background(), bytes.NewReader(archive), dir, extract.Options{}, apply.Options{})
	if err != nil {
		log.Fatal(err)
	}
	fmt.Printf("%d files, recovered from LSN %d to %d, %d pages written\n", extracted.Files, applied.FromLSN, applied.LSN, applied.Pages)
	// Output: 14 files, recovered from LSN 50000 to 56018, 4 pages written
}
