package disk

import (
	"errors"
	"testing"
)

func TestCheckWindows(t *testing.T) {
	for _, path := range []string{
		"ibdata1", "db/t#p#p0.ibd", "#innodb_redo/#ib_redo1", "./undo_001", "db@0020x/aux@@@.frm", "db/console.ibd", "db/.hidden", "db/ä.ibd", "com10", "..",
	} {
		if err := checkWindows(path); err != nil {
			t.Error(err)
		}
	}
	for _, path := range []string{
		"a:b", `db\t.ibd`, `..\t`, "db/t?", "*", "a<", "a>", `a"`, "a|b", "a\x1f", "db./t", "db/t.", "db /t", "db/t ", "...",
		"nul", "db/AUX", "db/con.ibd", "Com1.x.y", "lpt³", "prn .frm", "conin$", "db/\xff.ibd",
	} {
		err := checkWindows(path)
		if named, ok := errors.AsType[*NameError](err); !ok || named.Name != path || named.Reason == "" {
			t.Errorf("%q: %v", path, err)
		}
	}
}
