package merge_test

import (
	"bytes"
	"maps"
	"os"
	"slices"
	"testing"

	"hb/sink/catalog"
	"hb/xbstream/metadata"
	"hb/xbstream/xbtest"
)

// TestMerge: what a chain of any length makes is what the server had at the last backup,
// and a full backup.
func TestMerge(t *testing.T) {
	for seed := range uint64(60) {
		m := newModel(seed)
		states := []*state{m.full(t)}
		for range 1 + seed%5 {
			for range m.rng.IntN(12) {
				m.change()
			}
			states = append(states, m.increment(t, states[len(states)-1], nil))
		}
		for _, stdin := range []bool{false, true} {
			names := save(t, states...)
			if stdin {
				names[0] = withoutIndex(t, names[0])
			}
			var out bytes.Buffer
			result, err := mergeFiles(t.Context(), names, &out)
			if err != nil {
				t.Fatalf("seed %d: %v", seed, err)
			}
			checkMerged(t, seed, states, out.Bytes())
			tracked := 0
			for _, s := range states[1:] {
				if s.tracked {
					tracked++
				}
			}
			if len(result.Warnings) != tracked {
				t.Errorf("seed %d: %d increments without sums, warnings %q", seed, tracked, result.Warnings)
			}
			if result.Bytes != int64(out.Len()) || result.Steps != len(states)-1 {
				t.Errorf("seed %d: %+v", seed, result)
			}
			// An increment builds on what was merged, too.
			if n := len(states); n > 2 && !stdin {
				var half, again bytes.Buffer
				if _, err := mergeFiles(t.Context(), names[:n-1], &half); err != nil {
					t.Fatalf("seed %d: %v", seed, err)
				}
				two := save(t, &state{archive: half.Bytes()}, states[n-1])
				if _, err := mergeFiles(t.Context(), two, &again); err != nil {
					t.Fatalf("seed %d: %v", seed, err)
				}
				checkMerged(t, seed, states, again.Bytes())
			}
		}
	}
}

// withoutIndex makes a file from which nothing can be read by an index: as from a pipe.
func withoutIndex(t *testing.T, name string) string {
	t.Helper()
	b, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	pipe := name + ".pipe"
	fifo(t, pipe, b)
	return pipe
}

// checkMerged compares the archive that a chain made with the model.
func checkMerged(t *testing.T, seed uint64, states []*state, archive []byte) {
	t.Helper()
	last := states[len(states)-1]
	summary, err := catalog.List(t.Context(), bytes.NewReader(archive), func(catalog.Entry) error { return nil })
	if err != nil {
		t.Fatalf("seed %d: %v", seed, err)
	}
	got := xbtest.ReadAll(t, bytes.NewReader(archive))
	mf := summary.Manifest
	if mf.StandsFor == nil || *mf.StandsFor != last.id || mf.Since != nil || mf.LastLSN != last.since.LastLSN || mf.FromLSN != last.since.FromLSN ||
		summary.Archive.Version != 1 || summary.Archive.Options.Incremental || summary.Archive.StartLSN != last.since.FromLSN || mf.Server != "the server" {
		t.Errorf("seed %d: %+v, %+v", seed, summary.Archive, mf)
	}
	for _, name := range []string{metadata.ArchiveName, metadata.IndexName, metadata.ManifestName} {
		if got[name] == nil {
			t.Errorf("seed %d: no %s", seed, name)
		}
		delete(got, name)
	}
	want := own(last.since.CheckpointLSN, metadata.FullBackup, 0)
	for name, f := range last.files {
		want[name] = f.bytes()
	}
	if a, b := slices.Sorted(maps.Keys(got)), slices.Sorted(maps.Keys(want)); !slices.Equal(a, b) {
		t.Fatalf("seed %d: files\n%q, want\n%q", seed, a, b)
	}
	for name := range want {
		if !bytes.Equal(got[name], want[name]) {
			t.Errorf("seed %d: %s has %d bytes, want %d", seed, name, len(got[name]), len(want[name]))
		}
	}
	checkSpaces(t, seed, last, archive)
}

// checkSpaces: the manifest names the tablespace of each file.
func checkSpaces(t *testing.T, seed uint64, last *state, archive []byte) {
	t.Helper()
	p := metadata.NewManifestParser(nil, func(f metadata.File) error {
		if want := last.files[f.Path]; want != nil && want.space != (f.Space != nil) || f.Space != nil && *f.Space != want.id {
			t.Errorf("seed %d: %s is of tablespace %v", seed, f.Path, f.Space)
		}
		return nil
	})
	if _, err := p.Write(xbtest.ReadAll(t, bytes.NewReader(archive))[metadata.ManifestName]); err != nil {
		t.Error(err)
	}
}
