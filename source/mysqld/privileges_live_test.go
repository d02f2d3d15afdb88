package mysqld_test

import (
	"context"
	"errors"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/go-sql-driver/mysql"

	"hb/source/mysqld"
	"hb/source/mysqld/contents"
	"hb/source/mysqld/locks"
	"hb/source/mysqld/login"
	"hb/source/mysqld/mysqldtest"
	"hb/source/mysqld/mysqldtest/client"
	"hb/source/mysqld/position"
)

// TestPrivileges gives a user one privilege less than it needs, and shows that
// the check agrees with what the server really refuses.
func TestPrivileges(t *testing.T) {
	mysqldtest.EachServer(t, mysqldtest.MariaDB, mysqldtest.Options{Binlog: true}, func(t *testing.T, s *mysqldtest.Server) {
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
		// A privilege on one database does not count; a default role counts, and a
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
	opt := client.Options(s)
	opt.User, opt.Password = "g", login.NewSecret("x")
	srv := client.Connect(t, opt)
	ctx := t.Context()
	err := srv.CheckPrivileges(ctx, mysqld.Needs{SlaveInfo: true})
	got := ""
	if me, ok := errors.AsType[*mysqld.MissingPrivilegesError](err); ok {
		_, got, _ = strings.Cut(strings.TrimSuffix(strings.Join(me.Grants(), " "), " ON *.* TO 'g'@'localhost';"), "GRANT ")
	} else if err != nil {
		t.Errorf("%s: %v", grant, err)
	}
	if got != missing {
		t.Errorf("%s: missing %q, want %q", grant, got, missing)
	}
	for p, run := range map[string]func() error{
		"PROCESS":        func() error { _, err := contents.Tablespaces(ctx, srv); return err },
		"RELOAD":         func() error { return position.FlushEngineLogs(ctx, srv) },
		"BINLOG MONITOR": func() error { _, err := position.Binlog(ctx, srv); return err },
		"SLAVE MONITOR":  func() error { _, err := position.ReadReplica(ctx, srv); return err },
	} {
		err := run()
		if refused := mysqld.IsAccessDenied(err); refused != strings.Contains(missing, p) || (err != nil && !refused) {
			t.Errorf("%s: what needs %s: %v", grant, p, err)
		}
	}
	st := locks.New(srv).Stages()
	if err := st.Enter(ctx, locks.StageStart); mysqld.IsAccessDenied(err) != strings.Contains(missing, "RELOAD") {
		t.Errorf("%s: BACKUP STAGE START: %v", grant, err)
	}
	if _, err := position.CurrentLSN(ctx, srv); err != nil {
		t.Errorf("%s: %v", grant, err)
	}
	if err := contents.CheckFeatures(ctx, srv); err != nil {
		t.Errorf("%s: %v", grant, err)
	}
	if err := srv.Close(); err != nil {
		t.Error(err)
	}
}

// mysqlOps are what a backup asks of a MySQL server, each with the privilege
// that it needs on this series.
func mysqlOps(root *mysqldtest.Root, s *mysqldtest.Server) map[mysqld.Privilege][]func(ctx context.Context, srv *mysqld.Server) error {
	release := func(l *locks.Lock, err error) error {
		if err != nil {
			return err
		}
		return l.Close()
	}
	global := func(ctx context.Context, srv *mysqld.Server) error {
		return release(locks.New(srv).Global(ctx, locks.FTWRL{}))
	}
	flush := func(ctx context.Context, srv *mysqld.Server) error { return position.FlushEngineLogs(ctx, srv) }
	spaces := func(ctx context.Context, srv *mysqld.Server) error {
		_, err := contents.Tablespaces(ctx, srv)
		return err
	}
	builds := func(ctx context.Context, srv *mysqld.Server) error { _, err := contents.Builds(ctx, srv); return err }
	features := func(ctx context.Context, srv *mysqld.Server) error { return contents.CheckFeatures(ctx, srv) }
	lsn := func(ctx context.Context, srv *mysqld.Server) error {
		_, err := position.CurrentLSN(ctx, srv)
		return err
	}
	where := func(ctx context.Context, srv *mysqld.Server) error { _, err := position.Binlog(ctx, srv); return err }
	replica := func(ctx context.Context, srv *mysqld.Server) error {
		_, err := position.ReadReplica(ctx, srv)
		return err
	}
	instance := func(ctx context.Context, srv *mysqld.Server) error {
		return release(locks.New(srv).Instance(ctx))
	}
	logStatus := func(ctx context.Context, srv *mysqld.Server) error {
		_, err := position.ReadLogStatus(ctx, srv)
		return err
	}
	consumer := func(ctx context.Context, srv *mysqld.Server) error {
		c, warning, err := position.RegisterRedoConsumer(ctx, srv)
		if c == nil && err == nil {
			return &mysql.MySQLError{Number: 1227, Message: warning}
		}
		return errors.Join(err, c.Close())
	}
	dump := func(ctx context.Context, srv *mysqld.Server) error {
		d, err := srv.DumpBufferPool(ctx, 10)
		if err == nil {
			err = d.Close()
		}
		return err
	}
	ddl := func(ctx context.Context, srv *mysqld.Server) error {
		l, n, err := locks.New(srv).TableDDL(ctx)
		if err == nil && n != 1 { // it does not see the others
			err = &mysql.MySQLError{Number: 1227}
		}
		return errors.Join(err, l.Close())
	}
	kill := func(ctx context.Context, srv *mysqld.Server) error {
		victim, err := mysqld.Connect(ctx, login.Options{Network: "unix", Socket: s.Socket, User: "victim", Password: login.NewSecret("x")})
		if err != nil {
			return err
		}
		return errors.Join(srv.Control.Exec(ctx, "KILL QUERY "+victim.Control.ID), victim.Close())
	}
	applier := func(ctx context.Context, srv *mysqld.Server) error {
		err := srv.Control.Exec(ctx, "STOP "+map[bool]string{true: "REPLICA", false: "SLAVE"}[srv.Series.ReplicaWords]+" SQL_THREAD")
		if my, ok := errors.AsType[*mysql.MySQLError](err); ok && my.Number == 1200 { // it is no replica
			return nil
		}
		return err
	}
	type ops = map[mysqld.Privilege][]func(context.Context, *mysqld.Server) error
	if root.AtLeast(8, 0) {
		return ops{
			mysqld.PrivReload: {global, flush}, mysqld.PrivProcess: {spaces}, mysqld.PrivReplicationClient: {where, replica},
			mysqld.PrivBackupAdmin: {instance, logStatus, consumer}, mysqld.PrivLogStatus: {logStatus}, mysqld.PrivSystemVariablesAdmin: {dump},
			mysqld.PrivSelect: {ddl}, mysqld.PrivConnectionAdmin: {kill}, mysqld.PrivReplicationAdmin: {applier},
		}
	}
	super := []func(context.Context, *mysqld.Server) error{kill, dump, applier}
	if !root.AtLeast(5, 7) {
		super = []func(context.Context, *mysqld.Server) error{kill, dump}
	}
	return ops{
		mysqld.PrivReload: {global, flush}, mysqld.PrivProcess: {spaces, builds, features, lsn}, mysqld.PrivReplicationClient: {where, replica},
		"SUPER": super, mysqld.PrivSelect: {ddl},
	}
}

// TestMySQLPrivileges gives a user one privilege less than it needs, for each
// one, and shows that the check says so and that the server really refuses what
// needs it, and nothing else.
func TestMySQLPrivileges(t *testing.T) {
	mysqldtest.EachServer(t, mysqldtest.MySQL, mysqldtest.Options{Binlog: true}, func(t *testing.T, s *mysqldtest.Server) {
		s.Exec(t, "CREATE DATABASE d", "CREATE TABLE d.t (a INT) ENGINE=InnoDB", "CREATE USER victim@localhost IDENTIFIED BY 'x'")
		ops := mysqlOps(s.Root, s)
		all := slices.Sorted(maps.Keys(ops))
		for _, missing := range append([]mysqld.Privilege{""}, all...) {
			s.Exec(t, "CREATE USER g@localhost IDENTIFIED BY 'x'")
			for _, p := range all {
				switch {
				case p == missing:
				case strings.Contains(string(p), " ON "):
					if missing != mysqld.PrivSelect { // SELECT on *.* is more than this one
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
var everything = mysqld.Needs{SlaveInfo: true, KillQueries: true, SafeSlave: true, DumpBufferPool: true, LockTableDDL: true}

func checkMySQLPrivileges(t *testing.T, s *mysqldtest.Server, ops map[mysqld.Privilege][]func(context.Context, *mysqld.Server) error, missing mysqld.Privilege) {
	t.Helper()
	srv := client.Connect(t, login.Options{Network: "unix", Socket: s.Socket, User: "g", Password: login.NewSecret("x"), LockWait: 2 * time.Second})
	err := srv.CheckPrivileges(t.Context(), everything)
	me, _ := errors.AsType[*mysqld.MissingPrivilegesError](err)
	want := map[mysqld.Privilege]bool{missing: true}
	switch {
	case missing == "" || missing == mysqld.PrivLogStatus, // SELECT on *.* is enough
		missing == mysqld.PrivReplicationClient && !srv.Series.Roles: // SUPER includes it
		clear(want)
	case missing == mysqld.PrivSelect && srv.Series.LogStatus:
		want[mysqld.PrivLogStatus] = true
	}
	got := make(map[mysqld.Privilege]bool)
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
	got[mysqld.PrivLogStatus] = got[mysqld.PrivLogStatus] || got[mysqld.PrivBackupAdmin]
	for p, list := range ops {
		for i, op := range list {
			err := op(t.Context(), srv)
			if refused := got[p] || (p == mysqld.PrivBackupAdmin && i == 1 && got[mysqld.PrivLogStatus]); (err != nil) != refused {
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
		srv := client.Connect(t, login.Options{Network: "unix", Socket: s.Socket, User: "g", Password: login.NewSecret("x")})
		err := srv.CheckPrivileges(t.Context(), mysqld.Needs{})
		me, ok := errors.AsType[*mysqld.MissingPrivilegesError](err)
		if (want == "") != (err == nil) || (ok && strings.Join(me.Grants(), " ") != want) {
			t.Errorf("error = %v, want %q", err, want)
		}
		if want == "" {
			if _, err := position.ReadLogStatus(t.Context(), srv); err != nil {
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
