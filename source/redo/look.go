package redo

import (
	"path/filepath"

	"hb/stream/disk"
	"hb/xbstream/innodb"
)

// FollowRate is how many bytes a second the follower can be relied on to read and
// parse: BenchmarkReader's least figure, 41 MB/s with small records of MySQL 5.7,
// on two cores that had four times as much to do. (9.7: 106, MariaDB 10.11: 170 MB/s.)
const FollowRate = 40_000_000

// State is what a look at a server's log files finds out.
type State struct {
	Format     Format
	Checkpoint innodb.LSN // the newest
	// Capacity is how many bytes of log there is room for before the server
	// wraps; 0: unknown, because the files do not have it (MySQL 8.0.30 and later).
	Capacity int64
}

// Look looks at the log in dir, of MariaDB.
func Look(system disk.System, dir string) (State, error) {
	l, err := openMariaDB(system, filepath.Join(dir, logName), nil)
	if err != nil {
		return State{}, err
	}
	return State{l.format(), l.start.LSN, l.geo.Capacity}, l.close()
}

// LookMySQL looks at the log in dir, of MySQL: see OpenMySQL.
func LookMySQL(system disk.System, dir string) (State, error) {
	l, err := openMySQL(system, dir, nil)
	if err != nil {
		return State{}, err
	}
	return State{l.format(), l.start.LSN, int64(l.files.Capacity())}, l.close()
}
