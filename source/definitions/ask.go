package definitions

import (
	"context"
	"errors"
	"regexp"
	"strconv"
	"strings"

	"github.com/go-sql-driver/mysql"

	"hb/source/mysqld"
	"hb/xbstream/metadata"
)

// The server's errors that say that another session holds a lock.
const (
	erLockWaitTimeout = 1205
	erDeadlock        = 1213
)

// errNoTrigger says that the server lists no trigger of a table that has some. Where it waits too
// long for a lock, INFORMATION_SCHEMA leaves the table out, without an error (run on MySQL
// 5.6.24 and 5.7.29, and MariaDB 10.5.23 to 11.8.9).
var errNoTrigger = errors.New("the server does not list the triggers of the table")

// isBlocked reports whether hb got no answer because another session holds a lock.
func isBlocked(err error) bool {
	if err == errNoTrigger {
		return true
	}
	my, ok := errors.AsType[*mysql.MySQLError](err)
	return ok && (my.Number == erLockWaitTimeout || my.Number == erDeadlock)
}

// refusal is the server's reason why there is no answer about an object, such as that it is
// damaged; "": the error is another.
func refusal(err error) string {
	const most = 300
	my, ok := errors.AsType[*mysql.MySQLError](err)
	if !ok || errors.Is(err, mysqld.ErrConnectionLost) || isBlocked(err) {
		return ""
	}
	text := my.Error()
	return strings.ToValidUTF8(text[:min(len(text), most)], "")
}

// ask asks the server about a unit, and keeps the answer. An error for which isBlocked is true
// leaves the unit unasked.
func (r *Recorder) ask(ctx context.Context, k key, u *unit) error {
	u.why = ""
	list, err := r.answers(ctx, k, u)
	if err != nil {
		why := refusal(err)
		if why == "" {
			if isBlocked(err) {
				u.why = "another session held a lock on it"
			}
			return err
		}
		list, u.why = []metadata.Definition{k.missing(why)}, why
	}
	for _, d := range list {
		if d.Missing != "" {
			u.refused, u.why = u.refused+1, d.Missing
		}
		line, err := d.Line()
		if err != nil {
			return err
		}
		e, err := r.spool.Append(line)
		if err != nil {
			return onDisk(err)
		}
		u.lines = append(u.lines, e)
	}
	u.asked = true
	return nil
}

func (r *Recorder) answers(ctx context.Context, k key, u *unit) ([]metadata.Definition, error) {
	if k.group == groupTable || k.group == groupTriggers {
		unclosed, err := r.unclosed(ctx, k)
		if err != nil {
			return nil, err
		}
		if unclosed {
			return []metadata.Definition{k.missing(unclosedText)}, nil
		}
	}
	switch k.group {
	case groupTable:
		d, err := r.table(ctx, k)
		if err == nil && d.Kind == metadata.DefinesTable {
			err = r.withParents(ctx, k, u, &d)
		}
		u.sequence = d.Kind == metadata.DefinesSequence
		return []metadata.Definition{d}, err
	case groupTriggers:
		return r.triggers(ctx, k)
	}
	d := k.missing("")
	d.Table, d.Order = u.table, u.order
	err := r.show(ctx, &d)
	return []metadata.Definition{d}, err
}

// createColumns are those of SHOW CREATE's answers that have the text.
var createColumns = map[metadata.DefinitionKind]string{
	metadata.DefinesDatabase: "Create Database", metadata.DefinesTable: "Create Table", metadata.DefinesSequence: "Create Table",
	metadata.DefinesView: "Create View", metadata.DefinesTrigger: "SQL Original Statement",
	metadata.DefinesProcedure: "Create Procedure", metadata.DefinesFunction: "Create Function",
	metadata.DefinesPackage: "Create Package", metadata.DefinesPackageBody: "Create Package Body",
	metadata.DefinesEvent: "Create Event",
}

// show asks about an object, and completes d.
func (r *Recorder) show(ctx context.Context, d *metadata.Definition) error {
	name := mysqld.QuoteName(d.Database)
	if d.Kind != metadata.DefinesDatabase {
		name += "." + mysqld.QuoteName(d.Name)
	}
	row, err := r.conn.Row(ctx, "SHOW CREATE "+strings.ToUpper(string(d.Kind))+" "+name)
	if err != nil {
		return err
	}
	if _, is := row[createColumns[metadata.DefinesView]]; is && d.Kind == metadata.DefinesTable {
		d.Kind = metadata.DefinesView
	}
	d.Create = row[createColumns[d.Kind]]
	d.SQLMode, d.CharacterSetClient, d.CollationConnection = row["sql_mode"], row["character_set_client"], row["collation_connection"]
	d.DatabaseCollation, d.TimeZone = row["Database Collation"], row["time_zone"]
	if d.Create == "" {
		d.Missing = "the account may not read it"
	}
	return nil
}

// table asks about a table, a view or a sequence.
func (r *Recorder) table(ctx context.Context, k key) (metadata.Definition, error) {
	d := k.missing("")
	if err := r.show(ctx, &d); err != nil || d.Kind != metadata.DefinesTable {
		return d, err
	}
	text, options := withoutAutoIncrement(d.Create)
	if d.Create = text; strings.Contains(unquoted(options), " SEQUENCE=1") {
		d = k.missing("")
		d.Kind = metadata.DefinesSequence
		return d, r.show(ctx, &d)
	}
	return d, nil
}

// triggers asks about those of a table.
func (r *Recorder) triggers(ctx context.Context, k key) (out []metadata.Definition, err error) {
	rows, err := r.conn.Rows(ctx, "SELECT TRIGGER_NAME AS n, ACTION_ORDER AS o FROM information_schema.TRIGGERS WHERE EVENT_OBJECT_SCHEMA = "+
		mysqld.QuoteString(k.database)+" AND EVENT_OBJECT_TABLE = "+mysqld.QuoteString(k.name)+" ORDER BY EVENT_MANIPULATION, ACTION_TIMING, ACTION_ORDER, TRIGGER_NAME")
	if err != nil {
		return nil, err
	}
	if len(rows) == 0 {
		return nil, errNoTrigger
	}
	for _, row := range rows {
		d := metadata.Definition{Kind: metadata.DefinesTrigger, Database: k.database, Name: row["n"], Table: k.name}
		d.Order, _ = strconv.Atoi(row["o"]) // 0 if it is not known
		if err := r.show(ctx, &d); err != nil {
			why := refusal(err)
			if why == "" {
				return nil, err
			}
			d.Missing = why
		}
		out = append(out, d)
	}
	return out, nil
}

// tableOptions is the line of SHOW CREATE TABLE's answer that has the options, without the one
// that says what the next row gets: that comes right after the engine.
var tableOptions = regexp.MustCompile(`(?m)^(\) (?:/\*!50100 TABLESPACE .*? \*/ )?ENGINE=[A-Za-z0-9_]+)( AUTO_INCREMENT=[0-9]+)?(.*)$`)

// withoutAutoIncrement takes that option out; options are the others.
func withoutAutoIncrement(text string) (without, options string) {
	m := tableOptions.FindStringSubmatchIndex(text)
	if m == nil {
		return text, ""
	}
	options = text[m[6]:m[7]]
	return text[:m[3]] + text[m[6]:], options
}

// unquoted is what is outside of strings and names.
func unquoted(text string) string {
	var out strings.Builder
	for len(text) > 0 {
		n := 1
		if quote := text[0]; quote == '\'' || quote == '`' || quote == '"' {
			n = quoted(text, quote)
		} else {
			out.WriteByte(quote)
		}
		text = text[n:]
	}
	return out.String()
}

// quoted is the length of the string or the name with which text begins. Quotes that are
// doubled are two of them, one after the other.
func quoted(text string, quote byte) int {
	for i := 1; i < len(text); i++ {
		switch {
		case text[i] == '\\' && quote != '`':
			i++
		case text[i] == quote:
			return i + 1
		}
	}
	return len(text)
}
