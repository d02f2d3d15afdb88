// Command demo.d is the body of scripts/demo: it starts a server under load,
// takes it through hb backup, extract and apply, and compares the restored
// server with the first one, table by table.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"syscall"
	"time"

	"hb/source/mysqld/mysqldtest"
	"hb/source/mysqld/mysqldtest/workload"
)

func main() {
	hb := flag.String("hb", "", "the hb `program`")
	dir := flag.String("dir", "", "an empty `directory` for all files")
	server := flag.String("server", mysqldtest.MariaDB1011, "the `name` of the server")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := demo(ctx, *hb, *dir, *server); err != nil {
		fmt.Fprintln(os.Stderr, "demo:", err)
		os.Exit(1)
	}
}

// say prints one step of the story.
func say(format string, args ...any) {
	fmt.Printf("-- "+format+"\n", args...)
}

func demo(ctx context.Context, hb, dir, name string) (err error) {
	root, err := mysqldtest.Installed(name)
	if err != nil {
		return err
	}
	say("starting %s %s with sample data", root.Name, root.Version)
	source, err := mysqldtest.Launch(ctx, root, mysqldtest.Options{Dir: filepath.Join(dir, "source"), Binlog: true})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, source.Kill()) }()
	load, err := workload.Prepare(ctx, source.DB(), workload.Options{DDLRate: 10})
	if err != nil {
		return err
	}
	restored := filepath.Join(dir, "restored")
	if err := underLoad(ctx, load, func() error { return backUp(ctx, hb, source, load, restored) }); err != nil {
		return err
	}
	say("hb apply")
	if err := run(exec.CommandContext(ctx, hb, "apply", restored)); err != nil {
		return err
	}
	return compare(ctx, source, restored, dir)
}

// underLoad runs f while the load runs, some seconds before and after it.
func underLoad(ctx context.Context, load *workload.Load, f func() error) error {
	ctx, cancel := context.WithCancel(ctx)
	done := make(chan error, 1)
	go func() { done <- load.Run(ctx) }()
	time.Sleep(2 * time.Second)
	err := f()
	time.Sleep(time.Second)
	cancel()
	return errors.Join(err, <-done)
}

// backUp pipes hb backup into hb extract, as a shell would.
func backUp(ctx context.Context, hb string, source *mysqldtest.Server, load *workload.Load, to string) error {
	say("hb backup -u root -S SOCKET | hb extract -C DIR, while %d transactions and %d DDL statements have run",
		load.Stats().Transactions(), load.Stats().DDLCount())
	load.ResetStalls()
	start := time.Now()
	r, w, err := os.Pipe()
	if err != nil {
		return err
	}
	backup := exec.CommandContext(ctx, hb, "backup", "--defaults-file="+source.DefaultsFile, "-u", "root", "-S", source.Socket)
	extract := exec.CommandContext(ctx, hb, "extract", "-C", to)
	backup.Stdout, extract.Stdin = w, r
	backup.Stderr, extract.Stderr, extract.Stdout = os.Stderr, os.Stderr, os.Stdout
	// A program that has started is waited for, whatever became of the other.
	started := errors.Join(extract.Start(), backup.Start())
	// Only the two programs hold the pipe's ends now: each sees the other's end.
	closed := errors.Join(r.Close(), w.Close())
	var ended []error
	for _, c := range []*exec.Cmd{backup, extract} {
		if c.Process == nil {
			continue
		}
		if err := c.Wait(); err != nil {
			ended = append(ended, fmt.Errorf("hb %s: %w", c.Args[1], err))
		}
	}
	if err := errors.Join(started, closed, errors.Join(ended...)); err != nil {
		return err
	}
	say("took %v; meanwhile %d transactions in all; the longest that any statement of a writer took is %v",
		time.Since(start).Round(time.Millisecond), load.Stats().Transactions(), load.Stats().MaxStall().For.Round(time.Millisecond))
	return nil
}

func run(cmd *exec.Cmd) error {
	cmd.Stdout, cmd.Stderr = os.Stdout, os.Stderr
	if err := cmd.Run(); err != nil {
		return fmt.Errorf("%v: %w", cmd.Args, err)
	}
	return nil
}

// compare starts the restored server, checks it, lets it catch up with the first
// one from the recorded position, and compares all tables.
func compare(ctx context.Context, source *mysqldtest.Server, dir, work string) (err error) {
	at, err := mysqldtest.RecordedPosition(dir)
	if err != nil {
		return err
	}
	say("starting the restored server; it was taken at %s %d, GTID %s", at.File, at.Pos, at.GTID)
	copied, err := mysqldtest.LaunchOn(ctx, source.Root, dir, mysqldtest.Options{
		Dir: filepath.Join(work, "copy"), ServerID: 2, Binlog: !source.Root.MariaDB(),
	})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, copied.Kill()) }()
	say("CHECK TABLE ... EXTENDED on every table, each index against its table, and the load's rules")
	if err := workload.Check(ctx, copied.DB()); err != nil {
		return fmt.Errorf("the restored server is not right: %w", err)
	}
	say("attaching it to the first server as a replica")
	if err := copied.ReplicateFrom(ctx, source, at); err != nil {
		return err
	}
	if err := copied.WaitFor(ctx, source, time.Minute); err != nil {
		return err
	}
	return compareTables(ctx, source, copied)
}

func compareTables(ctx context.Context, source, copied *mysqldtest.Server) error {
	a, err := workload.Checksums(ctx, source.DB())
	if err != nil {
		return err
	}
	b, err := workload.Checksums(ctx, copied.DB())
	if err != nil {
		return err
	}
	rows := 0
	for name := range a {
		var n int
		if err := source.DB().QueryRowContext(ctx, "SELECT COUNT(*) FROM "+name).Scan(&n); err != nil {
			return err
		}
		rows += n
	}
	if diff := workload.Differences(a, b); len(diff) > 0 {
		for _, d := range diff {
			say("differs: %s", d)
		}
		return fmt.Errorf("%d of %d tables differ", len(diff), len(a))
	}
	say("compared CHECKSUM TABLE of %d tables with %d rows on both servers: all equal", len(a), rows)
	return nil
}
