package datadir_test

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"hb/source/datadir"
	"hb/source/sourcetest"
	"hb/xbstream/innodb/innodbtest"
)

// TestOddFiles: what has the name of a file of the backup and cannot be one is
// passed over; a symbolic link that no server made is refused, one that MyISAM made
// is followed.
func TestOddFiles(t *testing.T) {
	d := sourcetest.NewDir(t)
	var passed []string
	d.Layout.Pass = func(path, what string) { passed = append(passed, what+" "+filepath.Base(path)) }
	d.Write("db/t.ibd", innodbtest.Random(1, 2))
	elsewhere := t.TempDir()
	for _, name := range []string{"m.MYD", "secret", "m.frm", "m.ibd"} {
		if err := os.WriteFile(filepath.Join(elsewhere, name), []byte("x"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	link := func(target, name string) {
		if err := os.Symlink(filepath.Join(elsewhere, target), d.Path(name)); err != nil {
			t.Fatal(err)
		}
	}
	err := errors.Join(unix.Mkfifo(d.Path("db/x.MYD"), 0o600), os.Mkdir(d.Path("undo001"), 0o755), os.Mkdir(d.Path("db/y.ibd"), 0o755))
	if err != nil {
		t.Fatal(err)
	}
	d.Layout.Links = true
	link("m.MYD", "db/m.MYD")
	list := d.List()
	slices.Sort(passed)
	if want := []string{"a directory undo001", "a directory y.ibd", "a named pipe x.MYD"}; !slices.Equal(passed, want) {
		t.Errorf("passed over: %q", passed)
	}
	if len(list.Tablespaces) != 1 || len(list.Others) != 1 || !list.Others[0].Linked || list.Others[0].Size != 1 {
		t.Errorf("%+v, %+v", list.Tablespaces, list.Others)
	}
	refused := map[string]string{"db/s.frm": "secret", "db/s.MYD": "secret", "db/s.ibd": "secret", "db/m.CSV": "m.MYD", "db/m.frm": "m.frm", "db/m.ibd": "m.ibd"}
	for name, target := range refused {
		link(target, name)
		if _, err := d.Layout.List(); !strings.Contains(errText[*datadir.LinkError](err), d.Path(name)) {
			t.Errorf("%s: error = %v", name, err)
		}
		d.Remove(name)
	}
	// The server writes where a table is as a whole path.
	d.Write("m.MYI", nil)
	if err := os.Symlink("../m.MYI", d.Path("db/m.MYI")); err != nil {
		t.Fatal(err)
	}
	if _, err := d.Layout.List(); !strings.Contains(errText[*datadir.LinkError](err), d.Path("db/m.MYI")) {
		t.Errorf("a relative link: error = %v", err)
	}
	d.Remove("db/m.MYI")
	d.Layout.Links = false
	if _, err := d.Layout.List(); errText[*datadir.LinkError](err) == "" {
		t.Errorf("a link, where the server makes none: error = %v", err)
	}
}

// errText is the text of an error of a type, "" of any other.
func errText[T error](err error) string {
	if e, ok := errors.AsType[T](err); ok {
		return e.Error()
	}
	return ""
}
