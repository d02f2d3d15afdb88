package leaktest

import (
	"os"
	"testing"
	"time"
)

func TestMain(m *testing.M) { os.Exit(Run(m)) }

// fake are tests that leave a goroutine behind.
type fake struct{ end chan struct{} }

func (f fake) Run() int {
	go func() { <-f.end }()
	return 0
}

func TestRun(t *testing.T) {
	defer func(d time.Duration) { grace = d }(grace)
	// This test is itself run by a goroutine that waits for it.
	lasting = append(lasting, "testing.(*M).Run", "testing.tRunner", "testing.(*T).Run")
	defer func(n int) { lasting = lasting[:n] }(len(lasting) - 3)
	grace = 10 * time.Second
	soon := fake{make(chan struct{})}
	time.AfterFunc(50*time.Millisecond, func() { close(soon.end) })
	if code := Run(soon); code != 0 {
		t.Errorf("a goroutine that ends soon: exit code %d", code)
	}
	grace = 50 * time.Millisecond
	never := fake{make(chan struct{})}
	defer close(never.end)
	if code := Run(never); code != 1 {
		t.Errorf("a goroutine that does not end: exit code %d", code)
	}
}
