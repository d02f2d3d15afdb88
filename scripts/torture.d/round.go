package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"sync"
	"time"

	"hb/scripts/torture.d/load"
	"hb/scripts/torture.d/load/kinds"
	"hb/scripts/torture.d/load/rows"
	"hb/source/mysqld/mysqldtest"
)

// round is one plan as it is carried out.
type round struct {
	*plan
	hb        programs
	templates *templates
	dir       string // for all files of the round

	source  *mysqldtest.Server
	running []*mysqldtest.Server // to be ended
	loads   []load.Load
	victim  *rows.Victim
	hurt    *fault
	told    string // by hb backup
	ran     int    // commands, for the names of their logs
	looked  bool   // whether a server starts on a half-applied directory
	mu      sync.Mutex
	notes   []string // what the load and the faults have to say
	lapped  time.Time
	laps    []string // what took how long
}

// run carries the plan out. An error is a finding.
func (r *round) run(ctx context.Context) (out outcome, err error) {
	defer func() {
		err = errors.Join(err, r.end())
		say("   took: %s", strings.Join(r.laps, ", "))
	}()
	r.lapped = time.Now()
	r.hurt = faultNamed(r.fault)
	if err := os.WriteFile(r.passphrase(), []byte("torture\n"), 0o600); err != nil {
		return broken, err
	}
	if err := r.giveKeys(); err != nil {
		return broken, err
	}
	if err := r.startServer(ctx); err != nil {
		return broken, &ownError{"start the server", err}
	}
	r.lap("server")
	if err := r.prepareLoads(ctx); err != nil {
		return broken, &ownError{"prepare the load", err}
	}
	r.lap("tables")
	var b *backup
	err = r.underLoad(ctx, func(ctx context.Context) error {
		var err error
		b, err = r.backUp(ctx)
		return err
	})
	r.lap("backup")
	if err != nil {
		return broken, err
	}
	r.told = b.stderr
	if b.code != 0 {
		return refused, r.judgeFailure(ctx, b)
	}
	if r.hurt.mustFail {
		return broken, fmt.Errorf("hb backup ended with 0, with the fault %q", r.fault)
	}
	if r.chain > 0 {
		if err := r.mergeChain(ctx); err != nil {
			return broken, err
		}
		r.lap("merge")
	}
	if err := r.verify(ctx); err != nil {
		return broken, err
	}
	r.lap("verify")
	copies, err := r.restore(ctx)
	r.lap("restore")
	if err == nil {
		err = r.judge(ctx, copies)
		r.lap("judge")
	}
	if err != nil {
		return broken, err
	}
	return restored, nil
}

// end ends all servers.
func (r *round) end() error {
	var errs []error
	for _, s := range r.running {
		errs = append(errs, s.Kill())
	}
	return errors.Join(errs...)
}

// lap notes what the time since the lap before was spent on.
func (r *round) lap(on string) {
	r.laps = append(r.laps, fmt.Sprintf("%s %.1fs", on, time.Since(r.lapped).Seconds()))
	r.lapped = time.Now()
}

// note keeps a line for the evidence.
func (r *round) note(format string, args ...any) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.notes = append(r.notes, time.Now().Format("15:04:05.000 ")+fmt.Sprintf(format, args...))
}

func (r *round) prepareLoads(ctx context.Context) error {
	known := &load.Round{Server: r.server, Ways: r.ways, Datadir: r.source.Datadir, Outside: r.outside(), NoBinlog: r.has("no binary log"), Note: r.note}
	for i, name := range r.plan.loads {
		l := kinds.All[slices.IndexFunc(kinds.All, func(k kinds.Kind) bool { return k.Name == name })].Make(known, r.loadSeed+uint64(i))
		if err := l.Prepare(ctx, r.source.DB()); err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
		r.loads = append(r.loads, l)
		if v, ok := l.(*rows.Victim); ok {
			r.victim = v
		}
	}
	if r.at[4] < 0.75 {
		r.settle(ctx) // else the redo log has all that there is
	}
	return nil
}

// underLoad runs f while all loads run, some time after they began. What ends a
// load is a finding, but where the fault takes the server or its files away.
func (r *round) underLoad(ctx context.Context, f func(context.Context) error) error {
	loading, stop := context.WithCancel(ctx)
	defer stop()
	var wg sync.WaitGroup
	errs := make([]error, len(r.loads))
	for i, l := range r.loads {
		wg.Go(func() {
			if err := l.Run(loading, r.source.DB()); err != nil {
				errs[i] = fmt.Errorf("load %s: %w", r.plan.loads[i], err)
				r.note("%v", errs[i])
			}
		})
	}
	load.Sleep(ctx, r.writeFor)
	if err := r.beginChain(ctx); err != nil {
		return err
	}
	if r.when == "idle" {
		stop()
		wg.Wait()
		r.settle(ctx)
	}
	for _, l := range r.loads {
		l.Began()
	}
	err := f(ctx)
	for _, l := range r.loads {
		l.Ended()
	}
	load.Sleep(ctx, r.writeFor/3)
	stop()
	wg.Wait()
	if loads := errors.Join(errs...); err == nil && loads != nil && !r.hurt.harmsServer && !r.endedByCut() {
		return &ownError{"write", loads}
	}
	return err
}

// endedByCut reports whether the server ended itself because it read what the fault had cut
// off a file (seen when 9.7.4 purges).
func (r *round) endedByCut() bool {
	log, err := r.source.ErrorLog()
	return err == nil && strings.HasPrefix(r.fault, "file cut") && strings.Contains(log, "Tried to read ") && strings.Contains(log, "Cannot continue operation")
}

// settle has the server write all pages, and then a checkpoint.
func (r *round) settle(ctx context.Context) {
	before, err := load.Table(ctx, r.source.DB(), "SELECT @@global.innodb_max_dirty_pages_pct")
	if err == nil {
		err = load.ExecAll(ctx, r.source.DB(), "SET GLOBAL innodb_max_dirty_pages_pct = 0", "FLUSH TABLES")
	}
	load.Sleep(ctx, 2500*time.Millisecond)
	if err == nil {
		err = load.ExecAll(ctx, r.source.DB(), "SET GLOBAL innodb_max_dirty_pages_pct = "+before[0][0])
	}
	if err != nil {
		r.note("%v", err)
	}
}

// ownError is a failure of the torture itself, or of the server: it says nothing
// about hb, but is a finding until somebody has looked.
type ownError struct {
	doing string
	err   error
}

func (e *ownError) Error() string { return e.doing + ": " + e.err.Error() }

func (e *ownError) Unwrap() error { return e.err }
