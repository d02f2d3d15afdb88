package source_test

import (
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"hb/source"
	"hb/source/mysqld/mysqldtest"
	"hb/source/pages"
)

// TestStrayFiles: what lies in a database and is nobody's fails no backup, and hangs
// none; a stray copy of a table is told of before anything is copied.
func TestStrayFiles(t *testing.T) {
	mysqldtest.Each(t, []string{mysqldtest.MariaDB105, mysqldtest.MariaDB1011, mysqldtest.MySQL57, mysqldtest.MySQL97}, func(t *testing.T, root *mysqldtest.Root) {
		s := mysqldtest.Start(t, root, mysqldtest.Options{})
		s.Exec(t, "CREATE DATABASE d", "CREATE TABLE d.t (id INT PRIMARY KEY) ENGINE=InnoDB", "INSERT INTO d.t VALUES (1)", "FLUSH TABLES d.t FOR EXPORT", "UNLOCK TABLES")
		path := func(name string) string { return filepath.Join(s.Datadir, "d", name) }
		if err := errors.Join(unix.Mkfifo(path("x.MYD"), 0o600), os.Mkdir(path("y.ibd"), 0o755), os.WriteFile(path("e.ibd"), nil, 0o644)); err != nil {
			t.Fatal(err)
		}
		result, err := hooked(t, s, io.Discard, source.Options{})
		if err != nil {
			t.Fatal(err)
		}
		for _, name := range []string{"x.MYD: it is a named pipe", "y.ibd: it is a directory", "e.ibd: it is an empty file"} {
			if text := strings.Join(result.Manifest.Warnings, "\n"); !strings.Contains(text, path(name)) {
				t.Errorf("the manifest does not warn of %s: %s", name, text)
			}
		}
		b, err := os.ReadFile(path("t.ibd"))
		if err == nil {
			err = os.WriteFile(path("copy.ibd"), b, 0o644)
		}
		if err != nil {
			t.Fatal(err)
		}
		copied := false
		_, err = hooked(t, s, io.Discard, source.Options{Pace: func(context.Context, int) error { copied = true; return nil }})
		if twice, ok := errors.AsType[*pages.DuplicateError](err); !ok || copied {
			t.Errorf("a stray copy: %v (copied: %v) %v", err, copied, twice)
		}
	})
}
