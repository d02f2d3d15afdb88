// Package mysqld is one running server over SQL: who it is, what its settings
// are, whether the user may do what a backup needs, its backup locks, and the
// positions that a backup records.
//
// A backup uses it in this order:
//
//	opt, set, err := Resolve(flags, env)       // option files, environment, flags
//	srv, err := Connect(ctx, opt)              // refuses servers hb does not know
//	err = srv.CheckPrivileges(ctx, needs)      // names each missing grant
//	err = srv.CheckFeatures(ctx)               // encryption, engines hb cannot copy
//	proof, err := srv.CheckDatadir(ctx, ...)   // the files on disk are this server's
//
// then on MariaDB
//
//	stages := srv.Stages()                     // srv.Close releases them on every way out
//	err = stages.Enter(ctx, StageStart)        // ... StageBlockCommit
//	m, err := srv.Moment(ctx, stages, wanted)  // position and LSN first,
//	err = srv.FlushEngineLogs(ctx)             // then the flush that covers it
//	err = stages.End(ctx)                      // proves that the lock was never lost
//
// on MySQL 8.0 and later
//
//	c, warning, err := srv.RegisterRedoConsumer(ctx) // Series.RedoConsumer
//	l, err := srv.LockInstance(ctx)            // srv.Close releases all locks
//	list, err := srv.Tablespaces(ctx)          // what must be in the backup
//	err = l.HoldTables(ctx, tables, policy)    // only where it is needed
//	m, err := srv.Moment(ctx, l, wanted)       // by log_status
//	err = l.Release(ctx)
//
// and on MySQL 5.6 and 5.7, where DDL goes on until the global lock,
//
//	g, err := srv.LockGlobal(ctx, policy)
//	m, err := srv.Moment(ctx, g, wanted)
//	err = srv.FlushEngineLogs(ctx)
//	err = g.Release(ctx)
//
// All that differs between releases stands in version.go. hb writes nothing to
// the server: the statements here are SET SESSION, SHOW, SELECT, FLUSH
// NO_WRITE_TO_BINLOG, FLUSH TABLES WITH READ LOCK, BACKUP STAGE, LOCK … FOR
// BACKUP, and KILL of its own lock connection; and where the user asks for it, KILL
// QUERY of long statements, STOP and START of a replica's applier, and SET GLOBAL
// for a dump of the buffer pool, which is taken back.
//
// The facts of MySQL were seen on 5.6.24, 5.7.29 and 9.7.4, where nothing else is
// said. Percona Server's own statements are those of its manual: none was run.
//
// No error and no String of this package holds a password.
package mysqld
