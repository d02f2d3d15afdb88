package disktest

import (
	"bytes"
	"maps"
	"os"
	"path/filepath"
	"strconv"
	"testing"

	"hb/stream/disk"
)

// TestPower: a seed loses the same writes each time, other seeds lose others, and
// nothing is lost that was synced.
func TestPower(t *testing.T) {
	const files, pieces, seeds = 8, 20, 12
	lose := func(seed uint64) map[string]string {
		dir := t.TempDir()
		f := NewFaults(dir)
		f.LosePower(seed)
		for i := range files {
			file, err := create(f, filepath.Join(dir, strconv.Itoa(i)))
			if err != nil {
				t.Fatal(err)
			}
			defer file.Close()
			for n := range pieces {
				if _, err := file.Write(bytes.Repeat([]byte{byte(n + 1)}, pieceSize)); err != nil {
					t.Fatal(err)
				}
				if n == 0 {
					if err := file.Sync(); err != nil {
						t.Fatal(err)
					}
				}
			}
		}
		f.power.fail()
		return ReadTree(t, dir)
	}
	seen := make(map[string]bool)
	for seed := range uint64(seeds) {
		left := lose(seed)
		if !maps.Equal(left, lose(seed)) {
			t.Errorf("seed %d loses other writes when it runs again", seed)
		}
		all := ""
		for i := range files {
			content := left[strconv.Itoa(i)]
			if len(content) < pieceSize || content[:pieceSize] != string(bytes.Repeat([]byte{1}, pieceSize)) {
				t.Errorf("seed %d: file %d lost what was synced: %d bytes are left", seed, i, len(content))
			}
			all += content
		}
		seen[all] = true
	}
	// A quarter of them lose everything.
	if len(seen) < seeds/2 {
		t.Errorf("%d seeds lose %d different sets of writes", seeds, len(seen))
	}
}

func create(f *Faults, name string) (disk.File, error) {
	d, err := f.OpenDir(filepath.Dir(name))
	if err != nil {
		return nil, err
	}
	defer d.Close()
	return d.OpenFile(filepath.Base(name), os.O_CREATE|os.O_RDWR, 0o600)
}
