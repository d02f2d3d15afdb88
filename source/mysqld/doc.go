// Package mysqld is one running server over SQL: the connection, who the server is,
// what its settings are, and whether the user may do what a backup needs.
//
// What a backup asks of the server is in packages on top of it: contents (what it
// holds), locks, position (where its logs are), tracking (which pages it has changed) and
// identity (whether files on disk are its own). Package login, below it, says how to reach a server.
//
// A backup uses them in this order:
//
//	opt, set, err := login.Resolve(flags, env) // option files, environment, flags
//	srv, err := mysqld.Connect(ctx, opt)       // refuses servers hb does not know
//	err = srv.CheckPrivileges(ctx, needs)      // names each missing grant
//	err = contents.CheckFeatures(ctx, srv)     // encryption, engines hb cannot copy
//	proof, err := identity.Prove(ctx, srv, ..) // the files on disk are this server's
//	set := locks.New(srv)                      // srv.Close releases them on every way out
//	only, err := set.Only(ctx)                 // waits for another backup
//
// then on MariaDB
//
//	stages := set.Stages()
//	err = stages.Enter(ctx, locks.StageStart)       // ... StageBlockCommit
//	m, err := position.Take(ctx, srv, stages, want) // position and LSN first,
//	err = position.FlushEngineLogs(ctx, srv)        // then the flush that covers it
//	err = stages.End(ctx)                           // proves that the lock was never lost
//
// on MySQL 8.0 and later
//
//	c, warning, err := position.RegisterRedoConsumer(ctx, srv) // Series.RedoConsumer
//	l, err := set.Instance(ctx)
//	list, err := contents.Tablespaces(ctx, srv)     // what must be in the backup
//	broken, err := l.HoldTables(ctx, list, 0, policy) // only where it is needed
//	m, err := position.Take(ctx, srv, l, want)      // by log_status
//	err = l.Release(ctx)
//
// and on MySQL 5.6 and 5.7, where DDL goes on until the global lock,
//
//	g, err := set.Global(ctx, policy)
//	m, err := position.Take(ctx, srv, g, want)
//	err = position.FlushEngineLogs(ctx, srv)
//	err = g.Release(ctx)
//
// All that differs between releases is in series.go. hb writes nothing to
// the server: the statements of these packages are SET SESSION, SHOW, SELECT, FLUSH
// NO_WRITE_TO_BINLOG, FLUSH TABLES WITH READ LOCK, BACKUP STAGE, LOCK … FOR
// BACKUP, GET_LOCK, and KILL of its own lock connection; and where the user asks for it, KILL
// QUERY of long statements, STOP and START of a replica's applier, and SET GLOBAL
// for a dump of the buffer pool, which is taken back. Where the server tracks changed
// pages, hb begins its list again, and sets mysqlbackup.backupid.
//
// The facts of MySQL were seen on 5.6.24, 5.7.29 and 9.7.4, where nothing else is
// said. Percona Server's own statements are those of its manual: none was run.
//
// No error and no String of these packages holds a password.
package mysqld
