package spool

import (
	"bytes"
	"errors"
	"syscall"
	"testing"

	"hb/stream/disk/disktest"
)

// TestSpoolFaults: whatever operation on its file fails, a spool says so, and
// otherwise it gives back what was put there.
func TestSpoolFaults(t *testing.T) {
	dir := t.TempDir()
	all := disktest.NewFaults(dir)
	if err := useSpool(t, all, dir); err != nil {
		t.Fatal(err)
	}
	if len(all.Ops()) < 10 {
		t.Errorf("only %d operations", len(all.Ops()))
	}
	for _, op := range all.Ops() {
		for _, dead := range []bool{false, true} {
			f := disktest.NewFaults(dir)
			f.Fail(op, syscall.ENOSPC, dead)
			if err := useSpool(t, f, dir); !f.Hit() || !errors.Is(err, syscall.ENOSPC) {
				t.Errorf("%v failed (%v): %v", op, f.Hit(), err)
			}
		}
	}
}

// useSpool fills a spool, reads it back, and does so again.
func useSpool(t *testing.T, f *disktest.Faults, dir string) (err error) {
	s := New(f, dir, 10)
	defer func() { err = errors.Join(err, s.Close()) }()
	for round := range byte(2) {
		var extents []Extent
		for i := range byte(4) {
			e, err := s.Append(bytes.Repeat([]byte{round, i}, 4))
			if err != nil {
				return err
			}
			extents = append(extents, e)
		}
		for i, e := range extents {
			b := make([]byte, e.Len())
			if _, err := s.ReadAt(e, b, 0); err != nil {
				return err
			}
			if !bytes.Equal(b, bytes.Repeat([]byte{round, byte(i)}, 4)) {
				t.Errorf("extent %d: %v", i, b)
			}
		}
		if round == 0 {
			if err := s.Reset(); err != nil {
				return err
			}
		}
	}
	return nil
}
