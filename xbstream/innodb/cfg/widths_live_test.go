package cfg_test

import (
	"fmt"
	"testing"

	"hb/source/mysqld/mysqldtest"
	"hb/xbstream/innodb/cfg"
)

// least has the character sets whose characters have more than one byte at least.
var least = map[string]uint32{"ucs2": 2, "utf16": 2, "utf16le": 2, "utf32": 4}

// TestWidths: the bytes of a character are those of the servers' collations.
func TestWidths(t *testing.T) {
	all := append(append([]string(nil), mysqldtest.MySQL...), mysqldtest.MariaDB...)
	mysqldtest.EachServer(t, all, mysqldtest.Options{}, func(t *testing.T, s *mysqldtest.Server) {
		q := "SELECT ID, CHARACTER_SET_NAME, MAXLEN FROM information_schema.COLLATIONS JOIN information_schema.CHARACTER_SETS USING (CHARACTER_SET_NAME)"
		if s.Root.MariaDB() && s.Root.AtLeast(10, 10) { // there, a collation can be of several character sets
			q = "SELECT ID, CHARACTER_SET_NAME, MAXLEN FROM information_schema.COLLATION_CHARACTER_SET_APPLICABILITY JOIN information_schema.CHARACTER_SETS USING (CHARACTER_SET_NAME)"
		}
		rows := s.Rows(t, q)
		for _, r := range rows {
			var id, most uint32
			if _, err := fmt.Sscan(r[0]+" "+r[2], &id, &most); err != nil {
				t.Fatal(err)
			}
			if l, m := cfg.CharWidth(id); l != max(least[r[1]], 1) || m != most {
				t.Errorf("%s: collation %d (%s): %d to %d bytes, not %d to %d", s.Root.Name, id, r[1], l, m, max(least[r[1]], 1), most)
			}
		}
		t.Logf("%s: %d collations", s.Root.Name, len(rows))
		if len(rows) < 200 {
			t.Error("these are too few")
		}
	})
}
