package source_test

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
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
	workload.During(t, load, func() {
		time.Sleep(2 * time.Second)
		load.ResetStalls()
		backup(t, s, archive)
		t.Logf("longest stall during the backup: %+v", load.Stats().MaxStall())
		time.Sleep(time.Second)
	})
	for name, restore := range restorers {
		target := filepath.Join(dir, "restored by "+name)
		restore(t, root, archive, target)
		workload.VerifyCopy(t, s, target, name == "hb")
	}
}

// backup makes an archive of s.
func backup(t testing.TB, s *mysqldtest.Server, archive string) *source.Result {
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
	})
	if err != nil {
		t.Fatal(err)
	}
	for _, st := range result.Locks {
		t.Logf("%s: waited %v, held %v", st.Lock, st.Wait, st.Held)
	}
	return result
}

// command runs a tool, with the file in as its standard input.
func command(t testing.TB, cmd *exec.Cmd, in string) {
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

// BenchmarkStall measures for how long hb and mariadb-backup, in turn, hold up
// the writers of one loaded server: the longest statement or commit of any
// writer while each runs. Run it with -benchtime=5x; it reports medians.
func BenchmarkStall(b *testing.B) {
	for _, name := range mysqldtest.MariaDB {
		b.Run(name, func(b *testing.B) {
			root := mysqldtest.Need(b, name)
			s := mysqldtest.Start(b, root, mysqldtest.Options{Binlog: true})
			load, err := workload.Prepare(b.Context(), s.DB(), workload.Options{DDLRate: 5})
			if err != nil {
				b.Fatal(err)
			}
			dir := b.TempDir()
			var ours, theirs, none []float64
			workload.During(b, load, func() {
				time.Sleep(2 * time.Second)
				for b.Loop() {
					none = append(none, stall(load, func() { time.Sleep(time.Second) }))
					ours = append(ours, stall(load, func() { backup(b, s, filepath.Join(dir, "archive")) }))
					theirs = append(theirs, stall(load, func() {
						cmd := root.Tool("mariadb-backup", "--defaults-file="+s.DefaultsFile, "--backup", "--stream=xbstream", "--parallel=2", "--target-dir="+dir)
						peerBackup(b, cmd, filepath.Join(dir, "theirs"))
					}))
				}
			})
			b.ReportMetric(median(none), "none-ms")
			b.ReportMetric(median(ours), "hb-ms")
			b.ReportMetric(median(theirs), "mariadb-backup-ms")
			b.ReportMetric(median(ours)/median(theirs), "hb/mariadb-backup")
			b.ReportMetric(0, "ns/op") // says nothing here
		})
	}
}

// stall returns the longest statement of any writer while f runs, in
// milliseconds.
func stall(load *workload.Load, f func()) float64 {
	load.ResetStalls()
	f()
	return load.Stats().MaxStall().For.Seconds() * 1000
}

func median(v []float64) float64 {
	slices.Sort(v)
	return v[len(v)/2]
}

// peerBackup runs a backup tool with its archive going to a file.
func peerBackup(b *testing.B, cmd *exec.Cmd, archive string) {
	b.Helper()
	out, err := os.Create(archive)
	if err != nil {
		b.Fatal(err)
	}
	defer out.Close()
	cmd.Stdout = out
	if err := cmd.Run(); err != nil {
		b.Fatalf("mariadb-backup: %v", err)
	}
}
