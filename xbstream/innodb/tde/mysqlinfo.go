package tde

import (
	"crypto/aes"
	"encoding/binary"
	"errors"
	"fmt"
	"strconv"
	"strings"

	"hb/xbstream/innodb"
)

// MySQLInfo is the encryption information of a tablespace, on its page 0, or of a redo
// log, in its header: a key and an IV, encrypted by a master key (os0enc.h and
// os0enc.cc of MySQL 9.7.2):
//
//	  0  3  magic: lCA 5.7.11, lCB 5.7.12 and later, lCC 8.0.5 and later
//	  3  4  number of the master key; 0: the one of the server's first start
//	  7 36  UUID of the server that made the master key; not in lCA
//	 43 64  key (32) and IV (32), by AES-256-ECB
//	107  4  CRC-32C of the two in plain
type MySQLInfo struct {
	Magic  [3]byte
	Number uint32   // of the master key
	UUID   [36]byte // zero in lCA
	Sealed [64]byte
	Sum    uint32
}

// MySQLInfoSize is how many bytes servers reserve and write for the information.
const MySQLInfoSize = innodb.MySQLInfoSize

// magics are those of MySQLInfo, and whether a UUID follows them.
var magics = map[[3]byte]bool{
	{'l', 'C', 'A'}: false,
	{'l', 'C', 'B'}: true,
	{'l', 'C', 'C'}: true,
}

// ErrNoInfo says that there is no encryption information: the bytes are zero.
var ErrNoInfo = errors.New("there is no encryption information")

// ParseMySQLInfo reads the information from at least MySQLInfoSize bytes.
func ParseMySQLInfo(b []byte) (MySQLInfo, error) {
	var i MySQLInfo
	if len(b) < MySQLInfoSize {
		return i, fmt.Errorf("the encryption information is cut short at %d bytes", len(b))
	}
	if b = b[:MySQLInfoSize]; innodb.AllZero(b) {
		return i, ErrNoInfo
	}
	copy(i.Magic[:], b)
	uuid, known := magics[i.Magic]
	if !known {
		return i, fmt.Errorf("the encryption information begins with %q, which no server writes", i.Magic[:])
	}
	i.Number = binary.BigEndian.Uint32(b[3:])
	b = b[7:]
	if uuid {
		b = b[copy(i.UUID[:], b):]
	} else if binary.BigEndian.Uint32(b) == 0 { // 5.7.11 stores 8 bytes
		b = b[4:]
	}
	b = b[copy(i.Sealed[:], b):]
	i.Sum = binary.BigEndian.Uint32(b)
	return i, nil
}

// Marshal returns the information in the form of 8.0.5 and later, MySQLInfoSize bytes.
func (i MySQLInfo) Marshal() []byte {
	b := append(make([]byte, 0, MySQLInfoSize), "lCC"...)
	b = binary.BigEndian.AppendUint32(b, i.Number)
	b = append(b, i.UUID[:]...)
	b = append(b, i.Sealed[:]...)
	b = binary.BigEndian.AppendUint32(b, i.Sum)
	return b[:MySQLInfoSize]
}

// masterPrefix begins the names of the master keys of InnoDB in a keyring.
const masterPrefix = "INNODBKey-"

// MasterKeyName is the name in a keyring of a server's master key.
func MasterKeyName(uuid string, number uint32) string {
	return masterPrefix + uuid + "-" + strconv.FormatUint(uint64(number), 10)
}

// Master is the name of the master key in a keyring; "" for the one that every server
// has before its keyring is ready (number 0). 5.7.11 names it by the server's id,
// which the information does not have: the name then begins and ends like this one.
func (i MySQLInfo) Master() string {
	if i.Number == 0 {
		return ""
	}
	if i.UUID == ([36]byte{}) {
		return MasterKeyName("", i.Number)
	}
	return MasterKeyName(string(i.UUID[:]), i.Number)
}

// firstMaster is the master key with number 0 (DEFAULT_MASTER_KEY in os0enc.cc).
var firstMaster = [32]byte([]byte("DefaultMasterKey\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00"))

// ErrWrongMaster says that a master key does not open the information: it is another
// key, or the information is damaged.
var ErrWrongMaster = errors.New("the master key does not open the encryption information")

// MySQLKey encrypts pages of a tablespace, or blocks of a redo log.
type MySQLKey struct {
	Key [32]byte
	IV  [32]byte // of which 16 bytes are used
}

// String hides the key.
func (MySQLKey) String() string { return "…" }

// GoString hides the key.
func (MySQLKey) GoString() string { return "…" }

// Open decrypts the key by the master key: 32 bytes, which do not matter if Number is 0.
// The error is ErrWrongMaster.
func (i MySQLInfo) Open(master []byte) (MySQLKey, error) {
	var k MySQLKey
	if i.Number == 0 {
		master = firstMaster[:]
	}
	block, err := masterCipher(master)
	if err != nil {
		return k, err
	}
	var plain [64]byte
	for at := 0; at < len(plain); at += aes.BlockSize {
		block.Decrypt(plain[at:], i.Sealed[at:])
	}
	if innodb.CRC32C(plain[:]) != i.Sum {
		return k, ErrWrongMaster
	}
	copy(k.Key[:], plain[:32])
	copy(k.IV[:], plain[32:])
	return k, nil
}

// Seal encrypts the key by a master key of 32 bytes, which the server of the UUID knows
// by that number.
func (k MySQLKey) Seal(master []byte, uuid [36]byte, number uint32) (MySQLInfo, error) {
	i := MySQLInfo{Magic: [3]byte{'l', 'C', 'C'}, Number: number, UUID: uuid}
	block, err := masterCipher(master)
	if err != nil {
		return i, err
	}
	plain := append(append(make([]byte, 0, 64), k.Key[:]...), k.IV[:]...)
	for at := 0; at < len(plain); at += aes.BlockSize {
		block.Encrypt(i.Sealed[at:], plain[at:])
	}
	i.Sum = innodb.CRC32C(plain)
	return i, nil
}

// ParseMasterName takes the name of a master key apart.
func ParseMasterName(name string) (uuid [36]byte, number uint32, err error) {
	rest, ok := strings.CutPrefix(name, masterPrefix)
	n, perr := strconv.ParseUint(rest[min(len(rest), len(uuid)+1):], 10, 32)
	if !ok || len(rest) < len(uuid)+2 || rest[len(uuid)] != '-' || perr != nil || n == 0 {
		return uuid, 0, fmt.Errorf("the keyring's %q is not the name of a master key of MySQL 5.7.12 or later", name)
	}
	copy(uuid[:], rest)
	return uuid, uint32(n), nil
}
