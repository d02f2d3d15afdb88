package terminal

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"syscall"
)

// ErrInterrupted is the cause of a context's end at SIGINT or SIGTERM.
var ErrInterrupted = errors.New("interrupted")

// Signals returns a context that ends with ErrInterrupted at SIGINT or SIGTERM. A
// second signal ends the process at once. The function returned is to be called
// when the command has ended, well or not: its exit code has to say so, and no
// signal changes that any more.
func Signals() (context.Context, func()) {
	ctx, cancel := context.WithCancelCause(context.Background())
	c := make(chan os.Signal, 1)
	signal.Notify(c, os.Interrupt, syscall.SIGTERM)
	done := make(chan struct{})
	go func() {
		select {
		case s := <-c:
			cancel(fmt.Errorf("%w by signal %v", ErrInterrupted, s))
			signal.Reset(os.Interrupt, syscall.SIGTERM)
		case <-done:
		}
	}()
	return ctx, func() {
		signal.Ignore(os.Interrupt, syscall.SIGTERM)
		close(done)
		cancel(nil)
	}
}
