package mysql

import (
	"encoding/binary"
	"errors"

	"hb/xbstream/innodb/mysqlredo/mlog"
)

// body reads a record's body. After it was found to be cut short everything
// reads as 0.
type body struct {
	b     []byte
	short bool
}

var errShort = errors.New("the record is cut short")

// take returns the next n bytes.
func (r *body) take(n int) []byte {
	if r.short || n < 0 || n > len(r.b) {
		r.short = true
		return nil
	}
	b := r.b[:n]
	r.b = r.b[n:]
	return b
}

func (r *body) u1() int {
	if b := r.take(1); b != nil {
		return int(b[0])
	}
	return 0
}

func (r *body) u2() int {
	if b := r.take(2); b != nil {
		return get16(b, 0)
	}
	return 0
}

func (r *body) u4() uint32 {
	if b := r.take(4); b != nil {
		return binary.BigEndian.Uint32(b)
	}
	return 0
}

func (r *body) c32() uint32 {
	v, size := mlog.C32(r.b)
	if size <= 0 {
		r.short = true
	}
	r.take(size)
	return v
}

func (r *body) c64() uint64 {
	v, size := mlog.C64(r.b)
	if size <= 0 {
		r.short = true
	}
	r.take(size)
	return v
}

// end is the error if the body was cut short, or has more than was read.
func (r *body) end() error {
	switch {
	case r.short:
		return errShort
	case len(r.b) != 0:
		return errors.New("the record goes on past its end")
	}
	return nil
}
