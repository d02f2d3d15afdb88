// Package remotetest is an object store for tests: one object behind TLS, at an address
// with a signature, and whatever can go wrong on the way.
package remotetest

import (
	"bytes"
	"encoding/pem"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"
)

// Secret is the address's query, which no message may show.
const Secret = "X-Amz-Signature=5ec4e7"

// Server has one object. Change it through Do once it is used.
type Server struct {
	*httptest.Server
	Data     []byte
	Tag      string   // entity tag; "": none
	NoRange  bool     // range requests are answered with all of the object
	Cut      int      // connections are cut after fewer bytes than this, at random; 0: they are not
	Busy     []int    // statuses to answer first
	Requests []string // the Range headers that came
	Sent     int64    // bytes of the object
	// Before may change the server before it answers a request, which counts from 1; nil:
	// nothing changes.
	Before func(request int)

	mu  sync.Mutex
	rng *rand.Rand
}

// New starts a server of data until the test ends.
func New(t testing.TB, data []byte) *Server {
	s := &Server{Data: data, Tag: `"one"`, rng: rand.New(rand.NewPCG(1, 2))}
	s.Server = httptest.NewUnstartedServer(s)
	s.Config.ErrorLog = nil
	s.StartTLS()
	t.Cleanup(s.Close)
	return s
}

// Address is the object's.
func (s *Server) Address(name string) string { return s.URL + "/bucket/" + name + "?" + Secret }

// Do changes the server while nobody is answered.
func (s *Server) Do(f func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	f()
}

// Certificate returns a file with the server's certificate, for SSL_CERT_FILE.
func (s *Server) Certificate(t testing.TB) string {
	t.Helper()
	name := filepath.Join(t.TempDir(), "ca.pem")
	text := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: s.Server.Certificate().Raw})
	if err := os.WriteFile(name, text, 0o600); err != nil {
		t.Fatal(err)
	}
	return name
}

func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.Requests = append(s.Requests, r.Header.Get("Range"))
	if s.Before != nil {
		s.Before(len(s.Requests))
	}
	if r.URL.RawQuery != Secret || r.Method != http.MethodGet {
		w.WriteHeader(http.StatusForbidden)
		return
	}
	if len(s.Busy) > 0 {
		w.WriteHeader(s.Busy[0])
		s.Busy = s.Busy[1:]
		return
	}
	if s.Tag != "" {
		w.Header().Set("ETag", s.Tag)
	}
	if s.NoRange {
		r.Header.Del("Range")
	}
	left := -1
	if s.Cut > 0 {
		left = s.rng.IntN(s.Cut)
	}
	http.ServeContent(&cutter{w, s, left}, r, "", time.Unix(1_800_000_000, 0), bytes.NewReader(s.Data))
}

// cutter counts bytes, and breaks the connection off after some.
type cutter struct {
	http.ResponseWriter
	s    *Server
	left int // below 0: it does not
}

func (c *cutter) Write(p []byte) (int, error) {
	if c.left < 0 || len(p) <= c.left {
		if c.left >= 0 {
			c.left -= len(p)
		}
		n, err := c.ResponseWriter.Write(p)
		c.s.Sent += int64(n)
		return n, err
	}
	n, _ := c.ResponseWriter.Write(p[:c.left])
	c.s.Sent += int64(n)
	c.ResponseWriter.(http.Flusher).Flush()
	panic(http.ErrAbortHandler)
}
