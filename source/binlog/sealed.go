package binlog

import (
	"bytes"
	"errors"
	"fmt"
	"io"

	"hb/xbstream/innodb/tde"
	"hb/xbstream/keyring"
)

// Open returns the content of a binary log file, which may be encrypted, and how many
// bytes of the file come before it: positions of the server count from there. keys may be
// nil. The error for a key that is missing is a *keyring.MissingKeyError.
func Open(file io.ReaderAt, keys *keyring.Keys) (content io.ReaderAt, head int64, err error) {
	b := make([]byte, tde.MySQLBinlogHeader)
	n, err := file.ReadAt(b, 0)
	if err != nil && !errors.Is(err, io.EOF) {
		return nil, 0, fmt.Errorf("reading the binary log: %w", err)
	}
	if b = b[:n]; !bytes.HasPrefix(b, encrypted) {
		return file, 0, nil
	}
	h, err := tde.ParseMySQLBinlog(b)
	if err != nil {
		return nil, 0, err
	}
	master, err := keys.Master(h.Master)
	if err != nil {
		return nil, 0, err
	}
	plain := &sealed{file, h, master}
	var first [4]byte
	if _, err := plain.ReadAt(first[:], 0); err == nil && !bytes.Equal(first[:], magic) {
		return nil, 0, &keyring.WrongKeyError{Name: "the key " + h.Master, What: "it does not decrypt the binary log"}
	}
	return plain, tde.MySQLBinlogHeader, nil
}

// sealed decrypts an encrypted file.
type sealed struct {
	file   io.ReaderAt
	header tde.MySQLBinlog
	master []byte
}

// ReadAt implements io.ReaderAt.
func (s *sealed) ReadAt(p []byte, off int64) (int, error) {
	n, err := s.file.ReadAt(p, off+tde.MySQLBinlogHeader)
	stream, serr := s.header.Stream(s.master, off)
	if serr != nil {
		return 0, serr
	}
	stream.XORKeyStream(p[:n], p[:n])
	return n, err
}
