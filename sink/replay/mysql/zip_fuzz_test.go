package mysql

import (
	"bytes"
	"encoding/binary"
	"hash/adler32"
	"testing"

	"hb/sink/replay/mysql/deflate"
	"hb/xbstream/innodb"
	"hb/xbstream/innodb/mysqlredo"
)

// FuzzZipPage makes frames of pages whose parts are anything: what is accepted
// can be stored, and is the same afterwards.
func FuzzZipPage(f *testing.F) {
	for _, cases := range readZipCases(f) {
		for _, c := range cases {
			for _, image := range [][]byte{c.Before, c.After} {
				p := &page{space: c.space(f), image: image}
				if !isIndex(innodb.HeaderType(image)) {
					continue
				}
				list, heap, n, err := p.zipWork.stream(image[pageData:], p.space.Logical)
				if err != nil {
					f.Fatal(err)
				}
				f.Add(image[:pageData], list, bytes.Clone(heap), image[pageData+n:], uint8(len(image)>>10))
			}
		}
	}
	f.Fuzz(func(t *testing.T, header, list, heap, rest []byte, kilobytes uint8) {
		const logical = 16 << 10
		size := 1 << 10
		for size < int(kilobytes)<<10 && size < logical {
			size *= 2
		}
		var d deflate.Compressor
		head := deflate.StreamHeader(6, 14)
		image := make([]byte, pageData)
		copy(image, header)
		image = d.Deflate(append(image, head[:]...), list[:min(len(list), logical)], heap[:min(len(heap), logical)], 6, 14, false)
		sum := adler32.New()
		sum.Write(list[:min(len(list), logical)])
		sum.Write(heap[:min(len(heap), logical)])
		image = sum.Sum(image)
		if len(image) > size {
			return
		}
		gap := size - len(image) - len(rest)
		image = append(image, make([]byte, max(0, gap))...)
		image = append(image, rest[max(0, -gap):]...)
		checkAccepted(t, image[:size:size], logical)
	})
}

func checkAccepted(t *testing.T, image []byte, logical int) {
	p := &page{space: &innodb.Space{Logical: logical, Physical: len(image)}, image: image}
	if p.zipOpen() != nil || !isIndex(innodb.HeaderType(p.frame)) {
		return
	}
	frame := bytes.Clone(p.frame)
	if err := p.zipFinish(); err != nil {
		t.Fatalf("what was accepted cannot be stored: %v", err)
	}
	if err := p.zipOpen(); err != nil {
		t.Fatalf("what was stored is not accepted: %v", err)
	}
	if !bytes.Equal(p.frame, frame) {
		t.Fatal("what was stored is another page")
	}
	p.zip.stale = true
	if p.zipFinish() == nil && p.zipOpen() != nil {
		t.Fatal("what was compressed is not accepted")
	}
}

// FuzzZipApply applies anything to compressed pages. Nothing but the page's
// image may change.
func FuzzZipApply(f *testing.F) {
	for _, cases := range readZipCases(f) {
		for _, c := range cases {
			var runs []byte
			for _, r := range c.Runs {
				runs = binary.BigEndian.AppendUint16(runs, uint16(len(r.Records)))
				runs = append(runs, r.Records...)
			}
			f.Add(c.Before, runs, uint64(c.ID.Space)<<32|uint64(c.ID.No), uint8(c.Format))
		}
	}
	f.Fuzz(func(t *testing.T, before, runs []byte, id uint64, format uint8) {
		size := 1 << 10
		for size < len(before) && size < 16<<10 {
			size *= 2
		}
		all := make([]byte, size+64)
		image := all[32 : 32+size]
		copy(image, before)
		code := uint32(1)
		for 512<<code < size {
			code++
		}
		space, err := innodb.ParseFlags(0x21 | code<<1)
		if err != nil {
			t.Fatal(err)
		}
		space.ID = innodb.SpaceID(id >> 32)
		a := NewApplier(mysqlredo.Format(format))
		if a.Begin(image, innodb.PageID{Space: space.ID, No: innodb.PageNo(id)}, &space) != nil {
			return
		}
		for mtr := innodb.LSN(0); len(runs) > 2; mtr++ {
			n := min(int(binary.BigEndian.Uint16(runs)), len(runs)-2)
			if a.Apply(mtr, runs[2:2+n]) != nil {
				return
			}
			runs = runs[2+n:]
		}
		if a.Finish() == nil && a.page.zip != nil {
			p := &page{space: &space, image: image}
			if isIndex(innodb.HeaderType(image)) && p.zipOpen() != nil {
				t.Errorf("the result is no page: %v", p.zipOpen())
			}
		}
		if !innodb.AllZero(all[:32]) || !innodb.AllZero(all[32+size:]) {
			t.Error("something beside the page changed")
		}
	})
}
