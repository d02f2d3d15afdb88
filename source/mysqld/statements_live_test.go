package mysqld_test

import (
	"slices"
	"strings"
	"testing"

	"hb/source/mysqld"
	"hb/source/mysqld/mysqldtest"
	"hb/source/mysqld/mysqldtest/client"
)

// TestStatements: a statement of bytes that are no text is listed, byte by byte, beside the
// one that asks.
func TestStatements(t *testing.T) {
	mysqldtest.EachServer(t, slices.Concat(mysqldtest.MariaDB, mysqldtest.MySQL), mysqldtest.Options{}, func(t *testing.T, s *mysqldtest.Server) {
		srv := client.Connect(t, client.Options(s))
		const bytes = "SELECT SLEEP(60), LENGTH('\x8d\xec6\xfc')"
		wait := s.Background(t, bytes+" /* "+strings.Repeat("long ", 1000)+"*/")
		var got []mysqld.Statement
		mysqldtest.Await(t, "the statement is listed", func() bool {
			got = nil
			if err := srv.Control.Statements(t.Context(), func(s *mysqld.Statement) error {
				if s.Command == "Query" && s.Connection != srv.Control.ID {
					got = append(got, *s)
				}
				return nil
			}); err != nil {
				t.Fatal(err)
			}
			return len(got) == 1 && got[0].State == "User sleep"
		})
		if g := got[0]; !strings.HasPrefix(g.Text, bytes) || len(g.Text) < 5000 || g.User != "root" || len(g.Beginning()) != 1024 {
			t.Errorf("%+v", g)
		}
		s.Exec(t, "KILL QUERY "+got[0].Connection)
		_ = wait() // MySQL interrupts SLEEP without an error, MariaDB with one
	})
}
