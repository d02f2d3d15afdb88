package testd

import (
	"errors"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"hb/scripts/test.d/hbtest"
	"hb/source/mysqld/mysqldtest"
)

// TestInPlaceTakenEarly: hb extract --apply --in-place of a file, whatever its stages,
// finds out before it writes anything that FILE.hb-aside is taken. From a pipe it finds
// out afterwards, and hb apply goes on once the name is free.
func TestInPlaceTakenEarly(t *testing.T) {
	base := t.TempDir()
	elsewhere := filepath.Join(base, "elsewhere")
	if err := os.Mkdir(elsewhere, 0o755); err != nil {
		t.Fatal(err)
	}
	s := filled(t, mysqldtest.Need(t, mysqldtest.MariaDB1011), mysqldtest.Options{})
	s.Exec(t, "CREATE TABLE d.far (id INT PRIMARY KEY) ENGINE=InnoDB DATA DIRECTORY='"+elsewhere+"'")
	far := filepath.Join(elsewhere, "d", "far.ibd")
	key := filepath.Join(base, "key")
	if out, err := exec.Command(mysqldtest.Program(t, "age-keygen"), "-o", key).CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	recipient, err := exec.Command("age-keygen", "-y", key).Output()
	if err != nil {
		t.Fatal(err)
	}
	archives := map[string][]string{"plain": nil, "staged": {"--compress", "--encrypt-to=" + strings.TrimSpace(string(recipient))}}
	for name, args := range archives {
		out, err := os.Create(filepath.Join(base, name))
		if err != nil {
			t.Fatal(err)
		}
		defer out.Close()
		cmd := hb(t, append([]string{"backup", "--no-defaults", "-u", "root", "-S", s.Socket}, args...)...)
		cmd.Stdout = out
		hbtest.Succeed(t, cmd)
	}
	if err := s.Stop(); err != nil {
		t.Fatal(err)
	}
	taken := far + ".hb-aside"
	if err := os.WriteFile(taken, []byte("of an earlier restore"), 0o600); err != nil {
		t.Fatal(err)
	}
	says := taken + ": it is there already"
	dir := filepath.Join(base, "dir")
	extract := []string{"extract", "--no-defaults", "--apply", "--in-place", "-i", key, "-C", dir}
	for name := range archives {
		r := hbtest.Finish(t, hb(t, append(extract, filepath.Join(base, name))...))
		if _, err := os.Lstat(dir); r.Code != 8 || !strings.Contains(r.Stderr, says) || !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("%s: exit code %d, the directory: %v, %s", name, r.Code, err, r.Stderr)
		}
	}
	piped, err := os.Open(filepath.Join(base, "staged"))
	if err != nil {
		t.Fatal(err)
	}
	defer piped.Close()
	cmd := hb(t, extract...)
	cmd.Stdin = piped
	if r := hbtest.Finish(t, cmd); r.Code != 8 || !strings.Contains(r.Stderr, says) {
		t.Errorf("from a pipe: exit code %d, %s", r.Code, r.Stderr)
	}
	if err := os.Remove(taken); err != nil {
		t.Fatal(err)
	}
	hbtest.Succeed(t, hb(t, "apply", "--no-defaults", "--in-place", dir))
	if _, err := os.Lstat(taken); err != nil {
		t.Errorf("the old file was not set aside: %v", err)
	}
	r := mysqldtest.StartOn(t, s.Root, dir, mysqldtest.Options{})
	if got := r.Value(t, "SELECT (SELECT COUNT(*) FROM d.t) + (SELECT COUNT(*) FROM d.far)"); got != "4096" {
		t.Errorf("the restored server has %s rows", got)
	}
}
