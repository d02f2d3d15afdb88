package census

import (
	"bytes"
	"fmt"
	"maps"
	"slices"
	"strings"

	"hb/xbstream/innodb"
)

// Diff is a page that two recoveries do not agree on.
type Diff struct {
	ID           innodb.PageID
	Name         string
	Type         innodb.PageType
	Ours, Theirs []byte
	Later        bool // the server changed it after its recovery
	Page         *Page
}

// Ranges lists the bytes that differ, the first few ranges.
func (d *Diff) Ranges() string {
	var b strings.Builder
	for i, n := 0, 0; i < len(d.Theirs) && i < len(d.Ours); i++ {
		if d.Ours[i] == d.Theirs[i] {
			continue
		}
		j := i
		for j < len(d.Theirs) && (d.Ours[j] != d.Theirs[j] || j+1 < len(d.Theirs) && d.Ours[j+1] != d.Theirs[j+1]) {
			j++
		}
		if n++; n > 6 {
			b.WriteString(" …")
			break
		}
		fmt.Fprintf(&b, " %d-%d(%x/%x)", i, j, d.Ours[i:min(j, i+12)], d.Theirs[i:min(j, i+12)])
		i = j
	}
	return b.String()
}

func (d *Diff) String() string {
	s := fmt.Sprintf("page %v (%s, type %d): ours/theirs:%s; LSN %d/%d", d.ID, d.Name, d.Type, d.Ranges(), innodb.HeaderLSN(d.Ours), innodb.HeaderLSN(d.Theirs))
	if d.Page != nil && d.Page.Err != nil {
		s += fmt.Sprintf("; error at LSN %d: %v", d.Page.ErrAt, d.Page.Err)
	}
	return s
}

// Comparison is what comparing a replay with a server's recovery found.
type Comparison struct {
	Pages    int                     // compared
	Replayed int                     // of these, changed by the log
	Later    map[innodb.PageType]int // of these, changed by the server after recovery
	Deflated int                     // equal except for the deflated form
	Inflated int                     // equal without COMPRESSION and what it leaves in a page
	Unlogged []string                // changed by the server without redo
	Diffs    []Diff
	Files    []string // that only one of them has
}

// Compare compares every page of the tablespaces. The log as the server found
// it ends at end; what it changed later, its log says too.
func (r *Replay) Compare(server *Files, end innodb.LSN) *Comparison {
	c := &Comparison{Later: map[innodb.PageType]int{}}
	for _, id := range slices.Sorted(maps.Keys(server.Spaces)) {
		theirs := server.Spaces[id]
		ours := r.Files.Spaces[id]
		if ours == nil {
			c.Files = append(c.Files, fmt.Sprintf("%s (%d): only the server's", theirs.Name, id))
			continue
		}
		skip := Skipped(server, id)
		for no := range theirs.Pages() {
			if !slices.ContainsFunc(skip, func(p innodb.PageRange) bool { return p.Contains(no) }) {
				r.comparePage(c, ours, theirs, no, end)
			}
		}
	}
	for id, f := range r.Files.Spaces {
		if server.Spaces[id] == nil {
			c.Files = append(c.Files, fmt.Sprintf("%s (%d): only ours", f.Name, id))
		}
	}
	return c
}

// Skipped are the pages of a tablespace that are the doublewrite area, which hold
// copies of others.
func Skipped(files *Files, id innodb.SpaceID) []innodb.PageRange {
	if id != 0 {
		return nil
	}
	s := files.Spaces[0]
	return s.Space.DoublewriteArea(s.Page(5))
}

func (r *Replay) comparePage(c *Comparison, ours, theirs *File, no innodb.PageNo, end innodb.LSN) {
	id := innodb.PageID{Space: theirs.Space.ID, No: no}
	b := theirs.Page(no)
	p := r.Pages[id]
	a := ours.Page(no)
	if p != nil && p.Image != nil {
		a = p.Image
		c.Replayed++
	}
	if a == nil {
		a = make([]byte, len(b))
	}
	c.Pages++
	later := innodb.HeaderLSN(b) > end
	if later {
		c.Later[innodb.HeaderType(b)]++
	}
	if p == nil || p.Err == nil {
		if bytes.Equal(a, b) {
			return
		}
		if id.Space == 0 && (no == 0 || slices.Contains(theirs.begin, no)) && equalBut(a, b, innodb.OffsetFlushLSN, innodb.OffsetSpace) {
			return // FLUSH LSN
		}
		if theirs.Space.Zip() && isIndex(b) && sameZip(a, b) {
			c.Deflated++
			return
		}
		// What the stored form has in bytes 26 to 33 servers leave in the plain one.
		if samePlain(a, b) || p != nil && p.Packed && equalBut(a, b, innodb.OffsetFlushLSN, innodb.OffsetSpace) {
			c.Inflated++
			return
		}
		if why := r.unlogged(theirs, id, a, b); why != "" {
			c.Unlogged = append(c.Unlogged, fmt.Sprintf("%v: %s", id, why))
			return
		}
	}
	c.Diffs = append(c.Diffs, Diff{ID: id, Name: theirs.Name, Type: innodb.HeaderType(b), Ours: a, Theirs: b, Later: later, Page: p})
}

// Offsets in a page that the server's start changes.
const (
	maxSpaceID    = 62 // of the dictionary header: DICT_HDR_MAX_SPACE_ID
	maxSpaceIDEnd = 66
	dictHeader    = 7 // its page in the system tablespace
)

// unlogged names the changes that a server makes without redo.
func (r *Replay) unlogged(f *File, id innodb.PageID, a, b []byte) string {
	x, y := unstamped(f, a), unstamped(f, b)
	switch {
	case r.renamed[id][innodb.HeaderLSN(b)] && bytes.Equal(x, y):
		return "5.6's recovery gives page 0 the LSN of a FILE_RENAME among other records"
	case id == innodb.PageID{Space: 0, No: dictHeader}:
		clear(x[maxSpaceID:maxSpaceIDEnd])
		clear(y[maxSpaceID:maxSpaceIDEnd])
		if bytes.Equal(x, y) {
			return "5.7 and later draw the id of the temporary tablespace without redo"
		}
	}
	return ""
}

// unstamped returns a page without LSN and checksums.
func unstamped(f *File, page []byte) []byte {
	p := bytes.Clone(page)
	clear(p[:4])
	clear(p[innodb.OffsetLSN : innodb.OffsetLSN+8])
	if !f.Space.Zip() {
		clear(p[len(p)-8:])
	}
	return p
}

func isIndex(page []byte) bool {
	switch innodb.HeaderType(page) {
	case 17853, 17854, 17855:
		return true
	}
	return false
}

// equalBut compares two pages except for the bytes from..to.
func equalBut(a, b []byte, from, to int) bool {
	return len(a) == len(b) && bytes.Equal(a[:from], b[:from]) && bytes.Equal(a[to:], b[to:])
}
