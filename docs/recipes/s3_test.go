package recipes

import (
	"encoding/pem"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"

	"hb/source/mysqld/mysqldtest"
)

// store is a real S3 server with a bucket called backups.
type store struct {
	log string // where it tells of requests
	url string
}

// newStore starts the server, in memory, and gives hosts what clients need: aws
// its endpoint and credentials, and rclone a remote called store.
func newStore(t *testing.T, hosts ...*host) *store {
	t.Helper()
	mysqldtest.Program(t, "/usr/bin/aws")
	mysqldtest.Program(t, "rclone")
	port := freePort(t)
	cmd := exec.Command(mysqldtest.Program(t, "gofakes3"), "-backend", "memory", "-initialbucket", "backups", "-host", fmt.Sprintf("127.0.0.1:%d", port))
	log, err := os.CreateTemp(t.TempDir(), "log")
	if err != nil {
		t.Fatal(err)
	}
	cmd.Stdout, cmd.Stderr = log, log
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		cmd.Process.Kill()
		cmd.Wait() // it was killed
		log.Close()
	})
	for _, h := range hosts {
		h.write("/usr/local/bin/aws", fmt.Sprintf(awsWrapper, port))
		h.write("/home/root/.aws/credentials", "[default]\naws_access_key_id = id\naws_secret_access_key = secret\n")
		h.write("/home/root/.aws/config", "[default]\nregion = us-east-1\n")
		h.write("/home/root/.config/rclone/rclone.conf", fmt.Sprintf("[store]\ntype = s3\nprovider = Other\n"+
			"access_key_id = id\nsecret_access_key = secret\nendpoint = http://127.0.0.1:%d\n", port))
	}
	answers(t, port)
	return &store{log.Name(), fmt.Sprintf("http://127.0.0.1:%d", port)}
}

// awsWrapper runs the real aws, and leaves word of its process. The server has no
// lifecycle rules: there aws only checks them.
const awsWrapper = `#!/bin/bash
echo $$ >/run/aws.pid
case "$*" in *-lifecycle-*) set -- "$@" --generate-cli-skeleton output ;; esac
exec /usr/bin/aws --endpoint-url http://127.0.0.1:%d "$@"
`

// secure gives a host the store's objects at https:// addresses too, which aws s3 presign
// makes then.
func (s *store) secure(t *testing.T, h *host) {
	t.Helper()
	to, err := url.Parse(s.url)
	if err != nil {
		t.Fatal(err)
	}
	idle := &http.Transport{}
	proxy := httputil.NewSingleHostReverseProxy(to)
	proxy.Transport = idle
	front := httptest.NewTLSServer(proxy)
	t.Cleanup(func() {
		front.Close()
		idle.CloseIdleConnections()
	})
	const authorities = "/etc/ssl/certs/ca-certificates.crt"
	own := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: front.Certificate().Raw})
	h.write(authorities, h.read(authorities)+string(own))
	h.write("/usr/local/bin/aws", strings.Replace(h.read("/usr/local/bin/aws"), "exec ",
		`case "$2" in presign) exec /usr/bin/aws --endpoint-url `+front.URL+` "$@" ;; esac`+"\nexec ", 1))
}

// parts counts the parts that were put to the store.
func (s *store) parts(t *testing.T) int {
	t.Helper()
	b, err := os.ReadFile(s.log)
	if err != nil {
		t.Fatal(err)
	}
	return strings.Count(string(b), "put multipart upload")
}

// freePort returns a port of 127.0.0.1 that nothing listens on.
func freePort(t *testing.T) int {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().(*net.TCPAddr).Port
}

// answers waits until something listens on the port.
func answers(t *testing.T, port int) {
	t.Helper()
	await(t, fmt.Sprintf("a server on port %d", port), func() bool {
		c, err := net.Dial("tcp", fmt.Sprintf("127.0.0.1:%d", port))
		if err == nil {
			c.Close()
		}
		return err == nil
	})
}

// await waits for something to come true.
func await(t *testing.T, what string, is func() bool) {
	t.Helper()
	for began := time.Now(); !is(); time.Sleep(10 * time.Millisecond) {
		if time.Since(began) > patience {
			t.Fatalf("waited in vain for %s", what)
		}
	}
}
