package metadata

import (
	"bytes"
	"errors"
	"io"
	"reflect"
	"strings"
	"testing"
	"unicode/utf8"
)

func writeDefinitions(t testing.TB, head DefinitionsHead, list ...Definition) []byte {
	t.Helper()
	var b bytes.Buffer
	w, err := NewDefinitionsWriter(&b, head)
	if err != nil {
		t.Fatal(err)
	}
	for _, d := range list {
		line, err := d.Line()
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
	return b.Bytes()
}

var testDefinitions = []Definition{
	{Kind: DefinesDatabase, Database: "d", Create: "CREATE DATABASE `d`"},
	{Kind: DefinesTable, Database: "d", Name: "t", Create: "CREATE TABLE `t` (\n  `a` int\n)"},
	{Kind: DefinesTable, Database: "d", Name: "broken", Missing: "Error 1033"},
	{Kind: DefinesTrigger, Database: "d", Name: "b", Table: "t", Order: 1, Create: "CREATE TRIGGER b", SQLMode: "ANSI", CharacterSetClient: "utf8mb4", CollationConnection: "utf8mb4_bin", DatabaseCollation: "latin1_bin"},
	{Kind: DefinesTrigger, Database: "d", Name: "a", Table: "t", Order: 2, Create: "CREATE TRIGGER a"},
	{Kind: DefinesTrigger, Database: "d", Name: AllTriggers, Table: "gone", Missing: "Error 1146"},
	{Kind: DefinesTrigger, Database: "d", Name: AllTriggers, Table: "gone2", Missing: "Error 1146"},
	{Kind: DefinesProcedure, Database: "d", Name: "t", Create: "CREATE PROCEDURE t() SELECT '\xff'"},
	{Kind: DefinesTable, Database: "e", Name: "t", Create: "CREATE TABLE `t` (\n  `b` int\n)"},
}

func TestDefinitions(t *testing.T) {
	text := writeDefinitions(t, DefinitionsHead{Server: "MariaDB 11.8.6", Tables: true, Lacking: []string{"EVENT"}}, testDefinitions...)
	const first = `{"hb_definitions":1,"server":"MariaDB 11.8.6","lacking":["EVENT"],"tables":true}` + "\n" +
		`{"kind":"database","database":"d","create":"CREATE DATABASE ` + "`d`" + `"}` + "\n"
	const last = "\n" + `{"hb_definitions_end":1,"records":9}` + "\n"
	if !strings.HasPrefix(string(text), first) || !strings.HasSuffix(string(text), last) {
		t.Errorf("text: %s", text)
	}
	all, err := ReadDefinitions(bytes.NewReader(text), nil)
	if err != nil || all.Head.Server != "MariaDB 11.8.6" || !all.Head.Tables || len(all.Head.Lacking) != 1 {
		t.Fatalf("%v: %+v", err, all)
	}
	if got := all.Find(DefinesTable, "e", "t"); got == nil || got.Text() != testDefinitions[8].Create {
		t.Errorf("e.t: %+v", got)
	}
	if got := all.Find(DefinesProcedure, "d", "t"); got == nil || got.Text() != testDefinitions[7].Create || got.Create != "" {
		t.Errorf("a text that is not UTF-8: %+v", got)
	}
	if got := all.Find(DefinesView, "d", "t"); got != nil {
		t.Errorf("no such view: %+v", got)
	}
	if got := all.Triggers("d", "t"); len(got) != 2 || got[0].Name != "b" || !reflect.DeepEqual(*got[0], testDefinitions[3]) || got[0].SQLMode != "ANSI" {
		t.Errorf("triggers: %+v", got)
	}
	if got := all.Of("d"); len(got) != 8 || len(all.Triggers("d", "gone")) != 1 || all.Find(DefinesTrigger, "d", AllTriggers) != nil {
		t.Errorf("all of d: %d", len(got))
	}
	some, err := ReadDefinitions(bytes.NewReader(text), func(d *Definition) bool { return d.Database == "e" })
	if err != nil || len(some.list) != 1 {
		t.Errorf("of e: %v, %+v", err, some)
	}
	for n := range text {
		if _, err := ReadDefinitions(bytes.NewReader(text[:n]), nil); !errors.Is(err, io.ErrUnexpectedEOF) {
			t.Fatalf("cut off at %d: %v", n, err)
		}
	}
}

func TestDefinitionsRefused(t *testing.T) {
	const head, end = `{"hb_definitions":1,"server":"x","tables":true}` + "\n", `{"hb_definitions_end":1,"records":1}` + "\n"
	table := `{"kind":"table","database":"d","name":"t","create":"x"}` + "\n"
	if _, err := ReadDefinitions(strings.NewReader(head+table+end), nil); err != nil {
		t.Fatal(err)
	}
	for what, text := range map[string]string{
		"no head":         table + end,
		"a later version": strings.Replace(head, ":1", ":2", 1) + table + end,
		"no database":     head + strings.Replace(table, `"d"`, `""`, 1) + end,
		"no name":         head + strings.Replace(table, `"t"`, `""`, 1) + end,
		"two texts":       head + strings.Replace(table, `"x"`, `"x","missing":"y"`, 1) + end,
		"no text":         head + strings.Replace(table, `"x"`, `""`, 1) + end,
		"twice":           head + table + table + strings.Replace(end, `:1}`, `:2}`, 1),
		"another count":   head + table + strings.Replace(end, `:1}`, `:2}`, 1),
		"more after it":   head + table + end + table,
		"no JSON":         head + "x\n" + end,
	} {
		if _, err := ReadDefinitions(strings.NewReader(text), nil); err == nil {
			t.Errorf("%s: accepted", what)
		}
	}
	long := head + `{"kind":"table","database":"d","name":"t","create":"` + strings.Repeat("x", MaxDefinition) + "\"}\n" + end
	if _, err := ReadDefinitions(strings.NewReader(long), nil); err == nil || !strings.Contains(err.Error(), "a line of more than") {
		t.Errorf("a long line: %v", err)
	}
	line, err := Definition{Kind: DefinesProcedure, Database: "d", Name: "p", Create: strings.Repeat("x", MaxDefinition)}.Line()
	if err != nil || string(line) != `{"kind":"procedure","database":"d","name":"p","missing":"it is too long"}`+"\n" {
		t.Errorf("a long text: %.100s, %v", line, err)
	}
}

func FuzzDefinitions(f *testing.F) {
	f.Add(writeDefinitions(f, DefinitionsHead{Server: "MySQL 5.7.29"}, testDefinitions...))
	f.Fuzz(func(t *testing.T, text []byte) {
		got, err := ReadDefinitions(bytes.NewReader(text), nil)
		if err != nil {
			return
		}
		list := make([]Definition, len(got.list))
		for i, d := range got.list {
			if list[i] = *d; !utf8.Valid(d.Bytes) {
				continue
			}
			list[i].Create, list[i].Bytes = d.Text(), nil // as the writer has it
			got.list[i] = &list[i]
		}
		again, err := ReadDefinitions(bytes.NewReader(writeDefinitions(t, got.Head, list...)), nil)
		if err != nil || len(again.list) != len(got.list) {
			t.Fatalf("written and read again: %v", err)
		}
		for i, d := range again.list {
			if !reflect.DeepEqual(d, got.list[i]) {
				t.Fatalf("%+v, written and read again %+v", got.list[i], d)
			}
		}
	})
}
