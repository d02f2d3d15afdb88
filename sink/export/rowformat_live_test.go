package export_test

import (
	"strings"
	"testing"

	"hb/sink/restore"
	"hb/source/mysqld/mysqldtest"
)

// TestIntoRowFormat: tables whose definition does not say their row format are brought to a
// server that has another default than the one that made them.
func TestIntoRowFormat(t *testing.T) {
	mysqldtest.EachServer(t, allServers, mysqldtest.Options{}, func(t *testing.T, s *mysqldtest.Server) {
		formats := []string{"compact", "redundant", "dynamic"}
		if s.Root.Name == mysqldtest.MySQL56 {
			formats = []string{""} // it has no such option
		}
		s.Exec(t, "CREATE DATABASE t")
		for _, format := range formats {
			if format != "" {
				s.Exec(t, "SET GLOBAL innodb_default_row_format="+format)
			}
			for name, more := range map[string]string{"plain": "", "part": " PARTITION BY HASH (a) PARTITIONS 2", "fts": ", FULLTEXT (b)"} {
				table := "t." + name + "_" + format
				options := ") ENGINE=InnoDB"
				if strings.HasPrefix(more, ",") {
					options, more = more+options, ""
				}
				s.Exec(t, "CREATE TABLE "+table+" (a INT PRIMARY KEY, b VARCHAR(50), c TEXT"+options+more, "INSERT INTO "+table+" VALUES (1,'one','text'),(2,'two',NULL)")
			}
		}
		w := writeShown(t, s)
		s = target(t, w.root)
		byDefault := "dynamic"
		if len(formats) > 1 && s.Root.Name != mysqldtest.MySQL57 { // 5.7 has what servers come with
			byDefault = "redundant"
			s.Exec(t, "SET GLOBAL innodb_default_row_format="+byDefault)
		}
		result, err := restore.Into(t.Context(), w.out, w.sources, restore.Options{Open: connect(t, s), From: w.from(t), PageSize: 16 << 10, Report: func(string) {}})
		if err != nil {
			t.Fatalf("%s: %v", w.root.Name, err)
		}
		if len(result.Tables) != 3*len(formats) || len(w.refused) != 0 {
			t.Errorf("%s: %d tables, refused %q", w.root.Name, len(result.Tables), w.refused)
		}
		for name, create := range w.creates {
			if format := name[strings.LastIndex(name, "_")+1:]; format != "" && format != byDefault {
				at := strings.LastIndex(create, "\n/*!") // partitions of MySQL
				if i := strings.LastIndex(create, "\n PARTITION BY"); i > at {
					at = i
				}
				if at < 0 {
					at = len(create)
				}
				w.creates[name] = create[:at] + " ROW_FORMAT=" + strings.ToUpper(format) + create[at:]
			}
		}
		compareTables(t, s, w, result, nil)
	})
}
