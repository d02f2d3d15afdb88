package main

import (
	"os"
	"os/exec"
	"testing"

	"hb/stream/leaktest"
)

// asHB makes the test binary be hb.
const asHB = "HB_TEST_AS_HB"

func TestMain(m *testing.M) {
	if os.Getenv(asHB) == "1" {
		main()
	}
	os.Exit(leaktest.Run(m))
}

// hb is hb with arguments, to be started.
func hb(t *testing.T, args ...string) *exec.Cmd {
	t.Helper()
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(exe, args...)
	cmd.Env = append(os.Environ(), asHB+"=1")
	return cmd
}
