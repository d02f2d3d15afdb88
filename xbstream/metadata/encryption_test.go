package metadata

import (
	"fmt"
	"reflect"
	"slices"
	"strings"
	"testing"
)

func TestEncryption(t *testing.T) {
	var names []string
	for i := range 1500 {
		names = append(names, fmt.Sprintf("db/t%04d.ibd", i))
	}
	slices.Reverse(names)
	e := &Encryption{Others: []string{EncryptedRedo}, Keys: []string{"key 1, version 1"}}
	e.SetNames(names)
	if e.Tablespaces != 1500 || len(e.Names) != 1000 || e.Names[999] != "db/t0999.ibd" {
		t.Errorf("%d tablespaces, %d names", e.Tablespaces, len(e.Names))
	}
	const within = "encrypted at rest: 1500 tablespaces: db/t0000.ibd, db/t0001.ibd, db/t0002.ibd, db/t0003.ibd, db/t0004.ibd, db/t0005.ibd, db/t0006.ibd, db/t0007.ibd, db/t0008.ibd, db/t0009.ibd and 1490 more; the redo log; a restore needs "
	for flavor, want := range map[string]string{
		FlavorMySQL:   within + "the server's keyring file with key 1, version 1 (--keyring)",
		FlavorMariaDB: within + "the server's key file with key 1, version 1 (--key-file, or --key-command)",
	} {
		if got := e.Describe(flavor); got != want {
			t.Errorf("%s", got)
		}
	}
	e.KeysWithin = true
	if got, want := e.Describe(FlavorMySQL), within+"only an identity that opens the keys in the backup (hb-keys.age)"; got != want {
		t.Errorf("%s", got)
	}
	m := testManifest()
	m.Encryption = e
	read, _, err := parseManifest(writeManifest(t, m, testFiles), 1000)
	if err != nil || !reflect.DeepEqual(read.Encryption, e) {
		t.Errorf("%+v, %v", read, err)
	}
	if part := e.Of(func(name string) bool { return strings.HasSuffix(name, "7.ibd") }); part.Tablespaces != 100 || len(part.Names) != 100 || part.Names[0] != "db/t0007.ibd" || !part.KeysWithin || len(e.Names) != 1000 {
		t.Errorf("a part: %+v", part)
	}
	long := new(Encryption)
	long.SetNames(slices.Repeat([]string{strings.Repeat("n", 500)}, 1000))
	if n := len(long.Names); n != 262 || long.Tablespaces != 1000 { // 128 KiB
		t.Errorf("%d long names", n)
	}
	for _, bad := range []*Encryption{{Tablespaces: 1, Names: []string{"a", "b"}}, {Tablespaces: 2000, Names: slices.Repeat([]string{"a"}, 1001)}, {Keys: []string{strings.Repeat("k", 513)}}, {Tablespaces: -1}} {
		m.Encryption = bad
		if err := m.Validate(); err == nil {
			t.Errorf("%.50v: accepted", bad)
		}
	}
	var none *Encryption
	if none.Of(nil) != nil || none.Any() || none.Describe(FlavorMySQL) != "" || new(Encryption).Any() || !none.Needs("key 1, version 1") || !e.Needs("key 1, version 1") || e.Needs("key 2, version 1") {
		t.Error("none")
	}
}
