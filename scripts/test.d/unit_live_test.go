package testd

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"hb/scripts/test.d/hbtest"
	"hb/source/mysqld/mysqldtest"
)

// TestNightly: with the capabilities that the packages' service leaves it, root backs up a
// server whose files are another user's, keeps the newest backups, and none that failed.
func TestNightly(t *testing.T) {
	setpriv := mysqldtest.Program(t, "setpriv")
	if os.Geteuid() != 0 {
		t.Skip(mysqldtest.SkipMark, "only root has capabilities to lose")
	}
	unit, err := os.ReadFile("../package.d/units/hb-backup.service")
	if err != nil {
		t.Fatal(err)
	}
	_, rest, _ := strings.Cut(string(unit), "CapabilityBoundingSet=")
	line, _, _ := strings.Cut(rest, "\n")
	bounds := "-all"
	for name := range strings.FieldsSeq(line) {
		bounds += ",+" + strings.ToLower(strings.TrimPrefix(name, "CAP_"))
	}
	mysqldtest.Each(t, []string{mysqldtest.MariaDB1011, mysqldtest.MySQL97}, func(t *testing.T, root *mysqldtest.Root) {
		s := filled(t, root, mysqldtest.Options{Binlog: true})
		state := t.TempDir()
		hbtest.Succeed(t, exec.Command("chown", "-R", "4242:4242", s.Datadir))
		hbtest.Succeed(t, exec.Command("chmod", "-R", "go=", s.Datadir))
		nightly := func(user string) hbtest.Result {
			cmd := exec.Command(setpriv, "--inh-caps=-all", "--bounding-set="+bounds, "--no-new-privs", "sh", "../package.d/units/hb-nightly")
			cmd.Env = append(os.Environ(), "STATE_DIRECTORY="+state, "KEEP_BACKUPS=2", "HB_NO_DEFAULTS=1", "HB_USER="+user, "HB_SOCKET="+s.Socket)
			return hbtest.Finish(t, cmd)
		}
		backups := func() (names []string) {
			all, err := filepath.Glob(filepath.Join(state, "*"))
			if err != nil {
				t.Fatal(err)
			}
			for _, name := range all {
				if filepath.Base(name) != "last.json" {
					names = append(names, name)
				}
			}
			return names
		}
		for _, old := range []string{"2020-01-01T000000Z.hb", "2020-01-02T000000Z.hb"} {
			if err := os.WriteFile(filepath.Join(state, old), nil, 0o600); err != nil {
				t.Fatal(err)
			}
		}
		if r := nightly("nobody"); r.Code != 3 || len(backups()) != 3 { // with a part
			t.Errorf("a night that fails: exit code %d, %q: %s", r.Code, backups(), r.Stderr)
		}
		if r := nightly("root"); r.Code != 0 || r.Stderr != "" {
			t.Fatalf("exit code %d: %s", r.Code, r.Stderr)
		}
		left := backups()
		if len(left) != 2 || filepath.Base(left[0]) != "2020-01-02T000000Z.hb" {
			t.Fatalf("left are %q", left)
		}
		hbtest.Succeed(t, hb(t, "verify", "--replay", left[1]))
	})
}
