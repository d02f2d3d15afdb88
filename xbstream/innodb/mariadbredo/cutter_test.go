package mariadbredo

import (
	"bytes"
	"testing"

	"hb/xbstream/innodb"
	"hb/xbstream/innodb/innodbtest"
)

// record returns a WRITE record of n body bytes on page 5 of space 7.
func record(n int) []byte {
	body := append([]byte{7, 5}, bytes.Repeat([]byte{0xAB}, n)...)
	return innodbtest.MariaDBRecord(byte(Write)<<4, body...)
}

type piece struct {
	start, end innodb.LSN
	records    string
}

// cutAll feeds log from the cutter's position on, at most step bytes more at a
// time, and returns all mini-transactions.
func cutAll(c *Cutter, log []byte, base innodb.LSN, step int) []piece {
	var got []piece
	for have := min(step, len(log)); ; have = min(have+step, len(log)) {
		at := int(c.Position() - base)
		if at > have {
			have = min(at, len(log))
		}
		c.Feed(log[min(at, have):have])
		for m, ok := c.Next(); ok; m, ok = c.Next() {
			got = append(got, piece{m.Start, m.End, string(m.Records)})
		}
		if have == len(log) {
			return got
		}
	}
}

func TestCutPlain(t *testing.T) {
	const start = innodb.LSN(20000)
	mtrs := [][]byte{record(3), append(record(300), record(20000)...), record(14), record(13)}
	var log []byte
	var want []piece
	at := start
	for _, m := range mtrs {
		sealed := innodbtest.MTR(m, 1)
		want = append(want, piece{at, at + innodb.LSN(len(sealed)), string(m)})
		at += innodb.LSN(len(sealed))
		log = append(log, sealed...)
	}
	for _, step := range []int{1, 7, 511, 1 << 20} {
		c := NewCutter(Geometry{Format: Format108, First: start, FirstOffset: 12288}, start)
		got := cutAll(c, log, start, step)
		if len(got) != len(want) {
			t.Fatalf("step %d: %d mini-transactions, want %d (%v)", step, len(got), len(want), c.Stop())
		}
		for i := range got {
			if got[i] != want[i] {
				t.Errorf("step %d: mtr %d is %d-%d (%d bytes), want %d-%d", step, i, got[i].start, got[i].end,
					len(got[i].records), want[i].start, want[i].end)
			}
		}
		if c.End() != at || !c.Clean() {
			t.Errorf("step %d: end %d, want %d, clean %v", step, c.End(), at, c.Clean())
		}
	}
}

func TestCutPlainStops(t *testing.T) {
	good := innodbtest.MTR(record(9), 1)
	flip := func(at int, b byte) []byte {
		log := append(bytes.Clone(good), innodbtest.MTR(record(30), 1)...)
		log[len(good)+at] ^= b
		return log
	}
	second := len(innodbtest.MTR(record(30), 1))
	long := bytes.Repeat(record(65000), MaxMTR/65000+1)
	for _, tc := range []struct {
		name  string
		log   []byte
		cause StopCause
		clean bool
	}{
		{"end", good, StopShort, true},
		{"cut in records", flip(0, 0)[:len(good)+5], StopShort, false},
		{"cut before CRC", flip(0, 0)[:len(good)+second-4], StopShort, false},
		{"cut in CRC", flip(0, 0)[:len(good)+second-1], StopShort, false},
		{"zero", append(bytes.Clone(good), 0), StopEndMark, false},
		{"one", append(bytes.Clone(good), 1), StopEndMark, false},
		{"other lap", flip(second-5, 1), StopSequence, false},
		{"bad CRC", flip(second-1, 0x10), StopChecksum, false},
		{"bad record byte", flip(8, 0x10), StopChecksum, false},
		{"bad length", append(bytes.Clone(good), 0x30, 0xE0, 1, 1, 1), StopRecord, false},
		{"bad number", append(bytes.Clone(good), 0x30, 0xFF, 1, 1, 1), StopRecord, false},
		{"too long", append(bytes.Clone(good), innodbtest.MTR(long, 1)...), StopTooLong, false},
	} {
		t.Run(tc.name, func(t *testing.T) {
			c := NewCutter(Geometry{Format: Format108, First: 12288, FirstOffset: 12288}, 12288)
			got := cutAll(c, tc.log, 12288, len(tc.log))
			if len(got) != 1 {
				t.Fatalf("%d mini-transactions, want 1", len(got))
			}
			stop := c.Stop()
			if stop.Cause != tc.cause || stop.LSN != 12288+innodb.LSN(len(good)) || c.Clean() != tc.clean {
				t.Errorf("stop: %v (clean %v), want cause %d (clean %v)", stop, c.Clean(), tc.cause, tc.clean)
			}
		})
	}
}

func TestSequenceChangesWithLap(t *testing.T) {
	const capacity = 1000
	g := Geometry{Format: Format108, First: 50000, FirstOffset: 12288, Capacity: capacity}
	at := innodb.LSN(50000)
	var log []byte
	for at < 50000+3*capacity {
		m := record(90)
		lap := (int(at) + len(m) - 50000) / capacity
		sealed := innodbtest.MTR(m, byte(1-lap%2))
		log = append(log, sealed...)
		at += innodb.LSN(len(sealed))
	}
	c := NewCutter(g, 50000)
	cutAll(c, log, 50000, len(log))
	if c.End() != at {
		t.Errorf("cut up to %d, want %d: %v", c.End(), at, c.Stop())
	}
}

func TestCutBlocks(t *testing.T) {
	// The sizes put ends of mini-transactions at, before and after the end of
	// a block's payload, wherever in a block the log begins.
	sizes := []int{3, 480, 496, 1200, 14, 13, 30000, 100, 100, 100, 100}
	for n := 380; n < 420; n++ {
		sizes = append(sizes, n)
	}
	for start := innodb.LSN(4096 + 12); start < 4096+508; start += 7 {
		var payload []byte
		var want []piece
		lsn := func(n int) innodb.LSN { // the LSN n payload bytes after start, counted one by one
			at := start
			for range n {
				at++
				if at%512 == 508 {
					at += 16
				}
			}
			return at
		}
		n, at := 0, start
		for i, size := range sizes {
			m := record(size)
			if i%5 == 4 { // padding is not part of the next one
				payload = append(payload, 0, 0, 0)
				n += 3
				at = lsn(n)
			}
			payload = append(append(payload, m...), 0)
			n += len(m) + 1
			end := lsn(n)
			want = append(want, piece{at, end, string(m)})
			at = end
		}
		log := innodbtest.Blocks(innodbtest.MariaDB105, start, payload)
		for _, step := range []int{512, 513, 100, 1 << 20} {
			c := NewCutter(Geometry{Format: Format105, First: 4096, FirstOffset: 2048}, start)
			got := cutAll(c, log, 4096, step)
			if len(got) != len(want) {
				t.Fatalf("start %d step %d: %d mini-transactions, want %d (%v)", start, step, len(got), len(want), c.Stop())
			}
			for i := range got {
				if got[i] != want[i] {
					t.Fatalf("start %d step %d: mtr %d is %d-%d (%d bytes), want %d-%d (%d)", start, step, i, got[i].start,
						got[i].end, len(got[i].records), want[i].start, want[i].end, len(want[i].records))
				}
			}
			if !c.Clean() {
				t.Errorf("start %d: not clean: %v", start, c.Stop())
			}
		}
	}
}

// TestBlockGrows reads one block again and again while the server fills it.
func TestBlockGrows(t *testing.T) {
	var payload []byte
	want := 0
	for len(payload) < 2000 {
		payload = append(append(payload, record(20+want)...), 0)
		want++
	}
	const start = 8192 + 12
	c := NewCutter(Geometry{Format: Format105, First: 8192, FirstOffset: 2048}, start)
	got := 0
	for n := range len(payload) + 1 {
		log := innodbtest.Blocks(innodbtest.MariaDB105, start, payload[:n])
		c.Feed(log[c.Position()-8192:])
		for m, ok := c.Next(); ok; m, ok = c.Next() {
			if !bytes.Equal(m.Records, record(20+got)) {
				t.Fatalf("mtr %d differs", got)
			}
			got++
		}
	}
	if got != want {
		t.Errorf("%d mini-transactions, want %d: %v", got, want, c.Stop())
	}
}

func TestCutBlocksStops(t *testing.T) {
	payload := bytes.Repeat(append(record(100), 0), 20)
	log := innodbtest.Blocks(innodbtest.MariaDB105, 4096+12, payload)
	fix := func(b []byte) { innodbtest.SealBlock(innodbtest.MariaDB105, b) }
	for _, tc := range []struct {
		name   string
		damage func(b []byte) []byte
		cause  StopCause
		want   int
	}{
		{"older lap", func(b []byte) []byte { b[512+3] -= 5; fix(b[512:1024]); return b }, StopBlockNumber, 4},
		{"CRC", func(b []byte) []byte { b[512+100]++; return b }, StopChecksum, 4},
		{"used too small", func(b []byte) []byte { b[512+4], b[512+5] = 0, 11; fix(b[512:1024]); return b }, StopBlockUsed, 4},
		{"used too large", func(b []byte) []byte { b[512+4], b[512+5] = 1, 0xFE; fix(b[512:1024]); return b }, StopBlockUsed, 4},
		{"cut", func(b []byte) []byte { return b[:600] }, StopShort, 4},
		{"partly used", func(b []byte) []byte { b[512+4], b[512+5] = 0, 80; fix(b[512:1024]); return b }, StopPartialBlock, 5},
	} {
		t.Run(tc.name, func(t *testing.T) {
			c := NewCutter(Geometry{Format: Format105, First: 4096, FirstOffset: 2048}, 4096+12)
			got := cutAll(c, tc.damage(bytes.Clone(log)), 4096, len(log))
			if len(got) != tc.want || c.Stop().Cause != tc.cause || c.Clean() {
				t.Errorf("%d mini-transactions, stop %v, clean %v; want %d, cause %d", len(got), c.Stop(), c.Clean(), tc.want, tc.cause)
			}
		})
	}
}

func TestCutterDoesNotAllocate(t *testing.T) {
	sealed := innodbtest.MTR(record(60), 1)
	log := bytes.Repeat(sealed, 1000)
	blocked := innodbtest.Blocks(innodbtest.MariaDB105, 4096+12, bytes.Repeat(append(record(60), 0), 1000))
	for _, tc := range []struct {
		g   Geometry
		at  innodb.LSN
		log []byte
	}{
		{Geometry{Format: Format108, First: 12288}, 12288, log},
		{Geometry{Format: Format105, First: 4096}, 4096 + 12, blocked},
	} {
		c := NewCutter(tc.g, tc.at)
		n := testing.AllocsPerRun(5, func() {
			carry := c.carry
			*c = Cutter{geo: tc.g, pos: tc.at, end: tc.at, carry: carry[:0]}
			c.Feed(tc.log)
			count := 0
			for _, ok := c.Next(); ok; _, ok = c.Next() {
				count++
			}
			if count != 1000 {
				t.Errorf("%v: %d mini-transactions: %v", tc.g.Format, count, c.Stop())
			}
		})
		if n > 0 {
			t.Errorf("%v: %v allocations", tc.g.Format, n)
		}
	}
}

func FuzzCutter(f *testing.F) {
	f.Add(false, innodbtest.MTR(record(60), 1))
	f.Add(true, innodbtest.Blocks(innodbtest.MariaDB105, 4096+12, append(record(60), 0)))
	f.Fuzz(func(t *testing.T, old bool, log []byte) {
		g, at := Geometry{Format: Format108, First: 12288}, innodb.LSN(12288)
		if old {
			g, at = Geometry{Format: Format105, First: 4096}, 4096+12
			// Random bytes have no valid CRC: give them one.
			for b := log; len(b) >= 512; b = b[512:] {
				innodbtest.SealBlock(innodbtest.MariaDB105, b[:512])
			}
		}
		c := NewCutter(g, at)
		last := at
		for _, p := range cutAll(c, log, c.Position(), 700) {
			if p.start < last || p.end <= p.start {
				t.Fatalf("mini-transaction %d-%d after %d", p.start, p.end, last)
			}
			last = p.end
			rr := ReadRuns([]byte(p.records))
			for rr.Next() {
				if rr.Run().Kind.IsFile() {
					rr.FileOp()
				}
			}
			var _ = rr.Err()
		}
	})
}

func BenchmarkCutter(b *testing.B) {
	plain := bytes.Repeat(innodbtest.MTR(bytes.Repeat(record(20), 6), 1), 5000)
	blocked := innodbtest.Blocks(innodbtest.MariaDB105, 4096+12, bytes.Repeat(append(bytes.Repeat(record(20), 6), 0), 5000))
	for _, tc := range []struct {
		g   Geometry
		at  innodb.LSN
		log []byte
	}{{Geometry{Format: Format108, First: 12288}, 12288, plain}, {Geometry{Format: Format105, First: 4096}, 4096 + 12, blocked}} {
		b.Run(tc.g.Format.String(), func(b *testing.B) {
			b.SetBytes(int64(len(tc.log)))
			for b.Loop() {
				c := NewCutter(tc.g, tc.at)
				c.Feed(tc.log)
				for _, ok := c.Next(); ok; _, ok = c.Next() {
				}
			}
		})
	}
}
