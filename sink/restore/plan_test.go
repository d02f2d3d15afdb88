package restore

import (
	"errors"
	"strings"
	"testing"

	"hb/sink/export"
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
