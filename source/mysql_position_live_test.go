package source_test

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"sync"
	"testing"
	"time"

	"hb/source"
	"hb/source/mysqld"
	"hb/source/mysqld/login"
	"hb/source/mysqld/mysqldtest"
	"hb/source/mysqld/mysqldtest/client"
	"hb/source/subject"
	"hb/xbstream/metadata"
)

// TestBinlogLockOrder: where commits go on under the final lock (Percona Server),
// position and LSN are both taken under the lock for the binary log: the rows of
// the restored server are those of the commits up to the position. MySQL 5.7 stands
// in for it, with statements of equal effect.
func TestBinlogLockOrder(t *testing.T) {
	root := mysqldtest.Need(t, mysqldtest.MySQL57)
	s := mysqldtest.Start(t, root, mysqldtest.Options{Binlog: true})
	s.Exec(t, "CREATE DATABASE d", "CREATE TABLE d.t (w INT, n INT, PRIMARY KEY (w, n))")
	socket := rewriting(t, s, perconaStatement)
	stop := commitsOf57(t, s)
	dir := t.TempDir()
	archive := filepath.Join(dir, "archive")
	srv := connectBy(t, socket)
	srv.Series.TablesLock, srv.Series.BinlogLock = true, true
	f, err := os.Create(archive)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	r, err := source.Run(t.Context(), srv, f, source.Options{Parallel: 2, Tmpdir: t.TempDir(), Tool: "hb", ToolVersion: "test"})
	stop()
	if err != nil {
		t.Fatal(err)
	}
	var locks []string
	for _, l := range r.Locks {
		locks = append(locks, l.Lock)
	}
	if fmt.Sprint(locks) != "[LOCK TABLES FOR BACKUP LOCK BINLOG FOR BACKUP]" {
		t.Errorf("locks: %v", locks)
	}
	target := filepath.Join(dir, "restored")
	restoreByHB(t, root, archive, target)
	copied := mysqldtest.StartOn(t, root, target, mysqldtest.Options{})
	if got, want := copied.Value(t, "SELECT COUNT(*) FROM d.t"), strconv.Itoa(committed(t, s, *r.Manifest.Binlog)); got != want {
		t.Errorf("the restored server has %s rows; %s were committed up to %+v", got, want, *r.Manifest.Binlog)
	}
}

// commitsOf57 commits one row after the other on some connections until the
// function that it returns is called.
func commitsOf57(t *testing.T, s *mysqldtest.Server) (stop func()) {
	ctx, cancel := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	for w := range 3 {
		wg.Go(func() {
			for n := 0; ctx.Err() == nil; n++ {
				if _, err := s.DB().ExecContext(t.Context(), "INSERT INTO d.t VALUES (?, ?)", w, n); err != nil {
					t.Error(err)
					return
				}
			}
		})
	}
	return func() { cancel(); wg.Wait() }
}

// committed counts the commits up to a position, by the server's own list of its
// binary log, which is its first.
func committed(t *testing.T, s *mysqldtest.Server, at metadata.BinlogPos) (n int) {
	t.Helper()
	if at.File != "binlog.000001" {
		t.Fatalf("%+v", at)
	}
	for _, row := range s.Rows(t, "SHOW BINLOG EVENTS IN '"+at.File+"'") {
		if end, err := strconv.ParseUint(row[4], 10, 64); err != nil {
			t.Fatal(err)
		} else if row[2] == "Xid" && end <= at.Pos {
			n++
		}
	}
	return n
}

// perconaStatements are Percona Server's, each with one of equal effect here, and
// how long it takes to be asked: commits go on meanwhile.
var perconaStatements = map[string]struct {
	instead string
	after   time.Duration
}{
	"LOCK TABLES FOR BACKUP": {"DO 0", 0}, // nothing but commits goes on
	"LOCK BINLOG FOR BACKUP": {"FLUSH TABLES WITH READ LOCK", 200 * time.Millisecond},
	"UNLOCK BINLOG":          {"UNLOCK TABLES", 0},
}

// perconaStatement returns what the server is asked instead of a statement.
func perconaStatement(statement string) string {
	p, ok := perconaStatements[statement]
	if !ok {
		return statement
	}
	time.Sleep(p.after)
	return p.instead
}

// rewriting is a socket of the server that asks it other statements than it is asked.
func rewriting(t *testing.T, s *mysqldtest.Server, instead func(statement string) string) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "hb")
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(dir, "s")
	l, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	wg.Go(func() {
		for {
			client, err := l.Accept()
			if err != nil {
				return
			}
			server, err := net.Dial("unix", s.Socket)
			if err != nil {
				t.Error(err)
				return
			}
			wg.Go(func() { _, _ = io.Copy(client, server); client.Close() })
			wg.Go(func() { forward(server, client, instead); server.Close() })
		}
	})
	t.Cleanup(func() { l.Close(); wg.Wait(); os.RemoveAll(dir) })
	return path
}

// connectBy connects as hb does, by such a socket, until the test ends.
func connectBy(t *testing.T, socket string) *mysqld.Server {
	t.Helper()
	return client.Connect(t, login.Options{Network: "unix", Socket: socket, User: "root"})
}

// forward passes a client's packets on, and replaces statements.
func forward(server io.Writer, client io.Reader, instead func(statement string) string) {
	for {
		head := make([]byte, 4)
		if _, err := io.ReadFull(client, head); err != nil {
			return
		}
		body := make([]byte, int(head[0])|int(head[1])<<8|int(head[2])<<16)
		if _, err := io.ReadFull(client, body); err != nil {
			return
		}
		const query = 3
		if len(body) > 0 && body[0] == query {
			body = append(body[:1], instead(string(body[1:]))...)
			var n [4]byte
			binary.LittleEndian.PutUint32(n[:], uint32(len(body)))
			copy(head, n[:3])
		}
		if _, err := server.Write(bytes.Join([][]byte{head, body}, nil)); err != nil {
			return
		}
	}
}

// TestInexactReplica: a replica with parallel appliers and without GTID has no
// position of one moment while they run: its backup is refused before anything is
// locked, and succeeds with the appliers at rest.
func TestInexactReplica(t *testing.T) {
	mysqldtest.Each(t, []string{mysqldtest.MySQL56, mysqldtest.MySQL57}, func(t *testing.T, root *mysqldtest.Root) {
		without := []string{"gtid-mode=OFF", "enforce-gtid-consistency=OFF", "slave-parallel-workers=2"}
		primary := mysqldtest.Start(t, root, mysqldtest.Options{Binlog: true, Config: without[:2]})
		replica := mysqldtest.Start(t, root, mysqldtest.Options{Binlog: true, ServerID: 2, Config: without})
		at, err := primary.BinlogPosition(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		mysqldtest.Attach(t, replica, primary, mysqldtest.Position{File: at.File, Pos: at.Pos})
		mysqldtest.CatchUp(t, replica, primary, time.Minute)
		srv := client.Open(t, replica)
		defer srv.Close()
		result, err := source.Run(t.Context(), srv, io.Discard, source.Options{Parallel: 1, Tmpdir: t.TempDir(), Tool: "hb", ToolVersion: "test", SlaveInfo: true})
		if _, ok := errors.AsType[subject.InexactSourceError](err); !ok || len(result.Locks) > 0 {
			t.Errorf("while the appliers run: %v, %v", err, result.Locks)
		}
		hookedBackup(t, replica, filepath.Join(t.TempDir(), "archive"), hooks{opt: source.Options{SlaveInfo: true, MySQLOptions: source.MySQLOptions{SafeSlave: true}}})
	})
}
