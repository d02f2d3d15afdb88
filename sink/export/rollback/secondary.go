package rollback

import (
	"bytes"
	"slices"

	"hb/xbstream/innodb/btree"
	"hb/xbstream/innodb/cfg"
)

// secondary is the work in a secondary index.
type secondary struct {
	*clustered
	editor editor
	index  *cfg.Index
	of     []int // the field of the clustered index that each field is, or is the beginning of
	key    []int // its fields that are the key of the clustered index
	live   int
}

func (s *secondary) run() error {
	s.editor.Work = s.Work
	if err := s.match(); err != nil {
		return err
	}
	for _, r := range s.rows {
		r.seen = 0
	}
	if err := s.editor.walk(s.index, s.record); err != nil {
		return err
	}
	for _, r := range s.rows {
		if r.live && r.seen != 1 {
			return unable("its index %s has %d entries of a row as it was", s.index.Name, r.seen)
		}
	}
	if s.live != s.clustered.live {
		return unable("its index %s would have %d entries, and the table %d rows", s.index.Name, s.live, s.clustered.live)
	}
	return nil
}

// match finds the fields of the index in the clustered one.
func (s *secondary) match() error {
	whole := func(fields []cfg.Field, name string) int {
		return slices.IndexFunc(fields, func(f cfg.Field) bool { return f.Name == name && f.Prefix == 0 })
	}
	for _, f := range s.index.Fields {
		i := whole(s.clustered.index.Fields, f.Name)
		if i < 0 {
			return unable("its index %s has the computed column %s", s.index.Name, f.Name)
		}
		s.of = append(s.of, i)
	}
	for _, f := range s.clustered.index.Fields[:s.trx] {
		i := whole(s.index.Fields, f.Name)
		if i < 0 {
			return unable("its index %s does not have column %s of the primary key", s.index.Name, f.Name)
		}
		s.key = append(s.key, i)
	}
	return nil
}

func (s *secondary) record(r *btree.Record) error {
	var of []btree.Value
	for _, i := range s.key {
		of = append(of, r.Fields[i])
	}
	row := s.rows[key(of)]
	if row == nil {
		if !r.Deleted {
			s.live++
		}
		return nil
	}
	is, err := s.isOf(r, row)
	if err != nil {
		return err
	}
	if is {
		row.seen++
		s.live++
	}
	s.editor.mark(r, !is)
	return nil
}

// isOf reports whether a record is the entry of a row.
func (s *secondary) isOf(r *btree.Record, row *row) (bool, error) {
	if !row.live {
		return false, nil
	}
	for i, f := range r.Fields {
		want, err := s.value(i, row.fields[s.of[i]])
		if err != nil {
			return false, err
		}
		if f.Null != want.Null || f.External || !bytes.Equal(f.Data, want.Data) {
			return false, nil
		}
	}
	return true, nil
}

// value is what the index has of a column of a row.
func (s *secondary) value(i int, v btree.Value) (btree.Value, error) {
	f := &s.index.Fields[i]
	if v.Null {
		return v, nil
	}
	whole := &btree.Tree{Pages: s.Pages}
	b, err := whole.External(v, maxValue)
	if err != nil {
		return v, unable("column %s cannot be read from its pages: %v", f.Name, err)
	}
	if n := int(f.Prefix); n > 0 && len(b)*f.MaxChar() > n {
		if f.MaxChar() > 1 {
			return v, unable("its index %s has the first characters of column %s", s.index.Name, f.Name)
		}
		b = b[:n]
	}
	return btree.Value{Data: b}, nil
}
