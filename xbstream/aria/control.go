package aria

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
)

// ControlName is Aria's control file, which every MariaDB server has where
// aria_log_dir_path says: which log files there are and where recovery begins.
const ControlName = "aria_log_control"

const (
	// controlFixed is the part of the control file that is written once, when the file
	// is made, bytes; its checksum is the end.
	controlFixed   = 30
	controlVersion = 1
)

// ReadUUID reads from Aria's control file the UUID that the server drew when it made
// the file, in the usual form of 36 characters. It is what a MariaDB server has for an
// identity: it stays when the server restarts, recovers from a crash or is upgraded, and
// goes where its files are copied to; mariadb-install-db draws a new one. So does a
// server that starts without the file. (TestControlUUID.)
//
// The file begins with FE FE 0C, the version, and the UUID (16 bytes); then, integers
// little-endian, come the length of this part (2), that of the part that changes (2), the
// size of blocks (2), and the CRC-32 of all that (4). Source:
// storage/maria/ma_control_file.c of MariaDB 10.11; the files of 10.5, 10.11 and 11.8.
func ReadUUID(control io.ReaderAt) (string, error) {
	var b [controlFixed]byte
	if _, err := control.ReadAt(b[:], 0); err != nil {
		if err == io.EOF {
			err = io.ErrUnexpectedEOF
		}
		return "", fmt.Errorf("reading %s: %w", ControlName, err)
	}
	const sumAt = controlFixed - 4
	switch {
	case b[0] != 0xFE || b[1] != 0xFE || b[2] != 0x0C:
		return "", fmt.Errorf("this is no %s: it begins with % x", ControlName, b[:4])
	case b[3] != controlVersion:
		return "", fmt.Errorf("%s is of version %d, and hb knows version %d", ControlName, b[3], controlVersion)
	case binary.LittleEndian.Uint16(b[20:]) != controlFixed || crc32.ChecksumIEEE(b[:sumAt]) != binary.LittleEndian.Uint32(b[sumAt:]):
		return "", errors.New(ControlName + " is damaged: its checksum is wrong")
	}
	u := b[4:20]
	return fmt.Sprintf("%x-%x-%x-%x-%x", u[:4], u[4:6], u[6:8], u[8:10], u[10:]), nil
}
