package innodb

import (
	"bytes"
	"compress/gzip"
	"encoding/json"
	"errors"
	"io"
	"os"
	"strings"
	"testing"
)

// packedPage is a page of COMPRESSION='…' as a real server stored it.
type packedPage struct {
	Server, Checksum, Algorithm string
	Flags                       uint32
	Space                       SpaceID
	No                          PageNo
	Page                        []byte
}

func packedPages(t testing.TB) []packedPage {
	f, err := os.Open("testdata/packed.json.gz")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	z, err := gzip.NewReader(f)
	if err != nil {
		t.Fatal(err)
	}
	var all []packedPage
	for dec := json.NewDecoder(z); ; {
		var p packedPage
		if err := dec.Decode(&p); errors.Is(err, io.EOF) {
			return all
		} else if err != nil {
			t.Fatal(err)
		}
		all = append(all, p)
	}
}

func (p *packedPage) space(t testing.TB) *Space {
	s, err := ParseFlags(p.Flags)
	if err != nil {
		t.Fatal(err)
	}
	s.ID = p.Space
	return &s
}

// TestUnpack: MySQL's pages have the checksum of their plain form.
func TestUnpack(t *testing.T) {
	pages := packedPages(t)
	for _, p := range pages {
		name := p.Server + "/" + p.Checksum + "/" + p.Algorithm
		s := p.space(t)
		want := map[string]Checksum{"crc32": ChecksumCRC32, "innodb": ChecksumLegacy}[p.Checksum]
		if sum, err := s.Verify(p.Page, p.No); !s.Packed(p.Page) || sum != want || err != nil {
			t.Errorf("%s: checksum %d, %v", name, sum, err)
		}
		plain := bytes.Repeat([]byte{0xA5}, s.Physical)
		if err := Unpack(plain, p.Page); err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if sum, err := s.Verify(plain, p.No); sum != want || err != nil || HeaderType(plain) != TypeIndex {
			t.Errorf("%s: type %d, %v", name, HeaderType(plain), err)
		}
		for at, v := range map[int]byte{packedVersion: 3, packedAlgorithm: 3, packedPlain: 1, packedStored: 0xFF, OffsetBody + 9: ^p.Page[OffsetBody+9]} {
			bad := bytes.Clone(p.Page)
			bad[at] = v
			if _, err := s.Verify(bad, p.No); err == nil {
				t.Errorf("%s: accepted with %d at byte %d", name, v, at)
			}
		}
	}
	if len(pages) != 4 {
		t.Errorf("%d pages", len(pages))
	}
}

func TestLZ4(t *testing.T) {
	for name, tc := range map[string]struct {
		src  string
		want string // "" for an error
	}{
		"literals":           {"\x50hello", "hello"},
		"overlapping copy":   {"\x14a\x01\x00\x10b", "aaaaaaaaab"},
		"long literals":      {"\xf0\x05" + strings.Repeat("x", 20), strings.Repeat("x", 20)},
		"long copy":          {"\x2fab\x02\x00\x03\x10c", strings.Repeat("ab", 12) + "c"},
		"distance 0":         {"\x14a\x00\x00\x10b", ""},
		"distance too far":   {"\x14a\x02\x00\x10b", ""},
		"literals cut":       {"\x50hell", ""},
		"distance cut":       {"\x14a\x01", ""},
		"length cut":         {"\xf0\xff\xff", ""},
		"more than the page": {"\x5fhello\x01\x00\x09", ""},
	} {
		n := len(tc.want)
		if n == 0 {
			n = 9
		}
		dst := make([]byte, n)
		err := DecodeLZ4(dst, []byte(tc.src))
		if tc.want == "" {
			if err == nil {
				t.Errorf("%s: accepted", name)
			}
		} else if err != nil || string(dst) != tc.want {
			t.Errorf("%s: %q, %v", name, dst, err)
		}
	}
	if err := DecodeLZ4(make([]byte, 6), []byte("\x50hello")); err == nil {
		t.Error("a short block was accepted")
	}
}

func FuzzUnpack(f *testing.F) {
	all := packedPages(f)
	for i, p := range all {
		f.Add(uint8(i), p.Page[26:1000])
	}
	f.Fuzz(func(t *testing.T, which uint8, data []byte) {
		p := all[int(which)%len(all)]
		page := bytes.Clone(p.Page)
		copy(page[26:], data)
		_ = Unpack(make([]byte, len(page)), page) // an error or not, no panic
	})
}
