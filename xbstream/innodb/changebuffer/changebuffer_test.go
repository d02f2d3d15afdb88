package changebuffer_test

import (
	"encoding/binary"
	"testing"

	"hb/xbstream/innodb/changebuffer"
	"hb/xbstream/innodb/innodbtest"
)

// TestEmpty: a server that was stopped in order has nothing buffered. What is not the change
// buffer's root is refused. (With changes it is read by TestChangeBuffer of sink/export.)
func TestEmpty(t *testing.T) {
	for _, name := range []string{"mysql56", "mariadb105"} {
		s := innodbtest.ReadStored(t, "../dict/testdata/"+name+"-ibdata1.gz")
		if m, err := changebuffer.Read(s, 100523); err != nil || len(m) != 0 {
			t.Errorf("%s: %v, %v", name, m, err)
		}
		for at, v := range map[int]uint16{24: 5, 66: 1, 12: 7} { // type, index, next page
			was := binary.BigEndian.Uint16(s.Data[4*4096+at:])
			binary.BigEndian.PutUint16(s.Data[4*4096+at:], v)
			if m, err := changebuffer.Read(s, 100523); err == nil {
				t.Errorf("%s: with %d at byte %d of its root it is %v", name, v, at, m)
			}
			binary.BigEndian.PutUint16(s.Data[4*4096+at:], was)
		}
		// MariaDB 11.0 and later have no change buffer, and only there may its root be gone.
		clear(s.Data[4*4096:][:4096])
		for server, none := range map[int]bool{50729: false, 90704: false, 101118: false, 110809: true} {
			if m, err := changebuffer.Read(s, server); (err == nil) != none {
				t.Errorf("%s: without its root, version %d: %v, %v", name, server, m, err)
			}
		}
	}
}

// FuzzRead reads change buffers of which some bytes were changed.
func FuzzRead(f *testing.F) {
	s := innodbtest.ReadStored(f, "../dict/testdata/mysql56-ibdata1.gz")
	f.Add(uint32(4*4096+54), []byte{0, 1})
	f.Fuzz(func(t *testing.T, at uint32, change []byte) {
		part := s.Data[int(at)%len(s.Data):]
		part = part[:min(len(part), len(change))]
		was := append([]byte(nil), part...)
		copy(part, change)
		_, _ = changebuffer.Read(s, 100523)
		copy(part, was)
	})
}
