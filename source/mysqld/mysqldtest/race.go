//go:build race

package mysqldtest

// race: the race detector is on.
const race = true
