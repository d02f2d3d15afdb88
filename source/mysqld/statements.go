package mysqld

import "context"

// A Statement is one that a connection of the server runs, or waits in.
type Statement struct {
	Connection    string // its number
	User, Command string
	State         string // what it does just now, or waits for
	Seconds       string // since when it is in that state
	Text          string // its bytes, which need not be text of any character set; "": none
}

// Beginning is enough of the statement to tell it from others, and to show.
func (s *Statement) Beginning() string { return s.Text[:min(len(s.Text), beginning)] }

// beginning is how much Beginning returns, in bytes.
const beginning = 1024

// Statements calls f for each connection of the server, threads of its own included. It needs
// PROCESS, and without sees only connections of the same user.
func (s *Session) Statements(ctx context.Context, f func(*Statement) error) error {
	// The table of that name in information_schema fails on a statement that is not valid
	// UTF-8 (9.7.4: "Cannot convert string … from utf8mb4 to utf8mb3").
	return s.Each(ctx, "SHOW FULL PROCESSLIST", func(row map[string]string) error {
		return f(&Statement{Connection: row["Id"], User: row["User"], Command: row["Command"], State: row["State"], Seconds: row["Time"], Text: row["Info"]})
	})
}
