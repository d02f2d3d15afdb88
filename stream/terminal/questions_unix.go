//go:build unix

package terminal

import (
	"os"
	"os/signal"
	"syscall"
)

// Questions makes SIGUSR1, which would end the process, a signal to ask with how
// far the work is. One that nobody takes is forgotten.
func Questions() <-chan os.Signal {
	c := make(chan os.Signal, 1)
	signal.Notify(c, syscall.SIGUSR1)
	return c
}
