package mariadbredo

import (
	"bytes"
	"encoding/binary"
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
