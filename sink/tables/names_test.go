package tables

import (
	"errors"
	"slices"
	"testing"

	"hb/stream"
)

// TestParseNames: names are those of SQL, in backquotes if they have dots or backquotes.
func TestParseNames(t *testing.T) {
	for text, want := range map[string]Name{
		"shop.orders": {"shop", "orders"}, "shop.my-table": {"shop", "my-table"}, "`my.db`.`t`": {"my.db", "t"},
		"a.`b``c.d`": {"a", "b`c.d"}, "`a b`.ä": {"a b", "ä"},
	} {
		got, err := ParseNames([]string{text}, nil)
		if err != nil || !slices.Equal(got, []Name{want}) {
			t.Errorf("%s: %q, %v", text, got, err)
		}
	}
	if got, err := ParseNames(nil, []string{"shop", "`a.b`"}); err != nil || !slices.Equal(got, []Name{{Database: "shop"}, {Database: "a.b"}}) {
		t.Errorf("%q, %v", got, err)
	}
	for _, text := range []string{"", "orders", ".orders", "shop.", "a.b.c", "`a.b", "``.b", "a.``", "`a`b.c"} {
		if got, err := ParseNames([]string{text}, nil); err == nil {
			t.Errorf("%s: %q", text, got)
		} else if _, usage := errors.AsType[*stream.UsageError](err); !usage {
			t.Errorf("%s: %v", text, err)
		}
	}
	for _, text := range []string{"", "a.b", "`a`b"} {
		if got, err := ParseNames(nil, []string{text}); err == nil {
			t.Errorf("%s: %q", text, got)
		}
	}
}

// TestOwner: which table the files of databases are of.
func TestOwner(t *testing.T) {
	for file, want := range map[string]Name{
		"d/t.ibd": {"d", "t"}, "d/t#P#p0.ibd": {"d", "t"}, "d/t#p#p0#sp#s1.ibd": {"d", "t"}, "d/t#i#01.ibd": {"d", "t"},
		"d/t.frm": {"d", "t"}, "d/t.MYD": {"d", "t"}, "d/t_366.sdi": {"d", "t"}, "d/t_1_366.sdi": {"d", "t_1"}, "d/t.TRG": {"d", "t"},
		"o@002dd/my@002dt.ibd": {"o@002dd", "my@002dt"}, "d/db.opt": {"d", ""}, "d/FTS_SHOP.ibd": {"d", "FTS_SHOP"},
		"d/t.new": {"d", "t"}, "d/t.ibd.new": {"d", "t"},
	} {
		if got, ok := owner(file); !ok || got != want {
			t.Errorf("%s: %q, %v", file, got, ok)
		}
	}
	for _, file := range []string{"t.ibd", "ibdata1", "d/#sql-1_2.ibd", "d/FTS_00000000000004a1_CONFIG.ibd", "d/fts_00000000000004a1_0000000000000123_index_1.ibd", "d/e/t.ibd"} {
		if got, ok := owner(file); ok {
			t.Errorf("%s: %q", file, got)
		}
	}
}

// TestEnds: tables change their names in a circle, one is dropped and made again.
func TestEnds(t *testing.T) {
	e, err := readEnds(map[string][]byte{"d/a.ren": []byte("d/b\n"), "d/b.ren": []byte("o/a"), "d/gone.del": nil, "g.ren": []byte("h")})
	if err != nil {
		t.Fatal(err)
	}
	for file, want := range map[string]string{"d/a.ibd": "d/b.ibd", "d/b.ibd": "o/a.ibd", "d/gone.ibd": "", "d/c.ibd": "d/c.ibd", "d/a.frm": "d/a.frm", "d/gone.frm": "d/gone.frm", "g.ibd": "h.ibd", "ibdata1": "ibdata1"} {
		if got := e.of(file); got != want {
			t.Errorf("%s: %q, not %q", file, got, want)
		}
	}
	if _, err := readEnds(map[string][]byte{"d/a.ren": []byte("../..")}); err == nil {
		t.Error("a name that leads outside is taken")
	}
}
