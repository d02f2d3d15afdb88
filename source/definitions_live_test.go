package source_test

import (
	"context"
	"database/sql"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"hb/source"
	"hb/source/mysqld/mysqldtest"
	"hb/xbstream/metadata"
)

// answer runs SHOW CREATE, and returns the columns by name.
func answer(t *testing.T, c *sql.Conn, query string) map[string]string {
	t.Helper()
	rows, err := c.QueryContext(t.Context(), query)
	if err != nil {
		return map[string]string{"error": err.Error()}
	}
	defer rows.Close()
	columns, err := rows.Columns()
	if err != nil {
		t.Fatal(err)
	}
	cells := make([]sql.NullString, len(columns))
	into := make([]any, len(columns))
	for i := range cells {
		into[i] = &cells[i]
	}
	for rows.Next() {
		if err := rows.Scan(into...); err != nil {
			t.Fatal(err)
		}
	}
	out := make(map[string]string)
	for i, name := range columns {
		out[name] = cells[i].String
	}
	return out
}

// nextValue is what hb leaves out of a table's definition.
var nextValue = regexp.MustCompile("(\n\\) ENGINE=[A-Za-z]+) AUTO_INCREMENT=[0-9]+")

// shown asks a server for the definitions of all objects of the users' databases.
func shown(t *testing.T, s *mysqldtest.Server) map[string]map[string]string {
	t.Helper()
	c := s.Conn(t)
	if _, err := c.ExecContext(t.Context(), "SET time_zone = '+00:00', sql_mode = ''"); err != nil {
		t.Fatal(err)
	}
	const users = " NOT IN ('mysql', 'sys', 'information_schema', 'performance_schema')"
	out := make(map[string]map[string]string)
	add := func(kind, db, name string) {
		full := "`" + db + "`"
		if name != "" {
			full += ".`" + strings.ReplaceAll(name, "`", "``") + "`"
		}
		out[kind+" "+db+"."+name] = answer(t, c, "SHOW CREATE "+strings.ToUpper(kind)+" "+full)
	}
	for _, row := range s.Rows(t, "SELECT SCHEMA_NAME FROM information_schema.SCHEMATA WHERE SCHEMA_NAME"+users) {
		add("database", row[0], "")
	}
	for _, row := range s.Rows(t, "SELECT TABLE_SCHEMA, TABLE_NAME, TABLE_TYPE FROM information_schema.TABLES WHERE TABLE_SCHEMA"+users) {
		switch row[2] {
		case "VIEW":
			add("view", row[0], row[1])
		case "SEQUENCE":
			add("sequence", row[0], row[1])
		default:
			if s.Root.MariaDB() || !s.Root.AtLeast(8, 0) {
				add("table", row[0], row[1])
			}
		}
	}
	for _, row := range s.Rows(t, "SELECT TRIGGER_SCHEMA, TRIGGER_NAME FROM information_schema.TRIGGERS WHERE TRIGGER_SCHEMA"+users) {
		add("trigger", row[0], row[1])
	}
	for _, row := range s.Rows(t, "SELECT ROUTINE_SCHEMA, ROUTINE_NAME, ROUTINE_TYPE FROM information_schema.ROUTINES WHERE ROUTINE_SCHEMA"+users) {
		add(strings.ToLower(row[2]), row[0], row[1])
	}
	for _, row := range s.Rows(t, "SELECT EVENT_SCHEMA, EVENT_NAME FROM information_schema.EVENTS WHERE EVENT_SCHEMA"+users) {
		add("event", row[0], row[1])
	}
	return out
}

// textOf is the statement in SHOW CREATE's answer.
func textOf(row map[string]string) string {
	for name, value := range row {
		if strings.HasPrefix(name, "Create ") || name == "SQL Original Statement" {
			return value
		}
	}
	return ""
}

// recordedIn reads what is recorded in a restored directory.
func recordedIn(t *testing.T, dir string) map[string]*metadata.Definition {
	t.Helper()
	f, err := os.Open(filepath.Join(dir, metadata.DefinitionsName))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	out := make(map[string]*metadata.Definition)
	if _, err := metadata.EachDefinition(f, func(d *metadata.Definition) error {
		key := fmt.Sprintf("%s %s.%s", d.Kind, d.Database, d.Name)
		if out[key] != nil {
			t.Errorf("%s is recorded twice", key)
		}
		out[key] = d
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	return out
}

// compareDefinitions compares what is recorded with what the restored server shows, and
// returns how many definitions are equal and how many missing.
func compareDefinitions(t *testing.T, recorded map[string]*metadata.Definition, shown map[string]map[string]string) (equal, missing int) {
	t.Helper()
	for name, row := range shown {
		d := recorded[name]
		switch {
		case d == nil || d.Missing != "":
			missing++
			if d != nil {
				t.Logf("%s: %s", name, d.Missing)
			} else {
				t.Logf("%s is not recorded", name)
			}
			continue
		case d.Text() != nextValue.ReplaceAllString(textOf(row), "$1") || d.Text() == "":
			t.Errorf("%s is recorded as\n%s\nand the restored server shows\n%v", name, d.Text(), row)
		case d.SQLMode != row["sql_mode"] || d.CharacterSetClient != row["character_set_client"] || d.CollationConnection != row["collation_connection"] ||
			d.DatabaseCollation != row["Database Collation"] || d.TimeZone != row["time_zone"]:
			t.Errorf("%s is recorded with %+v, and the restored server shows %v", name, d, row)
		}
		equal++
	}
	for name, d := range recorded {
		if shown[name] == nil && d.Missing == "" {
			t.Errorf("%s is recorded, and the restored server has none: %s", name, d.Text())
		}
	}
	return equal, missing
}

// kindsOf makes objects of every kind, and of odd names.
func kindsOf(t *testing.T, s *mysqldtest.Server) {
	t.Helper()
	c := s.Conn(t)
	run := func(statements ...string) {
		t.Helper()
		for _, q := range statements {
			if _, err := c.ExecContext(t.Context(), q); err != nil {
				t.Fatalf("%s: %v", q, err)
			}
		}
	}
	run("SET NAMES utf8mb4", "SET time_zone = '+05:00'", "CREATE DATABASE d CHARACTER SET utf8", "CREATE DATABASE `d-é` CHARACTER SET latin1 COLLATE latin1_bin", "CREATE DATABASE nothing",
		"CREATE TABLE d.parent (id INT PRIMARY KEY, a INT, UNIQUE KEY (a)) ENGINE=InnoDB",
		"CREATE TABLE d.child (id INT PRIMARY KEY AUTO_INCREMENT, p INT, CONSTRAINT fk FOREIGN KEY (p) REFERENCES d.parent (a) ON DELETE CASCADE) ENGINE=InnoDB COMMENT='x AUTO_INCREMENT=7 it''s'",
		"INSERT INTO d.child (p) VALUES (NULL), (NULL)",
		"CREATE TABLE d.stamps (id INT PRIMARY KEY, at TIMESTAMP NULL DEFAULT '2020-01-01 00:00:00', e ENUM('a''b', 'c\\\\d') DEFAULT 'a''b', `odd ``name` TEXT) ENGINE=InnoDB ROW_FORMAT=COMPRESSED KEY_BLOCK_SIZE=8",
		"CREATE TABLE d.parts (id INT PRIMARY KEY, v INT) ENGINE=InnoDB PARTITION BY RANGE (id) (PARTITION p0 VALUES LESS THAN (100), PARTITION p1 VALUES LESS THAN MAXVALUE)",
		"CREATE TABLE d.my (id INT PRIMARY KEY AUTO_INCREMENT, t TEXT, FULLTEXT (t)) ENGINE=MyISAM", "CREATE TABLE d.csv (a INT NOT NULL) ENGINE=CSV", "CREATE TABLE d.mem (a INT) ENGINE=MEMORY",
		"CREATE TABLE `d-é`.`a b-ü#` (a INT PRIMARY KEY) ENGINE=InnoDB", "CREATE TABLE `d-é`.`表` (a INT PRIMARY KEY) ENGINE=InnoDB",
		"CREATE VIEW d.v AS SELECT id, 'é' AS l FROM d.parent WITH CHECK OPTION", "CREATE ALGORITHM=MERGE SQL SECURITY INVOKER VIEW `d-é`.`v ü` AS SELECT v.id FROM d.v, d.child",
		"CREATE TRIGGER d.tb BEFORE INSERT ON d.parent FOR EACH ROW SET NEW.a = 1", "CREATE TRIGGER d.ta AFTER INSERT ON d.parent FOR EACH ROW SET @x = 'é'",
		"CREATE TRIGGER `d-é`.`t ü` BEFORE DELETE ON `d-é`.`a b-ü#` FOR EACH ROW SET @a = 1",
		"SET sql_mode = 'ANSI_QUOTES,PIPES_AS_CONCAT'", "CREATE PROCEDURE d.p(IN a INT, OUT b VARCHAR(10) CHARACTER SET latin1) COMMENT 'it''s' SELECT a || 'x' INTO b", "SET sql_mode = ''",
		"CREATE FUNCTION d.f(a INT) RETURNS VARCHAR(20) CHARACTER SET latin1 DETERMINISTIC SQL SECURITY INVOKER RETURN CONCAT(a, 'ü')",
		"CREATE PROCEDURE `d-é`.`p ü`() BEGIN SELECT 1; SELECT 2; END",
		"CREATE EVENT d.e ON SCHEDULE EVERY 1 DAY STARTS '2030-01-01 00:00:00' DISABLE COMMENT 'é' DO SELECT 1", "CREATE EVENT d.later ON SCHEDULE AT '2030-06-01 12:00:00' ON COMPLETION PRESERVE DO BEGIN SET @a = 1; END",
		"CREATE USER who@localhost", "CREATE DEFINER=who@localhost PROCEDURE d.whose() SELECT 1", "CREATE DEFINER=who@localhost VIEW d.whose AS SELECT 1 AS a")
	if s.Root.MariaDB() {
		run("CREATE SEQUENCE d.s START WITH 5 INCREMENT BY 3 MAXVALUE 1000 CACHE 7", "CREATE TABLE d.aria (a INT) ENGINE=Aria", "CREATE TABLE d.versioned (a INT) WITH SYSTEM VERSIONING",
			"CREATE TABLE d.times (a INT) WITH SYSTEM VERSIONING PARTITION BY SYSTEM_TIME INTERVAL 1 DAY STARTS '2030-01-01 00:00:00' (PARTITION p0 HISTORY, PARTITION pn CURRENT)",
			"SET sql_mode = ORACLE", "CREATE PACKAGE d.pk AS FUNCTION ff RETURN INT; END", "CREATE PACKAGE BODY d.pk AS FUNCTION ff RETURN INT AS BEGIN RETURN 1; END; END", "SET sql_mode = ''",
			"CREATE AGGREGATE FUNCTION d.agg(x INT) RETURNS INT BEGIN DECLARE CONTINUE HANDLER FOR NOT FOUND RETURN 1; LOOP FETCH GROUP NEXT ROW; END LOOP; END",
			"SET character_set_client = latin1", "CREATE PROCEDURE d.latin() SELECT '\xe9'", "SET NAMES utf8mb4")
	}
	if !s.Root.MariaDB() {
		run("CREATE TABLE d.arch (a INT) ENGINE=ARCHIVE")
	}
	if s.Root.AtLeast(5, 7) {
		run("CREATE TRIGGER d.tfirst BEFORE INSERT ON d.parent FOR EACH ROW PRECEDES tb SET @first = 1", "CREATE TABLE d.gen (a INT, b INT AS (a + 1) STORED) ENGINE=InnoDB")
	}
	settle()
}

// TestDefinitions: the definition of every object is recorded as the restored server shows it.
func TestDefinitions(t *testing.T) {
	mysqldtest.EachServer(t, allServers(), mysqldtest.Options{}, func(t *testing.T, s *mysqldtest.Server) {
		kindsOf(t, s)
		archive, target := filepath.Join(t.TempDir(), "archive"), filepath.Join(t.TempDir(), "restored")
		r, err := backupSome(t, s, archive, source.Options{}, nil)
		if err != nil {
			t.Fatal(err)
		}
		for _, l := range r.Locks {
			t.Logf("%s: held %v", l.Lock, l.Held)
		}
		for _, w := range r.Manifest.Warnings {
			if strings.Contains(w, "definition") {
				t.Errorf("warning: %s", w)
			}
		}
		applied(t, archive, target)
		recorded := recordedIn(t, target)
		restored := mysqldtest.StartOn(t, s.Root, target, mysqldtest.Options{})
		equal, missing := compareDefinitions(t, recorded, shown(t, restored))
		t.Logf("%d definitions", equal)
		if missing > 0 || equal < 15 || len(recorded) != equal {
			t.Errorf("%d definitions are equal, %d missing, %d recorded", equal, missing, len(recorded))
		}
		if d := recorded["trigger d.tb"]; d == nil || d.Table != "parent" || s.Root.AtLeast(5, 7) && d.Order != 2 {
			t.Errorf("the second trigger: %+v", d)
		}
	})
}

// storm changes definitions until stop is called.
func storm(t *testing.T, s *mysqldtest.Server) (stop func()) {
	ctx, cancel := context.WithCancel(t.Context())
	var workers sync.WaitGroup
	n := func(r *rand.Rand) int { return r.IntN(6) }
	steps := []func(r *rand.Rand) []string{
		func(r *rand.Rand) []string {
			return []string{fmt.Sprintf("ALTER TABLE d.t%d COMMENT 'c%d'", n(r), r.Uint32())}
		},
		func(r *rand.Rand) []string {
			a := n(r)
			return []string{fmt.Sprintf("RENAME TABLE d.t%d TO d.swap, d.t%d TO d.t%d, d.swap TO d.t%d", a, (a+1)%6, a, (a+1)%6)}
		},
		func(r *rand.Rand) []string {
			a := n(r)
			return []string{fmt.Sprintf("DROP TABLE d.t%d", a), fmt.Sprintf("CREATE TABLE d.t%d (id INT PRIMARY KEY, c%d INT) ENGINE=%s", a, r.Uint32(), []string{"InnoDB", "MyISAM"}[r.IntN(2)])}
		},
		func(r *rand.Rand) []string {
			return []string{fmt.Sprintf("CREATE OR REPLACE VIEW d.v%d AS SELECT %d AS a", n(r), r.Uint32())}
		},
		func(r *rand.Rand) []string { // two that differ only in this
			return []string{fmt.Sprintf("ALTER ALGORITHM=%s VIEW d.w AS SELECT id FROM d.parent", []string{"MERGE", "TEMPTABLE", "UNDEFINED"}[r.IntN(3)])}
		},
		func(r *rand.Rand) []string { // changes the definition of the child, and not its file
			return []string{"RENAME TABLE d.parent TO d.parent2", "RENAME TABLE d.parent2 TO d.parent"}
		},
		func(r *rand.Rand) []string {
			a := n(r)
			return []string{fmt.Sprintf("DROP TRIGGER IF EXISTS d.g%d", a), fmt.Sprintf("CREATE TRIGGER d.g%d BEFORE INSERT ON d.fixed FOR EACH ROW SET @x = %d", a, r.Uint32())}
		},
		func(r *rand.Rand) []string {
			a := n(r)
			return []string{fmt.Sprintf("DROP PROCEDURE IF EXISTS d.q%d", a), fmt.Sprintf("CREATE PROCEDURE d.q%d(a%d INT) SELECT %d", a, r.Uint32(), r.Uint32())}
		},
		func(r *rand.Rand) []string {
			a := n(r)
			return []string{fmt.Sprintf("DROP EVENT IF EXISTS d.e%d", a), fmt.Sprintf("CREATE EVENT d.e%d ON SCHEDULE EVERY %d HOUR DISABLE DO SELECT 1", a, 1+r.IntN(1000))}
		},
		func(r *rand.Rand) []string {
			return []string{fmt.Sprintf("ALTER DATABASE d CHARACTER SET %s", []string{"latin1", "utf8mb4"}[r.IntN(2)])}
		},
		func(r *rand.Rand) []string {
			return []string{fmt.Sprintf("ALTER SEQUENCE d.sq MAXVALUE %d", 1000+r.IntN(100000))}
		},
	}
	if !s.Root.MariaDB() {
		steps = steps[:len(steps)-1]
	}
	for i, step := range steps {
		c := s.Conn(t)
		workers.Go(func() {
			random := rand.New(rand.NewPCG(uint64(i), 19))
			for ctx.Err() == nil {
				for _, q := range step(random) {
					_, _ = c.ExecContext(context.WithoutCancel(ctx), q) // others drop and make the same objects
				}
				time.Sleep(time.Duration(random.IntN(60)) * time.Millisecond)
			}
		})
	}
	return func() {
		cancel()
		workers.Wait()
	}
}

// TestDefinitionsStorm: whatever is recorded while DDL changes everything is what the restored
// server shows.
func TestDefinitionsStorm(t *testing.T) {
	mysqldtest.EachServer(t, allServers(), mysqldtest.Options{}, func(t *testing.T, s *mysqldtest.Server) {
		s.Exec(t, "CREATE DATABASE d", "CREATE TABLE d.fixed (id INT PRIMARY KEY) ENGINE=InnoDB",
			"CREATE TABLE d.parent (id INT PRIMARY KEY) ENGINE=InnoDB", "CREATE TABLE d.child (id INT PRIMARY KEY, FOREIGN KEY (id) REFERENCES d.parent (id)) ENGINE=InnoDB",
			"CREATE VIEW d.w AS SELECT id FROM d.parent")
		for i := range 6 {
			s.Exec(t, fmt.Sprintf("CREATE TABLE d.t%d (id INT PRIMARY KEY) ENGINE=InnoDB", i))
		}
		if s.Root.MariaDB() {
			s.Exec(t, "CREATE SEQUENCE d.sq")
		}
		rounds := 3
		if mysqldtest.Long() {
			rounds = 20
		}
		equal, missing := 0, 0
		for range rounds {
			stop := storm(t, s)
			archive, target := filepath.Join(t.TempDir(), "archive"), filepath.Join(t.TempDir(), "restored")
			_, err := backupSome(t, s, archive, source.Options{Throttle: 40 << 20}, nil)
			stop()
			if err != nil {
				t.Fatal(err)
			}
			applied(t, archive, target)
			restored := mysqldtest.StartOn(t, s.Root, target, mysqldtest.Options{})
			e, m := compareDefinitions(t, recordedIn(t, target), shown(t, restored))
			equal, missing = equal+e, missing+m
			if err := restored.Kill(); err != nil {
				t.Error(err)
			}
		}
		t.Logf("%d definitions are equal, %d missing", equal, missing)
		if equal < 5*rounds {
			t.Errorf("only %d definitions are equal, and %d missing", equal, missing)
		}
	})
}
