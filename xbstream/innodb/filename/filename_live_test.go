package filename_test

import (
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"

	"hb/source/mysqld/mysqldtest"
	"hb/xbstream/innodb/filename"
)

// TestServers: all characters of the Basic Multilingual Plane have the names that servers give
// them. MySQL 5.7 and later do not know the character set in SQL: TestFiles is for them.
func TestServers(t *testing.T) {
	mysqldtest.EachServer(t, append([]string{mysqldtest.MySQL56}, mysqldtest.MariaDB...), mysqldtest.Options{}, func(t *testing.T, s *mysqldtest.Server) {
		short := 0
		for base := 0; base < 0x10000; base += 256 {
			if base >= 0xd800 && base < 0xe000 {
				continue // surrogates
			}
			var q []string
			for i := range 256 {
				q = append(q, fmt.Sprintf("CONVERT(_ucs2 0x%04X USING filename)", base+i))
			}
			for i, want := range s.Rows(t, "SELECT CAST("+strings.Join(q, " AS BINARY),CAST(")+" AS BINARY)")[0] {
				r := rune(base + i)
				if r == 0 || r == 0xFFFD { // no name has them
					continue
				}
				if len(want) == 3 {
					short++
				}
				got := filename.Encode(string(r))
				back, ok := filename.Decode(want)
				if got != want || back != string(r) || !ok {
					t.Errorf("%s: %U is %q, not %q; back %q, %v", s.Root.Name, r, got, want, back, ok)
				}
			}
		}
		if short != 1510 {
			t.Errorf("%s: %d characters have the short form", s.Root.Name, short)
		}
	})
}

// TestFiles: the files of databases, tables and partitions have the names that Encode says.
func TestFiles(t *testing.T) {
	mysqldtest.EachServer(t, append(slices.Clone(mysqldtest.MySQL), mysqldtest.MariaDB...), mysqldtest.Options{}, func(t *testing.T, s *mysqldtest.Server) {
		for _, name := range []string{"my-table", "Äpfel", "größe", "Ωmega", "имя", "дом_Ж", "a b", "$x", "con", "LPT1", "日本", "a.b", "#x", "@0041", "ǅx", "Ấn", "Ⅷ", "ⓐⓏ", "Ｘｙ", "ՀՅ"} {
			s.Exec(t, "CREATE DATABASE `"+name+"`", "CREATE TABLE `"+name+"`.`"+name+"` (a INT PRIMARY KEY) CHARSET=latin1")
			file := filename.Encode(name)
			if _, err := os.Stat(s.Datadir + "/" + file + "/" + file + ".ibd"); err != nil {
				t.Errorf("%s: %q: %v", s.Root.Name, name, err)
			}
			if back, ok := filename.Decode(file); back != name || !ok {
				t.Errorf("%q becomes %q, and that %q, %v", name, file, back, ok)
			}
		}
	})
}

// TestDecodeRefuses: what no server makes of a name in SQL is not one.
func TestDecodeRefuses(t *testing.T) {
	for _, file := range []string{"", "a-b", "@", "@00", "@002D", "@0041", "#sql-1", "a@@@", "@xy@", "ä", "@0g@", "a#p#b"} {
		if name, ok := filename.Decode(file); ok {
			t.Errorf("%q is %q", file, name)
		}
	}
}
