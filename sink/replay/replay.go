// Package replay brings the pages of copied tablespaces up to the end of the
// redo log that was copied with them.
//
// A reader of the log (packages mariadb and mysql) cuts it into mini-transactions and
// tells a Plan, in the log's order, which pages each of them changes, and with
// what records. The Plan gathers them by page; beyond its share of the memory
// limit it puts them, in the order of the pages, into a temporary file. Recover
// then goes through them by tablespace and page, merging the runs put aside, so
// that the log and every page are read once, every page is written at most once,
// and files are read and written in order, whatever the limit is:
//
//	log ──> Plan ──> runs by page ──> batches ──> workers: read, verify, apply,
//	                                              stamp, doublewrite, write
//
// A run is applied if its mini-transaction begins at or after the page's LSN.
// How it is applied is a Log's business: that of the server family that wrote the
// log; reading, verifying, decompressing, LSNs, checksums and sizes are the
// same for all.
// Page images are those of the server's own recovery, byte for byte.
//
// A batch of pages is first written to a file of its own, then into place. Whenever
// the process is killed, the pages that it was writing are there and written again by
// RestoreDoublewrite: running the whole again ends in the same bytes. After a crash
// of the machine that holds too, unless it left a page torn, which is an error then:
// the doublewrite file is synced only where pages have no checksum to tell.
package replay

import (
	"cmp"

	"hb/xbstream/innodb"
)

// Kind is what a run of records does to the earlier runs of the page.
type Kind uint32

// Kinds of runs.
const (
	Change Kind = iota // changes the page as it is
	Init               // initialises the page: the page need not be read
	Free               // the page's content stopped to matter
	// InitOlder initialises the page unless what is on disk is newer. MySQL 5.7
	// and later fill pages without redo after they logged that they begin them
	// (bulk loads), so that the page must be read.
	InitOlder
)

// begins reports whether a run of this kind makes all that came before it
// meaningless. Before InitOlder it is, in both cases.
func (k Kind) begins() bool { return k != Change }

// reads reports whether a page whose first run is of this kind must be read.
func (k Kind) reads() bool { return k == Change || k == InitOlder }

// Run is a change of a page in the redo log: consecutive records of one page in
// one mini-transaction.
type Run struct {
	Page       innodb.PageID
	LSN        innodb.LSN // of its first byte
	Records    []byte     // without any framing of the log; not kept
	Start, End innodb.LSN // of the mini-transaction
	Kind       Kind
}

// Log is a redo log, of the server family that wrote it.
type Log interface {
	// NewApplier returns what applies runs; each worker has its own.
	NewApplier() Applier
}

// Applier applies runs to pages, one page at a time. LSN and checksum are left
// to the caller.
type Applier interface {
	// Begin starts on a page; it forgets one that was begun and not finished.
	// image has the page's physical size, or innodb_page_size for a page 0 that
	// the log makes; it is what Apply and Finish change in place. It is all zero
	// for a page that the first run initialises. space is what is known of the
	// tablespace: only its id until there is a page 0.
	Begin(image []byte, id innodb.PageID, space *innodb.Space) error
	// Apply applies one run: consecutive records of this page in the
	// mini-transaction that starts at mtr. An error leaves the page undefined.
	Apply(mtr innodb.LSN, run []byte) error
	// Finish makes image final, after at least one Apply.
	Finish() error
}

// entry is a Run, packed: start and end are distances from lsn, which are
// below the longest mini-transaction.
type entry struct {
	space, page uint32
	lsn         uint64
	size        uint32 // of its records
	start, end  uint32
	kind        Kind
	at          uint32 // in a batch: where its records are
}

// entrySize is that of an entry in memory.
const entrySize = 40

func pack(r *Run) entry {
	return entry{
		space: uint32(r.Page.Space), page: uint32(r.Page.No), lsn: uint64(r.LSN), size: uint32(len(r.Records)),
		start: uint32(r.LSN - r.Start), end: uint32(r.End - r.LSN), kind: r.Kind,
	}
}

func (e *entry) id() innodb.PageID {
	return innodb.PageID{Space: innodb.SpaceID(e.space), No: innodb.PageNo(e.page)}
}

func (e *entry) mtrStart() innodb.LSN { return innodb.LSN(e.lsn - uint64(e.start)) }
func (e *entry) mtrEnd() innodb.LSN   { return innodb.LSN(e.lsn + uint64(e.end)) }

// order is that of the pages in the files, and of the log within a page.
func order(a, b *entry) int {
	switch {
	case a.space != b.space:
		return cmp.Compare(a.space, b.space)
	case a.page != b.page:
		return cmp.Compare(a.page, b.page)
	}
	return cmp.Compare(a.lsn, b.lsn)
}
