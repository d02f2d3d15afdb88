package mysqlredo

import (
	"slices"
	"testing"

	"hb/xbstream/innodb"
	"hb/xbstream/innodb/mysqlredo/mlog"
	"hb/xbstream/innodb/redolog"
)

// FuzzRecord: no bytes make the parser panic or read past them, and what
// parses does not depend on what follows.
func FuzzRecord(f *testing.F) {
	for _, tc := range realLogs {
		log := realLog(f, tc.version)
		l, err := ParseLinear(log)
		if err != nil {
			f.Fatal(err)
		}
		seen := map[mlog.Type]int{}
		for _, p := range cutAll(NewCutter(tc.format, l.Checkpoint.LSN), log[HeaderSize:], l.Start(), len(log)) {
			for b := []byte(p.records); len(b) > 0; {
				r, _, err := mlog.ParseRecord(b)
				if err != nil {
					f.Fatal(err)
				}
				if seen[r.Type]++; seen[r.Type] <= 2 && r.Size < 4096 {
					f.Add(slices.Clone(b[:r.Size]))
				}
				b = b[r.Size:]
			}
		}
	}
	f.Add([]byte("\x81\x05\xfe\x00\x00\x00\x00\x26\xfb\xff"))
	f.Fuzz(func(t *testing.T, b []byte) {
		r, single, err := mlog.ParseRecord(b)
		if err != nil {
			return
		}
		if r.Size > len(b) || len(r.Body) > r.Size {
			t.Fatalf("%+v of %d bytes", r, len(b))
		}
		again, single2, err := mlog.ParseRecord(append(slices.Clone(b[:r.Size]), 0xFF, 0xFF))
		if err != nil || single != single2 || again.Size != r.Size || again.Type != r.Type {
			t.Fatalf("%+v, then %+v, %v", r, again, err)
		}
		if _, _, err := mlog.ParseRecord(b[:r.Size-1]); err == nil {
			t.Fatalf("%+v: one byte less will do", r)
		}
		var x mlog.Index
		rest, err := x.Parse(r.Type, r.Body)
		if err == nil && (len(x.Physical) != len(x.Fields) || len(rest) > len(r.Body) || len(x.Fields) > 1023) {
			t.Fatalf("%+v", x)
		}
		if r.Type.IsFile() {
			r.FileOp()
		}
		if r.Type == mlog.DynamicMeta {
			m, err := mlog.ParseMeta(r.Body)
			if err != nil {
				t.Fatal(err)
			}
			mlog.MetaSet{}.Add(m)
		}
	})
}

// FuzzCutter puts any payload into good blocks: it is cut the same in one piece
// and in many, and never beyond its end.
func FuzzCutter(f *testing.F) {
	for i, tc := range realLogs {
		log := realLog(f, tc.version)
		for _, at := range []int{0, 7, 30} {
			var payload []byte
			for b := log[HeaderSize+at*blockSize:][:3*blockSize]; len(b) > 0; b = b[blockSize:] {
				payload = append(payload, b[blockHeader:blockEnd]...)
			}
			f.Add(payload, uint16(i), uint16(at*11))
		}
	}
	f.Fuzz(func(t *testing.T, payload []byte, format, start uint16) {
		const base = innodb.LSN(1<<39 - 4*blockSize) // numbers and epochs turn here
		fm := Format(format % uint16(LastFormat+1))
		var b []byte
		for at := base; ; at += blockSize {
			n := min(len(payload), blockPayload)
			used := blockHeader + n
			if n == blockPayload {
				used = blockSize
			}
			b = append(b, block(fm, at, used, min(blockHeader, used), payload[:n])...)
			if payload = payload[n:]; n < blockPayload {
				break
			}
		}
		from := redolog.Canonical(base + innodb.LSN(start)%blockSize)
		one, many := NewCutter(fm, from), NewCutter(fm, from)
		a, c := cutAll(one, b, base, len(b)), cutAll(many, b, base, blockSize)
		if !slices.Equal(a, c) || one.End() != many.End() {
			t.Fatalf("cut into %d and %d", len(a), len(c))
		}
		if len(a) > 0 && (one.End() > base+innodb.LSN(len(b)) || a[0].start < from) {
			t.Fatalf("from %d: %d to %d", from, a[0].start, one.End())
		}
	})
}
