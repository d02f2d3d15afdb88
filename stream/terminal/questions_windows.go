package terminal

import "os"

// Questions returns no channel: Windows has no SIGUSR1.
func Questions() <-chan os.Signal { return nil }
