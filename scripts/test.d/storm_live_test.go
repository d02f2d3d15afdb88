package testd

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"hb/scripts/test.d/hbtest"
	"hb/scripts/torture.d/load"
	"hb/scripts/torture.d/load/kinds"
	"hb/scripts/torture.d/oracle"
	"hb/source/mysqld/mysqldtest"
	"hb/xbstream/innodb"
	"hb/xbstream/metadata"
)

// TestChainStorm: whatever chain of backups is made while a server is under a load with DDL,
// what it restores is what a full backup of the same moment restores: every page of every
// tablespace, and every other file. A seed, which is printed (HB_STORM_SEED), draws the
// server's layout, its loads, how each chain goes on and in which way it is restored.
//
// The usual run has one round for each server, the long form a hundred.
func TestChainStorm(t *testing.T) {
	seed := stormSeed(t)
	rounds := 1
	if mysqldtest.Long() {
		rounds = 100
	}
	mysqldtest.Each(t, all, func(t *testing.T, root *mysqldtest.Root) {
		var sum stormSum
		defer func() { t.Logf("HB_STORM_SEED=%d: %+v", seed, sum) }()
		for n := 0; sum.Rounds < rounds; n++ {
			rnd := rand.New(rand.NewPCG(seed, uint64(n)))
			if !stormServer(t, root, rnd, min(roundsOfOne, rounds-sum.Rounds), &sum) {
				return
			}
		}
		// A server may write without any load, but most of the time it does not.
		if sum.AtRest*2 < sum.Rounds {
			t.Errorf("in %d of %d rounds only the server was at rest between the two backups", sum.AtRest, sum.Rounds)
		}
	})
}

// stormSeed is what a storm draws from: another number in each run.
func stormSeed(t *testing.T) uint64 {
	seed := uint64(time.Now().UnixNano()) % 1e9
	if s := os.Getenv("HB_STORM_SEED"); s != "" {
		if _, err := fmt.Sscan(s, &seed); err != nil {
			t.Fatal(err)
		}
	}
	return seed
}

// roundsOfOne is how many rounds one server has: so many that its data stay small.
const roundsOfOne = 10

// stormSum is what was compared.
type stormSum struct {
	Rounds, Links, Longest int
	AtRest                 int // rounds in which next to nothing was written between the two backups
	Again                  int // backups that hb refused: see refusals
	oracle.Equality
}

// fewPages is how many pages a server changes that is at rest: MySQL 8.0 and later note
// the numbers of transactions that reading takes.
const fewPages = 4

func (s *stormSum) add(e oracle.Equality) {
	s.Files, s.Pages, s.Later, s.Stamped = s.Files+e.Files, s.Pages+e.Pages, s.Later+e.Later, s.Stamped+e.Stamped
	if e.Later <= fewPages {
		s.AtRest++
	}
}

// stormLayouts are layouts of servers that chains must be right about, by server; "": all.
var stormLayouts = map[string][]mysqldtest.Options{
	"":                     {{}, {PageSize: 8192, Init: []string{threeFiles}}},
	mysqldtest.MariaDB105:  {undoTruncated, {PageSize: 4096}, {PageSize: 65536}, {Config: []string{scrub}}},
	mysqldtest.MariaDB1011: {undoTruncated, {PageSize: 4096}, {PageSize: 32768}, {Config: []string{scrub}}},
	mysqldtest.MariaDB118:  {undoTruncated, {PageSize: 4096}, {PageSize: 65536}, {Config: []string{scrub}}},
	mysqldtest.MySQL56:     {{PageSize: 4096}, {Init: []string{"innodb-undo-tablespaces=3"}}},
	mysqldtest.MySQL57:     {undoTruncated, {PageSize: 32768}},
	mysqldtest.MySQL97:     {undoTruncated, {PageSize: 32768}},
}

const (
	threeFiles = "innodb-data-file-path=ibdata1:12M;ibdata2:10M;ibdata3:5M:autoextend"
	scrub      = "innodb-immediate-scrub-data-uncompressed=ON"
)

var undoTruncated = mysqldtest.Options{
	Init:   []string{"loose-innodb-undo-tablespaces=3"},
	Config: []string{"innodb-undo-log-truncate=ON", "innodb-max-undo-log-size=10M", "loose-innodb-purge-rseg-truncate-frequency=1"},
}

// stormLoads are the loads that a server may have besides those that all have.
var stormLoads = []string{"indexes", "partitions", "truncates", "bulk"}

// storm is a server, its loads, and its chain of backups.
type storm struct {
	*testing.T
	s       *mysqldtest.Server
	options mysqldtest.Options // of a server on what was restored
	rnd     *rand.Rand
	names   []string
	loads   []load.Load // of those names
	dir     string      // of the archives
	extra   []string    // options of every backup
	chain   []string
	taken   int // archives so far
	last    innodb.LSN
	again   int // backups that hb refused: see refusals
}

// stormServer has some rounds with one server, and reports whether all were right.
func stormServer(t *testing.T, root *mysqldtest.Root, rnd *rand.Rand, rounds int, sum *stormSum) bool {
	layouts := slices.Concat(stormLayouts[""], stormLayouts[root.Name])
	o := layouts[rnd.IntN(len(layouts))]
	o.Dir = filepath.Join(t.TempDir(), "server")
	o.Config = append(slices.Clone(o.Config), "innodb-buffer-pool-size=128M", "max-connections=200", "innodb-io-capacity=10000", "innodb-io-capacity-max=20000")
	if root.MariaDB() { // a checkpoint of Aria between the two backups would make its logs differ
		o.Config = append(o.Config, "aria-checkpoint-interval=0")
	}
	s, err := mysqldtest.Launch(t.Context(), root, o)
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := s.Kill(); err != nil {
			t.Error(err)
		}
		if log, err := s.ErrorLog(); t.Failed() {
			t.Logf("the server's error log ends (%v):\n%s", err, log[max(0, len(log)-16<<10):])
		}
		os.RemoveAll(o.Dir)
	}()
	st := &storm{T: t, s: s, options: mysqldtest.Options{Init: s.Init, Config: o.Config}, rnd: rnd, dir: filepath.Join(o.Dir, "archives")}
	if err := os.Mkdir(st.dir, 0o755); err != nil {
		t.Fatal(err)
	}
	st.prepare()
	t.Logf("page size %d, %q", o.PageSize, slices.Concat(o.Init, o.Config))
	ok := true
	for n := 1; n <= rounds && ok; n++ {
		ok = st.round(sum, n == rounds)
	}
	sum.Again += st.again
	return ok
}

// prepare draws the loads and makes their tables.
func (st *storm) prepare() {
	if st.s.Root.Name == mysqldtest.MySQL97 && st.rnd.IntN(3) == 0 {
		st.s.Exec(st, "INSTALL COMPONENT 'file://component_mysqlbackup'", "SELECT mysqlbackup_page_track_set(1)")
		st.Log("the server tracks changed pages")
	}
	more := slices.Clone(stormLoads)
	st.rnd.Shuffle(len(more), func(i, j int) { more[i], more[j] = more[j], more[i] })
	st.carry(append([]string{"mixed", "renames", "imports"}, more[:st.rnd.IntN(3)]...))
}

// carry makes the tables of the loads of these names.
func (st *storm) carry(names []string) {
	st.s.Exec(st, "CREATE DATABASE hb_t", "CREATE TABLE "+load.Digits+" (d INT NOT NULL PRIMARY KEY) ENGINE=InnoDB",
		"INSERT INTO "+load.Digits+" VALUES (0),(1),(2),(3),(4),(5),(6),(7),(8),(9)")
	st.names = names
	known := &load.Round{Server: st.s.Root.Name, Datadir: st.s.Datadir, NoBinlog: !st.options.Binlog, Note: st.Logf}
	for _, name := range st.names {
		k := kinds.All[slices.IndexFunc(kinds.All, func(k kinds.Kind) bool { return k.Name == name })]
		l := k.Make(known, st.rnd.Uint64())
		if err := l.Prepare(st.Context(), st.s.DB()); err != nil {
			st.Fatalf("%s: %v", name, err)
		}
		st.loads = append(st.loads, l)
	}
	st.Logf("loads %q", st.names)
}

// round makes a chain, or makes one longer, under the load, rests, and compares. After the
// last round of a server, the loads look at what was restored, too.
func (st *storm) round(sum *stormSum, last bool) bool {
	began := time.Now()
	onto := st.begin()
	fresh := len(st.chain)
	increments := 1 + st.rnd.IntN(5)
	st.during(func() {
		st.pause()
		if fresh == 0 {
			st.take("")
		}
		for range increments - 1 {
			st.pause()
			st.take(st.chain[len(st.chain)-1])
		}
		st.pause()
	})
	full, ends := st.same()
	way := st.rnd.IntN(len(restoreWays))
	dirs := [2]string{filepath.Join(st.dir, "of the chain"), filepath.Join(st.dir, "of the full backup")}
	restoreWays[way].restore(st, dirs[0])
	st.must("extract", "--apply", "-C", dirs[1], full)
	e, err := oracle.SameServers(dirs[0], dirs[1], ends)
	sum.Rounds++
	sum.Links, sum.Longest = sum.Links+len(st.chain), max(sum.Longest, len(st.chain))
	sum.add(e)
	st.Logf("round %d: %s, %d archives, %s: %+v; %.1f s", sum.Rounds, onto, len(st.chain), restoreWays[way].name, e, time.Since(began).Seconds())
	if err != nil {
		st.Errorf("round %d, the last end at LSN %d and %d: the chain (first) restores something else than the full backup (second):\n%v", sum.Rounds, ends[0], ends[1], err)
		st.keep(full, dirs)
		return false
	}
	if last {
		for _, dir := range dirs {
			st.check(dir)
		}
	}
	for _, dir := range dirs {
		if err := os.RemoveAll(dir); err != nil {
			st.Fatal(err)
		}
	}
	return true
}

// mostTries is how often both backups are made of a server that wrote something between them.
const mostTries = 4

// same takes the last increment, and a full backup of the same moment. It returns the LSNs at
// which they end: the same one, if the server wrote nothing between them.
func (st *storm) same() (full string, ends [2]innodb.LSN) {
	full = st.path("full")
	// MySQL 8.0 and later note a number of a transaction in each backup.
	notes := !st.s.Root.MariaDB() && st.s.Root.AtLeast(8, 0)
	for range mostTries {
		st.rest()
		st.take(st.chain[len(st.chain)-1])
		ends = [2]innodb.LSN{st.last, st.backup(full, "")}
		if ends[0] == ends[1] || notes {
			break
		}
	}
	return full, ends
}

// check has the loads look at a restored directory.
func (st *storm) check(dir string) {
	s := mysqldtest.StartOn(st.T, st.s.Root, dir, st.options)
	for _, l := range st.loads {
		if err := l.Check(st.Context(), s.DB()); err != nil && !st.counters(err) {
			st.Errorf("%s: %v", filepath.Base(dir), err)
		}
	}
	if err := s.Stop(); err != nil {
		st.Error(err)
	}
}

// counters reports whether a check has nothing but counters of AUTO_INCREMENT to complain of,
// which MySQL 8.0 and later restore as the number that was given out last, not the next one,
// if it was written at a checkpoint: so does 9.7.4 if it is stopped and started itself.
func (st *storm) counters(err error) bool {
	if st.s.Root.MariaDB() || !st.s.Root.AtLeast(8, 0) {
		return false
	}
	for line := range strings.Lines(err.Error()) {
		if !strings.HasPrefix(line, "AUTO_INCREMENT of ") {
			return false
		}
	}
	return true
}

// keep keeps what differs, if somebody wants to look at it (HB_STORM_KEEP: a directory).
func (st *storm) keep(full string, dirs [2]string) {
	to := os.Getenv("HB_STORM_KEEP")
	if to == "" {
		return
	}
	to = filepath.Join(to, st.s.Root.Name)
	if err := os.MkdirAll(to, 0o755); err != nil {
		st.Error(err)
	}
	for _, from := range slices.Concat(st.chain, []string{full}, dirs[:]) {
		if err := os.Rename(from, filepath.Join(to, filepath.Base(from))); err != nil {
			st.Error(err)
		}
	}
}

// mostLinks is how long a chain gets.
const mostLinks = 9

// begin decides what the next increment builds on.
func (st *storm) begin() (what string) {
	full := filepath.Join(st.dir, "full")
	was := st.chain
	switch n := st.rnd.IntN(4); {
	case len(was) > 0 && len(was) < mostLinks && n < 2:
		return "the chain goes on"
	case len(was) > 0 && n == 2:
		st.chain, what = []string{st.path(fmt.Sprint("was full ", st.taken))}, "onto the last full backup"
		if err := os.Rename(full, st.chain[0]); err != nil {
			st.Fatal(err)
		}
	case len(was) > 0 && n == 3:
		st.chain, what = []string{st.path(fmt.Sprint("merged ", st.taken))}, "onto the chain, merged"
		st.merge(st.chain[0], was)
	default:
		st.chain, what = nil, "from a full backup"
	}
	for _, name := range was {
		if err := os.Remove(name); err != nil {
			st.Fatal(err)
		}
	}
	return what
}

func (st *storm) path(name string) string { return filepath.Join(st.dir, name) }

// burst is how long the load runs that makes undo tablespaces grow: it writes as fast as it
// can, so that the server would overwrite redo that a backup has not read yet.
const burst = 200 * time.Millisecond

// during runs f while the loads run, and stops them.
func (st *storm) during(f func()) {
	ctx, stop := context.WithCancel(st.Context())
	var wg sync.WaitGroup
	for i, l := range st.loads {
		wg.Go(func() {
			ctx := ctx
			if st.names[i] == "bulk" {
				var cancel context.CancelFunc
				ctx, cancel = context.WithTimeout(ctx, burst)
				defer cancel()
			}
			if err := l.Run(ctx, st.s.DB()); err != nil {
				st.Error(err)
			}
		})
	}
	defer wg.Wait()
	defer stop()
	f()
}

func (st *storm) pause() { time.Sleep(time.Duration(50+st.rnd.IntN(400)) * time.Millisecond) }

// lsnNow finds the server's LSN in what SHOW ENGINE INNODB STATUS says.
var lsnNow = regexp.MustCompile(`Log sequence number\s+(\d+)`)

// rest waits until the server writes nothing any more, and has it write all pages.
func (st *storm) rest() {
	const percent = "SELECT @@global.innodb_max_dirty_pages_pct"
	before := st.s.Value(st, percent)
	if st.s.Root.MariaDB() { // all that can be purged is
		st.s.Exec(st, "SET GLOBAL innodb_max_purge_lag_wait = 0")
	}
	st.s.WriteOut(st)
	was, same := "", 0
	mysqldtest.Await(st, "the server is at rest", func() bool {
		status := st.s.Rows(st, "SHOW ENGINE INNODB STATUS")[0][2]
		now := lsnNow.FindStringSubmatch(status)
		if now == nil {
			st.Fatalf("no LSN in %s", status)
		}
		if same++; now[1] != was {
			was, same = now[1], 0
		}
		time.Sleep(20 * time.Millisecond)
		return same >= 10
	})
	st.s.WriteOut(st)
	st.s.Exec(st, "SET GLOBAL innodb_max_dirty_pages_pct = "+before)
}

// refusals are what hb says where it refuses a server on which somebody imports a tablespace:
// the file that waits for the import has the id of the one that it is a copy of (servers do
// not always tell hb that it waits).
var refusals = regexp.MustCompile("waits for ALTER TABLE … IMPORT TABLESPACE|hb_t_imp/.* both say they are tablespace|copied as hb_t_imp/target[^ ]*, was removed during the backup")

// mostAgain is how many backups of one server may be refused for that.
const mostAgain = 20

// take adds an archive to the chain.
func (st *storm) take(since string) {
	st.taken++
	name := st.path(fmt.Sprint("archive ", st.taken))
	st.last = st.backup(name, since)
	st.chain = append(st.chain, name)
}

// backup makes an archive, and returns the LSN at which it ends.
func (st *storm) backup(name, since string) innodb.LSN {
	args := []string{"backup", "--no-defaults", "-u", "root", "-S", st.s.Socket, "--tmpdir", st.dir, "--parallel=2", "--manifest-out", name + ".manifest"}
	if st.rnd.IntN(4) == 0 {
		args = append(args, "--compress")
	}
	args = append(args, st.extra...)
	if since != "" {
		args = append(args, "--since", since)
	}
	for {
		out, err := os.Create(name)
		if err != nil {
			st.Fatal(err)
		}
		cmd := hb(st.T, args...)
		cmd.Stdout = out
		r := hbtest.Finish(st.T, cmd)
		if err := out.Close(); err != nil {
			st.Fatal(err)
		}
		if r.Code == 0 {
			break
		}
		if st.again++; st.again > mostAgain || !refusals.MatchString(r.Stderr) {
			st.Fatalf("%q: exit code %d\n%s", args, r.Code, r.Stderr)
		}
	}
	return st.endOf(name + ".manifest")
}

// endOf reads the LSN at which a backup ends, and removes its manifest.
func (st *storm) endOf(manifest string) innodb.LSN {
	f, err := os.Open(manifest)
	if err != nil {
		st.Fatal(err)
	}
	defer f.Close()
	defer os.Remove(manifest)
	lines := bufio.NewScanner(f)
	for lines.Buffer(nil, 1<<20); lines.Scan(); {
		var m metadata.Manifest
		if strings.Contains(lines.Text(), `"hb_manifest":`) {
			if err := json.Unmarshal(lines.Bytes(), &m); err != nil {
				st.Fatal(err)
			}
			return m.LastLSN
		}
	}
	st.Fatalf("%s: no manifest: %v", manifest, lines.Err())
	return 0
}

func (st *storm) must(args ...string) { hbtest.Succeed(st.T, hb(st.T, args...)) }

func (st *storm) merge(to string, chain []string) {
	out, err := os.Create(to)
	if err != nil {
		st.Fatal(err)
	}
	cmd := hb(st.T, append([]string{"merge"}, chain...)...)
	cmd.Stdout = out
	hbtest.Succeed(st.T, cmd)
	if err := out.Close(); err != nil {
		st.Fatal(err)
	}
}

// restoreWays are the ways in which a chain is restored.
var restoreWays = []struct {
	name    string
	restore func(st *storm, dir string)
}{
	{"merge | extract, apply", func(st *storm, dir string) {
		piped(st.T, hb(st.T, append([]string{"merge"}, st.chain...)...), hb(st.T, "extract", "-C", dir))
		st.must("apply", dir)
	}},
	{"extract --apply", func(st *storm, dir string) {
		st.must(append([]string{"extract", "--apply", "-C", dir}, st.chain...)...)
	}},
	{"extract, apply", func(st *storm, dir string) {
		st.must(append([]string{"extract", "-C", dir}, st.chain...)...)
		st.must("apply", dir)
	}},
	{"merge twice | extract --apply", func(st *storm, dir string) {
		n := 1 + st.rnd.IntN(len(st.chain)-1) // increments in the first
		merged := st.path("merged half")
		st.merge(merged, st.chain[:n+1])
		var second *exec.Cmd
		if n+1 < len(st.chain) {
			second = hb(st.T, append([]string{"merge", merged}, st.chain[n+1:]...)...)
		} else {
			second = exec.Command("cat", merged)
		}
		piped(st.T, second, hb(st.T, "extract", "--apply", "-C", dir))
		if err := os.Remove(merged); err != nil {
			st.Fatal(err)
		}
	}},
}
