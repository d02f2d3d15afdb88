package mysql

import (
	"encoding/binary"
	"errors"
	"fmt"

	"hb/xbstream/innodb/mysqlredo/mlog"
)

// keepSystem in the flags of a change: DB_TRX_ID and DB_ROLL_PTR stay
// as they are (BTR_KEEP_SYS_FLAG).
const keepSystem = 4

const (
	trxIDSize   = 6
	rollPtrSize = 7
)

// nullLength is the length of a field that is NULL (UNIV_SQL_NULL).
const nullLength = 0xFFFFFFFF

// firstVirtual is the number from which fields are columns that no record holds
// (REC_MAX_N_FIELDS); 5.7 to 8.4.6 and 9.4 have them in updates.
const firstVirtual = 1023

// system is the values of DB_TRX_ID and DB_ROLL_PTR, one after the other.
type system struct {
	position int // physical, of DB_TRX_ID
	values   [trxIDSize + rollPtrSize]byte
}

// readSystem reads them. (row0upd.cc, row_upd_parse_sys_vals)
func readSystem(r *body) system {
	s := system{position: int(r.c32())}
	copy(s.values[trxIDSize:], r.take(rollPtrSize))
	var id [8]byte
	binary.BigEndian.PutUint64(id[:], r.c64())
	copy(s.values[:], id[8-trxIDSize:])
	return s
}

// setSystem writes them to a record of the layout p.one.
func (p *page) setSystem(rec int, s *system) error {
	if s.position >= len(p.one.fields)-1 {
		return fmt.Errorf("the record at offset %d has no field %d", rec, s.position)
	}
	from, to := p.one.bounds(s.position)
	if to-from != trxIDSize || p.one.data-from < len(s.values) {
		return fmt.Errorf("field %d of the record at offset %d is not a transaction id", s.position, rec)
	}
	copy(p.frame[rec+from:], s.values[:])
	return nil
}

// mark sets or clears the mark of deleted records.
func (p *page) mark(rec int, on bool) error {
	if err := p.user(rec); err != nil {
		return err
	}
	info := p.info(rec) &^ infoDeleted
	if on {
		info |= infoDeleted
	}
	p.setInfo(rec, info)
	return nil
}

// markSecondary is mark in secondary indexes. The record does not say anything
// of the index, not even its row format.
func (p *page) markSecondary(r body) error {
	on, rec := r.u1() != 0, r.u2()
	if err := r.end(); err != nil {
		return err
	}
	if err := p.open(p.isCompact()); err != nil {
		return err
	}
	return p.mark(rec, on)
}

// markClustered is mark in clustered indexes.
// (btr0cur.cc, btr_cur_parse_del_mark_set_clust_rec)
func (p *page) markClustered(x *mlog.Index, r body) error {
	flags, on := r.u1(), r.u1() != 0
	s := readSystem(&r)
	rec := r.u2()
	if err := r.end(); err != nil {
		return err
	}
	if err := p.mark(rec, on); err != nil || flags&keepSystem != 0 {
		return err
	}
	if err := p.layout(&p.one, rec, x); err != nil {
		return err
	}
	return p.setSystem(rec, &s)
}

// update changes fields of a record without changing its size.
// (btr_cur_parse_update_in_place, row_upd_rec_in_place)
func (p *page) update(x *mlog.Index, r body) error {
	flags := r.u1()
	s := readSystem(&r)
	rec, info := r.u2(), byte(r.u1())
	if r.short {
		return errShort
	}
	if err := p.user(rec); err != nil {
		return err
	}
	if err := p.layout(&p.one, rec, x); err != nil {
		return err
	}
	if flags&keepSystem == 0 {
		if err := p.setSystem(rec, &s); err != nil {
			return err
		}
	}
	// The update must not change fields that the record's layout follows from.
	kept := byte(infoVersioned)
	if p.compact {
		kept |= infoInstant
	}
	p.setInfo(rec, info&^kept|p.info(rec)&kept)
	if err := p.updateFields(x, rec, &r); err != nil {
		return err
	}
	if p.zip != nil {
		return p.zipWrite(rec)
	}
	return nil
}

func (p *page) updateFields(x *mlog.Index, rec int, r *body) error {
	for n := r.c32(); n > 0 && !r.short; n-- {
		no, size := int(r.c32()), r.c32()
		var value []byte
		if size != nullLength {
			value = r.take(int(size))
		}
		if r.short || no >= firstVirtual {
			continue
		}
		position, err := positionOf(x, no)
		if err != nil {
			return err
		}
		if err := p.setField(rec, position, value, size == nullLength); err != nil {
			return fmt.Errorf("field %d of the record at offset %d: %w", no, rec, err)
		}
	}
	return r.end()
}

// positionOf returns the physical position of a field.
func positionOf(x *mlog.Index, no int) (int, error) {
	if !x.Versioned {
		return no, nil
	}
	for position, logical := range x.Physical {
		if logical == no {
			return position, nil
		}
	}
	return 0, fmt.Errorf("the index has no field %d", no)
}

var errLength = errors.New("the new value is not as long as the old one")

// setField gives a field of a record of the layout p.one a value of the same
// length. Fields of REDUNDANT records may change to NULL and back: their place
// is kept in the meantime. (rem0lrec.h, rec_set_nth_field_low)
func (p *page) setField(rec, position int, value []byte, null bool) error {
	if position >= len(p.one.fields) || p.one.fields[position].is(fieldAbsent) {
		return errors.New("the record does not have it")
	}
	f := &p.one.fields[position]
	if null && f.is(fieldNull) {
		return nil
	}
	from, to := p.one.bounds(position)
	if to > p.one.data {
		return errRecordCut
	}
	if null || f.is(fieldNull) {
		if p.compact {
			return errors.New("it cannot change to or from NULL in place")
		}
		if err := p.setNull(rec, position, null); err != nil {
			return err
		}
	}
	b := p.frame[rec+from : rec+to]
	if null {
		clear(b)
		return nil
	}
	if len(value) != len(b) {
		return errLength
	}
	copy(b, value)
	return nil
}

// setNull notes in the header of a REDUNDANT record whether a field is NULL.
func (p *page) setNull(rec, position int, null bool) error {
	e, err := readEnds(p.frame, rec)
	if err != nil {
		return err
	}
	stored := 0
	for _, f := range p.one.fields[:position] {
		if !f.is(fieldAbsent) {
			stored++
		}
	}
	e.setNull(p.frame, rec, stored, null)
	p.one.fields[position] ^= fieldNull
	return nil
}

// markMinRec marks the first record of a level above the leaves.
func (p *page) markMinRec(isCompact bool, r body) error {
	rec := r.u2()
	if err := r.end(); err != nil {
		return err
	}
	if err := p.open(isCompact); err != nil {
		return err
	}
	if err := p.user(rec); err != nil {
		return err
	}
	p.setInfo(rec, p.info(rec)|infoMinRec)
	return nil
}
