package pages

import (
	"sync"

	"hb/stream/disk"
)

// work is what the workers of one copy share.
type work struct {
	mu     sync.Mutex
	files  []*File     // not opened yet
	active []*File     // with segments that no worker has, in the order in which they are due
	width  int         // how many of them there may be, as long as there are others
	opened []disk.File // all that were, to be closed after an error
}

// segment is a piece of one file, with its place in the order of that file.
type segment struct {
	t     *File
	index int
	turn  <-chan struct{} // closed when the segment before was sent
	done  chan struct{}   // to be closed when this one was
}

// take returns the next segment, or a file that wants opening, or neither.
func (w *work) take() (*segment, *File) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if len(w.files) > 0 && len(w.active) < w.width {
		t := w.files[0]
		w.files = w.files[1:]
		return nil, t
	}
	if len(w.active) == 0 {
		return nil, nil
	}
	t := w.active[0]
	w.active = w.active[1:]
	seg := &segment{t: t, index: t.next, turn: t.turn, done: make(chan struct{})}
	t.turn = seg.done
	if t.next++; t.next < t.segments {
		w.active = append(w.active, t)
	}
	return seg, t
}

// add puts an opened file up for copying.
func (w *work) add(t *File) {
	t.turn = make(chan struct{})
	close(t.turn)
	w.mu.Lock()
	defer w.mu.Unlock()
	w.active = append(w.active, t)
	w.opened = append(w.opened, t.f)
}
