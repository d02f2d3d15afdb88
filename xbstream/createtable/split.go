package createtable

import (
	"fmt"
	"strings"
)

// A Split is a CREATE TABLE statement without the parts that a table must not have while its
// tablespace is imported, or that name places on another server: DATA DIRECTORY and INDEX
// DIRECTORY are left out, also of partitions.
type Split struct {
	Create   string   // the statement without them
	FullText []string // "ADD FULLTEXT KEY …" of each FULLTEXT index, for ALTER TABLE
	Vector   []string // "ADD VECTOR KEY …" of each VECTOR index (MariaDB 11.7)
	Foreign  []string // "ADD CONSTRAINT …" of each foreign key

	name    int // where the name of the table ends in Create
	options int // where its columns end in Create
}

const beforeName = "CREATE TABLE "

// As returns the statement for a table of another name; an empty database leaves it to the
// session.
func (s *Split) As(database, name string) string {
	if database != "" {
		database = quoteName(database) + "."
	}
	return beforeName + database + quoteName(name) + s.Create[s.name:]
}

// Parse takes apart what SHOW CREATE TABLE of MySQL 5.6 to 9.7 or MariaDB 10.5 to 11.8 shows of
// a table, in a session whose sql_mode has neither ANSI_QUOTES nor one that implies it. It
// relies on what all of them do: each column, index and constraint has a line of its own, which
// two spaces begin, and a closing parenthesis begins the line after the last. Names and texts
// may have line breaks and anything else.
func Parse(show string) (*Split, error) { return parse(show, false) }

// ParseOther is Parse for a table of another engine than InnoDB. Its FULLTEXT indexes stay in
// the statement, as they are in the table's files.
func ParseOther(show string) (*Split, error) { return parse(show, true) }

func parse(show string, fullText bool) (*Split, error) {
	const open = " ("
	if !strings.HasPrefix(show, beforeName+"`") {
		return nil, fmt.Errorf("this is not a CREATE TABLE statement: %.80q", show)
	}
	at := len(beforeName) + tokenLength(show[len(beforeName):])
	s := &Split{name: at}
	if !strings.HasPrefix(show[at:], open) {
		return nil, fmt.Errorf("no columns follow the name of the table: %.80q", show)
	}
	at += len(open)
	parts, end, err := elementsOf(show, at)
	if err != nil {
		return nil, err
	}
	var kept []string
	for _, p := range parts {
		switch {
		case !fullText && strings.HasPrefix(p, "FULLTEXT KEY "):
			s.FullText = append(s.FullText, "ADD "+strings.TrimRight(p, " "))
		case strings.HasPrefix(p, "VECTOR KEY "):
			s.Vector = append(s.Vector, "ADD "+p)
		case isForeign(p):
			s.Foreign = append(s.Foreign, "ADD "+p)
		default:
			kept = append(kept, p)
		}
	}
	if len(kept) == 0 {
		return nil, fmt.Errorf("the table has no column: %.80q", show)
	}
	s.Create = show[:at] + "\n  " + strings.Join(kept, ",\n  ")
	s.options = len(s.Create)
	s.Create += withoutDirectories(show[end:])
	return s, nil
}

// withoutDirectories returns the options of a table and its partitions without those.
func withoutDirectories(options string) string {
	var out strings.Builder
	for options != "" {
		if n := directoryLength(options); n > 0 {
			options = options[n:]
			continue
		}
		n := tokenLength(options)
		out.WriteString(options[:n])
		options = options[n:]
	}
	return out.String()
}

// directoryLength returns the length of the option that begins a text, with the space before
// it; 0: it is not DATA DIRECTORY or INDEX DIRECTORY.
func directoryLength(s string) int {
	for _, option := range []string{" DATA DIRECTORY", " INDEX DIRECTORY"} {
		for _, equals := range []string{"='", " = '"} {
			if before := option + equals; strings.HasPrefix(s, before) {
				n := len(before) - 1
				return n + tokenLength(s[n:])
			}
		}
	}
	return 0
}

// SetRowFormat makes the statement that of a table with rows of a format. Statements do not say
// which if none was given when the table was made, and may say one that the server did not
// have; a server takes byDefault if they do not.
func (s *Split) SetRowFormat(format, byDefault string) {
	const option = " ROW_FORMAT="
	for at := s.options; at < len(s.Create); at += max(tokenLength(s.Create[at:]), 1) {
		rest := s.Create[at:]
		if strings.HasPrefix(rest, option) {
			end := at + len(option) + tokenLength(rest[len(option):])
			s.Create = s.Create[:at] + option + format + s.Create[end:]
			return
		}
		if at > s.options && rest[0] == '\n' { // partitions follow
			s.insertFormat(at, option, format, byDefault)
			return
		}
	}
	s.insertFormat(len(s.Create), option, format, byDefault)
}

func (s *Split) insertFormat(at int, option, format, byDefault string) {
	if format != byDefault {
		s.Create = s.Create[:at] + option + format + s.Create[at:]
	}
}

// isForeign reports whether an element is a foreign key.
func isForeign(element string) bool {
	rest, ok := strings.CutPrefix(element, "CONSTRAINT ")
	if !ok {
		return false
	}
	return strings.HasPrefix(rest[tokenLength(rest):], " FOREIGN KEY (")
}

// elementsOf returns the columns, indexes and constraints of a statement, which begin at a
// place, and the place of the line break after the last.
func elementsOf(show string, at int) (parts []string, end int, err error) {
	const between = "\n  "
	if !strings.HasPrefix(show[at:], between) {
		return nil, 0, fmt.Errorf("no column follows: %.80q", show[at:])
	}
	at += len(between)
	from, depth := at, 0
	for at < len(show) {
		n := tokenLength(show[at:])
		switch show[at] {
		case '(':
			depth++
		case ')':
			depth--
		case ',':
			if depth == 0 && strings.HasPrefix(show[at+1:], between) {
				parts = append(parts, show[from:at])
				from = at + 1 + len(between)
				n = 1 + len(between)
			}
		case '\n':
			if depth == 0 && strings.HasPrefix(show[at:], "\n)") {
				return append(parts, show[from:at]), at, nil
			}
		}
		if depth < 0 {
			break
		}
		at += n
	}
	return nil, 0, fmt.Errorf("the columns do not end: %.80q", show)
}

// tokenLength returns how long a text's first token is: a name or a text with its quotes, a
// word, or one other byte.
func tokenLength(s string) int {
	if s == "" {
		return 0
	}
	switch c := s[0]; {
	case c == '`':
		return quoted(s, false)
	case c == '\'' || c == '"':
		return quoted(s, true)
	case wordByte(c):
		n := 1
		for n < len(s) && wordByte(s[n]) {
			n++
		}
		return n
	}
	return 1
}

func wordByte(c byte) bool {
	return c == '_' || c == '$' || c >= '0' && c <= '9' || c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= 0x80
}

// quoted returns the length of what begins with a quote: up to the next one that is not
// doubled and, with escapes, has no backslash before it.
func quoted(s string, escapes bool) int {
	for i := 1; i < len(s); i++ {
		switch {
		case escapes && s[i] == '\\':
			i++
		case s[i] != s[0]:
		case i+1 < len(s) && s[i+1] == s[0]:
			i++
		default:
			return i + 1
		}
	}
	return len(s)
}
