package datadir

import (
	"errors"
	"path"
	"strings"
	"testing"

	"hb/xbstream"
	"hb/xbstream/innodb"
)

func TestNameSet(t *testing.T) {
	long := strings.Repeat("x", xbstream.MaxName)
	for _, c := range []struct {
		first, second string
		ok            bool
	}{
		{"a", "b", true}, {"db/a", "db/b", true}, {"db/" + long, long + "/a", true},
		{"a", "a", false}, {"db/a", "db", false}, {"db", "db/a", false}, {"a", "a/b/c", false},
		{"a", "db/" + long + "x", false}, {"a", long + "x/t", false},
	} {
		n := make(NameSet)
		err := errors.Join(n.Add(c.first, "first"), n.Add(c.second, "second"))
		if _, told := errors.AsType[*NameError](err); told == c.ok {
			t.Errorf("%.20s, %.20s: %v", c.first, c.second, err)
		}
	}
}

func TestAliasName(t *testing.T) {
	long := strings.Repeat("@4e2d", 50)
	seen := map[string]bool{long: true}
	for _, name := range []string{"db/t.ibd", "general.ibd", "u1.ibu", "undo001", "db/" + long + ".ibd", long + ".ibu"} {
		if IsNameless(name) || PlainName(name) != name {
			t.Errorf("%s is an alias of %s", name, PlainName(name))
		}
		for _, id := range []innodb.SpaceID{8, 0xFFFFFFEF} {
			for n := 1; n < 12; n++ {
				alias := AliasName(name, id, n)
				if seen[alias] || path.Ext(alias) != path.Ext(name) || path.Dir(alias) != path.Dir(name) || len(path.Base(alias)) > xbstream.MaxName {
					t.Errorf("%s, %d, %d: %s", name, id, n, alias)
				}
				seen[alias] = true
				if nameless := strings.Contains(name, long); IsNameless(alias) != nameless || !nameless && PlainName(alias) != name {
					t.Errorf("%s is an alias of %s", alias, PlainName(alias))
				}
			}
		}
	}
}
