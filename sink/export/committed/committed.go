// Package committed makes sure that a table which leaves a recovered directory has what was
// committed when the backup ended, and nothing else.
//
// A recovered directory has, like that of a server that crashed, the changes of transactions
// that had not ended, and lacks changes of secondary indexes that are still in the change
// buffer. A server that starts on the directory rolls back the former and makes the latter.
// ALTER TABLE … IMPORT TABLESPACE does neither: it commits whatever is in the file, without a
// word, and CHECK TABLE finds nothing wrong.
//
// [Read] finds out what is pending in a directory, [State.Check] what of that concerns a
// table, and [Server.Finish] lets a server of the user's carry it out.
package committed

import (
	"encoding/hex"
	"fmt"
	"math"
	"slices"
	"strings"

	"hb/xbstream/innodb"
	"hb/xbstream/innodb/changebuffer"
	"hb/xbstream/innodb/undo"
)

// A Table is what leaves the directory: a table with all of its partitions.
type Table struct {
	Name   string           // "db.table", for messages
	IDs    []uint64         // InnoDB's ids of the table and its partitions
	Spaces []innodb.SpaceID // their tablespaces
}

// A State is what was going on in a server when the backup ended.
type State struct {
	logs     []undo.Log
	buffered map[innodb.SpaceID]int // changes in the change buffer
	server   int
}

// Read reads the state from the system tablespace, which spaces has as number 0, and the undo
// tablespaces. server is the version of the server, such as 80036 or 101118.
func Read(spaces undo.Spaces, server int) (*State, error) {
	system := spaces[0]
	if system == nil {
		return nil, fmt.Errorf("looking for open transactions: the system tablespace is not there")
	}
	s := &State{server: server}
	var err error
	if s.logs, err = undo.Read(spaces, server); err != nil {
		return nil, err
	}
	if s.buffered, err = changebuffer.Read(system, server); err != nil {
		return nil, fmt.Errorf("looking for buffered changes: %w", err)
	}
	return s, nil
}

// A Pending is what is pending for a table.
type Pending struct {
	Table        string // "db.table"
	Transactions []Transaction
	Buffered     int // changes of its secondary indexes in the change buffer
	// Why says why hb does not roll back itself; "": it can, or did not look.
	Why string
}

// XA are the names of the XA transactions that are prepared.
func (p *Pending) XA() (list []*undo.XID) {
	for _, x := range p.Transactions {
		if x.isXA() {
			list = append(list, x.XID)
		}
	}
	return list
}

// A Transaction is one that had not ended.
type Transaction struct {
	ID      uint64
	State   undo.State
	XID     *undo.XID // of a prepared one; nil: it has none
	Changes int       // undo records of the table
	// Dictionary: it changes definitions of tables, and nobody knows here of which.
	Dictionary bool
}

// A PendingError says that tables cannot leave the directory as they are.
type PendingError struct{ Tables []Pending }

// Check returns a *PendingError if something is pending for one of the tables.
func (s *State) Check(tables ...Table) error {
	var e PendingError
	for _, t := range tables {
		p := Pending{Table: t.Name}
		for _, id := range t.Spaces {
			p.Buffered += s.buffered[id]
		}
		for _, l := range s.logs {
			if c := s.concerns(&l, t); c != nil {
				p.add(*c)
			}
		}
		if p.Buffered > 0 || len(p.Transactions) > 0 {
			e.Tables = append(e.Tables, p)
		}
	}
	if len(e.Tables) == 0 {
		return nil
	}
	return &e
}

// Open are the ids of all transactions that had not ended.
func (s *State) Open() map[uint64]bool {
	open := map[uint64]bool{}
	for _, l := range s.logs {
		open[l.Trx] = true
	}
	return open
}

// Changed reports whether one of them changed the table, or partition, with that id.
func (s *State) Changed(id uint64) bool {
	return slices.ContainsFunc(s.logs, func(l undo.Log) bool { return l.Tables[id] > 0 })
}

// OnlyServer says why only a server can finish what is pending; "": it is to be rolled back,
// and nothing else. Servers look into the binary log for what became of transactions that were
// prepared for that, and MySQL 8.0 and later also for what became of others.
func (s *State) OnlyServer(p Pending) string {
	for _, x := range p.Transactions {
		switch {
		case x.Dictionary:
			return "definitions of tables were being changed"
		case x.State == undo.Prepared && (mysql8(s.server) || !x.isXA()):
			return "the binary log can have committed a prepared transaction"
		}
	}
	return ""
}

// add adds a log of a transaction. A transaction can have two: of inserts, and of the rest.
func (p *Pending) add(x Transaction) {
	for i := range p.Transactions {
		if old := &p.Transactions[i]; old.ID == x.ID {
			old.Changes += x.Changes
			old.Dictionary = old.Dictionary || x.Dictionary
			return
		}
	}
	p.Transactions = append(p.Transactions, x)
}

// concerns returns what a log has to do with a table; nil: nothing.
func (s *State) concerns(l *undo.Log, t Table) *Transaction {
	x := Transaction{ID: l.Trx, State: l.State, XID: l.XID}
	for _, id := range t.IDs {
		x.Changes += l.Tables[id]
	}
	for _, id := range t.Spaces {
		if mysql8(s.server) && l.Tables[sdiTable(id)] > 0 {
			x.Dictionary = true
		}
	}
	for id := range l.Tables {
		x.Dictionary = x.Dictionary || isDictionary(s.server, id)
	}
	x.Dictionary = x.Dictionary || l.Dictionary
	if x.Changes == 0 && !x.Dictionary {
		return nil
	}
	return &x
}

// mysql8 reports whether a server is MySQL 8.0 or later.
func mysql8(server int) bool { return server >= 80000 && server < 100000 }

// sdiTable is the id in undo records of the definitions that MySQL 8.0 and later have in a
// tablespace (dict_sdi_get_table_id in dict0dict.ic of 9.7.2).
func sdiTable(space innodb.SpaceID) uint64 { return math.MaxUint64&^math.MaxUint32 | uint64(space) }

// isDictionary reports whether a table is one of those that define others. MySQL 8.0 and
// later give these ids up to 1024, of which 2 to 4 are those of InnoDB's counters and
// statistics (DICT_MAX_DD_TABLES in dict0dd.h of 9.7.2; TestDictionaryIDs); MySQL 5 and
// MariaDB have SYS_TABLES, SYS_COLUMNS, SYS_INDEXES and SYS_FIELDS as 1 to 4 (dict0boot.h).
func isDictionary(server int, id uint64) bool {
	if mysql8(server) {
		return id <= 1024 && (id < 2 || id > 4)
	}
	return id <= 4
}

// isXA reports whether it is an XA transaction that is prepared.
func (x Transaction) isXA() bool {
	return x.State == undo.Prepared && x.XID != nil && !internal(x.XID)
}

func (e *PendingError) Error() string {
	return e.what() + "\nan import would commit or lose these changes without a word; let a server of the same series roll back or make them on a copy: --server MYSQLD; or restore the whole backup, and take the table from that server"
}

// what lists what is pending.
func (e *PendingError) what() string {
	var b strings.Builder
	for i, p := range e.Tables {
		if i > 0 {
			b.WriteString("\n")
		}
		fmt.Fprintf(&b, "%s has more, or less, than what was committed when the backup ended:", p.Table)
		for j, x := range p.Transactions {
			if j == shown {
				fmt.Fprintf(&b, "\n  and %d more transactions", len(p.Transactions)-shown)
				break
			}
			b.WriteString("\n  " + x.String())
		}
		if p.Buffered > 0 {
			fmt.Fprintf(&b, "\n  %s of its secondary indexes only in the change buffer", counted(p.Buffered, "change"))
		}
		if p.Why != "" {
			fmt.Fprintf(&b, "\n  hb does not finish this itself: %s", p.Why)
		}
	}
	return b.String()
}

// shown is how many transactions of a table an error names.
const shown = 5

func counted(n int, what string) string {
	if n == 1 {
		return "1 " + what
	}
	return fmt.Sprintf("%d %ss", n, what)
}

// String describes the transaction.
func (x Transaction) String() string {
	s := fmt.Sprintf("transaction %d was open", x.ID)
	switch {
	case x.State != undo.Prepared:
	case x.XID == nil || internal(x.XID):
		s = fmt.Sprintf("transaction %d was prepared for the binary log", x.ID)
	default:
		s = fmt.Sprintf("transaction %d was prepared as XA %s", x.ID, XAName(x.XID))
	}
	if x.Changes > 0 {
		s += ", with " + counted(x.Changes, "change") + " of the table"
	}
	if x.Dictionary {
		s += ", and changes definitions of tables"
	}
	return s
}

// internalPrefix begins the names that servers give transactions themselves, to commit them
// together with the binary log (MYSQL_XID_PREFIX in sql/xa.h of 9.7.2, handler.h of MariaDB).
const internalPrefix = "MySQLXid"

func internal(x *undo.XID) bool { return strings.HasPrefix(string(x.Global), internalPrefix) }

// XAName is the name of an XA transaction as statements have it.
func XAName(x *undo.XID) string {
	return fmt.Sprintf("%s,%s,%d", literal(x.Global), literal(x.Branch), x.Format)
}

// literal is an SQL literal of bytes.
func literal(b []byte) string {
	plain := !slices.ContainsFunc(b, func(c byte) bool { return c < ' ' || c > '~' || c == '\'' || c == '\\' })
	if plain {
		return "'" + string(b) + "'"
	}
	return "X'" + hex.EncodeToString(b) + "'"
}
