package scope

import (
	"errors"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"hb/stream"
	"hb/xbstream/metadata"
)

func mustCompile(t *testing.T, o Options) *Scope {
	t.Helper()
	s, err := o.Compile()
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// names of files, of three databases and of what is in none.
var files = []string{
	"a/t.ibd", "a/t.frm", "a/t2.ibd", "a/p#P#p0.ibd", "a/p#p#p1#sp#x.ibd", "a/p.frm", "a/db.opt", "a/m_731.sdi", "a/m.MYD",
	"b/t.ibd", "b/x@002dy.ibd", "b/db.opt", "c/t.ibd",
	"ibdata1", "undo_001", "mysql.ibd", "general.ibd", "mysql/user.MAD", "sys/sys_config.ibd", "performance_schema/db.opt",
}

// always are those that every backup has.
var always = files[13:]

// TestHas: the tables that options choose. What is expected is what mariadb-backup 10.11.18
// copies, but for the files of every backup, and for whole tables where it looks at each
// partition (TestPartialPeer asks it).
func TestHas(t *testing.T) {
	a := []string{"a/t.ibd", "a/t.frm", "a/t2.ibd", "a/p#P#p0.ibd", "a/p#p#p1#sp#x.ibd", "a/p.frm", "a/db.opt", "a/m_731.sdi", "a/m.MYD"}
	b := []string{"b/t.ibd", "b/x@002dy.ibd", "b/db.opt"}
	for _, c := range []struct {
		o    Options
		want []string
	}{
		{Options{Databases: []string{"a"}}, a},
		{Options{Databases: []string{" a\tb "}}, slices.Concat(a, b)},
		{Options{Databases: []string{"a", "b"}}, slices.Concat(a, b)},
		{Options{Databases: []string{"a.t b"}}, slices.Concat([]string{"a/t.ibd", "a/t.frm", "a/db.opt"}, b)},
		{Options{Databases: []string{"a.p"}}, []string{"a/p#P#p0.ibd", "a/p#p#p1#sp#x.ibd", "a/p.frm", "a/db.opt"}},
		{Options{Databases: []string{"a.m"}}, []string{"a/m_731.sdi", "a/m.MYD", "a/db.opt"}},
		{Options{Databases: []string{"a a.t"}}, a},
		{Options{DatabasesExclude: []string{"a c"}}, b},
		{Options{DatabasesExclude: []string{"a c b.t"}}, b[1:]},
		{Options{Databases: []string{"a b"}, DatabasesExclude: []string{"a"}}, b},
		{Options{Databases: []string{"b"}, DatabasesExclude: []string{"b.t"}}, b[1:]},
		{Options{Tables: []string{"^a[.]t"}}, append(slices.Clone(a[:3]), "a/db.opt")},
		{Options{Tables: []string{"^a[.]t$,@002d"}}, append(slices.Clone(a[:2]), "a/db.opt", "b/x@002dy.ibd", "b/db.opt")},
		{Options{Tables: []string{"^[ab][.]t$"}, TablesExclude: []string{"^a"}}, []string{"b/t.ibd", "b/db.opt"}},
		{Options{Databases: []string{"a"}, TablesExclude: []string{"[.]p$,2"}}, append(slices.Clone(a[:2]), a[6:]...)},
		{Options{Databases: []string{"a"}, Tables: []string{"^b[.]"}}, a}, // --databases allows only a, and all of it
		{Options{Databases: []string{"b.t"}, Tables: []string{"^b[.]x"}}, b},
		{Options{TablesExclude: []string{"[.]t$"}}, slices.Concat(a[2:], b[1:])},
	} {
		s := mustCompile(t, c.o)
		var got []string
		for _, name := range files {
			if s.Has(name) && !(strings.HasSuffix(name, "/db.opt") && !s.any(name)) {
				got = append(got, name)
			}
		}
		want := append(slices.Clone(c.want), always...)
		slices.Sort(got)
		slices.Sort(want)
		if !slices.Equal(got, want) {
			t.Errorf("%v:\n%q\nwant\n%q", s.Asked(), got, want)
		}
	}
	if s := mustCompile(t, Options{}); s != nil || !s.Has("a/t.ibd") || !s.HasAll("a") || s.NeedsOwners() {
		t.Error("no options leave something out")
	}
}

// any reports whether it has a table of the database of that file, or all of it, as the
// listing of the data directory asks.
func (s *Scope) any(name string) bool {
	db := filepath.Dir(name)
	return s.HasAll(db) || slices.ContainsFunc(files, func(f string) bool {
		_, table := TableOf(f)
		return filepath.Dir(f) == db && table != "" && s.Has(f)
	})
}

// TestAuxiliary: FULLTEXT auxiliary tables go with their table.
func TestAuxiliary(t *testing.T) {
	s := mustCompile(t, Options{Databases: []string{"a"}, TablesExclude: []string{"^a[.]left$"}})
	if !s.NeedsOwners() || mustCompile(t, Options{Databases: []string{"a"}}).NeedsOwners() {
		t.Error("owners are needed where tables are chosen")
	}
	s.SetOwners(map[uint64]string{0x4a: "a/t", 0x4b: "a/left", 0x4c: "b/t"})
	for name, want := range map[string]bool{
		"a/FTS_000000000000004a_CONFIG.ibd": true, "a/fts_000000000000004a_being_deleted.ibd": true, "a/FTS_000000000000004a_0000000000000063_INDEX_1.ibd": true,
		"a/FTS_000000000000004b_CONFIG.ibd": false, "b/FTS_000000000000004c_CONFIG.ibd": false,
		"a/FTS_00000000000000ff_CONFIG.ibd": true, "b/FTS_00000000000000ff_CONFIG.ibd": false, // of a table that nobody knows yet
	} {
		if got := s.Has(name); got != want {
			t.Errorf("%s: %v", name, got)
		}
	}
	some := mustCompile(t, Options{Tables: []string{"^a[.]t$"}})
	some.SetOwners(nil)
	if name := "a/FTS_00000000000000ff_CONFIG.ibd"; some.Has(name) {
		t.Errorf("%s is in, in a database of which there is one table", name)
	}
}

// TestParts: the files of partitions and of vector indexes go with their table, and a user's
// table that is called like an auxiliary one is a table.
func TestParts(t *testing.T) {
	s := mustCompile(t, Options{Tables: []string{"^a[.](t|p|FTS.*mine)$"}})
	s.SetOwners(nil)
	for name, want := range map[string]bool{
		"a/t#i#00.ibd": true, "a/t#i#01.MYD": true, "a/t2#i#00.ibd": false, "b/t#i#00.ibd": false, "a/p#P#p0.ibd": true, "a/p2#p#p0.ibd": false,
		"a/FTS_00000000000000ff_mine.ibd": true, "a/FTS_00000000000000ff_mine.frm": true, "b/FTS_00000000000000ff_mine.ibd": false,
	} {
		if got := s.Has(name); got != want {
			t.Errorf("%s: %v", name, got)
		}
	}
}

// TestMistakes: options that name nothing, or nothing that could be there.
func TestMistakes(t *testing.T) {
	list := filepath.Join(t.TempDir(), "list")
	for _, c := range []struct {
		o    Options
		file string
		says string
	}{
		{Options{Databases: []string{" "}}, "", "--databases names nothing"},
		{Options{Databases: []string{"a.b.c"}}, "", "neither db nor db.table"},
		{Options{Databases: []string{".t"}}, "", "neither db nor db.table"},
		{Options{Databases: []string{"a/b"}}, "", "neither db nor db.table"},
		{Options{Databases: []string{"a-b"}}, "", "my@002dtable"},
		{Options{Databases: []string{"a,b"}}, "", "my@002dtable"},
		{Options{DatabasesExclude: []string{"mysql"}}, "", "a server needs the database mysql"},
		{Options{DatabasesExclude: []string{"sys.sys_config"}}, "", "a server needs the database sys"},
		{Options{Tables: []string{","}}, "", "--tables has no pattern"},
		{Options{TablesFile: list}, "a.t\nb\n", `"b" names no table`},
		{Options{TablesFile: list}, "\n\n", "names nothing"},
		{Options{TablesFile: list}, strings.Repeat("a.t\n", metadata.MaxScopeText/4+1), "more than"},
		{Options{TablesFile: filepath.Join(t.TempDir(), "none")}, "", "no such file"},
	} {
		if c.file != "" {
			if err := os.WriteFile(list, []byte(c.file), 0o644); err != nil {
				t.Fatal(err)
			}
		}
		s, err := c.o.Compile()
		if _, usage := errors.AsType[*stream.UsageError](err); !usage || !strings.Contains(err.Error(), c.says) {
			t.Errorf("%+v: %v, %v", c.o, s.Asked(), err)
		}
	}
	if err := os.WriteFile(list, []byte("a.t\r\n\nb.u"), 0o644); err != nil {
		t.Fatal(err)
	}
	s := mustCompile(t, Options{TablesFile: list})
	if !s.Has("a/t.ibd") || !s.Has("b/u.ibd") || s.Has("a/u.ibd") {
		t.Errorf("a list of tables: %v", s.Asked())
	}
}

// TestCheck: what an option names must be there, and what a pattern is for.
func TestCheck(t *testing.T) {
	c := ContentsOf([]string{"shop", "stock", "mysql"}, slices.Values([]string{"shop/orders.ibd", "shop/parts#P#p0.ibd", "stock/items.frm", "mysql/user.frm", "shop/db.opt",
		"shop/FTS_000000000000004a_CONFIG.ibd", "shop/#sql-1.ibd"}))
	for _, test := range []struct {
		o    Options
		gone bool
		says string
	}{
		{Options{Databases: []string{"shop stock.items"}, TablesExclude: []string{"[.]orders$"}}, false, ""},
		{Options{Databases: []string{"shop.parts"}}, false, ""},
		{Options{Databases: []string{"shp"}}, false, "--databases: the server has no database shp. Did you mean shop?"},
		{Options{DatabasesExclude: []string{"stok"}}, false, "--databases-exclude: the server has no database stok. Did you mean stock?"},
		{Options{Databases: []string{"shop.order"}}, false, "the server has no table shop.order. Did you mean shop.orders?"},
		{Options{Tables: []string{"^shop[.]x"}}, false, "--tables: no table matches"},
		{Options{Tables: []string{"#P#"}}, false, "--tables: no table matches"},
		{Options{Tables: []string{"FTS_"}}, false, "--tables: no table matches"},
		{Options{TablesExclude: []string{"[.]user$"}}, false, "--tables-exclude: no table matches"},
		{Options{Databases: []string{"shop.order"}}, true, "the table shop.order, which --databases names, was dropped or renamed during the backup"},
		{Options{DatabasesExclude: []string{"stok"}, TablesExclude: []string{"x"}}, true, ""},
	} {
		err := mustCompile(t, test.o).Check(c, test.gone)
		if (err == nil) != (test.says == "") || err != nil && !strings.Contains(err.Error(), test.says) {
			t.Errorf("%+v: %v", test.o, err)
		}
	}
}

// TestPatternsRefused: what POSIX's expressions and Go's do not both mean.
func TestPatternsRefused(t *testing.T) {
	for _, p := range []string{`\d`, `\w+`, `\bt`, `t\>`, `(?i)t`, `(?:t)`, `a*?`, `a+?`, `a**`, `*a`, `(*a)`, `a|*b`, `^*`, `a{,3}`, `a{`, `{2}`, `a{1`, `[\.]`, `[\d]`, `[a`, `[[.a.]]`, `[[=a=]]`, `(a`, `a)`, `ä`, `\`,
		`[b-a]`, `[[:word:]]x{2000}`} {
		if re, err := compile("--tables", p); err == nil {
			t.Errorf("%s was accepted as %v", p, re)
		} else if _, ok := errors.AsType[*PatternError](err); !ok {
			t.Errorf("%s: %v", p, err)
		}
	}
}

// TestPatterns compares what patterns match with the C library, by grep -E.
func TestPatterns(t *testing.T) {
	lines := []string{"a.t", "b.t", "ab.t1", "shop.orders", "shop.order_2024", "x@002dy.t", "aa.bb", "shop.", "t]", "t^", "t-", "a.T", "ab.t&~", "shop.orders#P", "a{2}", "aaa.t", "b[.]"}
	patterns := []string{`^a[.]t$`, `a\.t`, `[.]order`, `order|^b`, `(a|b)[.]t`, `^(a|b){2}`, `a{2,}[.]`, `a{1,2}[.]t`, `[^a-z.]`, `[]x]`, `[^]x]`, `[t^]`, `[-a]`, `[a-]`, `[[:digit:]]+`, `[[:upper:]]`, `[]-]`, `[&~]`, `[[]`, `[{]`, `a{2}`, `^$`, `.`, `x@.{4}y`, `(^a|t$)`, `a\{`, `\[`, `(a)(.)`, `.*[.].?$`, `[a^]`, `[{}]`, `[.][]a-t]$`}
	random := rand.New(rand.NewPCG(1, 2))
	atoms := []string{"a", "b", "t", "[.]", ".", "[a-s]", "[^t]", "o", "(a|b)", "[[:alpha:]]", "^", "$", "|", "*", "+", "?", "{2}", "[]t]", `\.`, "(", ")"}
	for range 600 {
		var b strings.Builder
		for range 1 + random.IntN(6) {
			b.WriteString(atoms[random.IntN(len(atoms))])
		}
		patterns = append(patterns, b.String())
	}
	compared := 0
	for _, p := range patterns {
		re, err := compile("--tables", p)
		if err != nil {
			continue
		}
		cmd := exec.Command("grep", "-E", "-e", p)
		cmd.Env = append(os.Environ(), "LC_ALL=C")
		cmd.Stdin = strings.NewReader(strings.Join(lines, "\n") + "\n")
		out, err := cmd.Output()
		if exit, ok := errors.AsType[*exec.ExitError](err); err != nil && (!ok || exit.ExitCode() != 1) {
			if exit != nil && exit.ExitCode() == 2 {
				t.Errorf("%s: grep -E refuses it: %s", p, exit.Stderr)
				continue
			}
			t.Fatal(err)
		}
		var got []string
		for _, line := range lines {
			if re.MatchString(line) {
				got = append(got, line)
			}
		}
		if want := strings.TrimSuffix(string(out), "\n"); strings.Join(got, "\n") != want {
			t.Errorf("%s (%v) matches %q, want %q", p, re, got, strings.Split(want, "\n"))
		}
		compared++
	}
	t.Logf("%d patterns compared", compared)
	if compared < 150 {
		t.Errorf("only %d patterns were compared", compared)
	}
}
