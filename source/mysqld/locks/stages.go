package locks

import (
	"context"
	"fmt"
)

// A Stage is one of MariaDB's backup stages, in their order. Each includes what
// the earlier ones block. The first must be StageStart; of the others the server
// runs skipped ones by itself.
type Stage int

// The stages of MariaDB 10.5 and later.
const (
	StageNone        Stage = iota
	StageStart             // no other backup; DDL goes on and is logged
	StageFlush             // non-transactional tables not in use are flushed; new writes to them wait
	StageBlockDDL          // no CREATE, DROP, RENAME, TRUNCATE, start or end of ALTER
	StageBlockCommit       // no commit, no binary log write
	StageEnd               // all released
)

// String is the stage's name in SQL.
func (s Stage) String() string {
	switch s {
	case StageStart:
		return "START"
	case StageFlush:
		return "FLUSH"
	case StageBlockDDL:
		return "BLOCK_DDL"
	case StageBlockCommit:
		return "BLOCK_COMMIT"
	case StageEnd:
		return "END"
	}
	return "none"
}

// blocks is what a stage blocks.
func (s Stage) blocks() Blocks {
	switch s {
	case StageFlush:
		return BlocksOthers
	case StageBlockDDL:
		return BlocksOthers | BlocksDDL
	case StageBlockCommit:
		return BlocksOthers | BlocksDDL | BlocksCommits
	}
	return 0
}

// Stages are MariaDB's backup locks of one backup, on a connection of their
// own. A lost connection ends all stages on the server silently: only Holding and End
// notice. Server.Close releases them.
type Stages struct {
	lockConn
	current Stage
}

// Stages returns MariaDB's backup locks; nothing is locked yet.
func (s *Set) Stages() *Stages {
	stages := &Stages{lockConn: lockConn{srv: s.srv, release: "BACKUP STAGE END"}}
	s.keep(&stages.lockConn)
	return stages
}

// Enter moves on to a stage. Except for a *TimeoutError, any error has
// released all the locks.
func (s *Stages) Enter(ctx context.Context, stage Stage) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.broken != nil {
		return s.broken
	}
	current := s.stage()
	if stage <= current || stage >= StageEnd || (current == StageNone && stage != StageStart) {
		return fmt.Errorf("backup stage %v cannot follow %v", stage, current)
	}
	err := s.acquire(ctx, Timing{Lock: "BACKUP STAGE " + stage.String(), Blocks: stage.blocks(), Stage: stage})
	if err == nil {
		s.current = stage
	}
	return err
}

// stage is the stage held, or StageNone.
func (s *Stages) stage() Stage {
	if !s.held {
		return StageNone
	}
	return s.current
}

// Current is the stage held, or StageNone.
func (s *Stages) Current() Stage {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.stage()
}

// End proves that the locks were held to this moment, and releases them. If it
// returns an error the backup is void, though the locks are released.
func (s *Stages) End(ctx context.Context) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.end(ctx)
}
