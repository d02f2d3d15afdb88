package innodb_test

import (
	"bytes"
	"strings"
	"testing"

	"hb/xbstream/innodb"
	"hb/xbstream/innodb/innodbtest"
)

// packedPages are pages of COMPRESSION='…'.
func packedPages(t testing.TB) []compressedPage {
	return innodbtest.Load[compressedPage](t, "packed.json.gz")
}

// TestUnpack: MySQL's pages have the checksum of their plain form.
func TestUnpack(t *testing.T) {
	pages := packedPages(t)
	for _, p := range pages {
		name := p.Server + "/" + p.Checksum + "/" + p.Algorithm
		s := p.space(t)
		want := map[string]innodb.Checksum{"crc32": innodb.ChecksumCRC32, "innodb": innodb.ChecksumLegacy}[p.Checksum]
		if sum, err := s.Verify(p.Page, p.No); !s.Packed(p.Page) || sum != want || err != nil {
			t.Errorf("%s: checksum %d, %v", name, sum, err)
		}
		plain := bytes.Repeat([]byte{0xA5}, s.Physical)
		if err := innodb.Unpack(plain, p.Page); err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if sum, err := s.Verify(plain, p.No); sum != want || err != nil || innodb.HeaderType(plain) != innodb.TypeIndex {
			t.Errorf("%s: type %d, %v", name, innodb.HeaderType(plain), err)
		}
		for at, v := range map[int]byte{
			26: 3, 27: 3, 30: 1, 32: 0xFF, // version, algorithm, lengths: plain and stored
			innodb.OffsetBody + 9: ^p.Page[innodb.OffsetBody+9],
		} {
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
		err := innodb.DecodeLZ4(dst, []byte(tc.src))
		if tc.want == "" {
			if err == nil {
				t.Errorf("%s: accepted", name)
			}
		} else if err != nil || string(dst) != tc.want {
			t.Errorf("%s: %q, %v", name, dst, err)
		}
	}
	if err := innodb.DecodeLZ4(make([]byte, 6), []byte("\x50hello")); err == nil {
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
		_ = innodb.Unpack(make([]byte, len(page)), page) // an error or not, no panic
	})
}
