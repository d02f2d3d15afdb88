package tde

import (
	"bytes"
	"crypto/aes"
	"crypto/cipher"
	"crypto/sha512"
	"encoding/binary"
	"errors"
	"fmt"
)

// MySQLBinlogHeader is how many bytes come before the content of an encrypted binary or
// relay log (Rpl_encryption_header_v1 in rpl_log_encryption.h of MySQL 9.7.2).
const MySQLBinlogHeader = 512

// mysqlBinlogMagic begins an encrypted log; a plain one begins with FE and the same.
var mysqlBinlogMagic = []byte{0xFD, 'b', 'i', 'n'}

// Fields of the header: a type (1 byte), which gives the length, and the value.
const (
	binlogFieldEnd      = 0
	binlogFieldKeyID    = 1 // a length (1 byte) and the name of the key in the keyring
	binlogFieldPassword = 2 // 32 bytes
	binlogFieldIV       = 3 // 16 bytes
)

// MySQLBinlog is the header of an encrypted log: the password of the file, encrypted by
// a key of the keyring.
type MySQLBinlog struct {
	Master   string // name of that key
	password [32]byte
	iv       [aes.BlockSize]byte
}

// ParseMySQLBinlog reads the header from at least MySQLBinlogHeader bytes.
func ParseMySQLBinlog(b []byte) (MySQLBinlog, error) {
	var h MySQLBinlog
	if len(b) < MySQLBinlogHeader {
		return h, fmt.Errorf("the header of the encrypted binary log is cut short at %d bytes", len(b))
	}
	if !bytes.HasPrefix(b, mysqlBinlogMagic) || b[4] != 1 {
		return h, fmt.Errorf("the header of the encrypted binary log begins with % x, which hb does not know", b[:5])
	}
	b = b[5:MySQLBinlogHeader]
	seen := 0
	for len(b) > 0 && b[0] != binlogFieldEnd {
		n, field := 0, b[0]
		b = b[1:]
		switch field {
		case binlogFieldKeyID:
			if len(b) > 0 {
				n, b = int(b[0]), b[1:]
			}
		case binlogFieldPassword:
			n = len(h.password)
		case binlogFieldIV:
			n = len(h.iv)
		default:
			return h, fmt.Errorf("the header of the encrypted binary log has a field of type %d, which hb does not know", field)
		}
		if n > len(b) {
			return h, errors.New("the header of the encrypted binary log is damaged: a field is longer than it")
		}
		switch field {
		case binlogFieldKeyID:
			h.Master = string(b[:n])
		case binlogFieldPassword:
			copy(h.password[:], b)
		case binlogFieldIV:
			copy(h.iv[:], b)
		}
		b = b[n:]
		seen |= 1 << field
	}
	if seen != 1<<binlogFieldKeyID|1<<binlogFieldPassword|1<<binlogFieldIV {
		return h, errors.New("the header of the encrypted binary log is damaged: it does not have all of its fields")
	}
	return h, nil
}

// Stream returns what decrypts the content of the log from a byte on, counted from the
// end of the header. Whether the key is the right one shows in what comes out: a log
// begins with FE 'bin'.
func (h MySQLBinlog) Stream(master []byte, from int64) (cipher.Stream, error) {
	block, err := masterCipher(master)
	if err != nil {
		return nil, err
	}
	var password [32]byte
	cipher.NewCBCDecrypter(block, h.iv[:]).CryptBlocks(password[:], h.password[:])
	sum := sha512.Sum512(password[:])
	file, err := aes.NewCipher(sum[:32])
	if err != nil {
		return nil, err
	}
	var counter [aes.BlockSize]byte
	copy(counter[:], sum[32:40])
	binary.BigEndian.PutUint64(counter[8:], uint64(from/aes.BlockSize))
	s := cipher.NewCTR(file, counter[:])
	skip := make([]byte, from%aes.BlockSize)
	s.XORKeyStream(skip, skip)
	return s, nil
}
