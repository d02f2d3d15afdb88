package replay

import (
	"bytes"
	"encoding/binary"
	"os"
	"path/filepath"
	"testing"

	"hb/source/innodb"
	"hb/stream/disk"
)

// FuzzDoublewrite gives hostile doublewrite files to a recovery that was
// interrupted. Without a checksum that fits they change nothing; with one they
// stay within the directory.
func FuzzDoublewrite(f *testing.F) {
	id := Identity{1000, 2000}
	page := bytes.Repeat([]byte("page"), 1<<10)
	whole := DoublewriteSlot(id, "db/t.ibd", len(page), []int64{0, 4096}, [][]byte{page, page})
	f.Add(whole, false)
	f.Add(DoublewriteSlot(id, "../outside", len(page), []int64{0}, [][]byte{page}), true)
	f.Add(whole[:len(whole)-1], false)
	f.Add(append(make([]byte, dwSlotSize), whole...), false)
	f.Add(DoublewriteSlot(id, "db/t.ibd", len(page), []int64{4096, skipped, 0}, [][]byte{page, page, page}), false)
	f.Fuzz(func(t *testing.T, text []byte, sum bool) {
		outer := t.TempDir()
		dir := filepath.Join(outer, "dir")
		for _, d := range []string{dir, filepath.Join(dir, "db")} {
			if err := os.Mkdir(d, 0o700); err != nil {
				t.Fatal(err)
			}
		}
		before := make([]byte, 8192)
		for _, name := range []string{filepath.Join(dir, "db", "t.ibd"), filepath.Join(outer, "outside")} {
			if err := os.WriteFile(name, before, 0o600); err != nil {
				t.Fatal(err)
			}
		}
		slots := bytes.Clone(text)
		if sum && len(slots) >= dwHeader {
			copy(slots, dwMagic)
			binary.BigEndian.PutUint64(slots[24:], uint64(id.From))
			binary.BigEndian.PutUint64(slots[32:], uint64(id.To))
			be := binary.BigEndian
			end := dwHeader + int64(be.Uint32(slots[20:])) + int64(be.Uint32(slots[12:]))*(8+int64(be.Uint32(slots[16:])))
			if end <= int64(min(len(slots), dwSlotSize)) {
				be.PutUint32(slots[8:], innodb.CRC32C(slots[12:end]))
			}
		}
		if err := os.WriteFile(filepath.Join(dir, DoublewriteName), slots, 0o600); err != nil {
			t.Fatal(err)
		}
		root, err := disk.OS.OpenDir(dir)
		if err != nil {
			t.Fatal(err)
		}
		defer root.Close()
		n, _ := RestoreDoublewrite(root, id)
		after, err := os.ReadFile(filepath.Join(dir, "db", "t.ibd"))
		if err != nil {
			t.Fatal(err)
		}
		if n == 0 && !bytes.Equal(before, after) {
			t.Error("no page was restored, but the file changed")
		}
		if outside, err := os.ReadFile(filepath.Join(outer, "outside")); err != nil || !bytes.Equal(before, outside) {
			t.Errorf("outside the directory: %v", err)
		}
	})
}
