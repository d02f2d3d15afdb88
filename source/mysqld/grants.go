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
	// PrivProcess: INFORMATION_SCHEMA.INNODB_SYS_*, the list of tablespaces.
	PrivProcess Privilege = "PROCESS"

	// MySQL's, seen on 5.6.24, 5.7.29 and 9.7.4.

	// PrivReplicationClient: SHOW MASTER STATUS, SHOW SLAVE STATUS and their
	// later names. log_status needs it not.
	PrivReplicationClient Privilege = "REPLICATION CLIENT"
	// PrivBackupAdmin: LOCK INSTANCE FOR BACKUP, log_status, the redo log
	// consumer.
	PrivBackupAdmin Privilege = "BACKUP_ADMIN"
	// PrivSelect: metadata locks on every table (locks.Set.TableDDL), locks.Lock.HoldTables.
	PrivSelect     Privilege = "SELECT"
	PrivLockTables Privilege = "LOCK TABLES" // locks.Lock.HoldTables
	// Each for one option, on 8.0 and later; before, SUPER.
	PrivConnectionAdmin      Privilege = "CONNECTION_ADMIN"
	PrivReplicationAdmin     Privilege = "REPLICATION_SLAVE_ADMIN"
	PrivSystemVariablesAdmin Privilege = "SYSTEM_VARIABLES_ADMIN"
	// hb checks these two by trying.
	PrivLogStatus Privilege = "SELECT ON performance_schema.log_status"
	// For SHOW CREATE of all objects, with PrivSelect: see package definitions.
	PrivShowView Privilege = "SHOW VIEW"
	PrivTrigger  Privilege = "TRIGGER"
	PrivEvent    Privilege = "EVENT"
	// PrivKeyring: where a server that encrypts at rest keeps its keys.
	PrivKeyring Privilege = "SELECT ON performance_schema.keyring_component_status"

	privSuper Privilege = "SUPER"
)

// Needs is what a backup is going to do.
type Needs struct {
	SlaveInfo      bool // ask for the replica's state
	KillQueries    bool // kill statements that block it
	SafeSlave      bool // stop the replica's applier threads
	DumpBufferPool bool
	LockTableDDL   bool // locks.Set.TableDDL, which reads every InnoDB table
	HoldTables     bool // lock non-transactional tables on 8.0 and later
	ListChanges    bool // ask MySQL 8.0 and later which pages it changed: see package tracking
	Keyring        bool // ask for the file of its keys, which it refused
}

// MissingPrivilegesError names the privileges that the user lacks.
type MissingPrivilegesError struct {
	User    string // CURRENT_USER()
	Missing []Privilege
}

func (e *MissingPrivilegesError) Error() string {
	return e.Lacks() + ": run\n" + strings.Join(e.Grants(), "\n")
}

// Lacks is the error without what mends it.
func (e *MissingPrivilegesError) Lacks() string {
	names := make([]string, len(e.Missing))
	for i, p := range e.Missing {
		names[i] = string(p)
	}
	noun := "privilege"
	if len(names) > 1 {
		noun = "privileges"
	}
	return fmt.Sprintf("the user %s lacks the %s %s", e.User, noun, strings.Join(names, ", "))
}

// Grants are the statements that mend it, each with its semicolon.
func (e *MissingPrivilegesError) Grants() []string {
	user, host, _ := cutLast(e.User, "@")
	to := " TO " + QuoteString(user) + "@" + QuoteString(host) + ";"
	var global, all []string
	for _, p := range e.Missing {
		if strings.Contains(string(p), " ON ") {
			all = append(all, "GRANT "+string(p)+to)
		} else {
			global = append(global, string(p))
		}
	}
	if len(global) > 0 {
		all = slices.Insert(all, 0, "GRANT "+strings.Join(global, ", ")+" ON *.*"+to)
	}
	return all
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
	row, err := s.Control.Row(ctx, "SELECT CURRENT_USER() AS u")
	if err != nil {
		return err
	}
	have, err := s.GlobalPrivileges(ctx)
	if err != nil {
		return err
	}
	on, _ := s.Vars.LogBin()
	missing := s.Series.missing(have, s.Series.wanted(needs, on))
	if s.Series.LogStatus {
		may, err := s.maySelect(ctx, "performance_schema.log_status")
		if err != nil {
			return err
		}
		if !may {
			missing = append(missing, PrivLogStatus)
		}
	}
	if needs.Keyring {
		missing = append(missing, PrivKeyring)
	}
	if len(missing) > 0 {
		return &MissingPrivilegesError{User: row["u"], Missing: missing}
	}
	return nil
}

// forDefinitions are the privileges with which an account may ask for the definition of every
// object (run on MariaDB 10.5.23, 10.11.18 and 11.8.6 and on MySQL 5.6.24, 5.7.29 and 9.7.4).
var forDefinitions = []Privilege{PrivSelect, PrivShowView, PrivTrigger, PrivEvent}

// LacksForDefinitions returns which privileges the user lacks to ask for the definitions of all
// objects; nil: none. A backup can do without.
func (s *Server) LacksForDefinitions(ctx context.Context) (*MissingPrivilegesError, error) {
	row, err := s.Control.Row(ctx, "SELECT CURRENT_USER() AS u")
	if err != nil {
		return nil, err
	}
	have, err := s.GlobalPrivileges(ctx)
	if err != nil {
		return nil, err
	}
	if missing := s.Series.missing(have, forDefinitions); len(missing) > 0 {
		return &MissingPrivilegesError{User: row["u"], Missing: missing}, nil
	}
	return nil, nil
}

// wanted lists the global privileges for what a backup does.
func (d Series) wanted(needs Needs, binlog bool) []Privilege {
	want := []Privilege{PrivReload}
	add := func(when bool, p Privilege) {
		if when {
			want = append(want, p)
		}
	}
	if d.Stages {
		add(true, PrivProcess)
		add(binlog, PrivBinlogMonitor)
		add(needs.SlaveInfo, PrivSlaveMonitor)
		return want
	}
	kill, replica, vars := privSuper, privSuper, privSuper
	if d.Roles {
		kill, replica, vars = PrivConnectionAdmin, PrivReplicationAdmin, PrivSystemVariablesAdmin
	}
	add(d.LogStatus, PrivBackupAdmin)
	add(true, PrivProcess)
	add((binlog && !d.LogStatus) || needs.SlaveInfo || needs.SafeSlave, PrivReplicationClient)
	add(needs.LockTableDDL || needs.HoldTables, PrivSelect)
	add(needs.HoldTables, PrivLockTables)
	add(needs.KillQueries, kill)
	add(needs.SafeSlave, replica)
	add(needs.DumpBufferPool || needs.ListChanges, vars)
	slices.Sort(want)
	return slices.Compact(want)
}

// missing returns what of want is not among have, knowing which privileges
// include others.
func (d Series) missing(have map[Privilege]bool, want []Privilege) []Privilege {
	return slices.DeleteFunc(slices.Clone(want), func(p Privilege) bool {
		if have[p] || have["ALL PRIVILEGES"] {
			return true
		}
		switch p {
		case PrivBinlogMonitor, PrivSlaveMonitor:
			return d.SuperSees && have[privSuper]
		case PrivReplicationClient, PrivConnectionAdmin, PrivReplicationAdmin, PrivSystemVariablesAdmin:
			return have[privSuper]
		}
		return false
	})
}

// The server's refusals of a table and of a column.
const (
	erTableAccess  = 1142
	erColumnAccess = 1143
)

// maySelect tries whether the account may read a table of the server.
func (s *Server) maySelect(ctx context.Context, table string) (bool, error) {
	_, err := s.Control.Rows(ctx, "SELECT * FROM "+table+" LIMIT 0")
	if isTableDenied(err) {
		return false, nil
	}
	return err == nil || IsAccessDenied(err), ignoreAccessDenied(err)
}

func isTableDenied(err error) bool {
	my, ok := errors.AsType[*mysql.MySQLError](err)
	return ok && (my.Number == erTableAccess || my.Number == erColumnAccess)
}

func ignoreAccessDenied(err error) error {
	if IsAccessDenied(err) {
		return nil
	}
	return err
}

// GlobalPrivileges asks for the privileges in force. MariaDB's SHOW GRANTS
// includes those of the current role and of PUBLIC; MySQL 8.0 and later must be
// told the active roles. Both name a role that is granted without being set,
// which gives nothing.
func (s *Server) GlobalPrivileges(ctx context.Context) (map[Privilege]bool, error) {
	show := "SHOW GRANTS"
	if s.Series.Roles {
		row, err := s.Control.Row(ctx, "SELECT CURRENT_ROLE() AS r")
		if err != nil {
			return nil, err
		}
		if row["r"] != "NONE" {
			show = "SHOW GRANTS FOR CURRENT_USER() USING " + row["r"]
		}
	}
	rows, err := s.Control.Rows(ctx, show)
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
// PROXY and roles add nothing. A REVOKE on one database (partial_revokes of MySQL 8.0.16
// and later), which follows the grants, takes away what it names: where hb needs those on the
// users' objects, it needs them on all.
func addGlobalGrants(have map[Privilege]bool, line string) {
	if revoked, ok := strings.CutPrefix(line, "REVOKE "); ok {
		names, _, _ := strings.Cut(revoked, " ON ")
		for p := range strings.SplitSeq(names, ",") {
			if p := Privilege(strings.ToUpper(strings.TrimSpace(p))); strings.HasPrefix(string(p), "ALL") {
				clear(have)
			} else {
				delete(have, p)
			}
		}
		return
	}
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
		case PrivReplicationClient, "SHOW MASTER STATUS":
			have[PrivBinlogMonitor] = true // MariaDB's name since 10.5.2
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

// IsDenied is IsAccessDenied, or the refusal of a table for want of a privilege.
func IsDenied(err error) bool { return IsAccessDenied(err) || isTableDenied(err) }
