package contents

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"hb/source/mysqld"
)

// Alterations counts executions of ALTER INSTANCE since the server started, while nobody can
// execute one: hb holds LOCK INSTANCE FOR BACKUP.
type Alterations struct {
	all      uint64 // that began
	harmless uint64 // that ended, and neither switch redo logging off nor on
	waiting  uint64 // of all: that wait for the lock
	rotating uint64 // of these: that will be harmless
	Denied   bool   // the account may not read which they were
}

// The server counts a statement as it begins to execute it (Com_alter_instance), prepared
// ones and those in procedures too; the summary of statements has it when it has ended, by
// its normalised text (9.7: sql_parse.cc, mysql_execute_command; pfs_digest.cc).
const harmlessAlterations = "SELECT COALESCE(SUM(COUNT_STAR), 0) AS n FROM performance_schema.events_statements_summary_by_digest" +
	" WHERE DIGEST_TEXT LIKE 'ALTER INSTANCE ROTATE %' OR DIGEST_TEXT LIKE 'ALTER INSTANCE RELOAD %'"

// alterationTries is how often hb counts if somebody begins a statement just then.
const alterationTries = 100

// CountAlterations counts now. An account that may not read the summary of statements
// finds none of them harmless.
func CountAlterations(ctx context.Context, srv *mysqld.Server) (a Alterations, err error) {
	for range alterationTries {
		var before, after []string
		if before, err = a.readWaiting(ctx, srv); err != nil {
			return a, err
		}
		if err := a.readCounts(ctx, srv); err != nil {
			return a, err
		}
		if after, err = a.readWaiting(ctx, srv); err != nil {
			return a, err
		}
		if slices.Equal(before, after) && !slices.Contains(after, underWay) {
			return a, nil
		}
		if err := mysqld.Pause(ctx, mysqld.PollPause); err != nil {
			return a, err
		}
	}
	return a, fmt.Errorf("the server began ALTER INSTANCE again and again while hb counted these statements (%d times)", alterationTries)
}

func (a *Alterations) readCounts(ctx context.Context, srv *mysqld.Server) error {
	status, err := srv.Status(ctx, "Com_alter_instance")
	if err != nil {
		return err
	}
	if a.all, err = strconv.ParseUint(status["Com_alter_instance"], 10, 64); err != nil {
		return fmt.Errorf("the server counts ALTER INSTANCE as %q", status["Com_alter_instance"])
	}
	a.harmless = 0
	if a.all == 0 {
		return nil
	}
	row, err := srv.Control.Row(ctx, harmlessAlterations)
	if a.Denied = mysqld.IsDenied(err); a.Denied {
		return nil
	}
	if err != nil {
		return err
	}
	if a.harmless, err = strconv.ParseUint(row["n"], 10, 64); err != nil {
		return fmt.Errorf("the server counts statements as %q", row["n"])
	}
	return nil
}

// underWay stands for a statement of which hb does not know whether the server has counted it.
const underWay = "under way"

// readWaiting lists the statements that wait for the lock: the server has counted these.
func (a *Alterations) readWaiting(ctx context.Context, srv *mysqld.Server) (list []string, err error) {
	a.waiting, a.rotating = 0, 0
	err = srv.Control.Statements(ctx, func(s *mysqld.Statement) error {
		text := strings.ToUpper(strings.Join(strings.Fields(s.Beginning()), " "))
		switch {
		case !strings.HasPrefix(text, "ALTER INSTANCE "):
			return nil
		case s.State != "Waiting for backup lock":
			list = append(list, underWay)
			return nil
		}
		list = append(list, s.Connection+" "+text)
		a.waiting++
		if strings.HasPrefix(text, "ALTER INSTANCE ROTATE ") || strings.HasPrefix(text, "ALTER INSTANCE RELOAD ") {
			a.rotating++
		}
		return nil
	})
	return list, err
}

// Unexplained is how many executions since an earlier count may have switched redo logging
// off or on, or are about to. What waited then was not executed before.
func (a Alterations) Unexplained(before Alterations) uint64 {
	n := a.all - before.all + before.waiting
	if a.Denied {
		return n
	}
	harmless := a.harmless - before.harmless + a.rotating
	if a.harmless < before.harmless || harmless > n { // the summary was truncated
		return n
	}
	return n - harmless
}
