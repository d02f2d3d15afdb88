package innodb_test

import (
	"bytes"
	"encoding/binary"
	"testing"

	"hb/xbstream/innodb"
	"hb/xbstream/innodb/innodbtest"
)

// compressedPage is a page as a real server stored it, compressed.
type compressedPage struct {
	Server, Checksum, Algorithm string
	Flags                       uint32
	Space                       innodb.SpaceID
	No                          innodb.PageNo
	Page                        []byte
}

// compressedPages are page_compressed ones.
func compressedPages(t testing.TB) []compressedPage {
	return innodbtest.Load[compressedPage](t, "compressed.json.gz")
}

func (p *compressedPage) space(t testing.TB) *innodb.Space {
	s, err := innodb.ParseFlags(p.Flags)
	if err != nil {
		t.Fatal(err)
	}
	s.ID = p.Space
	return &s
}

func TestDecompress(t *testing.T) {
	readable := make(map[string]int)
	for _, p := range compressedPages(t) {
		name := p.Server + "/" + p.Checksum + "/" + p.Algorithm
		s := p.space(t)
		if _, err := s.Verify(p.Page, p.No); err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if !s.Compressed(p.Page) {
			t.Errorf("%s: not recognised", name)
		}
		plain := bytes.Repeat([]byte{0xA5}, s.Physical)
		err := s.Decompress(plain, p.Page)
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if !isWhole(s, plain, p.No) {
			t.Errorf("%s: what came out is not the page", name)
		}
		readable[p.Checksum+" "+p.Algorithm]++
	}
	for _, sum := range []string{"crc32", "full_crc32"} {
		for _, algorithm := range []string{"zlib", "lz4", "lzo", "lzma", "bzip2", "snappy"} {
			if readable[sum+" "+algorithm] == 0 {
				t.Errorf("no page of %s and %s", sum, algorithm)
			}
		}
	}
}

// TestTornCompressed: what is stored of a page_compressed page outside of
// full_crc32 tablespaces has no checksum; that of the plain page tells.
func TestTornCompressed(t *testing.T) {
	tried := 0
	for _, p := range compressedPages(t) {
		s := p.space(t)
		if s.FullCRC32 {
			continue
		}
		if sum, err := s.Verify(p.Page, p.No); err != nil || sum != innodb.ChecksumCRC32 {
			t.Errorf("%s, %s: %d, %v", p.Server, p.Algorithm, sum, err)
		}
		end := 40 + int(binary.BigEndian.Uint16(p.Page[38:])) // what is stored of it
		for at := 512; at < end; at += 512 {
			torn := bytes.Clone(p.Page)
			clear(torn[at:])
			if innodb.AllZero(p.Page[at:end]) {
				continue
			}
			tried++
			if _, err := s.Verify(torn, p.No); err == nil {
				t.Errorf("%s, %s: torn at %d of %d, and it passes", p.Server, p.Algorithm, at, end)
			}
		}
	}
	if tried < 10 {
		t.Errorf("%d torn pages were tried", tried)
	}
}

// isWhole checks a plain page: the older formats compress it with its checksum,
// full_crc32 with the low half of the LSN near its end.
func isWhole(s *innodb.Space, plain []byte, no innodb.PageNo) bool {
	if s.FullCRC32 {
		return binary.BigEndian.Uint32(plain[len(plain)-8:]) == uint32(innodb.HeaderLSN(plain)) &&
			innodb.HeaderPageNo(plain) == no && innodb.HeaderSpace(plain) == s.ID
	}
	_, err := s.Verify(plain, no)
	return err == nil && !s.Compressed(plain)
}

func FuzzDecompress(f *testing.F) {
	all := compressedPages(f)
	for i, p := range all {
		f.Add(uint8(i), p.Page[26:1000])
	}
	f.Fuzz(func(t *testing.T, which uint8, data []byte) {
		p := all[int(which)%len(all)]
		s := p.space(t)
		page := bytes.Clone(p.Page)
		copy(page[26:], data)
		_ = s.Decompress(make([]byte, s.Physical), page) // an error or not, no panic
	})
}
