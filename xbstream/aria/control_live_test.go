package aria_test

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"testing"

	"hb/source/mysqld/mysqldtest"
	"hb/xbstream/aria"
)

// TestControlUUID shows of real servers when the UUID of Aria's control file stays, and
// when there is another one.
func TestControlUUID(t *testing.T) {
	mysqldtest.Each(t, mysqldtest.MariaDB, func(t *testing.T, root *mysqldtest.Root) {
		data, again := filepath.Join(t.TempDir(), "data"), filepath.Join(t.TempDir(), "data")
		initialise(t, root, data)
		first := controlUUID(t, data)
		stays := func(after string) {
			t.Helper()
			if now := controlUUID(t, data); now != first {
				t.Errorf("after %s it is %s, not %s", after, now, first)
			}
		}
		s := mysqldtest.StartOn(t, root, data, mysqldtest.Options{})
		s.Exec(t, "CREATE DATABASE d", "CREATE TABLE d.a (id INT) ENGINE=Aria TRANSACTIONAL=1", "INSERT INTO d.a VALUES (1), (2)")
		stays("the start")
		if err := s.Kill(); err != nil {
			t.Fatal(err)
		}
		s = mysqldtest.StartOn(t, root, data, mysqldtest.Options{})
		stays("crash recovery")
		stop(t, s)
		stays("a clean stop")
		zerofill := root.Tool("aria_chk", "--zerofill", "d/a.MAI")
		zerofill.Dir = data
		if out, err := zerofill.CombinedOutput(); err != nil {
			t.Fatalf("%v\n%s", err, out)
		}
		stays("aria_chk --zerofill")
		for _, newer := range mysqldtest.MariaDB {
			if other := mysqldtest.Need(t, newer); other.AtLeast(version(t, root)) {
				stop(t, mysqldtest.StartOn(t, other, data, mysqldtest.Options{}))
				stays("an upgrade to " + newer)
			}
		}
		initialise(t, root, again)
		if other := controlUUID(t, again); other == first {
			t.Error("a second initialisation draws the same")
		}
		// A server that finds neither control file nor log goes on with a new one.
		lost, err := filepath.Glob(filepath.Join(again, "aria_log*"))
		if err != nil || len(lost) < 2 {
			t.Fatal(lost, err)
		}
		before := controlUUID(t, again)
		for _, path := range lost {
			if err := os.Remove(path); err != nil {
				t.Fatal(err)
			}
		}
		stop(t, mysqldtest.StartOn(t, root, again, mysqldtest.Options{}))
		if after := controlUUID(t, again); after == before {
			t.Error("without the file the server has the same as before")
		}
	})
}

func initialise(t *testing.T, root *mysqldtest.Root, data string) {
	t.Helper()
	if err := root.Initialise(data, nil); err != nil {
		t.Fatal(err)
	}
}

func stop(t *testing.T, s *mysqldtest.Server) {
	t.Helper()
	if err := s.Stop(); err != nil {
		t.Fatal(err)
	}
}

func version(t *testing.T, root *mysqldtest.Root) (major, minor int) {
	t.Helper()
	if _, err := fmt.Sscanf(root.Version, "%d.%d", &major, &minor); err != nil {
		t.Fatal(err)
	}
	return major, minor
}

func controlUUID(t *testing.T, data string) string {
	t.Helper()
	u, err := aria.ReadUUID(openFile(t, filepath.Join(data, aria.ControlName)))
	if err != nil {
		t.Fatal(err)
	}
	return u
}

// TestControlDamage: of a control file that is cut or changed nothing is believed.
func TestControlDamage(t *testing.T) {
	good := []byte("\xfe\xfe\x0c\x01\x3b\x84\x1e\x42\xec\xd3\x11\xf1\x85\xca\x02\xfc\x00\x00\x00\x01\x1e\x00\x16\x00\x00\x20\x74\xa3\x84\x7f") // of a 10.5.23
	if u, err := aria.ReadUUID(bytes.NewReader(good)); err != nil || u != "3b841e42-ecd3-11f1-85ca-02fc00000001" {
		t.Errorf("%q, %v", u, err)
	}
	for i := range good {
		if u, err := aria.ReadUUID(bytes.NewReader(good[:i])); !errors.Is(err, io.ErrUnexpectedEOF) {
			t.Errorf("cut to %d bytes: %q, %v", i, u, err)
		}
		bad := bytes.Clone(good)
		bad[i] ^= 1
		if u, err := aria.ReadUUID(bytes.NewReader(bad)); err == nil {
			t.Errorf("byte %d changed: %q", i, u)
		}
	}
}
