// Package leaktest fails a package's tests if a goroutine outlives them: every
// goroutine has an owner that waits for it. Use it as
//
//	func TestMain(m *testing.M) { os.Exit(leaktest.Run(m)) }
package leaktest

import (
	"fmt"
	"os"
	"runtime"
	"strings"
	"time"
)

// grace is how long goroutines may take to end.
var grace = 5 * time.Second

// Run runs the tests and returns the process's exit code. If they pass and
// goroutines are left, it prints where they are and returns 1. Those with a text
// in their stack that is in allowed are the tests' own.
func Run(m interface{ Run() int }, allowed ...string) int {
	lasting = append(lasting, allowed...)
	code := m.Run()
	if code != 0 {
		return code
	}
	left := leaked()
	for began := time.Now(); len(left) > 0 && time.Since(began) < grace; left = leaked() {
		time.Sleep(10 * time.Millisecond)
	}
	if len(left) > 0 {
		fmt.Fprintf(os.Stderr, "FAIL: %d goroutines outlive the tests:\n\n%s\n", len(left), strings.Join(left, "\n\n"))
		return 1
	}
	return 0
}

// lasting are functions of goroutines that live as long as the process.
var lasting = []string{
	"os/signal.loop", "os/signal.signal_recv", // started by the first signal.Notify
	"runtime.ensureSigM",
	"testing.(*M).startAlarm",
}

// leaked returns the stacks of all goroutines but this one and lasting ones.
func leaked() []string {
	buf := make([]byte, 1<<20)
	for {
		n := runtime.Stack(buf, true)
		if n < len(buf) {
			buf = buf[:n]
			break
		}
		buf = make([]byte, 2*len(buf))
	}
	var out []string
	for i, stack := range strings.Split(strings.TrimSpace(string(buf)), "\n\n") {
		if i > 0 && !lasts(stack) { // the first is this one
			out = append(out, stack)
		}
	}
	return out
}

func lasts(stack string) bool {
	for _, f := range lasting {
		if strings.Contains(stack, f) {
			return true
		}
	}
	return false
}
