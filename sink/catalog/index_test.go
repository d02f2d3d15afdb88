package catalog

import (
	"bytes"
	"fmt"
	"strings"
	"testing"

	"hb/xbstream"
	"hb/xbstream/xbtest"
)

// TestManyOpenFiles: an archive with so many files open at once that it can have no index
// is read like others. One that claims to have an index all the same is refused.
func TestManyOpenFiles(t *testing.T) {
	const most = 65536
	archive := func(files int, index func(right []byte) []byte) []byte {
		a := xbtest.NewArchiver(16<<10, 1000, 2000)
		a.Index = index
		open := make([]*xbstream.File, files)
		for i := range open {
			open[i] = a.Create(fmt.Sprintf("db/t%d.MYD", i))
			a.Write(open[i], []byte{1})
		}
		for _, f := range open {
			a.End(f)
		}
		b, err := a.Finish()
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	asItIs := func(right []byte) []byte { return right }
	for _, c := range []struct {
		files   int
		index   func(right []byte) []byte
		hbFiles int64 // hb-archive.json, hb-manifest.json, and the index
		want    string
	}{
		{most, nil, 3, ""},
		{most + 1, nil, 2, ""},
		{most + 1, asItIs, 0, "the index is not that of the chunks before it"},
	} {
		s, err := List(t.Context(), bytes.NewReader(archive(c.files, c.index)), func(Entry) error { return nil })
		switch {
		case c.want == "" && (err != nil || s.Files != int64(c.files)+c.hbFiles):
			t.Errorf("%d files are open at once: %d files, %v; want %d", c.files, s.Files, err, int64(c.files)+c.hbFiles)
		case c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want)):
			t.Errorf("%d files are open at once: %v, want %q", c.files, err, c.want)
		}
	}
}
