package contents

import (
	"context"
	"fmt"
	"strconv"

	"hb/source/mysqld"
)

// Alterations counts executions of ALTER INSTANCE since the server started.
type Alterations struct {
	all      uint64
	harmless uint64 // that ended, and neither switch redo logging off nor on
	Denied   bool   // the account may not read which they were
}

// The server counts a statement as it begins to execute it (Com_alter_instance), prepared
// ones and those in procedures too; the summary of statements has it when it has ended, by
// its normalised text (9.7: sql_parse.cc, mysql_execute_command; pfs_digest.cc).
const harmlessAlterations = "SELECT COALESCE(SUM(COUNT_STAR), 0) AS n FROM performance_schema.events_statements_summary_by_digest" +
	" WHERE DIGEST_TEXT LIKE 'ALTER INSTANCE ROTATE %' OR DIGEST_TEXT LIKE 'ALTER INSTANCE RELOAD %'"

// CountAlterations counts now. An account that may not read the summary of statements
// finds none of them harmless.
func CountAlterations(ctx context.Context, srv *mysqld.Server) (a Alterations, err error) {
	status, err := srv.Status(ctx, "Com_alter_instance")
	if err != nil {
		return a, err
	}
	if a.all, err = strconv.ParseUint(status["Com_alter_instance"], 10, 64); err != nil {
		return a, fmt.Errorf("the server counts ALTER INSTANCE as %q", status["Com_alter_instance"])
	}
	if a.all == 0 {
		return a, nil
	}
	row, err := srv.Control.Row(ctx, harmlessAlterations)
	if mysqld.IsDenied(err) {
		a.Denied = true
		return a, nil
	}
	if err != nil {
		return a, err
	}
	if a.harmless, err = strconv.ParseUint(row["n"], 10, 64); err != nil {
		return a, fmt.Errorf("the server counts statements as %q", row["n"])
	}
	return a, nil
}

// Unexplained is how many executions since an earlier count may have switched redo logging
// off or on.
func (a Alterations) Unexplained(before Alterations) uint64 {
	n, harmless := a.all-before.all, a.harmless-before.harmless
	if a.harmless < before.harmless || harmless > n { // the summary was truncated
		return n
	}
	return n - harmless
}
