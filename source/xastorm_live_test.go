package source_test

import (
	"context"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"hb/source"
	"hb/source/mysqld"
	"hb/source/mysqld/login"
	"hb/source/mysqld/mysqldtest"
	"hb/xbstream/metadata"
)

// TestXAStorm: whatever is prepared or between the binary log and InnoDB at the moment of the
// position, a restored 9.7 has the rows, the prepared XA transactions and the GTID set that
// the source's own list of its binary log has up to file and position; the recorded GTID
// set is the same; and the restored server goes on as a replica by each of the two. In every second
// round log_status does not wait for prepared transactions, as before 9.7: semi-synchronous
// replication holds them while another statement answers in its place.
//
// A seed, which is printed (HB_STORM_SEED), draws settings and loads. The usual run has four
// rounds, the long form 500.
func TestXAStorm(t *testing.T) {
	root := mysqldtest.Need(t, mysqldtest.MySQL97)
	seed := uint64(time.Now().UnixNano()) % 1e9
	if s := os.Getenv("HB_STORM_SEED"); s != "" {
		if _, err := fmt.Sscan(s, &seed); err != nil {
			t.Fatal(err)
		}
	}
	rounds := 4
	if mysqldtest.Long() {
		rounds = 500
	}
	if s := os.Getenv("HB_STORM_ROUNDS"); s != "" {
		if _, err := fmt.Sscan(s, &rounds); err != nil {
			t.Fatal(err)
		}
	}
	st := newXAStorm(t, root, seed)
	for n := 0; n < rounds && !t.Failed(); n++ {
		st.round(n)
	}
	t.Logf("HB_STORM_SEED=%d: %+v", seed, st.sum)
	if st.sum.Short*2 < st.sum.Old {
		t.Errorf("in only %d of %d rounds a transaction was in the binary log and not in gtid_executed", st.sum.Short, st.sum.Old)
	}
	if st.sum.Prepared == 0 {
		t.Error("no XA transaction was prepared at any position")
	}
}

// xaStorm is a server, its load, and what was compared.
type xaStorm struct {
	*testing.T
	s      *mysqldtest.Server
	rnd    *rand.Rand
	socket string // which stands in for servers before 9.7, in rounds of that kind
	dir    string

	mu       sync.Mutex
	old      bool   // such a round
	rotated  bool   // the backup has begun a new binary log file
	reported string // gtid_executed in place of log_status, "" while nobody asked

	sum struct {
		Rounds, Old, Short int // Short: of Old, with transactions that gtid_executed lacked
		Logged             int // transactions up to the positions, without those before the rounds
		Prepared           int // XA transactions that were prepared at positions
	}
}

// xaWorkers is how many sessions the load has.
const xaWorkers = 6

func newXAStorm(t *testing.T, root *mysqldtest.Root, seed uint64) *xaStorm {
	s := mysqldtest.Start(t, root, mysqldtest.Options{Binlog: true, Config: []string{"innodb-redo-log-capacity=8M", "innodb-buffer-pool-size=64M", "binlog-rows-query-log-events=ON"}})
	s.Exec(t, "CREATE DATABASE d", "CREATE TABLE d.t (w INT, n INT, PRIMARY KEY (w, n))", "INSTALL PLUGIN rpl_semi_sync_source SONAME 'semisync_source.so'",
		"SET GLOBAL rpl_semi_sync_source_wait_point=AFTER_SYNC", "SET GLOBAL rpl_semi_sync_source_timeout=3600000")
	st := &xaStorm{T: t, s: s, rnd: rand.New(rand.NewPCG(seed, 0)), dir: t.TempDir()}
	st.socket = rewriting(t, s, st.rewrite)
	return st
}

// rewrite answers log_status as servers before 9.7 do: nothing that has not reached the binary
// log by then goes on to InnoDB until position and LSN are read, in this order.
func (st *xaStorm) rewrite(q string) string {
	st.mu.Lock()
	defer st.mu.Unlock()
	if strings.HasSuffix(q, " BINARY LOGS") {
		st.rotated = true
	}
	if !st.old || !st.rotated || !strings.HasSuffix(q, " FROM performance_schema.log_status") {
		return q
	}
	const tries = 20
	for range tries {
		answer, held := st.hold()
		if held {
			return answer
		}
	}
	st.Errorf("in each of %d tries something went on to InnoDB", tries)
	return q
}

// hold is one try of rewrite. The plugin may lose count of transactions, and hold none any
// more.
func (st *xaStorm) hold() (answer string, held bool) {
	const enable = "SET GLOBAL rpl_semi_sync_source_enabled="
	st.s.Exec(st, enable+"ON")
	defer st.s.Exec(st, enable+"OFF")
	time.Sleep(20 * time.Millisecond) // connections come to where they are held
	answer, executed, err := withoutWaiting(st.T, st.s)
	if err != nil {
		st.Error(err)
	}
	st.reported = executed
	return answer, st.s.Rows(st, "SHOW GLOBAL STATUS LIKE 'Rpl_semi_sync_source_status'")[0][1] == "ON"
}

// round makes a backup under the load, restores it twice, and compares.
func (st *xaStorm) round(n int) {
	began := time.Now()
	settings := st.begin(n)
	archive := filepath.Join(st.dir, "archive")
	defer os.RemoveAll(archive)
	stop := st.load(st.rnd.Uint64())
	time.Sleep(time.Duration(50+st.rnd.IntN(200)) * time.Millisecond)
	at := *st.backup(archive).Binlog
	time.Sleep(time.Duration(st.rnd.IntN(100)) * time.Millisecond)
	stop()
	want := st.logged(at)
	if set := strings.Join(want.gtids, ","); subtract(st.T, st.s, set, at.GTID) != "" || subtract(st.T, st.s, at.GTID, set) != "" {
		st.Errorf("round %d: %s is recorded, in the log up to %s %d is %s", n, at.GTID, at.File, at.Pos, set)
	}
	short := st.reported != "" && subtract(st.T, st.s, at.GTID, st.reported) != ""
	for i, from := range []mysqldtest.Position{{File: at.File, Pos: at.Pos}, {GTID: at.GTID}} {
		st.restored(n, 2+i, archive, at.GTID, want, from)
	}
	st.sum.Rounds++
	st.sum.Logged += len(want.gtids) - 1
	st.sum.Prepared += len(want.prepared)
	if st.old {
		st.sum.Old++
	}
	if short {
		st.sum.Short++
	}
	st.Logf("round %d: %s, 8.0's rule %v (gtid_executed short: %v): %d transactions, %d rows, %d prepared; %.1f s",
		n, settings, st.old, short, len(want.gtids)-1, len(want.rows), len(want.prepared), time.Since(began).Seconds())
}

// begin empties table and binary log, and draws the settings of a round.
func (st *xaStorm) begin(n int) (settings string) {
	st.mu.Lock()
	st.old, st.rotated, st.reported = n%2 == 1, false, ""
	st.mu.Unlock()
	// What went before becomes gtid_purged. (After RESET BINARY LOGS AND GTIDS the plugin for
	// semi-synchronous replication would hold nothing: file names come again.)
	st.s.Exec(st, "TRUNCATE TABLE d.t", "FLUSH BINARY LOGS")
	at, err := st.s.BinlogPosition(st.Context())
	if err != nil {
		st.Fatal(err)
	}
	// The server keeps a file that a replica of the round before was reading. A file that was
	// begun under load is no beginning: its list of earlier GTIDs lacks XA transactions that
	// were ending just then.
	mysqldtest.Await(st, "the server purges its binary logs", func() bool {
		st.s.Exec(st, "PURGE BINARY LOGS TO '"+at.File+"'")
		return st.s.Rows(st, "SHOW BINARY LOGS")[0][0] == at.File
	})
	var set []string
	for _, v := range []struct {
		name   string
		values []string
	}{
		{"sync_binlog", []string{"0", "1"}}, {"innodb_flush_log_at_trx_commit", []string{"0", "1", "2"}}, {"binlog_order_commits", []string{"ON", "OFF"}},
		{"binlog_group_commit_sync_delay", []string{"0", "700"}}, {"innodb_max_dirty_pages_pct", []string{"0", "90"}},
	} {
		set = append(set, v.name+"="+v.values[st.rnd.IntN(len(v.values))])
	}
	st.s.Exec(st, "SET GLOBAL "+strings.Join(set, ", GLOBAL "))
	return strings.Join(set, " ")
}

func (st *xaStorm) backup(archive string) metadata.Manifest {
	srv, err := mysqld.Connect(st.Context(), login.Options{Network: "unix", Socket: st.socket, User: "root"})
	if err != nil {
		st.Fatal(err)
	}
	defer srv.Close()
	if st.old {
		srv.Series.WaitsForPrepared = false
	}
	f, err := os.Create(archive)
	if err != nil {
		st.Fatal(err)
	}
	defer f.Close()
	r, err := source.Run(st.Context(), srv, f, source.Options{Parallel: 2, Tmpdir: st.dir, Tool: "hb", ToolVersion: "test"})
	if err != nil {
		st.Fatal(err)
	}
	return r.Manifest
}

// xaTruth is what a server has at a position: rows, prepared XA transactions, both in
// order, and the GTIDs of the log, the first of which are those before its first file.
type xaTruth struct{ rows, prepared, gtids []string }

// logged is what the source's own list of its binary log has up to a position.
func (st *xaStorm) logged(at metadata.BinlogPos) (out xaTruth) {
	rows, prepared := make(map[string]bool), make(map[string][]string)
	var current []string // of the transaction
	commit := func(of []string) {
		for _, row := range of {
			rows[row] = true
		}
	}
	for i, f := range st.s.Rows(st, "SHOW BINARY LOGS") {
		for _, e := range st.s.Rows(st, "SHOW BINLOG EVENTS IN '"+f[0]+"'") {
			end, err := strconv.ParseUint(e[4], 10, 64)
			if err != nil {
				st.Fatal(err)
			}
			if f[0] == at.File && end > at.Pos {
				break
			}
			kind, info := e[2], e[5]
			xid, _, _ := strings.Cut(strings.TrimLeft(info, "XACOMITRLBKPE "), ",")
			switch {
			case kind == "Previous_gtids" && i == 0:
				out.gtids = append(out.gtids, info)
			case kind == "Gtid":
				_, gtid, _ := strings.Cut(info, "'")
				out.gtids = append(out.gtids, strings.TrimSuffix(gtid, "'"))
				current = nil
			case kind == "Rows_query":
				_, values, _ := strings.Cut(info, "(")
				current = append(current, strings.TrimSuffix(values, ")"))
			case kind == "Xid", strings.HasPrefix(info, "XA COMMIT ") && strings.HasSuffix(info, " ONE PHASE"):
				commit(current)
			case kind == "XA_prepare":
				prepared[xid] = current
			case strings.HasPrefix(info, "XA COMMIT "):
				commit(prepared[xid])
				delete(prepared, xid)
			case strings.HasPrefix(info, "XA ROLLBACK "):
				delete(prepared, xid)
			}
		}
		if f[0] == at.File {
			break
		}
	}
	out.rows, out.prepared = slices.Sorted(maps.Keys(rows)), slices.Sorted(maps.Keys(prepared))
	return out
}

// had is what a server has.
func (st *xaStorm) had(s *mysqldtest.Server) (out xaTruth) {
	for _, r := range s.Rows(st, "SELECT CONCAT(w, ', ', n) FROM d.t") {
		out.rows = append(out.rows, r[0])
	}
	for _, r := range s.Rows(st, "XA RECOVER CONVERT XID") { // formatID, gtrid_length, bqual_length, data
		out.prepared = append(out.prepared, "'"+strings.ToLower(strings.TrimPrefix(r[3], "0x"))+"'")
	}
	slices.Sort(out.rows)
	slices.Sort(out.prepared)
	return out
}

// restored compares a restored server with what the log says, and has it go on as a replica.
func (st *xaStorm) restored(round, id int, archive, gtids string, want xaTruth, from mysqldtest.Position) {
	target, dir := filepath.Join(st.dir, "restored"), filepath.Join(st.dir, "server")
	defer os.RemoveAll(target)
	defer os.RemoveAll(dir)
	restoreByHB(st.T, st.s.Root, archive, target)
	copied, err := mysqldtest.LaunchOn(st.Context(), st.s.Root, target, mysqldtest.Options{Binlog: true, ServerID: id, Dir: dir,
		Config: []string{"innodb-buffer-pool-size=64M", "replica-parallel-workers=4", "replica-preserve-commit-order=" + []string{"ON", "OFF"}[st.rnd.IntN(2)]}})
	if err != nil {
		st.Fatal(err)
	}
	defer func() {
		if err := copied.Kill(); err != nil {
			st.Error(err)
		}
	}()
	if got := strings.ReplaceAll(copied.Value(st, "SELECT @@global.gtid_executed"), "\n", ""); got != gtids {
		st.Errorf("round %d: the restored server has executed %s, recorded is %s", round, got, gtids)
	}
	got := st.had(copied)
	if !slices.Equal(got.rows, want.rows) || !slices.Equal(got.prepared, want.prepared) {
		st.Errorf("round %d: the restored server has %d rows and prepared %q, in the log up to the position are %d and %q", round, len(got.rows), got.prepared, len(want.rows), want.prepared)
		return
	}
	if err := copied.ReplicateFrom(st.Context(), st.s, from); err != nil {
		st.Fatal(err)
	}
	if err := copied.WaitFor(st.Context(), st.s, time.Minute); err != nil {
		st.Errorf("round %d, from %+v: %v", round, from, err)
		return
	}
	now, source := st.had(copied), st.had(st.s)
	if !slices.Equal(now.rows, source.rows) || len(now.prepared) != 0 {
		st.Errorf("round %d, from %+v: the replica has %d rows and prepared %q, its source %d rows", round, from, len(now.rows), now.prepared, len(source.rows))
	}
}

// xaLoad is what the load's sessions share: XA transactions that one has prepared, for any to
// commit or roll back.
type xaLoad struct {
	mu       sync.Mutex
	prepared []string
}

func (l *xaLoad) put(xid string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.prepared = append(l.prepared, xid)
}

func (l *xaLoad) take(rnd *rand.Rand) (xid string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.prepared) == 0 {
		return ""
	}
	i := rnd.IntN(len(l.prepared))
	xid = l.prepared[i]
	l.prepared = slices.Delete(l.prepared, i, i+1)
	return xid
}

// load runs until the function that it returns is called; that leaves nothing prepared.
func (st *xaStorm) load(seed uint64) (stop func()) {
	ctx, cancel := context.WithCancel(st.Context())
	var l xaLoad
	var wg sync.WaitGroup
	for w := range xaWorkers {
		rnd := rand.New(rand.NewPCG(seed, uint64(w)))
		wg.Go(func() {
			for n := 0; ctx.Err() == nil; n++ {
				if err := st.transaction(&l, rnd, w, n); err != nil {
					st.Error(err)
					return
				}
				time.Sleep(time.Duration(rnd.IntN(4)) * time.Millisecond)
			}
		})
	}
	return func() {
		cancel()
		wg.Wait()
		for _, xid := range l.prepared {
			st.s.Exec(st, "XA COMMIT "+xid)
		}
	}
}

// transaction runs one on a connection of the pool: mostly another than the last one's.
func (st *xaStorm) transaction(l *xaLoad, rnd *rand.Rand, w, n int) error {
	insert := func(n int) string { return fmt.Sprintf("INSERT INTO d.t VALUES (%d, %d)", w, n) }
	xid := fmt.Sprintf("'x%d-%d'", w, n)
	statements := []string{insert(2 * n)}
	switch kind := rnd.IntN(8); kind {
	case 0, 1: // commits at once
	case 2:
		statements = []string{"BEGIN", insert(2 * n), insert(2*n + 1), "COMMIT"}
	case 3:
		statements = []string{"XA START " + xid, insert(2 * n), "XA END " + xid, "XA COMMIT " + xid + " ONE PHASE"}
	case 4:
		statements = []string{"XA START " + xid, insert(2 * n), "XA END " + xid, "XA PREPARE " + xid, "XA COMMIT " + xid}
	case 5, 6:
		statements = []string{"XA START " + xid, insert(2 * n), insert(2*n + 1), "XA END " + xid, "XA PREPARE " + xid}
		defer func() { l.put(xid) }()
	default:
		other := l.take(rnd)
		if other == "" {
			break
		}
		statements = []string{"XA COMMIT " + other}
		if rnd.IntN(4) == 0 {
			statements = []string{"XA ROLLBACK " + other}
		}
	}
	c, err := st.s.DB().Conn(st.Context())
	if err != nil {
		return err
	}
	defer c.Close()
	for _, q := range statements {
		if _, err := c.ExecContext(st.Context(), q); err != nil {
			return fmt.Errorf("%s: %w", q, err)
		}
	}
	return nil
}
