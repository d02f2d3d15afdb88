package main

import (
	"fmt"
	"strings"
	"testing"

	"hb/source"
	"hb/stream/disk"
)

// TestSystems: hb says what it cannot do on a system that is not Linux, with an
// exit code of its own.
func TestSystems(t *testing.T) {
	if err := source.CheckSystem("linux"); err != nil {
		t.Error(err)
	}
	for _, system := range []string{"darwin", "windows"} {
		err := source.CheckSystem(system)
		if code := exitStatus(err); code != 4 || !strings.Contains(err.Error(), "on Linux alone, and this is "+system) {
			t.Errorf("exit code %d: %v", code, err)
		}
	}
	if code := exitStatus(fmt.Errorf("creating it: %w", &disk.NameError{Name: "a:b", Reason: "it has a colon"})); code != 4 {
		t.Errorf("exit code %d of a name that cannot be", code)
	}
}
