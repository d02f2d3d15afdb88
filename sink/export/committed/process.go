package committed

import (
	"net"
	"os"
	"strings"
	"time"
)

// greets reports whether a server sends its greeting to a client that connects to a socket.
func greets(socket string) bool {
	c, err := net.Dial("unix", socket)
	if err != nil {
		return false
	}
	defer c.Close() // nothing was written
	if c.SetReadDeadline(time.Now().Add(time.Second)) != nil {
		return false
	}
	var first [1]byte
	n, _ := c.Read(first[:])
	return n == 1
}

// The end of a log that an error shows.
const (
	tailBytes = 64 << 10
	tailLines = 20
)

// tail is the end of a server's error log, without notes.
func tail(name string) string {
	f, err := os.Open(name)
	if err != nil {
		return ""
	}
	defer f.Close() // only read
	st, err := f.Stat()
	if err != nil {
		return ""
	}
	b := make([]byte, min(st.Size(), tailBytes))
	n, _ := f.ReadAt(b, st.Size()-int64(len(b)))
	var lines []string
	for line := range strings.Lines(string(b[:n])) {
		if !strings.Contains(line, "[Note]") && !strings.Contains(line, "[System]") {
			lines = append(lines, "  "+strings.TrimRight(line, "\n"))
		}
	}
	return strings.Join(lines[max(0, len(lines)-tailLines):], "\n")
}
