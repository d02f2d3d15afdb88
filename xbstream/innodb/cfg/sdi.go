package cfg

import (
	"encoding/hex"
	"fmt"
	"math"

	"hb/xbstream/innodb"
	"hb/xbstream/innodb/btree"
	"hb/xbstream/innodb/sdi"
)

// FromSDI returns the .cfg file of a table, or of one of its partitions, that MySQL 8.0 or
// later describes in the serialized dictionary information, in a tablespace of its own. name
// is "database/table" as files are named, with the name of a partition. root is where the
// B-tree of the serialized dictionary information begins. server is the version of the server
// whose tablespace it is, such as 80036 for 8.0.36, which need not be the one that wrote the
// document. AutoInc and Host are left to the caller.
func FromSDI(t *sdi.Table, part *sdi.Partition, name string, space *innodb.Space, root innodb.PageNo, server int) (*File, error) {
	s := &sdiTable{def: t, part: part, space: space, columns: make([]*Column, len(t.Columns))}
	s.builder.File = &File{Version: Version(server), Table: name, PageSize: uint32(space.Logical), SpaceFlags: space.Flags}
	s.Flags = s.flags()
	if err := s.compression(); err != nil {
		return nil, err
	}
	if err := s.addColumns(); err != nil {
		return nil, err
	}
	keys, err := s.keys()
	if err != nil {
		return nil, err
	}
	if err := s.build(keys); err != nil {
		return nil, err
	}
	s.InstantNullable = s.instantNullable()
	s.Indexes = append([]*Index{sdiIndex(uint32(space.ID), uint32(root))}, s.Indexes...)
	return s.builder.File, nil
}

// sdiTable makes a file of a document.
type sdiTable struct {
	builder
	def     *sdi.Table
	part    *sdi.Partition // nil: the table has none
	space   *innodb.Space
	columns []*Column // by their numbers in the document; nil: the engine's own
}

// Row formats, as sdi.Table.RowFormat has them.
const formatRedundant = 4

// Flags of a tablespace of MySQL that are flags of the table, too, but in other places.
const (
	SpaceDataDir = 1 << 10 // DATA DIRECTORY
	spaceShared  = 1 << 11
	flagDataDir  = 1 << 6
	flagShared   = 1 << 7
	sameFlags    = 0x3E // size of compressed pages, long columns
)

func (s *sdiTable) flags() uint32 {
	f := s.space.Flags & sameFlags
	format := uint64(s.def.RowFormat)
	if s.part != nil {
		if v, ok := s.part.Private.Number("format"); ok {
			format = v
		}
	}
	if format != formatRedundant {
		f |= flagCompact
	}
	if s.space.Flags&SpaceDataDir != 0 {
		f |= flagDataDir
	}
	if s.space.Flags&spaceShared != 0 {
		f |= flagShared
	}
	return f
}

func (s *sdiTable) compression() error {
	switch c := s.def.Options["compress"]; c {
	case "", "none", "NONE", "None":
	case "zlib", "ZLIB", "Zlib":
		s.Compression = 1
	case "lz4", "LZ4", "Lz4":
		s.Compression = 2
	default:
		return fmt.Errorf("table %s has COMPRESSION=%q, which hb does not know", s.Table, c)
	}
	return nil
}

// docID is a column that InnoDB adds to a table with a FULLTEXT index, and docIDType its precise
// type (DATA_FTS_DOC_ID of data0type.h, fts_add_doc_id_column of 9.7.2).
const (
	docID      = "FTS_DOC_ID"
	docIDIndex = "FTS_DOC_ID_INDEX" // its index, whose column the document calls the engine's own, too
	docIDType  = 3 | notNull | unsigned | binaryType
)

// isDocID reports whether it is the one that InnoDB added.
func (c *Column) isDocID() bool { return c.Name == docID && c.PRType == docIDType }

// Keys of sdi.Column.Private.
const (
	keyAdded       = "version_added"
	keyDropped     = "version_dropped"
	keyPosition    = "physical_pos"
	keyDefault     = "default"
	keyDefaultNull = "default_null"
	keyFirst       = "instant_col" // of the table, or of a partition: columns before the first
)

// addColumns adds those that are stored, in the order of a .cfg file, and those that the
// table had.
func (s *sdiTable) addColumns() error {
	system, dropped := map[string]*sdi.Column{}, []*sdi.Column{}
	stored := make([]int, 0, len(s.def.Columns))
	for i := range s.def.Columns {
		c := &s.def.Columns[i]
		if _, ok := c.Private[keyPosition]; ok {
			s.versioned = true
		}
		switch isDropped := c.Private[keyDropped] != ""; {
		case c.Hidden == sdi.HiddenEngine && isSystem(c.Name):
			system[c.Name] = c
			continue
		case isDropped:
			dropped = append(dropped, c)
			continue
		}
		col, err := s.column(c)
		if err != nil {
			return err
		}
		if c.Virtual {
			s.columns[i] = &col
			continue
		}
		stored = append(stored, i)
		s.Columns = append(s.Columns, col)
	}
	s.addSystem()
	for i := range systemColumns {
		if c := system[systemColumns[i].name]; c != nil {
			s.system(i).Position = position(c)
		}
	}
	for _, c := range dropped {
		col, err := s.dropped(c)
		if err != nil {
			return err
		}
		s.Columns = append(s.Columns, col)
	}
	for n, i := range stored {
		s.columns[i] = &s.Columns[n]
	}
	s.count()
	s.forgetDefaults()
	return nil
}

func isSystem(name string) bool {
	for _, c := range systemColumns {
		if c.name == name {
			return true
		}
	}
	return false
}

func position(c *sdi.Column) uint32 {
	if v, ok := c.Private.Number(keyPosition); ok && v < math.MaxUint32 {
		return uint32(v)
	}
	return noPosition
}

// count counts the columns. (dd_table_get_column_counters)
func (s *sdiTable) count() {
	added := uint32(0)
	for _, c := range s.Columns {
		switch {
		case c.MType == mSys && isSystem(c.Name), c.isDocID():
			continue
		case c.Dropped != NoVersion:
			s.Dropped++
			s.RowVersion = max(s.RowVersion, uint32(c.Dropped))
			if c.Added == NoVersion {
				s.Initial++
			}
			continue
		case c.Added != NoVersion:
			added++
			s.RowVersion = max(s.RowVersion, uint32(c.Added))
		default:
			s.Initial++
		}
		s.Current++
	}
	s.Total = s.Current + s.Dropped
}

// column describes a column that the table has.
func (s *sdiTable) column(c *sdi.Column) (Column, error) {
	col, err := s.typed(c, existing)
	if err != nil {
		return col, err
	}
	if c.Hidden == sdi.HiddenEngine && c.Name == docID {
		col.PRType = docIDType
	}
	if c.Virtual {
		col.PRType |= virtual
		if c.Options["is_array"] == "1" {
			col.PRType |= multiValue
		}
	}
	switch hexed, ok := c.Private[keyDefault]; {
	case c.Private[keyDefaultNull] != "":
		col.Default = &Default{Null: true}
	case ok:
		value, err := hex.DecodeString(hexed)
		if err != nil {
			return col, fmt.Errorf("table %s: the default of column %s: %w", s.Table, c.Name, err)
		}
		col.Default = &Default{Value: value}
	}
	return col, nil
}

// dropped describes a column that was dropped instantly.
func (s *sdiTable) dropped(c *sdi.Column) (Column, error) {
	col, err := s.typed(c, wasDropped)
	if err != nil {
		return col, err
	}
	col.Was = &Was{Nullable: c.Nullable, Unsigned: c.Unsigned, Length: c.Length, Type: uint32(c.Type), Scale: c.Scale, Collation: c.Collation}
	for _, e := range c.Elements {
		col.Was.Elements = append(col.Was.Elements, e.Name)
	}
	return col, nil
}

// typed describes a column's type and versions.
func (s *sdiTable) typed(c *sdi.Column, which int) (Column, error) {
	col := Column{Name: c.Name, Added: NoVersion, Dropped: NoVersion, Position: position(c)}
	t, err := typeOf(c, which)
	if err != nil {
		return col, fmt.Errorf("table %s: %w", s.Table, err)
	}
	col.MType, col.PRType, col.Len = t.mtype, t.prtype, t.size
	col.MBMinMax = mbMinMax(col.MType, col.PRType)
	for key, to := range map[string]*uint16{keyAdded: &col.Added, keyDropped: &col.Dropped} {
		if v, ok := c.Private.Number(key); ok {
			if v == 0 || v >= NoVersion {
				return col, fmt.Errorf("table %s: column %s has %s=%d", s.Table, c.Name, key, v)
			}
			*to = uint16(v)
		}
	}
	return col, nil
}

// instantNullable counts the columns that can be NULL before the first that was added
// instantly by a server before 8.0.29, which had no versions of rows. (calculate_n_instant_nullable
// and get_instant_fields of 9.7.2)
func (s *sdiTable) instantNullable() uint32 {
	clustered := s.Indexes[0]
	first, ok := s.firstColumns()
	if !ok {
		return clustered.Nulls
	}
	added := s.Total - s.Initial
	early := s.Current + s.Dropped - added - first // columns that were added without versions
	fields := uint32(len(clustered.Fields)) + s.Dropped - added - early
	s.Core = &btree.Core{Fields: int(min(fields, maxColumns)), Nulls: -1}
	nulls := uint32(0)
	count := func(c *Column, at uint32) {
		if c.PRType&notNull == 0 && c.Added == NoVersion && at < fields {
			nulls++
		}
	}
	for n, f := range clustered.Fields {
		at := uint32(n)
		if s.versioned {
			at = f.column.Position & 0x7FFF
		}
		count(f.column, at)
	}
	for n := range s.Columns {
		if c := &s.Columns[n]; c.Dropped != NoVersion {
			count(c, c.Position&0x7FFF)
		}
	}
	return nulls
}

// firstColumns is how many columns the table, or the partition, had before the first that was
// added without versions of rows; not ok: none was.
func (s *sdiTable) firstColumns() (n uint32, ok bool) {
	private := s.def.Private
	if s.part != nil {
		private = s.part.Private
	}
	v, ok := private.Number(keyFirst)
	if !ok || v > maxColumns {
		return 0, false
	}
	return uint32(v), true
}

const maxColumns = 1017 // REC_MAX_N_USER_FIELDS

// forgetDefaults removes the defaults that a partition does not have: it was made after the
// columns were added, without versions of rows, to those that the table had then.
func (s *sdiTable) forgetDefaults() {
	table, ok := s.def.Private.Number(keyFirst)
	if s.part == nil || !ok {
		return
	}
	own, ok := s.firstColumns()
	if !ok {
		own = maxColumns
	}
	for n := range s.Columns {
		c := &s.Columns[n]
		if c.Default == nil || c.Added != NoVersion {
			continue
		}
		if uint64(own) <= table {
			return
		}
		c.Default, own = nil, own-1
	}
}

// keys returns the indexes of the definition.
func (s *sdiTable) keys() ([]key, error) {
	var keys []key
	for n := range s.def.Indexes {
		i := &s.def.Indexes[n]
		private := i.Private
		if s.part != nil {
			if n >= len(s.part.Indexes) || s.part.Indexes[n].Index != n {
				return nil, fmt.Errorf("table %s: partition %s does not have index %s", s.Table, s.part.Name, i.Name)
			}
			private = s.part.Indexes[n].Private
		}
		k, err := s.key(i, n)
		if err != nil {
			return nil, err
		}
		id, hasID := private.Number("id")
		root, hasRoot := private.Number("root")
		if k.Type&indexFullText != 0 {
			continue
		}
		if !hasID || !hasRoot || root == 0 || root >= noPosition {
			return nil, fmt.Errorf("table %s: index %s has no root page", s.Table, i.Name)
		}
		k.ID, k.Root, k.Space = id, uint32(root), uint32(s.space.ID)
		keys = append(keys, k)
	}
	if len(keys) == 0 {
		return nil, fmt.Errorf("table %s has no index", s.Table)
	}
	return keys, nil
}

// Types of indexes, as sdi.Index.Type has them.
const (
	sdiUnique   = 2
	sdiFullText = 4
	sdiSpatial  = 5
)

// generated is the name of the clustered index of a table without a key.
const generated = "GEN_CLUST_INDEX"

// key returns one index. The first is the clustered one, also if its key is not PRIMARY.
func (s *sdiTable) key(i *sdi.Index, n int) (key, error) {
	k := key{Index: Index{Name: i.Name}}
	switch {
	case n == 0 && i.Hidden:
		k.Name, k.Type = generated, indexClustered
	case n == 0:
		k.Type = indexClustered | indexUnique
	case i.Type == sdiUnique:
		k.Type = indexUnique
	case i.Type == sdiFullText:
		k.Type = indexFullText
	case i.Type == sdiSpatial:
		k.Type = indexSpatial
	}
	for _, e := range i.Elements {
		if e.Hidden && (i.Name != docIDIndex || len(k.fields) > 0) {
			continue
		}
		c := s.columns[e.Column]
		if c == nil {
			return k, fmt.Errorf("table %s: index %s has a column that was dropped", s.Table, i.Name)
		}
		f := keyField{column: c, descending: e.Order == 3}
		if k.Type&(indexSpatial|indexFullText) == 0 && s.def.Columns[e.Column].IsPrefix(e.Length) {
			f.prefix = e.Length
		}
		if c.PRType&virtual != 0 {
			k.Type |= indexVirtual
			if c.PRType&multiValue != 0 {
				k.Type |= indexMultiValue
			}
		}
		k.fields = append(k.fields, f)
	}
	return k, nil
}

// sdiIndex is the index of the serialized dictionary information.
func sdiIndex(space, root uint32) *Index {
	return &Index{
		ID: math.MaxUint64, Space: space, Root: root, Type: indexClustered | indexUnique | indexSDI, TrxOffset: 12,
		UserFields: 2, Unique: 2, Name: "CLUST_IND_SDI",
		Fields: []Field{
			{Name: "type", Fixed: 4}, {Name: "id", Fixed: 8}, {Name: "DB_TRX_ID", Fixed: 6}, {Name: "DB_ROLL_PTR", Fixed: 7},
			{Name: "uncompressed_len", Fixed: 4}, {Name: "compressed_len", Fixed: 4}, {Name: "data"},
		},
	}
}
