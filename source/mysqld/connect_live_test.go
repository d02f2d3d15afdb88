package mysqld_test

import (
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"hb/source/mysqld"
	"hb/source/mysqld/contents"
	"hb/source/mysqld/locks"
	"hb/source/mysqld/login"
	"hb/source/mysqld/mysqldtest"
	"hb/source/mysqld/mysqldtest/client"
	"hb/source/mysqld/position"
)

func TestConnect(t *testing.T) {
	mysqldtest.EachServer(t, mysqldtest.MariaDB, mysqldtest.Options{Binlog: true}, func(t *testing.T, s *mysqldtest.Server) {
		s.Exec(t, "SET GLOBAL sql_select_limit=1", "SET GLOBAL sql_mode='ANSI_QUOTES,NO_BACKSLASH_ESCAPES'", "SET GLOBAL autocommit=0",
			"SET GLOBAL wait_timeout=2", "SET GLOBAL max_statement_time=1")
		srv := client.Connect(t, client.Options(s))
		if srv.Flavor != mysqld.MariaDB || srv.Version.String() != s.Root.Version || !strings.HasPrefix(srv.Version.Full, s.Root.Version) {
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
		admin := s.Conn(t)
		var hostile []string
		for name, value := range hostileSettings {
			if len(s.Rows(t, "SHOW GLOBAL VARIABLES LIKE '"+name+"'")) > 0 {
				hostile = append(hostile, "GLOBAL "+name+"="+value)
			}
		}
		if _, err := admin.ExecContext(t.Context(), "SET "+strings.Join(hostile, ", ")); err != nil {
			t.Fatal(err)
		}
		o := client.Options(s)
		o.User = "plain" // who may do little more than ask
		srv := client.Connect(t, o)
		time.Sleep(1500 * time.Millisecond) // longer than wait_timeout
		ctx := t.Context()
		if _, err := contents.Tablespaces(ctx, srv); err != nil {
			t.Error(err)
		}
		if _, err := position.CurrentLSN(ctx, srv); err != nil {
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
		l, n, err := locks.New(client.Connect(t, o)).TableDDL(ctx)
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
	mysqldtest.EachServer(t, mysqldtest.MariaDB, mysqldtest.Options{Binlog: true, TLS: true}, func(t *testing.T, s *mysqldtest.Server) {
		s.Exec(t, "CREATE USER u@'127.0.0.1' IDENTIFIED BY 'p w#'")
		opt, _, err := login.Resolve(login.Flags{DefaultsFile: s.DefaultsFile}, login.OSEnv())
		if err != nil {
			t.Fatal(err)
		}
		client.Connect(t, opt)
		file := filepath.Join(t.TempDir(), "my.cnf")
		text := fmt.Sprintf("[client]\nhost=127.0.0.1\nport=%d\nuser=u\npassword='p w#'\n", s.Port)
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if opt, _, err = login.Resolve(login.Flags{DefaultsFile: file}, login.OSEnv()); err != nil {
			t.Fatal(err)
		}
		client.Connect(t, opt)

		// TLS: MariaDB has it without any setting since 11.4.
		opt.TLS.Mode = login.TLSRequired
		if !s.Root.AtLeast(11, 4) {
			if _, err := mysqld.Connect(t.Context(), opt); err == nil || !strings.Contains(err.Error(), "TLS") {
				t.Errorf("TLS required of a server without TLS: %v", err)
			}
		} else {
			row, err := client.Connect(t, opt).Control.Row(t.Context(), "SHOW STATUS LIKE 'Ssl_version'")
			if err != nil || row["Value"] != "TLSv1.3" {
				t.Errorf("TLS version %v, %v", row, err)
			}
			opt.TLS.Mode = login.TLSVerifyIdentity
			if _, err := mysqld.Connect(t.Context(), opt); err == nil || !strings.Contains(err.Error(), "certificate") {
				t.Errorf("self-signed certificate: %v", err)
			}
		}
		opt.TLS.Mode = login.TLSPreferred
		client.Connect(t, opt)

		opt.Password = login.NewSecret("geheim")
		_, err = mysqld.Connect(t.Context(), opt)
		ce, ok := errors.AsType[*mysqld.ConnectError](err)
		if !ok || !strings.Contains(ce.Hint, "password") || strings.Contains(fmt.Sprintf("%v %+v %#v", err, err, err), "geheim") {
			t.Errorf("wrong password: %v", err)
		}
		opt.Network, opt.Socket = "unix", filepath.Join(t.TempDir(), "none")
		_, err = mysqld.Connect(t.Context(), opt)
		if ce, ok := errors.AsType[*mysqld.ConnectError](err); !ok || !strings.Contains(ce.Hint, "--socket") {
			t.Errorf("no socket: %v", err)
		}
	})
}

// TestDeniedHints: the hints when access is denied, by what the account demands.
func TestDeniedHints(t *testing.T) {
	for _, server := range []string{mysqldtest.MariaDB118, mysqldtest.MySQL97} {
		t.Run(server, func(t *testing.T) {
			root := mysqldtest.Need(t, server)
			s := mysqldtest.Start(t, root, mysqldtest.Options{TLS: true})
			plugin := map[bool]string{true: "unix_socket", false: "auth_socket"}[root.MariaDB()]
			if !root.MariaDB() {
				s.Exec(t, "INSTALL PLUGIN auth_socket SONAME 'auth_socket.so'")
			}
			s.Exec(t, "CREATE USER plain@localhost IDENTIFIED BY 'pw'", "CREATE USER tls@localhost IDENTIFIED BY 'pw' REQUIRE SSL",
				"CREATE USER x509@localhost IDENTIFIED BY 'pw' REQUIRE X509", "CREATE USER someone@localhost IDENTIFIED WITH "+plugin)
			for _, test := range []struct {
				user, password string
				mode           login.TLSMode
				hint           string
			}{
				{"plain", "wrong", login.TLSDefault, "the user is from --user, the password from HB_PASSWORD\nTLS was not used"},
				{"plain", "", login.TLSDefault, "no password is set, and hb does not read /home/x/.mylogin.cnf"},
				{"tls", "pw", login.TLSDefault, "which an account with REQUIRE SSL or X509 demands: --ssl-mode=REQUIRED"},
				{"x509", "pw", login.TLSRequired, "which an account with REQUIRE X509 demands: --ssl-cert and --ssl-key"},
				{"someone", "", login.TLSDefault, "run hb as that user"},
			} {
				o := client.Options(s)
				o.User, o.UserFrom, o.Password, o.TLS.Mode = test.user, "--user", login.NewSecret(test.password), test.mode
				if test.password != "" {
					o.PasswordFrom = "HB_PASSWORD"
				} else {
					o.LoginFile = "/home/x/.mylogin.cnf"
				}
				_, err := mysqld.Connect(t.Context(), o)
				if e, ok := errors.AsType[*mysqld.ConnectError](err); !ok || !strings.Contains(e.Hint, test.hint) {
					t.Errorf("%s: %v, want %q", test.user, err, test.hint)
				}
			}
			o := client.Options(s)
			o.TLS.Mode = login.TLSVerifyCA
			_, err := mysqld.Connect(t.Context(), o)
			if e, ok := errors.AsType[*mysqld.ConnectError](err); !ok || !strings.Contains(e.Hint, "--ssl-ca") {
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
	mysqldtest.EachServer(t, mysqldtest.MariaDB, mysqldtest.Options{Binlog: true}, func(t *testing.T, s *mysqldtest.Server) {
		s.Exec(t, "ALTER USER root@localhost IDENTIFIED VIA mysql_native_password USING 'invalid' OR unix_socket")
		client.Connect(t, client.Options(s))
		s.Exec(t, "ALTER USER root@localhost IDENTIFIED VIA unix_socket")
		client.Connect(t, client.Options(s))
	})
}

// TestNoInnoDB: a server without InnoDB is refused by that reason.
func TestNoInnoDB(t *testing.T) {
	for name, off := range map[string][]string{
		mysqldtest.MariaDB1011: {"skip-innodb", "default-storage-engine=Aria"},
		mysqldtest.MySQL56:     {"skip-innodb", "default-storage-engine=MyISAM", "default-tmp-storage-engine=MyISAM"},
	} {
		s := mysqldtest.Start(t, mysqldtest.Need(t, name), mysqldtest.Options{Config: off})
		srv, err := mysqld.Connect(t.Context(), client.Options(s))
		if fe, ok := errors.AsType[*mysqld.UnsupportedFeatureError](err); !ok || fe.Feature != "no InnoDB" {
			t.Errorf("%s: %v, %v", name, srv, err)
		}
	}
}

func TestMySQLConnect(t *testing.T) {
	mysqldtest.EachServer(t, mysqldtest.MySQL, mysqldtest.Options{Binlog: true}, func(t *testing.T, s *mysqldtest.Server) {
		s.Exec(t, "SET GLOBAL sql_mode='ANSI_QUOTES,NO_BACKSLASH_ESCAPES'", "SET GLOBAL autocommit=0", "SET GLOBAL wait_timeout=2")
		if s.Root.AtLeast(5, 7) {
			s.Exec(t, "SET GLOBAL max_execution_time=1")
		}
		srv := client.Connect(t, client.Options(s))
		if srv.Flavor != mysqld.MySQL || srv.Version.String() != s.Root.Version || srv.Version.Comment == "" || srv.Version.Percona() {
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
	mysqldtest.EachServer(t, mysqldtest.MySQL, mysqldtest.Options{TCP: true}, func(t *testing.T, s *mysqldtest.Server) {
		plugins := []string{"mysql_native_password", "sha256_password", "caching_sha2_password"}
		known, err := contents.Plugins(t.Context(), client.Connect(t, client.Options(s)))
		if err != nil {
			t.Fatal(err)
		}
		for _, plugin := range plugins {
			// 5.6 has sha256_password, but without certificates or keys of its
			// own lets nobody in by it, its own client neither.
			if !slices.ContainsFunc(known, func(p contents.Plugin) bool { return p.Name == plugin }) ||
				(plugin == "sha256_password" && !s.Root.AtLeast(5, 7)) {
				continue
			}
			for _, host := range []string{"localhost", "127.0.0.1"} {
				makeUser(t, s, "u@"+host, plugin)
			}
			socket := login.Options{Network: "unix", Socket: s.Socket, User: "u", Password: login.NewSecret("geheim")}
			tcp := login.Options{Network: "tcp", Host: "127.0.0.1", Port: s.Port, User: "u", Password: login.NewSecret("geheim")}
			plain := tcp
			plain.TLS.Mode = login.TLSDisabled
			for name, opt := range map[string]login.Options{"socket": socket, "tcp": tcp, "plain": plain} {
				srv, err := mysqld.Connect(t.Context(), opt)
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
			socket.Password = login.NewSecret("falsch")
			_, err = mysqld.Connect(t.Context(), socket)
			if ce, ok := errors.AsType[*mysqld.ConnectError](err); !ok || !strings.Contains(ce.Hint, "password") {
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

// TestAuthSocket connects as Debian's and Ubuntu's root, who has no password.
func TestAuthSocket(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip(mysqldtest.SkipMark, "needs root")
	}
	s := mysqldtest.Start(t, mysqldtest.Need(t, mysqldtest.MySQL97), mysqldtest.Options{})
	s.Exec(t, "INSTALL PLUGIN auth_socket SONAME 'auth_socket.so'", "ALTER USER root@localhost IDENTIFIED WITH auth_socket")
	client.Connect(t, client.Options(s))
}

// TestMySQLReadOnly backs up a replica that lets nobody write.
func TestMySQLReadOnly(t *testing.T) {
	mysqldtest.EachServer(t, mysqldtest.MySQL, mysqldtest.Options{Binlog: true}, func(t *testing.T, s *mysqldtest.Server) {
		s.Exec(t, "CREATE DATABASE d", "CREATE TABLE d.i (a INT) ENGINE=InnoDB", "SET GLOBAL read_only=ON")
		if s.Root.AtLeast(5, 7) {
			s.Exec(t, "SET GLOBAL super_read_only=ON")
		}
		ctx := t.Context()
		srv := client.Connect(t, client.Options(s))
		if err := errors.Join(srv.CheckPrivileges(ctx, everything), contents.CheckFeatures(ctx, srv)); err != nil {
			t.Error(err)
		}
		set := locks.New(srv)
		var held []*locks.Lock
		if srv.Series.LogStatus {
			l, err := set.Instance(ctx)
			if err != nil {
				t.Fatal(err)
			}
			held = append(held, l)
		}
		d, _, err := set.TableDDL(ctx)
		if err != nil {
			t.Fatal(err)
		}
		g, err := set.Global(ctx, locks.FTWRL{})
		if err != nil {
			t.Fatal(err)
		}
		if err := errors.Join(position.FlushEngineLogs(ctx, srv), position.FlushBinaryLogs(ctx, srv)); err != nil {
			t.Error(err)
		}
		for _, l := range append(held, d, g) {
			if err := l.Release(ctx); err != nil {
				t.Error(err)
			}
		}
	})
}

// TestOpenLost: a further connection to a server that has been killed is a lost one, with
// the exit code of that; one that the server refuses is not.
func TestOpenLost(t *testing.T) {
	mysqldtest.Each(t, []string{mysqldtest.MariaDB1011, mysqldtest.MySQL97}, func(t *testing.T, root *mysqldtest.Root) {
		s := mysqldtest.Start(t, root, mysqldtest.Options{})
		s.Exec(t, "CREATE USER few@localhost IDENTIFIED BY 'pw' WITH MAX_USER_CONNECTIONS 1")
		o := client.Options(s)
		o.User, o.Password = "few", login.NewSecret("pw")
		_, err := client.Connect(t, o).Open(t.Context())
		if _, refused := errors.AsType[*mysqld.ConnectError](err); !refused || errors.Is(err, mysqld.ErrConnectionLost) {
			t.Errorf("one connection too many: %v", err)
		}
		srv := client.Connect(t, client.Options(s))
		if err := s.Kill(); err != nil {
			t.Fatal(err)
		}
		_, err = srv.Open(t.Context())
		if _, refused := errors.AsType[*mysqld.ConnectError](err); refused || !errors.Is(err, mysqld.ErrConnectionLost) {
			t.Errorf("the server was killed: %v", err)
		}
	})
}

// TestOpenSlow: a server that is too busy to answer a further connection has as long as a
// lock may take, and hb says that it did not answer, not that it has crashed.
func TestOpenSlow(t *testing.T) {
	s := mysqldtest.Start(t, mysqldtest.Need(t, mysqldtest.MySQL97), mysqldtest.Options{})
	o := client.Options(s)
	o.ConnectTimeout, o.LockWait = time.Second, 3*time.Second
	srv := client.Connect(t, o)
	if err := s.Freeze(); err != nil {
		t.Fatal(err)
	}
	thawed := time.AfterFunc(2*time.Second, func() {
		if err := s.Thaw(); err != nil {
			t.Error(err)
		}
	})
	defer thawed.Stop()
	c, err := srv.Open(t.Context())
	if err != nil {
		t.Fatalf("after less than 3 seconds: %v", err)
	}
	if err := c.Close(); err != nil {
		t.Error(err)
	}
	if err := s.Freeze(); err != nil {
		t.Fatal(err)
	}
	defer s.Thaw()
	_, err = srv.Open(t.Context())
	if !errors.Is(err, mysqld.ErrConnectionLost) || !strings.Contains(err.Error(), "did not answer within 3s") || strings.Contains(err.Error(), "crashed") {
		t.Errorf("%v", err)
	}
}
