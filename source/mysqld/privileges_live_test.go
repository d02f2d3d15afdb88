package mysqld

import (
	"context"
	"errors"
	"hb/source/mysqld/mysqldtest"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/go-sql-driver/mysql"
)

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
			return &mysql.MySQLError{Number: 1227, Message: warning}
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
			err = &mysql.MySQLError{Number: 1227}
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
		err := srv.Control.Exec(ctx, "STOP "+map[bool]string{true: "REPLICA", false: "SLAVE"}[srv.Series.ReplicaWords]+" SQL_THREAD")
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
		"SUPER": super, PrivSelect: {ddl},
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
