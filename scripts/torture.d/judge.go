package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"hb/scripts/torture.d/load"
	"hb/scripts/torture.d/load/ddl"
	"hb/scripts/torture.d/load/rows"
	"hb/scripts/torture.d/oracle"
	"hb/source/mysqld/mysqldtest"
	"hb/source/mysqld/mysqldtest/workload"
	"hb/xbstream/metadata"
)

// judge asks every oracle about the copies. None of them asks hb.
func (r *round) judge(ctx context.Context, copies []copied) error {
	var exact []oracle.Copy
	for _, c := range copies {
		if c.exact {
			exact = append(exact, oracle.Copy{Way: c.way, Dir: c.dir})
		}
	}
	if err := errors.Join(oracle.SamePages(exact), r.hurtDirectories(ctx, copies)); err != nil {
		return err
	}
	var first map[string]string
	for i, c := range copies {
		sums, err := r.judgeCopy(ctx, i, c)
		if err != nil {
			return fmt.Errorf("the copy restored by %s: %w", c.way, err)
		}
		if i == 0 {
			first = sums
		} else if diff := workload.Differences(first, sums); len(diff) > 0 {
			return fmt.Errorf("the copies restored by %s and by %s differ in %v", copies[0].way, c.way, diff)
		}
	}
	if r.last == "in place" {
		return r.inPlace(ctx)
	}
	return nil
}

// judgeCopy starts a server on a copy and looks at everything. The first copy
// then becomes a replica by GTID, the second one by file and position, and the
// last is started once more.
func (r *round) judgeCopy(ctx context.Context, i int, c copied) (sums map[string]string, err error) {
	if err := r.putBack(c); err != nil {
		return nil, &ownError{"put tables outside", err}
	}
	s, err := r.launchRestored(ctx, c.dir, c.way)
	if err != nil {
		return nil, err
	}
	r.lap("start")
	defer func() { err = errors.Join(err, s.Kill()) }()
	if err := r.judgeServer(ctx, s, c); err != nil {
		return nil, err
	}
	r.lap("check")
	if sums, err = workload.Checksums(ctx, s.DB()); err != nil {
		return nil, err
	}
	if i < 2 && !r.has("no binary log") && r.hurt.harmless {
		if err := r.follow(ctx, s, c, i == 0); err != nil {
			return nil, err
		}
		r.lap("follow")
	}
	if i > 0 || r.brief {
		return sums, nil
	}
	return sums, r.startAgain(ctx, s, c)
}

// putBack moves what lay outside the data directory of a 5.6 outside again, as
// docs/restore.md wants it: the replica truncates and renames these tables.
func (r *round) putBack(c copied) error {
	if r.server != mysqldtest.MySQL56 || !slices.Contains(r.plan.loads, "elsewhere") {
		return nil
	}
	external, err := metadata.ReadExternal(os.DirFS(c.dir))
	if err != nil {
		return load.IgnoreGone(err)
	}
	for _, s := range external.Spaces {
		to := filepath.Join(r.dir, "put back of "+c.way, s.Name+".ibd")
		if err := os.MkdirAll(filepath.Dir(to), 0o755); err != nil {
			return err
		}
		if err := os.Rename(filepath.Join(c.dir, s.Name+".ibd"), to); err != nil {
			return err
		}
		if err := os.WriteFile(filepath.Join(c.dir, s.Name+".isl"), []byte(to), 0o644); err != nil {
			return err
		}
	}
	return nil
}

func (r *round) judgeServer(ctx context.Context, s *mysqldtest.Server, c copied) error {
	err := r.judgeTables(ctx, s)
	if !r.has("no binary log") {
		err = errors.Join(err, oracle.CountCommits(ctx, r.source, s, c.dir, rows.CommitTable))
	}
	return err
}

// judgeTables looks at what a server has, and at what it said when it started.
func (r *round) judgeTables(ctx context.Context, s *mysqldtest.Server) error {
	errs := []error{r.cleanLog(s, 0)} // before Tidy: 9.7 logs an error for each question about a table that was left out
	for _, l := range r.loads {
		if t, ok := l.(load.Tidier); ok {
			errs = append(errs, t.Tidy(ctx, s.DB()))
		}
	}
	errs = append(errs, workload.CheckTables(ctx, s.DB()))
	for i, l := range r.loads {
		if err := l.Check(ctx, s.DB()); err != nil {
			errs = append(errs, fmt.Errorf("load %s: %w", r.plan.loads[i], err))
		}
	}
	return errors.Join(errs...)
}

// startAgain stops the server and starts it once more.
func (r *round) startAgain(ctx context.Context, s *mysqldtest.Server, c copied) error {
	if err := s.Stop(); err != nil {
		return err
	}
	log, err := s.ErrorLog()
	if err != nil {
		return err
	}
	again, err := r.launchRestored(ctx, c.dir, c.way)
	if err != nil {
		return fmt.Errorf("start for the second time: %w", err)
	}
	return errors.Join(r.cleanLog(again, len(log)), again.Kill())
}

// harmless are errors in a server's log that say nothing about its files.
var harmless = []string{
	"Could not create unix socket lock file", "skip-name-resolve", "Failed to set up SSL", "unauthenticated user",
	"is running without the --skip-slave-start", "Slave SQL", "Replica SQL", "Slave I/O", "Replica I/O",
	"Got an error reading communication packets", "Could not find mysql.ibd",
	"Crash recovery is broken due to insufficient innodb_log_file_size", // the server replays more redo than its log holds
	"Got error 194 when reading table './hb_t_imp/target'",              // MariaDB: it may be discarded
	"Got error 155 when reading table './hb_t_imp/target'",              // MySQL
}

// oldPaths is what MariaDB 10.5 and MySQL 5.7 log at their first start, and only then,
// of tables that lay outside the data directory.
var oldPaths = []string{
	"Operating system error number 2 in a file operation", "The error means the system cannot find the path specified",
	"remember that you must create directories yourself", "Cannot open datafile for read-only",
}

// cleanLog demands that a server has logged no error since it began at an offset, 0
// for its first start.
func (r *round) cleanLog(s *mysqldtest.Server, from int) error {
	known := harmless
	if from == 0 && slices.Contains(r.plan.loads, "elsewhere") && slices.Contains([]string{mysqldtest.MariaDB105, mysqldtest.MySQL57}, r.server) {
		known = slices.Concat(harmless, oldPaths)
	}
	log, err := s.ErrorLog()
	if err != nil {
		return err
	}
	var bad []string
	for line := range strings.Lines(log[min(from, len(log)):]) {
		if (strings.Contains(line, "[ERROR]") || strings.Contains(line, "became fixed")) && !slices.ContainsFunc(known, func(h string) bool { return strings.Contains(line, h) }) {
			bad = append(bad, strings.TrimSpace(line))
		}
	}
	if len(bad) > 0 {
		return fmt.Errorf("the error log of the server has: %s", strings.Join(bad, "\n"))
	}
	return nil
}

// follow makes a copy a replica of the source from the recorded position, lets it
// catch up, and compares all tables.
func (r *round) follow(ctx context.Context, s *mysqldtest.Server, c copied, byGTID bool) error {
	at, err := mysqldtest.RecordedPosition(c.dir)
	if err != nil {
		return err
	}
	if byGTID && at.GTID == "" {
		byGTID = false
	}
	how := "GTID " + at.GTID
	if !byGTID {
		at.GTID, how = "", fmt.Sprintf("%s %d", at.File, at.Pos)
	}
	if r.server == mysqldtest.MySQL56 {
		if err := rollBackPrepared(ctx, s); err != nil {
			return err
		}
	}
	if err := s.ReplicateFrom(ctx, r.source, at); err != nil {
		return err
	}
	if err := s.WaitFor(ctx, r.source, 3*time.Minute); err != nil {
		return fmt.Errorf("as a replica from %s: %w", how, err)
	}
	source, err := workload.Checksums(ctx, r.source.DB())
	if err != nil {
		return err
	}
	mine, err := workload.Checksums(ctx, s.DB())
	if err != nil {
		return err
	}
	for _, name := range ddl.NotReplicated {
		name = strings.ReplaceAll("`"+name+"`", ".", "`.`")
		delete(source, name)
		delete(mine, name)
	}
	if diff := workload.Differences(source, mine); len(diff) > 0 {
		return fmt.Errorf("as a replica from %s it has caught up, and differs: %v", how, diff)
	}
	return nil
}

// rollBackPrepared rolls back prepared XA transactions: 5.6 writes them to its
// binary log only when they are committed, as if they were any other.
func rollBackPrepared(ctx context.Context, s *mysqldtest.Server) error {
	names, err := load.Table(ctx, s.DB(), "XA RECOVER")
	if err != nil {
		return err
	}
	for _, n := range names {
		if err := load.ExecAll(ctx, s.DB(), "XA ROLLBACK '"+n[3]+"'"); err != nil {
			return err
		}
	}
	return nil
}

// inPlace ends the source, and restores the archive to where its data directory
// was. What the source had elsewhere is still there.
func (r *round) inPlace(ctx context.Context) error {
	if err := r.source.Kill(); err != nil {
		return err
	}
	datadir := r.source.Datadir
	if err := os.Rename(datadir, datadir+".before"); err != nil {
		return err
	}
	args := append([]string{"extract", "--no-defaults", "--apply", "--in-place"}, r.placing()...)
	if err := r.must(ctx, append(args, "-C", datadir, r.identity(), r.archive())...); err != nil {
		return fmt.Errorf("restore in place: %w", err)
	}
	o, err := r.restoredOptions("in place")
	if err != nil {
		return err
	}
	o.Within = nil
	if r.server == mysqldtest.MySQL97 {
		o.Config = append(o.Config, "innodb-directories="+r.outside())
	}
	s, err := mysqldtest.LaunchOn(ctx, r.source.Root, datadir, o)
	if err != nil {
		return fmt.Errorf("the copy in place: %w", err)
	}
	if err := r.judgeTables(ctx, s); err != nil {
		return errors.Join(fmt.Errorf("the copy in place: %w", err), s.Kill())
	}
	return errors.Join(r.usesOwn(datadir, s.PID()), s.Kill())
}

// usesOwn demands that a server has no tablespace open outside its directory.
func (r *round) usesOwn(datadir string, pid int) error {
	fds, err := filepath.Glob(fmt.Sprintf("/proc/%d/fd/*", pid))
	if err != nil {
		return err
	}
	for _, fd := range fds {
		to, err := os.Readlink(fd)
		if err == nil && oracle.IsPages(to) && strings.HasPrefix(to, r.outside()+"/") {
			return fmt.Errorf("the copy in place uses %s, which is the old server's, and not in %s", to, datadir)
		}
	}
	return nil
}
