package metadata

import (
	"errors"
	"io"
	"strings"
	"testing"
	"time"
)

func testArchive() Archive {
	return Archive{
		Version: ArchiveVersion, HBVersion: "0.1.0", ServerFlavor: FlavorMariaDB, ServerVersion: "10.11.18-MariaDB-log",
		PageSize: 16384, StartLSN: 9_007_199_254_740_993, // 2^53+1: no double may come between
		RedoFormat: "Phys", Created: time.Date(2026, 11, 20, 10, 0, 0, 0, time.UTC),
		Options: ArchiveFlags{Compressed: true},
	}
}

const goldenArchive = `{
  "hb_archive": 1,
  "hb_version": "0.1.0",
  "server_flavor": "mariadb",
  "server_version": "10.11.18-MariaDB-log",
  "page_size": 16384,
  "start_lsn": 9007199254740993,
  "redo_format": "Phys",
  "created": "2026-11-20T10:00:00Z",
  "options": {
    "compressed": true,
    "encrypted": false,
    "partial": false
  }
}
`

func TestArchive(t *testing.T) {
	want := testArchive()
	text, err := want.Marshal()
	if err != nil {
		t.Fatal(err)
	}
	if string(text) != goldenArchive {
		t.Errorf("got\n%s\nwant\n%s", text, goldenArchive)
	}
	got, err := UnmarshalArchive(text)
	if err != nil {
		t.Fatal(err)
	}
	if *got != want {
		t.Errorf("got %+v, want %+v", *got, want)
	}
	for n := range len(text) - 1 { // without the newline it is whole
		if _, err := UnmarshalArchive(text[:n]); !errors.Is(err, io.ErrUnexpectedEOF) {
			t.Errorf("cut at %d: %v", n, err)
		}
	}
}

func TestArchiveRefuses(t *testing.T) {
	edit := func(old, new string) string { return strings.Replace(goldenArchive, old, new, 1) }
	for name, text := range map[string]string{
		"version 0":       edit(`"hb_archive": 1`, `"hb_archive": 0`),
		"no version":      edit(`"hb_archive": 1,`, ``),
		"version as text": edit(`"hb_archive": 1`, `"hb_archive": "1"`),
		"flavor":          edit("mariadb", "postgres"),
		"page size":       edit("16384", "16385"),
		"small page size": edit("16384", "2048"),
		"negative size":   edit("16384", "-16384"),
		"negative LSN":    edit("9007199254740993", "-1"),
		"LSN too large":   edit("9007199254740993", "18446744073709551616"),
		"no time":         edit(`"2026-11-20T10:00:00Z"`, `"yesterday"`),
		"no version text": edit("10.11.18-MariaDB-log", ""),
		"long text":       edit("10.11.18-MariaDB-log", strings.Repeat("x", maxText+1)),
		"two values":      goldenArchive + "{}",
		"array":           "[]",
		"too long":        goldenArchive + strings.Repeat(" ", MaxArchiveSize),
	} {
		if _, err := UnmarshalArchive([]byte(text)); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
	// A later version is refused as such, whatever the rest looks like.
	_, err := UnmarshalArchive([]byte(`{"hb_archive":4,"page_size":"large"}`))
	version, ok := errors.AsType[*VersionError](err)
	if !ok || version.Got != 4 || version.Known != 3 || !strings.Contains(err.Error(), "newer hb") {
		t.Errorf("version 4: %v", err)
	}
	// An unknown field is not.
	if _, err := UnmarshalArchive([]byte(edit(`"hb_version"`, `"colour":"red","hb_version"`))); err != nil {
		t.Errorf("unknown field: %v", err)
	}
	// Only an incremental one has version 2, and none has version 1; a partial one has 3.
	for _, text := range []string{edit(`"hb_archive": 1`, `"hb_archive": 3`), edit(`"partial": false`, `"partial": true`), edit(`"partial": false`, `"partial": true, "incremental": true`),
		edit(`"hb_archive": 1`, `"hb_archive": 2`), edit(`"partial": false`, `"partial": false, "incremental": true`)} {
		if _, err := UnmarshalArchive([]byte(text)); err == nil || text == goldenArchive {
			t.Errorf("accepted: %s", text)
		}
	}
	increment := testArchive()
	increment.Version, increment.Options.Incremental = 2, true
	text, err := increment.Marshal()
	if again, err2 := UnmarshalArchive(text); err != nil || err2 != nil || *again != increment {
		t.Errorf("%s comes back as %+v: %v, %v", text, again, err, err2)
	}
	bad := testArchive()
	bad.PageSize = 0
	if _, err := bad.Marshal(); err == nil {
		t.Error("an invalid archive header is written")
	}
}
