package position

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"hb/source/mysqld"
	"hb/source/mysqld/locks"
	"hb/source/mysqld/mysqldtest"
	"hb/source/mysqld/mysqldtest/client"
)

// replicaOf starts a replica of source, by file position.
func replicaOf(t *testing.T, source *mysqldtest.Server) *mysqldtest.Server {
	t.Helper()
	config := []string{"binlog-format=MIXED"}
	if !source.Root.AtLeast(8, 0) && source.Root.AtLeast(5, 7) { // else it knows one channel only
		config = append(config, "master-info-repository=TABLE", "relay-log-info-repository=TABLE")
	}
	replica := mysqldtest.Start(t, source.Root, mysqldtest.Options{Binlog: true, ServerID: 2, Config: config})
	at, err := source.BinlogPosition(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	at.GTID = ""
	mysqldtest.Attach(t, replica, source, at)
	return replica
}

// TestMySQLReplicaState checks the slave info file's text by running it: a copy
// that it sets up stands where the replica stood.
func TestMySQLReplicaState(t *testing.T) {
	mysqldtest.EachServer(t, mysqldtest.MySQL, mysqldtest.Options{Binlog: true}, func(t *testing.T, source *mysqldtest.Server) {
		ctx := t.Context()
		replica := replicaOf(t, source)
		source.Exec(t, "CREATE DATABASE d", "CREATE TABLE d.t (a INT PRIMARY KEY)", "INSERT INTO d.t VALUES (1)")
		mysqldtest.CatchUp(t, replica, source, 30*time.Second)
		srv, of := client.Connect(t, client.Options(replica)), client.Connect(t, client.Options(source))
		at, err := Binlog(ctx, of)
		if err != nil {
			t.Fatal(err)
		}
		master, change, stop := "MASTER", "CHANGE MASTER TO ", "STOP SLAVE"
		if source.Root.AtLeast(8, 4) {
			master, change, stop = "SOURCE", "CHANGE REPLICATION SOURCE TO ", "STOP REPLICA"
		}
		state := func(want string) ReplicaState {
			t.Helper()
			r, err := ReadReplica(ctx, srv)
			if err != nil {
				t.Fatal(err)
			}
			if got := r.FileText(); got != want {
				t.Errorf("%q, want %q", got, want)
			}
			return r
		}
		byFile := fmt.Sprintf("%s%s_LOG_FILE='%s', %s_LOG_POS=%d;\n", change, master, at.File, master, at.Pos)
		r := state(byFile)
		if len(r.Sources) != 1 || !r.Sources[0].Applying || r.Sources[0].Host != "127.0.0.1" || r.Sources[0].Port != fmt.Sprint(source.Port) || r.GTIDPos != at.GTID {
			t.Errorf("%+v, want GTIDs %s", r, at.GTID)
		}
		if srv.Series.LogStatus {
			checkChannels(t, srv, r)
		}
		if source.Root.AtLeast(5, 7) {
			replica.Exec(t, change+master+"_HOST='127.0.0.1', "+master+"_PORT=1, "+master+"_LOG_FILE='x.000007', "+master+"_LOG_POS=77 FOR CHANNEL 'o''x'")
			state(byFile + change + master + "_LOG_FILE='x.000007', " + master + "_LOG_POS=77 FOR CHANNEL 'o''x';\n")
		}
		// Under the global lock, as a backup of 5.6 and 5.7 asks.
		l, err := locks.New(srv).Global(ctx, locks.FTWRL{})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := ReadReplica(ctx, srv); err != nil {
			t.Error(err)
		}
		if err := l.Release(ctx); err != nil {
			t.Error(err)
		}
		replica.Exec(t, stop, change+master+"_AUTO_POSITION=1"+map[bool]string{true: " FOR CHANNEL ''"}[source.Root.AtLeast(5, 7)])
		want := fmt.Sprintf("SET GLOBAL gtid_purged='%s';\n%s%s_AUTO_POSITION=1;\n", at.GTID, change, master)
		if source.Root.AtLeast(5, 7) {
			want += change + master + "_LOG_FILE='x.000007', " + master + "_LOG_POS=77 FOR CHANNEL 'o''x';\n"
		}
		r = state(want)
		if r.Sources[0].Applying {
			t.Error("stopped, but applying")
		}
		runText(t, source.Root, r.FileText(), at.GTID)
	})
}

// checkChannels compares with log_status, which has no coordinates of sources.
func checkChannels(t *testing.T, srv *mysqld.Server, r ReplicaState) {
	t.Helper()
	st, err := ReadLogStatus(t.Context(), srv)
	if err != nil {
		t.Fatal(err)
	}
	if len(st.Channels) != 1 || st.Channels[0].Name != "" || st.Channels[0].RelayPos == 0 || !strings.HasPrefix(st.Channels[0].RelayLog, "relay.") || st.Channels[0].SourceLog != "" {
		t.Errorf("channels %+v", st.Channels)
	}
	if at, exact := r.At(st); exact || at.GTIDPos != st.Binlog.GTID || at.FileText() != r.FileText() {
		t.Errorf("%+v, %v", at, exact)
	}
}

// runText runs a slave info file on a new server of the same release.
func runText(t *testing.T, root *mysqldtest.Root, text, gtid string) {
	t.Helper()
	config := []string{"skip-slave-start"}
	if !root.AtLeast(8, 0) && root.AtLeast(5, 7) {
		config = append(config, "master-info-repository=TABLE", "relay-log-info-repository=TABLE")
	}
	s := mysqldtest.Start(t, root, mysqldtest.Options{Binlog: true, ServerID: 3, Config: config})
	reset := "RESET MASTER"
	if root.AtLeast(8, 4) {
		reset = "RESET BINARY LOGS AND GTIDS"
	}
	s.Exec(t, reset)
	for line := range strings.Lines(text) {
		// Where the source is, the file leaves to whoever sets up the copy.
		statement := strings.TrimSuffix(line, ";\n")
		for _, prefix := range []string{"MASTER_", "SOURCE_"} {
			if strings.Contains(statement, " TO "+prefix) {
				statement = strings.Replace(statement, " TO ", " TO "+prefix+"HOST='127.0.0.1', ", 1)
			}
		}
		s.Exec(t, statement)
	}
	if got := s.Value(t, "SELECT @@global.gtid_executed"); got != gtid {
		t.Errorf("gtid_executed = %s, want %s", got, gtid)
	}
	r, err := ReadReplica(t.Context(), client.Connect(t, client.Options(s)))
	if err != nil || r.FileText() != text {
		t.Errorf("the copy says %q (%v), want %q", r.FileText(), err, text)
	}
}

// replicaStarts is how often a server was told to start replication; "" if it does not
// say.
func replicaStarts(ctx context.Context, s *mysqldtest.Server) (n string) {
	var name string
	_ = s.DB().QueryRowContext(ctx, "SHOW GLOBAL STATUS WHERE Variable_name IN ('Com_slave_start', 'Com_replica_start')").Scan(&name, &n)
	return n
}

// TestPauseReplica stops the applier only where no temporary table is open, and
// starts it again in every way out.
func TestPauseReplica(t *testing.T) {
	mysqldtest.EachServer(t, mysqldtest.MySQL, mysqldtest.Options{Binlog: true, Config: []string{"binlog-format=STATEMENT", "gtid-mode=OFF", "enforce-gtid-consistency=OFF"}}, func(t *testing.T, source *mysqldtest.Server) {
		ctx := t.Context()
		replica := mysqldtest.Start(t, source.Root, mysqldtest.Options{Binlog: true, ServerID: 2, Config: []string{"binlog-format=STATEMENT", "gtid-mode=OFF", "enforce-gtid-consistency=OFF"}})
		at, err := source.BinlogPosition(ctx)
		if err != nil {
			t.Fatal(err)
		}
		at.GTID = ""
		mysqldtest.Attach(t, replica, source, at)
		srv := client.Connect(t, client.Options(replica))
		applying := func() bool {
			t.Helper()
			r, err := ReadReplica(ctx, srv)
			if err != nil || len(r.Sources) != 1 {
				t.Fatal(r, err)
			}
			return r.Sources[0].Applying
		}
		p, err := PauseReplica(ctx, srv, 5*time.Second)
		if err != nil || applying() {
			t.Errorf("paused: %v", err)
		}
		if err := errors.Join(p.Resume(ctx), p.Resume(ctx)); err != nil || !applying() {
			t.Errorf("resumed: %v", err)
		}
		c := source.Conn(t)
		for _, q := range []string{"CREATE DATABASE d", "SET SESSION binlog_format=STATEMENT", "CREATE TEMPORARY TABLE d.tmp (a INT)"} {
			if _, err := c.ExecContext(ctx, q); err != nil {
				t.Fatal(err)
			}
		}
		mysqldtest.CatchUp(t, replica, source, 30*time.Second)
		_, err = PauseReplica(ctx, srv, 2*time.Second)
		if e, ok := errors.AsType[*OpenTempTablesError](err); !ok || e.Tables != 1 {
			t.Errorf("a temporary table is open: %v", err)
		}
		if !applying() {
			t.Error("the applier does not run after the failure")
		}
		before := replicaStarts(ctx, replica)
		go func() {
			for ctx.Err() == nil && replicaStarts(ctx, replica) == before { // until it has tried in vain
				time.Sleep(10 * time.Millisecond)
			}
			// A failure shows as the timeout below.
			_, _ = c.ExecContext(ctx, "DROP TEMPORARY TABLE d.tmp")
		}()
		if _, err = PauseReplica(ctx, srv, 30*time.Second); err != nil || applying() {
			t.Errorf("dropped meanwhile: %v", err)
		}
		if err := srv.Close(); err != nil {
			t.Error(err)
		}
		srv = client.Connect(t, client.Options(replica))
		if !applying() {
			t.Error("the applier does not run after Close")
		}
		// What did not run before is not started.
		replica.Exec(t, wordsOf(srv).applier("STOP", ""))
		if p, err = PauseReplica(ctx, srv, time.Second); err != nil {
			t.Fatal(err)
		}
		if err := p.Resume(ctx); err != nil || applying() {
			t.Errorf("it was stopped before, and runs: %v", err)
		}
	})
}
