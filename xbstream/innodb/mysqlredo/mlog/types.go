package mlog

import "fmt"

// Type is the type of a record (MLOG_…), without the bit for single ones.
type Type uint8

// The types. Those named Old have a successor that carries more of the index;
// 8.0.29 and later write only the successors. OldX is of ROW_FORMAT=REDUNDANT,
// OldCompX of all others; the successors serve both.
const (
	Write1 Type = 1
	Write2 Type = 2
	Write4 Type = 4
	Write8 Type = 8

	OldInsert             Type = 9
	OldClustDeleteMark    Type = 10
	SecDeleteMark         Type = 11
	OldUpdateInPlace      Type = 13
	OldDelete             Type = 14
	OldListEndDelete      Type = 15
	OldListStartDelete    Type = 16
	OldListEndCopyCreated Type = 17
	OldReorganize         Type = 18

	PageCreate     Type = 19
	UndoInsert     Type = 20
	UndoEraseEnd   Type = 21
	UndoInit       Type = 22
	UndoHdrDiscard Type = 23
	UndoHdrReuse   Type = 24
	UndoHdrCreate  Type = 25
	MinRecMark     Type = 26
	IbufBitmapInit Type = 27
	InitFilePage   Type = 29
	WriteString    Type = 30
	MultiRecEnd    Type = 31 // ends a group of records
	Dummy          Type = 32
	FileCreate     Type = 33
	FileRename     Type = 34
	FileDelete     Type = 35
	CompMinRecMark Type = 36
	CompPageCreate Type = 37

	OldCompInsert             Type = 38
	OldCompClustDeleteMark    Type = 39
	OldCompSecDeleteMark      Type = 40
	OldCompUpdateInPlace      Type = 41
	OldCompDelete             Type = 42
	OldCompListEndDelete      Type = 43
	OldCompListStartDelete    Type = 44
	OldCompListEndCopyCreated Type = 45
	OldCompReorganize         Type = 46

	FileCreate2          Type = 47
	ZipWriteNodePtr      Type = 48
	ZipWriteBlobPtr      Type = 49
	ZipWriteHeader       Type = 50
	ZipPageCompress      Type = 51
	OldZipCompressNoData Type = 52
	OldZipReorganize     Type = 53
	FileRename2          Type = 54
	FileName             Type = 55
	CheckpointMark       Type = 56
	PageCreateRTree      Type = 57
	CompPageCreateRTree  Type = 58
	InitFilePage2        Type = 59
	Truncate             Type = 60
	IndexLoad            Type = 61
	DynamicMeta          Type = 62
	PageCreateSDI        Type = 63
	CompPageCreateSDI    Type = 64
	FileExtend           Type = 65

	Insert             Type = 67
	ClustDeleteMark    Type = 68
	Delete             Type = 69
	UpdateInPlace      Type = 70
	ListEndCopyCreated Type = 71
	Reorganize         Type = 72
	ZipReorganize      Type = 73
	ZipCompressNoData  Type = 74
	ListEndDelete      Type = 75
	ListStartDelete    Type = 76

	numTypes = 77
)

// index is the form of the index in a record, between the page's ids and the rest.
type index uint8

const (
	indexNone index = iota
	indexOld
	indexNew
)

// layout is how to measure the body of a record, after the index.
type layout uint8

const (
	_          layout = iota
	nothing           // no body
	bytes1            // 1 byte
	bytes2            // 2 bytes
	bytes3            // 3 bytes
	bytes8            // 8 bytes
	bytes16           // 16 bytes
	nodePtr           // two offsets and 4 bytes
	blobPtr           // two offsets and 20 bytes
	number32          // c32
	number64          // c64
	write32           // offset, c32
	write64           // offset, c64
	insert            // offset, insert tail
	clustMark         // flags, value, system columns, offset
	update            // flags, system columns, offset, info bits, fields
	listCopy          // length (4), bytes
	undoRecord        // length (2), bytes
	writeBytes        // offset, length (2), bytes
	zipHeader         // offset (1), length (1), bytes
	zipImage          // lengths of two parts, links, the parts
	fileCreate        // 8.0: flags, name; 5.6: name
	flagsName         // flags, name
	oneName           // name
	twoNames          // old name, new name
	meta              // table id, version, item
)

// typeFacts is what the parser knows about a type.
type typeFacts struct {
	name  string
	index index
	body  layout // 0: the type does not exist
	bare  bool   // without tablespace and page
	alone bool   // never with the bit of single records
}

var types = [numTypes]typeFacts{
	Write1: {name: "1BYTE", body: write32},
	Write2: {name: "2BYTES", body: write32},
	Write4: {name: "4BYTES", body: write32},
	Write8: {name: "8BYTES", body: write64},

	OldInsert:             {name: "REC_INSERT_8027", body: insert},
	OldClustDeleteMark:    {name: "REC_CLUST_DELETE_MARK_8027", body: clustMark},
	SecDeleteMark:         {name: "REC_SEC_DELETE_MARK", body: bytes3},
	OldUpdateInPlace:      {name: "REC_UPDATE_IN_PLACE_8027", body: update},
	OldDelete:             {name: "REC_DELETE_8027", body: bytes2},
	OldListEndDelete:      {name: "LIST_END_DELETE_8027", body: bytes2},
	OldListStartDelete:    {name: "LIST_START_DELETE_8027", body: bytes2},
	OldListEndCopyCreated: {name: "LIST_END_COPY_CREATED_8027", body: listCopy},
	OldReorganize:         {name: "PAGE_REORGANIZE_8027", body: nothing},

	PageCreate:     {name: "PAGE_CREATE", body: nothing},
	UndoInsert:     {name: "UNDO_INSERT", body: undoRecord},
	UndoEraseEnd:   {name: "UNDO_ERASE_END", body: nothing},
	UndoInit:       {name: "UNDO_INIT", body: number32},
	UndoHdrDiscard: {name: "UNDO_HDR_DISCARD", body: nothing},
	UndoHdrReuse:   {name: "UNDO_HDR_REUSE", body: number64},
	UndoHdrCreate:  {name: "UNDO_HDR_CREATE", body: number64},
	MinRecMark:     {name: "REC_MIN_MARK", body: bytes2},
	IbufBitmapInit: {name: "IBUF_BITMAP_INIT", body: nothing},
	InitFilePage:   {name: "INIT_FILE_PAGE", body: nothing},
	WriteString:    {name: "WRITE_STRING", body: writeBytes},
	MultiRecEnd:    {name: "MULTI_REC_END", body: nothing, bare: true, alone: true},
	Dummy:          {name: "DUMMY_RECORD", body: nothing, bare: true, alone: true},
	FileCreate:     {name: "FILE_CREATE", body: fileCreate},
	FileRename:     {name: "FILE_RENAME", body: twoNames},
	FileDelete:     {name: "FILE_DELETE", body: oneName},
	CompMinRecMark: {name: "COMP_REC_MIN_MARK", body: bytes2},
	CompPageCreate: {name: "COMP_PAGE_CREATE", body: nothing},

	OldCompInsert:             {name: "COMP_REC_INSERT_8027", index: indexOld, body: insert},
	OldCompClustDeleteMark:    {name: "COMP_REC_CLUST_DELETE_MARK_8027", index: indexOld, body: clustMark},
	OldCompSecDeleteMark:      {name: "COMP_REC_SEC_DELETE_MARK", index: indexOld, body: bytes3},
	OldCompUpdateInPlace:      {name: "COMP_REC_UPDATE_IN_PLACE_8027", index: indexOld, body: update},
	OldCompDelete:             {name: "COMP_REC_DELETE_8027", index: indexOld, body: bytes2},
	OldCompListEndDelete:      {name: "COMP_LIST_END_DELETE_8027", index: indexOld, body: bytes2},
	OldCompListStartDelete:    {name: "COMP_LIST_START_DELETE_8027", index: indexOld, body: bytes2},
	OldCompListEndCopyCreated: {name: "COMP_LIST_END_COPY_CREATED_8027", index: indexOld, body: listCopy},
	OldCompReorganize:         {name: "COMP_PAGE_REORGANIZE_8027", index: indexOld, body: nothing},

	FileCreate2:          {name: "FILE_CREATE2", body: flagsName},
	ZipWriteNodePtr:      {name: "ZIP_WRITE_NODE_PTR", body: nodePtr},
	ZipWriteBlobPtr:      {name: "ZIP_WRITE_BLOB_PTR", body: blobPtr},
	ZipWriteHeader:       {name: "ZIP_WRITE_HEADER", body: zipHeader},
	ZipPageCompress:      {name: "ZIP_PAGE_COMPRESS", body: zipImage},
	OldZipCompressNoData: {name: "ZIP_PAGE_COMPRESS_NO_DATA_8027", index: indexOld, body: bytes1},
	OldZipReorganize:     {name: "ZIP_PAGE_REORGANIZE_8027", index: indexOld, body: bytes1},
	FileRename2:          {name: "FILE_RENAME2", body: twoNames},
	FileName:             {name: "FILE_NAME", body: oneName},
	CheckpointMark:       {name: "CHECKPOINT", body: bytes8, bare: true, alone: true},
	PageCreateRTree:      {name: "PAGE_CREATE_RTREE", body: nothing},
	CompPageCreateRTree:  {name: "COMP_PAGE_CREATE_RTREE", body: nothing},
	InitFilePage2:        {name: "INIT_FILE_PAGE2", body: nothing},
	Truncate:             {name: "TRUNCATE", body: bytes8},
	IndexLoad:            {name: "INDEX_LOAD", body: bytes8},
	DynamicMeta:          {name: "TABLE_DYNAMIC_META", body: meta, bare: true},
	PageCreateSDI:        {name: "PAGE_CREATE_SDI", body: nothing},
	CompPageCreateSDI:    {name: "COMP_PAGE_CREATE_SDI", body: nothing},
	FileExtend:           {name: "FILE_EXTEND", body: bytes16},

	Insert:             {name: "REC_INSERT", index: indexNew, body: insert},
	ClustDeleteMark:    {name: "REC_CLUST_DELETE_MARK", index: indexNew, body: clustMark},
	Delete:             {name: "REC_DELETE", index: indexNew, body: bytes2},
	UpdateInPlace:      {name: "REC_UPDATE_IN_PLACE", index: indexNew, body: update},
	ListEndCopyCreated: {name: "LIST_END_COPY_CREATED", index: indexNew, body: listCopy},
	Reorganize:         {name: "PAGE_REORGANIZE", index: indexNew, body: nothing},
	ZipReorganize:      {name: "ZIP_PAGE_REORGANIZE", index: indexNew, body: bytes1},
	ZipCompressNoData:  {name: "ZIP_PAGE_COMPRESS_NO_DATA", index: indexNew, body: bytes1},
	ListEndDelete:      {name: "LIST_END_DELETE", index: indexNew, body: bytes2},
	ListStartDelete:    {name: "LIST_START_DELETE", index: indexNew, body: bytes2},
}

// facts returns the facts about the type, or nil if it does not exist.
func (t Type) facts() *typeFacts {
	if int(t) < len(types) && types[t].body != 0 {
		return &types[t]
	}
	return nil
}

// String is the server's name for the type: those that 8.0.29 replaced have
// the suffix that it gave them.
func (t Type) String() string {
	if f := t.facts(); f != nil {
		return "MLOG_" + f.name
	}
	return fmt.Sprintf("of unknown type %d", uint8(t))
}

// IsFile reports whether records of the type are about a file instead of changing
// a page.
func (t Type) IsFile() bool {
	switch t {
	case FileCreate, FileCreate2, FileRename, FileRename2, FileDelete, FileName, FileExtend:
		return true
	}
	return false
}

// IsPage reports whether records of the type change the page that they name.
func (t Type) IsPage() bool {
	f := t.facts()
	return f != nil && !f.bare && !t.IsFile() && t != Truncate && t != IndexLoad
}

// HasIndex reports whether records of the type describe their index: see
// Index.Parse.
func (t Type) HasIndex() bool {
	f := t.facts()
	return f != nil && f.index != indexNone
}
