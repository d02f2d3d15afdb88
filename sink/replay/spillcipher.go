package replay

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/rand"
	"encoding/binary"

	"hb/stream/disk"
)

// sealedFile encrypts what is written to a file by AES-256-CTR, with a key that only this
// process has and that is never used again: redo records hold rows in clear, also those of
// encrypted tables and of an encrypted redo log.
type sealedFile struct {
	disk.File
	block cipher.Block
	buf   []byte // what is being written, encrypted; reused
}

func newSealedFile(f disk.File) (*sealedFile, error) {
	var key [32]byte
	rand.Read(key[:]) // never fails
	block, err := aes.NewCipher(key[:])
	return &sealedFile{File: f, block: block}, err
}

// xor encrypts or decrypts bytes that are in the file at an offset.
func (s *sealedFile) xor(dst, src []byte, off int64) {
	var counter [aes.BlockSize]byte
	binary.BigEndian.PutUint64(counter[8:], uint64(off/aes.BlockSize))
	stream := cipher.NewCTR(s.block, counter[:])
	var skipped [aes.BlockSize]byte
	stream.XORKeyStream(skipped[:off%aes.BlockSize], skipped[:off%aes.BlockSize])
	stream.XORKeyStream(dst, src)
}

// WriteAt implements io.WriterAt. No byte may be written twice.
func (s *sealedFile) WriteAt(p []byte, off int64) (int, error) {
	s.buf = append(s.buf[:0], p...)
	s.xor(s.buf, s.buf, off)
	return s.File.WriteAt(s.buf, off)
}

// ReadAt implements io.ReaderAt.
func (s *sealedFile) ReadAt(p []byte, off int64) (int, error) {
	n, err := s.File.ReadAt(p, off)
	s.xor(p[:n], p[:n], off)
	return n, err
}
