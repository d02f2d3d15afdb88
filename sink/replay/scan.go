package replay

import (
	"fmt"
	"io"
	"math"

	"hb/stream/progress"
	"hb/xbstream/innodb"
	"hb/xbstream/innodb/redolog"
)

// Goal is where a backup's redo log must end. Its LSNs are those of the bytes of
// records, as a Cutter counts.
type Goal struct {
	// Target is the LSN that the backup states as its end. It is an error if
	// the log does not reach it; the log after it does not count.
	Target innodb.LSN
	// Exact: a mini-transaction ends at Target. Otherwise (tools that count what they
	// copied in blocks) the last one may be cut off, if it begins at or after Needed.
	Exact  bool
	Needed innodb.LSN
	// Read gets how many bytes of the log were read; or nil.
	Read *progress.Phase
}

// Unstated is the Target where it is not known yet: the log is read as far as it
// goes, and no way to end is an error.
const Unstated = innodb.LSN(math.MaxUint64)

// Cutter cuts a log into mini-transactions: of mariadbredo or mysqlredo.
type Cutter[S Stop] interface {
	Position() innodb.LSN
	Feed(raw []byte)
	Next() (redolog.MTR, bool)
	End() innodb.LSN
	Seen() innodb.LSN
	Stop() S
}

// Stop is why a Cutter found no further mini-transaction.
type Stop interface {
	error
	// Short reports that the bytes fed end before the mini-transaction does.
	Short() bool
	// InOrder reports whether a log that nothing is wrong with may end so, in the
	// middle of a mini-transaction or not.
	InOrder() bool
}

// Scan reads the log from where the cutter begins, up to the goal, and gives
// every mini-transaction that counts to mtr. How many those are and where they
// end is noted in s.
func Scan[S Stop](s *Scanned, in *Input, c Cutter[S], goal Goal, mtr func(redolog.MTR) error) error {
	if c.End() > goal.Target {
		return fmt.Errorf("the log begins at LSN %d, after the end LSN %d recorded in the backup", c.End(), goal.Target)
	}
	for {
		at := c.Position()
		c.Feed(in.Bytes())
		if err := cut(s, c, goal, mtr); err != nil {
			return err
		}
		goal.Read.Add(int64(c.Position() - at))
		if s.Torn || s.End == goal.Target || !c.Stop().Short() {
			break
		}
		if err := in.Skip(int64(c.Position() - at)); err != nil {
			return err
		}
		if more, err := in.More(); err != nil {
			return err
		} else if !more {
			break
		}
	}
	return stopped(s, c, goal)
}

// cut takes the mini-transactions that are at hand.
func cut[S Stop](s *Scanned, c Cutter[S], goal Goal, mtr func(redolog.MTR) error) error {
	s.End = c.End()
	for s.End < goal.Target {
		m, ok := c.Next()
		if ok && m.End > goal.Target {
			if goal.Exact || s.End < goal.Needed {
				return fmt.Errorf("the mini-transaction at LSN %d ends at %d: the end that the backup states, %d, is inside it", m.Start, m.End, goal.Target)
			}
			s.Torn = true
			return nil
		}
		s.End = c.End()
		if !ok {
			return nil
		}
		if err := mtr(m); err != nil {
			return fmt.Errorf("LSN %d: %w", m.Start, err)
		}
		s.MTRs++
	}
	return nil
}

// stopped decides whether the log may end where it does.
func stopped[S Stop](s *Scanned, c Cutter[S], goal Goal) error {
	stop := c.Stop()
	switch {
	case s.Torn || s.End == goal.Target || goal.Target == Unstated:
		return nil
	case stop.InOrder() && !goal.Exact && c.Seen() >= goal.Target && s.End >= goal.Needed:
		s.Torn = true
		return nil
	case stop.InOrder():
		return fmt.Errorf("%w: it ends at LSN %d, the backup needs it up to %d", io.ErrUnexpectedEOF, s.End, goal.Target)
	}
	return fmt.Errorf("the log is damaged or truncated at LSN %d; the backup needs it up to LSN %d: %w", s.End, goal.Target, stop)
}
