package mariadbredo

import (
	"bytes"
	"crypto/aes"
	"crypto/cipher"
	"encoding/binary"
	"slices"
	"testing"

	"hb/xbstream/innodb"
)

// TestSealedHeader reads and writes the header of an encrypted log, which is made here byte
// by byte, and cuts nothing from the log without a key.
func TestSealedHeader(t *testing.T) {
	block := make([]byte, 512)
	binary.BigEndian.PutUint32(block, 0xF09F979D)
	binary.BigEndian.PutUint64(block[8:], 12288)
	copy(block[16:], "Backup hb")
	binary.BigEndian.PutUint32(block[48:], 1)
	binary.BigEndian.PutUint32(block[52:], 7)
	copy(block[56:], "0123456789abcdefWXYZ")
	seal := func() { binary.BigEndian.PutUint32(block[508:], innodb.CRC32C(block[:508])) }
	seal()
	h, err := ParseHeader(block)
	want := Crypt{KeyID: 1, KeyVersion: 7, Message: [16]byte([]byte("0123456789abcdef")), Nonce: [4]byte([]byte("WXYZ"))}
	if err != nil || h.Crypt != want || h.Format != Format108 {
		t.Errorf("%+v, %v", h, err)
	}
	if !bytes.Equal(h.Marshal(), block) {
		t.Errorf("written as %x", h.Marshal()[:80])
	}
	c := NewCutter(LinearGeometry(h, Checkpoint{LSN: 12288, End: 12288}), 12288)
	c.Feed(make([]byte, 100))
	if _, ok := c.Next(); ok || c.Stop().Cause != StopSealed {
		t.Errorf("without a key: %v", c.Stop())
	}
	clear(block[48:52])
	seal()
	if h, err := ParseHeader(block); err == nil {
		t.Errorf("an encrypted log without the number of a key: %+v", h)
	}
}

// testCipher encrypts by a key for each version, and has no others.
type testCipher map[uint32][]byte

func (c testCipher) Decrypt(b []byte, version uint32, iv [16]byte) error {
	block, err := aes.NewCipher(c[version])
	if err == nil {
		cipher.NewCTR(block, iv[:]).XORKeyStream(b, b)
	}
	return err
}

func (c testCipher) Encrypt(b []byte, version uint32, iv [16]byte) error {
	return c.Decrypt(b, version, iv)
}

// TestSealedBlocks reads blocks of an encrypted 10.5 log that the test encrypts: records that
// go on over the ends of blocks, which are at byte 504, and a key that changes. The last block
// is cut, and encrypted again.
func TestSealedBlocks(t *testing.T) {
	const at = innodb.LSN(5000 * 512)
	keys := testCipher{1: []byte("the first key...")[:16], 2: []byte("the second key..")[:16]}
	crypt := Crypt{KeyID: 1, KeyVersion: 1, Message: [16]byte([]byte("0123456789abcdef")), Nonce: [4]byte([]byte("WXYZ"))}
	var payload []byte
	var ends []innodb.LSN // by arithmetic: 492 bytes of records in a block
	for n := range 12 {
		payload = append(payload, 0x30|9) // WRITE of 9 bytes
		payload = append(payload, bytes.Repeat([]byte{byte(n + 1)}, 9)...)
		payload = append(payload, bytes.Repeat([]byte{0xB1, 0}, 56)...) // so that every fourth one fills a block
		payload = append(payload, 0)
		end := at + innodb.LSN(len(payload)/492*512+len(payload)%492+12)
		ends = append(ends, end)
	}
	var log []byte
	for no := 0; no*492 <= len(payload); no++ {
		part := payload[no*492 : min(len(payload), no*492+492)]
		b := make([]byte, 512)
		lsn := at + innodb.LSN(no*512)
		binary.BigEndian.PutUint32(b, uint32(lsn/512)+1)
		used := 12 + len(part)
		if len(part) == 492 {
			used = 512
		}
		binary.BigEndian.PutUint16(b[4:], uint16(used))
		binary.BigEndian.PutUint16(b[6:], 12)
		copy(b[12:], part)
		version := uint32(1 + no/2)
		binary.BigEndian.PutUint32(b[504:], version)
		var iv [16]byte
		copy(iv[:], b[:4])
		copy(iv[4:], "WXYZ")
		binary.BigEndian.PutUint64(iv[8:], uint64(lsn))
		if err := keys.Encrypt(b[4:504], version, iv); err != nil {
			t.Fatal(err)
		}
		b[0] |= 0x80 // the first block of a write, which the IV does not have
		binary.BigEndian.PutUint32(b[508:], innodb.CRC32C(b[:508]))
		log = append(log, b...)
	}
	head := SealedHead(Format105, Checkpoint{LSN: at + 12, Number: 3}, "test", crypt)
	if !bytes.Equal(head[:4], []byte{0xD0, 'H', 'Y', 'S'}) || bytes.Count(head, crypt.Message[:]) != 1 {
		t.Errorf("the header begins with %x", head[:4])
	}
	h, err := ParseHeader(head)
	if err != nil {
		t.Fatal(err)
	}
	c, err := h.Checkpoint(head)
	if err != nil || c.Crypt != crypt {
		t.Fatalf("%+v, %v", c, err)
	}
	geo := LinearGeometry(h, c)
	cut := func(keys Cipher) (got []innodb.LSN, stop Stop) {
		geo.Cipher = keys
		cut := NewCutter(geo, c.LSN)
		cut.Feed(log)
		for m, ok := cut.Next(); ok; m, ok = cut.Next() {
			if len(m.Records) != 122 || m.Records[1] != byte(len(got)+1) {
				t.Errorf("mini-transaction %d: %x", len(got), m.Records)
			}
			got = append(got, m.End)
		}
		return got, cut.Stop()
	}
	if got, stop := cut(keys); !slices.Equal(got, ends) || stop.Cause != StopPartialBlock {
		t.Errorf("ends %d, %v, want %d", got, stop, ends)
	}
	if got, stop := cut(testCipher{1: keys[1]}); len(got) != 8 || stop.Cause != StopSealed || !stop.Keyless() {
		t.Errorf("without the second key: %d, %v", got, stop)
	}
	if got, stop := cut(nil); len(got) != 0 || stop.Cause != StopSealed {
		t.Errorf("without keys: %d, %v", got, stop)
	}
	if got, stop := cut(testCipher{1: keys[2], 2: keys[1]}); len(got) != 0 || stop.Cause != StopKey || !stop.Keyless() {
		t.Errorf("with other keys: %d, %v", got, stop)
	}
	geo.Cipher = keys
	cutAt := ends[1] // in the first block
	last, err := geo.LastBlock(log[:512], cutAt)
	if err != nil {
		t.Fatal(err)
	}
	if bytes.Contains(last, bytes.Repeat([]byte{1}, 9)) {
		t.Error("the last block is in clear")
	}
	log = last
	if got, stop := cut(keys); !slices.Equal(got, ends[:2]) || stop.Cause != StopPartialBlock || stop.LSN != cutAt {
		t.Errorf("the last block, cut: %d, %v", got, stop)
	}
	if _, err := (Geometry{Format: Format105, Crypt: crypt}).LastBlock(log, cutAt); err == nil {
		t.Error("a last block without keys")
	}
}
