package metadata

import (
	"errors"
	"fmt"
	"io/fs"
	"strconv"
	"strings"
)

// BinlogPos is where replication from the backed up server goes on: the
// content of xtrabackup_binlog_info, and a field of the manifest.
type BinlogPos struct {
	File string `json:"file,omitempty"` // base name; empty if the server writes no binary log but has a GTID set
	Pos  uint64 `json:"pos"`            // bytes
	GTID string `json:"gtid,omitempty"` // MariaDB: gtid_current_pos; MySQL: gtid_executed
}

// BinlogHome is where a server keeps its binary log.
type BinlogHome struct {
	Base  string `json:"base"`  // log_bin_basename: the path of its files without the number
	Index string `json:"index"` // path of its index
}

// Validate reports what is wrong with h.
func (h *BinlogHome) Validate() error {
	for _, path := range []string{h.Base, h.Index} {
		if path == "" || len(path) > maxText || strings.ContainsAny(path, "\x00\r\n") {
			return fmt.Errorf("the path of the binary log is %.40q", path)
		}
	}
	return nil
}

// Validate reports what is wrong with p.
func (p *BinlogPos) Validate() error {
	switch {
	case p.File == "" && p.GTID == "":
		return errors.New("binlog position without file and GTID")
	case len(p.File) > maxText || strings.ContainsAny(p.File, "\t\r\n\x00"):
		return fmt.Errorf("binlog file name %.40q", p.File)
	case len(p.GTID) > maxGTID || strings.ContainsAny(p.GTID, "\t\r\n\x00"):
		return errors.New("binlog position: the GTID set is too long or has line ends in it")
	}
	return nil
}

// Marshal returns the content of xtrabackup_binlog_info: file, position and,
// if there is one, the GTID set, with tabs between.
func (p *BinlogPos) Marshal() ([]byte, error) {
	if err := p.Validate(); err != nil {
		return nil, err
	}
	text := p.File + "\t" + strconv.FormatUint(p.Pos, 10)
	if p.GTID != "" {
		text += "\t" + p.GTID
	}
	return []byte(text + "\n"), nil
}

// UnmarshalBinlogPos reads a file's content. A GTID set over several lines,
// as MySQL prints it, is put together.
func UnmarshalBinlogPos(text []byte) (*BinlogPos, error) {
	const file = "xtrabackup_binlog_info"
	if len(text) > MaxTextFile {
		return nil, fmt.Errorf("%s has %d bytes, more than %d", file, len(text), MaxTextFile)
	}
	fields := strings.SplitN(strings.Trim(string(text), "\r\n"), "\t", 3)
	if len(fields) < 2 {
		return nil, fmt.Errorf("%s: want file, tab and position, got %.60q", file, text)
	}
	pos, err := strconv.ParseUint(strings.TrimSpace(fields[1]), 10, 64)
	if err != nil {
		return nil, fmt.Errorf("%s: position: %w", file, err)
	}
	p := &BinlogPos{File: fields[0], Pos: pos}
	if len(fields) == 3 {
		p.GTID = strings.NewReplacer("\r", "", "\n", "").Replace(strings.TrimSpace(fields[2]))
	}
	if err := p.Validate(); err != nil {
		return nil, fmt.Errorf("%s: %w", file, err)
	}
	return p, nil
}

// ReadBinlogPos reads the file of either family in dir. The error is
// fs.ErrNotExist without one: the server wrote no binary log.
func ReadBinlogPos(dir fs.FS) (*BinlogPos, error) {
	_, text, err := readEither(dir, func(n Names) string { return n.BinlogInfo })
	if err != nil {
		return nil, err
	}
	return UnmarshalBinlogPos(text)
}

// InfoText returns the position as the info file states it.
func (p *BinlogPos) InfoText() string {
	text := fmt.Sprintf("filename '%s', position '%d'", p.File, p.Pos)
	if p.GTID != "" {
		text += fmt.Sprintf(", GTID of the last change '%s'", p.GTID)
	}
	return text
}
