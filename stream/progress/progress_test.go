package progress

import (
	"io"
	"strings"
	"sync"
	"testing"
	"testing/iotest"
)

// TestMeter: what several goroutines count is there, phase by phase.
func TestMeter(t *testing.T) {
	var m Tracker
	if s := m.State(); s != (State{Lag: -1, Spool: -1}) {
		t.Errorf("before the work: %+v", s)
	}
	p := m.Begin("copying", 1000)
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			for range 100 {
				p.Add(2)
			}
		})
	}
	wg.Wait()
	p.Expect(-100)
	m.SetLag(-5) // the server was asked before the log was read
	m.SetSpool(7)
	if s, want := m.State(), (State{Phase: p, Name: "copying", Began: p.began, Done: 800, Total: 900, Spool: 7}); s != want || s.Began.IsZero() {
		t.Errorf("%+v, want %+v", s, want)
	}
	p.Add(200)
	if s := m.State(); s.Done != 1000 || s.Total != 1000 {
		t.Errorf("more was done than expected: %+v", s)
	}
	next := m.Begin("waiting", 0)
	next.Add(1)
	if s, want := m.State(), (State{Phase: next, Name: "waiting", Began: next.began, Done: 1, Spool: 7}); s != want {
		t.Errorf("%+v, want %+v", s, want)
	}
}

// TestNil: nobody looks.
func TestNil(t *testing.T) {
	var m *Tracker
	m.SetLag(1)
	m.SetSpool(1)
	p := m.Begin("copying", 10)
	p.Add(1)
	if s := m.State(); s.Name != "" {
		t.Errorf("%+v", s)
	}
	p = nil
	p.Add(1)
	p.Expect(1)
}

func TestReader(t *testing.T) {
	var m Tracker
	text := "some text"
	p := NewPhase("reading", int64(len(text)))
	r := p.Reader(iotest.OneByteReader(strings.NewReader(text)))
	if _, err := io.CopyN(io.Discard, r, 3); err != nil {
		t.Fatal(err)
	}
	if s := m.State(); s.Phase != nil {
		t.Errorf("entered by itself: %+v", s)
	}
	m.Enter(p)
	if s := m.State(); s.Done != 3 || s.Total != 9 {
		t.Errorf("%+v", s)
	}
	if got, err := io.ReadAll(r); string(got) != "e text" || err != nil {
		t.Errorf("%q, %v", got, err)
	}
	if s := m.State(); s.Done != 9 {
		t.Errorf("%+v", s)
	}
}
