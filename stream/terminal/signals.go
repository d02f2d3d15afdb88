package terminal

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"slices"
	"syscall"
)

// ErrInterrupted is the cause of a context's end at a signal.
var ErrInterrupted = errors.New("interrupted")

// ending are the signals that end a command: a terminal that is closed, or left, and
// a service manager's. Go would dump all goroutines at SIGQUIT, and release nothing.
var ending = []os.Signal{os.Interrupt, syscall.SIGTERM, syscall.SIGHUP, syscall.SIGQUIT}

// Signals returns a context that ends with ErrInterrupted at SIGINT, SIGTERM, SIGHUP
// or SIGQUIT. A second signal ends the process at once. SIGHUP and SIGINT stay
// ignored where the process was started so, as by nohup. The function returned is to
// be called when the command has ended, well or not: its exit code has to say so,
// and no signal changes that any more.
func Signals() (context.Context, func()) {
	ctx, cancel := context.WithCancelCause(context.Background())
	c := make(chan os.Signal, 1)
	heard := slices.DeleteFunc(slices.Clone(ending), signal.Ignored)
	if len(heard) > 0 { // of none, Notify would make all
		signal.Notify(c, heard...)
	}
	done := make(chan struct{})
	go func() {
		select {
		case s := <-c:
			cancel(fmt.Errorf("%w by signal %v", ErrInterrupted, s))
			signal.Reset(heard...)
		case <-done:
		}
	}()
	return ctx, func() {
		signal.Ignore(ending...)
		close(done)
		cancel(nil)
	}
}
