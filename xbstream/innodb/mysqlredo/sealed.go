package mysqlredo

import (
	"encoding/binary"
	"fmt"

	"hb/xbstream/innodb"
)

// BlockCipher decrypts and encrypts blocks in place: tde.RedoBlocks. Open also clears the
// mark of an encrypted block, and Seal sets it.
type BlockCipher interface {
	Open(block []byte)
	Seal(block []byte)
}

// Where the head of a log file has the encryption information of its key: in the third
// block, 8.0 and later (LOG_ENCRYPTION and LOG_HEADER_ENCRYPTION_INFO_OFFSET in
// log0constants.h of MySQL 9.7.2). Of the files since 8.0.30, the one with the newest
// checkpoint has it, if the log is encrypted; others may have it too, or not.
const (
	offInfo  = 1024 + 48
	infoSize = 115 // tde.MySQLInfoSize
)

// Info returns the encryption information in the head of a log file, for
// tde.ParseMySQLInfo; nil if there is none.
func Info(head []byte) []byte {
	if len(head) < offInfo+infoSize || innodb.AllZero(head[offInfo:][:infoSize]) {
		return nil
	}
	return head[offInfo:][:infoSize:infoSize]
}

// SetInfo puts encryption information into a head.
func SetInfo(head, info []byte) { copy(head[offInfo:][:infoSize], info) }

// Sealed reports whether a block is encrypted.
func Sealed(block []byte) bool {
	return binary.BigEndian.Uint16(block[offUsed:])&blockEncrypted != 0
}

// Unseal decrypts the encrypted block at an LSN into plain with that one of the ciphers,
// first the one with number at, whose result has the right checksum, and returns its
// number. It reports false if there is none: the keys are wrong, or the block is damaged
// or just being written.
func Unseal(plain, block []byte, ciphers []BlockCipher, at int) (int, bool) {
	for i := range ciphers {
		n := (at + i) % len(ciphers)
		copy(plain, block[:blockSize])
		ciphers[n].Open(plain)
		if binary.BigEndian.Uint32(plain[blockEnd:]) == innodb.CRC32C(plain[:blockEnd]) {
			return n, true
		}
	}
	return at, false
}

// unseal is Unseal for a block that may be a plain one.
func (c *Cutter) unseal(b []byte, at innodb.LSN) ([]byte, Stop) {
	if !Sealed(b) || len(c.Ciphers) == 0 {
		return b, Stop{}
	}
	if stop := checkNumber(c.format, b, at); stop.Cause != 0 {
		return b, stop
	}
	var ok bool
	if c.cipher, ok = Unseal(c.plain[:], b, c.Ciphers, c.cipher); !ok {
		return b, Stop{Cause: StopSealed, LSN: at}
	}
	return c.plain[:], Stop{}
}

// LastSealedBlock is LastBlock for a log some of whose blocks are encrypted: the last one
// is if it was in the live log.
func LastSealedBlock(f Format, live []byte, end innodb.LSN, c BlockCipher) ([]byte, error) {
	if c == nil || len(live) != blockSize || !Sealed(live) {
		return LastBlock(f, live, end)
	}
	plain := make([]byte, blockSize)
	if _, ok := Unseal(plain, live, []BlockCipher{c}, 0); !ok {
		return nil, fmt.Errorf("the block before LSN %d does not decrypt", end)
	}
	b, err := LastBlock(f, plain, end)
	if err == nil {
		c.Seal(b)
	}
	return b, err
}
