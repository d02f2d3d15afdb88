package restore_test

import (
	"bytes"
	"context"
	"slices"
	"strings"
	"testing"

	"hb/sink/restore"
	"hb/source/mysqld"
	"hb/source/mysqld/login"
	"hb/source/mysqld/mysqldtest"
	"hb/xbstream/metadata"
)

// objects are what has to be made in two databases: za is a view of a view of the other one,
// which comes later.
var objects = []struct {
	kind                  metadata.DefinitionKind
	database, name, table string
	create                string
}{
	{metadata.DefinesFunction, "d", "double", "", "CREATE DEFINER=`root`@`localhost` FUNCTION `double`(a INT) RETURNS int\n    DETERMINISTIC\nRETURN a * 2"},
	{metadata.DefinesProcedure, "d", "p;$$", "", "CREATE DEFINER=`root`@`localhost` PROCEDURE `p;$$`()\nBEGIN SELECT 'x;y'; SELECT 1; END"},
	{metadata.DefinesView, "d", "a", "", "CREATE ALGORITHM=UNDEFINED DEFINER=`root`@`localhost` SQL SECURITY DEFINER VIEW `d`.`a` AS select `e`.`b`.`x` AS `x` from `e`.`b`"},
	{metadata.DefinesView, "e", "b", "", "CREATE ALGORITHM=UNDEFINED DEFINER=`root`@`localhost` SQL SECURITY DEFINER VIEW `e`.`b` AS select `d`.`double`(`d`.`t`.`a`) AS `x` from `d`.`t`"},
	{metadata.DefinesView, "e", "broken", "", "CREATE VIEW `e`.`broken` AS select 1 from `e`.`nothere`"},
	{metadata.DefinesTrigger, "d", "tr", "t", "CREATE DEFINER=`root`@`localhost` TRIGGER `d`.`tr` BEFORE INSERT ON `d`.`t` FOR EACH ROW BEGIN SET NEW.a = NEW.a + 1; END"},
	{metadata.DefinesTrigger, "d", "others", "theirs", "CREATE TRIGGER `d`.`others` BEFORE INSERT ON `d`.`theirs` FOR EACH ROW SET NEW.a = 0"},
	{metadata.DefinesTrigger, "d", "renamed", "was", "CREATE TRIGGER `d`.`renamed` BEFORE INSERT ON `d`.`was` FOR EACH ROW SET NEW.a = 0"},
	{metadata.DefinesEvent, "d", "ev", "", "CREATE DEFINER=`root`@`localhost` EVENT `ev` ON SCHEDULE EVERY 1 YEAR STARTS '2020-01-01 00:00:00' ON COMPLETION NOT PRESERVE ENABLE DO SELECT 1"},
}

// definitionsOf are those, as a backup has them.
func definitionsOf(t *testing.T) *metadata.Definitions {
	t.Helper()
	var b bytes.Buffer
	w, err := metadata.NewDefinitionsWriter(&b, metadata.DefinitionsHead{Version: 1, Server: "x", Lacking: []string{"SHOW VIEW on odd.*"}})
	if err != nil {
		t.Fatal(err)
	}
	for _, o := range objects {
		d := metadata.Definition{Kind: o.kind, Database: o.database, Name: o.name, Table: o.table, Create: o.create, CharacterSetClient: "utf8mb4", CollationConnection: "utf8mb4_general_ci"}
		if o.kind != metadata.DefinesView {
			d.SQLMode, d.DatabaseCollation = "PIPES_AS_CONCAT", "latin1_swedish_ci"
		}
		if o.kind == metadata.DefinesEvent {
			d.TimeZone = "+00:00"
		}
		line, err := d.Line()
		if err != nil {
			t.Fatal(err)
		}
		if err := w.AddLine(line); err != nil {
			t.Fatal(err)
		}
	}
	for _, missing := range []metadata.Definition{{Kind: metadata.DefinesProcedure, Database: "d", Name: "secret", Missing: "no privilege"},
		{Kind: metadata.DefinesTrigger, Database: "d", Name: metadata.AllTriggers, Table: "t", Missing: "it was locked"}} {
		line, err := missing.Line()
		if err != nil {
			t.Fatal(err)
		}
		if err := w.AddLine(line); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	defs, err := metadata.ReadDefinitions(&b, nil)
	if err != nil {
		t.Fatal(err)
	}
	return defs
}

// TestMakeObjects: what databases and tables had besides rows is on the server, and what is not
// is said. A trigger does not come to a table that hb did not bring back.
func TestMakeObjects(t *testing.T) {
	servers := []string{mysqldtest.MySQL56, mysqldtest.MySQL57, mysqldtest.MySQL97, mysqldtest.MariaDB105, mysqldtest.MariaDB118}
	mysqldtest.EachServer(t, servers, mysqldtest.Options{}, func(t *testing.T, s *mysqldtest.Server) {
		s.Exec(t, "CREATE DATABASE d", "CREATE TABLE d.t (a INT)", "CREATE TABLE d.theirs (a INT)", "CREATE TABLE d.now (a INT)")
		session := connectTo(t, s)
		tables := []*restore.Table{{Name: restore.Name{Database: "d", Table: "t"}, Was: restore.Name{Database: "d", Table: "t"}}, {Name: restore.Name{Database: "d", Table: "now"}, Was: restore.Name{Database: "d", Table: "was"}}}
		warnings := restore.MakeObjects(t.Context(), session, tables, restore.Objects{Definitions: definitionsOf(t), Databases: []string{"d", "e"}})
		for _, want := range []string{"view e.broken was not made", "trigger d.others was not made: its table theirs", "trigger d.renamed was not made: it is of table"} {
			if !slices.ContainsFunc(warnings, func(w string) bool { return strings.Contains(w, want) }) {
				t.Errorf("%s: no warning of %q: %q", s.Root.Name, want, warnings)
			}
		}
		// renamed is said twice: of the table, and of the database.
		if len(warnings) != 4 {
			t.Errorf("%s: %d warnings: %q", s.Root.Name, len(warnings), warnings)
		}
		s.Exec(t, "INSERT INTO d.t VALUES (20)", "INSERT INTO d.theirs VALUES (20)", "INSERT INTO d.now VALUES (20)", "CALL d.`p;$$`()")
		for query, want := range map[string]string{"SELECT x FROM d.a": "42", "SELECT a FROM d.theirs": "20", "SELECT a FROM d.now": "20",
			"SELECT CONCAT(EVENT_NAME,SQL_MODE) FROM information_schema.EVENTS WHERE EVENT_SCHEMA='d'":             "evPIPES_AS_CONCAT",
			"SELECT CONCAT(SQL_MODE,DATABASE_COLLATION) FROM information_schema.TRIGGERS WHERE TRIGGER_SCHEMA='d'": "PIPES_AS_CONCATlatin1_swedish_ci"} {
			if got := s.Value(t, query); got != want && !(strings.Contains(query, "DATABASE_COLLATION") && strings.HasPrefix(got, "PIPES_AS_CONCAT")) {
				t.Errorf("%s: %s: %q, not %q", s.Root.Name, query, got, want)
			}
		}
		again := restore.MakeObjects(t.Context(), session, tables, restore.Objects{Definitions: definitionsOf(t), Databases: []string{"d", "e"}})
		if len(again) < 10 { // the same, and each of those that are there
			t.Errorf("%s: objects that are there are made again: %q", s.Root.Name, again)
		}
		ctx, stop := context.WithCancel(t.Context())
		stop()
		if list := restore.MakeObjects(ctx, session, tables, restore.Objects{Definitions: definitionsOf(t), Databases: []string{"d", "e"}}); len(list) < 8 {
			t.Errorf("%s: stopped, it says %q", s.Root.Name, list)
		}
	})
}

// connectTo opens a session as hb does.
func connectTo(t *testing.T, s *mysqldtest.Server) restore.Session {
	t.Helper()
	srv, err := mysqld.Connect(t.Context(), login.Options{Network: "unix", Socket: s.Socket, User: "root"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := srv.Close(); err != nil {
			t.Error(err)
		}
	})
	return srv.Control
}

// TestUnrecorded: what the backup lacks is said, of what was asked for.
func TestUnrecorded(t *testing.T) {
	const lacking = "the account that made the backup lacked SHOW VIEW on odd.*: objects whose definitions need it are not in the backup"
	table := []restore.Name{{Database: "d", Table: "t"}}
	defs := definitionsOf(t)
	for _, c := range []struct {
		objects restore.Objects
		tables  []restore.Name
		want    []string
	}{
		{restore.Objects{Definitions: defs, Databases: []string{"d"}}, table, []string{lacking, "the backup does not have procedure d.secret: no privilege", "the backup does not have trigger d.*: it was locked"}},
		{restore.Objects{Definitions: defs}, table, []string{lacking, "the backup does not have trigger d.*: it was locked"}},
		{restore.Objects{Definitions: defs}, []restore.Name{{Database: "d", Table: "other"}}, []string{lacking}},
		{restore.Objects{}, table, []string{"the backup has no definitions of triggers, views, routines and events: if the tables had triggers, make them again"}},
		{restore.Objects{}, nil, nil},
	} {
		if got := c.objects.Unrecorded(c.tables); !slices.Equal(got, c.want) {
			t.Errorf("%v: %q", c.tables, got)
		}
	}
}
