package export

import (
	"errors"
	"fmt"
	"math/big"

	"hb/sink/backupdir"
	"hb/xbstream/innodb"
	"hb/xbstream/innodb/btree"
	"hb/xbstream/innodb/cfg"
)

// Sequence is what the one row of a sequence of MariaDB has: it goes on with Next, which is not
// within the limits if it has given out all values.
type Sequence struct{ Next, Min, Max *big.Int }

var errRowsEnd = errors.New("the row was read")

// Sequence reads a sequence. No transaction can have anything pending there: servers change the
// row at once, and do not roll it back.
func (d *Directory) Sequence(t *Table) (*Sequence, error) {
	if err := d.Describe(t); err != nil {
		return nil, err
	}
	s := &Sequence{}
	columns := map[string]**big.Int{"next_not_cached_value": &s.Next, "minimum_value": &s.Min, "maximum_value": &s.Max}
	err := d.with(t.Parts[0].Path, func(pages *Pages) error {
		file, err := d.config(t, 0, pages)
		if err != nil {
			return err
		}
		index := file.Clustered()
		format, _, err := file.Format(index)
		if err != nil {
			return err
		}
		tree := &btree.Tree{Pages: pages, Root: innodb.PageNo(index.Root), ID: index.ID, Format: format}
		return tree.Walk(func(r *btree.Record) error {
			if r.Deleted {
				return nil
			}
			for i := range min(len(index.Fields), len(r.Fields)) {
				if to := columns[index.Fields[i].Name]; to != nil && len(r.Fields[i].Data) > 0 {
					*to = integer(r.Fields[i].Data, index.Fields[i].Column())
				}
			}
			return errRowsEnd
		})
	})
	if err != nil && !errors.Is(err, errRowsEnd) {
		return nil, err
	}
	if s.Next == nil || s.Min == nil || s.Max == nil {
		return nil, &backupdir.DamageError{File: t.Parts[0].Path, Err: fmt.Errorf("it is not the row of a sequence")}
	}
	return s, nil
}

// isUnsigned is a flag of a column's precise type (DATA_UNSIGNED in data0type.h).
const isUnsigned = 512

// integer is the value of a column: big-endian, with the sign's bit turned over.
func integer(b []byte, c *cfg.Column) *big.Int {
	v := new(big.Int).SetBytes(b)
	if c.PRType&isUnsigned == 0 {
		v.Sub(v, new(big.Int).Lsh(big.NewInt(1), uint(8*len(b)-1)))
	}
	return v
}
