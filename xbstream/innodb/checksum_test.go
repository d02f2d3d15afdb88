package innodb_test

import (
	"bytes"
	"encoding/binary"
	"errors"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"hb/source/mysqld/mysqldtest"
	"hb/xbstream/innodb"
	"hb/xbstream/innodb/innodbtest"
)

// spaces are one of each kind of page format, by their flags.
var spaces = map[string]uint32{
	"full_crc32 16k":      0x15,
	"full_crc32 4k":       0x13,
	"crc32 16k":           0x21,
	"crc32 64k":           0x21 | 7<<6,
	"compressed 8k":       0x21 | 4<<1,
	"compressed 1k":       0x21 | 1<<1,
	"compressed 4k of 8k": 0x21 | 3<<1 | 4<<6,
	"compressed 4k of 4k": 0x21 | 3<<1 | 3<<6,
}

// TestStampVerify: a stamped page verifies, by the algorithm it was stamped
// with, and no flipped bit does. What the stamp must be does not come from the
// code that is tested, where Stamp and Verify share their sums.
func TestStampVerify(t *testing.T) {
	for name, flags := range spaces {
		s, err := innodb.ParseFlags(flags)
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		s.ID = 7
		algorithms := []innodb.Checksum{innodb.ChecksumCRC32, innodb.ChecksumLegacy, innodb.ChecksumNone}
		if s.FullCRC32 {
			algorithms = []innodb.Checksum{innodb.ChecksumFullCRC32}
		}
		for _, algorithm := range algorithms {
			page := testPage(&s, 3)
			want := bytes.Clone(page)
			s.SetLSN(page, 0x123456789A)
			s.Stamp(page, algorithm)
			if algorithm != innodb.ChecksumLegacy { // which only servers' pages prove: TestRealPages, TestUnpack
				if innodbtest.Seal(want, flags, 0x123456789A, algorithm); !bytes.Equal(page, want) {
					t.Errorf("%s, algorithm %d: another stamp than computed by hand", name, algorithm)
				}
			}
			got, err := s.Verify(page, 3)
			if err != nil || got != algorithm {
				t.Errorf("%s, algorithm %d: Verify = %d, %v", name, algorithm, got, err)
			}
			if lsn := innodb.HeaderLSN(page); lsn != 0x123456789A {
				t.Errorf("%s: LSN = %d", name, lsn)
			}
			if algorithm != innodb.ChecksumNone {
				checkFlips(t, name, &s, page)
			}
		}
	}
}

// TestTornWithoutChecksum: of a page without a checksum, and of one whose trailer
// no checksum covers, the LSN at the end must be the one in the header.
func TestTornWithoutChecksum(t *testing.T) {
	for name, flags := range spaces {
		s, err := innodb.ParseFlags(flags)
		if err != nil {
			t.Fatal(err)
		}
		s.ID = 7
		if s.FullCRC32 || s.Zip() {
			continue
		}
		for _, algorithm := range []innodb.Checksum{innodb.ChecksumCRC32, innodb.ChecksumLegacy, innodb.ChecksumNone} {
			older, newer := testPage(&s, 3), testPage(&s, 3)
			s.SetLSN(older, 0x123456789A)
			s.SetLSN(newer, 0x12345678AA)
			s.Stamp(older, algorithm)
			s.Stamp(newer, algorithm)
			for at := 512; at < s.Physical; at += 512 {
				torn := append(bytes.Clone(newer[:at]), older[at:]...)
				if _, err := s.Verify(torn, 3); err == nil {
					t.Errorf("%s, algorithm %d: torn at %d, and it passes", name, algorithm, at)
				}
			}
		}
	}
}

// TestKeyVersion: a tablespace whose encryption data say that it is not encrypted has
// no page with the version of a key.
func TestKeyVersion(t *testing.T) {
	for name, flags := range spaces {
		s, err := innodb.ParseFlags(flags)
		if err != nil {
			t.Fatal(err)
		}
		for _, present := range []bool{false, true} {
			s.Encryption.Present, s.Encryption.Mode = present, 2 // ENCRYPTED=NO
			for no := range innodb.PageNo(2) {
				page := testPage(&s, no)
				clear(page[innodb.OffsetFlushLSN : innodb.OffsetFlushLSN+8])
				at := innodb.OffsetFlushLSN
				if s.FullCRC32 {
					at = 0
				}
				binary.BigEndian.PutUint32(page[at:], 1)
				s.SetLSN(page, 1000)
				s.Stamp(page, innodb.ChecksumCRC32)
				want := !present || no == 0
				if err := verify(&s, page, no); (err == nil) != want {
					t.Errorf("%s, page %d, encryption data %v: %v", name, no, present, err)
				}
			}
		}
	}
}

// testPage is random bytes with the few fields that Verify looks at. It is not
// made by innodbtest, because pages from there are sealed, and page 0 is whole.
func testPage(s *innodb.Space, no innodb.PageNo) []byte {
	page := make([]byte, s.Physical)
	rng := rand.New(rand.NewPCG(1, uint64(s.Flags)))
	for i := range page {
		page[i] = byte(rng.Uint32())
	}
	binary.BigEndian.PutUint32(page[innodb.OffsetPageNo:], uint32(no))
	binary.BigEndian.PutUint32(page[innodb.OffsetSpace:], uint32(s.ID))
	binary.BigEndian.PutUint16(page[innodb.OffsetType:], uint16(innodb.TypeIndex))
	return page
}

// checkFlips flips bits of the parts of a page that checksums cover: all around
// their borders, a few thousand elsewhere.
func checkFlips(t *testing.T, name string, s *innodb.Space, page []byte) {
	t.Helper()
	covered := func(at int) bool {
		switch {
		case s.FullCRC32:
			return true
		case s.Zip():
			return at < 16 || 24 <= at && at < 26 || at >= 34
		}
		return at < 26 || at >= 34
	}
	for at := range page {
		inside := at > 64 && at < len(page)-64
		if !covered(at) || inside && at%(len(page)/1024) != 0 {
			continue
		}
		bit := byte(1) << (at % 8)
		page[at] ^= bit
		if sum, err := s.Verify(page, 3); err == nil {
			t.Errorf("%s: a flipped bit in byte %d passes as algorithm %d", name, at, sum)
		}
		page[at] ^= bit
	}
}

func TestVerifyIdentity(t *testing.T) {
	s, err := innodb.ParseFlags(0x15)
	if err != nil {
		t.Fatal(err)
	}
	s.ID = 7
	page := testPage(&s, 3)
	s.Stamp(page, 0)
	other := s
	other.ID = 8
	for what, err := range map[string]error{
		"page number": verify(&s, page, 4),
		"space id":    verify(&other, page, 3),
		"length":      verify(&s, page[:4096], 3),
	} {
		var pageErr *innodb.PageError
		if !errors.As(err, &pageErr) {
			t.Errorf("wrong %s: error = %v, want a PageError", what, err)
		}
	}
	if err := verify(&s, make([]byte, s.Physical), 9); err != nil {
		t.Errorf("page of zeros: %v", err)
	}
}

func verify(s *innodb.Space, page []byte, no innodb.PageNo) error {
	_, err := s.Verify(page, no)
	return err
}

func TestParseFlagsRefuses(t *testing.T) {
	for _, flags := range []uint32{0x10, 0x12, 0x18, 1<<1 | 1<<6, 15 << 1, 15 << 6, 6<<1 | 5<<6} {
		if s, err := innodb.ParseFlags(flags); err == nil {
			t.Errorf("flags %#x: %+v, want an error", flags, s)
		}
	}
}

func TestParseSpaceRefuses(t *testing.T) {
	s, _ := innodb.ParseFlags(0x15)
	page := make([]byte, s.Physical)
	if _, err := innodb.ParseSpace(page); !errors.Is(err, innodb.ErrZeroHeader) {
		t.Errorf("page of zeros: error = %v", err)
	}
	page = testPage(&s, 0)
	if _, err := innodb.ParseSpace(page[:40]); err == nil {
		t.Error("a header of 40 bytes was read")
	}
	binary.BigEndian.PutUint32(page[innodb.OffsetFSPFlags:], 0x15)
	if _, err := innodb.ParseSpace(page); err == nil || !strings.Contains(err.Error(), "two tablespaces") {
		t.Errorf("two ids: error = %v", err)
	}
}

// TestRealPages verifies every page of databases that real servers wrote, in
// every page format that they can be made to write.
func TestRealPages(t *testing.T) {
	mysqldtest.Each(t, mysqldtest.MariaDB, func(t *testing.T, root *mysqldtest.Root) {
		algorithms := []string{"crc32", "full_crc32"}
		if !root.AtLeast(10, 6) {
			algorithms = append(algorithms, "innodb", "none")
		}
		for _, algorithm := range algorithms {
			s := mysqldtest.Start(t, root, mysqldtest.Options{Init: []string{"innodb-checksum-algorithm=" + algorithm}})
			fill(t, s)
			if err := s.Stop(); err != nil {
				t.Fatal(err)
			}
			seen := verifyDatadir(t, s.Datadir)
			want := map[string]innodb.Checksum{"crc32": innodb.ChecksumCRC32, "full_crc32": innodb.ChecksumFullCRC32,
				"innodb": innodb.ChecksumLegacy, "none": innodb.ChecksumNone}[algorithm]
			if seen[want] < 50 {
				t.Errorf("%s: pages by algorithm: %v", algorithm, seen)
			}
		}
	})
}

func fill(t *testing.T, s *mysqldtest.Server) {
	t.Helper()
	s.Exec(t, "CREATE DATABASE d")
	for i, format := range []string{"ROW_FORMAT=DYNAMIC", "ROW_FORMAT=REDUNDANT", "ROW_FORMAT=COMPRESSED KEY_BLOCK_SIZE=4",
		"ROW_FORMAT=COMPRESSED KEY_BLOCK_SIZE=16", "ROW_FORMAT=COMPRESSED KEY_BLOCK_SIZE=1", "PAGE_COMPRESSED=1"} {
		table := "d.t" + string(rune('a'+i))
		s.Exec(t, "CREATE TABLE "+table+" (id INT PRIMARY KEY, v VARCHAR(100), b BLOB) ENGINE=InnoDB "+format,
			"INSERT INTO "+table+" SELECT seq, REPEAT(MD5(seq), 3), REPEAT(MD5(seq), IF(seq % 50 = 0, 400, 1)) FROM d.seq_1_to_2000")
	}
}

// verifyDatadir verifies all tablespaces below dir and counts pages by
// algorithm.
func verifyDatadir(t *testing.T, dir string) map[innodb.Checksum]int {
	t.Helper()
	seen := map[innodb.Checksum]int{}
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		base := filepath.Base(path)
		if err != nil || !strings.HasSuffix(base, ".ibd") && base != "ibdata1" && !strings.HasPrefix(base, "undo0") {
			return err
		}
		content, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		s, err := innodb.ParseSpace(content)
		if err != nil {
			t.Errorf("%s: %v", path, err)
			return nil
		}
		var skip []innodb.PageRange
		if s.ID == 0 {
			at := int(innodb.TrxSysPage) * s.Physical
			if skip = s.DoublewriteArea(content[at : at+s.Physical]); len(skip) != 2 {
				t.Errorf("%s: doublewrite area %v", path, skip)
			}
		}
		for no := range innodb.PageNo(len(content) / s.Physical) {
			if len(skip) == 2 && (skip[0].Contains(no) || skip[1].Contains(no)) {
				continue
			}
			page := content[int(no)*s.Physical:][:s.Physical]
			sum, err := s.Verify(page, no)
			if err != nil {
				t.Errorf("%s: %v", path, err)
			}
			seen[sum]++
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return seen
}

func TestAllZero(t *testing.T) {
	b := make([]byte, 200<<10)
	if !innodb.AllZero(b) || !innodb.AllZero(nil) {
		t.Error("zeros are not all zero")
	}
	for _, at := range []int{0, 64<<10 - 1, 64 << 10, len(b) - 1} {
		c := bytes.Clone(b)
		c[at] = 1
		if innodb.AllZero(c) {
			t.Errorf("a byte at %d was overlooked", at)
		}
	}
}

func FuzzParseSpace(f *testing.F) {
	for _, flags := range spaces {
		s, _ := innodb.ParseFlags(flags)
		page := testPage(&s, 0)
		binary.BigEndian.PutUint32(page[innodb.OffsetFSPFlags:], flags)
		f.Add(page)
	}
	f.Fuzz(func(t *testing.T, page []byte) {
		s, err := innodb.ParseSpace(page)
		if err != nil {
			return
		}
		if len(page) >= s.Physical {
			s.Verify(page[:s.Physical], 0)
			s.DoublewriteArea(page[:s.Physical])
		}
	})
}

// verifySealed verifies pages, encrypted ones too, without their keys, and refuses them with
// a flipped bit.
func verifySealed(t *testing.T, space *innodb.Space, content []byte) {
	t.Helper()
	sealed := 0
	for no := range innodb.PageNo(len(content) / space.Physical) {
		page := bytes.Clone(content[int(no)*space.Physical:][:space.Physical])
		if _, err := space.Verify(page, no); err != nil {
			t.Errorf("page %d: %v", no, err)
		}
		if !space.Sealed(page, no) {
			continue
		}
		sealed++
		if no > 20 {
			continue
		}
		stored := space.Physical
		if space.PageCompressed && space.Compressed(page) { // the rest is a hole
			stored = len(bytes.TrimRight(page, "\x00"))
		}
		for range 50 {
			// The trailer outside of full_crc32 tablespaces is that of the plain page.
			at := 4 + rand.IntN(stored-12)
			if !space.FullCRC32 && at >= innodb.OffsetFlushLSN && at < innodb.OffsetSpace ||
				space.Zip() && at >= innodb.OffsetLSN && at < innodb.OffsetType {
				continue // no checksum covers it
			}
			bit := byte(1) << rand.IntN(8)
			page[at] ^= bit
			if _, err := space.Verify(page, no); err == nil {
				t.Errorf("page %d: a flipped bit at %d passes", no, at)
			}
			page[at] ^= bit
		}
	}
	if (sealed > 0) != space.Encrypted() {
		t.Errorf("%d encrypted pages in a tablespace where Encrypted is %t", sealed, space.Encrypted())
	}
}

// TestRealEncryption: an encrypted tablespace is recognised by its first page, and its
// pages are verified without the keys.
func TestRealEncryption(t *testing.T) {
	mysqldtest.Each(t, mysqldtest.MariaDB, func(t *testing.T, root *mysqldtest.Root) {
		keys := filepath.Join(t.TempDir(), "keys")
		if err := os.WriteFile(keys, []byte("1;770A8A65DA156D24EE2A093277530142\n"), 0o600); err != nil {
			t.Fatal(err)
		}
		for _, c := range []struct{ size, algorithm string }{{"4096", "full_crc32"}, {"16384", "full_crc32"}, {"16384", "crc32"}, {"65536", "crc32"}} {
			size := c.size
			s := mysqldtest.Start(t, root, mysqldtest.Options{
				Init:   []string{"innodb-page-size=" + size},
				Config: []string{"innodb-checksum-algorithm=" + c.algorithm, "plugin-load-add=file_key_management", "file-key-management-filename=" + keys},
			})
			s.Exec(t, "CREATE DATABASE d", "CREATE TABLE d.t (i INT) ENGINE=InnoDB ENCRYPTED=YES ENCRYPTION_KEY_ID=1",
				"CREATE TABLE d.plain (i INT) ENGINE=InnoDB", "INSERT INTO d.t VALUES (1)")
			encrypted := innodb.Encryption{Present: true, Scheme: 1, MinVersion: 1, KeyID: 1, Mode: 1}
			tables := map[string]innodb.Encryption{"t": encrypted, "plain": {}}
			if size == "16384" {
				s.Exec(t, "CREATE TABLE d.zip (i INT PRIMARY KEY, v TEXT) ENGINE=InnoDB ROW_FORMAT=COMPRESSED ENCRYPTED=YES",
					"CREATE TABLE d.packed (i INT PRIMARY KEY, v TEXT) ENGINE=InnoDB PAGE_COMPRESSED=1 ENCRYPTED=YES",
					"INSERT INTO d.zip SELECT seq, SHA2(seq, 512) FROM d.seq_1_to_1000", "INSERT INTO d.packed SELECT * FROM d.zip")
				tables["zip"], tables["packed"] = encrypted, encrypted
			}
			if err := s.Stop(); err != nil {
				t.Fatal(err)
			}
			for name, want := range tables {
				content, err := os.ReadFile(filepath.Join(s.Datadir, "d", name+".ibd"))
				if err != nil {
					t.Fatal(err)
				}
				space, err := innodb.ParseSpace(content)
				if random := space.Encryption.IV; (random == [16]byte{}) == want.Present {
					t.Errorf("page size %s, table %s: IV %x", size, name, random)
				}
				want.IV = space.Encryption.IV
				if err != nil || space.Encryption != want {
					t.Errorf("page size %s, table %s: %+v, %v; want %+v", size, name, space.Encryption, err, want)
				}
				verifySealed(t, &space, content)
			}
		}
	})
}
