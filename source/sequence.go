package source

import (
	"context"

	"hb/source/mysqld"
	"hb/source/redo"
	"hb/stream/disk"
	"hb/xbstream/metadata"
)

// A sequence is how servers of one kind are backed up: the steps in their
// order, and what the archive calls things. A step that fails ends the backup;
// locks are released in any case.
type sequence struct {
	flavor     string // as hb-archive.json has it
	redoName   string // of the redo log in the archive
	infoFormat string // of the archive, as the info file has it
	openRedo   func(b *backup) error
	lookAtRedo func(system disk.System, dir string) (redo.State, error)
	steps      []step
}

type step func(b *backup, ctx context.Context) error

// sequenceOf chooses by what the server can do.
func sequenceOf(d *mysqld.Dialect) *sequence {
	switch {
	case d.Stages:
		return &mariadbSequence
	case d.LogStatus:
		return &instanceSequence
	}
	return &classicSequence
}

// mariadbSequence is that of MariaDB, 10.5 and later; its steps are in
// mariadb.go.
//
//  1. BACKUP STAGE START, which blocks nothing but other backups.
//  2. The redo follower starts at the newest checkpoint; only then are the
//     tablespaces listed. All that is written from here on is either on the
//     pages that are copied or in the redo that is followed.
//  3. All tablespaces are copied, the files of other engines go to the stage,
//     and then, while DDL goes on, tablespaces that appeared meanwhile are copied.
//     All that the server knows must be in the archive, or have a file.
//  4. BACKUP STAGE BLOCK_DDL: what appeared at last is copied, files of other
//     engines that changed are staged again. Transactions go on.
//  5. BACKUP STAGE BLOCK_COMMIT: binary log position, LSN, the tail of the Aria
//     log, log and statistics tables.
//  6. BACKUP STAGE END. The redo up to that LSN is waited for: a server with
//     innodb_flush_log_at_trx_commit=0 writes it to the file only once a second,
//     whatever is flushed. Then tablespaces are settled (settle.go), and what is
//     staged and spooled goes into the archive, then fix-ups, metadata and the
//     manifest.
var mariadbSequence = sequence{
	flavor: metadata.FlavorMariaDB, redoName: "ib_logfile0", infoFormat: "mbstream",
	openRedo: (*backup).openMariaDBRedo, lookAtRedo: redo.Look,
	steps: []step{
		(*backup).preflight,
		enter(mysqld.StageStart),
		(*backup).followRedo,
		(*backup).copyTablespaces,
		(*backup).stageMariaDB,
		(*backup).copyRounds,
		(*backup).proveListed,
		(*backup).flushLogs,
		enter(mysqld.StageBlockDDL),
		(*backup).underBlockDDL,
		enter(mysqld.StageBlockCommit),
		(*backup).underBlockCommit,
		(*backup).endStages,
		(*backup).finishRedo,
		(*backup).settle,
		(*backup).sendRest,
	},
}

// instanceSequence is that of MySQL 8.0 and later; its steps are in
// instance.go.
//
//  1. The server is told to keep the redo log files that are not read yet.
//  2. LOCK INSTANCE FOR BACKUP, which blocks DDL, the creation, truncation and
//     removal of tablespaces, and the purge of binary logs, and nobody else.
//  3. The redo follower starts at the newest checkpoint. Tablespaces are
//     listed, by the server and on disk, and copied. Files of other engines go
//     to the stage.
//  4. The binary log goes on in a new file. All tablespaces that the server
//     knows must be in the archive.
//  5. Position and LSN, of one moment, by performance_schema.log_status, which
//     keeps nobody waiting. Only while there are tables without transactions,
//     those are locked and flushed, and what changed in them is staged again.
//     On servers whose log_status does not wait for prepared transactions
//     (before 9.7) it is the binary log that says which of them are committed.
//  6. The locks are released, and the redo up to that LSN is waited for.
//  7. What is staged and spooled, metadata and the manifest.
var instanceSequence = sequence{
	flavor: metadata.FlavorMySQL, redoName: "xtrabackup_logfile", infoFormat: "xbstream",
	openRedo: (*backup).openMySQLRedo, lookAtRedo: redo.LookMySQL,
	steps: []step{
		(*backup).preflight,
		(*backup).dumpBufferPool,
		(*backup).keepRedo,
		(*backup).pauseReplica, // the lock forbids it
		(*backup).lockInstance,
		(*backup).followRedo,
		(*backup).copyTablespaces,
		(*backup).stageOthers,
		(*backup).awaitBufferPool,
		(*backup).flushLogs,
		(*backup).proveUnchanged,
		(*backup).rotateBinlog,
		(*backup).position,
		(*backup).unlockInstance,
		(*backup).resumeReplica,
		(*backup).flushLogs,
		(*backup).stageBinlog,
		(*backup).finishRedo,
		(*backup).releaseRedo,
		(*backup).settle,
		(*backup).sendRest,
	},
}

// classicSequence is that of MySQL 5.6 and 5.7, which have no lock against DDL
// alone; its steps are in classic.go.
//
//  1. Where asked, metadata locks on all tables.
//  2. The redo follower starts at the newest checkpoint. Tablespaces are listed
//     and copied, files of other engines go to the stage, and then, while DDL
//     goes on, tablespaces that appeared meanwhile are copied, and those again
//     that were changed without redo.
//  3. FLUSH TABLES WITH READ LOCK, or the backup locks of Percona Server: no
//     DDL, no writes to tables without transactions, no commits.
//  4. Tablespaces are listed for the last time. What appeared or was changed
//     without redo since is copied, and what changed in the files of other
//     engines.
//  5. Binary log position and LSN, and the locks are released.
//  6. The redo up to that LSN is waited for; then as for the others.
var classicSequence = sequence{
	flavor: metadata.FlavorMySQL, redoName: "xtrabackup_logfile", infoFormat: "xbstream",
	openRedo: (*backup).openMySQLRedo, lookAtRedo: redo.LookMySQL,
	steps: []step{
		(*backup).preflight,
		(*backup).dumpBufferPool,
		(*backup).watchTruncation,
		(*backup).lockTableDDL,
		(*backup).followRedo,
		(*backup).copyTablespaces,
		(*backup).stageOthers,
		(*backup).copyRounds,
		(*backup).awaitBufferPool,
		(*backup).flushLogs,
		(*backup).pauseReplica,
		(*backup).lockGlobal,
		(*backup).underGlobalLock,
		(*backup).unlockGlobal,
		(*backup).resumeReplica,
		(*backup).finishRedo,
		(*backup).settle,
		(*backup).sendRest,
	},
}
