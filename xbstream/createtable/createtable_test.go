package createtable_test

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"

	"hb/xbstream/createtable"
	"hb/xbstream/innodb/innodbtest"
	"hb/xbstream/innodb/sdi"
)

// document returns the table of a document that has only so much.
func document(t testing.TB, object string) (*sdi.Table, error) {
	t.Helper()
	return (&sdi.Document{Type: sdi.TypeTable, JSON: []byte(`{"dd_object_type":"Table","dd_object":` + object + `}`)}).Table()
}

// TestFromSDI: the statement for a table that MySQL 9.7.4 wrote, of 400 columns with comments,
// is the one that made it, as SHOW CREATE TABLE writes types and defaults.
func TestFromSDI(t *testing.T) {
	list, err := sdi.Read(innodbtest.ReadStored(t, "../innodb/sdi/testdata/mysql97-wide.ibd.gz"))
	if err != nil {
		t.Fatal(err)
	}
	table, err := list[0].Table()
	if err != nil {
		t.Fatal(err)
	}
	space, err := list[1].Tablespace()
	if err != nil {
		t.Fatal(err)
	}
	want := "CREATE TABLE `wide` (\n  `id` int NOT NULL,\n"
	for i := range 400 {
		want += fmt.Sprintf("  `column_number_%d` tinyint DEFAULT NULL COMMENT 'a comment that makes the definition longer, number %d',\n", i, i*i*7919)
	}
	want += "  PRIMARY KEY (`id`)\n) ENGINE=InnoDB DEFAULT CHARSET=utf8mb4 COLLATE=utf8mb4_0900_ai_ci"
	got, err := createtable.FromSDI(table, createtable.Options{Space: space})
	if err != nil || got != want {
		t.Errorf("%v: %.2000s", err, got)
	}
}

// TestUnknown: a definition that hb does not understand to its end is an error.
func TestUnknown(t *testing.T) {
	const column = `{"name":"a","type":4,"hidden":1,"is_nullable":true,"default_value_null":true}`
	for want, object := range map[string]string{
		"there is no collation 9999":   `{"name":"t","collation_id":9999,"columns":[` + column + `]}`,
		"type 33":                      `{"name":"t","collation_id":255,"columns":[{"name":"a","type":33,"hidden":1}]}`,
		"type 30 with options":         `{"name":"t","collation_id":255,"columns":[{"name":"a","type":30,"hidden":1,"options":"geom_type=9;"}]}`,
		"has 1 bytes":                  `{"name":"t","collation_id":255,"columns":[{"name":"a","type":18,"hidden":1,"default_value":"AA=="}]}`,
		"has a length of 5":            `{"name":"t","collation_id":255,"columns":[{"name":"a","type":16,"hidden":1,"collation_id":63,"default_value":"BQA="}]}`,
		"is not that of enum":          `{"name":"t","collation_id":255,"columns":[{"name":"a","type":22,"hidden":1,"collation_id":8,"column_type_utf8":"int"}]}`,
		"from character set gb18030":   `{"name":"t","collation_id":255,"columns":[{"name":"a","type":22,"hidden":1,"collation_id":248,"column_type_utf8":"enum('?')","elements":[{"name":"lDnaMw=="}]}]}`,
		"index i is of type 9":         `{"name":"t","collation_id":255,"columns":[` + column + `],"indexes":[{"name":"i","type":9}]}`,
		"foreign key f has ON DELETE":  `{"name":"t","collation_id":255,"columns":[` + column + `],"foreign_keys":[{"name":"f","delete_rule":7,"update_rule":1}]}`,
		"foreign key f refers":         `{"name":"t","collation_id":255,"columns":[` + column + `],"foreign_keys":[{"name":"f","delete_rule":1,"update_rule":1,"elements":[{"column_opx":3}]}]}`,
		"constraint c is in state 3":   `{"name":"t","collation_id":255,"columns":[` + column + `],"check_constraints":[{"name":"c","state":3}]}`,
		"partitions of type 12":        `{"name":"t","collation_id":255,"columns":[` + column + `],"partition_type":12}`,
		"subpartitions of type 9":      `{"name":"t","collation_id":255,"columns":[` + column + `],"partition_type":7,"subpartition_type":9}`,
		"partition p has 2 values":     `{"name":"t","collation_id":255,"columns":[` + column + `],"partition_type":7,"default_partitioning":1,"partitions":[{"name":"p","values":[{},{}]}]}`,
		"ENGINE_ATTRIBUTE: something":  `{"name":"t","collation_id":255,"columns":[` + column + `],"secondary_engine_attribute":"1 2"}`,
		"the statement is longer":      `{"name":"t","collation_id":255,"columns":[{"name":"` + strings.Repeat("a", 1<<20) + `","type":4,"hidden":1}],"indexes":[{"name":"i","type":3,"elements":[{"column_opx":0}` + strings.Repeat(`,{"column_opx":0}`, 100) + `]}]}`,
		"does not name a file outside": `{"name":"t","collation_id":255,"columns":[` + column + `],"se_private_data":"data_directory=1;"}`,
		"index i refers to column 7":   `{"name":"t","collation_id":255,"columns":[` + column + `],"indexes":[{"name":"i","type":3,"elements":[{"column_opx":7}]}]}`,
		"with 7 digits has 0 bytes":    `{"name":"t","collation_id":255,"columns":[{"name":"a","type":18,"hidden":1,"datetime_precision":7}]}`,
	} {
		table, err := document(t, object)
		if err == nil {
			_, err = createtable.FromSDI(table, createtable.Options{Space: &sdi.Tablespace{}})
		}
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%.100s: %v, not %q", object, err, want)
		}
	}
}

// TestOptions: facts that the document does not have are shown as MySQL 9.7.4 does.
func TestOptions(t *testing.T) {
	const object = `{"name":"t","engine":"InnoDB","collation_id":255,"se_private_data":"autoinc=%s;version=0;","options":"encrypt_type=%s;","columns":[{"name":"a","type":4,"hidden":1,"is_auto_increment":true}]}`
	const begin, end = "CREATE TABLE `t` (\n  `a` int NOT NULL AUTO_INCREMENT\n) ENGINE=InnoDB", " DEFAULT CHARSET=utf8mb4 COLLATE=utf8mb4_0900_ai_ci"
	for _, c := range []struct {
		last, encrypted string
		options         createtable.Options
		want            string
	}{
		{"0", "N", createtable.Options{}, end},
		{"99", "N", createtable.Options{}, " AUTO_INCREMENT=100" + end},
		{"99", "N", createtable.Options{AutoIncrement: 1}, end},
		{"99", "N", createtable.Options{AutoIncrement: 1000}, " AUTO_INCREMENT=1000" + end},
		{"18446744073709551615", "N", createtable.Options{}, end},
		{"0", "N", createtable.Options{SchemaEncrypted: true}, end + " ENCRYPTION='N'"},
		{"0", "Y", createtable.Options{SchemaEncrypted: true}, end + " ENCRYPTION='Y'"},
		{"0", "Y", createtable.Options{}, end + " ENCRYPTION='Y'"},
	} {
		table, err := document(t, fmt.Sprintf(object, c.last, c.encrypted))
		if err != nil {
			t.Fatal(err)
		}
		if got, err := createtable.FromSDI(table, c.options); err != nil || got != begin+c.want {
			t.Errorf("%+v: %v\n%s", c, err, got)
		}
	}
}

// TestParse: FULLTEXT indexes and foreign keys are found among texts that look like them.
func TestParse(t *testing.T) {
	const show = "CREATE TABLE `a (\n  FULLTEXT KEY ``x` (\n" +
		"  `CONSTRAINT` text COMMENT 'it''s,\n  FULLTEXT KEY `b` (`c`)\\\\',\n" +
		"  `b` varchar(9) GENERATED ALWAYS AS (concat(_utf8mb4'\\'),\n)',`a`)) VIRTUAL,\n" +
		"  KEY `FOREIGN KEY (` (`b`),\n" +
		"  FULLTEXT KEY `f,\n  g` (`CONSTRAINT`) /*!50100 WITH PARSER `ngram` */ ,\n" +
		"  FULLTEXT KEY `h` (`b`),\n" +
		"  VECTOR KEY `v` (`b`) `M`=5,\n" +
		"  CONSTRAINT `x` FOREIGN KEY (`b`) REFERENCES `t` (`c`) ON DELETE CASCADE,\n" +
		"  CONSTRAINT ` FOREIGN KEY (` CHECK (`b` <> ' FOREIGN KEY (')\n" +
		") ENGINE=InnoDB COMMENT='\n) DATA DIRECTORY=''x'' ' DATA DIRECTORY='/a/it''s' INDEX DIRECTORY='/b'\n" +
		"/*!50100 PARTITION BY HASH (`DATA DIRECTORY = '`)\n(PARTITION p0 MAX_ROWS = 2 DATA DIRECTORY = '/c\\' ' INDEX DIRECTORY = '/d' COMMENT = ' DATA DIRECTORY = ' ENGINE = InnoDB) */"
	s, err := createtable.Parse(show)
	if err != nil {
		t.Fatal(err)
	}
	want := "CREATE TABLE `a (\n  FULLTEXT KEY ``x` (\n" +
		"  `CONSTRAINT` text COMMENT 'it''s,\n  FULLTEXT KEY `b` (`c`)\\\\',\n" +
		"  `b` varchar(9) GENERATED ALWAYS AS (concat(_utf8mb4'\\'),\n)',`a`)) VIRTUAL,\n" +
		"  KEY `FOREIGN KEY (` (`b`),\n" +
		"  CONSTRAINT ` FOREIGN KEY (` CHECK (`b` <> ' FOREIGN KEY (')\n" +
		") ENGINE=InnoDB COMMENT='\n) DATA DIRECTORY=''x'' '\n" +
		"/*!50100 PARTITION BY HASH (`DATA DIRECTORY = '`)\n(PARTITION p0 MAX_ROWS = 2 COMMENT = ' DATA DIRECTORY = ' ENGINE = InnoDB) */"
	if s.Create != want {
		t.Errorf("%s", s.Create)
	}
	if want := []string{"ADD FULLTEXT KEY `f,\n  g` (`CONSTRAINT`) /*!50100 WITH PARSER `ngram` */", "ADD FULLTEXT KEY `h` (`b`)"}; !slices.Equal(s.FullText, want) {
		t.Errorf("%q", s.FullText)
	}
	if want := []string{"ADD CONSTRAINT `x` FOREIGN KEY (`b`) REFERENCES `t` (`c`) ON DELETE CASCADE"}; !slices.Equal(s.Foreign, want) {
		t.Errorf("%q", s.Foreign)
	}
	if want := []string{"ADD VECTOR KEY `v` (`b`) `M`=5"}; !slices.Equal(s.Vector, want) {
		t.Errorf("%q", s.Vector)
	}
	if got, want := s.As("d`b", "n"), strings.Replace(want, "`a (\n  FULLTEXT KEY ``x`", "`d``b`.`n`", 1); got != want {
		t.Errorf("%s", got)
	}
	if got, want := s.As("", "n"), strings.Replace(want, "`a (\n  FULLTEXT KEY ``x`", "`n`", 1); got != want {
		t.Errorf("%s", got)
	}
	for _, bad := range []string{"", "CREATE TABLE", "CREATE TABLE `a", "CREATE TABLE `a`", "CREATE TABLE `a` (", "CREATE TABLE `a` (\n  ", "CREATE TABLE `a` (\n  `b` int", "CREATE TABLE `a` (\n  `b` int\n",
		"CREATE TABLE `a` (\n  `b` int)\n)", "CREATE TABLE `a` (\n  `b` enum('\n)", "CREATE VIEW `a` (\n  `b` int\n)", "CREATE TABLE `a` (\n  FULLTEXT KEY `b` (`c`)\n)", "CREATE TABLE `a` (\n  `b` int(\n)"} {
		if s, err := createtable.Parse(bad); err == nil {
			t.Errorf("%q: %+v", bad, s)
		}
	}
}

// TestSetRowFormat: the format is replaced, or added where it is not the default.
func TestSetRowFormat(t *testing.T) {
	const begin = "CREATE TABLE `a` (\n  `b` int COMMENT ' ROW_FORMAT=COMPACT'\n) ENGINE=InnoDB"
	for _, c := range []struct{ options, format, want string }{
		{"", "DYNAMIC", ""},
		{"", "COMPACT", " ROW_FORMAT=COMPACT"},
		{" ROW_FORMAT=COMPRESSED KEY_BLOCK_SIZE=8", "COMPACT", " ROW_FORMAT=COMPACT KEY_BLOCK_SIZE=8"},
		{" ROW_FORMAT=COMPACT", "DYNAMIC", " ROW_FORMAT=DYNAMIC"},
		{" COMMENT='\n ROW_FORMAT=COMPACT'", "REDUNDANT", " COMMENT='\n ROW_FORMAT=COMPACT' ROW_FORMAT=REDUNDANT"},
		{" COMMENT='x'\n/*!50100 PARTITION BY HASH (`b`)\nPARTITIONS 2 */", "COMPACT", " COMMENT='x' ROW_FORMAT=COMPACT\n/*!50100 PARTITION BY HASH (`b`)\nPARTITIONS 2 */"},
	} {
		s, err := createtable.Parse(begin + c.options)
		if err != nil {
			t.Fatal(err)
		}
		if s.SetRowFormat(c.format, "DYNAMIC"); s.Create != begin+c.want {
			t.Errorf("%+v: %s", c, s.Create)
		}
	}
}

// FuzzFromSDI: no document makes hb panic, or a statement that is longer than its bound.
func FuzzFromSDI(f *testing.F) {
	list, err := sdi.Read(innodbtest.ReadStored(f, "../innodb/sdi/testdata/mysql97-wide.ibd.gz"))
	if err != nil {
		f.Fatal(err)
	}
	var whole struct {
		Object json.RawMessage `json:"dd_object"`
	}
	if err := json.Unmarshal(list[0].JSON, &whole); err != nil {
		f.Fatal(err)
	}
	f.Add([]byte(whole.Object))
	for kind := range 33 {
		f.Add(fmt.Appendf(nil, `{"name":"t","engine":"InnoDB","collation_id":8,"columns":[{"name":"a","type":%d,"hidden":1,"collation_id":56,"char_length":300,"default_value":"AgBhYmM=","default_value_utf8":"a?","elements":[{"name":"YQ=="}],"options":"geom_type=1;"}],`+
			`"indexes":[{"name":"i","type":3,"elements":[{"column_opx":0,"length":3}]}],"foreign_keys":[{"name":"f","delete_rule":1,"update_rule":2,"elements":[{"column_opx":0}]}],"check_constraints":[{"name":"c","state":1,"check_clause":"YQ=="}],`+
			`"partition_type":%d,"subpartition_type":%d,"default_partitioning":1,"default_subpartitioning":3,"partition_expression":"a;b","partitions":[{"name":"p","values":[{"value_utf8":"1"}],"subpartitions":[{"name":"s"}]}]}`, kind, kind%11, kind%7))
	}
	f.Fuzz(func(t *testing.T, object []byte) {
		table, err := document(t, string(object))
		if err != nil {
			return
		}
		got, err := createtable.FromSDI(table, createtable.Options{})
		if err != nil {
			return
		}
		if len(got) > 64<<20 {
			t.Errorf("%d bytes", len(got))
		}
		_, _ = createtable.Parse(got)
	})
}

// FuzzParse: what Parse takes apart it has whole: the parts are those of the statement.
func FuzzParse(f *testing.F) {
	f.Add("CREATE TABLE `a` (\n  `b` int,\n  FULLTEXT KEY `c` (`b`),\n  CONSTRAINT `x` FOREIGN KEY (`b`) REFERENCES `t` (`c`)\n) ENGINE=InnoDB")
	f.Add("CREATE TABLE `a` (\n  `b` varchar(9) DEFAULT 'x''\\'',\n  KEY `c` (`b`(3))\n)")
	f.Fuzz(func(t *testing.T, show string) {
		s, err := createtable.Parse(show)
		if err != nil {
			return
		}
		n := len(s.Create)
		for _, part := range slices.Concat(s.FullText, s.Vector, s.Foreign) {
			n += len(part) - len("ADD ") + len(",\n  ")
		}
		if n > len(show) || n < len(show)-strings.Count(show, " ") && !strings.Contains(show, " DIRECTORY") {
			t.Errorf("%q: %d bytes of %d: %+v", show, n, len(show), s)
		}
		again, err := createtable.Parse(s.Create)
		if err != nil || again.Create != s.Create || len(again.FullText)+len(again.Vector)+len(again.Foreign) != 0 {
			t.Errorf("%q: %v: %+v", s.Create, err, again)
		}
	})
}
