package terminal

import (
	"bytes"
	"encoding/json"
	"fmt"
	"log/slog"
	"os"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"hb/stream/leaktest"
	"hb/stream/progress"
)

func TestMain(m *testing.M) { os.Exit(leaktest.Run(m)) }

// written is what a Console wrote, one piece for each Write.
type written struct {
	mu     sync.Mutex
	pieces []string
}

func (w *written) Write(p []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.pieces = append(w.pieces, string(p))
	return len(p), nil
}

func (w *written) String() string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return strings.Join(w.pieces, "")
}

// take returns what was written since it was called last.
func (w *written) take() []string {
	w.mu.Lock()
	defer w.mu.Unlock()
	p := w.pieces
	w.pieces = nil
	return p
}

// TestMessages: what they look like, as text and as JSON, and which of them
// --quiet leaves out.
func TestMessages(t *testing.T) {
	all := func(c *Console) {
		c.Begin("verify", slog.String("archive", "a"))
		c.Extracted("two\nlines", slog.Int("files", 3))
		c.Warn("look\x1b[2Jout")
		c.Done("it is done", slog.Int("bytes", 5))
		c.End("it failed", 7)
	}
	var w written
	c := New(&w, nil)
	all(c)
	if got, want := w.String(), "hb: two\nhb: lines\nhb: warning: look?[2Jout\nhb: it is done\nhb: it failed\n"; got != want {
		t.Errorf("text: %q, want %q", got, want)
	}
	w.take()
	c.Set(true, false)
	all(c)
	if got, want := w.String(), "hb: warning: look?[2Jout\nhb: it failed\n"; got != want {
		t.Errorf("quiet: %q, want %q", got, want)
	}
	w.take()
	c.Set(false, true)
	all(c)
	var events []string
	for _, line := range w.take() {
		var m map[string]any
		if err := json.Unmarshal([]byte(line), &m); err != nil || strings.Count(line, "\n") != 1 {
			t.Errorf("%q: %v", line, err)
		}
		if _, err := time.Parse(time.RFC3339Nano, fmt.Sprint(m["time"])); err != nil || m["seconds"] == 0 {
			t.Errorf("%q: %v", line, err)
		}
		delete(m, "time")
		delete(m, "seconds")
		events = append(events, fmt.Sprint(m))
	}
	want := []string{
		"map[archive:a command:verify event:start level:INFO msg:verify begins]",
		"map[event:extracted files:3 level:INFO msg:two\nlines]",
		"map[event:warning level:WARN msg:look\x1b[2Jout]",
		"map[bytes:5 command:verify event:end exit_code:7 level:ERROR msg:it failed]",
	}
	if !slices.Equal(events, want) {
		t.Errorf("events: %q, want %q", events, want)
	}
}

// TestEnd: a command has one last message, whether it ends well or not, and says there
// in which phase it failed.
func TestEnd(t *testing.T) {
	for _, test := range []struct {
		name       string
		do         func(*Console)
		text, json string
	}{
		{"nothing to say", func(c *Console) { c.Begin("check"); c.End("", 0) }, "", "map[command:check event:end exit_code:0 level:INFO msg:ended]"},
		{"done", func(c *Console) { c.Begin("list"); c.Done("3 files"); c.End("", 0) }, "hb: 3 files\n", "map[command:list event:end exit_code:0 level:INFO msg:3 files]"},
		{"failed on the way", func(c *Console) {
			c.Begin("apply")
			var m progress.Tracker
			c.During(&m, func() { m.Begin("recovering pages", 0) })
			c.End("no", 7)
		}, "hb: no\n", "map[command:apply event:end exit_code:7 level:ERROR msg:no phase:recovering pages]"},
		{"the reader is gone", func(c *Console) { c.Begin("list"); c.End("", 9) }, "", "map[command:list event:end exit_code:9 level:INFO msg:ended]"},
		{"no command", func(c *Console) { c.End("unknown flag", 2) }, "hb: unknown flag\n", "map[event:end exit_code:2 level:ERROR msg:unknown flag]"},
	} {
		for _, asJSON := range []bool{false, true} {
			var w written
			c := New(&w, nil)
			c.Set(false, asJSON)
			test.do(c)
			got, want := w.String(), test.text
			if asJSON {
				var m map[string]any
				pieces := w.take()
				if err := json.Unmarshal([]byte(pieces[len(pieces)-1]), &m); err != nil {
					t.Fatal(err)
				}
				delete(m, "time")
				delete(m, "seconds")
				got, want = fmt.Sprint(m), test.json
			}
			if got != want {
				t.Errorf("%s: %q, want %q", test.name, got, want)
			}
		}
	}
}

// TestPlainProgress: where nothing can be drawn, a line every 30 seconds and
// whenever it is asked for; with --quiet only then.
func TestPlainProgress(t *testing.T) {
	for _, quiet := range []bool{false, true} {
		synctest.Test(t, func(t *testing.T) {
			var w written
			ask := make(chan os.Signal, 1)
			c := New(&w, ask)
			c.Set(quiet, false)
			var m progress.Tracker
			began := time.Now()
			c.During(&m, func() {
				p := m.Begin("copying", 100<<20)
				time.Sleep(time.Second / 2)
				for range 70 { // MiB, one a second
					p.Add(1 << 20)
					time.Sleep(time.Second)
				}
				m.SetLag(5 << 10)
				m.SetSpool(0)
				ask <- syscall.SIGUSR1
				synctest.Wait()
			})
			if took := time.Since(began); took != 70*time.Second+time.Second/2 {
				t.Errorf("it took %v", took)
			}
			want := []string{
				"hb: copying 30%, 30.0 MiB of 100 MiB, ETA 1m10s, 1.00 MiB/s\n",
				"hb: copying 60%, 60.0 MiB of 100 MiB, ETA 40s, 1.00 MiB/s\n",
				"hb: copying 70%, 70.0 MiB of 100 MiB, ETA 32s, 975 KiB/s, redo lag 5.00 KiB, spool 0 B\n",
			}
			if quiet {
				want = want[2:]
			}
			got := w.take()
			if len(got) != len(want) {
				t.Fatalf("quiet %v: %q", quiet, got)
			}
			for i := range want {
				if got[i] != want[i] {
					t.Errorf("quiet %v: %q, want %q", quiet, got[i], want[i])
				}
			}
		})
	}
}

// TestJSONProgress: the same for programs.
func TestJSONProgress(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var w written
		c := New(&w, nil)
		c.Set(false, true)
		c.width = func() int { return 80 }
		var m progress.Tracker
		c.During(&m, func() {
			p := m.Begin("copying", 4000)
			m.SetLag(77)
			time.Sleep(250 * time.Millisecond)
			for range 61 {
				p.Add(50)
				time.Sleep(500 * time.Millisecond)
			}
		})
		got := w.take()
		var line struct {
			Event, Msg, Phase string
			Done, Total, Rate int64
			ETA               int64  `json:"eta_seconds"`
			Lag               int64  `json:"redo_lag"`
			Spool             *int64 // there is none
		}
		if len(got) != 1 {
			t.Fatalf("%q", got)
		}
		if err := json.Unmarshal([]byte(got[0]), &line); err != nil {
			t.Fatal(err)
		}
		if line.Event != "progress" || line.Msg != "progress" || line.Phase != "copying" || line.Total != 4000 || line.Lag != 77 || line.Spool != nil ||
			line.Done != 3000 || line.Rate != 100 || line.ETA != 10 {
			t.Errorf("%s", got[0])
		}
	})
}

// screen is a small terminal: what is on it after all that was written. It knows
// what During sends, and breaks lines at its width unless that was turned off.
type screen struct {
	t       *testing.T
	mu      sync.Mutex
	width   int
	rows    [][]rune
	row     int
	col     int
	noBreak bool
}

func (s *screen) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	text := string(p)
	for text != "" {
		rest, ok := s.control(text)
		if !ok {
			s.put([]rune(text)[0])
			rest = text[len(string([]rune(text)[0])):]
		}
		text = rest
	}
	return len(p), nil
}

func (s *screen) control(text string) (rest string, ok bool) {
	for seq, do := range map[string]func(){
		"\r": func() { s.col = 0 }, "\n": func() { s.row, s.col = s.row+1, 0 },
		"\x1b[?7l": func() { s.noBreak = true }, "\x1b[?7h": func() { s.noBreak = false },
		"\x1b[J": func() {
			if s.row < len(s.rows) {
				s.rows = s.rows[:s.row+1]
				s.rows[s.row] = s.rows[s.row][:min(s.col, len(s.rows[s.row]))]
			}
		},
	} {
		if rest, ok := strings.CutPrefix(text, seq); ok {
			do()
			return rest, true
		}
	}
	if text[0] < ' ' {
		s.t.Errorf("unknown to the screen: %q", text)
	}
	return text, false
}

func (s *screen) put(r rune) {
	if s.col == s.width {
		if s.noBreak {
			s.col--
		} else {
			s.row, s.col = s.row+1, 0
		}
	}
	for len(s.rows) <= s.row {
		s.rows = append(s.rows, nil)
	}
	line := s.rows[s.row]
	if s.col == len(line) {
		line = append(line, r)
	}
	line[s.col] = r
	s.rows[s.row] = line
	s.col++
}

func (s *screen) columns() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.width
}

// resize makes the window narrower, as terminals do that break lines again.
func (s *screen) resize(width int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.width = width
	var rows [][]rune
	at := 0
	for i, line := range s.rows {
		if i == s.row {
			at = len(rows) // the cursor is at the line's beginning
		}
		for len(line) > width {
			rows, line = append(rows, line[:width:width]), line[width:]
		}
		rows = append(rows, line)
	}
	if s.row >= len(s.rows) {
		at = len(rows)
	}
	s.rows, s.row = rows, at
}

func (s *screen) String() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	lines := make([]string, len(s.rows))
	for i, r := range s.rows {
		lines[i] = string(r)
	}
	return strings.TrimRight(strings.Join(lines, "\n"), "\n")
}

// TestDrawn: one line on a terminal, as long as the window is wide, that messages
// stand above, whatever becomes of the window, and that is gone at the end.
func TestDrawn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &screen{t: t, width: 100}
		c := New(s, nil)
		c.width = s.columns
		var m progress.Tracker
		c.Extracted("before")
		c.During(&m, func() {
			p := m.Begin("copying tablespaces", 900<<20)
			m.SetLag(0)
			m.SetSpool(3 << 20)
			shows := func(want ...string) {
				t.Helper()
				time.Sleep(drawInterval + time.Millisecond)
				synctest.Wait()
				if got := s.String(); got != strings.Join(want, "\n") {
					t.Errorf("the screen has\n%s\nwant\n%s", got, strings.Join(want, "\n"))
				}
			}
			shows("hb: before", "hb: copying tablespaces 0%, 0 B of 900 MiB, redo lag 0 B, spool 3.00 MiB")
			time.Sleep(750*time.Millisecond - time.Millisecond)
			p.Add(100 << 20)
			shows("hb: before", "hb: copying tablespaces 11%, 100 MiB of 900 MiB, ETA 10s, 80.0 MiB/s, redo lag 0 B, spool 3.00 MiB")
			c.Warn("something")
			synctest.Wait()
			if got := s.String(); got != "hb: before\nhb: warning: something" {
				t.Errorf("behind a warning: %s", got)
			}
			s.resize(40)
			shows("hb: before", "hb: warning: something", "hb: copying tablespaces 11%, ETA 12s")
			s.resize(100)
			shows("hb: before", "hb: warning: something",
				"hb: copying tablespaces 11%, 100 MiB of 900 MiB, ETA 14s, 57.1 MiB/s, redo lag 0 B, spool 3.00 MiB")
			s.resize(33)
			shows("hb: before", "hb: warning: something", "hb: copying tablespaces 11%")
			s.resize(10)
			shows("hb: before", "hb: warnin", "g: somethi", "ng", "hb: copyi")
			s.resize(3)
			time.Sleep(drawInterval)
			m.Begin("waiting", 0)
			s.resize(80)
			time.Sleep(drawInterval)
			c.Warn("at last")
		})
		c.Extracted("after")
		if got := s.String(); !strings.HasSuffix(got, "hb: warning: at last\nhb: after") || strings.Contains(got, "waiting") {
			t.Errorf("at the end: %s", got)
		}
	})
}

// TestRace draws what is too long for a window that became narrower since it was
// measured: it is cut, not broken.
func TestRace(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &screen{t: t, width: 30}
		c := New(s, nil)
		c.width = func() int { return 200 }
		var m progress.Tracker
		c.During(&m, func() {
			m.Begin("something that is longer than the window is wide", 0)
			time.Sleep(3 * drawInterval)
			synctest.Wait()
			if got := s.String(); strings.Contains(got, "\n") || len(got) != 30 {
				t.Errorf("%q", got)
			}
		})
		if got := s.String(); got != "" {
			t.Errorf("left: %q", got)
		}
	})
}

// stuck is a terminal that was stopped.
type stuck struct {
	bytes.Buffer
	gate chan struct{}
}

func (s *stuck) Write(p []byte) (int, error) {
	<-s.gate
	return s.Buffer.Write(p)
}

// TestStuck: the work goes on, warnings included, while the terminal takes nothing.
func TestStuck(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := &stuck{gate: make(chan struct{})}
		c := New(w, nil)
		c.width = func() int { return 80 }
		var m progress.Tracker
		began := time.Now()
		c.During(&m, func() {
			m.Begin("copying", 0)
			time.Sleep(time.Second)
			for range 100 {
				c.Warn("one of many")
			}
			if took := time.Since(began); took != time.Second {
				t.Errorf("the work took %v", took)
			}
			close(w.gate)
		})
		if n := strings.Count(w.String(), "one of many"); n != 100 {
			t.Errorf("%d warnings", n)
		}
	})
}

// TestWhenDrawn: a line is drawn on a terminal alone, and not with --quiet or for
// programs.
func TestWhenDrawn(t *testing.T) {
	for _, test := range []struct {
		width       func() int
		quiet, json bool
		drawn       bool
	}{
		{func() int { return 80 }, false, false, true},
		{func() int { return 80 }, true, false, false},
		{func() int { return 80 }, false, true, false},
		{nil, false, false, false},
	} {
		synctest.Test(t, func(t *testing.T) {
			var w written
			c := New(&w, nil)
			c.Set(test.quiet, test.json)
			c.width = test.width
			var m progress.Tracker
			c.During(&m, func() {
				m.Begin("copying", 0)
				time.Sleep(2 * time.Second)
			})
			if drawn := strings.Contains(w.String(), "copying"); drawn != test.drawn {
				t.Errorf("%+v: %q", test, w.String())
			}
		})
	}
}

// TestPace: the rate is that of the last seconds, and of one phase.
func TestPace(t *testing.T) {
	var p pace
	now := time.Unix(0, 0)
	began := now
	first, second := progress.NewPhase("a", 0), progress.NewPhase("b", 0)
	at := func(phase *progress.Phase, seconds int, done int64) float64 {
		return p.rate(progress.State{Phase: phase, Began: began, Done: done}, now.Add(time.Duration(seconds)*time.Second))
	}
	if r := at(first, 0, 0); r != 0 {
		t.Errorf("at once: %v", r)
	}
	for s := 1; s <= 20; s++ {
		if r := at(first, s, int64(s)*100); r != 100 {
			t.Errorf("after %d seconds: %v", s, r)
		}
	}
	for s := 21; s <= 31; s++ {
		at(first, s, 3000) // stands still
	}
	if r := at(first, 32, 3000); r != 0 {
		t.Errorf("after standing still: %v", r)
	}
	if len(p.looks) > 12 {
		t.Errorf("%d looks are kept", len(p.looks))
	}
	began = now.Add(32 * time.Second)
	if r := at(second, 34, 14); r != 7 {
		t.Errorf("in the next phase: %v", r)
	}
}

// TestReports: odd states.
func TestReports(t *testing.T) {
	phase := progress.NewPhase("p", 0)
	for _, test := range []struct {
		r    report
		want string
	}{
		{report{progress.State{Lag: -1, Spool: -1}, 0}, "not begun yet"},
		{report{progress.State{Phase: phase, Name: "p", Lag: -1, Spool: -1}, 0}, "p"},
		{report{progress.State{Phase: phase, Name: "p", Done: 5, Lag: -1, Spool: -1}, 2}, "p, 5 B, 2 B/s"},
		{report{progress.State{Phase: phase, Name: "p", Total: 1 << 60, Lag: -1, Spool: 1}, 1}, "p 0%, 0 B of 1048576 TiB, ETA 42 days, 1 B/s, spool 1 B"},
		{report{progress.State{Phase: phase, Name: "p", Done: 1 << 60, Total: 1 << 60, Lag: -1, Spool: -1}, 1 << 30}, "p 100%, 1048576 TiB of 1048576 TiB, ETA 0s, 1.00 GiB/s"},
	} {
		if got := test.r.String(); got != test.want {
			t.Errorf("%q, want %q", got, test.want)
		}
		for width := range 60 {
			if got := test.r.fit(width); len(got) > width {
				t.Errorf("%d columns: %q", width, got)
			}
		}
	}
}
