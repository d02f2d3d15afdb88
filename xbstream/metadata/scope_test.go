package metadata

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"reflect"
	"slices"
	"strings"
	"testing"

	"hb/xbstream/innodb"
)

// TestScope: a manifest keeps what a partial backup leaves out, in a version of its own, and
// what makes no sense is refused.
func TestScope(t *testing.T) {
	m := testManifest()
	m.Scope = &Scope{Databases: []string{"a", "b.t"}, TablesExclude: []string{"[.]tmp"}, LeftOut: []SpaceRange{{5, 5}, {7, 4000000000}}}
	text := writeManifest(t, m, testFiles)
	p := NewManifestParser(nil, nil)
	if _, err := io.Copy(p, bytes.NewReader(text)); err != nil {
		t.Fatal(err)
	}
	if got := p.Manifest(); !reflect.DeepEqual(got.Scope, m.Scope) || got.Version != 3 {
		t.Errorf("version %d, %+v", got.Version, got.Scope)
	}
	// An hb that knows only versions 1 and 2 refuses the file by its version.
	if err := checkVersion(ManifestName, p.Manifest().Version, incrementVersion); !isVersion(err) {
		t.Errorf("an hb that knows no partial backups: %v", err)
	}
	for id, want := range map[innodb.SpaceID]bool{0: false, 4: false, 5: true, 6: false, 7: true, 8: true, 4000000000: true, 4000000001: false} {
		if got := m.Scope.Leaves(id); got != want {
			t.Errorf("tablespace %d is left out: %v", id, got)
		}
	}
	if (*Scope)(nil).Leaves(5) {
		t.Error("a full backup leaves out a tablespace")
	}
	for what, change := range map[string]func(s *Scope){
		"nothing asked for":    func(s *Scope) { *s = Scope{LeftOut: s.LeftOut} },
		"an empty name":        func(s *Scope) { s.Databases[0] = "" },
		"no UTF-8":             func(s *Scope) { s.Tables = []string{"\xff"} },
		"too long":             func(s *Scope) { s.Tables = []string{strings.Repeat("x", MaxScopeText)} },
		"the system":           func(s *Scope) { s.LeftOut[0][0] = 0 },
		"out of order":         func(s *Scope) { slices.Reverse(s.LeftOut) },
		"overlap":              func(s *Scope) { s.LeftOut[0][1] = 7 },
		"a range to the front": func(s *Scope) { s.LeftOut[1] = SpaceRange{9, 8} },
		"too many":             func(s *Scope) { s.LeftOut = make([]SpaceRange, MaxLeftOut+1) },
	} {
		bad := m
		bad.Scope = &Scope{Databases: slices.Clone(m.Scope.Databases), LeftOut: slices.Clone(m.Scope.LeftOut)}
		change(bad.Scope)
		if _, err := NewManifestWriter(io.Discard, bad); err == nil {
			t.Errorf("%s was accepted", what)
		}
	}
	// As large as it may be, it fits.
	large := m
	large.Scope = &Scope{Databases: []string{strings.Repeat("x", MaxScopeText-1)}}
	for i := range innodb.SpaceID(MaxLeftOut) {
		large.Scope.LeftOut = append(large.Scope.LeftOut, SpaceRange{4e9 + 2*i, 4e9 + 2*i})
	}
	large.Warnings = nil
	for range MaxWarnings {
		large.AddWarning(strings.Repeat("w", maxWarning))
	}
	if _, err := NewManifestWriter(io.Discard, large); err != nil {
		t.Error(err)
	}
}

func isVersion(err error) bool {
	_, is := errors.AsType[*VersionError](err)
	return is
}

// TestSameScope: bases and increments are compared by what was asked for, in any order.
func TestSameScope(t *testing.T) {
	a := &Scope{Databases: []string{"a", "b"}, LeftOut: []SpaceRange{{1, 2}}}
	for _, c := range []struct {
		one, other *Scope
		same       bool
	}{
		{nil, nil, true}, {nil, a, false}, {a, nil, false},
		{a, &Scope{Databases: []string{"b", "a", "b"}}, true},
		{a, &Scope{Databases: []string{"a"}}, false}, {a, &Scope{DatabasesExclude: []string{"a", "b"}}, false},
		{&Scope{Databases: []string{"a b"}}, a, false},
		{&Scope{Tables: []string{"a", "b"}}, &Scope{TablesExclude: []string{"a", "b"}}, false},
	} {
		if got := c.one.Same(c.other); got != c.same {
			t.Errorf("%v and %v: %v", c.one, c.other, got)
		}
	}
}

// TestScopeText: messages show a scope as options, and not all of a long one.
func TestScopeText(t *testing.T) {
	s := &Scope{Databases: []string{"b", "a.t"}, TablesExclude: []string{"^x,y"}}
	if got, want := s.String(), `--databases="a.t b" --tables-exclude="^x,y"`; got != want {
		t.Errorf("%s, want %s", got, want)
	}
	s.Databases = make([]string, 5000)
	for i := range s.Databases {
		s.Databases[i] = fmt.Sprintf("db%d", i)
	}
	if got := s.String(); len(got) > 410 || !strings.HasSuffix(got, "…") {
		t.Errorf("%d bytes: %s", len(got), got)
	}
}

// TestSpaceRanges: ranges hold all that is left, and nothing else unless they are too many;
// and nothing that is there.
func TestSpaceRanges(t *testing.T) {
	for _, c := range []struct {
		left, there []innodb.SpaceID
		want        []SpaceRange
	}{
		{nil, []innodb.SpaceID{1}, []SpaceRange{}},
		{[]innodb.SpaceID{9, 5, 7, 5, 6}, nil, []SpaceRange{{5, 7}, {9, 9}}},
		{[]innodb.SpaceID{5, 6, 9}, []innodb.SpaceID{8, 3, 10}, []SpaceRange{{5, 6}, {9, 9}}},
		{[]innodb.SpaceID{1, 2, 4, 6}, []innodb.SpaceID{3, 5, 0xFFFFFFFE}, []SpaceRange{{1, 2}, {4, 4}, {6, 6}}},
	} {
		if got := SpaceRanges(c.left, c.there); !slices.Equal(got, c.want) {
			t.Errorf("%v without %v: %v, want %v", c.left, c.there, got, c.want)
		}
	}
	var many []innodb.SpaceID
	for i := range innodb.SpaceID(MaxLeftOut) {
		many = append(many, 1+2*i)
	}
	if got := SpaceRanges(many, []innodb.SpaceID{500}); len(got) != MaxLeftOut {
		t.Errorf("%d tablespaces apart are in %d ranges", len(many), len(got))
	}
	last := many[MaxLeftOut-1] + 2
	if got, want := SpaceRanges(append(many, last), []innodb.SpaceID{500}), []SpaceRange{{1, 499}, {501, last}}; !slices.Equal(got, want) {
		t.Errorf("one more are in %d ranges, %v", len(got), got[:min(len(got), 3)])
	}
}

// TestJoinRanges: ids are added to ranges, which keep what they span.
func TestJoinRanges(t *testing.T) {
	for _, c := range []struct {
		ranges []SpaceRange
		left   []innodb.SpaceID
		want   []SpaceRange
	}{
		{nil, nil, []SpaceRange{}},
		{[]SpaceRange{{1, 5}, {9, 9}}, []innodb.SpaceID{3, 6, 8, 12}, []SpaceRange{{1, 6}, {8, 9}, {12, 12}}},
		{[]SpaceRange{{4, 5}}, []innodb.SpaceID{1, 3}, []SpaceRange{{1, 1}, {3, 5}}},
		{[]SpaceRange{{2, 4294967295}}, []innodb.SpaceID{7, 4294967294}, []SpaceRange{{2, 4294967295}}},
	} {
		if got := JoinRanges(c.ranges, c.left, nil); !slices.Equal(got, c.want) {
			t.Errorf("%v and %v: %v, not %v", c.ranges, c.left, got, c.want)
		}
	}
	var many []innodb.SpaceID
	for id := innodb.SpaceID(1000); len(many) < MaxLeftOut+10; id += 2 {
		many = append(many, id)
	}
	if got := JoinRanges([]SpaceRange{{1, 10}}, many, []innodb.SpaceID{500, 1001}); !slices.Equal(got, []SpaceRange{{1, 10}, {1000, 1000}, {1002, many[len(many)-1]}}) {
		t.Errorf("%v", got)
	}
}
