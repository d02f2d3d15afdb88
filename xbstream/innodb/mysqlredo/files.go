package mysqlredo

import (
	"cmp"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"hb/xbstream/innodb"
)

// Names of log files.
const (
	// RedoDir is the directory of the log files in the log's (or the data)
	// directory, 8.0.30 and later.
	RedoDir = "#innodb_redo"

	ringPrefix  = "ib_logfile"
	redoPrefix  = "#ib_redo"
	maxRing     = 100       // innodb_log_files_in_group at most
	maxFileSize = 512 << 30 // of all files of a ring; of one file 16 GiB since 8.0.30
)

// RingName is the name of a ring's file: they are numbered from 0.
func RingName(no int) string { return ringPrefix + strconv.Itoa(no) }

// RedoName is the name of a file in RedoDir.
func RedoName(id uint64) string { return redoPrefix + strconv.FormatUint(id, 10) }

// ParseRedoName returns the id of a file in RedoDir that is part of the log. The
// spare ones, #ib_redo<id>_tmp, are not: they hold valid blocks of the past.
func ParseRedoName(name string) (id uint64, ok bool) {
	digits, ok := strings.CutPrefix(name, redoPrefix)
	if !ok {
		return 0, false
	}
	id, err := strconv.ParseUint(digits, 10, 64)
	return id, err == nil && RedoName(id) == name
}

// Ring maps an LSN to the place of its byte in the files of a ring.
type Ring struct {
	files int
	size  int64 // of each file
	// The byte of LSN base lies at offset 0 of the files' log bytes, headers
	// left out, put one after the other.
	base innodb.LSN
}

// NewRing returns the ring of that many files of that size, one of whose
// checkpoints is c.
func NewRing(files int, size int64, c Checkpoint) (Ring, error) {
	r := Ring{files: files, size: size}
	if files < 1 || files > maxRing || size <= HeaderSize || size%blockSize != 0 || size > maxFileSize {
		return r, fmt.Errorf("a redo log of %d files of %d bytes cannot be", files, size)
	}
	file := c.Offset / uint64(size)
	if file >= uint64(files) || c.Offset%uint64(size) < HeaderSize {
		return r, fmt.Errorf("the redo log's checkpoint (LSN %d at offset %d) is not in its %d files of %d bytes",
			c.LSN, c.Offset, files, size)
	}
	// LSNs before the checkpoint are as legitimate as those after it, so base
	// may be negative: it counts modulo 2^64.
	r.base = c.LSN - innodb.LSN(c.Offset-HeaderSize*(1+file))
	return r, nil
}

// Capacity is how many log bytes the ring holds before it comes around.
func (r Ring) Capacity() innodb.LSN { return innodb.LSN(r.files) * innodb.LSN(r.size-HeaderSize) }

// Locate returns where the byte of an LSN lies, and how many log bytes lie
// there in one piece.
func (r Ring) Locate(lsn innodb.LSN) (file int, offset, contiguous int64) {
	p := int64(lsn-r.base) % int64(r.Capacity())
	if p < 0 {
		p += int64(r.Capacity())
	}
	part := r.size - HeaderSize
	return int(p / part), HeaderSize + p%part, part - p%part
}

// RedoFile is one of the files of the log since 8.0.30.
type RedoFile struct {
	ID     uint64 // in its name
	Size   int64
	Header Header
}

// End returns the LSN after the file's last byte.
func (f RedoFile) End() innodb.LSN { return f.Header.StartLSN + innodb.LSN(f.Size-HeaderSize) }

// Has reports whether the byte of an LSN lies in the file.
func (f RedoFile) Has(lsn innodb.LSN) bool { return f.Header.StartLSN <= lsn && lsn < f.End() }

// Offset returns where it lies.
func (f RedoFile) Offset(lsn innodb.LSN) int64 { return HeaderSize + int64(lsn-f.Header.StartLSN) }

// Checkpoint returns the newest valid checkpoint in the file's own range. head
// is its first HeaderSize bytes. ok is false if there is none: most files have
// no checkpoint, or one of an earlier life.
func (f RedoFile) Checkpoint(head []byte) (c Checkpoint, ok bool, err error) {
	all, err := f.Header.Checkpoints(head)
	for _, c := range all {
		if f.Has(c.LSN) {
			return c, true, err
		}
	}
	return Checkpoint{}, false, err
}

// NewRedoFile describes a file of the log by its first block.
func NewRedoFile(id uint64, size int64, block []byte) (RedoFile, error) {
	h, err := ParseHeader(block)
	f := RedoFile{ID: id, Size: size, Header: h}
	switch {
	case err != nil:
		return f, err
	case h.Format != Format8030:
		return f, fmt.Errorf("a redo log of the format of %v is not kept in %s", h.Format, RedoDir)
	case size <= HeaderSize || size%blockSize != 0 || size > maxFileSize:
		return f, fmt.Errorf("a redo log file of %d bytes cannot be", size)
	}
	return f, nil
}

// CheckSequence puts the files of one log in order and checks that they are
// one: of the same uuid, without holes or overlaps, and that the newest one is
// there. The error names what is missing.
func CheckSequence(files []RedoFile) error {
	if len(files) == 0 {
		return fmt.Errorf("%s has no redo log files", RedoDir)
	}
	slices.SortFunc(files, func(a, b RedoFile) int { return cmp.Compare(a.ID, b.ID) })
	for i, f := range files[1:] {
		before := files[i]
		switch {
		case f.Header.UUID != before.Header.UUID:
			return fmt.Errorf("%s and %s are not of one log", RedoName(before.ID), RedoName(f.ID))
		case f.ID != before.ID+1 || f.Header.StartLSN != before.End():
			return fmt.Errorf("redo is missing between %s, which ends at LSN %d, and %s, which begins at %d",
				RedoName(before.ID), before.End(), RedoName(f.ID), f.Header.StartLSN)
		}
	}
	if last := files[len(files)-1]; last.Header.Flags&FileFull != 0 {
		return fmt.Errorf("%s is marked as full, but the file after it is missing", RedoName(last.ID))
	}
	return nil
}
