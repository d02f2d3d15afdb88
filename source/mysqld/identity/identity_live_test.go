package identity

import (
	"encoding/binary"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"hb/source/mysqld"
	"hb/source/mysqld/login"
	"hb/source/mysqld/mysqldtest"
	"hb/source/mysqld/mysqldtest/client"
	"hb/xbstream/innodb"
)

// readCheckpoint reads the newest checkpoint of ib_logfile0, independently of hb.
func readCheckpoint(dir string) (innodb.LSN, error) {
	f, err := os.Open(filepath.Join(dir, "ib_logfile0"))
	if err != nil {
		return 0, err
	}
	defer f.Close()
	b := make([]byte, 12288)
	if _, err := f.ReadAt(b, 0); err != nil {
		return 0, err
	}
	if string(b[:4]) == "Phys" {
		return innodb.LSN(max(binary.BigEndian.Uint64(b[4096:]), binary.BigEndian.Uint64(b[8192:]))), nil
	}
	return innodb.LSN(max(binary.BigEndian.Uint64(b[512+8:]), binary.BigEndian.Uint64(b[1536+8:]))), nil
}

func TestCheckDatadir(t *testing.T) {
	mysqldtest.EachServer(t, mysqldtest.MariaDB, mysqldtest.Options{Binlog: true}, func(t *testing.T, s *mysqldtest.Server) {
		ctx := t.Context()
		other := mysqldtest.Start(t, s.Root, mysqldtest.Options{})
		s.Exec(t, "CREATE USER u@'127.0.0.1' IDENTIFIED BY 'p'", "GRANT ALL ON *.* TO u@'127.0.0.1'", "CREATE DATABASE moved_the_log")
		files := func(dir string) Files {
			return Files{Datadir: dir, Checkpoint: func() (innodb.LSN, error) { return readCheckpoint(dir) }}
		}
		srv := client.Connect(t, client.Options(s))
		tcp := client.Connect(t, login.Options{Network: "tcp", Host: "127.0.0.1", Port: s.Port, User: "u", Password: login.NewSecret("p")})

		proof, err := Prove(ctx, srv, files(s.Datadir))
		if err != nil || !proof.ByProcess || proof.Server != s.PID() || proof.Checkpoint == 0 {
			t.Errorf("socket: %+v, %v", proof, err)
		}
		proof, err = Prove(ctx, tcp, files(s.Datadir))
		if err != nil || proof.ByProcess || proof.Holder != s.PID() || proof.Checkpoint == 0 {
			t.Errorf("tcp: %+v, %v", proof, err)
		}
		link := filepath.Join(t.TempDir(), "link")
		if err := os.Symlink(s.Datadir, link); err != nil {
			t.Fatal(err)
		}
		if proof, err := Prove(ctx, srv, files(link)); err != nil || !proof.ByProcess {
			t.Errorf("symlink: %+v, %v", proof, err)
		}

		copied := filepath.Join(t.TempDir(), "copy")
		if err := os.CopyFS(copied, os.DirFS(s.Datadir)); err != nil {
			t.Fatal(err)
		}
		for _, srv := range []*mysqld.Server{srv, tcp} {
			for _, test := range []struct {
				name  string
				files Files
				want  string
			}{
				{"another server's", files(other.Datadir), "process"},
				{"a copy", files(copied), "no running server"},
				{"nothing", files(filepath.Join(copied, "none")), "it has no"},
			} {
				_, err := Prove(ctx, srv, test.files)
				de, ok := errors.AsType[*DatadirError](err)
				if !ok || !strings.Contains(de.Reason, test.want) {
					t.Errorf("%s of %s: %v", test.name, srv, err)
				}
			}
		}
		// The right datadir with the redo log of another server.
		f := files(s.Datadir)
		f.Checkpoint = func() (innodb.LSN, error) { return readCheckpoint(other.Datadir) }
		other.Exec(t, "CREATE DATABASE d", "CREATE TABLE d.t (a INT) ENGINE=InnoDB")
		if err := other.Stop(); err != nil { // which makes a checkpoint
			t.Fatal(err)
		}
		if _, err := Prove(ctx, srv, f); err == nil || !strings.Contains(err.Error(), "checkpoint") {
			t.Errorf("foreign redo log: %v", err)
		}
		if _, err := Prove(ctx, tcp, Files{Datadir: s.Datadir}); !isUnproven(err) {
			t.Errorf("tcp without a reader of the redo log: %v", err)
		}
	})
}

func isUnproven(err error) bool {
	de, ok := errors.AsType[*DatadirError](err)
	return ok && de.Unproven
}

// readMySQLCheckpoint reads the newest checkpoint, independently of hb.
func readMySQLCheckpoint(dir string) (innodb.LSN, error) {
	names, err := filepath.Glob(filepath.Join(dir, "#innodb_redo", "#ib_redo*"))
	if err != nil || len(names) == 0 {
		return readCheckpoint(dir)
	}
	var newest uint64
	for _, name := range names {
		if strings.HasSuffix(name, "_tmp") {
			continue
		}
		b := make([]byte, 2048)
		f, err := os.Open(name)
		if err != nil {
			return 0, err
		}
		_, err = f.ReadAt(b, 0)
		if err := errors.Join(err, f.Close()); err != nil {
			return 0, err
		}
		newest = max(newest, binary.BigEndian.Uint64(b[512+8:]), binary.BigEndian.Uint64(b[1536+8:]))
	}
	return innodb.LSN(newest), nil
}

// TestCheckDatadirAfterClone has the server copy itself: it then opens and closes
// its system tablespace, which gives its own lock on the file up.
func TestCheckDatadirAfterClone(t *testing.T) {
	s := mysqldtest.Start(t, mysqldtest.Need(t, mysqldtest.MySQL97), mysqldtest.Options{TCP: true})
	to := filepath.Join(t.TempDir(), "clone")
	s.Exec(t, "CREATE USER u@'127.0.0.1' IDENTIFIED BY 'p'", "GRANT ALL ON *.* TO u@'127.0.0.1'",
		"INSTALL PLUGIN clone SONAME 'mysql_clone.so'", "CLONE LOCAL DATA DIRECTORY = '"+to+"'")
	if _, locked, err := lockHolder(filepath.Join(s.Datadir, "ibdata1")); err != nil || locked {
		t.Fatalf("the lock: held %v, %v: there is nothing to test", locked, err)
	}
	files := func(dir string) Files {
		return Files{Datadir: dir, Checkpoint: func() (innodb.LSN, error) { return readMySQLCheckpoint(dir) }}
	}
	srv := client.Connect(t, client.Options(s))
	proof, err := Prove(t.Context(), srv, files(s.Datadir))
	if err != nil || !proof.ByProcess || proof.Server != s.PID() {
		t.Errorf("socket: %+v, %v", proof, err)
	}
	tcp := client.Connect(t, login.Options{Network: "tcp", Host: "127.0.0.1", Port: s.Port, User: "u", Password: login.NewSecret("p")})
	proof, err = Prove(t.Context(), tcp, files(s.Datadir))
	if err != nil || proof.ByProcess || proof.Holder != s.PID() {
		t.Errorf("tcp: %+v, %v", proof, err)
	}
	if _, err := Prove(t.Context(), srv, files(to)); err == nil {
		t.Error("the clone passes for the server's files")
	}
}

func TestMySQLCheckDatadir(t *testing.T) {
	mysqldtest.EachServer(t, mysqldtest.MySQL, mysqldtest.Options{TCP: true}, func(t *testing.T, s *mysqldtest.Server) {
		ctx := t.Context()
		other := mysqldtest.Start(t, s.Root, mysqldtest.Options{})
		s.Exec(t, "CREATE USER u@'127.0.0.1' IDENTIFIED BY 'p'", "GRANT ALL ON *.* TO u@'127.0.0.1'", "CREATE DATABASE moved_the_log")
		files := func(dir string) Files {
			return Files{Datadir: dir, Checkpoint: func() (innodb.LSN, error) { return readMySQLCheckpoint(dir) }}
		}
		srv := client.Connect(t, client.Options(s))
		tcp := client.Connect(t, login.Options{Network: "tcp", Host: "127.0.0.1", Port: s.Port, User: "u", Password: login.NewSecret("p")})
		proof, err := Prove(ctx, srv, files(s.Datadir))
		if err != nil || !proof.ByProcess || proof.Server != s.PID() || proof.Checkpoint == 0 {
			t.Errorf("socket: %+v, %v", proof, err)
		}
		proof, err = Prove(ctx, tcp, files(s.Datadir))
		if err != nil || proof.ByProcess || proof.Holder != s.PID() || proof.Checkpoint == 0 {
			t.Errorf("tcp: %+v, %v", proof, err)
		}
		copied := filepath.Join(t.TempDir(), "copy")
		if err := os.CopyFS(copied, os.DirFS(s.Datadir)); err != nil {
			t.Fatal(err)
		}
		for _, srv := range []*mysqld.Server{srv, tcp} {
			for dir, want := range map[string]string{other.Datadir: "process", copied: "no running server", copied + "/none": "it has no"} {
				_, err := Prove(ctx, srv, files(dir))
				if de, ok := errors.AsType[*DatadirError](err); !ok || !strings.Contains(de.Reason, want) {
					t.Errorf("%s: %v", dir, err)
				}
			}
		}
		f := files(s.Datadir)
		f.Checkpoint = func() (innodb.LSN, error) { return readMySQLCheckpoint(other.Datadir) }
		other.Exec(t, "CREATE DATABASE d", "CREATE TABLE d.t (a INT) ENGINE=InnoDB")
		if err := other.Stop(); err != nil { // which makes a checkpoint
			t.Fatal(err)
		}
		if _, err := Prove(ctx, srv, f); err == nil || !strings.Contains(err.Error(), "checkpoint") {
			t.Errorf("foreign redo log: %v", err)
		}
	})
}
