package mysqld

import (
	"context"
	"encoding/binary"
	"errors"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/go-sql-driver/mysql"

	"hb/source/mysqld/mysqldtest"
	"hb/xbstream/innodb"
)

// eachMySQL runs a test on every MySQL server.
func eachMySQL(t *testing.T, o mysqldtest.Options, f func(t *testing.T, s *mysqldtest.Server)) {
	t.Helper()
	mysqldtest.Each(t, mysqldtest.MySQL, func(t *testing.T, root *mysqldtest.Root) {
		f(t, mysqldtest.Start(t, root, o))
	})
}

func TestMySQLConnect(t *testing.T) {
	eachMySQL(t, mysqldtest.Options{Binlog: true}, func(t *testing.T, s *mysqldtest.Server) {
		s.Exec(t, "SET GLOBAL sql_mode='ANSI_QUOTES,NO_BACKSLASH_ESCAPES'", "SET GLOBAL autocommit=0", "SET GLOBAL wait_timeout=2")
		if s.Root.AtLeast(5, 7) {
			s.Exec(t, "SET GLOBAL max_execution_time=1")
		}
		srv := connect(t, socketOptions(s))
		if srv.Flavor != MySQL || srv.Version.String() != s.Root.Version || srv.Version.Comment == "" || srv.Version.Percona() {
			t.Errorf("server = %v %+v, want %s", srv.Flavor, srv.Version, s.Root.Version)
		}
		v := srv.Vars
		for _, dir := range []string{v.Datadir(), v.LogDir(), v.UndoDir(), v.InnodbHome()} {
			if dir != s.Datadir {
				t.Errorf("directory %q, want %q", dir, s.Datadir)
			}
		}
		if files, err := v.SystemFiles(); err != nil || len(files) != 1 || files[0] != filepath.Join(s.Datadir, "ibdata1") {
			t.Errorf("system files = %q, %v", files, err)
		}
		if n, err := v.PageSize(); n != 16384 || err != nil {
			t.Errorf("page size = %d, %v", n, err)
		}
		if on, base := v.LogBin(); !on || base != filepath.Join(s.Datadir, "binlog") || v.BinlogIndex() != base+".index" {
			t.Errorf("log_bin = %v, %q, %q", on, base, v.BinlogIndex())
		}
		if s.Root.AtLeast(8, 0) {
			if st, err := os.Stat(v.RedoFilesDir()); err != nil || !st.IsDir() {
				t.Errorf("redo files: %v", err)
			}
		}
		row, err := srv.Control.Row(t.Context(), "SELECT @@sql_mode AS m, @@autocommit AS a, @@wait_timeout AS w, @@lock_wait_timeout AS l, @@character_set_client AS c")
		want := map[string]string{"m": "", "a": "1", "w": "31536000", "l": "2", "c": "utf8mb4"}
		if err != nil || !maps.Equal(row, want) {
			t.Errorf("session = %v, %v, want %v", row, err, want)
		}
		if s.Root.AtLeast(5, 7) {
			if row, err := srv.Control.Row(t.Context(), "SELECT @@max_execution_time AS m"); err != nil || row["m"] != "0" {
				t.Errorf("max_execution_time = %v, %v", row, err)
			}
		}
	})
}

// TestMySQLPlugins connects with every authentication plugin that MySQL itself
// makes users with, over the socket, TLS and plain TCP.
func TestMySQLPlugins(t *testing.T) {
	eachMySQL(t, mysqldtest.Options{TCP: true}, func(t *testing.T, s *mysqldtest.Server) {
		plugins := []string{"mysql_native_password", "sha256_password", "caching_sha2_password"}
		known, err := connect(t, socketOptions(s)).Plugins(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		for _, plugin := range plugins {
			// 5.6 has sha256_password, but without certificates or keys of its
			// own lets nobody in by it, its own client neither.
			if !slices.ContainsFunc(known, func(p Plugin) bool { return p.Name == plugin }) ||
				(plugin == "sha256_password" && !s.Root.AtLeast(5, 7)) {
				continue
			}
			for _, host := range []string{"localhost", "127.0.0.1"} {
				makeUser(t, s, "u@"+host, plugin)
			}
			socket := Options{Network: "unix", Socket: s.Socket, User: "u", Password: NewSecret("geheim")}
			tcp := Options{Network: "tcp", Host: "127.0.0.1", Port: s.Port, User: "u", Password: NewSecret("geheim")}
			plain := tcp
			plain.TLS.Mode = TLSDisabled
			for name, opt := range map[string]Options{"socket": socket, "tcp": tcp, "plain": plain} {
				srv, err := Connect(t.Context(), opt)
				if err != nil {
					t.Errorf("%s over %s: %v", plugin, name, err)
					continue
				}
				row, err := srv.Control.Row(t.Context(), "SHOW STATUS LIKE 'Ssl_version'")
				t.Logf("%s %s over %s: TLS %q, %v", s.Root.Name, plugin, name, row["Value"], err)
				if err := srv.Close(); err != nil {
					t.Error(err)
				}
			}
			socket.Password = NewSecret("falsch")
			_, err = Connect(t.Context(), socket)
			if ce, ok := errors.AsType[*ConnectError](err); !ok || !strings.Contains(ce.Hint, "password") {
				t.Errorf("%s: wrong password: %v", plugin, err)
			}
			s.Exec(t, "DROP USER u@localhost, u@127.0.0.1")
		}
	})
}

// makeUser makes a user with the password "geheim".
func makeUser(t *testing.T, s *mysqldtest.Server, user, plugin string) {
	t.Helper()
	if s.Root.AtLeast(5, 7) {
		s.Exec(t, "CREATE USER "+user+" IDENTIFIED WITH "+plugin+" BY 'geheim'")
		return
	}
	c, err := s.DB().Conn(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	old := map[string]string{"mysql_native_password": "0", "sha256_password": "2"}[plugin]
	for _, q := range []string{"CREATE USER " + user + " IDENTIFIED WITH " + plugin, "SET old_passwords=" + old, "SET PASSWORD FOR " + user + " = PASSWORD('geheim')"} {
		if _, err := c.ExecContext(t.Context(), q); err != nil {
			t.Fatalf("%s: %v", q, err)
		}
	}
}

// mysqlOps are what a backup asks of a MySQL server, each with the privilege
// that it needs on this series.
func mysqlOps(root *mysqldtest.Root, s *mysqldtest.Server) map[Privilege][]func(ctx context.Context, srv *Server) error {
	release := func(l *Lock, err error) error {
		if err != nil {
			return err
		}
		return l.Close()
	}
	global := func(ctx context.Context, srv *Server) error { return release(NewSet(srv).LockGlobal(ctx, FTWRL{})) }
	flush := func(ctx context.Context, srv *Server) error { return srv.FlushEngineLogs(ctx) }
	spaces := func(ctx context.Context, srv *Server) error { _, err := srv.Tablespaces(ctx); return err }
	builds := func(ctx context.Context, srv *Server) error { _, err := srv.Builds(ctx); return err }
	features := func(ctx context.Context, srv *Server) error { return srv.CheckFeatures(ctx) }
	lsn := func(ctx context.Context, srv *Server) error { _, err := srv.CurrentLSN(ctx); return err }
	position := func(ctx context.Context, srv *Server) error { _, err := srv.BinlogPosition(ctx); return err }
	replica := func(ctx context.Context, srv *Server) error { _, err := srv.ReplicaState(ctx); return err }
	instance := func(ctx context.Context, srv *Server) error { return release(NewSet(srv).LockInstance(ctx, false)) }
	logStatus := func(ctx context.Context, srv *Server) error { _, err := srv.LogStatus(ctx); return err }
	consumer := func(ctx context.Context, srv *Server) error {
		c, warning, err := srv.RegisterRedoConsumer(ctx)
		if c == nil && err == nil {
			return &mysql.MySQLError{Number: erAccessDenied, Message: warning}
		}
		return errors.Join(err, c.Close())
	}
	dump := func(ctx context.Context, srv *Server) error {
		d, err := srv.DumpBufferPool(ctx, 10)
		if err == nil {
			err = d.Close()
		}
		return err
	}
	ddl := func(ctx context.Context, srv *Server) error {
		l, n, err := NewSet(srv).LockTableDDL(ctx)
		if err == nil && n != 1 { // it does not see the others
			err = &mysql.MySQLError{Number: erAccessDenied}
		}
		return errors.Join(err, l.Close())
	}
	kill := func(ctx context.Context, srv *Server) error {
		victim, err := Connect(ctx, Options{Network: "unix", Socket: s.Socket, User: "victim", Password: NewSecret("x")})
		if err != nil {
			return err
		}
		return errors.Join(srv.Control.Exec(ctx, "KILL QUERY "+victim.Control.ID), victim.Close())
	}
	applier := func(ctx context.Context, srv *Server) error {
		err := srv.Control.Exec(ctx, srv.words().applier("STOP", ""))
		if my, ok := errors.AsType[*mysql.MySQLError](err); ok && my.Number == 1200 { // it is no replica
			return nil
		}
		return err
	}
	type ops = map[Privilege][]func(context.Context, *Server) error
	if root.AtLeast(8, 0) {
		return ops{
			PrivReload: {global, flush}, PrivProcess: {spaces, features}, PrivReplicationClient: {position, replica},
			PrivBackupAdmin: {instance, logStatus, consumer}, PrivLogStatus: {logStatus}, PrivSystemVariablesAdmin: {dump},
			PrivSelect: {ddl}, PrivConnectionAdmin: {kill}, PrivReplicationAdmin: {applier},
		}
	}
	super := []func(context.Context, *Server) error{kill, dump, applier}
	if !root.AtLeast(5, 7) {
		super = []func(context.Context, *Server) error{kill, dump}
	}
	return ops{
		PrivReload: {global, flush}, PrivProcess: {spaces, builds, features, lsn}, PrivReplicationClient: {position, replica},
		privSuper: super, PrivSelect: {ddl},
	}
}

// TestMySQLPrivileges gives a user one privilege less than it needs, for each
// one, and shows that the check says so and that the server really refuses what
// needs it, and nothing else.
func TestMySQLPrivileges(t *testing.T) {
	eachMySQL(t, mysqldtest.Options{Binlog: true}, func(t *testing.T, s *mysqldtest.Server) {
		s.Exec(t, "CREATE DATABASE d", "CREATE TABLE d.t (a INT) ENGINE=InnoDB", "CREATE USER victim@localhost IDENTIFIED BY 'x'")
		ops := mysqlOps(s.Root, s)
		all := slices.Sorted(maps.Keys(ops))
		for _, missing := range append([]Privilege{""}, all...) {
			s.Exec(t, "CREATE USER g@localhost IDENTIFIED BY 'x'")
			for _, p := range all {
				switch {
				case p == missing:
				case strings.Contains(string(p), " ON "):
					if missing != PrivSelect { // SELECT on *.* is more than this one
						s.Exec(t, "GRANT "+string(p)+" TO g@localhost")
					}
				default:
					s.Exec(t, "GRANT "+string(p)+" ON *.* TO g@localhost")
				}
			}
			checkMySQLPrivileges(t, s, ops, missing)
			s.Exec(t, "DROP USER g@localhost")
		}
	})
}

// everything is all that may be asked for.
var everything = Needs{SlaveInfo: true, KillQueries: true, SafeSlave: true, DumpBufferPool: true, LockTableDDL: true}

func checkMySQLPrivileges(t *testing.T, s *mysqldtest.Server, ops map[Privilege][]func(context.Context, *Server) error, missing Privilege) {
	t.Helper()
	srv := connect(t, Options{Network: "unix", Socket: s.Socket, User: "g", Password: NewSecret("x"), LockWait: 2 * time.Second})
	err := srv.CheckPrivileges(t.Context(), everything)
	me, _ := errors.AsType[*MissingPrivilegesError](err)
	want := map[Privilege]bool{missing: true}
	switch {
	case missing == "" || missing == PrivLogStatus, // SELECT on *.* is enough
		missing == PrivReplicationClient && !srv.Series.roles: // SUPER includes it
		clear(want)
	case missing == PrivSelect && srv.Series.LogStatus:
		want[PrivLogStatus] = true
	}
	got := make(map[Privilege]bool)
	if me != nil {
		for _, p := range me.Missing {
			got[p] = true
		}
	} else if err != nil {
		t.Error(err)
	}
	if !maps.Equal(got, want) {
		t.Errorf("without %q: %v", missing, err)
	}
	// log_status wants two privileges.
	got[PrivLogStatus] = got[PrivLogStatus] || got[PrivBackupAdmin]
	for p, list := range ops {
		for i, op := range list {
			err := op(t.Context(), srv)
			if refused := got[p] || (p == PrivBackupAdmin && i == 1 && got[PrivLogStatus]); (err != nil) != refused {
				t.Errorf("without %q: operation %d of %s: %v", missing, i, p, err)
			}
		}
	}
	if err := srv.Close(); err != nil {
		t.Error(err)
	}
}

// readMySQLCheckpoint reads the newest checkpoint for the test alone.
func readMySQLCheckpoint(dir string) (innodb.LSN, error) {
	names, err := filepath.Glob(filepath.Join(dir, "#innodb_redo", "#ib_redo*"))
	if err != nil || len(names) == 0 {
		return readCheckpoint(dir)
	}
	var newest uint64
	for _, name := range names {
		if strings.HasSuffix(name, "_tmp") {
			continue
		}
		b := make([]byte, 2048)
		f, err := os.Open(name)
		if err != nil {
			return 0, err
		}
		_, err = f.ReadAt(b, 0)
		if err := errors.Join(err, f.Close()); err != nil {
			return 0, err
		}
		newest = max(newest, binary.BigEndian.Uint64(b[512+8:]), binary.BigEndian.Uint64(b[1536+8:]))
	}
	return innodb.LSN(newest), nil
}

// TestCheckDatadirAfterClone has the server copy itself: it then opens and closes
// its system tablespace, which gives its own lock on the file up.
func TestCheckDatadirAfterClone(t *testing.T) {
	s := mysqldtest.Start(t, mysqldtest.Need(t, mysqldtest.MySQL97), mysqldtest.Options{TCP: true})
	to := filepath.Join(t.TempDir(), "clone")
	s.Exec(t, "CREATE USER u@'127.0.0.1' IDENTIFIED BY 'p'", "GRANT ALL ON *.* TO u@'127.0.0.1'",
		"INSTALL PLUGIN clone SONAME 'mysql_clone.so'", "CLONE LOCAL DATA DIRECTORY = '"+to+"'")
	if _, locked, err := lockHolder(filepath.Join(s.Datadir, "ibdata1")); err != nil || locked {
		t.Fatalf("the lock: held %v, %v: there is nothing to test", locked, err)
	}
	files := func(dir string) DatadirFiles {
		return DatadirFiles{Datadir: dir, Checkpoint: func() (innodb.LSN, error) { return readMySQLCheckpoint(dir) }}
	}
	srv := connect(t, socketOptions(s))
	proof, err := srv.CheckDatadir(t.Context(), files(s.Datadir))
	if err != nil || !proof.ByProcess || proof.Server != s.PID() {
		t.Errorf("socket: %+v, %v", proof, err)
	}
	tcp := connect(t, Options{Network: "tcp", Host: "127.0.0.1", Port: s.Port, User: "u", Password: NewSecret("p")})
	proof, err = tcp.CheckDatadir(t.Context(), files(s.Datadir))
	if err != nil || proof.ByProcess || proof.Holder != s.PID() {
		t.Errorf("tcp: %+v, %v", proof, err)
	}
	if _, err := srv.CheckDatadir(t.Context(), files(to)); err == nil {
		t.Error("the clone passes for the server's files")
	}
}

func TestMySQLCheckDatadir(t *testing.T) {
	eachMySQL(t, mysqldtest.Options{TCP: true}, func(t *testing.T, s *mysqldtest.Server) {
		ctx := t.Context()
		other := mysqldtest.Start(t, s.Root, mysqldtest.Options{})
		s.Exec(t, "CREATE USER u@'127.0.0.1' IDENTIFIED BY 'p'", "GRANT ALL ON *.* TO u@'127.0.0.1'", "CREATE DATABASE moved_the_log")
		files := func(dir string) DatadirFiles {
			return DatadirFiles{Datadir: dir, Checkpoint: func() (innodb.LSN, error) { return readMySQLCheckpoint(dir) }}
		}
		srv := connect(t, socketOptions(s))
		tcp := connect(t, Options{Network: "tcp", Host: "127.0.0.1", Port: s.Port, User: "u", Password: NewSecret("p")})
		proof, err := srv.CheckDatadir(ctx, files(s.Datadir))
		if err != nil || !proof.ByProcess || proof.Server != s.PID() || proof.Checkpoint == 0 {
			t.Errorf("socket: %+v, %v", proof, err)
		}
		proof, err = tcp.CheckDatadir(ctx, files(s.Datadir))
		if err != nil || proof.ByProcess || proof.Holder != s.PID() || proof.Checkpoint == 0 {
			t.Errorf("tcp: %+v, %v", proof, err)
		}
		copied := filepath.Join(t.TempDir(), "copy")
		if err := os.CopyFS(copied, os.DirFS(s.Datadir)); err != nil {
			t.Fatal(err)
		}
		for _, srv := range []*Server{srv, tcp} {
			for dir, want := range map[string]string{other.Datadir: "process", copied: "no running server", copied + "/none": "it has no"} {
				_, err := srv.CheckDatadir(ctx, files(dir))
				if de, ok := errors.AsType[*DatadirError](err); !ok || !strings.Contains(de.Reason, want) {
					t.Errorf("%s: %v", dir, err)
				}
			}
		}
		f := files(s.Datadir)
		f.Checkpoint = func() (innodb.LSN, error) { return readMySQLCheckpoint(other.Datadir) }
		other.Exec(t, "CREATE DATABASE d", "CREATE TABLE d.t (a INT) ENGINE=InnoDB")
		if err := other.Stop(); err != nil { // which makes a checkpoint
			t.Fatal(err)
		}
		if _, err := srv.CheckDatadir(ctx, f); err == nil || !strings.Contains(err.Error(), "checkpoint") {
			t.Errorf("foreign redo log: %v", err)
		}
	})
}

// TestMySQLLSN shows under load that an LSN asked for before the flush is on
// disk after it.
func TestMySQLLSN(t *testing.T) {
	eachMySQL(t, mysqldtest.Options{}, func(t *testing.T, s *mysqldtest.Server) {
		defer loadRows(t, s)()
		srv := connect(t, socketOptions(s))
		var last innodb.LSN
		mysqldtest.Await(t, "the load writes redo meanwhile", func() bool {
			var first innodb.LSN
			first, last = lsnFlushed(t, srv, 50, 0)
			return first != last
		})
		checkpoint, err := srv.CheckpointLSN(t.Context())
		if err != nil || checkpoint == 0 || checkpoint > last {
			t.Errorf("checkpoint = %v, %v", checkpoint, err)
		}
		s.Exec(t, "SET GLOBAL innodb_flush_log_at_trx_commit=0")
		lsnFlushed(t, srv, 50, 0)
	})
}

// loadRows inserts rows until the returned function is called.
func loadRows(t *testing.T, s *mysqldtest.Server) (stop func()) {
	t.Helper()
	s.Exec(t, "CREATE DATABASE d", "CREATE TABLE d.t (a INT AUTO_INCREMENT PRIMARY KEY, b VARCHAR(200)) ENGINE=InnoDB")
	ctx, cancel := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	wg.Go(func() {
		for ctx.Err() == nil {
			// Errors end with the load; the tests check that it was there.
			_, _ = s.DB().ExecContext(ctx, "INSERT INTO d.t (b) VALUES (REPEAT('x', 200)), (REPEAT('y', 200))")
		}
	})
	return func() {
		cancel()
		wg.Wait()
	}
}

// TestLogStatus shows that position, GTID set and LSN are of one moment: under
// load, all that is in the binary log up to the position was counted.
func TestLogStatus(t *testing.T) {
	s := mysqldtest.Start(t, mysqldtest.Need(t, mysqldtest.MySQL97), mysqldtest.Options{Binlog: true})
	stop := loadRows(t, s)
	srv := connect(t, socketOptions(s))
	var last LogStatus
	for range 50 {
		st, err := srv.LogStatus(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if st.Binlog == nil || st.Binlog.File != "binlog.000001" && st.Binlog.File != "binlog.000002" || st.LSN < last.LSN || st.Checkpoint > st.LSN || st.ServerUUID != srv.Vars.String("server_uuid") {
			t.Fatalf("%+v", st)
		}
		last = st
	}
	// And under the global lock, which holds the commits up.
	for range 10 {
		l, err := NewSet(srv).LockGlobal(t.Context(), FTWRL{})
		if err != nil {
			t.Fatal(err)
		}
		st, err := srv.LogStatus(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		p, err := srv.BinlogPosition(t.Context())
		if err != nil || *p != *st.Binlog || st.LSN < last.LSN || *p == *last.Binlog {
			t.Errorf("position %+v, %v; log_status %+v", p, err, st.Binlog)
		}
		if last = st; l.Release(t.Context()) != nil {
			t.Error("the lock was lost")
		}
	}
	stop()
	st, err := srv.LogStatus(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	p, err := srv.BinlogPosition(t.Context())
	if err != nil || *p != *st.Binlog || p.GTID == "" || st.LSN <= last.Checkpoint {
		t.Errorf("position %+v, %v; log_status %+v", p, err, st.Binlog)
	}
	if len(st.Channels) != 0 {
		t.Errorf("channels %+v", st.Channels)
	}
}

// TestWaitsForPrepared stops a commit between the binary log and InnoDB, with
// semi-synchronous replication and no replica: log_status must not count it as
// binary logged while it is only prepared, nor stall the server for longer than
// allowed.
func TestWaitsForPrepared(t *testing.T) {
	s := mysqldtest.Start(t, mysqldtest.Need(t, mysqldtest.MySQL97), mysqldtest.Options{Binlog: true})
	s.Exec(t, "CREATE DATABASE d", "CREATE TABLE d.t (a INT PRIMARY KEY) ENGINE=InnoDB", "INSTALL PLUGIN rpl_semi_sync_source SONAME 'semisync_source.so'",
		"SET GLOBAL rpl_semi_sync_source_wait_point=AFTER_SYNC", "SET GLOBAL rpl_semi_sync_source_timeout=8000", "SET GLOBAL rpl_semi_sync_source_enabled=ON")
	opt := socketOptions(s)
	srv := connect(t, opt)
	opt.LockWait = time.Minute
	patient := connect(t, opt)
	if !srv.Series.WaitsForPrepared {
		t.Fatalf("%+v", srv.Series)
	}
	before, err := srv.BinlogPosition(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	commit := background(t, s, "INSERT INTO d.t VALUES (1)")
	mysqldtest.Await(t, "it is in the binary log", func() bool {
		p, err := srv.BinlogPosition(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		return p.Pos != before.Pos
	})
	if _, err := srv.LogStatus(t.Context()); !isTimeout(err) || !strings.Contains(err.Error(), "semi-synchronous") {
		t.Errorf("error = %v", err)
	}
	if n := s.Value(t, "SELECT COUNT(*) FROM d.t"); n != "0" {
		t.Fatalf("%s rows: the commit did not wait", n)
	}
	st, err := patient.LogStatus(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if n := s.Value(t, "SELECT COUNT(*) FROM d.t"); n != "1" || st.Binlog.Pos <= before.Pos {
		t.Errorf("%s rows, position %+v", n, st.Binlog)
	}
	if err := commit(); err != nil {
		t.Error(err)
	}
	s.Exec(t, "INSERT INTO d.t VALUES (2)")
}

func TestMySQLBinlogPosition(t *testing.T) {
	eachMySQL(t, mysqldtest.Options{Binlog: true}, func(t *testing.T, s *mysqldtest.Server) {
		s.Exec(t, "CREATE DATABASE d")
		srv := connect(t, socketOptions(s))
		p, err := srv.BinlogPosition(t.Context())
		uuid := s.Value(t, "SELECT @@server_uuid")
		if err != nil || p == nil || !strings.HasPrefix(p.File, "binlog.00000") || p.GTID != uuid+":1" {
			t.Fatalf("position = %+v, %v, want GTID %s:1", p, err, uuid)
		}
		st, err := os.Stat(filepath.Join(s.Datadir, p.File))
		if err != nil || uint64(st.Size()) != p.Pos {
			t.Errorf("binary log has %d bytes, position %d (%v)", st.Size(), p.Pos, err)
		}
		if r, err := srv.ReplicaState(t.Context()); err != nil || r.FileText() != "" {
			t.Errorf("no replica: %+v, %v", r, err)
		}
		if p, err := srv.PauseReplica(t.Context(), time.Second); err != nil || p != nil {
			t.Errorf("no replica: %+v, %v", p, err)
		}
	})
}

func TestMySQLNoBinlog(t *testing.T) {
	eachMySQL(t, mysqldtest.Options{}, func(t *testing.T, s *mysqldtest.Server) {
		srv := connect(t, socketOptions(s))
		if p, err := srv.BinlogPosition(t.Context()); p != nil || err != nil {
			t.Errorf("without a binary log: %+v, %v", p, err)
		}
		if srv.Vars.BinlogIndex() != "" {
			t.Errorf("index %q", srv.Vars.BinlogIndex())
		}
		if !srv.Series.LogStatus {
			return
		}
		if st, err := srv.LogStatus(t.Context()); err != nil || st.Binlog != nil || st.LSN == 0 {
			t.Errorf("%+v, %v", st, err)
		}
	})
}

// TestAuthSocket connects as Debian's and Ubuntu's root, who has no password.
func TestAuthSocket(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip(mysqldtest.SkipMark, "needs root")
	}
	s := mysqldtest.Start(t, mysqldtest.Need(t, mysqldtest.MySQL97), mysqldtest.Options{})
	s.Exec(t, "INSTALL PLUGIN auth_socket SONAME 'auth_socket.so'", "ALTER USER root@localhost IDENTIFIED WITH auth_socket")
	connect(t, socketOptions(s))
}

// TestMySQLRoles shows that privileges count that a role gives, if it is active.
func TestMySQLRoles(t *testing.T) {
	s := mysqldtest.Start(t, mysqldtest.Need(t, mysqldtest.MySQL97), mysqldtest.Options{Binlog: true})
	s.Exec(t, "CREATE USER g@localhost IDENTIFIED BY 'x'", "CREATE ROLE 'in ner', `back``up`", "GRANT BACKUP_ADMIN, PROCESS ON *.* TO 'in ner'", "GRANT 'in ner' TO `back``up`",
		"GRANT RELOAD ON *.* TO `back``up`", "GRANT SELECT ON performance_schema.log_status TO `back``up`", "GRANT `back``up` TO g@localhost")
	check := func(want string) {
		t.Helper()
		srv := connect(t, Options{Network: "unix", Socket: s.Socket, User: "g", Password: NewSecret("x")})
		err := srv.CheckPrivileges(t.Context(), Needs{})
		me, ok := errors.AsType[*MissingPrivilegesError](err)
		if (want == "") != (err == nil) || (ok && strings.Join(me.Grants(), " ") != want) {
			t.Errorf("error = %v, want %q", err, want)
		}
		if want == "" {
			if _, err := srv.LogStatus(t.Context()); err != nil {
				t.Error(err)
			}
		}
	}
	check("GRANT BACKUP_ADMIN, PROCESS, RELOAD ON *.* TO 'g'@'localhost'; GRANT SELECT ON performance_schema.log_status TO 'g'@'localhost';")
	s.Exec(t, "SET DEFAULT ROLE `back``up` TO g@localhost")
	check("")
	s.Exec(t, "SET DEFAULT ROLE NONE TO g@localhost", "SET GLOBAL activate_all_roles_on_login=ON")
	check("")
}

// TestMySQLReadOnly backs up a replica that lets nobody write.
func TestMySQLReadOnly(t *testing.T) {
	eachMySQL(t, mysqldtest.Options{Binlog: true}, func(t *testing.T, s *mysqldtest.Server) {
		s.Exec(t, "CREATE DATABASE d", "CREATE TABLE d.i (a INT) ENGINE=InnoDB", "SET GLOBAL read_only=ON")
		if s.Root.AtLeast(5, 7) {
			s.Exec(t, "SET GLOBAL super_read_only=ON")
		}
		ctx := t.Context()
		srv := connect(t, socketOptions(s))
		if err := errors.Join(srv.CheckPrivileges(ctx, everything), srv.CheckFeatures(ctx)); err != nil {
			t.Error(err)
		}
		var locks []*Lock
		if srv.Series.LogStatus {
			l, err := NewSet(srv).LockInstance(ctx, false)
			if err != nil {
				t.Fatal(err)
			}
			locks = append(locks, l)
		}
		d, _, err := NewSet(srv).LockTableDDL(ctx)
		if err != nil {
			t.Fatal(err)
		}
		g, err := NewSet(srv).LockGlobal(ctx, FTWRL{})
		if err != nil {
			t.Fatal(err)
		}
		if err := errors.Join(srv.FlushEngineLogs(ctx), srv.FlushBinaryLogs(ctx)); err != nil {
			t.Error(err)
		}
		for _, l := range append(locks, d, g) {
			if err := l.Release(ctx); err != nil {
				t.Error(err)
			}
		}
	})
}
