package locks

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"hb/source/mysqld"
)

// A QueryType is which statements count as long ones.
type QueryType int

// The types, by the names of XtraBackup's options.
const (
	QueryAll    QueryType = iota // every statement
	QueryUpdate                  // INSERT, UPDATE, DELETE, REPLACE, LOAD DATA and DDL
	QuerySelect                  // SELECT
)

var queryTypes = []string{"all", "update", "select"}

// String is the type's name.
func (q QueryType) String() string { return queryTypes[q] }

// MarshalText returns the type's name.
func (q QueryType) MarshalText() ([]byte, error) { return []byte(q.String()), nil }

// UnmarshalText reads "all", "update" or "select", in any case.
func (q *QueryType) UnmarshalText(text []byte) error {
	i := slices.Index(queryTypes, strings.ToLower(string(text)))
	if i < 0 {
		return fmt.Errorf("query type %q is not one of %s", text, strings.Join(queryTypes, ", "))
	}
	*q = QueryType(i)
	return nil
}

// verbs are the first words of statements by type.
var verbs = map[string]QueryType{
	"SELECT": QuerySelect, "WITH": QuerySelect, "TABLE": QuerySelect, "VALUES": QuerySelect,
	"INSERT": QueryUpdate, "UPDATE": QueryUpdate, "DELETE": QueryUpdate, "REPLACE": QueryUpdate,
	"LOAD": QueryUpdate, "IMPORT": QueryUpdate, "CREATE": QueryUpdate, "ALTER": QueryUpdate,
	"DROP": QueryUpdate, "RENAME": QueryUpdate, "TRUNCATE": QueryUpdate,
	"OPTIMIZE": QueryUpdate, "REPAIR": QueryUpdate, "ANALYZE": QueryUpdate,
}

// includes reports whether a statement is of the type.
func (q QueryType) includes(statement string) bool {
	if q == QueryAll {
		return true
	}
	t, ok := verbs[FirstWord(statement)]
	return ok && t == q
}

// FirstWord is a statement's first word in upper case, after comments, white
// space and opening parentheses.
func FirstWord(s string) string {
	for {
		s = strings.TrimLeft(s, " \t\r\n(")
		var end string
		switch {
		case strings.HasPrefix(s, "/*"):
			end = "*/"
		case strings.HasPrefix(s, "#") || strings.HasPrefix(s, "--"):
			end = "\n"
		default:
			i := strings.IndexFunc(s, func(r rune) bool { return (r < 'A' || r > 'Z') && (r < 'a' || r > 'z') })
			if i >= 0 {
				s = s[:i]
			}
			return strings.ToUpper(s)
		}
		_, rest, ok := strings.Cut(s, end)
		if !ok {
			return ""
		}
		s = rest
	}
}

// A Process is a statement that runs on the server.
type Process struct {
	ID        uint64 // of the connection
	User      string
	State     string
	Time      time.Duration // since when it runs, in whole seconds
	Statement string        // its beginning
}

func (p Process) String() string {
	return fmt.Sprintf("connection %d of %s runs for %v: %.100q", p.ID, p.User, p.Time, p.Statement)
}

// waiting reports whether the statement waits for a lock itself: then it is not in
// the way.
func (p Process) waiting() bool {
	return strings.HasPrefix(p.State, "Waiting for") && (strings.Contains(p.State, "lock") || strings.Contains(p.State, "flush"))
}

// processes lists the statements that others run, without replication's
// threads. It needs PROCESS.
func processes(ctx context.Context, srv *mysqld.Server, on *mysqld.Session, own ...string) (out []Process, err error) {
	err = on.Statements(ctx, func(s *mysqld.Statement) error {
		if s.Text == "" || s.Command != "Query" && s.Command != "Execute" || slices.Contains(append(own, on.ID, srv.Control.ID), s.Connection) {
			return nil
		}
		p := Process{User: s.User, State: s.State, Statement: s.Beginning()}
		seconds, err := strconv.ParseInt(s.Seconds, 10, 32)
		if err != nil {
			return fmt.Errorf("PROCESSLIST: time %q: %w", s.Seconds, err)
		}
		p.Time = time.Duration(seconds) * time.Second
		if p.ID, err = strconv.ParseUint(s.Connection, 10, 64); err != nil {
			return fmt.Errorf("PROCESSLIST: connection %q: %w", s.Connection, err)
		}
		out = append(out, p)
		return nil
	})
	return out, err
}

// blockers are those statements that have run for that long and wait for no
// lock themselves.
func blockers(list []Process, since time.Duration) []Process {
	return slices.DeleteFunc(list, func(p Process) bool { return p.waiting() || p.Time < since.Truncate(time.Second) })
}
