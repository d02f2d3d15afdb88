package mysqld

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/go-sql-driver/mysql"
)

// A Privilege is a global privilege by the name that SHOW GRANTS uses.
type Privilege string

// The privileges that a backup may need, each with what fails without it (seen
// on MariaDB 10.5.23, 10.11.18 and 11.8.6).
const (
	// PrivReload: BACKUP STAGE, BACKUP LOCK, FLUSH ENGINE LOGS.
	PrivReload Privilege = "RELOAD"
	// PrivBinlogMonitor: SHOW MASTER STATUS, SHOW BINARY LOGS.
	PrivBinlogMonitor Privilege = "BINLOG MONITOR"
	// PrivSlaveMonitor: SHOW ALL SLAVES STATUS.
	PrivSlaveMonitor Privilege = "SLAVE MONITOR"
	// PrivProcess: SHOW ENGINE INNODB STATUS, INFORMATION_SCHEMA.INNODB_SYS_*;
	// hb uses neither.
	PrivProcess Privilege = "PROCESS"

	privSuper Privilege = "SUPER"
)

// Needs says what a backup is going to do.
type Needs struct {
	SlaveInfo bool // ask for the replica's state
}

// MissingPrivilegesError names the privileges that the user lacks.
type MissingPrivilegesError struct {
	User    string // as CURRENT_USER() says
	Missing []Privilege
}

func (e *MissingPrivilegesError) Error() string {
	names := make([]string, len(e.Missing))
	for i, p := range e.Missing {
		names[i] = string(p)
	}
	noun := "privilege"
	if len(names) > 1 {
		noun = "privileges"
	}
	return fmt.Sprintf("the user %s lacks the %s %s: run %s", e.User, noun, strings.Join(names, ", "), e.Grant())
}

// Grant is the statement that mends it.
func (e *MissingPrivilegesError) Grant() string {
	names := make([]string, len(e.Missing))
	for i, p := range e.Missing {
		names[i] = string(p)
	}
	user, host, _ := cutLast(e.User, "@")
	return fmt.Sprintf("GRANT %s ON *.* TO %s@%s;", strings.Join(names, ", "), quoteString(user), quoteString(host))
}

func cutLast(s, sep string) (before, after string, ok bool) {
	if i := strings.LastIndex(s, sep); i >= 0 {
		return s[:i], s[i+len(sep):], true
	}
	return s, "", false
}

// CheckPrivileges checks that the user may do all that the backup needs. The
// error is a *MissingPrivilegesError if not.
func (s *Server) CheckPrivileges(ctx context.Context, needs Needs) error {
	row, err := s.control.row(ctx, "SELECT CURRENT_USER() AS u")
	if err != nil {
		return err
	}
	have, err := s.globalPrivileges(ctx)
	if err != nil {
		return err
	}
	want := []Privilege{PrivReload}
	if on, _ := s.Vars.LogBin(); on {
		want = append(want, PrivBinlogMonitor)
	}
	if needs.SlaveInfo {
		want = append(want, PrivSlaveMonitor)
	}
	if missing := s.Dialect.missing(have, want); len(missing) > 0 {
		return &MissingPrivilegesError{User: row["u"], Missing: missing}
	}
	return nil
}

// missing returns what of want is not among have, knowing which privileges
// include others.
func (d Dialect) missing(have map[Privilege]bool, want []Privilege) []Privilege {
	return slices.DeleteFunc(slices.Clone(want), func(p Privilege) bool {
		monitor := p == PrivBinlogMonitor || p == PrivSlaveMonitor
		return have[p] || have["ALL PRIVILEGES"] || (monitor && d.SuperSees && have[privSuper])
	})
}

// globalPrivileges asks for the privileges in force: MariaDB's SHOW GRANTS
// includes those of the current role and of PUBLIC, but names a role that is
// granted without being set, which gives nothing.
func (s *Server) globalPrivileges(ctx context.Context) (map[Privilege]bool, error) {
	rows, err := s.control.rows(ctx, "SHOW GRANTS")
	if err != nil {
		return nil, err
	}
	have := make(map[Privilege]bool)
	for _, r := range rows {
		for _, line := range r { // the one column is named after the user
			addGlobalGrants(have, line)
		}
	}
	return have, nil
}

// addGlobalGrants reads one line of SHOW GRANTS. Grants on less than *.*,
// PROXY and roles add nothing.
func addGlobalGrants(have map[Privilege]bool, line string) {
	rest, ok := strings.CutPrefix(line, "GRANT ")
	if !ok {
		return
	}
	list, _, ok := strings.Cut(rest, " ON *.* TO ")
	// A quoted name may hold anything, even " ON *.* TO ".
	if !ok || strings.ContainsAny(list, "`'\"") {
		return
	}
	for p := range strings.SplitSeq(list, ",") {
		p := Privilege(strings.ToUpper(strings.TrimSpace(p)))
		switch p {
		case "ALL":
			p = "ALL PRIVILEGES"
		case "REPLICATION CLIENT", "SHOW MASTER STATUS":
			p = PrivBinlogMonitor // its name before 10.5.2
		case "REPLICA MONITOR":
			p = PrivSlaveMonitor
		}
		have[p] = true
	}
}

// erAccessDenied is the server's refusal for want of a global privilege.
const erAccessDenied = 1227

// IsAccessDenied reports whether an error is the server's refusal of a
// statement for want of a privilege.
func IsAccessDenied(err error) bool {
	my, ok := errors.AsType[*mysql.MySQLError](err)
	return ok && my.Number == erAccessDenied
}
