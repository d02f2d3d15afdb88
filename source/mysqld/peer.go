package mysqld

import (
	"net"
	"sync"
)

// A peer is the process at the other end of a Unix socket.
type peer struct {
	mu  sync.Mutex
	pid int // 0 if unknown
}

// learn asks the kernel who listens at the other end of the connection.
func (p *peer) learn(c net.Conn) {
	uc, ok := c.(*net.UnixConn)
	if !ok {
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.pid = peerProcess(uc)
}

func (p *peer) process() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.pid
}

// PeerProcess is the process at the other end of the server's socket, 0 if unknown.
func (s *Server) PeerProcess() int { return s.peer.process() }

// ThroughSocket reports whether the connection is through a Unix socket.
func (s *Server) ThroughSocket() bool { return s.opt.Network == "unix" }
