// Package binlog reads as much of MySQL's binary log as it takes to know which
// transactions, by their GTIDs, a file holds up to a position.
package binlog

import (
	"cmp"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// A UUID is the identity of a server, or of a group of servers, in a GTID.
type UUID [16]byte

// String is the UUID as the server prints it.
func (u UUID) String() string {
	x := hex.EncodeToString(u[:])
	return x[:8] + "-" + x[8:12] + "-" + x[12:16] + "-" + x[16:20] + "-" + x[20:]
}

// parseUUID reads 32 hexadecimal digits, with the usual hyphens or without any.
func parseUUID(s string) (u UUID, err error) {
	digits := s
	if len(s) == 36 {
		if s[8] != '-' || s[13] != '-' || s[18] != '-' || s[23] != '-' {
			return u, fmt.Errorf("%q is not a UUID", s)
		}
		digits = s[:8] + s[9:13] + s[14:18] + s[19:23] + s[24:]
	}
	if n, err := hex.Decode(u[:], []byte(digits[:min(len(digits), 2*len(u))])); err != nil || n != len(u) || len(digits) != 2*len(u) {
		return u, fmt.Errorf("%.40q is not a UUID", s)
	}
	return u, nil
}

// maxTag is the length of the longest tag (MySQL 8.3 and later).
const maxTag = 32

// checkTag reports what is wrong with a tag: it has lower case letters, digits
// and underscores, and does not begin with a digit. The empty tag is right.
func checkTag(tag string) error {
	for i, c := range []byte(tag) {
		if (c < 'a' || c > 'z') && c != '_' && (i == 0 || c < '0' || c > '9') {
			return fmt.Errorf("%.40q is not the tag of a GTID", tag)
		}
	}
	if len(tag) > maxTag {
		return fmt.Errorf("%.40q is too long for the tag of a GTID", tag)
	}
	return nil
}

// An origin is what gave out the numbers of transactions.
type origin struct {
	uuid UUID
	tag  string // empty: none
}

func (o origin) compare(p origin) int {
	return cmp.Or(slices.Compare(o.uuid[:], p.uuid[:]), cmp.Compare(o.tag, p.tag))
}

// span is a run of transaction numbers, both ends included.
type span struct{ first, last uint64 }

// maxNumber is the largest number of a transaction.
const maxNumber = 1<<63 - 2

// A Set is a set of GTIDs, as gtid_executed is one. The zero value is empty.
type Set struct {
	spans map[origin][]span // sorted, with gaps between
}

// add adds a run of numbers.
func (s *Set) add(o origin, n span) error {
	if n.first < 1 || n.last < n.first || n.last > maxNumber {
		return fmt.Errorf("%d-%d are not numbers of transactions", n.first, n.last)
	}
	if s.spans == nil {
		s.spans = make(map[origin][]span)
	}
	list := s.spans[o]
	if k := len(list); k > 0 && list[k-1].first <= n.first && n.first <= list[k-1].last+1 {
		list[k-1].last = max(list[k-1].last, n.last) // the usual case: transactions come in order
		return nil
	}
	// All that n touches becomes one span.
	from, _ := slices.BinarySearchFunc(list, n.first, func(m span, first uint64) int { return cmp.Compare(m.last+1, first) })
	to := from
	for ; to < len(list) && list[to].first <= n.last+1; to++ {
		n.first, n.last = min(n.first, list[to].first), max(n.last, list[to].last)
	}
	s.spans[o] = slices.Replace(list, from, to, n)
	return nil
}

// AddSet adds all of another set.
func (s *Set) AddSet(t Set) {
	for o, list := range t.spans {
		for _, n := range list {
			_ = s.add(o, n) // a run of a set is valid
		}
	}
}

// Missing names GTIDs of t that are not in s, one run of each origin; "" if s has
// all of t.
func (s *Set) Missing(t Set) string {
	var out Set
	for o, list := range t.spans {
		mine := s.spans[o]
		for _, n := range list {
			i, _ := slices.BinarySearchFunc(mine, n.first, func(m span, first uint64) int { return cmp.Compare(m.last, first) })
			if i < len(mine) && mine[i].first <= n.first {
				n.first = mine[i].last + 1
				i++
			}
			if i < len(mine) {
				n.last = min(n.last, mine[i].first-1)
			}
			if n.first <= n.last {
				_ = out.add(o, n)
				break
			}
		}
	}
	return out.String()
}

// String is the set as the server prints it, but on one line.
func (s Set) String() string {
	origins := make([]origin, 0, len(s.spans))
	for o := range s.spans {
		origins = append(origins, o)
	}
	slices.SortFunc(origins, origin.compare)
	var b strings.Builder
	for i, o := range origins {
		if i == 0 || o.uuid != origins[i-1].uuid {
			if i > 0 {
				b.WriteByte(',')
			}
			b.WriteString(o.uuid.String())
		}
		if o.tag != "" {
			b.WriteByte(':')
			b.WriteString(o.tag)
		}
		for _, n := range s.spans[o] {
			b.WriteByte(':')
			b.WriteString(strconv.FormatUint(n.first, 10))
			if n.last > n.first {
				b.WriteByte('-')
				b.WriteString(strconv.FormatUint(n.last, 10))
			}
		}
	}
	return b.String()
}

// ParseSet reads a set as a server prints it.
func ParseSet(text string) (s Set, err error) {
	for part := range strings.SplitSeq(text, ",") {
		part = strings.TrimSpace(part)
		if part == "" {
			continue
		}
		if err := s.parseOrigin(part); err != nil {
			return Set{}, fmt.Errorf("GTID set: %w", err)
		}
	}
	return s, nil
}

// parseOrigin reads UUID:[TAG:]RUN… with more tags and runs after.
func (s *Set) parseOrigin(text string) error {
	name, rest, ok := strings.Cut(text, ":")
	if !ok {
		return fmt.Errorf("%.60q has no number", text)
	}
	uuid, err := parseUUID(name)
	if err != nil {
		return err
	}
	o := origin{uuid: uuid}
	for part := range strings.SplitSeq(rest, ":") {
		part = strings.TrimSpace(part)
		if part != "" && (part[0] < '0' || part[0] > '9') {
			if o.tag = part; checkTag(part) != nil {
				return checkTag(part)
			}
			continue
		}
		n, err := parseSpan(part)
		if err != nil {
			return err
		}
		if err := s.add(o, n); err != nil {
			return err
		}
	}
	return nil
}

func parseSpan(text string) (n span, err error) {
	first, last, isRun := strings.Cut(text, "-")
	var errs [2]error
	n.first, errs[0] = strconv.ParseUint(first, 10, 64)
	n.last = n.first
	if isRun {
		n.last, errs[1] = strconv.ParseUint(last, 10, 64)
	}
	return n, errors.Join(errs[:]...)
}
