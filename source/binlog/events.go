package binlog

import (
	"encoding/binary"
	"errors"
	"fmt"
)

// The events that are looked into. (libs/mysql/binlog/event/binlog_event.h of
// MySQL has all.)
const (
	eventFormat       = 15
	eventGTID         = 33
	eventAnonymous    = 34
	eventPreviousGTID = 35
	eventTaggedGTID   = 42 // MySQL 8.3 and later

	lastEvent = eventTaggedGTID
)

const (
	headerSize   = 19
	checksumSize = 4

	flagInUse     = 0x01 // of a format description: the file is being written
	flagIgnorable = 0x80 // programs that do not know the event pass over it
)

// header begins each event.
type header struct {
	kind  byte
	size  uint32 // of the whole event
	end   uint32 // where the next event begins, in the file, modulo 4 GiB
	flags uint16
}

func parseHeader(b []byte) header {
	return header{
		kind: b[4], size: binary.LittleEndian.Uint32(b[9:]),
		end: binary.LittleEndian.Uint32(b[13:]), flags: binary.LittleEndian.Uint16(b[17:]),
	}
}

// group is a GTID event, which begins a transaction.
type group struct {
	id     origin
	number uint64 // 0: the transaction is anonymous
	length uint64 // of the transaction, this event included, in bytes
}

// parseGTID reads the body of an event of kind eventGTID or eventAnonymous:
//
//	flags 1, UUID 16, number 8, kind of clock 1 (2), logical clock 2 × 8,
//	time of the commit 7 and, if its top bit is set, that of the first commit 7,
//	length of the transaction (1 to 9 bytes), versions of the servers.
//
// Servers before 8.0.2 end before the time.
func parseGTID(kind byte, b []byte) (g group, err error) {
	const clock, times, timeSize = 25, 42, 7
	if len(b) < times+timeSize || b[clock] != 2 {
		return g, errors.New("it has another form than that of MySQL 8.0.2 and later")
	}
	g.id.uuid = UUID(b[1:17])
	g.number = binary.LittleEndian.Uint64(b[17:])
	at := times + timeSize
	if b[at-1]&0x80 != 0 {
		at += timeSize
	}
	if len(b) < at {
		return g, errShort
	}
	if g.length, _, err = packedInt(b[at:]); err != nil {
		return g, err
	}
	if kind == eventAnonymous {
		g.id, g.number = origin{}, 0
	} else if g.number < 1 || g.number > maxNumber {
		return g, fmt.Errorf("its number is %d", g.number)
	}
	return g, nil
}

var errShort = errors.New("it is too short")

// packedInt reads an integer of the client protocol.
func packedInt(b []byte) (n uint64, size int, err error) {
	if len(b) == 0 {
		return 0, 0, errShort
	}
	switch b[0] {
	case 0xFC:
		size = 2
	case 0xFD:
		size = 3
	case 0xFE:
		size = 8
	case 0xFB, 0xFF:
		return 0, 0, fmt.Errorf("%#x does not begin a number", b[0])
	default:
		return uint64(b[0]), 1, nil
	}
	if len(b) < 1+size {
		return 0, 0, errShort
	}
	var wide [8]byte
	copy(wide[:], b[1:1+size])
	return binary.LittleEndian.Uint64(wide[:]), 1 + size, nil
}

// message reads what MySQL's serialization library writes: numbers of 1 to 9
// bytes, and fields in the order of their ids. (libs/mysql/serialization)
type message struct {
	b   []byte
	err error
}

// number reads an integer: as many bytes follow the first as that has low ones;
// then comes a zero, and the number in the remaining bits.
func (m *message) number() uint64 {
	if m.err == nil && len(m.b) == 0 {
		m.err = errShort
	}
	if m.err != nil {
		return 0
	}
	size := 1
	for size <= 8 && m.b[0]>>(size-1)&1 == 1 {
		size++
	}
	if len(m.b) < size {
		m.err = errShort
		return 0
	}
	var wide [8]byte
	var n uint64
	if size == 9 {
		n = binary.LittleEndian.Uint64(m.b[1:])
	} else {
		copy(wide[:], m.b[:size])
		n = binary.LittleEndian.Uint64(wide[:]) >> size
	}
	m.b = m.b[size:]
	return n
}

// signed reads a signed integer: its sign is its lowest bit.
func (m *message) signed() int64 {
	n := m.number()
	if n&1 == 1 {
		return -int64(n>>1) - 1
	}
	return int64(n >> 1)
}

// The fields of a tagged GTID event up to the last that is looked at.
const (
	fieldFlags = iota
	fieldUUID
	fieldNumber
	fieldTag
	fieldLastCommitted // signed
	fieldSequence      // signed
	fieldCommitTime
	fieldFirstCommitTime // absent where it is the same
	fieldLength
)

// parseTagged reads the body of an event of kind eventTaggedGTID.
func parseTagged(b []byte) (g group, err error) {
	m := message{b: b}
	if version := m.number(); m.err == nil && version != 1 {
		return g, fmt.Errorf("it is written in version %d of the serialization", version)
	}
	if size := m.number(); m.err == nil && size != uint64(len(b)) {
		return g, fmt.Errorf("it has %d bytes, but its length field says %d", len(b), size)
	}
	m.number() // the last field that a reader must know
	var have [fieldLength + 1]bool
	for last := -1; m.err == nil && !have[fieldLength]; {
		id := m.number()
		if m.err == nil && (id > fieldLength || int(id) <= last) {
			return g, fmt.Errorf("its field %d follows the field %d", id, last)
		}
		if m.err == nil {
			last, have[id] = int(id), true
			g.read(&m, id)
		}
	}
	switch {
	case m.err != nil:
		return g, m.err
	case !have[fieldUUID] || !have[fieldNumber] || !have[fieldTag]:
		return g, errors.New("it has no GTID")
	}
	return g, checkTag(g.id.tag)
}

// read reads one field.
func (g *group) read(m *message, id uint64) {
	switch id {
	case fieldUUID:
		for i := range g.id.uuid {
			n := m.number()
			if n > 0xFF && m.err == nil {
				m.err = errors.New("its UUID is not one")
			}
			g.id.uuid[i] = byte(n)
		}
	case fieldNumber:
		n := m.signed()
		if m.err == nil && (n < 1 || n > maxNumber) {
			m.err = fmt.Errorf("its number is %d", n)
		}
		g.number = uint64(n)
	case fieldTag:
		n := m.number()
		if m.err == nil && (n > maxTag || n > uint64(len(m.b))) {
			m.err = fmt.Errorf("its tag has %d bytes", n)
		}
		if m.err == nil {
			g.id.tag, m.b = string(m.b[:n]), m.b[n:]
		}
	case fieldLength:
		g.length = m.number()
	default:
		m.number() // a signed one is as long
	}
}

// parsePrevious reads the body of an event of kind eventPreviousGTID: the number
// of origins, and for each of them
//
//	UUID 16, [length of the tag, tag], number of runs 8, runs: first 8, end 8
//
// The top byte of the first number is the form: 0, or 1 with tags, and then the
// lowest byte too.
func parsePrevious(b []byte) (s Set, err error) {
	if len(b) < 8 {
		return s, errShort
	}
	origins := binary.LittleEndian.Uint64(b)
	form := origins >> 56
	if form > 1 {
		return s, fmt.Errorf("it is of form %d", form)
	}
	if form == 1 {
		origins = origins << 8 >> 16
	}
	b = b[8:]
	for range origins {
		if b, err = s.parseRuns(b, form == 1); err != nil {
			return Set{}, err
		}
	}
	if len(b) > 0 {
		return Set{}, fmt.Errorf("%d bytes follow its end", len(b))
	}
	return s, nil
}

// parseRuns reads one origin's runs, and returns what follows.
func (s *Set) parseRuns(b []byte, tagged bool) ([]byte, error) {
	if len(b) < 16 {
		return nil, errShort
	}
	o := origin{uuid: UUID(b)}
	m := message{b: b[16:]}
	if tagged {
		g := group{id: o}
		if g.read(&m, fieldTag); m.err != nil {
			return nil, m.err
		}
		if o = g.id; checkTag(o.tag) != nil {
			return nil, checkTag(o.tag)
		}
	}
	b = m.b
	if len(b) < 8 {
		return nil, errShort
	}
	runs := binary.LittleEndian.Uint64(b)
	if b = b[8:]; runs > uint64(len(b))/16 {
		return nil, fmt.Errorf("it has room for %d runs of numbers, but its count says %d", len(b)/16, runs)
	}
	for range runs {
		first, end := binary.LittleEndian.Uint64(b), binary.LittleEndian.Uint64(b[8:])
		if err := s.add(o, span{first, end - 1}); err != nil {
			return nil, err
		}
		b = b[16:]
	}
	return b, nil
}
