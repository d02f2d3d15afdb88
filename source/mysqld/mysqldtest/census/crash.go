package census

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"hb/source/mysqld/mysqldtest"
)

// CrashOptions say how a crash image is made.
type CrashOptions struct {
	Options
	PageSize int      // innodb_page_size in bytes; 0: the server's default
	Init     []string // lines for [mysqld] from initialisation on
	Config   []string // and those for the running server, which win
	// Ages has pages written between the phases, so that the image has pages of
	// many ages; otherwise hardly any page is newer than the base.
	Ages bool
}

// behind keeps pages in memory: a pool that holds them all, redo that holds
// everything, and no reason to write any.
func behind(root *mysqldtest.Root) []string {
	lines := []string{
		"innodb-buffer-pool-size=384M", "innodb-max-dirty-pages-pct=99", "innodb-adaptive-flushing=OFF",
		"innodb-io-capacity=100", "innodb-lru-scan-depth=100", "innodb-flush-neighbors=0",
		"innodb-flush-log-at-trx-commit=2", "event-scheduler=OFF",
	}
	switch {
	case root.AtLeast(8, 0):
		lines = append(lines, "innodb-redo-log-capacity=512M", "innodb-idle-flush-pct=0", "innodb-max-dirty-pages-pct-lwm=0")
	default:
		lines = append(lines, "innodb-log-file-size=256M")
	}
	return lines
}

// Server returns how the servers of an image are started; dir is for their files.
func (o *CrashOptions) Server(root *mysqldtest.Root, dir string) mysqldtest.Options {
	lines := behind(root)
	if !root.AtLeast(8, 0) && root.AtLeast(5, 7) {
		lines = append(lines, "innodb-purge-rseg-truncate-frequency=1")
	}
	return mysqldtest.Options{Dir: dir, PageSize: o.PageSize, Init: o.Init, Config: append(lines, o.Config...)}
}

// Crash makes a crash image below dir and returns its data directory: a server
// runs the census on files that a clean stop left, and is killed with a
// transaction open and another prepared.
func Crash(t testing.TB, root *mysqldtest.Root, dir string, o CrashOptions) string {
	t.Helper()
	s := prepared(t, root, dir, &o)
	run := o.Options
	if o.Ages {
		run.Flush = func(ctx context.Context) error { return flushSome(ctx, s) }
	}
	if err := errors.Join(Run(t.Context(), s, run), leaveOpen(t.Context(), s, run)); err != nil {
		t.Fatal(err)
	}
	if err := s.Kill(); err != nil {
		t.Fatal(err)
	}
	return s.Datadir
}

// prepared starts a server on files that were prepared for the census.
func prepared(t testing.TB, root *mysqldtest.Root, dir string, o *CrashOptions) *mysqldtest.Server {
	t.Helper()
	s := mysqldtest.Start(t, root, o.Server(root, dir))
	if err := Prepare(t.Context(), s, o.Options); err != nil {
		t.Fatal(err)
	}
	if err := s.Stop(); err != nil {
		t.Fatal(err)
	}
	return mysqldtest.StartOn(t, root, s.Datadir, o.Server(root, dir))
}

// Frozen makes crash images of one run, at moments about every so long, below
// dir, and returns their data directories: the server is stopped with SIGSTOP
// and its files are copied. In between statements and purge go on, so that it is
// anywhere in them.
func Frozen(t testing.TB, root *mysqldtest.Root, dir string, every time.Duration, o CrashOptions) (images []string) {
	t.Helper()
	s := prepared(t, root, filepath.Join(dir, "server"), &o)
	done := make(chan error, 1)
	go func() { done <- Run(t.Context(), s, o.Options) }()
	random := rand.New(rand.NewPCG(1, 2))
	for {
		select {
		case err := <-done:
			if err := errors.Join(err, s.Kill()); err != nil {
				t.Fatal(err)
			}
			return images
		case <-time.After(every/2 + time.Duration(random.Int64N(int64(every)))):
		}
		data := filepath.Join(dir, fmt.Sprintf("frozen%d", len(images)))
		if err := freeze(s, data); err != nil {
			t.Fatal(err)
		}
		images = append(images, data)
	}
}

// freeze copies a server's data directory while it stands still.
func freeze(s *mysqldtest.Server, data string) error {
	if err := s.Freeze(); err != nil {
		return err
	}
	time.Sleep(20 * time.Millisecond) // writes that the kernel has under way
	return errors.Join(mysqldtest.CopyTree(data, s.Datadir), s.Thaw())
}

// flushSome lets the server write pages for a moment: those that have been
// dirty for longest.
func flushSome(ctx context.Context, s *mysqldtest.Server) error {
	for _, q := range []string{"SET GLOBAL innodb_max_dirty_pages_pct=1", "SET GLOBAL innodb_max_dirty_pages_pct=99"} {
		if _, err := s.DB().ExecContext(ctx, q); err != nil {
			return fmt.Errorf("census: %s: %w", q, err)
		}
		time.Sleep(400 * time.Millisecond)
	}
	return nil
}

// leaveOpen leaves one transaction open and another prepared, in sessions that
// end with the server.
func leaveOpen(ctx context.Context, s *mysqldtest.Server, o Options) error {
	for _, how := range [][2]string{{"BEGIN", ""}, {"XA START 'census'", "XA END 'census'; XA PREPARE 'census'"}} {
		c, err := begin(ctx, s, o)
		if err != nil {
			return err
		}
		id := "n + 80000000"
		if how[1] != "" {
			id = "n + 90000000"
		}
		q := []string{"USE " + DB, "SET SESSION TRANSACTION ISOLATION LEVEL READ COMMITTED", how[0]}
		for _, t := range c.tables() {
			q = append(q, c.insert(t, id), fmt.Sprintf("UPDATE %s SET w = 'open' WHERE id BETWEEN %s AND 100000000", t.full(), id[4:]))
		}
		if how[1] != "" {
			q = append(q, "XA END 'census'", "XA PREPARE 'census'")
		}
		if err := c.exec(q...); err != nil {
			return err
		}
	}
	return nil
}

// Recover has a server recover a data directory that a crash left, and stops it
// as soon as it has: with innodb_force_recovery=3, under which it neither rolls
// back nor purges. What it changes nonetheless, it logs.
func Recover(t testing.TB, root *mysqldtest.Root, data string, o CrashOptions) {
	t.Helper()
	dir := t.TempDir()
	so := o.Server(root, dir)
	so.Config = slices.DeleteFunc(so.Config, func(l string) bool { return strings.HasPrefix(l, "innodb-idle-flush-pct") })
	so.Config = append(so.Config, "innodb-force-recovery=3", "innodb-fast-shutdown=1", "innodb-change-buffering=none")
	s := mysqldtest.StartOn(t, root, data, so)
	s.Exec(t, "SET GLOBAL innodb_max_dirty_pages_pct=0", "SET GLOBAL innodb_io_capacity_max=20000", "SET GLOBAL innodb_io_capacity=20000")
	for end := time.Now().Add(waitFor); ; time.Sleep(20 * time.Millisecond) {
		if s.Rows(t, "SHOW GLOBAL STATUS LIKE 'Innodb_buffer_pool_pages_dirty'")[0][1] == "0" {
			break
		}
		if time.Now().After(end) {
			t.Fatalf("%s still has dirty pages after %v", root.Name, waitFor)
		}
	}
	if err := s.Kill(); err != nil {
		t.Fatal(err)
	}
}
