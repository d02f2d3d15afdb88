package testd

import (
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"hb/scripts/torture.d/load"
	"hb/scripts/torture.d/load/ddl"
	"hb/source/mysqld/mysqldtest"
	"hb/source/mysqld/mysqldtest/workload"
)

// TestDDLStorm: a throttled backup of 9.7 beside DDL of every kind, which goes on all the
// time, restores to a server whose tables are all whole, in which no table is missing or
// doubled, and which goes on as a replica until it is equal to the source. A seed, which is
// printed (HB_STORM_SEED), draws the loads and the options.
//
// The usual run has two rounds, the long form a thousand.
func TestDDLStorm(t *testing.T) {
	root := mysqldtest.Need(t, mysqldtest.MySQL97)
	seed := stormSeed(t)
	rounds := 2
	if mysqldtest.Long() {
		rounds = 1000
	}
	if s := os.Getenv("HB_STORM_ROUNDS"); s != "" {
		if _, err := fmt.Sscan(s, &rounds); err != nil {
			t.Fatal(err)
		}
	}
	var sum ddlSum
	defer func() { t.Logf("HB_STORM_SEED=%d: %+v", seed, sum) }()
	for n := 0; sum.Rounds < rounds && !t.Failed(); n++ {
		ddlServer(t, root, rand.New(rand.NewPCG(seed, uint64(n))), min(roundsOfOne, rounds-sum.Rounds), &sum)
	}
}

// ddlSum is what was done; the time is that of all backups.
type ddlSum struct {
	Rounds, Again, Statements int
	Backups                   time.Duration
}

// ddlLoads are the loads that a server has some of.
var ddlLoads = []string{"mixed", "renames", "imports", "indexes", "truncates", "databases", "partitions", "columns", "names", "tablespaces", "encryptions"}

// ddlServer has some rounds with one server.
func ddlServer(t *testing.T, root *mysqldtest.Root, rnd *rand.Rand, rounds int, sum *ddlSum) {
	dir := filepath.Join(t.TempDir(), "server")
	defer os.RemoveAll(dir)
	if err := os.Mkdir(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	o := mysqldtest.Options{Dir: dir, Binlog: true, Keyring: filepath.Join(dir, "keyring"), Config: []string{"innodb-buffer-pool-size=128M", "max-connections=200"}}
	s, err := mysqldtest.Launch(t.Context(), root, o)
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := s.Kill(); err != nil {
			t.Error(err)
		}
	}()
	s.DB().SetMaxIdleConns(-1) // what a load sets in its session is of no other load's
	st := &storm{T: t, s: s, options: mysqldtest.Options{Init: s.Init, Config: append(o.Config, "skip-replica-start"), Binlog: true}, rnd: rnd, dir: filepath.Join(dir, "archives")}
	if err := os.Mkdir(st.dir, 0o755); err != nil {
		t.Fatal(err)
	}
	names := slices.Clone(ddlLoads)
	rnd.Shuffle(len(names), func(i, j int) { names[i], names[j] = names[j], names[i] })
	st.carry(names[:3+rnd.IntN(3)])
	for n := 0; n < rounds && !t.Failed(); n++ {
		st.ddlRound(sum)
	}
	sum.Again += st.again
}

// statements counts what changed definitions.
func (st *storm) statements() (n int) {
	for _, row := range st.s.Rows(st, "SHOW GLOBAL STATUS WHERE Variable_name RLIKE '^Com_(alter|create|drop|rename|truncate)'") {
		var v int
		if _, err := fmt.Sscan(row[1], &v); err != nil {
			st.Fatal(err)
		}
		n += v
	}
	return n
}

func (st *storm) ddlRound(sum *ddlSum) {
	began, archive, target := time.Now(), st.path("archive"), st.path("restored")
	st.extra = []string{fmt.Sprintf("--throttle=%dMiB", 60+st.rnd.IntN(200))}
	before := st.statements()
	var took time.Duration
	st.during(func() {
		st.pause()
		for _, l := range st.loads {
			l.Began()
		}
		from := time.Now()
		st.backup(archive, "")
		took = time.Since(from)
		for _, l := range st.loads {
			l.Ended()
		}
		st.pause()
	})
	statements := st.statements() - before
	st.must("extract", "--apply", "--keyring", st.s.Keyring, "-C", target, archive)
	st.judge(target)
	sum.Rounds, sum.Statements, sum.Backups = sum.Rounds+1, sum.Statements+statements, sum.Backups+took
	st.Logf("round %d: backup of %.1f s, %d statements of DDL; %.1f s", sum.Rounds, took.Seconds(), statements, time.Since(began).Seconds())
	if st.Failed() {
		st.keep(archive, [2]string{target, target})
		return
	}
	for _, name := range []string{archive, target, target + " server"} {
		if err := os.RemoveAll(name); err != nil {
			st.Fatal(err)
		}
	}
}

// judge starts a server on a copy, asks the loads what they find there, and lets it catch up
// with the source.
func (st *storm) judge(target string) {
	o := st.options
	o.Dir, o.ServerID = target+" server", 2
	if err := os.MkdirAll(o.Dir, 0o755); err != nil {
		st.Fatal(err)
	}
	o.Keyring = filepath.Join(o.Dir, "keyring")
	keys, err := os.ReadFile(st.s.Keyring)
	if err != nil {
		st.Fatal(err)
	}
	if err := os.WriteFile(o.Keyring, keys, 0o600); err != nil {
		st.Fatal(err)
	}
	s, err := mysqldtest.LaunchOn(st.Context(), st.s.Root, target, o)
	if err != nil {
		st.Fatal(err)
	}
	defer func() {
		if err := s.Kill(); err != nil {
			st.Error(err)
		}
	}()
	for _, l := range st.loads {
		if tidier, ok := l.(load.Tidier); ok {
			if err := tidier.Tidy(st.Context(), s.DB()); err != nil {
				st.Error(err)
			}
		}
	}
	if err := workload.CheckTables(st.Context(), s.DB()); err != nil {
		st.Error(err)
	}
	for i, l := range st.loads {
		if err := l.Check(st.Context(), s.DB()); err != nil && !st.counters(err) {
			st.Errorf("%s: %v", st.names[i], err)
		}
	}
	if !st.Failed() {
		st.follow(s, target)
	}
	if log, err := s.ErrorLog(); st.Failed() {
		st.Logf("the error log of the copy ends (%v):\n%s", err, log[max(0, len(log)-8<<10):])
	}
}

// follow makes a copy a replica from the recorded position, and compares all tables.
func (st *storm) follow(s *mysqldtest.Server, target string) {
	at, err := mysqldtest.RecordedPosition(target)
	if err != nil {
		st.Fatal(err)
	}
	if st.rnd.IntN(2) == 0 {
		at.GTID = ""
	}
	if err := s.ReplicateFrom(st.Context(), st.s, at); err != nil {
		st.Fatal(err)
	}
	if err := s.WaitFor(st.Context(), st.s, time.Minute); err != nil {
		st.Errorf("as a replica from %+v: %v", at, err)
		return
	}
	var sums [2]map[string]string
	for i, of := range []*mysqldtest.Server{st.s, s} {
		if sums[i], err = workload.Checksums(st.Context(), of.DB()); err != nil {
			st.Error(err)
			return
		}
		for _, name := range ddl.NotReplicated {
			delete(sums[i], strings.ReplaceAll("`"+name+"`", ".", "`.`"))
		}
	}
	for _, d := range workload.Differences(sums[0], sums[1]) {
		st.Errorf("as a replica from %+v it has caught up: %s", at, d)
	}
}
