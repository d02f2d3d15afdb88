package metadata_test

import (
	"bytes"
	"fmt"
	"strings"
	"testing"

	"hb/xbstream/metadata"
	"hb/xbstream/xbtest"
)

// TestTrailer: what stands at the end of an archive tells what all of it does.
func TestTrailer(t *testing.T) {
	b, err := xbtest.Sample()
	if err != nil {
		t.Fatal(err)
	}
	at := metadata.FindIndex(b[len(b)-metadata.EndSize:])
	if want := bytes.Index(b, []byte("hbindex\x01")) - len("XBSTCK01..llllhb-index") - 20; at != int64(want) {
		t.Fatalf("the index begins at %d, found at %d", want, at)
	}
	if got := metadata.FindIndex(b); got != at {
		t.Errorf("by the whole archive: %d", got)
	}
	trailer, err := metadata.ReadTrailer(bytes.NewReader(b[at:]), at, int64(len(b)))
	if err != nil {
		t.Fatal(err)
	}
	all := xbtest.ReadAll(t, bytes.NewReader(b))
	delete(all, metadata.ManifestName)
	for _, f := range trailer.Files {
		if int64(len(all[f.Path])) != f.Size {
			t.Errorf("%+v has %d bytes", f, len(all[f.Path]))
		}
		delete(all, f.Path)
	}
	if len(all) > 0 || trailer.Manifest.LastLSN == 0 {
		t.Errorf("%d files are not in the trailer, %+v", len(all), trailer.Manifest)
	}
	for cut := range len(b) - int(at) {
		if _, err := metadata.ReadTrailer(bytes.NewReader(b[at:len(b)-1-cut]), at, int64(len(b))); err == nil {
			t.Fatalf("%d bytes less are accepted", cut+1)
		}
	}
	if _, err := metadata.ReadTrailer(bytes.NewReader(b[at:]), at+1, int64(len(b))+1); err == nil || !strings.Contains(err.Error(), "begins at byte") {
		t.Errorf("an index from elsewhere: %v", err)
	}
}

// TestFindIndex: ends that are those of no archive with an index.
func TestFindIndex(t *testing.T) {
	const last = "XBSTCK01\x00E\x10\x00\x00\x00hb-manifest.json"
	line := func(s string) string {
		return "x\n{\"hb_manifest_end\":1,\"files\":3,\"crc32\":\"5f3c8f10\"" + s + "}\n"
	}
	for end, want := range map[string]int64{
		line(`,"index_at":77`) + last:         77,
		line(``) + last:                       0,
		line(`,"index_at":-77`) + last:        0,
		line(`,"index_at":1e99`) + last:       0,
		line(`,"index_at":77`) + last + "x":   0,
		line(`,"index_at":77`):                0,
		"":                                    0,
		last:                                  0,
		"\n" + last:                           0,
		"x\n{\"path\":\"a\"}\n" + last:        0,
		line(strings.Repeat(" ", 300)) + last: 0,
	} {
		if got := metadata.FindIndex([]byte(end)); got != want {
			t.Errorf("%s: %d, want %d", fmt.Sprintf("%q", end), got, want)
		}
	}
}
