package mysqld

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"hb/source/mysqld/mysqldtest"
	"hb/xbstream/innodb"
	"hb/xbstream/metadata"
)

// socketOptions reach a test server as root.
func socketOptions(s *mysqldtest.Server) Options {
	return Options{Network: "unix", Socket: s.Socket, User: "root", LockWait: 2 * time.Second}
}

func connect(t *testing.T, opt Options) *Server {
	t.Helper()
	srv, err := Connect(t.Context(), opt)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := srv.Close(); err != nil {
			t.Errorf("close: %v", err)
		}
	})
	return srv
}

// each runs a test on every MariaDB server, with a binary log.
func each(t *testing.T, f func(t *testing.T, s *mysqldtest.Server)) {
	mysqldtest.Each(t, mysqldtest.MariaDB, func(t *testing.T, root *mysqldtest.Root) {
		f(t, mysqldtest.Start(t, root, mysqldtest.Options{Binlog: true}))
	})
}

func TestConnect(t *testing.T) {
	each(t, func(t *testing.T, s *mysqldtest.Server) {
		s.Exec(t, "SET GLOBAL sql_select_limit=1", "SET GLOBAL sql_mode='ANSI_QUOTES,NO_BACKSLASH_ESCAPES'", "SET GLOBAL autocommit=0",
			"SET GLOBAL wait_timeout=2", "SET GLOBAL max_statement_time=1")
		srv := connect(t, socketOptions(s))
		if srv.Flavor != MariaDB || srv.Version.String() != s.Root.Version || !strings.HasPrefix(srv.Version.Full, s.Root.Version) {
			t.Errorf("server = %v %+v, want %s", srv.Flavor, srv.Version, s.Root.Version)
		}
		if got := srv.Vars.Datadir(); got != s.Datadir {
			t.Errorf("datadir = %q, want %q", got, s.Datadir)
		}
		for _, dir := range []string{srv.Vars.LogDir(), srv.Vars.UndoDir(), srv.Vars.AriaLogDir(), srv.Vars.InnodbHome()} {
			if dir != s.Datadir {
				t.Errorf("directory %q, want %q", dir, s.Datadir)
			}
		}
		files, err := srv.Vars.SystemFiles()
		if err != nil || len(files) != 1 || files[0] != filepath.Join(s.Datadir, "ibdata1") {
			t.Errorf("system files = %q, %v", files, err)
		}
		if n, err := srv.Vars.PageSize(); n != 16384 || err != nil {
			t.Errorf("page size = %d, %v", n, err)
		}
		if on, base := srv.Vars.LogBin(); !on || base != filepath.Join(s.Datadir, "binlog") {
			t.Errorf("log_bin = %v, %q", on, base)
		}
		row, err := srv.Control.Row(t.Context(), "SELECT @@sql_mode AS m, @@autocommit AS a, @@wait_timeout AS w, @@max_statement_time AS s, @@lock_wait_timeout AS l, @@character_set_client AS c, @@wsrep_sync_wait AS y")
		want := map[string]string{"m": "", "a": "1", "w": "31536000", "s": "0", "l": "2", "c": "utf8mb4", "y": "0"}
		if err != nil || fmt.Sprint(row) != fmt.Sprint(want) {
			t.Errorf("session = %v, %v, want %v", row, err, want)
		}
		if rows, err := srv.Control.Rows(t.Context(), "SHOW GLOBAL VARIABLES"); err != nil || len(rows) < 100 {
			t.Errorf("sql_select_limit cuts answers: %d rows, %v", len(rows), err)
		}
	})
}

// hostileSettings make of every session one in which little works as usual. Each
// is set where the server knows it.
var hostileSettings = map[string]string{
	"sql_mode": "'ANSI_QUOTES,NO_BACKSLASH_ESCAPES,PIPES_AS_CONCAT'", "autocommit": "0", "completion_type": "2",
	"sql_select_limit": "1", "max_join_size": "1", "sql_safe_updates": "1",
	"tmp_table_size": "1024", "max_heap_table_size": "16384", "tmp_disk_table_size": "1024", "big_tables": "1",
	"lock_wait_timeout": "1", "wait_timeout": "1", "net_read_timeout": "1", "net_write_timeout": "1",
	"max_statement_time": "0.001", "max_execution_time": "1", "max_session_mem_used": "8388608",
	"idle_transaction_timeout": "1", "idle_readonly_transaction_timeout": "1", "idle_write_transaction_timeout": "1",
	"tx_isolation": "'SERIALIZABLE'", "transaction_isolation": "'SERIALIZABLE'", "tx_read_only": "1", "transaction_read_only": "1",
}

// TestHostileSettings: no global setting reaches hb's sessions that would cut
// answers, end statements, or forbid them.
func TestHostileSettings(t *testing.T) {
	mysqldtest.Each(t, slices.Concat(mysqldtest.MariaDB, mysqldtest.MySQL), func(t *testing.T, root *mysqldtest.Root) {
		s := mysqldtest.Start(t, root, mysqldtest.Options{Binlog: true})
		s.Exec(t, "CREATE DATABASE d", "CREATE TABLE d.`a\"b` (a INT PRIMARY KEY) ENGINE=InnoDB", "CREATE USER 'plain'@'localhost'", "GRANT PROCESS, RELOAD ON *.* TO 'plain'@'localhost'")
		admin := dbConn(t, s)
		var hostile []string
		for name, value := range hostileSettings {
			if len(s.Rows(t, "SHOW GLOBAL VARIABLES LIKE '"+name+"'")) > 0 {
				hostile = append(hostile, "GLOBAL "+name+"="+value)
			}
		}
		if _, err := admin.ExecContext(t.Context(), "SET "+strings.Join(hostile, ", ")); err != nil {
			t.Fatal(err)
		}
		o := socketOptions(s)
		o.User = "plain" // who may do little more than ask
		srv := connect(t, o)
		time.Sleep(1500 * time.Millisecond) // longer than wait_timeout
		ctx := t.Context()
		if _, err := srv.Tablespaces(ctx); err != nil {
			t.Error(err)
		}
		if _, err := srv.CurrentLSN(ctx); err != nil {
			t.Error(err)
		}
		session, err := srv.Open(ctx)
		if err != nil {
			t.Fatal(err)
		}
		defer session.Close()
		rows, err := session.Rows(ctx, "SELECT a.COLLATION_NAME AS n FROM information_schema.COLLATIONS a, (SELECT SLEEP(0.1)) b LIMIT 100")
		if err != nil || len(rows) != 100 {
			t.Errorf("%d rows, %v", len(rows), err)
		}
		row, err := session.Row(ctx, "SELECT @@sql_mode AS m, @@autocommit AS a, @@wait_timeout AS w, @@completion_type AS c, @@sql_safe_updates AS s, 'it''s \\\\' AS q")
		want := map[string]string{"m": "", "a": "1", "w": "31536000", "c": "NO_CHAIN", "s": "0", "q": "it's \\"}
		if err != nil || fmt.Sprint(row) != fmt.Sprint(want) {
			t.Errorf("session = %v, %v, want %v", row, err, want)
		}
		if root.MariaDB() || root.AtLeast(8, 0) {
			return
		}
		o.User = "root"
		l, n, err := NewSet(connect(t, o)).LockTableDDL(ctx)
		if err != nil || n == 0 {
			t.Fatalf("metadata locks on %d tables: %v", n, err)
		}
		if err := l.Release(ctx); err != nil {
			t.Error(err)
		}
	})
}

// TestConnectOptions connects by option file and by TCP.
func TestConnectOptions(t *testing.T) {
	each(t, func(t *testing.T, s *mysqldtest.Server) {
		s.Exec(t, "CREATE USER u@'127.0.0.1' IDENTIFIED BY 'p w#'")
		opt, _, err := Resolve(Flags{DefaultsFile: s.DefaultsFile}, OSEnv())
		if err != nil {
			t.Fatal(err)
		}
		connect(t, opt)
		file := filepath.Join(t.TempDir(), "my.cnf")
		text := fmt.Sprintf("[client]\nhost=127.0.0.1\nport=%d\nuser=u\npassword='p w#'\n", s.Port)
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if opt, _, err = Resolve(Flags{DefaultsFile: file}, OSEnv()); err != nil {
			t.Fatal(err)
		}
		connect(t, opt)

		// TLS: MariaDB has it without any setting since 11.4.
		opt.TLS.Mode = TLSRequired
		if !s.Root.AtLeast(11, 4) {
			if _, err := Connect(t.Context(), opt); err == nil || !strings.Contains(err.Error(), "TLS") {
				t.Errorf("TLS required of a server without TLS: %v", err)
			}
		} else {
			row, err := connect(t, opt).Control.Row(t.Context(), "SHOW STATUS LIKE 'Ssl_version'")
			if err != nil || row["Value"] != "TLSv1.3" {
				t.Errorf("TLS version %v, %v", row, err)
			}
			opt.TLS.Mode = TLSVerifyIdentity
			if _, err := Connect(t.Context(), opt); err == nil || !strings.Contains(err.Error(), "certificate") {
				t.Errorf("self-signed certificate: %v", err)
			}
		}
		opt.TLS.Mode = TLSPreferred
		connect(t, opt)

		opt.Password = NewSecret("geheim")
		_, err = Connect(t.Context(), opt)
		ce, ok := errors.AsType[*ConnectError](err)
		if !ok || !strings.Contains(ce.Hint, "password") || strings.Contains(fmt.Sprintf("%v %+v %#v", err, err, err), "geheim") {
			t.Errorf("wrong password: %v", err)
		}
		opt.Network, opt.Socket = "unix", filepath.Join(t.TempDir(), "none")
		_, err = Connect(t.Context(), opt)
		if ce, ok := errors.AsType[*ConnectError](err); !ok || !strings.Contains(ce.Hint, "--socket") {
			t.Errorf("no socket: %v", err)
		}
	})
}

// TestDeniedHints: what is said to who is not let in, by what the account demands.
func TestDeniedHints(t *testing.T) {
	for _, server := range []string{mysqldtest.MariaDB118, mysqldtest.MySQL97} {
		t.Run(server, func(t *testing.T) {
			root := mysqldtest.Need(t, server)
			s := mysqldtest.Start(t, root, mysqldtest.Options{})
			plugin := map[bool]string{true: "unix_socket", false: "auth_socket"}[root.MariaDB()]
			if !root.MariaDB() {
				s.Exec(t, "INSTALL PLUGIN auth_socket SONAME 'auth_socket.so'")
			}
			s.Exec(t, "CREATE USER plain@localhost IDENTIFIED BY 'pw'", "CREATE USER tls@localhost IDENTIFIED BY 'pw' REQUIRE SSL",
				"CREATE USER x509@localhost IDENTIFIED BY 'pw' REQUIRE X509", "CREATE USER someone@localhost IDENTIFIED WITH "+plugin)
			for _, test := range []struct {
				user, password string
				mode           TLSMode
				hint           string
			}{
				{"plain", "wrong", TLSDefault, "the user is from --user, the password from HB_PASSWORD; TLS was not used"},
				{"plain", "", TLSDefault, "there is no password, and hb does not read /home/x/.mylogin.cnf"},
				{"tls", "pw", TLSDefault, "which an account with REQUIRE SSL or X509 demands: --ssl-mode=REQUIRED"},
				{"x509", "pw", TLSRequired, "which an account with REQUIRE X509 demands: --ssl-cert and --ssl-key"},
				{"someone", "", TLSDefault, "run hb as that user"},
			} {
				o := socketOptions(s)
				o.User, o.UserFrom, o.Password, o.TLS.Mode = test.user, "--user", NewSecret(test.password), test.mode
				if test.password != "" {
					o.PasswordFrom = "HB_PASSWORD"
				} else {
					o.LoginFile = "/home/x/.mylogin.cnf"
				}
				_, err := Connect(t.Context(), o)
				if e, ok := errors.AsType[*ConnectError](err); !ok || !strings.Contains(e.Hint, test.hint) {
					t.Errorf("%s: %v, want %q", test.user, err, test.hint)
				}
			}
			o := socketOptions(s)
			o.TLS.Mode = TLSVerifyCA
			_, err := Connect(t.Context(), o)
			if e, ok := errors.AsType[*ConnectError](err); !ok || !strings.Contains(e.Hint, "--ssl-ca") {
				t.Errorf("a certificate of an unknown authority: %v", err)
			}
		})
	}
}

// TestUnixSocketUser connects as Debian's root, who has no password.
func TestUnixSocketUser(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip(mysqldtest.SkipMark, "needs root")
	}
	each(t, func(t *testing.T, s *mysqldtest.Server) {
		s.Exec(t, "ALTER USER root@localhost IDENTIFIED VIA mysql_native_password USING 'invalid' OR unix_socket")
		connect(t, socketOptions(s))
		s.Exec(t, "ALTER USER root@localhost IDENTIFIED VIA unix_socket")
		connect(t, socketOptions(s))
	})
}

// TestPrivileges gives a user one privilege less than it needs, and shows that
// the check agrees with what the server really refuses.
func TestPrivileges(t *testing.T) {
	each(t, func(t *testing.T, s *mysqldtest.Server) {
		super := "RELOAD, PROCESS, SUPER"
		superMissing := ""
		if s.Root.AtLeast(11, 0) {
			superMissing = "BINLOG MONITOR, SLAVE MONITOR"
		}
		for _, test := range []struct{ grant, missing string }{
			{"USAGE", "RELOAD, PROCESS, BINLOG MONITOR, SLAVE MONITOR"},
			{"RELOAD", "PROCESS, BINLOG MONITOR, SLAVE MONITOR"},
			{"RELOAD, PROCESS", "BINLOG MONITOR, SLAVE MONITOR"},
			{"RELOAD, PROCESS, BINLOG MONITOR", "SLAVE MONITOR"},
			{"RELOAD, PROCESS, REPLICATION CLIENT", "SLAVE MONITOR"},
			{"RELOAD, PROCESS, SLAVE MONITOR", "BINLOG MONITOR"},
			{"RELOAD, BINLOG MONITOR, SLAVE MONITOR", "PROCESS"},
			{"RELOAD, PROCESS, BINLOG MONITOR, SLAVE MONITOR", ""},
			{"ALL", ""},
			{super, superMissing},
		} {
			s.Exec(t, "CREATE OR REPLACE USER g@localhost IDENTIFIED BY 'x'", "GRANT "+test.grant+" ON *.* TO g@localhost")
			checkPrivileges(t, s, test.grant, test.missing)
		}
		// A privilege on one database is none; a default role counts, and a
		// role that is not set does not.
		s.Exec(t, "CREATE OR REPLACE USER g@localhost IDENTIFIED BY 'x'", "GRANT ALL ON mysql.* TO g@localhost")
		checkPrivileges(t, s, "one database", "RELOAD, PROCESS, BINLOG MONITOR, SLAVE MONITOR")
		s.Exec(t, "CREATE ROLE backup", "GRANT RELOAD, PROCESS, BINLOG MONITOR ON *.* TO backup", "GRANT backup TO g@localhost")
		checkPrivileges(t, s, "role not set", "RELOAD, PROCESS, BINLOG MONITOR, SLAVE MONITOR")
		s.Exec(t, "SET DEFAULT ROLE backup FOR g@localhost")
		checkPrivileges(t, s, "role", "SLAVE MONITOR")
		s.Exec(t, "CREATE ROLE inner_role", "GRANT SLAVE MONITOR ON *.* TO inner_role", "GRANT inner_role TO backup")
		checkPrivileges(t, s, "role of a role", "")
		if s.Root.AtLeast(10, 11) {
			s.Exec(t, "CREATE OR REPLACE USER g@localhost IDENTIFIED BY 'x'", "GRANT RELOAD, PROCESS, BINLOG MONITOR ON *.* TO PUBLIC")
			checkPrivileges(t, s, "public", "SLAVE MONITOR")
		}
	})
}

func checkPrivileges(t *testing.T, s *mysqldtest.Server, grant, missing string) {
	t.Helper()
	opt := socketOptions(s)
	opt.User, opt.Password = "g", NewSecret("x")
	srv := connect(t, opt)
	ctx := t.Context()
	err := srv.CheckPrivileges(ctx, Needs{SlaveInfo: true})
	got := ""
	if me, ok := errors.AsType[*MissingPrivilegesError](err); ok {
		_, got, _ = strings.Cut(strings.TrimSuffix(strings.Join(me.Grants(), " "), " ON *.* TO 'g'@'localhost';"), "GRANT ")
	} else if err != nil {
		t.Errorf("%s: %v", grant, err)
	}
	if got != missing {
		t.Errorf("%s: missing %q, want %q", grant, got, missing)
	}
	for p, run := range map[string]func() error{
		"PROCESS":        func() error { _, err := srv.Tablespaces(ctx); return err },
		"RELOAD":         func() error { return srv.FlushEngineLogs(ctx) },
		"BINLOG MONITOR": func() error { _, err := srv.BinlogPosition(ctx); return err },
		"SLAVE MONITOR":  func() error { _, err := srv.ReplicaState(ctx); return err },
	} {
		err := run()
		if refused := IsAccessDenied(err); refused != strings.Contains(missing, p) || (err != nil && !refused) {
			t.Errorf("%s: what needs %s: %v", grant, p, err)
		}
	}
	st := NewSet(srv).Stages()
	if err := st.Enter(ctx, StageStart); IsAccessDenied(err) != strings.Contains(missing, "RELOAD") {
		t.Errorf("%s: BACKUP STAGE START: %v", grant, err)
	}
	if _, err := srv.CurrentLSN(ctx); err != nil {
		t.Errorf("%s: %v", grant, err)
	}
	if err := srv.CheckFeatures(ctx); IsAccessDenied(err) != strings.Contains(missing, "PROCESS") || err != nil && !IsAccessDenied(err) {
		t.Errorf("%s: what needs PROCESS: %v", grant, err)
	}
	if err := srv.Close(); err != nil {
		t.Error(err)
	}
}

func TestStages(t *testing.T) {
	each(t, func(t *testing.T, s *mysqldtest.Server) {
		s.Exec(t, "CREATE DATABASE d", "CREATE TABLE d.i (a INT) ENGINE=InnoDB", "CREATE TABLE d.m (a INT) ENGINE=MyISAM")
		srv := connect(t, socketOptions(s))
		st := NewSet(srv).Stages()
		ctx := t.Context()
		if err := st.Holding(ctx); !errors.Is(err, ErrLockLost) {
			t.Errorf("nothing held: %v", err)
		}
		// blocked reports whether a statement waits for the stage.
		blocked := func(q string) bool {
			t.Helper()
			c, err := s.DB().Conn(ctx)
			if err != nil {
				t.Fatal(err)
			}
			defer c.Close()
			if _, err := c.ExecContext(ctx, "SET SESSION lock_wait_timeout=1, innodb_lock_wait_timeout=1"); err != nil {
				t.Fatal(err)
			}
			_, err = c.ExecContext(ctx, q)
			if err != nil && !strings.Contains(err.Error(), "1205") {
				t.Fatalf("%s: %v", q, err)
			}
			return err != nil
		}
		for _, stage := range []Stage{StageStart, StageFlush, StageBlockDDL, StageBlockCommit} {
			if err := st.Enter(ctx, stage); err != nil {
				t.Fatal(err)
			}
			if st.Current() != stage {
				t.Errorf("current = %v, want %v", st.Current(), stage)
			}
			if err := st.Holding(ctx); err != nil {
				t.Error(err)
			}
			if got, want := blocked("INSERT INTO d.m VALUES (1)"), stage >= StageFlush; got != want {
				t.Errorf("%v: MyISAM insert blocked = %v", stage, got)
			}
			if got, want := blocked(fmt.Sprintf("CREATE TABLE d.c%d (a INT)", stage)), stage >= StageBlockDDL; got != want {
				t.Errorf("%v: CREATE TABLE blocked = %v", stage, got)
			}
			if got, want := blocked("INSERT INTO d.i VALUES (1)"), stage >= StageBlockCommit; got != want {
				t.Errorf("%v: commit blocked = %v", stage, got)
			}
		}
		if err := st.Enter(ctx, StageStart); err == nil {
			t.Error("START after BLOCK_COMMIT: no error")
		}
		if err := st.End(ctx); err != nil {
			t.Fatal(err)
		}
		if blocked("INSERT INTO d.i VALUES (1)") {
			t.Error("commit still blocked after END")
		}
		times := st.Times()
		if len(times) != 4 || times[3].Stage != StageBlockCommit || times[3].Held < time.Second || times[3].Held > time.Minute {
			t.Errorf("times = %+v", times)
		}
		for _, x := range times {
			if x.Held <= 0 || x.Wait <= 0 || x.Began.IsZero() {
				t.Errorf("time %+v", x)
			}
		}
	})
}

// TestStageTimeout shows that a stage not granted leaves the one before held.
func TestStageTimeout(t *testing.T) {
	each(t, func(t *testing.T, s *mysqldtest.Server) {
		s.Exec(t, "CREATE DATABASE d", "CREATE TABLE d.m (a INT) ENGINE=MyISAM", "CREATE TABLE d.i (a INT) ENGINE=InnoDB")
		ctx := t.Context()
		opt := socketOptions(s)
		opt.LockWait = time.Second
		srv, second := connect(t, opt), connect(t, opt)
		st := NewSet(srv).Stages()
		if err := st.Enter(ctx, StageStart); err != nil {
			t.Fatal(err)
		}
		if err := NewSet(second).Stages().Enter(ctx, StageStart); !isTimeout(err) {
			t.Errorf("second backup: %v", err)
		}
		if err := second.Close(); err != nil {
			t.Error(err)
		}
		if err := st.Holding(ctx); err != nil {
			t.Error(err)
		}
		if err := st.End(ctx); err != nil {
			t.Error(err)
		}

		srv = connect(t, opt)
		st = NewSet(srv).Stages()
		blocker, err := s.DB().Conn(ctx)
		if err != nil {
			t.Fatal(err)
		}
		defer blocker.Close()
		for _, q := range []string{"BEGIN", "INSERT INTO d.i VALUES (1)"} {
			if _, err := blocker.ExecContext(ctx, q); err != nil {
				t.Fatal(err)
			}
		}
		if err := errors.Join(st.Enter(ctx, StageStart), st.Enter(ctx, StageBlockCommit)); err != nil {
			t.Fatalf("an open transaction must not be in the way: %v", err)
		}
		if err := st.End(ctx); err != nil {
			t.Error(err)
		}
		if _, err := blocker.ExecContext(ctx, "LOCK TABLES d.m WRITE"); err != nil {
			t.Fatal(err)
		}
		srv = connect(t, opt)
		st = NewSet(srv).Stages()
		// From 10.11 on even START waits for LOCK TABLES ... WRITE.
		if err := st.Enter(ctx, StageStart); isTimeout(err) != s.Root.AtLeast(10, 11) || (err != nil && !isTimeout(err)) {
			t.Fatal(err)
		}
		if _, err := blocker.ExecContext(ctx, "UNLOCK TABLES"); err != nil {
			t.Fatal(err)
		}
		if st.Current() == StageNone {
			if err := st.Enter(ctx, StageStart); err != nil {
				t.Fatalf("second try: %v", err)
			}
		}
		if _, err := blocker.ExecContext(ctx, "LOCK TABLES d.m WRITE"); err != nil {
			t.Fatal(err)
		}
		err = st.Enter(ctx, StageBlockDDL)
		if !isTimeout(err) {
			t.Fatalf("table locked for writing: %v", err)
		}
		if _, err := blocker.ExecContext(ctx, "UNLOCK TABLES"); err != nil {
			t.Fatal(err)
		}
		if err := st.Holding(ctx); err != nil {
			t.Errorf("after a timeout: %v", err)
		}
		if err := st.Enter(ctx, StageBlockDDL); err != nil {
			t.Errorf("second try: %v", err)
		}
		if err := st.End(ctx); err != nil {
			t.Error(err)
		}
	})
}

func isTimeout(err error) bool { _, ok := errors.AsType[*LockTimeoutError](err); return ok }

// TestStageLost kills the lock connection: the loss must not go unnoticed.
func TestStageLost(t *testing.T) {
	each(t, func(t *testing.T, s *mysqldtest.Server) {
		ctx := t.Context()
		srv := connect(t, socketOptions(s))
		st := NewSet(srv).Stages()
		if err := errors.Join(st.Enter(ctx, StageStart), st.Enter(ctx, StageBlockDDL)); err != nil {
			t.Fatal(err)
		}
		s.Exec(t, "KILL "+st.conn.ID)
		for range 2 {
			if err := st.Holding(ctx); !errors.Is(err, ErrLockLost) {
				t.Errorf("holding = %v", err)
			}
		}
		if err := st.Enter(ctx, StageBlockCommit); !errors.Is(err, ErrLockLost) {
			t.Errorf("enter = %v", err)
		}
		if err := st.End(ctx); !errors.Is(err, ErrLockLost) {
			t.Errorf("end = %v", err)
		}

		// A context that ends in the middle of a stage releases all.
		srv = connect(t, socketOptions(s))
		st = NewSet(srv).Stages()
		if err := st.Enter(ctx, StageStart); err != nil {
			t.Fatal(err)
		}
		s.Exec(t, "CREATE DATABASE d", "CREATE TABLE d.m (a INT) ENGINE=MyISAM")
		blocker, err := s.DB().Conn(ctx)
		if err != nil {
			t.Fatal(err)
		}
		defer blocker.Close()
		if _, err := blocker.ExecContext(ctx, "LOCK TABLES d.m WRITE"); err != nil {
			t.Fatal(err)
		}
		short, cancel := context.WithTimeout(ctx, 300*time.Millisecond)
		defer cancel()
		if err := st.Enter(short, StageBlockDDL); !errors.Is(err, ErrLockLost) || !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("enter = %v", err)
		}
		// Nothing waits behind the stage that was given up, and it does not
		// come into force later.
		if _, err := s.DB().ExecContext(ctx, "SET STATEMENT lock_wait_timeout=1 FOR CREATE TABLE d.after_cancel (a INT)"); err != nil {
			t.Errorf("after the context ended: %v", err)
		}
		if _, err := blocker.ExecContext(ctx, "UNLOCK TABLES"); err != nil {
			t.Fatal(err)
		}
		third := connect(t, socketOptions(s))
		if err := NewSet(third).Stages().Enter(ctx, StageStart); err != nil {
			t.Errorf("after the context ended: %v", err)
		}

		// A closed server releases what it held.
		if err := third.Close(); err != nil {
			t.Error(err)
		}
		fourth := connect(t, socketOptions(s))
		st = NewSet(fourth).Stages()
		if err := st.Enter(ctx, StageStart); err != nil {
			t.Errorf("after Close: %v", err)
		}
		if err := s.Stop(); err != nil {
			t.Error(err)
		}
		if err := st.Holding(ctx); !errors.Is(err, ErrLockLost) {
			t.Errorf("server gone: %v", err)
		}
	})
}

// TestLSN shows under load that an LSN asked for before the flush is on disk
// after it, or after RedoDelay where the flush does nothing.
func TestLSN(t *testing.T) {
	each(t, func(t *testing.T, s *mysqldtest.Server) {
		s.Exec(t, "CREATE DATABASE d", "CREATE TABLE d.t (a INT AUTO_INCREMENT PRIMARY KEY, b VARCHAR(200)) ENGINE=InnoDB")
		ctx, cancel := context.WithCancel(t.Context())
		var wg sync.WaitGroup
		wg.Go(func() {
			for ctx.Err() == nil {
				// Errors end with the load; the LSN's growth is checked below.
				_, _ = s.DB().ExecContext(ctx, "INSERT INTO d.t (b) VALUES (REPEAT('x', 200)), (REPEAT('y', 200))")
			}
		})
		defer wg.Wait()
		defer cancel()
		srv := connect(t, socketOptions(s))
		var last innodb.LSN
		mysqldtest.Await(t, "the load writes redo meanwhile", func() bool {
			var first innodb.LSN
			first, last = lsnFlushed(t, srv, 50, 0)
			return first != last
		})
		s.Exec(t, "SET GLOBAL innodb_flush_log_at_trx_commit=0")
		mysqldtest.Await(t, "the load still does", func() bool {
			_, zero := lsnFlushed(t, srv, 2, time.Second)
			return zero != last
		})
	})
}

// lsnFlushed asks for the LSN and flushes n times, and returns the first and
// the last LSN.
func lsnFlushed(t *testing.T, srv *Server, n int, wantDelay time.Duration) (first, last innodb.LSN) {
	t.Helper()
	delay, err := srv.RedoDelay(t.Context())
	if err != nil || delay != wantDelay {
		t.Errorf("delay = %v, %v, want %v", delay, err, wantDelay)
	}
	for i := range n {
		lsn, err := srv.CurrentLSN(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if lsn < last {
			t.Errorf("LSN went back from %v to %v", last, lsn)
		}
		if last = lsn; i == 0 {
			first = lsn
		}
		if err := srv.FlushEngineLogs(t.Context()); err != nil {
			t.Fatal(err)
		}
		// Twice the delay: the server's own flush is late on a busy machine.
		for end := time.Now().Add(2 * delay); ; time.Sleep(20 * time.Millisecond) {
			flushed, _, err := srv.LSNs(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			if flushed >= lsn {
				break
			}
			if time.Now().After(end) {
				t.Errorf("flushed %v after asking for %v", flushed, lsn)
				break
			}
		}
	}
	return first, last
}

func TestCheckFeatures(t *testing.T) {
	mysqldtest.Each(t, mysqldtest.MariaDB, func(t *testing.T, root *mysqldtest.Root) {
		keys := filepath.Join(t.TempDir(), "keys")
		if err := os.WriteFile(keys, []byte("1;770a8a65da156d24ee2a093277530142\n"), 0o600); err != nil {
			t.Fatal(err)
		}
		plugin := []string{"plugin-load-add=file_key_management", "file-key-management-filename=" + keys}
		s := mysqldtest.Start(t, root, mysqldtest.Options{Config: plugin})
		srv := connect(t, socketOptions(s))
		refused := func(want string) {
			t.Helper()
			err := srv.CheckFeatures(t.Context())
			if fe, ok := errors.AsType[*UnsupportedFeatureError](err); want == "" && err != nil || want != "" && (!ok || !strings.Contains(fe.Detail, want)) {
				t.Errorf("want %q: %v", want, err)
			}
		}
		refused("") // a key plugin encrypts nothing
		s.Exec(t, "CREATE DATABASE d", "CREATE TABLE d.plain (id INT) ENGINE=InnoDB ENCRYPTED=NO")
		refused("")
		s.Exec(t, "CREATE TABLE d.secret (id INT) ENGINE=InnoDB ENCRYPTED=YES")
		refused("d/secret")
		s.Exec(t, "DROP TABLE d.secret", "SET GLOBAL innodb_encrypt_tables = ON")
		refused("innodb_encrypt_tables=ON")
		s.Exec(t, "SET GLOBAL innodb_encrypt_tables = OFF", "SET GLOBAL aria_encrypt_tables = ON")
		refused("aria_encrypt_tables=ON")
		plugins, err := srv.Plugins(t.Context())
		if err != nil || len(plugins) < 20 || len(ProviderPlugins(plugins)) != 0 {
			t.Errorf("plugins: %v, %v", plugins, err)
		}
		if err := errors.Join(srv.Close(), s.Stop()); err != nil {
			t.Error(err)
		}
		s = mysqldtest.StartOn(t, root, s.Datadir, mysqldtest.Options{Config: append(plugin, "innodb-encrypt-log=ON")})
		srv = connect(t, socketOptions(s))
		refused("innodb_encrypt_log=ON")
		if err := srv.Close(); err != nil {
			t.Error(err)
		}
	})
}

// readCheckpoint reads the newest checkpoint of ib_logfile0 for the test alone.
func readCheckpoint(dir string) (innodb.LSN, error) {
	f, err := os.Open(filepath.Join(dir, "ib_logfile0"))
	if err != nil {
		return 0, err
	}
	defer f.Close()
	b := make([]byte, 12288)
	if _, err := f.ReadAt(b, 0); err != nil {
		return 0, err
	}
	if string(b[:4]) == "Phys" {
		return innodb.LSN(max(binary.BigEndian.Uint64(b[4096:]), binary.BigEndian.Uint64(b[8192:]))), nil
	}
	return innodb.LSN(max(binary.BigEndian.Uint64(b[512+8:]), binary.BigEndian.Uint64(b[1536+8:]))), nil
}

func TestCheckDatadir(t *testing.T) {
	each(t, func(t *testing.T, s *mysqldtest.Server) {
		ctx := t.Context()
		other := mysqldtest.Start(t, s.Root, mysqldtest.Options{})
		s.Exec(t, "CREATE USER u@'127.0.0.1' IDENTIFIED BY 'p'", "GRANT ALL ON *.* TO u@'127.0.0.1'", "CREATE DATABASE moved_the_log")
		files := func(dir string) DatadirFiles {
			return DatadirFiles{Datadir: dir, Checkpoint: func() (innodb.LSN, error) { return readCheckpoint(dir) }}
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
		link := filepath.Join(t.TempDir(), "link")
		if err := os.Symlink(s.Datadir, link); err != nil {
			t.Fatal(err)
		}
		if proof, err := srv.CheckDatadir(ctx, files(link)); err != nil || !proof.ByProcess {
			t.Errorf("symlink: %+v, %v", proof, err)
		}

		copied := filepath.Join(t.TempDir(), "copy")
		if err := os.CopyFS(copied, os.DirFS(s.Datadir)); err != nil {
			t.Fatal(err)
		}
		for _, srv := range []*Server{srv, tcp} {
			for _, test := range []struct {
				name  string
				files DatadirFiles
				want  string
			}{
				{"another server's", files(other.Datadir), "process"},
				{"a copy", files(copied), "no running server"},
				{"nothing", files(filepath.Join(copied, "none")), "it has no"},
			} {
				_, err := srv.CheckDatadir(ctx, test.files)
				de, ok := errors.AsType[*DatadirError](err)
				if !ok || !strings.Contains(de.Reason, test.want) {
					t.Errorf("%s of %s: %v", test.name, srv.opt, err)
				}
			}
		}
		// The right datadir with the redo log of another server.
		f := files(s.Datadir)
		f.Checkpoint = func() (innodb.LSN, error) { return readCheckpoint(other.Datadir) }
		other.Exec(t, "CREATE DATABASE d", "CREATE TABLE d.t (a INT) ENGINE=InnoDB")
		if err := other.Stop(); err != nil { // which makes a checkpoint
			t.Fatal(err)
		}
		if _, err := srv.CheckDatadir(ctx, f); err == nil || !strings.Contains(err.Error(), "checkpoint") {
			t.Errorf("foreign redo log: %v", err)
		}
		if _, err := tcp.CheckDatadir(ctx, DatadirFiles{Datadir: s.Datadir}); !isUnproven(err) {
			t.Errorf("tcp without a reader of the redo log: %v", err)
		}
	})
}

func isUnproven(err error) bool {
	de, ok := errors.AsType[*DatadirError](err)
	return ok && de.Unproven
}

func TestBinlogPosition(t *testing.T) {
	each(t, func(t *testing.T, s *mysqldtest.Server) {
		s.Exec(t, "CREATE DATABASE d")
		srv := connect(t, socketOptions(s))
		p, err := srv.BinlogPosition(t.Context())
		if err != nil || p == nil || p.File != "binlog.000001" || p.Pos < 256 || p.GTID != "0-1-1" {
			t.Fatalf("position = %+v, %v", p, err)
		}
		st, err := os.Stat(filepath.Join(s.Datadir, p.File))
		if err != nil || uint64(st.Size()) != p.Pos {
			t.Errorf("binary log has %d bytes, position %d (%v)", st.Size(), p.Pos, err)
		}
		if g, ok, err := srv.GaleraState(t.Context()); ok || err != nil {
			t.Errorf("galera = %+v, %v, %v", g, ok, err)
		}
		if r, err := srv.ReplicaState(t.Context()); err != nil || r.FileText() != "" {
			t.Errorf("no replica: %+v, %v", r, err)
		}
	})
}

func TestNoBinlog(t *testing.T) {
	mysqldtest.Each(t, mysqldtest.MariaDB, func(t *testing.T, root *mysqldtest.Root) {
		srv := connect(t, socketOptions(mysqldtest.Start(t, root, mysqldtest.Options{})))
		if p, err := srv.BinlogPosition(t.Context()); p != nil || err != nil {
			t.Errorf("without a binary log: %+v, %v", p, err)
		}
		if err := srv.CheckPrivileges(t.Context(), Needs{}); err != nil {
			t.Error(err)
		}
	})
}

// backupTool runs the server's own backup tool and returns its files' texts.
func backupTool(t *testing.T, s *mysqldtest.Server, args ...string) func(name string) string {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "backup")
	cmd := s.Tool("mariadb-backup", append([]string{"--defaults-file=" + s.DefaultsFile, "--backup", "--target-dir=" + dir}, args...)...)
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("mariadb-backup: %v\n%s", err, out)
	}
	return func(name string) string {
		t.Helper()
		text, err := os.ReadFile(filepath.Join(dir, name))
		if err != nil {
			t.Error(err)
		}
		return string(text)
	}
}

// TestFilesAsTheirs holds the texts of the position files against those of the
// server's own tool, on a replica by file position, by GTID, and of two sources.
func TestFilesAsTheirs(t *testing.T) {
	each(t, func(t *testing.T, source *mysqldtest.Server) {
		replica := mysqldtest.Start(t, source.Root, mysqldtest.Options{Binlog: true, ServerID: 2})
		ctx := t.Context()
		srv := connect(t, socketOptions(replica))
		check := func(what string) {
			t.Helper()
			file := backupTool(t, replica, "--slave-info")
			p, err := srv.BinlogPosition(ctx)
			if err != nil || p == nil {
				t.Fatal(p, err)
			}
			text, err := p.Marshal()
			if err != nil {
				t.Fatal(err)
			}
			if got, want := string(text), file(srv.Series.Files.BinlogInfo); got != want {
				t.Errorf("%s: binlog file %q, theirs %q", what, got, want)
			}
			if info := file(srv.Series.Files.Info); !strings.Contains(info, "binlog_pos = "+p.InfoText()+"\n") {
				t.Errorf("%s: binlog_pos %q is not in %q", what, p.InfoText(), info)
			}
			r, err := srv.ReplicaState(ctx)
			if err != nil {
				t.Fatal(err)
			}
			if got, want := r.FileText(), file(srv.Series.Files.SlaveInfo); got != want {
				t.Errorf("%s: slave file %q, theirs %q", what, got, want)
			}
			checkpoints := file(srv.Series.Files.Checkpoints)
			if got := strings.Contains(checkpoints, "recover_binlog_info"); got != srv.Series.RecoverBinlogInfo {
				t.Errorf("recover_binlog_info = %v in %q", got, checkpoints)
			}
			_ = file(metadata.MyCnfName)
		}
		at, err := source.BinlogPosition(ctx)
		if err != nil {
			t.Fatal(err)
		}
		mysqldtest.Attach(t, replica, source, mysqldtest.Position{File: at.File, Pos: at.Pos})
		source.Exec(t, "CREATE DATABASE d", "CREATE TABLE d.t (a INT PRIMARY KEY)", "INSERT INTO d.t VALUES (1)")
		mysqldtest.CatchUp(t, replica, source, 30*time.Second)
		check("file position")
		replica.Exec(t, "STOP SLAVE", "CHANGE MASTER TO MASTER_USE_GTID=slave_pos", "START SLAVE")
		mysqldtest.CatchUp(t, replica, source, 30*time.Second)
		check("GTID")
		replica.Exec(t, "CREATE DATABASE own", "CHANGE MASTER 'second' TO MASTER_HOST='127.0.0.1', MASTER_PORT=1, MASTER_LOG_FILE='x.000007', MASTER_LOG_POS=77")
		check("two sources")
	})
}

// TestFormerSource: a server that was a source, and follows another one from
// gtid_current_pos, has an empty gtid_slave_pos at first. What a copy of it is told
// has it go on where this one does.
func TestFormerSource(t *testing.T) {
	each(t, func(t *testing.T, now *mysqldtest.Server) {
		ctx := t.Context()
		former := mysqldtest.Start(t, now.Root, mysqldtest.Options{Binlog: true, ServerID: 2})
		at, err := former.BinlogPosition(ctx)
		if err != nil {
			t.Fatal(err)
		}
		rows := []string{"CREATE DATABASE d", "CREATE TABLE d.t (a INT PRIMARY KEY)", "INSERT INTO d.t VALUES (1), (2)"}
		former.Exec(t, rows...)
		mysqldtest.Attach(t, now, former, mysqldtest.Position{File: at.File, Pos: at.Pos})
		mysqldtest.CatchUp(t, now, former, 30*time.Second)
		now.Exec(t, "STOP SLAVE", "RESET SLAVE ALL")
		follow := fmt.Sprintf("MASTER_HOST='127.0.0.1', MASTER_PORT=%d, MASTER_USER='hb_repl', MASTER_PASSWORD='hb_repl', ", now.Port)
		former.Exec(t, "CHANGE MASTER TO "+follow+"MASTER_USE_GTID=current_pos", "START SLAVE")
		mysqldtest.CatchUp(t, former, now, 30*time.Second)
		if got := former.Value(t, "SELECT @@global.gtid_slave_pos"); got != "" {
			t.Fatalf("gtid_slave_pos = %q", got)
		}
		r, err := connect(t, socketOptions(former)).ReplicaState(ctx)
		if err != nil || r.GTIDPos == "" || r.GTIDPos != former.Value(t, "SELECT @@global.gtid_current_pos") {
			t.Fatalf("%+v, %v", r, err)
		}
		copied := mysqldtest.Start(t, now.Root, mysqldtest.Options{Binlog: true, ServerID: 3})
		copied.Exec(t, rows...)
		// A replica that begins at the begin makes the table again, without an error
		// (slave_ddl_exec_mode), and loses what is only here.
		copied.Exec(t, "INSERT INTO d.t VALUES (99)", "RESET MASTER")
		for line := range strings.Lines(r.FileText()) {
			copied.Exec(t, strings.Replace(strings.TrimSuffix(line, ";\n"), "CHANGE MASTER TO ", "CHANGE MASTER TO "+follow, 1))
		}
		copied.Exec(t, "START SLAVE")
		now.Exec(t, "INSERT INTO d.t VALUES (3)")
		mysqldtest.CatchUp(t, copied, now, 30*time.Second)
		if got := copied.Value(t, "SELECT GROUP_CONCAT(a ORDER BY a) FROM d.t"); got != "1,2,3,99" {
			t.Errorf("rows %s", got)
		}
	})
}

// TestNoInnoDB: a server without InnoDB is refused by that reason.
func TestNoInnoDB(t *testing.T) {
	for name, off := range map[string][]string{
		mysqldtest.MariaDB1011: {"skip-innodb", "default-storage-engine=Aria"},
		mysqldtest.MySQL56:     {"skip-innodb", "default-storage-engine=MyISAM", "default-tmp-storage-engine=MyISAM"},
	} {
		s := mysqldtest.Start(t, mysqldtest.Need(t, name), mysqldtest.Options{Config: off})
		srv, err := Connect(t.Context(), socketOptions(s))
		if fe, ok := errors.AsType[*UnsupportedFeatureError](err); !ok || fe.Feature != "no InnoDB" {
			t.Errorf("%s: %v, %v", name, srv, err)
		}
	}
}
