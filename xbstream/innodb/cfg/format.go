package cfg

import (
	"fmt"

	"hb/xbstream/innodb/btree"
)

// Compact reports whether rows are of ROW_FORMAT=COMPACT, DYNAMIC or COMPRESSED.
func (f *File) Compact() bool { return f.Flags&flagCompact != 0 }

// IsClustered reports whether an index holds the rows.
func (i *Index) IsClustered() bool { return i.Type&(indexClustered|indexSDI) == indexClustered }

// maxShort is the greatest length, in bytes, of columns whose lengths have one byte in rows.
const maxShort = 255

func (c *Column) isLong() bool {
	return c.Len > maxShort || c.MType == mBlob || c.MType == mGeometry || c.MType == mVarPoint
}

// Format describes the records of an index, and returns the field of the index that each of
// their fields is; nil: that of a column that was dropped instantly. (rec_init_offsets_comp_ordinary
// in rem0rec.cc, dict_index_get_n_unique_in_tree, get_physical_field of MySQL 9.7.2)
func (f *File) Format(i *Index) (btree.Format, []*Field, error) {
	format := btree.Format{Compact: f.Compact(), Key: len(i.Fields)}
	if i.IsClustered() {
		format.Key, format.Core = int(i.Unique), f.Core
		if f.RowVersion != 0 {
			return f.versions(i, format)
		}
	}
	order := make([]*Field, len(i.Fields))
	for n := range i.Fields {
		if order[n] = &i.Fields[n]; order[n].Name == "" {
			order[n] = nil // of MariaDB
		}
		format.Fields = append(format.Fields, i.Fields[n].inRows())
	}
	return format, order, nil
}

// inRows describes the field.
func (f *Field) inRows() btree.Field {
	return btree.Field{Fixed: int(f.Fixed), Nullable: f.column.PRType&notNull == 0, Long: f.column.isLong()}
}

// versions describes the rows of a table of MySQL 8.0.29 or later that have versions.
func (f *File) versions(i *Index, format btree.Format) (btree.Format, []*Field, error) {
	size := len(i.Fields) + int(f.Dropped)
	order, filled := make([]*Field, size), make([]bool, size)
	format.Fields = make([]btree.Field, size)
	put := func(at uint32, field *Field, one btree.Field, c *Column) error {
		if at >= uint32(size) || filled[at] {
			return fmt.Errorf("table %s: rows have column %s at position %d of %d, where they cannot", f.Table, c.Name, at, size)
		}
		if c.Added != NoVersion {
			one.Added = int(c.Added)
		}
		if c.Dropped != NoVersion {
			one.Dropped = int(c.Dropped)
		}
		order[at], format.Fields[at], filled[at] = field, one, true
		return nil
	}
	const whole, prefixShift = 0x7FFF, 16 // of Position: of all of the column, and of a prefix
	for n := range i.Fields {
		field := &i.Fields[n]
		at := field.column.Position & whole
		if field.Prefix != 0 {
			at = field.column.Position >> prefixShift
		}
		if err := put(at, field, field.inRows(), field.column); err != nil {
			return format, nil, err
		}
	}
	b := builder{File: f}
	for n := range f.Columns {
		c := &f.Columns[n]
		if c.Dropped == NoVersion {
			continue
		}
		fixed := b.fixedSize(c)
		if fixed > maxFixed {
			fixed = 0
		}
		one := Field{Fixed: fixed, column: c}
		if err := put(c.Position&whole, nil, one.inRows(), c); err != nil {
			return format, nil, err
		}
	}
	return format, order, nil
}

// Column is the one that the field has, or a prefix of.
func (f *Field) Column() *Column { return f.column }
