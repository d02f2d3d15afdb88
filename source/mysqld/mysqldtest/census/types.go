package census

import (
	"hb/xbstream/innodb/mysqlredo"
	"hb/xbstream/innodb/mysqlredo/mlog"
)

// common are the types of records that every series makes.
var common = []mlog.Type{
	mlog.Write1, mlog.Write2, mlog.Write4, mlog.Write8, mlog.SecDeleteMark, mlog.PageCreate,
	mlog.UndoInsert, mlog.UndoEraseEnd, mlog.UndoInit, mlog.UndoHdrReuse, mlog.UndoHdrCreate,
	mlog.IbufBitmapInit, mlog.WriteString, mlog.CompPageCreate,
}

// small are those that take pages of 16 KiB or less: COMPRESSED tables, and
// trees of which two rows fill a page.
var small = []mlog.Type{
	mlog.MinRecMark, mlog.CompMinRecMark, mlog.ZipWriteNodePtr, mlog.ZipWriteBlobPtr, mlog.ZipWriteHeader, mlog.ZipPageCompress,
}

// zips are those of compressed pages that the log has no image of: up to
// 8.0.28, and since.
var (
	oldZips = []mlog.Type{mlog.OldZipCompressNoData, mlog.OldZipReorganize}
	zips    = []mlog.Type{mlog.ZipCompressNoData, mlog.ZipReorganize}
)

// old are those of records and lists up to 8.0.28.
var old = []mlog.Type{
	mlog.OldInsert, mlog.OldClustDeleteMark, mlog.OldUpdateInPlace, mlog.OldDelete,
	mlog.OldListEndDelete, mlog.OldListStartDelete, mlog.OldListEndCopyCreated, mlog.OldReorganize,
	mlog.OldCompInsert, mlog.OldCompClustDeleteMark, mlog.OldCompUpdateInPlace, mlog.OldCompDelete,
	mlog.OldCompListEndDelete, mlog.OldCompListStartDelete,
	mlog.OldCompListEndCopyCreated, mlog.OldCompReorganize,
}

// Counts is how many records there are of each type, which has seven bits.
type Counts [1 << 7]uint64

// Add counts the records of a mini-transaction.
func (c *Counts) Add(records []byte) error {
	for len(records) > 0 {
		r, _, err := mlog.ParseRecord(records)
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
func Types(f mysqlredo.Format, pageSize int) []mlog.Type {
	types := common
	zipped := oldZips
	switch f {
	case mysqlredo.Format56:
		types = join(types, old, []mlog.Type{mlog.InitFilePage, mlog.FileCreate2, mlog.FileRename})
		if pageSize == 16384 { // otherwise all tablespaces have flags
			types = append(types, mlog.FileCreate)
		}
	case mysqlredo.Format57:
		types = join(types, old, []mlog.Type{
			mlog.InitFilePage2, mlog.FileCreate2, mlog.FileRename2, mlog.FileName, mlog.CheckpointMark,
			mlog.PageCreateRTree, mlog.CompPageCreateRTree, mlog.IndexLoad,
		})
	default:
		zipped = zips
		types = join(types, []mlog.Type{
			mlog.InitFilePage2, mlog.FileCreate, mlog.FileRename, mlog.FileExtend, mlog.PageCreateRTree, mlog.CompPageCreateRTree,
			mlog.IndexLoad, mlog.DynamicMeta, mlog.CompPageCreateSDI, mlog.Insert, mlog.ClustDeleteMark, mlog.Delete, mlog.UpdateInPlace,
			mlog.ListEndCopyCreated, mlog.Reorganize, mlog.ListEndDelete, mlog.ListStartDelete,
		})
	}
	if pageSize <= 16384 {
		types = join(types, small, zipped)
	}
	return types
}

func join(lists ...[]mlog.Type) (all []mlog.Type) {
	for _, l := range lists {
		all = append(all, l...)
	}
	return all
}
