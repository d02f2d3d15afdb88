package metadata

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"unicode/utf8"

	"hb/xbstream/innodb"
)

const (
	// partialVersion is the version of hb-archive.json and hb-manifest.json of a partial
	// backup, full or incremental: an hb that does not know what is left out must refuse it.
	partialVersion = 3

	// MaxScopeText bounds all that was asked for, in bytes.
	MaxScopeText = 128 << 10
	// MaxLeftOut bounds the ranges of tablespaces that a partial backup leaves out.
	MaxLeftOut = 50_000
)

// Scope is, in the manifest of a partial backup, which tables were asked for, and which
// tablespaces the backup leaves out because of that.
type Scope struct {
	// The options, entry by entry. Databases and DatabasesExclude have names ("db" or
	// "db.table"), the others regular expressions.
	Databases        []string `json:"databases,omitempty"`
	DatabasesExclude []string `json:"databases_exclude,omitempty"`
	Tables           []string `json:"tables,omitempty"`
	TablesExclude    []string `json:"tables_exclude,omitempty"`

	// LeftOut are the tablespaces that the server had when the backup ended, and that were
	// not asked for then: redo of no others may be passed over. In ascending order, without
	// overlap; where they are very many, a range may span ids that no tablespace has.
	LeftOut []SpaceRange `json:"left_out"`
}

// SpaceRange is the ids of tablespaces from the first to the last, both included.
type SpaceRange [2]innodb.SpaceID

// Leaves reports whether the backup leaves out a tablespace. Of a full backup, nil, it is
// false.
func (s *Scope) Leaves(id innodb.SpaceID) bool {
	if s == nil {
		return false
	}
	_, found := slices.BinarySearchFunc(s.LeftOut, id, func(r SpaceRange, id innodb.SpaceID) int {
		switch {
		case r[1] < id:
			return -1
		case r[0] > id:
			return 1
		}
		return 0
	})
	return found
}

// Same reports whether both ask for the same tables in the same words, in any order; nil:
// all tables.
func (s *Scope) Same(other *Scope) bool {
	if s == nil || other == nil {
		return s == other
	}
	same := func(a, b []string) bool {
		a, b = slices.Sorted(slices.Values(a)), slices.Sorted(slices.Values(b))
		return slices.Equal(slices.Compact(a), slices.Compact(b))
	}
	return same(s.Databases, other.Databases) && same(s.DatabasesExclude, other.DatabasesExclude) &&
		same(s.Tables, other.Tables) && same(s.TablesExclude, other.TablesExclude)
}

// maxScopeShown bounds what messages show of a scope, in bytes.
const maxScopeShown = 400

// String is the options as on a command line, cut off if they are long; "all tables" for nil.
func (s *Scope) String() string {
	if s == nil {
		return "all tables"
	}
	var text []string
	for _, o := range []struct {
		name, separator string
		values          []string
	}{
		{"--databases", " ", s.Databases}, {"--databases-exclude", " ", s.DatabasesExclude},
		{"--tables", ",", s.Tables}, {"--tables-exclude", ",", s.TablesExclude},
	} {
		if len(o.values) > 0 {
			values := slices.Clone(o.values)
			slices.Sort(values)
			text = append(text, fmt.Sprintf("%s=%q", o.name, strings.Join(slices.Compact(values), o.separator)))
		}
	}
	all := strings.Join(text, " ")
	if len(all) > maxScopeShown {
		return cutText(all, maxScopeShown) + "…"
	}
	return all
}

// validate reports what is wrong with s.
func (s *Scope) validate() error {
	if len(s.Databases)+len(s.DatabasesExclude)+len(s.Tables)+len(s.TablesExclude) == 0 {
		return fmt.Errorf("scope: it asks for nothing")
	}
	size := 0
	for _, v := range slices.Concat(s.Databases, s.DatabasesExclude, s.Tables, s.TablesExclude) {
		if size += len(v) + 1; v == "" || !utf8.ValidString(v) {
			return fmt.Errorf("scope: it asks for %.40q", v)
		}
	}
	if size > MaxScopeText {
		return fmt.Errorf("scope: what it asks for has more than %d bytes", MaxScopeText)
	}
	if len(s.LeftOut) > MaxLeftOut {
		return fmt.Errorf("scope: it leaves out %d ranges of tablespaces, more than %d", len(s.LeftOut), MaxLeftOut)
	}
	for i, r := range s.LeftOut {
		if r[0] == 0 || r[1] < r[0] || i > 0 && r[0] <= s.LeftOut[i-1][1] {
			return fmt.Errorf("scope: it leaves out tablespaces %d to %d", r[0], r[1])
		}
	}
	return nil
}

// SpaceRanges are ranges of the ids in left, and of no others: an id between them may be
// that of a table whose file is not there, because it was discarded. If those would be more
// than MaxLeftOut, ranges span ids that are not in left, but none of the ids in there.
func SpaceRanges(left, there []innodb.SpaceID) []SpaceRange {
	return JoinRanges(nil, left, there)
}

// JoinRanges are SpaceRanges of the ids in some ranges, which are as SpaceRanges returns
// them, and those in left.
func JoinRanges(ranges []SpaceRange, left, there []innodb.SpaceID) []SpaceRange {
	all := slices.Clone(ranges)
	for _, id := range left {
		all = append(all, SpaceRange{id, id})
	}
	slices.SortFunc(all, func(a, b SpaceRange) int { return cmp.Compare(a[0], b[0]) })
	out := mergeRanges(all, func(last, id innodb.SpaceID) bool { return id <= last || id-last == 1 })
	if len(out) <= MaxLeftOut {
		return out
	}
	there = slices.Sorted(slices.Values(there))
	return mergeRanges(out, func(last, id innodb.SpaceID) bool {
		next, _ := slices.BinarySearch(there, last)
		return next == len(there) || there[next] > id
	})
}

// mergeRanges merges ranges, which are in the order of their first ids. joins reports whether
// one goes on from the last id of another to id, the first of the next.
func mergeRanges(ranges []SpaceRange, joins func(last, id innodb.SpaceID) bool) []SpaceRange {
	out := []SpaceRange{}
	for _, r := range ranges {
		if n := len(out); n > 0 && joins(out[n-1][1], r[0]) {
			out[n-1][1] = max(out[n-1][1], r[1])
		} else {
			out = append(out, r)
		}
	}
	return out
}
