package mariadbredo

import (
	"encoding/binary"
	"strings"

	"hb/xbstream/innodb"
)

// Creator makes the creator string of a log that a backup tool writes: it
// begins with BackupCreator and has at most 32 bytes.
func Creator(tool string) string {
	s := BackupCreator + strings.TrimPrefix(tool, BackupCreator)
	return s[:min(len(s), creatorSize)]
}

// BackupHead returns the beginning of a backup's ib_logfile0, Facts.HeaderSize
// bytes, for a log copied from the server's checkpoint c. After it come:
//
//   - 10.5: the server's blocks, verbatim, from the one that holds c.LSN on, as
//     long as they are valid. The last one may be partly used.
//   - 10.8+: the mini-transactions from c.LSN, without anything after the
//     last one, with every sequence byte set to 1.
//
// tool becomes part of the creator.
func BackupHead(f Format, c Checkpoint, tool string) []byte {
	return SealedHead(f, c, tool, Crypt{})
}

// SealedHead is BackupHead for a log that may be encrypted. What follows is as the server
// encrypted it.
func SealedHead(f Format, c Checkpoint, tool string, crypt Crypt) []byte {
	h := Header{Format: f, FirstLSN: c.LSN, Creator: Creator(tool), Crypt: crypt}
	b := make([]byte, f.Facts().HeaderSize)
	copy(b, h.Marshal())
	at := f.Facts().Checkpoints[0]
	if f == Format105 {
		at = f.Facts().Checkpoints[c.Number&1]
		c.Crypt = crypt
		c.Offset = uint64(f.Facts().HeaderSize) | uint64(c.LSN)&(blockSize-1)
	}
	copy(b[at:], h.MarshalCheckpoint(c))
	return b
}

// CleanLog returns the whole ib_logfile0 of a recovered backup whose last
// mini-transaction ended at last. For 10.5 it is empty: the server finds its
// LSN on page 0 of the system tablespace (innodb.OffsetFlushLSN) and makes a
// new log. For 10.8+ it is a log whose only mini-transaction, 16 bytes long,
// marks that there is nothing to recover, and which ends at last.
func CleanLog(f Format, last innodb.LSN, tool string) []byte {
	if f == Format105 {
		return nil
	}
	const size = 16 // FILE_CHECKPOINT: 3 + 8, sequence byte, CRC
	ckpt := last - size
	b := BackupHead(f, Checkpoint{LSN: ckpt, End: ckpt}, tool)
	b = append(b, byte(FileCheckpoint)<<4|10, 0, 0)
	b = binary.BigEndian.AppendUint64(b, uint64(ckpt))
	sum := innodb.CRC32C(b[f.Facts().HeaderSize:])
	return binary.BigEndian.AppendUint32(append(b, 1), sum)
}
