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
//	stages := srv.Stages()                     // srv.Close releases them on every way out
//	err = stages.Enter(ctx, StageStart)        // ... StageBlockCommit
//	pos, err := srv.BinlogPosition(ctx)
//	lsn, err := srv.CurrentLSN(ctx)            // the LSN first,
//	err = srv.FlushEngineLogs(ctx)             // then the flush that covers it
//	err = stages.End(ctx)                      // proves that the lock was never lost
//
// All that differs between releases stands in version.go. hb writes nothing to
// the server: the statements here are SET SESSION, SHOW, SELECT, FLUSH
// NO_WRITE_TO_BINLOG ENGINE LOGS, BACKUP STAGE, and KILL of its own lock
// connection.
//
// No error and no String of this package holds a password.
package mysqld
