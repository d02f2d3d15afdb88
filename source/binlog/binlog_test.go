package binlog

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"hash/crc32"
	"os"
	"strings"
	"testing"
)

// real is a binary log of MySQL 9.7.4, with what SHOW BINLOG EVENTS says of it.
func real(t testing.TB) []byte {
	t.Helper()
	b, err := os.ReadFile("testdata/mysql-9.7.4")
	if err != nil {
		t.Fatal(err)
	}
	return b
}

const realUUID = "74e805c3-ebeb-11f1-b567-02fc00000001"

// TestReal: what a file holds up to each position between two transactions, and
// no other position is taken.
func TestReal(t *testing.T) {
	b := real(t)
	want := map[int]string{
		249: "1-4:hello_tag:1", 512: "1-4:a:1:hello_tag:1", 777: "1-5:a:1:hello_tag:1", // Xid, COMMIT
		1147: "1-6:a:1:hello_tag:1", 1311: "1-7:a:1:hello_tag:1", // XA PREPARE, XA COMMIT
	}
	for n := range len(b) + 1 {
		log, err := Read(t.Context(), bytes.NewReader(b), int64(n))
		text, ok := want[n]
		if !ok {
			if err == nil {
				t.Errorf("position %d is taken", n)
			}
			continue
		}
		if err != nil {
			t.Errorf("position %d: %v", n, err)
			continue
		}
		all := log.All()
		if got := all.String(); got != realUUID+":"+text {
			t.Errorf("position %d: %s, want %s", n, got, text)
		}
	}
	if err := Look(bytes.NewReader(b[:200])); err != nil {
		t.Error(err)
	}
}

// TestDamaged: no bit of a file may change, except for the mark that it is being
// written.
func TestDamaged(t *testing.T) {
	b := real(t)
	for i := range 8 * len(b) {
		c := bytes.Clone(b)
		c[i/8] ^= 1 << (i % 8)
		_, err := Read(t.Context(), bytes.NewReader(c), int64(len(c)))
		if inUse := i == 8*(len(magic)+headerSize-2); (err == nil) != inUse {
			t.Errorf("bit %d of byte %d: %v", i%8, i/8, err)
		}
	}
	for n := range b {
		if _, err := Read(t.Context(), bytes.NewReader(b[:n]), int64(len(b))); err == nil {
			t.Errorf("a file of %d bytes is read to %d", n, len(b))
		}
	}
}

// change makes another binary log of the real one: f changes the events, whose
// checksums and positions are put right.
func change(t testing.TB, f func(kind byte, body []byte) []byte) []byte {
	t.Helper()
	b := real(t)
	out := bytes.Clone(magic)
	for at := len(magic); at < len(b); {
		size := int(binary.LittleEndian.Uint32(b[at+9:]))
		head, body := bytes.Clone(b[at:at+headerSize]), bytes.Clone(b[at+headerSize:at+size-checksumSize])
		at += size
		if body = f(head[4], body); body == nil {
			continue
		}
		size = headerSize + len(body) + checksumSize
		binary.LittleEndian.PutUint32(head[9:], uint32(size))
		binary.LittleEndian.PutUint32(head[13:], uint32(len(out)+size))
		head[17] &^= flagInUse
		event := append(head, body...)
		out = append(out, binary.LittleEndian.AppendUint32(event, crc32.ChecksumIEEE(event))...)
	}
	return out
}

// TestUnknown: what is not known is refused, with what it is.
func TestUnknown(t *testing.T) {
	only := func(kind byte, f func(body []byte) []byte) []byte {
		return change(t, func(k byte, body []byte) []byte {
			if k == kind {
				return f(body)
			}
			return body
		})
	}
	set := func(at int, to byte) func([]byte) []byte {
		return func(b []byte) []byte { b[at] = to; return b }
	}
	crypt := bytes.Clone(real(t))
	crypt[0] = 0xFD
	unknown := real(t)
	unknown[512+4] = 43
	for name, c := range map[string]struct {
		log  []byte
		text string
	}{
		"nothing changed":                {only(99, nil), ""},
		"encrypted":                      {crypt, ErrEncrypted.Error()},
		"an event of another type":       {unknown, "type, 43"},
		"another version":                {only(eventFormat, set(0, 3)), "version 3"},
		"other checksums":                {only(eventFormat, func(b []byte) []byte { b[len(b)-1] = 2; return b }), "kind 2"},
		"no GTIDs of earlier files":      {only(eventPreviousGTID, func([]byte) []byte { return nil }), "earlier files"},
		"GTIDs of another form":          {only(eventPreviousGTID, set(7, 2)), "form 2"},
		"more origins than there are":    {only(eventPreviousGTID, set(1, 200)), "short"},
		"more runs than there are":       {only(eventPreviousGTID, set(8+17+7, 0x7F)), "room for"},
		"a tag in upper case":            {only(eventTaggedGTID, func(b []byte) []byte { return bytes.Replace(b, []byte{6, 2, 'a'}, []byte{6, 2, 'A'}, 1) }), "tag"},
		"another serialization":          {only(eventTaggedGTID, set(0, 4)), "version 2"},
		"fields in another order":        {only(eventTaggedGTID, set(5, 0)), "field 0 follows the field 0"},
		"a GTID of MySQL 5.7":            {only(eventGTID, func(b []byte) []byte { return b[:42] }), "another form"},
		"a number of 0":                  {only(eventGTID, func(b []byte) []byte { clear(b[17:25]); return b }), "number is 0"},
		"a transaction beyond the end":   {only(eventGTID, func(b []byte) []byte { b[51] = 0xFF; return b }), "crosses"},
		"a transaction without a body":   {only(eventGTID, func(b []byte) []byte { b[49] = 1; return b[:50] }), "has 1 bytes"},
		"transactions within each other": {only(eventGTID, func(b []byte) []byte { b[50]++; return b }), "within another"},
	} {
		_, err := Read(t.Context(), bytes.NewReader(c.log), int64(len(c.log)))
		if c.text == "" != (err == nil) || err != nil && !strings.Contains(err.Error(), c.text) {
			t.Errorf("%s: %v, want %q", name, err, c.text)
		}
	}
	ctx, cancel := context.WithCancelCause(t.Context())
	cancel(errors.New("enough"))
	if _, err := Read(ctx, bytes.NewReader(real(t)), 1311); err == nil || err.Error() != "enough" {
		t.Errorf("a read that is given up: %v", err)
	}
}

// TestNumbers: the serialization library's integers, by the examples of its
// description.
func TestNumbers(t *testing.T) {
	for _, c := range []struct {
		b      []byte
		n      uint64
		signed int64
	}{
		{[]byte{0xFB, 0xFF, 0x07}, 65535, -32768}, {[]byte{0xF3, 0xFF, 0x0F}, 131070, 65535}, {[]byte{0xFB, 0xFF, 0x0F}, 131071, -65536},
		{[]byte{0}, 0, 0}, {[]byte{0xFE}, 127, -64}, {[]byte{0xFF, 1, 2, 3, 4, 5, 6, 7, 8}, 0x0807060504030201, -0x0403_8302_8201_8101},
	} {
		m, s := message{b: c.b}, message{b: c.b}
		if n, v := m.number(), s.signed(); n != c.n || v != c.signed || m.err != nil || len(m.b) != 0 {
			t.Errorf("% x is %d, %d; want %d, %d (%v)", c.b, n, v, c.n, c.signed, m.err)
		}
		m = message{b: c.b[:len(c.b)-1]}
		if m.number(); m.err == nil {
			t.Errorf("% x without its last byte is a number", c.b)
		}
	}
}

// TestSets: sets print as they are read, with runs joined, and are compared.
func TestSets(t *testing.T) {
	const a, b = "00000000-0000-0000-0000-00000000000a", "00000000-0000-0000-0000-00000000000b"
	for text, want := range map[string]string{
		"": "", a + ":1": a + ":1", strings.ToUpper(a) + ":3:1-2:7": a + ":1-3:7",
		b + ":1-5,\n" + a + ":x:2:1:4-5:3": b + ":1-5", a + ":1:b:2:a:3,": a + ":1:a:3:b:2",
		a + ":1-3:5-7:4": a + ":1-7", a + ":10-20:5-15:18-30:1": a + ":1:5-30", strings.ReplaceAll(a, "-", "") + ":1": a + ":1",
	} {
		if strings.Contains(text, "\n") {
			want = a + ":x:1-5," + want
		}
		s, err := ParseSet(text)
		if err != nil || s.String() != want {
			t.Errorf("%q is %q (%v), want %q", text, s.String(), err, want)
		}
	}
	for _, text := range []string{a, a + ":", a + ":0", a + ":5-3", a + ":1-", a + ":9223372036854775807", "x:1", a + ":A:1", a + ":x1-:3", a[:35] + ":1",
		a + ":" + strings.Repeat("t", 33) + ":1", a + ":18446744073709551616"} {
		if s, err := ParseSet(text); err == nil {
			t.Errorf("%q is taken as %q", text, s.String())
		}
	}
	for _, c := range [][3]string{
		{"", "", ""}, {a + ":1-5", a + ":2-3", ""}, {a + ":1-5", a + ":5-6", a + ":6"}, {a + ":1-5:9", a + ":4-9", a + ":6-8"},
		{a + ":1-5", b + ":1", b + ":1"}, {a + ":1", a + ":x:1", a + ":x:1"}, {a + ":5", a + ":1-2:5", a + ":1-2"},
	} {
		s, err := ParseSet(c[0])
		u, uerr := ParseSet(c[1])
		if got := s.Missing(u); got != c[2] || err != nil || uerr != nil {
			t.Errorf("of %q, %q lacks %q, want %q", c[1], c[0], got, c[2])
		}
	}
}

// FuzzRead: whatever is in a file, reading it ends, with little memory.
func FuzzRead(f *testing.F) {
	f.Add(real(f))
	f.Add(change(f, func(kind byte, body []byte) []byte { return body }))
	f.Fuzz(func(t *testing.T, b []byte) {
		log, err := Read(t.Context(), bytes.NewReader(b), int64(len(b)))
		if err != nil {
			return
		}
		all := log.All()
		if s, err := ParseSet(all.String()); err != nil || s.String() != all.String() {
			t.Errorf("%q is read as %q (%v)", all.String(), s.String(), err)
		}
	})
}
