// Package tracking uses the list of changed pages that MySQL keeps (8.0.18 and later, with
// component_mysqlbackup), so that an incremental backup need not read all pages.
//
// The server records the id of a page when it writes the page to its file, once after
// each reset; whatever writes pages without the buffer pool (IMPORT TABLESPACE) records
// them too. Whether the list is complete for a backup depends on the order of calls:
//
//  1. Base: Begin, which resets the list at LSN R; then pages are copied.
//  2. Increment: DDL is locked out, then its redo begins at checkpoint G, then
//     Changed, then pages are copied.
//
// The list goes up to a checkpoint C, and has all pages that were written before the call.
// All changes before C were written to the files by then, and so were the pages that DDL
// had changed without redo. All other changes are in the redo from C, and so from G,
// which is not after C. The server lists pages up to a checkpoint only, and of a whole
// block of its list: where a later block may hold pages that were written before the call,
// Changed waits for a checkpoint of which the server began to take stock after the call
// (settle has the proof). No page was written with an LSN above R before the reset,
// so that the first write of a page after it found an old LSN that is not above R, and
// recorded the page. So the list has every page that was written between reset and C: a
// page that is not in it was in its file at the reset as it is at C, and so is it in
// the base. Pages with an LSN from the base's checkpoint to R may be missing in the list
// for that reason: a scan finds them changed, and they are in the base.
//
// Package tracking trusts the server only as far as it can check: every doubt is an
// *Unusable, after which the backup reads all pages. It never turns tracking on or off:
// all tools share it.
//
// The facts are those of MySQL 9.7.4, by TestListIsComplete and the tests beside it, and
// of arch0page.cc, buf0flu.cc, log0chkp.cc and components/mysqlbackup.
package tracking

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"math/big"
	"strconv"
	"strings"
	"time"

	"github.com/go-sql-driver/mysql"

	"hb/source/mysqld"
	"hb/source/mysqld/position"
	"hb/xbstream/innodb"
	"hb/xbstream/metadata"
)

// Install turns page tracking on, for people to run.
const Install = "INSTALL COMPONENT 'file://component_mysqlbackup'; SELECT mysqlbackup_page_track_set(1);"

// idVariable names the file of a list. It is in memory only, so that hb's value in it
// also identifies the run of the server.
const idVariable = "mysqlbackup.backupid"

// runPrefix tells hb's values of idVariable from those of other tools. They have 20
// digits, and identify one run of a server, from its start to its end.
//
// After a crash, pages may be missing in the list: the server keeps the newest entries
// in memory until a checkpoint (TestRestarted).
const runPrefix = "6862"

func newRun() (string, error) {
	n, err := rand.Int(rand.Reader, big.NewInt(1e16))
	return fmt.Sprintf("%s%016d", runPrefix, n), err
}

// IsRun reports whether r has the form of hb's own values.
func IsRun(r string) bool {
	return len(r) == len(runPrefix)+16 && strings.HasPrefix(r, runPrefix) && strings.Trim(r, "0123456789") == ""
}

// State is what a server reports of its page tracking.
type State struct {
	Start innodb.LSN // from which the list is complete
	Run   string     // "": hb has not marked the server's run
}

// Read asks for the state. The error is an *Unusable if pages are not tracked.
func Read(ctx context.Context, srv *mysqld.Server) (State, error) {
	const readOnly = "innodb_read_only"
	vars, err := srv.Refresh(ctx, readOnly, idVariable) // the component can be installed at any time
	switch {
	case err != nil:
		return State{}, err
	case srv.Flavor != mysqld.MySQL || !vars.Has(idVariable):
		return State{}, &Unusable{Reason: NotInstalled}
	case vars.Bool(readOnly): // the functions return 0 and do nothing
		return State{}, &Unusable{Reason: ReadOnly}
	}
	start, err := call(ctx, srv, "get_start_lsn()")
	if err != nil {
		return State{}, err
	}
	if start == 0 {
		return State{}, &Unusable{Reason: Off}
	}
	s := State{Start: innodb.LSN(start), Run: vars.String(idVariable)}
	if !IsRun(s.Run) {
		s.Run = ""
	}
	return s, nil
}

// Begin is for the start of every backup, before it copies pages: from here on the server
// records each page once more. (If it has recorded fewer than 2044 pages since the last
// reset, it ignores that, and the list begins with that one.) It marks the run of the
// server. The result is for the manifest. The error is an *Unusable if the next
// increment will have to read all pages.
func Begin(ctx context.Context, srv *mysqld.Server) (*metadata.PageTracking, error) {
	s, err := Read(ctx, srv)
	if err != nil {
		return nil, err
	}
	if s.Run == "" { // may hb set it at all? A reset in vain would have the server ignore the next
		if err := setID(ctx, srv, ""); err != nil {
			return nil, err
		}
	}
	end, err := position.CurrentLSN(ctx, srv)
	if err != nil {
		return nil, err
	}
	n, err := call(ctx, srv, "set(1)")
	if err != nil {
		return nil, err
	}
	reset := innodb.LSN(n)
	if s.Run == "" {
		// All lists of this run begin with a reset that was made in it, or with the first one
		// of all: of the others, the server's files have only the lower 16 bits of the place
		// (add_reset of arch0page.cc).
		if reset < end && reset != s.Start {
			return nil, &Unusable{Reason: Young}
		}
		if s.Run, err = newRun(); err != nil {
			return nil, err
		}
		if err := setID(ctx, srv, s.Run); err != nil {
			return nil, err
		}
	}
	return &metadata.PageTracking{Run: s.Run, ResetLSN: reset}, nil
}

// pollPause is the time between two looks at the checkpoint: the server takes one each
// second at most, unless it is short of redo.
const pollPause = 200 * time.Millisecond

// awaitCheckpoint waits until done holds of the server's checkpoint and of how often it
// was seen to advance.
func awaitCheckpoint(ctx context.Context, wait time.Duration, checkpoint func(context.Context) (innodb.LSN, error), done func(c innodb.LSN, advances int) (bool, error)) (innodb.LSN, error) {
	var last innodb.LSN
	advances := -1
	for end := time.Now().Add(wait); ; {
		c, err := checkpoint(ctx)
		if err != nil {
			return 0, err
		}
		if c > last || advances < 0 {
			last, advances = c, advances+1
		}
		if ok, err := done(last, advances); err != nil || ok {
			return last, err
		}
		if time.Now().After(end) {
			return 0, &Unusable{Reason: NoCheckpoint, Detail: wait.String()}
		}
		if err := mysqld.Pause(ctx, pollPause); err != nil {
			return 0, err
		}
	}
}

// call calls one of the component's functions. A negative result is an *Unusable.
func call(ctx context.Context, srv *mysqld.Server, function string) (int64, error) {
	row, err := srv.Control.Row(ctx, "SELECT "+functions+function+" AS r")
	if err != nil {
		return 0, refusal(err)
	}
	n, err := strconv.ParseInt(row["r"], 10, 64)
	switch {
	case err != nil:
		return 0, &Unusable{Reason: Refused, Detail: fmt.Sprintf("%s returned %q", function, row["r"])}
	case n == -erRangeNotTracked:
		return 0, &Unusable{Reason: Gap}
	case n < 0:
		return 0, &Unusable{Reason: Refused, Detail: fmt.Sprintf("%s returned %d", function, n)}
	}
	return n, nil
}

// erRangeNotTracked is ER_PAGE_TRACKING_RANGE_NOT_TRACKED: tracking was off at some time
// in the range, or its files were purged.
const erRangeNotTracked = 3803

// setID sets the id of the next list, and removes the file of the last one, which may
// have had the same id.
func setID(ctx context.Context, srv *mysqld.Server, id string) error {
	if err := checkAlone(ctx, srv); err != nil {
		return err
	}
	return refusal(srv.Control.Exec(ctx, "SET GLOBAL "+idVariable+" = "+mysqld.QuoteString(id)))
}

// checkAlone refuses to ask for a list, or to set its name, while another connection
// asks for one: the component has one buffer and one name for all, and the server crashes
// (two connections that ask again and again crash 9.7.4 within a second). hb's own
// backups exclude each other.
func checkAlone(ctx context.Context, srv *mysqld.Server) error {
	return srv.Control.Statements(ctx, func(s *mysqld.Statement) error {
		if s.Connection != srv.Control.ID && strings.Contains(strings.ToLower(s.Text), functions+listFunction) {
			return &Unusable{Reason: Busy, Detail: "connection " + s.Connection}
		}
		return nil
	})
}

// The names of the component's functions begin with functions.
const (
	functions    = "mysqlbackup_page_track_"
	listFunction = "get_changed_pages"
)

// refusal makes an *Unusable of the server's refusal, and leaves other errors.
func refusal(err error) error {
	my, ok := errors.AsType[*mysql.MySQLError](err)
	switch {
	case !ok || errors.Is(err, mysqld.ErrConnectionLost):
		return err
	case mysqld.IsAccessDenied(err):
		return &Unusable{Reason: Denied}
	}
	return &Unusable{Reason: Refused, Detail: my.Message}
}
