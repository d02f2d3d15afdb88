// Package progress carries how far a long piece of work is, from the packages
// that do it to the display. The working code only counts, by one atomic addition
// for many bytes, and does not know who looks.
//
// The work is a row of phases; one at a time is the [Tracker]'s. All methods may be
// called from any goroutine at any time, and do nothing on a nil Tracker or Phase:
// nobody has to ask whether somebody looks.
package progress

import (
	"io"
	"sync/atomic"
	"time"
)

// Tracker is the progress of one command's work. The zero value is ready to use.
type Tracker struct {
	phase atomic.Pointer[Phase]
	lag   atomic.Int64 // plus 1; 0: not known
	spool atomic.Int64 // plus 1; 0: there is none
}

// Phase is a stretch of the work.
type Phase struct {
	name  string
	began time.Time // when it was entered
	done  atomic.Int64
	total atomic.Int64
}

// NewPhase returns a phase that no Tracker has yet. The name describes to a person
// what is being done; total is the bytes that it will take, 0 where that is not
// known.
func NewPhase(name string, total int64) *Phase {
	p := &Phase{name: name}
	p.total.Store(total)
	return p
}

// Enter makes p, which no Tracker was in before, the phase that the work is in.
func (m *Tracker) Enter(p *Phase) {
	if m != nil {
		p.began = time.Now()
		m.phase.Store(p)
	}
}

// Begin enters a new phase: see [NewPhase].
func (m *Tracker) Begin(name string, total int64) *Phase {
	p := NewPhase(name, total)
	m.Enter(p)
	return p
}

// SetLag sets how many bytes of redo the server has written that were not read yet.
func (m *Tracker) SetLag(bytes int64) {
	if m != nil {
		m.lag.Store(max(bytes, 0) + 1)
	}
}

// SetSpool sets how many bytes were read and could not be sent yet.
func (m *Tracker) SetSpool(bytes int64) {
	if m != nil {
		m.spool.Store(max(bytes, 0) + 1)
	}
}

// Add counts n more bytes as done.
func (p *Phase) Add(n int64) {
	if p != nil {
		p.done.Add(n)
	}
}

// Expect adds n bytes, which may be below 0, to what the phase will take.
func (p *Phase) Expect(n int64) {
	if p != nil {
		p.total.Add(n)
	}
}

// Reader returns a reader of r that counts what r gives as done.
func (p *Phase) Reader(r io.Reader) io.Reader { return &reader{p, r} }

type reader struct {
	p *Phase
	r io.Reader
}

func (r *reader) Read(b []byte) (int, error) {
	n, err := r.r.Read(b)
	r.p.Add(int64(n))
	return n, err
}

// State is how far the work was at one moment.
type State struct {
	Phase *Phase // identifies the phase; nil: the work has not begun
	Name  string
	Began time.Time
	Done  int64 // bytes of the phase
	Total int64 // 0: not known
	Lag   int64 // see SetLag; below 0: not known
	Spool int64 // see SetSpool; below 0: no spool
}

// State returns how far the work is.
func (m *Tracker) State() State {
	if m == nil {
		return State{Lag: -1, Spool: -1}
	}
	s := State{Phase: m.phase.Load(), Lag: m.lag.Load() - 1, Spool: m.spool.Load() - 1}
	if s.Phase == nil {
		return s
	}
	s.Name, s.Began, s.Done = s.Phase.name, s.Phase.began, s.Phase.done.Load()
	// The expected size may be less than the actual one.
	if total := s.Phase.total.Load(); total > 0 {
		s.Total = max(total, s.Done)
	}
	return s
}
