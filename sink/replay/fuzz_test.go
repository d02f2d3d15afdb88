package replay

import (
	"bytes"
	"encoding/binary"
	"os"
	"path/filepath"
	"testing"

	"hb/stream/disk"
	"hb/xbstream/innodb"
)

// FuzzDoublewrite gives hostile doublewrite files to a recovery that was
// interrupted. Without a checksum that fits they change nothing; with one they
// change only the tablespace that they name.
func FuzzDoublewrite(f *testing.F) {
	id := Identity{1000, 2000}
	page := bytes.Repeat([]byte("page"), 1<<10)
	whole := DoublewriteSlot(id, 7, len(page), []innodb.PageNo{0, 1}, [][]byte{page, page})
	f.Add(whole, false)
	f.Add(DoublewriteSlot(id, 8, len(page), []innodb.PageNo{0}, [][]byte{page}), true)
	f.Add(whole[:len(whole)-1], false)
	f.Add(append(make([]byte, dwSlotSize), whole...), false)
	f.Add(DoublewriteSlot(id, 7, len(page), []innodb.PageNo{1, skipped, 0}, [][]byte{page, page, page}), false)
	f.Fuzz(func(t *testing.T, text []byte, sum bool) {
		dir := t.TempDir()
		before := make([]byte, 8192)
		for _, name := range []string{"seven.ibd", "other.ibd"} {
			if err := os.WriteFile(filepath.Join(dir, name), before, 0o600); err != nil {
				t.Fatal(err)
			}
		}
		slots := bytes.Clone(text)
		if sum && len(slots) >= dwHeader {
			copy(slots, dwMagic)
			be := binary.BigEndian
			be.PutUint64(slots[24:], uint64(id.From))
			be.PutUint64(slots[32:], uint64(id.To))
			end := dwHeader + int64(be.Uint32(slots[12:]))*(4+int64(be.Uint32(slots[16:])))
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
		n, _ := RestoreDoublewrite(root, id, func(space innodb.SpaceID) (*Tablespace, error) {
			if space != 7 {
				return nil, nil
			}
			return &Tablespace{Space: innodb.Space{ID: 7}, Files: []File{{Path: "seven.ibd"}}}, nil
		})
		after, err := os.ReadFile(filepath.Join(dir, "seven.ibd"))
		if err != nil {
			t.Fatal(err)
		}
		if n == 0 && !bytes.Equal(before, after) {
			t.Error("no page was restored, but the file changed")
		}
		if other, err := os.ReadFile(filepath.Join(dir, "other.ibd")); err != nil || !bytes.Equal(before, other) {
			t.Errorf("another file: %v", err)
		}
	})
}
