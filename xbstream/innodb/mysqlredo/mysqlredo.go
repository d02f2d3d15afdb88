// Package mysqlredo states the formats of MySQL's redo log, 5.6 to 9.x: for the
// side that follows the log of a live server, for the side that writes it into
// a backup, and for the one that replays it.
//
// All of them are blocks of 512 bytes, numbered and with a checksum. The
// payload of consecutive blocks is one stream of records, grouped into
// mini-transactions (mtr): the unit that is applied wholly or not at all. Package
// mlog has the records. The LSN counts the headers and trailers of blocks too.
//
//	block: 0 4 number: (LSN/512 mod 2^30) + 1; bit 31, before 8.0.30: first of a write
//	       4 2 bytes used, header included; 512: full; bit 15: encrypted
//	       6 2 where the first mtr that begins here begins; 0: none
//	       8 4 low half of the checkpoint number; since 8.0.30 the epoch:
//	           (LSN/512 div 2^30) + 1
//	      12   payload
//	     508 4 checksum of all before: 5.6 a sum of its own, else CRC-32C
//
// Up to 8.0.29 the log is a ring of equal files, ib_logfile0 and so on. Since
// 8.0.30 it is a sequence of files, #innodb_redo/#ib_redo<id>, that are made at
// the one end and recycled at the other. Each begins with 2048 bytes of header.
//
// In a backup (xtrabackup_logfile) the log is linear: one header, and the
// blocks from the one that holds the checkpoint on.
//
// Sources: storage/innobase/include/log0log.h, log0types.h, log0constants.h and
// log/log0recv.cc of MySQL 5.6.24, 5.7.29, 8.0.25 and 9.7.2.
// Which release writes which format of 8.0 was seen in data directories: 3 of 8.0.11
// to 8.0.19, 4 of 8.0.22 and 8.0.28, 5 of 8.0.29, 6 of 8.0.38 (sink, TestDatadirs).
package mysqlredo

import "fmt"

// Format is the number that a log's header begins with. Every decision depends on it
// and on the types of records, not on the server's version.
type Format uint32

// The formats.
const (
	Format56   Format = iota // 5.6, and 5.7 before 5.7.9
	Format57                 // 5.7.9 and later
	Format801                // 8.0.1
	Format803                // 8.0.3 to 8.0.19
	Format8020               // 8.0.20 to 8.0.28: shorter forms of large integers
	Format8029               // 8.0.29: row versions, in a form of its own that hb does not read
	Format8030               // 8.0.30 and later, 8.4, 9.x
)

// LastFormat is the newest format that is known here.
const LastFormat = Format8030

var formatNames = [...]string{"5.6", "5.7", "8.0.1", "8.0.3", "8.0.20", "8.0.29", "8.0.30"}

// String names the first release that writes the format.
func (f Format) String() string {
	if f <= LastFormat {
		return formatNames[f]
	}
	return fmt.Sprintf("unknown format %d", uint32(f))
}

// Ring reports whether the log is a ring of ib_logfile* and not a sequence of
// files in #innodb_redo.
func (f Format) Ring() bool { return f < Format8030 }

// midMTR reports whether a checkpoint may lie inside a mini-transaction: since
// 8.0.3 pages enter the list of dirty ones out of order.
func (f Format) midMTR() bool { return f >= Format803 }

// HeaderSize is how many bytes of a log file come before its first block.
const HeaderSize = 2048

// MaxMTR is the length in payload bytes of the longest mini-transaction that is
// accepted. Servers recover no more than fits their parsing buffer: 2 MiB, and
// since 8.0 up to innodb_log_buffer_size (log0recv.cc, recv_sys_resize_buf),
// which is 64 MiB by default in 9.x. None beyond 90 KB was ever seen.
const MaxMTR = 64 << 20
