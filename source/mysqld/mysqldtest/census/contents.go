package census

import (
	"fmt"
	"testing"

	"hb/source/mysqld/mysqldtest"
)

// Contents describes what a server holds after it has recovered: for each table
// of the census its checksum and AUTO_INCREMENT counter, and the transactions
// that are prepared. CHECK TABLE must have no complaint about any.
func Contents(t testing.TB, s *mysqldtest.Server) map[string]string {
	t.Helper()
	if s.Root.AtLeast(8, 0) {
		s.Exec(t, "SET GLOBAL information_schema_stats_expiry = 0")
	}
	out := map[string]string{}
	for _, row := range s.Rows(t, "SELECT table_name, auto_increment FROM information_schema.tables WHERE table_schema = '"+DB+"'") {
		name := DB + "." + row[0]
		// A table with rows that a prepared transaction holds can be read.
		for _, check := range s.Rows(t, "CHECK TABLE "+name+" EXTENDED") {
			if check[3] != "OK" {
				t.Errorf("%s: CHECK TABLE %s: %v", s.Root.Name, name, check)
			}
		}
		q := "CHECKSUM TABLE " + name
		if name == docTable { // 5.7 takes the address of a JSON value into the checksum
			q = "SELECT 'rows', CONCAT_WS('-', COUNT(*), SUM(id), SUM(CRC32(CAST(j AS CHAR)))) FROM " + name
		}
		out[name] = fmt.Sprintf("checksum %s, AUTO_INCREMENT %q", s.Rows(t, q)[0][1], row[1])
	}
	out["prepared transactions"] = fmt.Sprint(s.Rows(t, "XA RECOVER"))
	return out
}
