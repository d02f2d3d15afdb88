package apply

import (
	"bytes"
	"context"
	"errors"
	"hash/crc32"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"hb/stream/disk/disktest"
)

// TestGrowing: a file that is written is read as far as that is, holes too, and
// nobody waits longer than for what is there or for the end.
func TestGrowing(t *testing.T) {
	dir := t.TempDir()
	content := []byte(strings.Repeat("0123456789", 1000))
	clear(content[3000:7000])
	f, err := os.Create(filepath.Join(dir, "log"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	ctx, cancel := context.WithCancel(t.Context())
	g := &growing{ctx: ctx, root: disktest.Open(t, dir), name: "log", more: make(chan struct{}, 1)}
	go func() {
		for at := 0; at < len(content); at += 500 {
			if at < 3000 || at >= 7000 {
				f.WriteAt(content[at:at+500], int64(at))
				g.reach(int64(at+500), false)
			}
			time.Sleep(time.Millisecond)
		}
		g.reach(int64(len(content)), true)
	}()
	var got []byte
	for {
		p := make([]byte, 700)
		n, err := g.Read(p)
		got = append(got, p[:n]...)
		if err == io.EOF {
			break
		}
		if err != nil || n < len(p) && len(got) < len(content) {
			t.Fatalf("%d bytes at %d: %v", n, len(got), err)
		}
	}
	if !bytes.Equal(got, content) {
		t.Errorf("%d bytes of checksum %x, want %d", len(got), crc32.ChecksumIEEE(got), len(content))
	}
	waiting := &growing{ctx: ctx, root: g.root, name: "log", more: make(chan struct{}, 1)}
	waiting.reach(100, false)
	time.AfterFunc(10*time.Millisecond, cancel)
	if _, err := waiting.Read(make([]byte, 101)); !errors.Is(err, context.Canceled) {
		t.Errorf("nobody writes: %v", err)
	}
	if err := errors.Join(g.Close(), waiting.Close()); err != nil {
		t.Error(err)
	}
}
