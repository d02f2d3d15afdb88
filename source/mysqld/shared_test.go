package mysqld

import (
	"testing"
	"time"

	"hb/source/mysqld/mysqldtest"
)

// socketOptions reach a test server as root.
func socketOptions(s *mysqldtest.Server) Options {
	return Options{Network: "unix", Socket: s.Socket, User: "root", LockWait: 2 * time.Second}
}

func connect(t *testing.T, opt Options) *Server {
	t.Helper()
	srv, err := Connect(t.Context(), opt)
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

// each runs a test on every MariaDB server, with a binary log.
func each(t *testing.T, f func(t *testing.T, s *mysqldtest.Server)) {
	mysqldtest.EachServer(t, mysqldtest.MariaDB, mysqldtest.Options{Binlog: true}, f)
}

// eachMySQL runs a test on every MySQL server.
func eachMySQL(t *testing.T, o mysqldtest.Options, f func(t *testing.T, s *mysqldtest.Server)) {
	t.Helper()
	mysqldtest.EachServer(t, mysqldtest.MySQL, o, f)
}
