package sink_test

import (
	"errors"
	"io"
	"os"
	"path/filepath"
	"testing"

	"hb/sink"
	"hb/sink/apply"
	"hb/sink/extract"
	"hb/sink/verify"
	"hb/source/mysqld/mysqldtest"
)

// TestRestoreLive: the archive of a loaded server, extracted and applied in one
// pass, is what it is in two, byte for byte.
func TestRestoreLive(t *testing.T) {
	mysqldtest.Concurrent(t, mysqldtest.MariaDB1011)
	servers := []string{mysqldtest.MariaDB1011, mysqldtest.MySQL97}
	if mysqldtest.Long() {
		servers = append(append([]string(nil), mysqldtest.MariaDB...), mysqldtest.MySQL...)
	}
	mysqldtest.Each(t, servers, func(t *testing.T, root *mysqldtest.Root) {
		archive := loadedArchive(t, root)
		for name, o := range map[string]apply.Options{"with hardly any memory": {Memory: 1, Tool: "hb"}, "at leisure": {Tool: "hb"}} {
			two := filepath.Join(t.TempDir(), "two")
			fromFile(t, archive, func(r io.Reader) error {
				_, err := extract.Run(t.Context(), r, two, extract.Options{})
				return err
			})
			want := mustApply(t, two, o)
			one := filepath.Join(t.TempDir(), "one")
			fromFile(t, archive, func(r io.Reader) error {
				x, got, err := sink.Restore(t.Context(), r, one, extract.Options{}, o)
				if err == nil && (!got.ReadAhead || got.LSN != want.LSN || got.Runs != want.Runs || got.Pages != want.Pages ||
					(got.Spilled > 0) != (o.Memory > 0) || x.Foreign || len(x.Warnings)+len(got.Warnings) > 0) {
					t.Errorf("%s: %+v, %+v; want %+v", name, *x, *got, *want)
				}
				return err
			})
			t.Logf("%s: LSN %d to %d, %d runs, %d pages", name, want.FromLSN, want.LSN, want.Runs, want.Pages)
			if _, err := verify.Directory(t.Context(), one, verify.Options{}); err != nil {
				t.Error(err)
			}
			sameTrees(t, name, one, two)
		}
	})
}

// fromFile gives f what is in a file, from front to back.
func fromFile(t *testing.T, name string, f func(r io.Reader) error) {
	t.Helper()
	in, err := os.Open(name)
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(f(notAnywhere{in}), in.Close()); err != nil {
		t.Fatal(err)
	}
}
