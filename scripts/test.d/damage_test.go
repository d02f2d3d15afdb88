package testd

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"hb/scripts/test.d/hbtest"
	"hb/sink/sinktest"
)

// TestDamageOutside: the program itself ends as its readers do, through files
// and pipes.
func TestDamageOutside(t *testing.T) {
	dir := t.TempDir()
	all := sinktest.Forms(t)
	key := filepath.Join(dir, "key")
	if err := os.WriteFile(key, []byte(fmt.Sprint(all[0].Options.Identities[0])), 0o600); err != nil {
		t.Fatal(err)
	}
	rng := rand.New(rand.NewPCG(20261124, 4))
	for _, f := range all {
		whole := filepath.Join(dir, f.Name+" whole")
		if err := os.WriteFile(whole, f.Bytes, 0o600); err != nil {
			t.Fatal(err)
		}
		hbtest.Succeed(t, hb(t, "verify", "-i", key, whole))
		cut := f.Cut(f.Units[1+rng.IntN(len(f.Units)-2)])
		flipped := f.Flip(8 * (len(f.Bytes)/2 + rng.IntN(100)))
		for i, d := range []sinktest.Damage{cut, flipped, f.Move(rng)} {
			outside(t, f, d, key, filepath.Join(dir, f.Name, fmt.Sprint(i)))
		}
	}
}

// outside gives a damaged archive to hb, in dir, which does not exist.
func outside(t *testing.T, f *sinktest.Form, d sinktest.Damage, key, dir string) {
	t.Helper()
	if err := os.MkdirAll(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	archive, file := d.Archive(), filepath.Join(dir, "archive")
	if err := os.WriteFile(file, archive, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, r := range sinktest.Readers {
		target := filepath.Join(dir, r.Name)
		want := sinktest.Code(f.Read(t.Context(), r, archive, target+"-inside"))
		args := append([]string{r.Name, "-i", key}, r.Args(target)...)
		got := hbtest.Finish(t, hb(t, append(args, file)...))
		if r.Name == "list" && got.Code == 0 && len(archive) == len(f.Bytes) && strings.Contains(got.Stderr, "without reading the files") {
			continue // it says that it proves no more than that nothing is missing
		}
		if got.Code != want || want == 0 {
			t.Errorf("%s, %s: %s of the file ends with exit code %d, want %d: %s", f.Name, d.What, r.Name, got.Code, want, got.Stderr)
		}
		cmd := hb(t, append([]string{r.Name, "-i", key}, r.Args(target+"-pipe")...)...)
		cmd.Stdin = bytes.NewReader(archive)
		if got := hbtest.Finish(t, cmd); got.Code != want {
			t.Errorf("%s, %s: %s of a pipe ends with exit code %d, want %d: %s", f.Name, d.What, r.Name, got.Code, want, got.Stderr)
		}
	}
	refused(t, filepath.Join(dir, "extract"))
}
