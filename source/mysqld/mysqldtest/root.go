// Package mysqldtest gives tests real MariaDB and MySQL servers, in the spirit
// of net/http/httptest: [Need] names the server, [Start] brings up an empty one,
// [StartOn] starts one on a directory that was restored, and [Attach] makes one
// the replica of another.
//
// The servers are those that scripts/servers brought into its cache directory,
// each in a root of its own with its own libraries. A test that needs one that is
// not there is skipped with a line that starts with [SkipMark], so that
// scripts/test can count it; with HB_TEST_SERVERS in the environment it fails instead,
// see [Need].
//
// [Launch] and [LaunchOn] are the same without a test around them.
package mysqldtest

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
)

// SkipMark begins the reason of every test that was skipped because a server or
// a program is not on this machine.
const SkipMark = "hb-skip:"

// rootLayout is the layout of a root that this package understands. scripts/servers
// writes it into hb-env and makes roots of an older layout again.
const rootLayout = "2"

// Names of the servers, as scripts/servers has them.
const (
	MariaDB105  = "mariadb105"
	MariaDB1011 = "mariadb1011"
	MariaDB118  = "mariadb118"
	MySQL97     = "mysql97"
	MySQL57     = "mysql57"
	MySQL56     = "mysql56"
)

// MariaDB lists the MariaDB servers, oldest first.
var MariaDB = []string{MariaDB105, MariaDB1011, MariaDB118}

// MySQL lists the MySQL servers, oldest first.
var MySQL = []string{MySQL56, MySQL57, MySQL97}

// Root is one installed server: its programs, libraries and message files.
type Root struct {
	Name    string // as scripts/servers has it
	Dir     string // absolute
	Flavour string // "mariadb" or "mysql"
	Version string // such as "10.11.18"

	share   string // system tables, messages, character sets; absolute
	plugins string // absolute
}

// Installed finds the server called name in the cache directory of
// scripts/servers. The error says how to get it.
func Installed(name string) (*Root, error) {
	cache, err := cacheDir()
	if err != nil {
		return nil, err
	}
	dir := filepath.Join(cache, name)
	b, err := os.ReadFile(filepath.Join(dir, "hb-env"))
	if err != nil {
		return nil, fmt.Errorf("server %s is not installed: run scripts/servers %s (%w)", name, name, err)
	}
	env := map[string]string{}
	for line := range strings.Lines(string(b)) {
		k, v, _ := strings.Cut(strings.TrimSpace(line), "=")
		env[k] = v
	}
	if env["LAYOUT"] != rootLayout {
		return nil, fmt.Errorf("server %s in %s is of layout %q, not %s: run scripts/servers %s", name, dir, env["LAYOUT"], rootLayout, name)
	}
	version, _, _ := strings.Cut(env["VERSION"], "+") // Debian's repacked sources: 11.8.9+ds
	return &Root{
		Name: name, Dir: dir, Flavour: env["FLAVOUR"], Version: version,
		share: filepath.Join(dir, env["SHARE"]), plugins: filepath.Join(dir, env["PLUGINS"]),
	}, nil
}

// cacheDir returns the directory where scripts/servers puts the roots.
func cacheDir() (string, error) {
	if d := os.Getenv("HB_SERVERS"); d != "" {
		return filepath.Abs(d)
	}
	d, err := os.UserCacheDir()
	if err != nil {
		return "", fmt.Errorf("find the directory of the servers: %w", err)
	}
	return filepath.Join(d, "hb", "servers"), nil
}

// concurrent are the names of the tests that called Concurrent.
var concurrent sync.Map

// Concurrent says, at the beginning of a test with servers or of a part of it, that the race detector is to
// see it in the usual run of scripts/test: as much as possible goes on at a time in it,
// in hb and on the server; if servers are named, only with those. All others run only without,
// which is several times faster.
func Concurrent(t testing.TB, servers ...string) {
	if len(servers) == 0 {
		concurrent.Store(t.Name(), true)
	}
	for _, name := range servers {
		concurrent.Store(t.Name()+"/"+name, true) // as Each names its parts
	}
}

// Need returns the server called name, or ends the test: skipped, or failed if
// the environment has HB_TEST_SERVERS=require. With HB_TEST_SERVERS=concurrent, tests
// that are not Concurrent are left to another run, and others have to have the server.
func Need(t testing.TB, name string) *Root {
	t.Helper()
	test, _, _ := strings.Cut(t.Name(), "/")
	_, whole := concurrent.Load(test)
	if _, part := concurrent.Load(t.Name()); !whole && !part && os.Getenv(serversEnv) == "concurrent" {
		t.Skip(HeavyMark, "a run without the race detector has this test")
	}
	r, err := Installed(name)
	if err != nil {
		Missing(t, err)
	}
	return r
}

// Program returns the path of a program of this machine that a test needs, such
// as zstd or age. If the machine has none, it ends the test as [Need] does.
func Program(t testing.TB, name string) string {
	t.Helper()
	p, err := exec.LookPath(name)
	if err != nil {
		Missing(t, fmt.Errorf("program %s is not installed: %w", name, err))
	}
	return p
}

// Missing ends a test that cannot run on this machine, and says why: as skipped,
// or as failed if the environment has HB_TEST_SERVERS.
func Missing(t testing.TB, err error) {
	t.Helper()
	if how := os.Getenv(serversEnv); how != "" {
		t.Fatalf("%v (%s=%s)", err, serversEnv, how)
	}
	t.Skipf("%s %v", SkipMark, err)
}

// Each runs f as a subtest for each of the servers named, in parallel: most of
// the time they wait for their servers, and those for their disk.
func Each(t *testing.T, names []string, f func(t *testing.T, root *Root)) {
	t.Helper()
	for _, name := range names {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f(t, Need(t, name))
		})
	}
}

// EachServer is Each with a server that was just started.
func EachServer(t *testing.T, names []string, o Options, f func(t *testing.T, s *Server)) {
	t.Helper()
	Each(t, names, func(t *testing.T, root *Root) { f(t, Start(t, root, o)) })
}

// Long reports whether the long forms of tests are asked for
// (scripts/test --long sets HB_TEST_LONG=1).
func Long() bool { return os.Getenv("HB_TEST_LONG") == "1" }

// serversEnv says what becomes of a test whose server is not installed, see Need.
const serversEnv = "HB_TEST_SERVERS"

// HeavyMark begins the reason of a test that was left to a run without the race
// detector.
const HeavyMark = "hb-heavy:"

// Heavy ends a test without servers here in a run under the race detector, which makes
// long comparisons of bytes several times slower and has nothing to find in them.
// scripts/test fails if a test was in no run.
func Heavy(t testing.TB) {
	t.Helper()
	if Race {
		t.Skip(HeavyMark, "a run without the race detector has this test")
	}
}

// MariaDB reports whether the server is a MariaDB.
func (r *Root) MariaDB() bool { return r.Flavour == "mariadb" }

// AtLeast reports whether the server's version is major.minor or later.
func (r *Root) AtLeast(major, minor int) bool {
	a, rest, _ := strings.Cut(r.Version, ".")
	b, _, _ := strings.Cut(rest, ".")
	x, _ := strconv.Atoi(a)
	y, _ := strconv.Atoi(b)
	return x > major || x == major && y >= minor
}

// Tool returns a command that runs one of the root's programs, such as
// mariadb-backup or mbstream, with the libraries that it needs.
func (r *Root) Tool(name string, args ...string) *exec.Cmd {
	return exec.Command(filepath.Join(r.Dir, "run", name), args...)
}

// HasTool reports whether the root has a program of that name.
func (r *Root) HasTool(name string) bool {
	_, err := os.Stat(filepath.Join(r.Dir, "run", name))
	return err == nil
}

// HasPlugin reports whether the root has the server plugin of that name, such
// as "provider_lz4" or "ha_archive".
func (r *Root) HasPlugin(name string) bool {
	_, err := os.Stat(filepath.Join(r.plugins, name+".so"))
	return err == nil
}
