package source

import (
	"errors"
	"io"
	"path/filepath"
	"slices"
	"syscall"
	"testing"

	"hb/source/mysqld/mysqldtest"
	"hb/source/mysqld/mysqldtest/client"
	"hb/stream/disk/disktest"
	"hb/xbstream"
	"hb/xbstream/metadata"
)

// ignoredFaults are the operations whose failing may go unnoticed, and why.
var ignoredFaults = map[disktest.Kind]string{
	disktest.CloseRead: "what was read was read: closing writes nothing",
}

// TestFileFaults: whatever operation on a server's files fails, the backup does,
// and its archive has no manifest.
func TestFileFaults(t *testing.T) {
	servers := []string{mysqldtest.MariaDB1011, mysqldtest.MySQL97}
	if mysqldtest.Long() {
		servers = slices.Concat(mysqldtest.MariaDB, mysqldtest.MySQL)
	}
	mysqldtest.Each(t, servers, func(t *testing.T, root *mysqldtest.Root) {
		s := mysqldtest.Start(t, root, mysqldtest.Options{Binlog: true})
		s.Exec(t, "CREATE DATABASE d", "CREATE TABLE d.t (id INT PRIMARY KEY, v TEXT) ENGINE=InnoDB", "INSERT INTO d.t VALUES (1, 'one')",
			"CREATE TABLE d.m (id INT) ENGINE=MyISAM", "INSERT INTO d.m VALUES (1)")
		fileFaults(t, s)
	})
}

func fileFaults(t *testing.T, s *mysqldtest.Server) {
	all := disktest.NewFaults(s.Datadir)
	if whole, err := faultyBackup(t, s, all); err != nil || !whole {
		t.Fatalf("without any fault: %v", err)
	}
	ops := slices.Clone(all.Ops())
	found := len(ops)
	if !mysqldtest.Long() {
		ops = someOf(ops)
	}
	hits, missed := 0, 0
	for i := range ops {
		f := disktest.NewFaults(s.Datadir)
		f.Fail(ops[i], syscall.EIO, i%2 == 1)
		whole, err := faultyBackup(t, s, f)
		switch {
		case !f.Hit():
			missed++ // the follower of the log looks as often as there is time
			continue
		case err == nil && ignoredFaults[ops[i].Kind] != "" && whole:
		case err == nil:
			t.Errorf("%v failed, and nothing was said", ops[i])
		case !errors.Is(err, syscall.EIO):
			t.Errorf("%v failed, and what was said is: %v", ops[i], err)
		case whole && ignoredFaults[ops[i].Kind] == "":
			t.Errorf("%v failed (%v), and the archive has its manifest", ops[i], err)
		}
		hits++
	}
	t.Logf("%d faults, of %d operations; %d did not happen again", hits, found, missed)
	if hits < missed*3 {
		t.Errorf("too few operations happened again")
	}
}

// someOf leaves the first operation of each kind on each kind of file, by its
// extension, so that each way to fail is tried, if not at every place; and fifteen
// from all over the backup.
func someOf(ops []disktest.Op) []disktest.Op {
	type class struct {
		kind disktest.Kind
		ext  string
	}
	seen := make(map[class]bool)
	stride := max(1, len(ops)/15)
	var few []disktest.Op
	for i, op := range ops {
		c := class{op.Kind, filepath.Ext(op.Name)}
		if !seen[c] || i%stride == stride/2 {
			few = append(few, op)
		}
		seen[c] = true
	}
	return few
}

// faultyBackup backs a server up, and reports whether the archive can be read to
// its end and has a manifest. The archive goes through a pipe: the race detector
// makes an archive in memory many times as dear.
func faultyBackup(t *testing.T, s *mysqldtest.Server, f *disktest.Faults) (whole bool, err error) {
	t.Helper()
	srv := client.Open(t, s)
	r, archive := io.Pipe()
	read := make(chan bool)
	go func() {
		whole := hasManifest(r)
		_, err := io.Copy(io.Discard, r)
		read <- whole && err == nil
	}()
	_, err = runOn(t.Context(), f, srv, archive, Options{Parallel: 1, Tmpdir: t.TempDir(), Tool: "hb", ToolVersion: "test"})
	if cerr := archive.Close(); cerr != nil {
		t.Fatal(cerr)
	}
	whole = <-read
	if cerr := srv.Close(); cerr != nil {
		t.Fatal(cerr)
	}
	return whole, err
}

// hasManifest reports whether an archive can be read to its end, and has a
// manifest.
func hasManifest(archive io.Reader) bool {
	found := false
	for r := xbstream.NewReader(archive, xbstream.ReaderOptions{}); ; {
		ch, err := r.Next()
		if err != nil {
			return err == io.EOF && found
		}
		found = found || ch.Path == metadata.ManifestName && ch.Type == xbstream.End
	}
}
