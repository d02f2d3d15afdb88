package source_test

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"hb/source"
	"hb/source/mysqld"
	"hb/source/mysqld/mysqldtest"
	"hb/source/mysqld/mysqldtest/workload"
)

// TestUnderLoad backs a server up under load, and restores it with hb alone and
// with the peer's tools alone. Each copy obeys the load's rules, and catches up
// as a replica from the recorded position, by GTID and by file position.
func TestUnderLoad(t *testing.T) {
	mysqldtest.Each(t, mysqldtest.MariaDB, func(t *testing.T, root *mysqldtest.Root) {
		rounds := 1
		if mysqldtest.Long() {
			rounds = 5
		}
		for round := range rounds {
			t.Run(fmt.Sprintf("round %d", round+1), func(t *testing.T) { underLoad(t, root) })
		}
	})
}

func underLoad(t *testing.T, root *mysqldtest.Root) {
	s := mysqldtest.Start(t, root, mysqldtest.Options{Binlog: true})
	load, err := workload.Prepare(t.Context(), s.DB(), workload.Options{DDLRate: 20})
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	archive := filepath.Join(dir, "archive")
	during(t, load, func() {
		time.Sleep(2 * time.Second)
		load.ResetStalls()
		backup(t, s, archive)
		t.Logf("longest stall during the backup: %+v", load.Stats().MaxStall())
		time.Sleep(time.Second)
	})
	for name, restore := range restorers {
		target := filepath.Join(dir, "restored by "+name)
		restore(t, root, archive, target)
		restored(t, root, s, target, name == "hb")
	}
}

// backup makes an archive of s.
func backup(t *testing.T, s *mysqldtest.Server, archive string) *source.Result {
	t.Helper()
	srv, err := mysqld.Connect(t.Context(), mysqld.Options{Network: "unix", Socket: s.Socket, User: "root"})
	if err != nil {
		t.Fatal(err)
	}
	defer srv.Close()
	f, err := os.Create(archive)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	result, err := source.Run(t.Context(), srv, f, source.Options{
		Parallel: 2, Tmpdir: t.TempDir(), Tool: "hb", ToolVersion: "test",
		Warn: func(m string) { t.Log("warning:", m) },
	})
	if err != nil {
		t.Fatal(err)
	}
	for _, st := range result.Stages {
		t.Logf("%v: waited %v, held %v", st.Stage, st.Wait, st.Held)
	}
	return result
}

// restored starts a server on a recovered directory and checks all of it.
func restored(t *testing.T, root *mysqldtest.Root, s *mysqldtest.Server, dir string, byGTID bool) {
	t.Helper()
	at := recordedPosition(t, dir)
	if !byGTID {
		at.GTID = ""
	}
	copied := mysqldtest.StartOn(t, root, dir, mysqldtest.Options{ServerID: 2, Config: []string{"skip-slave-start"}})
	if err := workload.Check(t.Context(), copied.DB()); err != nil {
		t.Fatalf("copy: %v", err)
	}
	mysqldtest.Attach(t, copied, s, at)
	mysqldtest.CatchUp(t, copied, s, time.Minute)
	if err := workload.Check(t.Context(), copied.DB()); err != nil {
		t.Errorf("copy, caught up: %v", err)
	}
	for _, d := range workload.Differences(sums(t, s), sums(t, copied)) {
		t.Error(d)
	}
	if err := copied.Stop(); err != nil {
		t.Error(err)
	}
}

// during runs f while the load runs.
func during(t *testing.T, l *workload.Load, f func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- l.Run(ctx) }()
	defer func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	}()
	f()
}

// command runs a tool, with the file in as its standard input.
func command(t *testing.T, cmd *exec.Cmd, in string) {
	t.Helper()
	if in != "" {
		f, err := os.Open(in)
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		cmd.Stdin = f
	}
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v: %v\n%s", cmd.Args, err, out[max(0, len(out)-4000):])
	}
}

// recordedPosition reads the position that the backup recorded.
func recordedPosition(t *testing.T, dir string) mysqldtest.Position {
	t.Helper()
	files, _ := filepath.Glob(filepath.Join(dir, "*backup_binlog_info"))
	if len(files) != 1 {
		t.Fatalf("files with a position: %v", files)
	}
	b, err := os.ReadFile(files[0])
	if err != nil {
		t.Fatal(err)
	}
	var p mysqldtest.Position
	f := strings.Fields(string(b))
	if len(f) < 3 {
		t.Fatalf("position = %q", b)
	}
	p.File, p.GTID = f[0], f[2]
	if _, err := fmt.Sscan(f[1], &p.Pos); err != nil {
		t.Fatal(err)
	}
	return p
}

func sums(t *testing.T, s *mysqldtest.Server) map[string]string {
	t.Helper()
	m, err := workload.Checksums(t.Context(), s.DB())
	if err != nil {
		t.Fatal(err)
	}
	return m
}
