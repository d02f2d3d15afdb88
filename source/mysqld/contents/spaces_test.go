package contents

import (
	"testing"

	"hb/xbstream/innodb"
)

func TestTablespaceRows(t *testing.T) {
	row := func(path, kind, flag, encryption string) map[string]string {
		return map[string]string{"SPACE": "7", "NAME": "n", "PATH": path, "TYPE": kind, "FLAG": flag, "ENCRYPTION": encryption}
	}
	for _, test := range []struct {
		row  map[string]string
		want Tablespace
	}{
		{row("./db/t.ibd", "TABLESPACE", "33", "N"), Tablespace{Path: "/d/data/db/t.ibd", Flags: 33}},
		{row("/x//t.ibd", "TABLESPACE", "8225", ""), Tablespace{Path: "/x/t.ibd", Flags: 8225, Encrypted: true}},
		{row("g.ibd", "TABLESPACE", "2048", "Y"), Tablespace{Path: "/d/data/g.ibd", Flags: 2048, Encrypted: true}},
		{row("./u.ibu", "UNDO LOG", "0", "N"), Tablespace{Path: "/d/undo/u.ibu", Kind: SpaceUndo}},
		{row("./u/undo_001", "UNDO LOG", "0", "N"), Tablespace{Path: "/d/data/u/undo_001", Kind: SpaceUndo}},
		{row("./ibtmp1", "TEMPORARY", "0", ""), Tablespace{Path: "/d/data/ibtmp1", Kind: SpaceTemporary}},
		{row("./db/gone.ibd", "", "0", ""), Tablespace{Path: "/d/data/db/gone.ibd", Discarded: true}},
	} {
		test.want.ID, test.want.Name = innodb.SpaceID(7), "n"
		if got, err := tablespace(test.row, "/d/data", "/d/undo"); err != nil || got != test.want {
			t.Errorf("%+v, %v, want %+v", got, err, test.want)
		}
	}
	bad := row("./db/t.ibd", "TABLESPACE", "33", "N")
	for key, value := range map[string]string{"SPACE": "-1", "FLAG": "x", "PATH": "", "TYPE": "LOG"} {
		r := map[string]string{"SPACE": bad["SPACE"], "NAME": "n", "PATH": bad["PATH"], "TYPE": bad["TYPE"], "FLAG": bad["FLAG"]}
		r[key] = value
		if got, err := tablespace(r, "/d/data", "/d/undo"); err == nil {
			t.Errorf("%s = %q: %+v", key, value, got)
		}
	}
	merged := merge57([]Tablespace{{ID: 0, Kind: SpaceSystem}, {ID: 2}, {ID: 3}}, []Tablespace{{ID: 2}, {ID: 9, Kind: SpaceUndo}})
	if len(merged) != 4 || merged[0].Discarded || merged[1].Discarded || !merged[2].Discarded || merged[3].ID != 9 {
		t.Errorf("%+v", merged)
	}
}
