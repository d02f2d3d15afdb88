package tracking

import "fmt"

// A Reason is why the list of changed pages cannot be used.
type Reason int

// The reasons.
const (
	NotInstalled Reason = iota + 1
	Off
	ReadOnly
	Unmarked
	OtherRun
	Gap
	Young
	Busy
	Denied
	Refused
	NoCheckpoint
	TooMany
	Incomplete
	Unreadable
)

// reasons are what happened, and what to do if anything can be done.
var reasons = map[Reason]string{
	NotInstalled: "the server does not track changed pages; to have it do so, run " + Install,
	Off:          "page tracking is off; to turn it on, run SELECT mysqlbackup_page_track_set(1)",
	ReadOnly:     "InnoDB is read-only and tracks no pages",
	Unmarked:     "when the base was made, the server did not track changed pages, or the account lacked SYSTEM_VARIABLES_ADMIN",
	OtherRun:     "since the base was made, the server was restarted, or another tool set " + idVariable,
	Gap:          "the server has not tracked pages all the time since the base, or its list was purged",
	Young:        "page tracking has only just begun: the server has recorded fewer than 2044 pages",
	Busy:         "another program asks the server for its list of changed pages just now",
	Denied:       "the account lacks SYSTEM_VARIABLES_ADMIN or BACKUP_ADMIN",
	Refused:      "the server refused to list changed pages",
	NoCheckpoint: "the server made no checkpoint in time",
	TooMany:      "the list of changed pages is too long",
	Incomplete:   "the server's list of changed pages has not as many entries as the server counts",
	Unreadable:   "the server's list of changed pages cannot be read",
}

// Unusable says that the list of changed pages is not there, or not to be trusted: all
// pages have to be read.
type Unusable struct {
	Reason Reason
	Detail string // the evidence; may be empty
}

func (e *Unusable) Error() string {
	if e.Detail == "" {
		return reasons[e.Reason]
	}
	return fmt.Sprintf("%s (%s)", reasons[e.Reason], e.Detail)
}

// Is reports whether target is for the same reason.
func (e *Unusable) Is(target error) bool {
	t, ok := target.(*Unusable)
	return ok && t.Reason == e.Reason && t.Detail == ""
}
