package stream

import (
	"bytes"
	"encoding/binary"
	"errors"
	"io"
	"math/rand/v2"
	"strings"
	"testing"

	"filippo.io/age"

	"hb/stream/ranges"
	"hb/stream/stage"
	"hb/stream/zstdstage"
)

// at opens what is read from the middle in b.
func at(b []byte, o Options) (stage.At, []string, error) {
	return OpenAt(ranges.New(ranges.File{R: bytes.NewReader(b), Bytes: int64(len(b))}, nil), o)
}

// TestOpenAt reads any part of an archive through all stages that can.
func TestOpenAt(t *testing.T) {
	id := testIdentity(t)
	to := []age.Recipient{id.Recipient()}
	for _, size := range []int{0, 1, 64<<10 - 8, 64 << 10, 300 << 10, 2*zstdstage.MaxBlock + 4711} {
		data := archive(size)
		for want, opts := range map[string]WriteOptions{
			"": {}, "zstd": {Compress: &Compression{Level: 1}}, "age": {Recipients: to}, "age zstd": {Compress: &Compression{Level: 1}, Recipients: to},
		} {
			out := stages(t, opts, data)
			r, names, err := at(out, Options{Identities: []age.Identity{id}})
			if err != nil || strings.Join(names, " ") != want || r.Size() != int64(len(data)) {
				t.Fatalf("size %d, %s: %v, stages %v", size, want, err, names)
			}
			rng := rand.New(rand.NewPCG(uint64(size), 1))
			for range 30 {
				off := rng.IntN(len(data) + 1)
				p := make([]byte, rng.IntN(100_000))
				r.Plan([]ranges.Span{{Off: int64(off), Len: int64(min(len(p), len(data)-off))}})
				n, err := r.ReadAt(p, int64(off))
				if !bytes.Equal(p[:n], data[off:min(off+len(p), len(data))]) || err != nil && err != io.EOF || n < len(p) && err != io.EOF {
					t.Fatalf("size %d, %s: %d bytes of %d at %d: %v", size, want, n, len(p), off, err)
				}
			}
		}
	}
}

// TestOpenAtRefuses: what cannot be read from the middle says so, and errors of keys and
// of the input come through.
func TestOpenAtRefuses(t *testing.T) {
	id := testIdentity(t)
	to := []age.Recipient{id.Recipient()}
	data := archive(900 << 10)
	encrypted, compressed := stages(t, WriteOptions{Recipients: to}, data), stages(t, WriteOptions{Compress: &Compression{}}, data)
	table := len(compressed) - (8 + 12*4 + 9)
	change := func(at int, b byte) []byte {
		c := bytes.Clone(compressed)
		c[at] ^= b
		return c
	}
	for name, b := range map[string][]byte{
		"empty": nil, "armor": armored(t, encrypted[:3000]), "gzip": []byte("\x1f\x8b"),
		"encrypted, cut": encrypted[:len(encrypted)-1], "encrypted, changed at its end": append(bytes.Clone(encrypted[:len(encrypted)-1]), encrypted[len(encrypted)-1]^1),
		"no seek table": compressed[:table], "table, cut": compressed[:len(compressed)-1],
		"table, magic": change(table, 1), "table, length": change(table+4, 1), "table, number of frames": change(len(compressed)-9, 1),
		"table, many frames": change(len(compressed)-6, 0x40), "table, reserved bits": change(len(compressed)-5, 4), "table, no checksums": change(len(compressed)-5, 0x80),
		"table, end magic": change(len(compressed)-1, 1), "table, length of a frame": change(table+8+24, 1), "table, content of a frame": change(table+8+24+7, 1),
		"something follows": append(bytes.Clone(compressed), 0),
	} {
		if _, _, err := at(b, Options{Identities: []age.Identity{id}}); err != stage.ErrNotSeekable {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, _, err := at(encrypted, Options{}); err == nil || !strings.Contains(err.Error(), "give the file of a secret key") {
		t.Errorf("without a key: %v", err)
	}
	errNet := errors.New("reset")
	for _, b := range [][]byte{data, encrypted, compressed} {
		src := ranges.File{R: failingAt{bytes.NewReader(b), errNet}, Bytes: int64(len(b))}
		r, _, err := OpenAt(ranges.New(src, nil), Options{Identities: []age.Identity{id}})
		if err == nil {
			_, err = r.ReadAt(make([]byte, 200<<10), 100<<10)
		}
		if !errors.Is(err, errNet) || stage.IsDamage(err) {
			t.Errorf("an error of the input: %v", err)
		}
	}
}

// failingAt fails after its head.
type failingAt struct {
	io.ReaderAt
	err error
}

func (f failingAt) ReadAt(p []byte, off int64) (int, error) {
	if off+int64(len(p)) > ranges.HeadSize {
		return 0, f.err
	}
	return f.ReaderAt.ReadAt(p, off)
}

// TestLyingTable: a seek table that can be right but is not leads to damage, never to
// other content.
func TestLyingTable(t *testing.T) {
	data := archive(3 * zstdstage.MaxBlock)
	out := stages(t, WriteOptions{Compress: &Compression{Level: 1}}, data)
	frames := int(binary.LittleEndian.Uint32(out[len(out)-9:]))
	table := len(out) - 9 - 12*frames
	move := func(from, to, field int, n uint32) []byte { // n bytes, from one entry to another
		b := bytes.Clone(out)
		for i, sign := range map[int]uint32{from: -n, to: n} {
			e := b[table+12*i+field:]
			binary.LittleEndian.PutUint32(e, binary.LittleEndian.Uint32(e)+sign)
		}
		return b
	}
	for name, b := range map[string][]byte{"lengths of frames": move(2, 4, 0, 100), "lengths of their content": move(2, 4+2*2, 4, 100), "lengths of the last": move(6, 8, 4, 7)} {
		r, _, err := at(b, Options{})
		if err == stage.ErrNotSeekable { // more than a frame can hold
			continue
		}
		if err == nil {
			got := make([]byte, len(data))
			_, err = r.ReadAt(got, 0)
		}
		if !stage.IsDamage(err) {
			t.Errorf("%s: %v", name, err)
		}
	}
	// Two frames whose lengths, and whose contents' lengths, are those of each other.
	swapped := bytes.Clone(out)
	a, c := table+12*2, table+12*8
	copy(swapped[a:a+12], out[c:c+12])
	copy(swapped[c:c+12], out[a:a+12])
	if r, _, err := at(swapped, Options{}); err == nil {
		if _, err := r.ReadAt(make([]byte, 3*zstdstage.MaxBlock), 0); !stage.IsDamage(err) {
			t.Errorf("swapped: %v", err)
		}
	}
}
