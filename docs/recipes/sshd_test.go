package recipes

import (
	"fmt"
	"os/exec"

	"hb/source/mysqld/mysqldtest"
)

// sshd starts a real sshd on the host, on a port of 127.0.0.1, and lets root of
// another host in: there ssh finds it by the host's name. Host key, configuration
// and accounts are the hosts' own.
func (h *host) sshd(client *host) {
	t := h.t
	t.Helper()
	mysqldtest.Program(t, "/usr/sbin/sshd")
	mysqldtest.Program(t, "ssh")
	port := freePort(t)
	for file, to := range map[string]*host{"/etc/ssh/hb_host_key": h, "/home/root/id": client} {
		if out, err := exec.Command(mysqldtest.Program(t, "ssh-keygen"), "-q", "-t", "ed25519", "-N", "", "-f", to.path(file)).CombinedOutput(); err != nil {
			t.Fatalf("ssh-keygen: %v\n%s", err, out)
		}
	}
	h.write("/home/root/.ssh/authorized_keys", client.read("/home/root/id.pub"))
	h.write("/etc/ssh/sshd_config", fmt.Sprintf("ListenAddress 127.0.0.1:%d\nHostKey /etc/ssh/hb_host_key\n"+
		"PermitRootLogin prohibit-password\nStrictModes no\nUsePAM no\nPidFile none\n", port))
	client.write("/etc/ssh/ssh_known_hosts", fmt.Sprintf("[127.0.0.1]:%d %s", port, h.read("/etc/ssh/hb_host_key.pub")))
	client.write("/etc/ssh/ssh_config", fmt.Sprintf("Host %s\nHostName 127.0.0.1\nPort %d\nIdentityFile %s\nBatchMode yes\nStrictHostKeyChecking yes\n",
		h.name, port, client.path("/home/root/id")))
	sh := h.shell()
	// A test binary that is killed takes the shell along, and that sshd.
	sh.must("setpriv --pdeathsig KILL /usr/sbin/sshd -D -E /var/log/sshd.log &")
	answers(t, port)
}
