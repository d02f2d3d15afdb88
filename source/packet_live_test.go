package source_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"hb/source"
	"hb/source/mysqld/locks"
	"hb/source/mysqld/mysqldtest"
	"hb/source/mysqld/mysqldtest/client"
)

// TestManyPlainTables: more non-transactional tables than the server takes in one
// statement are refused before anything is copied; with the setting that the error
// names they are locked.
func TestManyPlainTables(t *testing.T) {
	root := mysqldtest.Need(t, mysqldtest.MySQL97)
	s := mysqldtest.Start(t, root, mysqldtest.Options{})
	s.Exec(t, "CREATE DATABASE d")
	for i := range 100 {
		s.Exec(t, fmt.Sprintf("CREATE TABLE d.%s%03d (i INT) ENGINE=MyISAM", strings.Repeat("t", 57), i))
	}
	backup := func() (copied bool, err error) {
		srv := client.Open(t, s)
		defer srv.Close()
		_, err = source.Run(t.Context(), srv, writer(func(p []byte) (int, error) { copied = true; return len(p), nil }),
			source.Options{Parallel: 1, Tmpdir: t.TempDir(), Tool: "hb", ToolVersion: "test"})
		return copied, err
	}
	for _, set := range []string{"net_buffer_length = 1024", "max_allowed_packet = 4096"} {
		s.Exec(t, "SET GLOBAL "+set)
	}
	copied, err := backup()
	packet, ok := errors.AsType[*locks.PacketError](err)
	if !ok || packet.Tables != 100 || packet.Limit != 4096 || copied {
		t.Fatalf("copied %v, %v", copied, err)
	}
	_, set, _ := strings.Cut(err.Error(), "(")
	set, _, _ = strings.Cut(set, ")")
	s.Exec(t, set)
	if _, err := backup(); err != nil {
		t.Errorf("after %s: %v", set, err)
	}
}

type writer func(p []byte) (int, error)

func (w writer) Write(p []byte) (int, error) { return w(p) }
