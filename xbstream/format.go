// Package xbstream reads and writes the archive's wire format, the xbstream
// of Percona XtraBackup and MariaDB's mariadb-backup.
//
// An archive is a row of chunks and nothing else: no header, no trailer, no
// table of files. All integers are little endian.
//
//	+----------+-------+------+----------+------+----------------------+
//	| XBSTCK01 | flags | type | path len | path | what the type adds   |
//	|    8     |   1   |  1   |    4     |  n   |                      |
//	+----------+-------+------+----------+------+----------------------+
//
//	P  payload: length 8, offset 8, CRC-32 (IEEE) of the data 4, data
//	E  end of the file: nothing more
//
// Chunks of many files interleave; those of one file come in the order of
// their offsets, without gap or overlap. A file may be empty: only an E.
//
// # Two dialects
//
// Percona and MariaDB grew apart and gave some codes two meanings:
//
//	code       Percona XtraBackup 8.0+           MariaDB 10.11.8+, 11.x
//	S          sparse payload: map count 4,      SEEK: offset 8; the next
//	           length 8, offset 8, CRC-32 4,     payload of this file
//	           map of (skip 4, length 4), data   begins there
//	R          -                                 RENAME: length 4, new path
//	D          -                                 REMOVE: the path may end
//	                                             in "*"
//	flag 0x01  ignorable                         ignorable
//	flag 0x02  single object (informational)     REWRITE: this file replaces
//	                                             the one of the same path
//
// The CRC of a sparse chunk covers the map and then the data. MariaDB sets
// REWRITE on payload chunks only, never on E.
//
// The [Writer] uses only P and E with flags 0 and payloads of at most
// [MaxChunk] bytes, which every xbstream and mbstream ever released can read.
// The [Reader] understands both dialects; see [Dialect].
//
// # Limits of the format
//
// The header fields are under no checksum, and an archive that was cut
// between two chunks looks like a shorter one. The Reader therefore insists
// that every file it saw begin also ends; that no file is missing, and that no
// header was changed nor chunk moved, is for a manifest to prove (package
// metadata), for which Writer and Reader sum the headers up.
package xbstream

import (
	"errors"
	"fmt"
	"strings"
)

const (
	magic = "XBSTCK01"
	// magicFamily is what all versions of the format begin with.
	magicFamily = "XBSTCK"

	headSize    = 8 + 1 + 1 + 4 // magic, flags, type, path length
	payloadSize = 8 + 8 + 4     // length, offset, CRC
	sparseSize  = 4 + payloadSize
)

const (
	// MaxPath is the longest path in bytes. The C readers refuse 512
	// (FN_REFLEN) although the C writers would write it.
	MaxPath = 511

	// MaxChunk is the largest payload the Writer puts in one chunk. The C
	// writers gather to the same size, and readers hold a chunk in memory.
	MaxChunk = 10 << 20

	// MaxPayload is the largest payload the Reader accepts. It leaves room
	// for writers with larger read buffers (--read-buffer-size).
	MaxPayload = 64 << 20

	// MaxSparse is the largest number of entries of a sparse map that the
	// Reader accepts: twice the smallest pages (1 KiB, ROW_FORMAT=COMPRESSED)
	// of the largest payload.
	MaxSparse = 128 << 10

	// MaxFile is the largest file that the Reader accepts, in bytes: 2^32 pages
	// of 64 KiB, the largest tablespace that InnoDB can address. No server has a
	// larger one, but a hole of any size costs an archive nothing.
	MaxFile = 1 << 48

	// MaxFiles is the largest number of paths in one archive that the Reader
	// accepts; it remembers each, to refuse a path that comes twice.
	MaxFiles = 4 << 20
)

// Chunk flags.
const (
	flagIgnorable = 0x01 // a reader that does not know the type may skip the chunk
	flagRewrite   = 0x02 // MariaDB: REWRITE; Percona: single object
	flagsKnown    = flagIgnorable | flagRewrite
)

// Type is what a chunk does.
type Type byte

// The chunk types. Each is the letter on the wire, except for Seek: MariaDB's
// SEEK and Percona's sparse payload share the letter S.
const (
	Payload Type = 'P' // data at an offset
	Sparse  Type = 'S' // data with holes between (Percona)
	Seek    Type = 's' // the next payload's offset (MariaDB's S)
	End     Type = 'E' // the file is complete
	Rename  Type = 'R' // the file gets another name (MariaDB)
	Remove  Type = 'D' // the file is gone (MariaDB)
)

// String names the type for messages.
func (t Type) String() string {
	switch t {
	case Payload:
		return "payload"
	case Sparse:
		return "sparse payload"
	case Seek:
		return "seek"
	case End:
		return "end of file"
	case Rename:
		return "rename"
	case Remove:
		return "remove"
	}
	return fmt.Sprintf("type %q", byte(t))
}

// Dialect is which tool's meanings the ambiguous codes have.
type Dialect uint8

const (
	// AnyDialect infers: R, D, a REWRITE that follows its file, or an S that
	// is followed at once by another chunk make the archive MariaDB's; an S
	// whose sparse map, bounds and CRC are right makes it Percona's.
	AnyDialect Dialect = iota
	MariaDB
	Percona
)

// String names the dialect.
func (d Dialect) String() string {
	switch d {
	case MariaDB:
		return "MariaDB"
	case Percona:
		return "Percona"
	}
	return "unknown"
}

// CheckPath reports why the Writer refuses path, or nil. A path is relative,
// 1 to MaxPath bytes, with no NUL and no empty, "." or ".." element. It does
// not begin with "." at all: mbstream 10.11.18 drops the rest of the archive
// at such a path, and exits 0.
func CheckPath(path string) error {
	if strings.HasPrefix(path, ".") {
		return fmt.Errorf("path %q begins with a dot", path)
	}
	return checkPath(path)
}

// checkPath is CheckPath without the rule that only mbstream makes.
func checkPath(path string) error {
	switch {
	case path == "":
		return errors.New("empty path")
	case len(path) > MaxPath:
		return fmt.Errorf("path of %d bytes, more than %d", len(path), MaxPath)
	case path[0] == '/':
		return fmt.Errorf("path %q is absolute", path)
	case strings.IndexByte(path, 0) >= 0:
		return fmt.Errorf("path %q holds a NUL", path)
	}
	for elem := range strings.SplitSeq(path, "/") {
		if elem == "" || elem == "." || elem == ".." {
			return fmt.Errorf("path %q has an element %q", path, elem)
		}
	}
	return nil
}

// Framing returns how many bytes chunk headers take of a file of a size whose
// content is written in pieces of another.
func Framing(path string, size, piece int64) int64 {
	head := int64(headSize + len(path))
	return (size+piece-1)/piece*(head+payloadSize) + head
}

// MaxName is how long the name of a file or a directory may be, in bytes, on the
// file systems that servers run on.
const MaxName = 255
