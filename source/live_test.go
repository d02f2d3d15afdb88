package source_test

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"sync"
	"testing"
	"time"

	"hb/source"
	"hb/source/mysqld/mysqldtest"
	"hb/source/mysqld/mysqldtest/client"
	"hb/source/mysqld/mysqldtest/workload"
)

// TestUnderLoad backs a server up under load, and restores it with hb alone and
// with the peer's tools alone. Each copy obeys the load's rules, and catches up
// as a replica from the recorded position, by GTID and by file position.
func TestUnderLoad(t *testing.T) {
	mysqldtest.Concurrent(t)
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

// TestAlterUnderLock: an ALTER TABLE that was under way when DDL was locked out
// goes on, and makes tables for full-text indexes. Wherever the redo of that ends,
// the backup can be recovered, and the server starts on it.
func TestAlterUnderLock(t *testing.T) {
	mysqldtest.Concurrent(t, mysqldtest.MariaDB1011)
	mysqldtest.Each(t, mysqldtest.MariaDB, func(t *testing.T, root *mysqldtest.Root) {
		const tables = 6
		s := mysqldtest.Start(t, root, mysqldtest.Options{})
		s.Exec(t, "CREATE DATABASE d")
		for i := range tables {
			s.Exec(t, fmt.Sprintf("CREATE TABLE d.t%d (id INT PRIMARY KEY, b TEXT, c TEXT) ENGINE=InnoDB", i))
			s.Exec(t, fmt.Sprintf("INSERT INTO d.t%d SELECT seq, CONCAT('word', seq), CONCAT('more', seq) FROM d.seq_1_to_1000", i))
		}
		ctx, cancel := context.WithCancel(t.Context())
		var wg sync.WaitGroup
		defer wg.Wait()
		defer cancel()
		for i := range tables {
			wg.Go(func() {
				for ctx.Err() == nil {
					for _, change := range []string{"ADD FULLTEXT f (b, c)", "DROP INDEX f"} {
						if _, err := s.DB().ExecContext(ctx, fmt.Sprintf("ALTER TABLE d.t%d %s", i, change)); err != nil && ctx.Err() == nil {
							t.Error(err)
						}
					}
				}
			})
		}
		rounds := 3
		if mysqldtest.Long() {
			rounds = 30
		}
		dir := t.TempDir()
		archive := func(round int) string { return filepath.Join(dir, fmt.Sprint("archive", round)) }
		for round := range rounds {
			backup(t, s, archive(round))
		}
		cancel()
		wg.Wait()
		for round := range rounds {
			for name, restore := range map[string]func(t *testing.T, root *mysqldtest.Root, archive, target string){
				"mariadb-backup": restoreByPeer, "hb": restoreDropping,
			} {
				target := filepath.Join(dir, fmt.Sprint(round, " by ", name))
				restore(t, root, archive(round), target)
				copied := mysqldtest.StartOn(t, root, target, mysqldtest.Options{})
				for i := range tables {
					if got := copied.Rows(t, fmt.Sprintf("CHECK TABLE d.t%d EXTENDED", i)); len(got) != 1 || got[0][3] != "OK" {
						t.Errorf("%s: %q", target, got)
					}
				}
				if err := copied.Stop(); err != nil {
					t.Error(err)
				}
			}
		}
	})
}

// backup makes an archive of s.
func backup(t testing.TB, s *mysqldtest.Server, archive string) *source.Result {
	t.Helper()
	srv := client.Open(t, s)
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
