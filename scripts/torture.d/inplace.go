package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"hb/scripts/torture.d/oracle"
	"hb/source/mysqld/mysqldtest"
)

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
	o := r.restoredOptions("in place")
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

// placing are the options that say where the restored server has its binary log, if
// the source had it elsewhere.
func (r *round) placing() []string {
	if !r.has("binary log elsewhere") {
		return nil
	}
	return []string{"--log-bin=binlog"}
}
