package restore

import (
	"bytes"
	"errors"
	"strings"
	"testing"

	"hb/sink/export"
	"hb/xbstream/metadata"
)

// TestRefused: tables that would come back as others, or whose names could be more than names in
// a script, are refused.
func TestRefused(t *testing.T) {
	source := func(engine export.Engine, name string) *export.Written {
		return &export.Written{Table: &export.Table{Database: "d", Name: name, Engine: engine}}
	}
	const plain = "CREATE TABLE `t` (\n  `a` int\n) ENGINE=MyISAM"
	for _, test := range []struct {
		what   string
		w      *export.Written
		create string
		to     Name
		ok     bool
	}{
		{"a table", source(export.MyISAM, "t"), plain, Name{}, true},
		{"times of MySQL 5.5", source(export.MyISAM, "t"), "CREATE TABLE `t` (\n  `a` timestamp /* 5.5 binary format */ NULL DEFAULT NULL\n) ENGINE=MyISAM", Name{}, false},
		{"times of MariaDB 5.3", source(export.Archive, "t"), "CREATE TABLE `t` (\n  `a` datetime /* mariadb-5.3 */ DEFAULT NULL\n) ENGINE=ARCHIVE", Name{}, false},
		{"a MERGE table", source(export.Merge, "t"), plain, Name{}, true},
		{"a MERGE table under its own name", source(export.Merge, "t"), plain, Name{"d", "t"}, true},
		{"a MERGE table elsewhere", source(export.Merge, "t"), plain, Name{"e", "t"}, false},
		{"a raw name", source(export.MyISAM, "#mysql50#a-b"), plain, Name{}, true},
		{"a raw name with a line break", source(export.MyISAM, "#mysql50#a\n\\! rm b"), plain, Name{}, false},
		{"a raw name with a quote", source(export.MyISAM, "#mysql50#a'b"), plain, Name{}, false},
	} {
		_, err := New(test.w, test.create, Server{Version: 50729}, test.to)
		if _, refused := errors.AsType[*export.RefusedError](err); refused == test.ok || test.ok && err != nil {
			t.Errorf("%s: %v", test.what, err)
		}
	}
	counts := Source{Written: source(export.InnoDB, "t"), Create: "CREATE TABLE `t` (\n  `a` int NOT NULL AUTO_INCREMENT,\n"}
	if text := Counters([]Source{counts}, Server{Version: 90704}); !strings.Contains(text, "d.t") {
		t.Errorf("%q", text)
	}
	if text := Counters([]Source{counts}, Server{Version: 50729}); text != "" {
		t.Errorf("%q", text)
	}
}

// TestScriptSequences: a table may have values of a sequence by default, so that the sequence must
// be there before. The settings of its definition do not hold for the table.
func TestScriptSequences(t *testing.T) {
	var b bytes.Buffer
	w, err := metadata.NewDefinitionsWriter(&b, metadata.DefinitionsHead{Version: 1, Server: "x"})
	if err != nil {
		t.Fatal(err)
	}
	d := metadata.Definition{Kind: metadata.DefinesSequence, Database: "d", Name: "s", Create: "CREATE SEQUENCE `s` start with 7", CharacterSetClient: "utf8mb4", SQLMode: "ANSI_QUOTES"}
	line, err := d.Line()
	if err == nil {
		err = errors.Join(w.AddLine(line), w.Close())
	}
	if err != nil {
		t.Fatal(err)
	}
	definitions, err := metadata.ReadDefinitions(&b, nil)
	if err != nil {
		t.Fatal(err)
	}
	const create = "CREATE TABLE `t` (\n  `a` int DEFAULT nextval(`d`.`s`)\n) ENGINE=MyISAM"
	server := Server{MariaDB: true, Version: 101100}
	table, err := New(&export.Written{Table: &export.Table{Database: "d", Name: "t", Engine: export.MyISAM}}, create, server, Name{})
	if err != nil {
		t.Fatal(err)
	}
	script, err := Script([]*Table{table}, server, Objects{Definitions: definitions, Databases: []string{"d"}})
	if err != nil {
		t.Fatal(err)
	}
	rest := string(script)
	for _, part := range []string{"CREATE DATABASE", "sql_mode='ANSI_QUOTES'", "CREATE SEQUENCE", "sql_mode=", "CREATE TABLE"} {
		var found bool
		if _, rest, found = strings.Cut(rest, part); !found {
			t.Fatalf("%s is not in its place:\n%s", part, script)
		}
	}
	if n := strings.Count(string(script), "CREATE SEQUENCE"); n != 1 {
		t.Errorf("the sequence is made %d times", n)
	}
}
