package committed

import (
	"os/exec"
	"syscall"
)

// bindToParent has the server end with this process, however that ends.
func bindToParent(cmd *exec.Cmd) {
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
}
