package source

import (
	"context"

	"hb/source/mysqld"
	"hb/source/mysqld/locks"
	"hb/source/pages"
	"hb/xbstream/metadata"
)

// A family is how servers of one kind are backed up.
type family interface {
	// steps are those of a backup, in their order. A step that fails ends the
	// backup; locks are released in any case.
	steps() []step
	// openRedo opens the redo log, and prepares the copy of the family's tablespaces.
	openRedo(ctx context.Context) error
	// voidChanged voids the copies of tablespaces that were changed since the copies
	// began in ways that the redo does not record completely: hb copies them again.
	voidChanged(ctx context.Context) error
	// rules are the rules for settling tablespaces.
	rules() pages.Rules
	// externalSpaces are those that xtrabackup_tablespaces lists.
	externalSpaces() []metadata.ExternalSpace
	// describe adds the family's own fields to the manifest, which has Encryption.
	describe(m *metadata.Manifest)
	// release releases what the family may still hold after an error.
	release() error
}

type step func(ctx context.Context) error

// A sequence is how servers of one kind are backed up: the steps in their order, and
// the names that the archive uses.
type sequence struct {
	flavor     string                 // as hb-archive.json has it
	infoFormat string                 // of the archive, as the info file has it
	begin      func(b *backup) family // which has the steps
}

var (
	mariadbSequence = sequence{
		flavor: metadata.FlavorMariaDB, infoFormat: "mbstream",
		begin: func(b *backup) family { return &mariadbBackup{backup: b, stages: b.locks.Stages()} },
	}
	mysql8Sequence = sequence{
		flavor: metadata.FlavorMySQL, infoFormat: "xbstream",
		begin: func(b *backup) family { return &mysql8Backup{mysqlBackup: mysqlBackup{backup: b}} },
	}
	mysql5Sequence = sequence{
		flavor: metadata.FlavorMySQL, infoFormat: "xbstream",
		begin: func(b *backup) family { return &mysql5Backup{mysqlBackup: mysqlBackup{backup: b}} },
	}
)

// sequenceOf chooses by what the server can do.
func sequenceOf(d *mysqld.Series) *sequence {
	switch {
	case d.Stages:
		return &mariadbSequence
	case d.LogStatus:
		return &mysql8Sequence
	}
	return &mysql5Sequence
}

// steps are those of MariaDB, 10.5 and later; they are in mariadb.go.
//
//  1. BACKUP STAGE START, which blocks nothing but other backups. (All families wait for
//     another hb first.)
//  2. The redo follower starts at the newest checkpoint; only then are the
//     tablespaces listed. Everything that is written after this is either on the
//     copied pages or in the redo that hb follows.
//  3. All tablespaces are copied, definitions are recorded (package definitions), the
//     files of other engines go to the stage, and then, while DDL goes on,
//     tablespaces that appeared in the meantime are copied. Every tablespace that the server knows must be in the archive, or have
//     a file.
//  4. BACKUP STAGE BLOCK_DDL: the last new tablespaces are copied, and files of other
//     engines that changed are staged again. Transactions go on.
//  5. BACKUP STAGE BLOCK_COMMIT: binary log position, LSN, the tail of the Aria
//     log, what changed of the server's own tables (database mysql).
//  6. BACKUP STAGE END. hb waits for the redo up to that LSN: a server with
//     innodb_flush_log_at_trx_commit=0 writes it to the file only once a second,
//     even after a flush. Then tablespaces are settled (pages.Settle), and staged
//     files and spooled redo go into the archive, then fix-ups, metadata and the
//     manifest.
func (b *mariadbBackup) steps() []step {
	return []step{
		b.preflight,
		b.awaitOthers,
		b.enter(locks.StageStart),
		b.followRedo,
		b.copyTablespaces,
		b.recordDefinitions,
		b.stageMariaDB,
		b.copyRounds,
		b.proveListed,
		b.flushLogs,
		b.enter(locks.StageBlockDDL),
		b.underBlockDDL,
		b.enter(locks.StageBlockCommit),
		b.underBlockCommit,
		b.endStages,
		b.finishRedo,
		b.askDefinitions,
		b.letOthers,
		b.settle,
		b.sendRest,
	}
}

// steps are those of MySQL 8.0 and later; they are in mysql8.go, mysql8ddl.go and mysql.go.
//
//  1. hb has the server begin its list of changed pages again, if it has one, and keep the redo
//     log files that hb has not read yet.
//  2. LOCK INSTANCE FOR BACKUP, which blocks DDL, the creation, truncation and
//     removal of tablespaces, and the purge of binary logs, and nothing else. The server
//     grants it when no DDL runs.
//  3. The redo follower starts at the newest checkpoint. An increment asks the server
//     which pages it has changed since the base: after both, see package tracking.
//  4. hb releases the lock, unless it needs or was asked to hold it: DDL goes on.
//  5. Tablespaces are listed, by the server and on disk, and copied. Files of other
//     engines go to the stage, after definitions are recorded. Then hb copies what DDL made
//     or changed in the meantime, and stages the undo tablespaces.
//  6. LOCK INSTANCE FOR BACKUP again. hb copies what changed last; if that is much, hb releases
//     the lock, copies it while DDL goes on, and does this step again. All tablespaces that the
//     server knows must be in the archive. The binary log goes on in a new file, and hb waits
//     until XA transactions that end in an earlier one have ended.
//  7. Position and LSN, of one moment, from performance_schema.log_status, which
//     blocks nobody. If there are non-transactional tables, hb locks and flushes
//     them first, and stages again those that changed. If somebody uses one of these for long,
//     hb releases the lock, lets DDL pass, and does step 6 again. If a transaction is prepared
//     at that moment (an XA transaction; before 9.7 any), the binary log decides
//     whether it is committed.
//  8. The locks are released. The binary log is copied up to the position, and
//     its GTIDs are counted. hb waits for the redo up to that LSN.
//  9. Staged files, spooled redo, metadata and the manifest.
func (b *mysql8Backup) steps() []step {
	return []step{
		b.preflight,
		b.awaitOthers,
		b.dumpBufferPool,
		b.beginTracking, // before any page is copied
		b.keepRedo,
		b.lockFirst,
		b.followRedo,
		b.listChanged,
		b.letDDL,
		b.copyTablespaces,
		b.recordDefinitions,
		b.stageOthers,
		b.copyCalm,
		b.stageUndo,
		b.awaitBufferPool,
		b.flushLogs,
		b.underLastLock,
		b.unlockInstance,
		b.resumeReplica,
		b.flushLogs,
		b.stageBinlog,
		b.finishRedo,
		b.releaseRedo,
		b.askDefinitions,
		b.letOthers,
		b.settle,
		b.sendRest,
	}
}

// steps are those of MySQL 5.6 and 5.7, which have no lock that blocks only DDL; they
// are in mysql5.go and mysql.go.
//
//  1. If asked for, metadata locks on all tables.
//  2. The redo follower starts at the newest checkpoint, and hb asks the server which
//     indexes it is building. Tablespaces are listed and copied, files of other
//     engines go to the stage, after definitions are recorded, and then, while DDL goes on,
//     new tablespaces are copied, and tablespaces that were changed without redo are copied again
//     (mysql5.go).
//  3. FLUSH TABLES WITH READ LOCK, or the backup locks of Percona Server: no
//     DDL, no writes to non-transactional tables, no commits.
//  4. Tablespaces are listed for the last time. hb copies those that appeared or were
//     changed without redo since, and the changed files of other engines.
//  5. Binary log position and LSN, of one moment: Percona Server's final lock lets
//     commits go on, so hb takes its lock for the binary log first. The locks are
//     released.
//  6. hb waits for the redo up to that LSN; then as for the others.
func (b *mysql5Backup) steps() []step {
	return []step{
		b.preflight,
		b.awaitOthers,
		b.dumpBufferPool,
		b.watchTruncation,
		b.lockTableDDL,
		b.followRedo,
		b.watchBuilds,
		b.copyTablespaces,
		b.recordDefinitions,
		b.stageOthers,
		b.copyRounds,
		b.awaitBufferPool,
		b.flushLogs,
		b.pauseReplica,
		b.lockGlobal,
		b.underGlobalLock,
		b.unlockGlobal,
		b.resumeReplica,
		b.finishRedo,
		b.askDefinitions,
		b.letOthers,
		b.settle,
		b.sendRest,
	}
}
