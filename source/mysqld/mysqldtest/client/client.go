// Package client connects tests with test servers the way hb connects.
package client

import (
	"testing"
	"time"

	"hb/source/mysqld"
	"hb/source/mysqld/login"
	"hb/source/mysqld/mysqldtest"
)

// Options reach a test server as root, by its socket. They wait two seconds for a
// lock.
func Options(s *mysqldtest.Server) login.Options {
	return login.Options{Network: "unix", Socket: s.Socket, User: "root", LockWait: 2 * time.Second}
}

// Connect connects, and closes the connection when the test ends.
func Connect(t testing.TB, opt login.Options) *mysqld.Server {
	t.Helper()
	srv, err := mysqld.Connect(t.Context(), opt)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := srv.Close(); err != nil {
			t.Errorf("close: %v", err)
		}
	})
	return srv
}

// Open connects as root, and waits for locks as hb does. The caller closes it.
func Open(t testing.TB, s *mysqldtest.Server) *mysqld.Server {
	t.Helper()
	srv, err := mysqld.Connect(t.Context(), login.Options{Network: "unix", Socket: s.Socket, User: "root"})
	if err != nil {
		t.Fatal(err)
	}
	return srv
}
