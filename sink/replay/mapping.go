package replay

import (
	"fmt"
	"runtime/debug"

	"golang.org/x/sys/unix"

	"hb/stream/disk"
)

// Mapping is a file mapped into memory for reading: a redo log.
type Mapping struct {
	Data []byte // the whole file; not to be touched after Close
	// touched estimates how many bytes of the mapping are resident: pages of
	// the mapping count as the process's memory once they were read.
	touched  int64
	resident int64
}

// minResident keeps a tiny memory limit from dropping the mapping all the time.
const minResident = 4 << 20

// Map maps a file. resident is about how much of it may be in memory at a time,
// in bytes. A file without any byte has no Data.
func Map(root disk.Dir, name string, resident int64) (*Mapping, error) {
	f, err := root.Open(name)
	if err != nil {
		return nil, fmt.Errorf("opening the redo log: %w", err)
	}
	defer f.Close() // only read; the mapping outlives it
	st, err := f.Stat()
	if err != nil {
		return nil, fmt.Errorf("looking at the redo log: %w", err)
	}
	m := &Mapping{resident: max(resident, minResident)}
	if !st.Mode().IsRegular() || int64(int(st.Size())) != st.Size() {
		return nil, fmt.Errorf("%s is not a file that can be mapped (%v, %d bytes)", name, st.Mode(), st.Size())
	}
	if st.Size() == 0 {
		return m, nil
	}
	m.Data, err = f.Map(int(st.Size()))
	if err != nil {
		return nil, fmt.Errorf("mapping the redo log: %w", err)
	}
	return m, nil
}

// Close unmaps the file.
func (m *Mapping) Close() error {
	if m.Data == nil {
		return nil
	}
	err := unix.Munmap(m.Data)
	m.Data = nil
	if err != nil {
		return fmt.Errorf("unmapping the redo log: %w", err)
	}
	return nil
}

// ScanStep is how many bytes of the mapping are read in order before Touch is to
// hear of it.
const ScanStep = 1 << 20

// Touch counts bytes of the mapping that were read, and gives all of it back
// when they become too many: they are in the page cache still.
func (m *Mapping) Touch(n int64) {
	if m.touched += n; m.touched > m.resident {
		m.Release()
	}
}

// Release gives back what of the mapping is resident.
func (m *Mapping) Release() {
	m.touched = 0
	// Advice only: if it is not taken, nothing but memory is lost.
	_ = unix.Madvise(m.Data, unix.MADV_DONTNEED)
}

// Guard runs f and makes an error of what a read from the mapping ends in when
// the disk cannot deliver: a fault.
func Guard(f func() error) (err error) {
	defer debug.SetPanicOnFault(debug.SetPanicOnFault(true))
	defer func() {
		switch r := recover().(type) {
		case nil:
		case interface {
			error
			Addr() uintptr
		}:
			err = fmt.Errorf("reading the redo log: the disk failed or the file was cut (%w)", error(r))
		default:
			panic(r)
		}
	}()
	return f()
}
