package stage

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"path/filepath"

	"hb/source/datadir"
	"hb/stream/disk"
)

// The log tables, mysql.general_log and mysql.slow_log, are written whenever the
// server logs a statement, hb's own too, and no lock on tables keeps it from that
// ("You can't use locks with log tables"). Servers allow two engines for them, and
// MariaDB Aria without TRANSACTIONAL. Rows are only ever added; TRUNCATE cuts the
// files in place.
//
//   - CSV: whole lines of the .CSV, which are rows, and a .CSM made for them. The
//     server's own marks the table as crashed while it is open.
//   - MyISAM: the state at the beginning of the .MYI, which the server writes after
//     each row, and the part of the .MYD that it covers.

// RefreshLogTables brings the log tables to a state that they had at a moment of
// this call, while nobody may truncate, alter or rename them.
//
// flush has the server close a table of mysql.
func (s *Stage) RefreshLogTables(ctx context.Context, files []datadir.File, flush func(ctx context.Context, table string) error) error {
	data := make(map[string]datadir.File)
	for _, info := range files {
		if datadir.IsLogData(info.Name) {
			data[info.Name] = info
		}
	}
	s.forget(func(name string) bool { return datadir.IsLogData(name) && data[name].Name == "" })
	for _, table := range datadir.LogTables {
		name := "mysql/" + table
		if csv, ok := data[name+".CSV"]; ok {
			if err := s.copyCSVLog(ctx, csv, data[name+".CSM"]); err != nil {
				return err
			}
		}
		if index, ok := data[name+".MYI"]; ok {
			if err := s.copyMyISAMLog(ctx, index, data[name+".MYD"], func() error { return flush(ctx, table) }); err != nil {
				return fmt.Errorf("copying the log table mysql.%s: %w", table, err)
			}
		}
	}
	return nil
}

const (
	csmSize  = 35 // bytes of a .CSM
	csmMagic = 0xFE
	csmRows  = 2  // offset of the number of rows, 8 bytes, little endian
	csmDirty = 34 // offset of the mark of a table that is open, or was not closed
)

// copyCSVLog stages the whole lines that a log table in CSV format has now. meta
// is its .CSM.
func (s *Stage) copyCSVLog(ctx context.Context, info, meta datadir.File) (err error) {
	f, err := s.disk.OpenRegular(info.Path, info.Linked)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	c := new(staged)
	if c.info, err = datadir.StatOpen(f, info); err != nil {
		return err
	}
	// The line that the server is writing just now is left out.
	if c.info.Size, err = endOfLines(f, c.info.Size, s.buf); err != nil {
		return fmt.Errorf("copying %s: %w", info.Path, err)
	}
	if err := s.keep(c, s.files[info.Name], f); err != nil {
		return fmt.Errorf("copying %s: %w", info.Path, err)
	}
	if err := s.read(ctx, f, c, verifier{}, locked); err != nil {
		return fmt.Errorf("copying %s: %w", info.Path, err)
	}
	s.files[info.Name] = c
	if meta.Name == "" {
		return nil
	}
	return s.stageCSM(meta, c.lines)
}

// endOfLines returns the offset after the last line end in the first size bytes.
func endOfLines(f io.ReaderAt, size int64, buf []byte) (int64, error) {
	for size > 0 {
		n := min(int64(len(buf)), size)
		got, err := f.ReadAt(buf[:n], size-n)
		if int64(got) < n {
			return 0, err
		}
		if i := bytes.LastIndexByte(buf[:n], '\n'); i >= 0 {
			return size - n + int64(i) + 1, nil
		}
		size -= n
	}
	return 0, nil
}

// stageCSM stages the .CSM of a table that was closed with so many rows. One that
// is not such a file is staged as it is.
func (s *Stage) stageCSM(info datadir.File, rows uint64) error {
	b, err := datadir.ReadAll(s.disk, info.Path, csmSize+1)
	if err != nil {
		return fmt.Errorf("reading %s: %w", info.Path, err)
	}
	if len(b) == csmSize && b[0] == csmMagic {
		binary.LittleEndian.PutUint64(b[csmRows:], rows)
		b[csmDirty] = 0
	}
	return s.Put(info.Name, b)
}

// myisamState is where a .MYI has what (storage/myisam/mi_open.cc,
// mi_state_info_write); numbers are big endian.
const (
	myiKeys       = 18 // number of indexes, 1 byte
	myiOpen       = 24 // how many have it open and changed, 2 bytes
	myiDeleted    = 36 // number of deleted rows, 8 bytes
	myiDataLength = 68 // length of the .MYD, 8 bytes
	myiHead       = 128
)

var myiMagic = []byte{0xFE, 0xFE, 0x07}

// logTries is how often hb has the server close a log table with indexes, to copy
// it before the server logs again.
const logTries = 20

// BusyLogError says that a log table cannot be copied while the server writes it.
type BusyLogError struct{ Path, What string }

func (e *BusyLogError) Error() string {
	return fmt.Sprintf("the log table %s %s, and the server writes it all the time, which no lock keeps it from: "+
		"set its engine to CSV, or have the server log to a file (log_output=FILE)", e.Path, e.What)
}

const withIndexes = "has indexes"

// copyMyISAMLog stages a log table in MyISAM format. Without indexes and deleted
// rows, the rows that its state covers do not change any more. With them, nobody may
// have it open from before it is read until it was read.
func (s *Stage) copyMyISAMLog(ctx context.Context, index, data datadir.File, flush func() error) error {
	if data.Name == "" {
		return nil // the server cannot open it either
	}
	for range logTries {
		before, err := datadir.ReadAll(s.disk, index.Path, index.Size)
		if err != nil {
			return err
		}
		if len(before) < myiHead || !bytes.HasPrefix(before, myiMagic) {
			return fmt.Errorf("%s is not a MyISAM table", index.Path)
		}
		onlyAppended := before[myiKeys] == 0 && binary.BigEndian.Uint64(before[myiDeleted:]) == 0
		closed := binary.BigEndian.Uint16(before[myiOpen:]) == 0
		if !onlyAppended {
			if err := s.copyData(ctx, data, before); err != nil {
				return err
			}
		}
		// A state that was read while the server wrote it is not read twice.
		after, err := datadir.ReadAll(s.disk, index.Path, index.Size)
		if err != nil {
			return err
		}
		if (onlyAppended || closed) && bytes.Equal(before, after) {
			if onlyAppended {
				if err := s.copyData(ctx, data, before); err != nil {
					return err
				}
			}
			binary.BigEndian.PutUint16(before[myiOpen:], 0)
			return s.Put(index.Name, before)
		}
		if err := flush(); err != nil {
			return err
		}
	}
	return &BusyLogError{index.Path, withIndexes}
}

// copyData stages the part of a .MYD that the state in the head of its .MYI
// covers, or all of it if it is shorter.
func (s *Stage) copyData(ctx context.Context, data datadir.File, head []byte) (err error) {
	f, err := s.disk.OpenRegular(data.Path, data.Linked)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	c := new(staged)
	if c.info, err = datadir.StatOpen(f, data); err != nil {
		return err
	}
	length := binary.BigEndian.Uint64(head[myiDataLength:])
	c.info.Size = int64(min(uint64(c.info.Size), length))
	if err := s.read(ctx, f, c, verifier{}, locked); err != nil {
		return err
	}
	s.files[data.Name] = c
	return nil
}

// CheckLogTables refuses log tables that cannot be copied while the server writes
// them: the general log with indexes, which is never closed for long, and what Aria
// does not log itself. dir is the directory of the database mysql; general and slow
// say to which of them the server writes.
func CheckLogTables(system disk.System, dir string, general, slow bool) error {
	for table, on := range map[string]bool{"general_log": general, "slow_log": slow} {
		if !on {
			continue
		}
		index := filepath.Join(dir, table+".MAI")
		if safe, err := datadir.IsCrashSafe(system, index); err != nil {
			return err
		} else if !safe {
			return &BusyLogError{index, "is not crash-safe (Aria, TRANSACTIONAL=0)"}
		}
	}
	if !general {
		return nil
	}
	path := filepath.Join(dir, "general_log.MYI")
	head, err := datadir.ReadAll(system, path, myiHead)
	if err == nil && len(head) == myiHead && head[myiKeys] > 0 {
		err = &BusyLogError{path, withIndexes}
	}
	return datadir.IgnoreGone(err)
}
