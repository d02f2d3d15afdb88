package mysqlredo

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"hb/stream/disk"
	"hb/stream/disk/disktest"
	"hb/xbstream/innodb"
	"hb/xbstream/innodb/innodbtest"
	"hb/xbstream/innodb/mysqlredo/mlog"
	"hb/xbstream/innodb/redolog"
)

// realLogs are the beginnings of the logs of servers under the test load, as backups
// hold them, each cut after a mini-transaction: see save in live_test.go.
var realLogs = []struct {
	version string
	format  Format
}{{"5.6.24", Format56}, {"5.7.29", Format57}, {"9.7.4", Format8030}}

func realLog(t testing.TB, version string) []byte {
	t.Helper()
	return innodbtest.Gunzip(t, version+".log.gz")
}

// counter is the kind of metadata that is an AUTO_INCREMENT counter, and rollPtr the
// length of DB_ROLL_PTR.
const (
	counter = 2
	rollPtr = 7
)

// piece is a mini-transaction that outlives the Cutter's buffer.
type piece struct {
	start, end innodb.LSN
	records    string
}

// cutAll feeds blocks, which begin at LSN base, up to step bytes at a time.
func cutAll(c *Cutter, b []byte, base innodb.LSN, step int) []piece {
	var out []piece
	for {
		at := c.Position()
		from := b[min(int(at-base), len(b)):]
		c.Feed(from[:min(step, len(from))])
		n := len(out)
		for m, ok := c.Next(); ok; m, ok = c.Next() {
			out = append(out, piece{m.Start, m.End, string(m.Records)})
		}
		if n == len(out) && c.Position() == at {
			return out
		}
	}
}

func TestRealLogs(t *testing.T) {
	for _, tc := range realLogs {
		t.Run(tc.version, func(t *testing.T) {
			log := realLog(t, tc.version)
			l, err := ParseLinear(log)
			if err != nil {
				t.Fatal(err)
			}
			if l.Header.Format != tc.format || !strings.HasPrefix(l.Header.Creator, CreatorPrefix) {
				t.Errorf("header %+v", l.Header)
			}
			head := BackupHead(l.Header, l.Checkpoint, time.Now())
			again, err := ParseLinear(append(head, log[HeaderSize:]...))
			if err != nil || again.Checkpoint != l.Checkpoint || again.Header.StartLSN != redolog.BlockOf(l.Checkpoint.LSN) {
				t.Errorf("%+v comes back as %+v, %v", l, again, err)
			}
			body := log[HeaderSize:]
			cut := NewCutter(tc.format, l.Checkpoint.LSN)
			pieces := cutAll(cut, body, l.Start(), len(body))
			last := innodb.LSN(len(body) - blockSize)
			used := binary.BigEndian.Uint16(body[last+offUsed:])
			if end := l.Start() + last + innodb.LSN(used); cut.End() != end || !cut.Clean() || len(pieces) < 100 {
				t.Errorf("%d mini-transactions up to %d, want %d: %v", len(pieces), cut.End(), end, cut.Stop())
			}
			for i, p := range pieces[1:] {
				if p.start != pieces[i].end {
					t.Fatalf("a mini-transaction ends at LSN %d, the next begins at %d", pieces[i].end, p.start)
				}
			}
			for _, step := range []int{blockSize, 5 * blockSize} {
				if got := cutAll(NewCutter(tc.format, l.Checkpoint.LSN), body, l.Start(), step); !slices.Equal(got, pieces) {
					t.Errorf("in steps of %d it is cut in another way", step)
				}
			}
			checkPieces(t, l, log, pieces)
		})
	}
}

// checkPieces reads all records and finds each again by its LSN.
func checkPieces(t *testing.T, l Linear, log []byte, pieces []piece) {
	t.Helper()
	kinds := map[mlog.Type]bool{}
	scratch := make([]byte, 1<<20)
	for _, p := range pieces {
		b := []byte(p.records)
		for at := 0; at < len(b); {
			r, single, err := mlog.ParseRecord(b[at:])
			if err != nil || single != (len(b) == r.Size && !grouped(b)) {
				t.Fatalf("LSN %d: %+v, single %v, %v", p.start, r, single, err)
			}
			kinds[r.Type] = true
			lsn := redolog.Advance(p.start, at)
			got, err := redolog.Payload(log[l.Offset(lsn):], lsn, r.Size, scratch)
			if err != nil || !bytes.Equal(got, b[at:at+r.Size]) {
				t.Fatalf("LSN %d, record at %d: got %x, want %x (%v)", p.start, at, got, b[at:at+r.Size], err)
			}
			checkPrefixes(t, b[at:at+r.Size])
			at += r.Size
		}
		if end := redolog.Advance(p.start, len(b)); p.end != end && p.end != redolog.Advance(end, 1) {
			t.Fatalf("a mini-transaction of %d bytes at LSN %d ends at %d", len(b), p.start, p.end)
		}
	}
	if len(kinds) < 18 {
		t.Errorf("only %d types of records", len(kinds))
	}
}

// checkPrefixes: of a record that is cut short nothing is found but that.
func checkPrefixes(t *testing.T, record []byte) {
	t.Helper()
	for n := range min(len(record), 100) {
		if r, _, err := mlog.ParseRecord(record[:n]); err != mlog.ErrShort {
			t.Fatalf("%d bytes of %x: %+v, %v", n, record, r, err)
		}
	}
}

// TestCutAnywhere: a log that is cut short gives only whole mini-transactions,
// and a last block made for any of their ends ends the log there.
func TestCutAnywhere(t *testing.T) {
	for _, tc := range realLogs {
		log := realLog(t, tc.version)
		l, _ := ParseLinear(log)
		body := log[HeaderSize:]
		all := cutAll(NewCutter(tc.format, l.Checkpoint.LSN), body, l.Start(), len(body))
		for _, p := range all[:len(all)-1] {
			at := redolog.BlockOf(p.end) - l.Start()
			last, err := LastBlock(tc.format, body[at:at+blockSize], p.end)
			if err != nil {
				t.Fatalf("%v: end at LSN %d: %v", tc.format, p.end, err)
			}
			// 0 there, or a place after the end, makes a server of 9.7 warn of damage.
			if first := binary.BigEndian.Uint16(last[offFirst:]); first < blockHeader || first > binary.BigEndian.Uint16(last[offUsed:]) {
				t.Errorf("%v: cut at LSN %d, the block says that a mini-transaction begins at %d", tc.format, p.end, first)
			}
			cut := NewCutter(tc.format, l.Checkpoint.LSN)
			short := append(slices.Clone(body[:at]), last...)
			cutAll(cut, short, l.Start(), len(short))
			if cut.End() != p.end || !cut.Clean() || cut.Stop().Cause != StopPartialBlock {
				t.Fatalf("%v: the log ends at LSN %d (%v), want %d", tc.format, cut.End(), cut.Stop(), p.end)
			}
			if p.end > l.Start()+40<<10 {
				break
			}
		}
		for n := 0; n < 64<<10; n += blockSize {
			cut := NewCutter(tc.format, l.Checkpoint.LSN)
			got := cutAll(cut, body[:n], l.Start(), len(body))
			if !slices.Equal(got, all[:len(got)]) || cut.Stop().Cause != StopShort {
				t.Fatalf("%v: cut at %d: %v", tc.format, n, cut.Stop())
			}
		}
	}
}

// TestEndAtBlock: where the log ends at the very beginning of a block, which
// the server has not written, an empty one is made.
func TestEndAtBlock(t *testing.T) {
	for f := Format56; f <= LastFormat; f++ {
		for _, live := range [][]byte{make([]byte, blockSize), block(f, 1<<20-blockSize*8, 500, 0, nil)} {
			b, err := LastBlock(f, live, 1<<20-4)
			if err != nil {
				t.Fatal(err)
			}
			if stop := checkBlock(f, b, 1<<20, false); stop.Cause != 0 || binary.BigEndian.Uint16(b[offUsed:]) != blockHeader {
				t.Errorf("%v: %v: %x", f, stop, b[:16])
			}
			if _, err := LastBlock(f, live, 1<<20+13); err == nil {
				t.Errorf("%v: a block that is not there was found", f)
			}
		}
	}
}

// block makes a block with payload.
func block(f Format, at innodb.LSN, used, first int, payload []byte) []byte {
	return innodbtest.Block{Form: innodbtest.MySQLForm(f), At: at, Used: used, First: first, Payload: payload}.Bytes()
}

func TestBlocks(t *testing.T) {
	const at = innodb.LSN(700<<30 + 5*blockSize) // in the second epoch
	change := func(f Format, edit func(b []byte)) Stop {
		b := block(f, at, blockSize, 12, nil)
		edit(b)
		innodbtest.SealBlock(innodbtest.MySQLForm(f), b)
		return checkBlock(f, b, at, false)
	}
	u32 := binary.BigEndian.PutUint32
	u16 := binary.BigEndian.PutUint16
	for f := Format56; f <= LastFormat; f++ {
		for _, tc := range []struct {
			name  string
			edit  func(b []byte)
			want  StopCause
			newer bool
			fatal bool
		}{
			{"good", func(b []byte) {}, 0, false, false},
			{"older", func(b []byte) { u32(b, redolog.BlockNumber(at)-1000) }, StopBlockNumber, false, false},
			{"newer", func(b []byte) { u32(b, redolog.BlockNumber(at)+1000) }, StopBlockNumber, true, true},
			{"never written", func(b []byte) { clear(b) }, StopBlockNumber, false, false},
			{"encrypted", func(b []byte) { b[offUsed] |= 0x80 }, StopEncrypted, false, true},
			{"too short", func(b []byte) { u16(b[offUsed:], 11); u16(b[offFirst:], 0) }, StopBlockUsed, false, true},
			{"in the trailer", func(b []byte) { u16(b[offUsed:], 509) }, StopBlockUsed, false, true},
			{"first after the end", func(b []byte) { u16(b[offUsed:], 100); u16(b[offFirst:], 101) }, StopBlockUsed, false, true},
			{"first in the header", func(b []byte) { u16(b[offFirst:], 11) }, StopBlockUsed, false, true},
		} {
			stop := change(f, tc.edit)
			if stop.Cause != tc.want || stop.Newer != tc.newer || stop.Fatal() != tc.fatal {
				t.Errorf("%v, %s: %+v", f, tc.name, stop)
			}
		}
		// The first block of a write is marked before 8.0.30, and never since.
		marked := change(f, func(b []byte) { b[0] |= 0x80 })
		if f.Ring() != (marked.Cause == 0) || marked.Newer {
			t.Errorf("%v, marked: %+v", f, marked)
		}
		torn := block(f, at, blockSize, 12, nil)
		torn[300]++
		if stop := checkBlock(f, torn, at, false); stop.Cause != StopChecksum || stop.Fatal() {
			t.Errorf("%v, torn: %+v", f, stop)
		}
	}
	for _, epoch := range []uint32{Epoch(at) - 1, Epoch(at) + 1} {
		stop := change(Format8030, func(b []byte) { u32(b[offEpoch:], epoch) })
		if stop.Cause != StopBlockNumber || stop.Newer != (epoch > Epoch(at)) {
			t.Errorf("epoch %d: %+v", epoch, stop)
		}
	}
}

// TestUnsummed: a log without checksums is read only where nobody writes it,
// and only if it is so all over.
func TestUnsummed(t *testing.T) {
	var b []byte
	for at := innodb.LSN(1 << 20); at < 1<<20+4*blockSize; at += blockSize {
		p := bytes.Repeat([]byte{byte(mlog.Dummy)}, blockPayload)
		blk := block(Format57, at, blockSize, 12, p)
		binary.BigEndian.PutUint32(blk[blockEnd:], noChecksum)
		b = append(b, blk...)
	}
	cut := func(settled bool, f Format) *Cutter {
		c := NewCutter(f, 1<<20)
		c.Settled = settled
		cutAll(c, b, 1<<20, len(b))
		return c
	}
	if c := cut(true, Format57); !c.Unsummed() || c.Stop().Cause != StopShort || c.Position() != 1<<20+4*blockSize {
		t.Errorf("settled: %v at %d", c.Stop(), c.Position())
	}
	if c := cut(false, Format57); c.Stop().Cause != StopUnsummed || !c.Stop().Fatal() {
		t.Errorf("live: %v", c.Stop())
	}
	for _, f := range []Format{Format56, Format8030} {
		if c := cut(true, f); c.Stop().Cause != StopChecksum && c.Stop().Cause != StopBlockNumber {
			t.Errorf("%v: %v", f, c.Stop())
		}
	}
	innodbtest.SealBlock(innodbtest.MySQL57, b[:blockSize]) // the first with, the others without
	if c := cut(true, Format57); c.Stop().Cause != StopUnsummed || c.Position() != 1<<20+blockSize {
		t.Errorf("mixed: %v", c.Stop())
	}
}

// TestTorn: a block that is read in the middle of a write is read again.
func TestTorn(t *testing.T) {
	for _, f := range []Format{Format56, Format57, Format8030} {
		one := []byte{byte(mlog.Write1) | mlog.SingleBit, 5, 3, 0, 38, 1}
		two := append(slices.Clone(one), one...)
		const at = innodb.LSN(1 << 20)
		c := NewCutter(f, at+12)
		feed := func(b []byte) (n int) {
			c.Feed(b)
			for _, ok := c.Next(); ok; _, ok = c.Next() {
				n++
			}
			return n
		}
		older, newer := block(f, at, 18, 12, one), block(f, at, 24, 12, two)
		torn := append(slices.Clone(newer[:20]), older[20:]...)
		if n := feed(older); n != 1 || c.Stop().Cause != StopPartialBlock || c.End() != at+18 {
			t.Errorf("%v: %d, %v", f, n, c.Stop())
		}
		if n := feed(torn); n != 0 || c.Stop().Cause != StopChecksum || c.End() != at+18 {
			t.Errorf("%v, torn: %d, %v", f, n, c.Stop())
		}
		if n := feed(newer); n != 1 || c.Stop().Cause != StopPartialBlock || c.End() != at+24 || !c.Clean() {
			t.Errorf("%v, again: %d, %v", f, n, c.Stop())
		}
	}
}

// TestStale: a block that is a whole turn of the numbers older is not the log's.
func TestStale(t *testing.T) {
	payload := bytes.Repeat([]byte{byte(mlog.Dummy)}, blockPayload)
	var b []byte
	for i, no := range []uint32{1<<31 + 7, 1<<31 + 8, 1<<31 + 7, 6} {
		blk := block(Format57, innodb.LSN(1<<20+i*blockSize), blockSize, 12, payload)
		binary.BigEndian.PutUint32(blk[offEpoch:], no)
		innodbtest.SealBlock(innodbtest.MySQL57, blk)
		b = append(b, blk...)
	}
	c := NewCutter(Format57, 1<<20)
	cutAll(c, b, 1<<20, len(b))
	if c.Stop().Cause != StopStale || c.Position() != 1<<20+3*blockSize {
		t.Errorf("%v at %d", c.Stop(), c.Position())
	}
}

// TestMidMTR: since 8.0.3 a checkpoint can be anywhere in a mini-transaction,
// even in a record.
func TestMidMTR(t *testing.T) {
	log := realLog(t, "9.7.4")
	l, _ := ParseLinear(log)
	body := log[HeaderSize:]
	all := cutAll(NewCutter(Format8030, l.Checkpoint.LSN), body, l.Start(), len(body))
	for at := l.Checkpoint.LSN; at < l.Start()+30<<10; at += 37 {
		at := redolog.Canonical(at)
		base := redolog.BlockOf(at)
		from := body[base-l.Start():]
		cut := NewCutter(Format8030, at)
		got := cutAll(cut, from, base, len(from))
		want := since(all, at)
		if !slices.Equal(got, want) {
			t.Fatalf("checkpoint at LSN %d: begins with %+v, want %+v", at, got[0], want[0])
		}
		if cut.End() != all[len(all)-1].end {
			t.Fatalf("checkpoint at LSN %d: ends at %d", at, cut.End())
		}
	}
	// Before 8.0.3 it is always at the end of a mini-transaction, even where
	// another one begins earlier in its block.
	old := NewCutter(Format801, 1<<20+18)
	one := []byte{byte(mlog.Write1) | mlog.SingleBit, 5, 3, 0, 38, 1}
	if got := cutAll(old, block(Format801, 1<<20, 24, 12, append(slices.Clone(one), one...)), 1<<20, blockSize); len(got) != 1 || got[0].start != 1<<20+18 {
		t.Errorf("%+v", got)
	}
}

// since returns what counts after a checkpoint: of the mini-transactions that
// begin in its block or later, the records that begin after it.
func since(all []piece, at innodb.LSN) []piece {
	var out []piece
	for _, p := range all {
		if p.start < redolog.BlockOf(at) || p.end <= at {
			continue
		}
		b := p.records
		lsn := p.start
		for lsn < at && len(b) > 0 {
			r, _, err := mlog.ParseRecord([]byte(b))
			if err != nil {
				panic(err)
			}
			b = b[r.Size:]
			lsn = redolog.Advance(p.start, len(p.records)-len(b))
		}
		if len(b) > 0 {
			out = append(out, piece{lsn, p.end, b})
		}
	}
	return out
}

// TestMidMTREnd: a log that ends with the mini-transaction that the checkpoint
// is in holds nothing, and ends there.
func TestMidMTREnd(t *testing.T) {
	const at = innodb.LSN(1 << 20)
	c := NewCutter(Format8030, at+100)
	b := append(block(Format8030, at, blockSize, 0, nil), block(Format8030, at+blockSize, 300, 0, nil)...)
	got := cutAll(c, b, at, len(b))
	if len(got) != 0 || c.End() != at+blockSize+300 || !c.Clean() {
		t.Errorf("%d mini-transactions, end %d, %v", len(got), c.End(), c.Stop())
	}
	one := []byte{byte(mlog.Write1) | mlog.SingleBit, 5, 3, 0, 38, 1}
	payload := append(make([]byte, 288), one...)
	c.Feed(block(Format8030, at+blockSize, 306, 300, payload))
	if m, ok := c.Next(); !ok || m.Start != at+blockSize+300 || m.End != m.Start+6 {
		t.Errorf("%+v, %v", m, c.Stop())
	}
}

// TestMalformed: what no server writes stops the cutter for good.
func TestMalformed(t *testing.T) {
	one := []byte{byte(mlog.Write1) | mlog.SingleBit, 5, 3, 0, 38, 1}
	group := []byte{byte(mlog.Write1), 5, 3, 0, 38, 1}
	for name, payload := range map[string][]byte{
		"type 0":           {0x80},
		"type 12":          {12, 1, 1},
		"type 77":          {77, 1, 1},
		"single in group":  append(slices.Clone(group), one...),
		"single end":       append(slices.Clone(group), byte(mlog.MultiRecEnd)|mlog.SingleBit),
		"bad integer":      {byte(mlog.Write1) | mlog.SingleBit, 0xF5, 3, 0, 38, 1},
		"bad metadata":     {byte(mlog.DynamicMeta) | mlog.SingleBit, 1, 1, 3, 1},
		"no file name":     {byte(mlog.FileDelete) | mlog.SingleBit, 1, 0, 0, 0},
		"index of 8.0.29":  {byte(mlog.Delete) | mlog.SingleBit, 1, 4, 0, 1, 0, 1, 0, 1, 0, 1, 0, 99},
		"too many fields":  {byte(mlog.OldCompDelete) | mlog.SingleBit, 1, 4, 0x7F, 0xFF, 0, 1},
		"too many uniques": {byte(mlog.OldCompDelete) | mlog.SingleBit, 1, 4, 0, 1, 0, 2, 0, 1, 0, 99},
		"huge list copy":   {byte(mlog.OldListEndCopyCreated) | mlog.SingleBit, 1, 4, 0xFF, 0, 0, 0},
	} {
		p := append(slices.Clone(one), payload...)
		c := NewCutter(Format8030, 1<<20)
		c.Feed(block(Format8030, 1<<20, 12+len(p), 12, p))
		if m, ok := c.Next(); !ok || string(m.Records) != string(one) {
			t.Fatalf("%s: %+v, %v", name, m, c.Stop())
		}
		_, ok := c.Next()
		var bad *mlog.RecordError
		if stop := c.Stop(); ok || stop.Cause != StopRecord || !stop.Fatal() || !errors.As(stop, &bad) || stop.LSN != 1<<20+18 {
			t.Errorf("%s: %+v", name, stop)
		}
	}
}

// TestSynthetic reads back what is written, in any number of blocks.
func TestSyntheticRoundTrip(t *testing.T) {
	if err := WriteSynthetic(io.Discard, Synthetic{End: 1 << 20, Meta: []mlog.Meta{{Item: []byte{3}}}}); err == nil {
		t.Error("metadata that no server could read was written")
	}
	for _, n := range []int{0, 1, 62, 63, 5000, 50000} {
		set := mlog.MetaSet{}
		for i := range n {
			set.Add(mlog.Meta{Table: uint64(i), Item: mlog.AppendM64([]byte{counter}, uint64(i)<<20)})
		}
		var b bytes.Buffer
		if err := WriteSynthetic(&b, Synthetic{End: 1<<20 + 100, UUID: 77, Meta: set.Sorted()}); err != nil {
			t.Fatal(err)
		}
		log := b.Bytes()
		l, err := ParseLinear(log)
		if err != nil || l.Checkpoint.LSN != FlushLSN(1<<20+100) || l.Header.UUID != 77 || len(log)%redoGranule != 0 {
			t.Fatalf("%d: %+v, %d bytes, %v", n, l, len(log), err)
		}
		again := mlog.MetaSet{}
		cut := NewCutter(l.Header.Format, l.Checkpoint.LSN)
		for _, p := range cutAll(cut, log[HeaderSize:], l.Start(), len(log)) {
			r, _, err := mlog.ParseRecord([]byte(p.records))
			if err != nil || r.Type != mlog.DynamicMeta {
				t.Fatalf("%+v, %v", r, err)
			}
			m, err := mlog.ParseMeta(r.Body)
			if err != nil {
				t.Fatal(err)
			}
			again.Add(m)
		}
		if fmt.Sprint(again.Sorted()) != fmt.Sprint(set.Sorted()) || !cut.Clean() {
			t.Errorf("%d records: %d come back, %v", n, len(again), cut.Stop())
		}
	}
}

func TestFlushLSN(t *testing.T) {
	for end, want := range map[innodb.LSN]innodb.LSN{8204: 8716, 8704 + 12: 9228, 512*20 - 4: 512*20 + 12, 512 * 20: 512*20 + 12} {
		if got := FlushLSN(end); got != want {
			t.Errorf("%d: %d, want %d", end, got, want)
		}
	}
}

func TestRebuildRefuses(t *testing.T) {
	log := realLog(t, "9.7.4")
	l, _ := ParseLinear(log)
	cut := NewCutter(Format8030, l.Checkpoint.LSN)
	cutAll(cut, log[HeaderSize:], l.Start(), len(log))
	end := cut.End()
	damaged := slices.Clone(log)
	damaged[HeaderSize+3*blockSize+200]++
	for name, tc := range map[string]struct {
		log []byte
		end innodb.LSN
	}{
		"the end is not reached": {log, end + 1}, "cut short": {log[:len(log)-blockSize], end},
		"cut in a block": {log[:len(log)-100], end}, "nothing": {nil, end}, "only a head": {log[:HeaderSize], end},
		"damaged": {damaged, end}, "ends before it begins": {log, l.Checkpoint.LSN - 1},
	} {
		if err := Rebuild(disktest.Open(t, t.TempDir()), bytes.NewReader(tc.log), tc.end, nil); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "ib_logfile0"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := Rebuild(disktest.Open(t, dir), bytes.NewReader(log), end, nil); err == nil || !strings.Contains(err.Error(), "ib_logfile0") {
		t.Errorf("a log is there already: %v", err)
	}
}

// TestRebuild reads back logs that were rebuilt in every format, in one file or
// several.
func TestRebuild(t *testing.T) {
	for _, tc := range realLogs {
		log := realLog(t, tc.version)
		l, _ := ParseLinear(log)
		cut := NewCutter(tc.format, l.Checkpoint.LSN)
		cutAll(cut, log[HeaderSize:], l.Start(), len(log))
		for _, limit := range []int64{64 << 10, 1 << 30} {
			dir := t.TempDir()
			if err := rebuild(disktest.Open(t, dir), bytes.NewReader(log), cut.End(), nil, limit); err != nil {
				t.Fatal(err)
			}
			f, err := OpenFiles(disk.OS, dir)
			if err != nil {
				t.Fatal(err)
			}
			var again bytes.Buffer
			if end, err := f.WriteLinear(&again, time.Now()); err != nil || end != cut.End() {
				t.Errorf("%v: ends at LSN %d, want %d, %v", tc.format, end, cut.End(), err)
			}
			if !bytes.Equal(again.Bytes()[HeaderSize:], log[HeaderSize:]) {
				t.Errorf("%v: another log comes back", tc.format)
			}
			if err := f.Close(); err != nil {
				t.Error(err)
			}
			if tc.format == Format8030 && limit < 1<<20 {
				checkFull(t, filepath.Join(dir, RedoDir))
			}
		}
	}
}

// checkFull: all files but the newest say that there is a newer one.
func checkFull(t *testing.T, dir string) {
	t.Helper()
	names, err := filepath.Glob(filepath.Join(dir, "#ib_redo*"))
	if err != nil || len(names) < 2 {
		t.Fatal(names, err)
	}
	for no := range names {
		b, err := os.ReadFile(filepath.Join(dir, RedoName(uint64(no))))
		if err != nil {
			t.Fatal(err)
		}
		h, err := ParseHeader(b)
		if err != nil || (h.Flags == FileFull) != (no+1 < len(names)) {
			t.Errorf("file %d of %d: %+v, %v", no, len(names), h, err)
		}
	}
}

// TestLongRecord: a record over many blocks is looked at again only when there is
// more of it to see; one that would be looked at field by field is refused.
func TestLongRecord(t *testing.T) {
	const base = innodb.LSN(1 << 20)
	inBlocks := func(payload []byte) []byte {
		return innodbtest.Blocks(innodbtest.MySQL8030, base+blockHeader, payload, base+blockHeader)
	}
	long := []byte{byte(mlog.OldListEndCopyCreated) | mlog.SingleBit, 5, 3}
	body := bytes.Repeat([]byte("0123456789abcdef"), 6<<16)
	long = binary.BigEndian.AppendUint32(long, uint32(len(body)))
	long = append(long, body...)
	blocks := inBlocks(long)
	for _, step := range []int{blockSize, 100 * blockSize, len(blocks)} {
		got := cutAll(NewCutterAt(Format8030, base), blocks, base, step)
		if len(got) != 1 || got[0].records != string(long) {
			t.Fatalf("%d bytes at a time: %d mini-transactions", step, len(got))
		}
	}
	c := NewCutterAt(Format8030, base)
	c.Feed(blocks[:blockSize])
	if _, ok := c.Next(); ok || c.need != len(long) {
		t.Errorf("after one block: %v, %d bytes are needed, not %d", ok, c.need, len(long))
	}

	fields := uint32(100 << 10)
	many := append([]byte{byte(mlog.OldUpdateInPlace) | mlog.SingleBit, 5, 3}, make([]byte, 1+1+rollPtr+5+3)...)
	many = mlog.AppendC32(many, fields)
	for range fields {
		many = append(many, 1, 1, 'x')
	}
	c = NewCutterAt(Format8030, base)
	c.Feed(inBlocks(many))
	if _, ok := c.Next(); ok || c.Stop().Cause != StopRecord {
		t.Errorf("an update of %d fields: %v, %v", fields, ok, c.Stop())
	}
}

// TestSyntheticFirst: the last block says where a mini-transaction begins, as the
// server wants to see it at its start (log_fix_first_rec_group): that of the log
// itself, or at the end of what there is.
func TestSyntheticFirst(t *testing.T) {
	for counters := range 40 {
		var metas []mlog.Meta
		for i := range counters {
			metas = append(metas, mlog.Meta{Table: uint64(i), Version: 1, Item: []byte{counter, 5}})
		}
		var out bytes.Buffer
		if err := WriteSynthetic(&out, Synthetic{End: 5000, Meta: metas}); err != nil {
			t.Fatal(err)
		}
		var last []byte
		for b := out.Bytes()[HeaderSize:]; binary.BigEndian.Uint16(b[offUsed:]) > 0; b = b[blockSize:] {
			last = b[:blockSize]
		}
		first, used := binary.BigEndian.Uint16(last[offFirst:]), binary.BigEndian.Uint16(last[offUsed:])
		if first < blockHeader || first > used {
			t.Errorf("%d counters: the first record is at %d of %d", counters, first, used)
		}
	}
}

// TestAdditive: of the sum of 5.6 a byte c counts c and c<<n, n from 0 to 24 and again
// from 0. Each is a number that is easy to work out, without carries; then come the
// blocks that a server wrote.
func TestAdditive(t *testing.T) {
	for _, tc := range []struct {
		at   int
		c    byte
		want uint32
	}{{0, 0, 1}, {0, 5, 1 + 5 + 5}, {1, 5, 1 + 5 + 10}, {23, 1, 1 + 1 + 8388608}, {24, 1, 1 + 1 + 16777216}, {25, 1, 1 + 1 + 1}, {49, 1, 1 + 1 + 16777216}, {500, 3, 1 + 3 + 3}, {507, 3, 1 + 3 + 384}} {
		b := make([]byte, blockEnd)
		b[tc.at] = tc.c
		if got := additive(b); got != tc.want {
			t.Errorf("%d at %d: %d, want %d", tc.c, tc.at, got, tc.want)
		}
	}
	log, blocks := realLog(t, "5.6.24")[HeaderSize:], 0
	for b := range slices.Chunk(log, blockSize) {
		blocks++
		if got, want := additive(b[:blockEnd]), binary.BigEndian.Uint32(b[blockEnd:]); got != want {
			t.Fatalf("block %d of the server: %#x, it has %#x", blocks, got, want)
		}
	}
	if blocks < 10 {
		t.Errorf("%d blocks", blocks)
	}
}
