// Package mariadbredo states the formats of MariaDB's redo log file, ib_logfile0:
// for the side that follows the log of a live server, for the side that writes
// it into a backup, and for the one that replays it.
//
// There are two; the first four bytes distinguish them. Both hold the same
// physical records, grouped into mini-transactions (mtr): the unit that is
// applied wholly or not at all. The LSN counts the bytes of the log.
//
// "PHYS", MariaDB 10.5 to 10.7: blocks of 512 bytes, numbered, with their own
// CRC, from byte 2048 to the end of the file, around and around. The payload
// of consecutive blocks is one stream of mini-transactions, each ended by a
// zero byte; more zero bytes between them are padding. The LSN counts the
// headers and trailers of blocks too.
//
//	block: 0 4 number: (LSN/512 mod 2^30) + 1; bit 31: first of a write
//	       4 2 bytes used, header included; 512: full
//	       6 2 where the first mtr that begins here begins; 0: none
//	       8 4 low half of the checkpoint number
//	      12   payload
//	     508 4 CRC-32C of all before
//
// An encrypted log has the tag's highest bit set. Its blocks have payload up to byte 504, and
// there the version of the key; bytes 4 to 504 are encrypted, and the CRC is of what is stored.
// The IV is the block's number without bit 31, 4 bytes of the checkpoint block, and the LSN of
// the block (8).
//
// "Phys", MariaDB 10.8 and later: no blocks. From byte 12288 mini-transactions
// follow one another, circular over the rest of the file, each ended by its
// sequence byte and a CRC-32C of its records:
//
//	records ‖ 01 or 00 ‖ CRC (4)
//
// The sequence byte is 1 on the even laps around the file and 0 on the odd
// ones, counted from the first LSN in the header. Nothing else marks the end
// of the log: after it are bytes of the lap before.
//
// In a backup either log is linear: it begins at the checkpoint and is not
// circular, and in the later format every sequence byte is 1.
//
// Sources: storage/innobase/include/log0log.h, log0types.h, mtr0types.h and
// log/log0recv.cc of MariaDB 10.5.23, 10.11.18 and 11.8.6.
package mariadbredo

import (
	"encoding/binary"
	"errors"
	"fmt"

	"hb/xbstream/innodb"
)

// Format is a redo log format that this package reads and writes.
type Format uint8

// The formats.
const (
	// Format105 is "PHYS": MariaDB 10.5 to 10.7.
	Format105 Format = iota + 1
	// Format108 is "Phys": MariaDB 10.8 and later.
	Format108
)

// Facts is what differs between formats and is a number.
type Facts struct {
	Name        string   // for messages
	Tag         uint32   // first four bytes of the file
	HeaderSize  int64    // bytes before the first log byte
	blockSize   int      // 512, or 0 where the log has no blocks
	Checkpoints [2]int64 // offsets of the two checkpoint blocks
}

// MaxMTR is the length in bytes of the longest mini-transaction that is
// accepted, framing included. A caller that feeds a Cutter at least so many
// bytes never waits for a mini-transaction to become longer.
//
// 10.8 and later: the server allows 1 MiB of records not counting their first
// bytes (MTR_SIZE_MAX), at most every third one. Before, its parsing buffer of
// 2 MiB is the only limit (RECV_PARSING_BUF_SIZE).
const MaxMTR = 2 << 20

var facts = [...]Facts{
	Format105: {"MariaDB 10.5-10.7", 0x50485953, 2048, blockSize, [2]int64{512, 1536}},
	Format108: {"MariaDB 10.8+", 0x50687973, 12288, 0, [2]int64{4096, 8192}},
}

// Facts returns the table of the format. It panics on a Format that is not one
// of the constants.
func (f Format) Facts() *Facts {
	if f != Format105 && f != Format108 {
		panic(fmt.Sprintf("mariadbredo: internal error: format %d", uint8(f)))
	}
	return &facts[f]
}

func (f Format) String() string {
	if f == Format105 || f == Format108 {
		return facts[f].Name
	}
	return fmt.Sprintf("redo log format %d", uint8(f))
}

// FirstLSN is the smallest LSN that a 10.8+ log can begin at.
const FirstLSN innodb.LSN = 12288

// BackupCreator opens the creator string of a log that was written by a backup
// tool. It matters: a server that finds it drops the tables named #sql…, whose
// files a backup does not have, instead of complaining about them.
const BackupCreator = "Backup "

// ErrEmptyLog says that the redo log file has no bytes, as 10.5's tool leaves
// it after recovery.
var ErrEmptyLog = errors.New("the redo log is empty")

// UnsupportedError says that a redo log is of a format that hb cannot read.
type UnsupportedError struct {
	Tag       uint32 // first four bytes of the file
	Name      string // what that is
	Encrypted bool
}

func (e *UnsupportedError) Error() string {
	if e.Encrypted {
		return fmt.Sprintf("the redo log is encrypted in a form that hb cannot read (%s): run the server with innodb_encrypt_log=OFF", e.Name)
	}
	return fmt.Sprintf("redo log format %#x (%s) is not one that hb reads here", e.Tag, e.Name)
}

const encryptedBit = 1 << 31

// identify names the format of a log by its first block, of which at least 64
// bytes are given.
func identify(block []byte) (Format, error) {
	tag := binary.BigEndian.Uint32(block)
	unsupported := func(name string, encrypted bool) (Format, error) {
		return 0, &UnsupportedError{Tag: tag, Name: name, Encrypted: encrypted}
	}
	switch tag {
	case facts[Format105].Tag, facts[Format105].Tag | encryptedBit:
		return Format105, nil
	case facts[Format108].Tag:
		// The first encrypted form has no tag of its own; the key id, always 1,
		// is where an unencrypted log has zero.
		if binary.BigEndian.Uint32(block[48:]) != 0 {
			return unsupported(facts[Format108].Name, true)
		}
		return Format108, nil
	case tagSealed108:
		return Format108, nil
	}
	encrypted := tag&encryptedBit != 0
	switch tag &^ encryptedBit {
	case 0:
		return unsupported("MySQL 5.6, MariaDB 10.1 or older", encrypted)
	case 1:
		return unsupported("MySQL 5.7 or MariaDB 10.2", encrypted)
	case 2, 3, 4, 5, 6:
		return unsupported("MySQL 8.0 or later", encrypted)
	case 103, 104:
		return unsupported(fmt.Sprintf("MariaDB 10.%d", tag&^encryptedBit-100), encrypted)
	}
	return unsupported("unknown", false)
}
