package xbstream

import "sync"

// turns decides which file's chunk the sink takes next: in the order in which they
// come, except for files that hurry: those get every second turn while they want
// them. So they neither wait for all other files nor keep those from going on.
type turns struct {
	mu      sync.Mutex
	taken   bool
	hurried bool // the last turn was that of a file that hurries
	// Those that wait, in order; each gets a signal when it is its turn.
	hurrying, waiting []chan struct{}
}

// begin waits for a turn, which end ends.
func (t *turns) begin(hurry bool) {
	t.mu.Lock()
	if !t.taken {
		t.taken, t.hurried = true, hurry
		t.mu.Unlock()
		return
	}
	mine := make(chan struct{})
	if hurry {
		t.hurrying = append(t.hurrying, mine)
	} else {
		t.waiting = append(t.waiting, mine)
	}
	t.mu.Unlock()
	<-mine
}

func (t *turns) end() {
	t.mu.Lock()
	defer t.mu.Unlock()
	from := &t.waiting
	t.hurried = len(t.hurrying) > 0 && (!t.hurried || len(t.waiting) == 0)
	if t.hurried {
		from = &t.hurrying
	}
	if t.taken = len(*from) > 0; t.taken {
		close((*from)[0])
		*from = (*from)[1:]
	}
}
