package sdi

import (
	"encoding/json"
	"fmt"
	"strconv"
	"strings"
)

// A Table is the document of a table, as far as hb needs it. Of a partitioned table only the
// tablespace of the first partition has it.
type Table struct {
	Name           string
	Schema         string      `json:"schema_ref"`
	Collation      uint64      `json:"collation_id"`
	RowFormat      int         `json:"row_format"` // 1 FIXED, 2 DYNAMIC, 3 COMPRESSED, 4 REDUNDANT, 5 COMPACT
	Options        Properties  `json:"options"`
	Private        Properties  `json:"se_private_data"`
	PrivateID      uint64      `json:"se_private_id"` // InnoDB's id of the table
	Columns        []Column    `json:"columns"`
	Indexes        []Index     `json:"indexes"`
	Partitions     []Partition `json:"partitions"`
	MySQLVersionID int         `json:"-"` // of the server that wrote the document, perhaps before an upgrade: 80036 is 8.0.36
}

// A Column is a column of a table, or one that was dropped instantly.
type Column struct {
	Name      string
	Type      int        // sql/dd/types/column.h, enum_column_types
	Nullable  bool       `json:"is_nullable"`
	Unsigned  bool       `json:"is_unsigned"`
	AutoInc   bool       `json:"is_auto_increment"`
	Virtual   bool       `json:"is_virtual"`
	Hidden    int        `json:"hidden"`      // 1 visible, 2 the engine's own, 3 the server's, 4 INVISIBLE
	Length    uint32     `json:"char_length"` // bytes, or what is displayed of a number
	Scale     uint32     `json:"numeric_scale"`
	Collation uint64     `json:"collation_id"`
	Options   Properties `json:"options"`
	Private   Properties `json:"se_private_data"`
	Elements  []Element  `json:"elements"` // of ENUM and SET
}

// HiddenEngine is Column.Hidden of columns that only the storage engine knows.
const HiddenEngine = 2

// An Element is a value of an ENUM or SET.
type Element struct{ Name []byte }

// An Index is an index of a table.
type Index struct {
	Name     string
	Hidden   bool
	Type     int            // 1 PRIMARY, 2 UNIQUE, 3 others, 4 FULLTEXT, 5 SPATIAL
	Private  Properties     `json:"se_private_data"`
	Elements []IndexElement `json:"elements"`
}

// An IndexElement is a column of an index.
type IndexElement struct {
	Length uint32 // bytes; NoLength: of columns that the engine added
	Order  int    // 2 ascending, 3 descending
	Hidden bool   // the engine added it
	Column int    `json:"column_opx"` // number in Table.Columns
}

// NoLength is IndexElement.Length of columns that the engine added.
const NoLength = 1<<32 - 1

// A Partition is a partition of a table, or one of a partition's.
type Partition struct {
	Name          string
	PrivateID     uint64           `json:"se_private_id"`
	Private       Properties       `json:"se_private_data"`
	Options       Properties       `json:"options"`
	Indexes       []PartitionIndex `json:"indexes"`
	Subpartitions []Partition      `json:"subpartitions"`
}

// A PartitionIndex is where a partition has an index of the table.
type PartitionIndex struct {
	Private Properties `json:"se_private_data"`
	Index   int        `json:"index_opx"` // number in Table.Indexes
}

// Properties are pairs of keys and values: "key=value;" each, with a backslash before
// semicolons, equals signs and backslashes in a value.
type Properties map[string]string

// UnmarshalJSON reads the pairs.
func (p *Properties) UnmarshalJSON(b []byte) error {
	var s string
	if err := json.Unmarshal(b, &s); err != nil {
		return err
	}
	*p = Properties{}
	var key, word strings.Builder
	inValue := false
	for i := 0; i < len(s); i++ {
		switch c := s[i]; {
		case c == '\\' && i+1 < len(s):
			i++
			word.WriteByte(s[i])
		case c == '=' && !inValue:
			key.Reset()
			key.WriteString(word.String())
			word.Reset()
			inValue = true
		case c == ';' && inValue:
			(*p)[key.String()] = word.String()
			word.Reset()
			inValue = false
		default:
			word.WriteByte(c)
		}
	}
	if inValue || word.Len() > 0 {
		return fmt.Errorf("properties %q end in a pair that is cut short", s)
	}
	return nil
}

// Number returns a property that is a number, and whether it is there and is one.
func (p Properties) Number(key string) (uint64, bool) {
	v, err := strconv.ParseUint(p[key], 10, 64)
	return v, err == nil
}

// Table reads the document of a table.
func (d *Document) Table() (*Table, error) {
	var doc struct {
		Version int    `json:"mysqld_version_id"`
		Type    string `json:"dd_object_type"`
		Object  *Table `json:"dd_object"`
	}
	if err := json.Unmarshal(d.JSON, &doc); err != nil {
		return nil, fmt.Errorf("serialized dictionary information: object %d: %w", d.ID, err)
	}
	if d.Type != TypeTable || doc.Type != "Table" || doc.Object == nil {
		return nil, fmt.Errorf("serialized dictionary information: object %d is of type %d, %q, not a table", d.ID, d.Type, doc.Type)
	}
	doc.Object.MySQLVersionID = doc.Version
	return doc.Object, doc.Object.check()
}

// check makes sure that indexes refer to columns that are there.
func (t *Table) check() error {
	for _, i := range t.Indexes {
		for _, e := range i.Elements {
			if e.Column < 0 || e.Column >= len(t.Columns) {
				return fmt.Errorf("serialized dictionary information: table %s: index %s refers to column %d of %d", t.Name, i.Name, e.Column, len(t.Columns))
			}
		}
	}
	return nil
}

// Partition returns the partition of a tablespace whose file's name has suffix after "#p#":
// in small letters, and of one that is a part of another one with "#sp#" between both names;
// nil: there is none.
func (t *Table) Partition(suffix string) *Partition {
	for i := range t.Partitions {
		p := &t.Partitions[i]
		if len(p.Subpartitions) == 0 && strings.ToLower(p.Name) == suffix {
			return p
		}
		for j := range p.Subpartitions {
			if s := &p.Subpartitions[j]; strings.ToLower(p.Name)+"#sp#"+strings.ToLower(s.Name) == suffix {
				return s
			}
		}
	}
	return nil
}
