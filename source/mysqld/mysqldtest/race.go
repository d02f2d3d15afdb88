//go:build race

package mysqldtest

// Race: the race detector is on.
const Race = true
