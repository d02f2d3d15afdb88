package census

import "hb/xbstream/innodb/mysqlredo"

// common are the types of records that every series makes.
var common = []mysqlredo.Type{
	mysqlredo.Write1, mysqlredo.Write2, mysqlredo.Write4, mysqlredo.Write8, mysqlredo.SecDeleteMark, mysqlredo.PageCreate,
	mysqlredo.UndoInsert, mysqlredo.UndoEraseEnd, mysqlredo.UndoInit, mysqlredo.UndoHdrReuse, mysqlredo.UndoHdrCreate,
	mysqlredo.IbufBitmapInit, mysqlredo.WriteString, mysqlredo.CompPageCreate,
}

// small are those that take pages of 16 KiB or less: COMPRESSED tables, and
// trees of which two rows fill a page.
var small = []mysqlredo.Type{
	mysqlredo.MinRecMark, mysqlredo.CompMinRecMark, mysqlredo.ZipWriteNodePtr, mysqlredo.ZipWriteBlobPtr, mysqlredo.ZipWriteHeader, mysqlredo.ZipPageCompress,
}

// zips are those of compressed pages that the log has no image of: up to
// 8.0.28, and since.
var (
	oldZips = []mysqlredo.Type{mysqlredo.OldZipCompressNoData, mysqlredo.OldZipReorganize}
	zips    = []mysqlredo.Type{mysqlredo.ZipCompressNoData, mysqlredo.ZipReorganize}
)

// old are those of records and lists up to 8.0.28.
var old = []mysqlredo.Type{
	mysqlredo.OldInsert, mysqlredo.OldClustDeleteMark, mysqlredo.OldUpdateInPlace, mysqlredo.OldDelete,
	mysqlredo.OldListEndDelete, mysqlredo.OldListStartDelete, mysqlredo.OldListEndCopyCreated, mysqlredo.OldReorganize,
	mysqlredo.OldCompInsert, mysqlredo.OldCompClustDeleteMark, mysqlredo.OldCompUpdateInPlace, mysqlredo.OldCompDelete,
	mysqlredo.OldCompListEndDelete, mysqlredo.OldCompListStartDelete,
	mysqlredo.OldCompListEndCopyCreated, mysqlredo.OldCompReorganize,
}

// Counts is how many records there are of each type, which has seven bits.
type Counts [1 << 7]uint64

// Add counts the records of a mini-transaction.
func (c *Counts) Add(records []byte) error {
	for len(records) > 0 {
		r, _, err := mysqlredo.ParseRecord(records)
		if err != nil {
			return err
		}
		c[r.Type]++
		records = records[r.Size:]
	}
	return nil
}

// Types lists the types of records that a census makes, in a format and with
// pages of a size in bytes: those that a replay of it must have met. The ones
// that no server was ever seen to write are not among them.
func Types(f mysqlredo.Format, pageSize int) []mysqlredo.Type {
	types := common
	zipped := oldZips
	switch f {
	case mysqlredo.Format56:
		types = join(types, old, []mysqlredo.Type{mysqlredo.InitFilePage, mysqlredo.FileCreate2, mysqlredo.FileRename})
		if pageSize == 16384 { // otherwise all tablespaces have flags
			types = append(types, mysqlredo.FileCreate)
		}
	case mysqlredo.Format57:
		types = join(types, old, []mysqlredo.Type{
			mysqlredo.InitFilePage2, mysqlredo.FileCreate2, mysqlredo.FileRename2, mysqlredo.FileName, mysqlredo.CheckpointMark,
			mysqlredo.PageCreateRTree, mysqlredo.CompPageCreateRTree, mysqlredo.IndexLoad,
		})
	default:
		zipped = zips
		types = join(types, []mysqlredo.Type{
			mysqlredo.InitFilePage2, mysqlredo.FileCreate, mysqlredo.FileRename, mysqlredo.FileExtend, mysqlredo.PageCreateRTree, mysqlredo.CompPageCreateRTree,
			mysqlredo.IndexLoad, mysqlredo.DynamicMeta, mysqlredo.CompPageCreateSDI, mysqlredo.Insert, mysqlredo.ClustDeleteMark, mysqlredo.Delete, mysqlredo.UpdateInPlace,
			mysqlredo.ListEndCopyCreated, mysqlredo.Reorganize, mysqlredo.ListEndDelete, mysqlredo.ListStartDelete,
		})
	}
	if pageSize <= 16384 {
		types = join(types, small, zipped)
	}
	return types
}

func join(lists ...[]mysqlredo.Type) (all []mysqlredo.Type) {
	for _, l := range lists {
		all = append(all, l...)
	}
	return all
}
