package sink_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"hb/sink/apply"
	"hb/sink/backupdir"
	"hb/source/mysqld/mysqldtest"
)

// refusedHalfDone kills apply in the middle, for itself and for the server, and
// starts a server on what it left, which must end. Applied again, the directory
// has the bytes of one that nothing disturbed.
func refusedHalfDone(t *testing.T, root *mysqldtest.Root, base, backup string, o mysqldtest.Options) {
	t.Helper()
	for _, byServer := range []bool{false, true} {
		how := apply.Options{Memory: 4 << 20, ByServer: byServer}
		dir, want := filepath.Join(base, "half"), copyTree(t, backup, filepath.Join(base, "undisturbed"))
		if _, err := apply.Run(t.Context(), want, how); err != nil {
			if byServer {
				continue // there is a table that a server would not make
			}
			t.Fatal(err)
		}
		wait := killedHalfDone(t, backup, dir, byServer)
		before := files(t, dir, func(string) bool { return true })
		o.Dir = t.TempDir()
		s, err := mysqldtest.LaunchOn(t.Context(), root, dir, o)
		if err == nil {
			t.Fatal("a server started on a half-applied directory", s.Kill())
		}
		if !strings.Contains(err.Error(), "the server ended") {
			t.Errorf("the server did not end: %v", err)
		}
		var left []string
		for name := range files(t, dir, func(string) bool { return true }) {
			if !before[name] {
				left = append(left, name)
			}
		}
		slices.Sort(left)
		t.Logf("by the server: %v; killed after %v; the server has left %q", byServer, wait, left)
		if _, err := apply.Run(t.Context(), dir, how); err != nil {
			t.Fatalf("after a server was started on the half-applied directory: %v", err)
		}
		for _, name := range left {
			if !serversOwn.MatchString(name) {
				t.Errorf("the server has left %s", name)
			}
			os.Remove(filepath.Join(dir, name))
		}
		for name := range files(t, want, serversOwn.MatchString) {
			if err := errors.Join(os.Remove(filepath.Join(want, name)), os.Remove(filepath.Join(dir, name))); err != nil {
				t.Fatal(err)
			}
		}
		// The list that apply leaves has what the server added or changed.
		for _, d := range []string{dir, want} {
			dropServersOwn(t, filepath.Join(d, backupdir.AppliedName))
		}
		sameTrees(t, fmt.Sprintf("after a server was refused (by the server: %v)", byServer), dir, want)
		os.RemoveAll(want)
	}
}

// dropServersOwn takes the lines about servers' own files, and the last line, which
// counts and sums them, out of the list of files that apply leaves.
func dropServersOwn(t *testing.T, list string) {
	t.Helper()
	text, err := os.ReadFile(list)
	if errors.Is(err, fs.ErrNotExist) {
		return // recovered by the server
	}
	if err != nil {
		t.Fatal(err)
	}
	var kept []byte
	for line := range bytes.Lines(text) {
		var l struct {
			Path string `json:"path"`
			End  *int   `json:"hb_applied_end"`
		}
		if err := json.Unmarshal(line, &l); err != nil {
			t.Fatalf("%s: %q: %v", list, line, err)
		}
		if l.End == nil && !serversOwn.MatchString(l.Path) {
			kept = append(kept, line...)
		}
	}
	if len(kept) == 0 {
		t.Fatalf("%s is empty", list)
	}
	if err := os.WriteFile(list, kept, 0o600); err != nil {
		t.Fatal(err)
	}
}

// serversOwn are files that servers write before they look at InnoDB's: MariaDB
// recovers its Aria tables first, as it does at every start after a restore.
var serversOwn = regexp.MustCompile(`^(aria_log.*|.*\.MA[ID]|auto\.cnf|.*\.pem|.*\.pid)$`)

// killedHalfDone kills apply at a random moment at which the directory is half
// done, and returns after what time.
func killedHalfDone(t *testing.T, backup, dir string, byServer bool) time.Duration {
	t.Helper()
	longest := 200 * time.Millisecond
	for range 100 {
		if _, err := os.Lstat(dir); errors.Is(err, fs.ErrNotExist) {
			copyTree(t, backup, dir)
		}
		cmd := exec.Command(os.Args[0])
		cmd.Env = append(os.Environ(), "HB_TEST_APPLY="+dir)
		if byServer {
			cmd.Env = append(cmd.Env, "HB_TEST_BY_SERVER=1")
		}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		wait := rand.N(longest)
		timer := time.AfterFunc(wait, func() { cmd.Process.Kill() })
		err := cmd.Wait()
		if timer.Stop() {
			if err != nil {
				t.Fatalf("apply: %v", err)
			}
			longest = longest * 3 / 4
		}
		st, err := os.Lstat(filepath.Join(dir, "ibdata1"))
		if err != nil {
			t.Fatal(err)
		}
		if st.Mode().Type() == fs.ModeSymlink {
			return wait
		}
		if _, err := os.Lstat(filepath.Join(dir, backupdir.ApplyingName)); errors.Is(err, fs.ErrNotExist) && timer != nil {
			os.RemoveAll(dir) // not begun, or done
		}
		longest += longest / 10
	}
	t.Fatal("Apply was never killed half way")
	return 0
}
