package keyring

import (
	"os"
	"os/exec"
	"testing"

	"golang.org/x/sys/unix"
)

// TestProtected: once there is a key of any kind, this process is not dumped, and neither
// is the program that prints keys.
func TestProtected(t *testing.T) {
	if kind := os.Getenv("HB_TEST_PROTECTED"); kind != "" {
		protectedBy(t, kind)
		return
	}
	for _, kind := range []string{"master", "mariadb", "command"} {
		cmd := exec.Command(os.Args[0], "-test.run=^TestProtected$")
		cmd.Env = append(os.Environ(), "HB_TEST_PROTECTED="+kind)
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Errorf("%s: %v\n%s", kind, err, out)
		}
	}
}

func protectedBy(t *testing.T, kind string) {
	if on, err := unix.PrctlRetInt(unix.PR_GET_DUMPABLE, 0, 0, 0, 0); on != 1 || err != nil {
		t.Fatalf("dumpable from the beginning: %d, %v", on, err)
	}
	var k Keys
	var err error
	switch kind {
	case "master":
		err = k.AddMaster(innodbName, make(Secret, 32))
	case "mariadb":
		err = k.AddMariaDB(MariaDBKey{1, 1}, make(Secret, 16))
	case "command":
		k.SetCommand(&Command{Argv: []string{"/bin/sh", "-c", `[ "$(ulimit -c)" = 0 ] && echo 770a8a65da156d24ee2a093277530142`, "sh"}})
		_, err = k.MariaDB(MariaDBKey{1, 1})
	}
	if err != nil {
		t.Fatal(err)
	}
	var core unix.Rlimit
	on, err := unix.PrctlRetInt(unix.PR_GET_DUMPABLE, 0, 0, 0, 0)
	if lerr := unix.Getrlimit(unix.RLIMIT_CORE, &core); on != 0 || core.Cur != 0 || err != nil || lerr != nil {
		t.Errorf("dumpable %d, core files of %d bytes, %v, %v", on, core.Cur, err, lerr)
	}
}
