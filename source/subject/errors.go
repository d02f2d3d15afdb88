package subject

import "fmt"

// A BinlogError says that hb cannot use the server's binary log.
type BinlogError struct {
	File string
	Err  error
}

func (e *BinlogError) Error() string {
	return fmt.Sprintf("the server's binary log %s: %v; the backup needs its end: FLUSH BINARY LOGS, and back up again", e.File, e.Err)
}

func (e *BinlogError) Unwrap() error { return e.Err }

// InexactSourceError says that hb cannot know a replica's position to the
// transaction.
type InexactSourceError struct{}

func (InexactSourceError) Error() string {
	return "this replica follows a source by file and position, or writes what it replicates to no binary log, and its applier runs: " +
		"where a copy of it would have to go on cannot be known to the transaction; " +
		"add --safe-slave-backup to --slave-info, or replicate by GTID (SOURCE_AUTO_POSITION=1, or MASTER_AUTO_POSITION=1) with log_replica_updates"
}

// UnreadableError says that a file of the server cannot be read.
type UnreadableError struct {
	Path string
	Err  error
}

func (e *UnreadableError) Error() string {
	return fmt.Sprintf("%s cannot be read: %v; run hb as root or as the server's own user", e.Path, e.Err)
}

func (e *UnreadableError) Unwrap() error { return e.Err }
