package redo

import (
	"bytes"
	"encoding/binary"
	"errors"
	"slices"
	"sync"

	"hb/xbstream/innodb"
	"hb/xbstream/innodb/mysqlredo"
	"hb/xbstream/innodb/mysqlredo/mlog"
	"hb/xbstream/innodb/redolog"
	"hb/xbstream/innodb/tde"
	"hb/xbstream/keyring"
)

// sealedLog are the keys of MySQL's redo log, which the server may begin and end to
// encrypt at any time. The copy has a single key, as its head has room for one: the
// server's, if the log had one when the copy began, or one that hb makes. Blocks that the
// server encrypted with another are encrypted again.
type sealedLog struct {
	keys   *keyring.Keys
	infos  [][]byte // of the server's keys, as the log's files had them
	server []mysqlredo.BlockCipher
	// archive is the copy's; nil: there was no master key to keep its key under. Then the
	// log must stay a plain one.
	archive mysqlredo.BlockCipher
	info    []byte // of archive
	missing error  // why a key of infos could not be had
	any     bool   // a block was encrypted
}

// errNoRedoKey says that the server began to encrypt a log for which hb has no key.
var errNoRedoKey = errors.New("the server began to encrypt its redo log (innodb_redo_log_encrypt) after the backup began, and there was no master key in the keyring to keep a key for the copy under: back up again")

// begin learns the keys that the log has, and chooses that of the copy.
func (s *sealedLog) begin(files *mysqlredo.Files) error {
	if _, err := s.look(files); err != nil {
		if _, ok := errors.AsType[*keyring.MissingKeyError](err); !ok {
			return err
		}
	}
	if s.archive != nil || s.keys == nil {
		return nil
	}
	name, master, ok := s.keys.NewestMaster()
	if !ok {
		return nil
	}
	uuid, number, err := tde.ParseMasterName(name)
	if err != nil {
		return err
	}
	key := tde.NewMySQLKey()
	info, err := key.Seal(master, uuid, number)
	if err != nil {
		return err
	}
	s.archive, s.info = tde.NewRedoBlocks(key), info.Marshal()
	return nil
}

// look learns keys that are new in the log's files, and reports whether there were any. That
// a key is not in the keyring is an error if hb has no other: otherwise the block that
// does not decrypt may be one that is just being written.
func (s *sealedLog) look(files *mysqlredo.Files) (found bool, err error) {
	infos, err := files.Infos()
	if err != nil {
		return false, err
	}
	for _, b := range infos {
		if slices.ContainsFunc(s.infos, func(have []byte) bool { return bytes.Equal(have, b) }) {
			continue
		}
		var key tde.MySQLKey
		info, err := tde.ParseMySQLInfo(b)
		if err == nil {
			key, err = info.Unlock(s.keys)
		}
		if err != nil {
			s.missing = err
			continue // the header may be just being written
		}
		blocks := tde.NewRedoBlocks(key)
		s.infos, s.server, found = append(s.infos, b), append(s.server, blocks), true
		if s.archive == nil {
			s.archive, s.info = blocks, b
		}
	}
	if found || len(s.server) > 0 {
		return found, nil
	}
	return false, s.missing
}

// seal makes of the encrypted blocks that were read those of the copy.
func (s *sealedLog) seal(parts ...[]byte) error {
	var plain [redolog.BlockSize]byte
	at := 0
	for _, blocks := range parts {
		for ; len(blocks) > 0; blocks = blocks[redolog.BlockSize:] {
			block := blocks[:redolog.BlockSize]
			if !mysqlredo.Sealed(block) {
				continue
			}
			s.any = true
			if s.archive == nil {
				return errNoRedoKey
			}
			if len(s.server) == 1 && s.server[0] == s.archive {
				continue
			}
			at, _ = mysqlredo.Unseal(plain[:], block, s.server, at) // the cutter has accepted it
			if s.server[at] != s.archive {
				s.archive.Seal(plain[:])
				copy(block, plain[:])
			}
		}
	}
	return nil
}

// infoOffsets are the places in page 0 where encryption information may be: one for each
// innodb_page_size and each size of compressed pages. A record of the log tells neither.
var infoOffsets = sync.OnceValue(func() map[int]bool {
	at := make(map[int]bool)
	for logical := innodb.MinPageSize; logical <= innodb.MaxPageSize; logical *= 2 {
		for physical := innodb.MinZipSize; physical <= logical; physical *= 2 {
			at[(&innodb.Space{Logical: logical, Physical: physical}).OffsetMySQLInfo()] = true
		}
	}
	return at
})

// sealing returns the encryption information that a record writes to page 0 of a
// tablespace, after its offset and length, of 2 bytes each; unsealed: the server overwrites it
// with zeros, after it has decrypted all pages in place (fsp0fsp.cc of 9.7.2, decrypt_end).
// 9.7.4 writes the 111 bytes that it has, and reserves MySQLInfoSize.
func sealing(r *mlog.Record) (info []byte, unsealed bool) {
	const head, least = 4, 111
	n := len(r.Body) - head
	// MySQL does not encrypt the system tablespace.
	if r.Page.No != 0 || r.Page.Space == 0 || n < least || n > innodb.MySQLInfoSize || !infoOffsets()[int(binary.BigEndian.Uint16(r.Body))] {
		return nil, false
	}
	info = make([]byte, innodb.MySQLInfoSize)
	copy(info, r.Body[head:])
	switch _, err := tde.ParseMySQLInfo(info); err {
	case nil:
		return info, false
	case tde.ErrNoInfo:
		return nil, true
	}
	return nil, false
}
