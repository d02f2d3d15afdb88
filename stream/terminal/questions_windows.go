package terminal

import "os"

// Questions are none: Windows has no SIGUSR1.
func Questions() <-chan os.Signal { return nil }
