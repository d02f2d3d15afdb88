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
	Name                   string
	Schema                 string      `json:"schema_ref"`
	Tablespace             string      `json:"tablespace_ref"` // a general tablespace; empty: the table has its own
	Engine                 string      `json:"engine"`
	Comment                string      `json:"comment"`
	Collation              uint64      `json:"collation_id"`
	RowFormat              int         `json:"row_format"` // 1 FIXED, 2 DYNAMIC, 3 COMPRESSED, 4 REDUNDANT, 5 COMPACT
	Options                Properties  `json:"options"`
	Private                Properties  `json:"se_private_data"`
	PrivateID              uint64      `json:"se_private_id"` // InnoDB's id of the table
	Attribute              string      `json:"engine_attribute"`
	SecondaryAttribute     string      `json:"secondary_engine_attribute"`
	Columns                []Column    `json:"columns"`
	Indexes                []Index     `json:"indexes"`
	ForeignKeys            []Foreign   `json:"foreign_keys"`
	Checks                 []Check     `json:"check_constraints"`
	PartitionType          int         `json:"partition_type"` // sql/dd/types/table.h, enum_partition_type
	PartitionExpression    string      `json:"partition_expression"`
	DefaultPartitions      int         `json:"default_partitioning"` // 0 it has no partitions, 1 they are named, 2 neither they nor their number is given, 3 their number is
	SubpartitionType       int         `json:"subpartition_type"`    // enum_subpartition_type
	SubpartitionExpression string      `json:"subpartition_expression"`
	DefaultSubpartitions   int         `json:"default_subpartitioning"`
	Partitions             []Partition `json:"partitions"`
	MySQLVersionID         int         `json:"-"` // of the server that wrote the document, perhaps before an upgrade: 80036 is 8.0.36
}

// A Column is a column of a table, or one that was dropped instantly.
type Column struct {
	Name               string
	Type               int        // ColumnTiny and others
	TypeText           string     `json:"column_type_utf8"` // as the server that made the column showed it
	Nullable           bool       `json:"is_nullable"`
	Unsigned           bool       `json:"is_unsigned"`
	Zerofill           bool       `json:"is_zerofill"`
	AutoInc            bool       `json:"is_auto_increment"`
	Virtual            bool       `json:"is_virtual"`
	Hidden             int        `json:"hidden"`      // 1 visible, 2 the engine's own, 3 the server's, 4 INVISIBLE
	Length             uint32     `json:"char_length"` // bytes, or what is displayed of a number
	Precision          uint32     `json:"numeric_precision"`
	Scale              uint32     `json:"numeric_scale"`
	NoScale            bool       `json:"numeric_scale_null"`
	Fraction           uint32     `json:"datetime_precision"` // digits of the fraction of a second
	Collation          uint64     `json:"collation_id"`
	ExplicitCollation  bool       `json:"is_explicit_collation"`
	NoDefault          bool       `json:"has_no_default"`
	DefaultNull        bool       `json:"default_value_null"`
	Default            []byte     `json:"default_value"` // as a record has it; NULL or an expression: zeros
	DefaultText        string     `json:"default_value_utf8"`
	DefaultExpression  string     `json:"default_option"` // or CURRENT_TIMESTAMP
	OnUpdate           string     `json:"update_option"`
	Generation         string     `json:"generation_expression"`
	SRS                uint64     `json:"srs_id"`
	NoSRS              bool       `json:"srs_id_null"`
	Comment            string     `json:"comment"`
	Options            Properties `json:"options"`
	Private            Properties `json:"se_private_data"`
	Attribute          string     `json:"engine_attribute"`
	SecondaryAttribute string     `json:"secondary_engine_attribute"`
	Elements           []Element  `json:"elements"` // of ENUM and SET
}

// Values of Column.Hidden, other than 1: columns that only the storage engine knows, those that
// the server made for keys of expressions, and INVISIBLE ones.
const (
	HiddenEngine = 2
	HiddenServer = 3
	HiddenUser   = 4
)

// An Element is a value of an ENUM or SET, in the column's character set.
type Element struct{ Name []byte }

// An Index is an index of a table.
type Index struct {
	Name               string
	Hidden             bool
	Type               int            // 1 PRIMARY, 2 UNIQUE, 3 others, 4 FULLTEXT, 5 SPATIAL
	Algorithm          int            `json:"algorithm"` // 2 BTREE, 3 RTREE, 4 HASH, 5 FULLTEXT
	ExplicitAlgorithm  bool           `json:"is_algorithm_explicit"`
	Visible            bool           `json:"is_visible"`
	Comment            string         `json:"comment"`
	Options            Properties     `json:"options"`
	Private            Properties     `json:"se_private_data"`
	Attribute          string         `json:"engine_attribute"`
	SecondaryAttribute string         `json:"secondary_engine_attribute"`
	Elements           []IndexElement `json:"elements"`
}

// An IndexElement is a column of an index.
type IndexElement struct {
	Length uint32 // bytes; NoLength: of columns that the engine added
	Order  int    // 2 ascending, 3 descending
	Hidden bool   // the engine added it
	Column int    `json:"column_opx"` // number in Table.Columns
}

// A Foreign is a foreign key.
type Foreign struct {
	Name     string
	OnUpdate int              `json:"update_rule"` // sql/dd/types/foreign_key.h, enum_rule: 1 NO ACTION, 2 RESTRICT, 3 CASCADE, 4 SET NULL, 5 SET DEFAULT
	OnDelete int              `json:"delete_rule"`
	Schema   string           `json:"referenced_table_schema_name"`
	Table    string           `json:"referenced_table_name"`
	Elements []ForeignElement `json:"elements"`
}

// A ForeignElement is a column of a foreign key.
type ForeignElement struct {
	Column     int    `json:"column_opx"` // number in Table.Columns
	Referenced string `json:"referenced_column_name"`
}

// A Check is a CHECK constraint.
type Check struct {
	Name   string
	State  int    `json:"state"` // 1 not enforced, 2 enforced
	Clause []byte `json:"check_clause"`
}

// A Tablespace is the document of a tablespace.
type Tablespace struct {
	Name    string
	Options Properties `json:"options"`
	Files   []struct {
		Name string `json:"filename"` // in the data directory, or an absolute path
	} `json:"files"`
}

// NoLength is IndexElement.Length of columns that the engine added.
const NoLength = 1<<32 - 1

// A Partition is a partition of a table, or one of a partition's.
type Partition struct {
	Name          string
	Tablespace    string           `json:"tablespace_ref"`
	Comment       string           `json:"comment"`
	PrivateID     uint64           `json:"se_private_id"`
	Private       Properties       `json:"se_private_data"`
	Options       Properties       `json:"options"`
	Values        []PartitionValue `json:"values"`
	Indexes       []PartitionIndex `json:"indexes"`
	Subpartitions []Partition      `json:"subpartitions"`
}

// A PartitionValue is a value of a partition by RANGE or LIST.
type PartitionValue struct {
	List   int    `json:"list_num"`   // number in the list of a partition by LIST
	Column int    `json:"column_num"` // number of the column in a list of columns
	Max    bool   `json:"max_value"`
	Null   bool   `json:"null_value"`
	Text   string `json:"value_utf8"` // as SQL writes it
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
	doc.Object.markHidden()
	return doc.Object, doc.Object.check()
}

// markHidden marks the columns that the engine added to indexes: documents of MySQL before
// 8.0.15 do not say so, and give them no length.
func (t *Table) markHidden() {
	for i := range t.Indexes {
		for j := range t.Indexes[i].Elements {
			e := &t.Indexes[i].Elements[j]
			e.Hidden = e.Hidden || e.Length == NoLength
		}
	}
}

// Tablespace reads the document of a tablespace.
func (d *Document) Tablespace() (*Tablespace, error) {
	var doc struct {
		Type   string      `json:"dd_object_type"`
		Object *Tablespace `json:"dd_object"`
	}
	if err := json.Unmarshal(d.JSON, &doc); err != nil {
		return nil, fmt.Errorf("serialized dictionary information: object %d: %w", d.ID, err)
	}
	if d.Type != TypeTablespace || doc.Type != "Tablespace" || doc.Object == nil {
		return nil, fmt.Errorf("serialized dictionary information: object %d is of type %d, %q, not a tablespace", d.ID, d.Type, doc.Type)
	}
	return doc.Object, nil
}

// check makes sure that indexes and foreign keys refer to columns that are there.
func (t *Table) check() error {
	for _, i := range t.Indexes {
		for _, e := range i.Elements {
			if e.Column < 0 || e.Column >= len(t.Columns) {
				return fmt.Errorf("serialized dictionary information: table %s: index %s refers to column %d of %d", t.Name, i.Name, e.Column, len(t.Columns))
			}
		}
	}
	for _, f := range t.ForeignKeys {
		for _, e := range f.Elements {
			if e.Column < 0 || e.Column >= len(t.Columns) {
				return fmt.Errorf("serialized dictionary information: table %s: foreign key %s refers to column %d of %d", t.Name, f.Name, e.Column, len(t.Columns))
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
