package datadir

import (
	"context"
	"fmt"
	"regexp"
	"strconv"
	"sync"
	"time"

	"hb/stream/disk"
	"hb/xbstream/innodb"
)

// Truncations notices for certain when MySQL 5.7 truncates a tablespace in place,
// with no redo or too little to notice it: it makes a file undo_ID_trunc.log, or
// ib_ID_TABLE_trunc.log, in the directory of the redo log, and removes it when
// the tablespace is whole again. (storage/innobase/row/row0trunc.cc)
type Truncations struct {
	disk disk.System
	dir  string

	mu      sync.Mutex
	names   *nameWatch
	pending map[innodb.SpaceID]bool // seen, and not reported yet
}

// truncName is the name of such a file; the first number is the tablespace's id.
var truncName = regexp.MustCompile(`^(?:undo_([0-9]+)|ib_([0-9]+)_[0-9]+)_trunc\.log$`)

func truncSpace(name string) (innodb.SpaceID, bool) {
	m := truncName.FindStringSubmatch(name)
	if m == nil {
		return 0, false
	}
	id, err := strconv.ParseUint(m[1]+m[2], 10, 32)
	return innodb.SpaceID(id), err == nil
}

// WatchTruncations starts watching for truncations in dir, the directory of the
// redo log.
func WatchTruncations(system disk.System, dir string) (*Truncations, error) {
	names, err := watchNames(dir)
	if err != nil {
		return nil, fmt.Errorf("watching %s for truncations: %w", dir, err)
	}
	return &Truncations{disk: system, dir: dir, names: names, pending: make(map[innodb.SpaceID]bool)}, nil
}

// Close ends the watch.
func (w *Truncations) Close() error { return w.names.close() }

// Seen returns the tablespaces whose truncation began or ended since the last
// call.
func (w *Truncations) Seen() (map[innodb.SpaceID]bool, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if err := w.look(); err != nil {
		return nil, err
	}
	ids := w.pending
	w.pending = make(map[innodb.SpaceID]bool)
	return ids, nil
}

// look takes in what has happened. It is called with the state locked.
func (w *Truncations) look() error {
	for name, err := range w.names.changed() {
		if err != nil {
			return fmt.Errorf("watching %s for truncations: %w", w.dir, err)
		}
		if id, ok := truncSpace(name); ok {
			w.pending[id] = true
		}
	}
	return nil
}

// Of reports whether a tablespace is being truncated, or seen will report it: any copy
// of it is void.
func (w *Truncations) Of(id innodb.SpaceID) (bool, error) {
	now, err := w.underWay()
	if err != nil || now[id] {
		return now[id], err
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	err = w.look()
	return w.pending[id], err
}

// running reports whether a truncation is under way.
func (w *Truncations) running() (bool, error) {
	now, err := w.underWay()
	return len(now) > 0, err
}

// underWay returns the tablespaces that are being truncated.
func (w *Truncations) underWay() (map[innodb.SpaceID]bool, error) {
	entries, err := w.disk.ReadDir(w.dir)
	if err != nil {
		return nil, fmt.Errorf("looking for truncations: %w", err)
	}
	ids := make(map[innodb.SpaceID]bool)
	for _, e := range entries {
		if id, ok := truncSpace(e.Name()); ok {
			ids[id] = true
		}
	}
	return ids, nil
}

// truncationWait bounds the wait for a truncation, which ends with a checkpoint.
const truncationWait = 60 * time.Second

// Await waits until no tablespace is being truncated.
func (w *Truncations) Await(ctx context.Context) error {
	for end := time.Now().Add(truncationWait); ; {
		running, err := w.running()
		if err != nil || !running {
			return err
		}
		if time.Now().After(end) {
			return fmt.Errorf("a tablespace truncation has been running for %v (%s contains a *_trunc.log file): retry when it has finished",
				truncationWait, w.dir)
		}
		if err := Pause(ctx, 20*time.Millisecond); err != nil {
			return err
		}
	}
}
