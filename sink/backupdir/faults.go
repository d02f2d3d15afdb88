package backupdir

import (
	"errors"
	"fmt"
	"sync"
)

// maxFaults is how many faults of a directory are told one by one.
const maxFaults = 20

// Faults gathers what is wrong with the files of a directory, one thing of each, so that
// one run tells of all of them. Several goroutines may add to it.
type Faults struct {
	mu   sync.Mutex
	list []error
	more int // that are not in list
}

// Add adds what is wrong.
func (x *Faults) Add(err error) {
	x.mu.Lock()
	defer x.mu.Unlock()
	if len(x.list) < maxFaults {
		x.list = append(x.list, err)
	} else {
		x.more++
	}
}

// Of adds what is wrong with a file, unless something of it was told before.
func (x *Faults) Of(f *File, err error) {
	if !f.setFaulty() {
		x.Add(err)
	}
}

// Err is all of them, each on a line of its own; nil: there is none.
func (x *Faults) Err() error {
	list := x.list
	if x.more > 0 {
		list = append(list, fmt.Errorf("and %d more files are missing or damaged", x.more))
	}
	return errors.Join(list...)
}

// setFaulty notes that something is wrong with the file and has been told, and reports
// whether that was noted before.
func (f *File) setFaulty() (before bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	before, f.faulty = f.faulty, true
	return before
}

// isFaulty reports whether something is wrong with the file and has been told.
func (f *File) isFaulty() bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.faulty
}

// OfContent reports whether an error says that files are missing or damaged, so that
// there may be more of them.
func OfContent(err error) bool { return isA[*MissingError](err) || isA[*DamageError](err) }
