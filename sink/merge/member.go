package merge

import (
	"container/list"
	"fmt"
	"io"
	"slices"

	"hb/stream"
	"hb/xbstream"
)

// maxCache bounds the chunks that are kept in memory, in bytes: those of the files that are
// open in the base's stream, in all increments. The largest chunk has to fit.
const maxCache = 64 << 20

var _ [maxCache - xbstream.MaxPayload]struct{}

// maxCached bounds their number. Of each file that is open, a chunk of each increment is
// needed, and what belongs to small files is read once.
const maxCached = 1024

// cache keeps the chunks that were read last. There may be very many small ones: each is found
// and each leaves in constant time.
type cache struct {
	kept  list.List // of *cached, least recently used first
	found map[chunkAt]*list.Element
	size  int // bytes of all
}

// chunkAt is where a chunk is.
type chunkAt struct {
	parts *stream.Parts
	at    int64
}

type cached struct {
	chunkAt
	data []byte
	crc  uint32
}

func newCache() *cache { return &cache{found: make(map[chunkAt]*list.Element)} }

// get returns a chunk and its checksum, or nil.
func (c *cache) get(at chunkAt) ([]byte, uint32) {
	e := c.found[at]
	if e == nil {
		return nil, 0
	}
	c.kept.MoveToBack(e)
	k := e.Value.(*cached)
	return k.data, k.crc
}

// room returns memory for a chunk of n bytes.
func (c *cache) room(n int) (data []byte) {
	for c.size+n > maxCache || len(c.found) >= maxCached {
		k := c.kept.Remove(c.kept.Front()).(*cached)
		delete(c.found, k.chunkAt)
		c.size -= cap(k.data)
		if cap(k.data) >= n && data == nil {
			data = k.data[:n]
		}
	}
	if data == nil {
		data = make([]byte, n)
	}
	return data
}

func (c *cache) put(k *cached) {
	c.found[k.chunkAt] = c.kept.PushBack(k)
	c.size += cap(k.data)
}

// member is a file of an increment. Every chunk that it gives is proven; close proves the
// whole file.
type member struct {
	step   *step
	number int
	chunks []xbstream.IndexedChunk
	crcs   []uint32
	read   []bool
	cache  *cache
}

// places is where the payload chunks of an archive's files are: 12 bytes for each, where the
// index takes one, and must be gone through for every file.
type places struct {
	first []int    // by the number of the file; one more than there are files
	at    []int64  // of the chunks of the first file, then of the second, and so on
	n     []uint32 // bytes of data
}

func readPlaces(parts *stream.Parts) *places {
	p := &places{first: make([]int, parts.Index.Files()+1)}
	for c := range parts.Chunks(parts.Path) {
		if c.Type == xbstream.Payload {
			p.first[c.File+1]++
		}
	}
	for i := range p.first[1:] {
		p.first[i+1] += p.first[i]
	}
	total := p.first[len(p.first)-1]
	p.at, p.n = make([]int64, total), make([]uint32, total)
	next := slices.Clone(p.first)
	for c := range parts.Chunks(parts.Path) {
		if c.Type == xbstream.Payload {
			i := next[c.File]
			p.at[i], p.n[i] = c.At, uint32(c.Len)
			next[c.File]++
		}
	}
	return p
}

// of are the chunks of a file.
func (p *places) of(number int) []xbstream.IndexedChunk {
	chunks := make([]xbstream.IndexedChunk, 0, p.first[number+1]-p.first[number])
	offset := int64(0)
	for i := p.first[number]; i < p.first[number+1]; i++ {
		n := int64(p.n[i])
		chunks = append(chunks, xbstream.IndexedChunk{File: number, Type: xbstream.Payload, At: p.at[i], Offset: offset, Len: n})
		offset += n
	}
	return chunks
}

// member opens a file of the increment.
func (s *step) member(path string, c *cache) (*member, error) {
	number, ok := s.numbers[path]
	if !ok {
		return nil, mismatch(s.Name, "it does not have %s", path)
	}
	if s.chunks == nil {
		s.chunks = readPlaces(s.Parts)
	}
	chunks := s.chunks.of(number)
	return &member{step: s, number: number, chunks: chunks, crcs: make([]uint32, len(chunks)), read: make([]bool, len(chunks)), cache: c}, nil
}

// size is the file's, in bytes.
func (m *member) size() int64 { return m.step.Parts.Files[m.number].Size }

// chunk returns the data of the i-th chunk, valid until the next call of any member.
func (m *member) chunk(i int) ([]byte, error) {
	c := m.chunks[i]
	at := chunkAt{m.step.Parts, c.At}
	data, crc := m.cache.get(at)
	if data == nil {
		data = m.cache.room(int(c.Len))
		var err error
		if crc, err = m.step.Parts.ReadPayload(c, data); err != nil {
			return nil, fmt.Errorf("%s: %w", m.step.Name, err)
		}
		m.cache.put(&cached{at, data, crc})
	}
	m.crcs[i], m.read[i] = crc, true
	return data, nil
}

// ReadAt reads at an offset of the file.
func (m *member) ReadAt(p []byte, off int64) (int, error) {
	total := 0
	for total < len(p) {
		i, _ := slices.BinarySearchFunc(m.chunks, off, func(c xbstream.IndexedChunk, off int64) int {
			if c.Offset+c.Len <= off {
				return -1
			}
			return 1
		})
		if i == len(m.chunks) {
			return total, io.EOF
		}
		data, err := m.chunk(i)
		if err != nil {
			return total, err
		}
		n := copy(p[total:], data[off-m.chunks[i].Offset:])
		total, off = total+n, off+int64(n)
	}
	return total, nil
}

// all reads a small file.
func (m *member) all(most int64) ([]byte, error) {
	if m.size() > most {
		return nil, m.damage(fmt.Errorf("it has %d bytes, more than %d", m.size(), most))
	}
	b := make([]byte, m.size())
	if n, err := m.ReadAt(b, 0); n < len(b) {
		return nil, err
	}
	return b, m.close()
}

// close reads the chunks that nobody has read, and compares the file with the manifest.
func (m *member) close() error {
	var sum xbstream.Sum
	for i, c := range m.chunks {
		if !m.read[i] {
			if _, err := m.chunk(i); err != nil {
				return err
			}
		}
		sum.Add(int(c.Len), m.crcs[i])
	}
	if f := m.step.Parts.Files[m.number]; sum.Size != f.Size || sum.CRC32 != f.CRC32 {
		return fmt.Errorf("%s: %w", m.step.Name, &xbstream.CorruptError{Path: f.Path, Offset: m.step.Parts.At, Reason: "size and checksum in the manifest",
			Want: fmt.Sprintf("%d bytes, %08x", f.Size, f.CRC32), Got: fmt.Sprintf("%d bytes, %08x", sum.Size, sum.CRC32)})
	}
	return nil
}

// damage says what is wrong with the file.
func (m *member) damage(err error) error {
	return fmt.Errorf("%s: %w", m.step.Name, &xbstream.CorruptError{Path: m.step.Parts.Path(m.number), Offset: m.step.Parts.At, Reason: err.Error()})
}

// about says which file an error is about. Its own errors do already.
func (m *member) about(err error) error { return m.damage(err) }
