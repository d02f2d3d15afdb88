package redo

import (
	"fmt"

	"hb/xbstream/innodb"
)

// Format is a redo log format: a mariadbredo.Format or a mysqlredo.Format.
type Format = fmt.Stringer

// Checkpoint is where a server would begin to recover.
type Checkpoint struct{ LSN innodb.LSN }

// liveLog is the log of a running server, positioned where it was read up to.
type liveLog interface {
	// where names the log's file, or its directory.
	where() string
	format() Format
	// begin is the LSN of the checkpoint where the copy begins, head what comes
	// before the log's bytes in the copy.
	begin() innodb.LSN
	head(tool string) []byte
	// newest reads the newest checkpoint that the log has now.
	newest() (innodb.LSN, error)
	// next reads what the server has written since the last call, but nothing
	// at or after the LSN limit. Redo that was overwritten before it was read is an
	// *OverrunError.
	next(limit innodb.LSN) (reading, error)
	// peek reads some bytes at the place up to which the log was read, of a log
	// without blocks: while they stay as they are, the server writes nothing.
	peek() ([]byte, error)
	// blocks reports whether the log consists of blocks that prove themselves.
	// Then the last block of a copy must itself mark where the log ends: lastBlock
	// makes it, so that the log ends at end, from that block as it is in the
	// live log, or from any other where end is at its beginning.
	blocks() bool
	lastBlock(live []byte, end innodb.LSN) ([]byte, error)
	// touches reports whether what was read has a record of a page; of few pages
	// that it has none of, it is true.
	touches(innodb.PageID) bool
	// sealed reports whether what was read is encrypted, or a part of it.
	sealed() bool
	close() error
}

// reading is what one look at the log brought.
type reading struct {
	bytes []byte       // log bytes as a backup holds them, beginning at start
	start innodb.LSN   // LSN of bytes[0]
	last  []byte       // the block after bytes, if it is valid and not full
	lost  innodb.LSN   // where the server begins to overwrite the bytes that were read; of a log without blocks
	end   innodb.LSN   // end of the last whole mini-transaction
	ends  []innodb.LSN // ends of all of them
	ops   []fileOp     // what they did to files
	why   error        // why there was no more
	more  bool         // there is more to be read at once
}
