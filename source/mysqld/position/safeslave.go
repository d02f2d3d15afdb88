package position

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"sync"
	"time"

	"hb/source/mysqld"
)

// A PausedReplica is a replica whose applier threads hb has stopped.
type PausedReplica struct {
	srv *mysqld.Server

	mu      sync.Mutex
	stopped []string // names of the channels to start again
}

// An OpenTempTablesError says that a replica's temporary tables stayed open.
type OpenTempTablesError struct {
	Tables int
	After  time.Duration
}

func (e *OpenTempTablesError) Error() string {
	return fmt.Sprintf("%d temporary tables of replication have been open for %v: with --safe-slave-backup a backup waits until all are closed", e.Tables, e.After.Round(time.Second))
}

// safeSlavePause is for how long the threads run between two tries, as with
// XtraBackup.
const safeSlavePause = 3 * time.Second

// PauseReplica stops the applier (SQL) threads that run and waits, at most
// timeout, until no temporary table of replication is open: such tables are in
// no backup, and statements that follow would miss them. While they are open the
// threads run again between tries; the error after timeout is an
// *OpenTempTablesError. It returns nil, whose methods do nothing, if the server is
// no replica. Resume starts what ran; Server.Close does it too.
// (--safe-slave-backup, --safe-slave-backup-timeout)
func PauseReplica(ctx context.Context, srv *mysqld.Server, timeout time.Duration) (*PausedReplica, error) {
	state, err := ReadReplica(ctx, srv)
	if err != nil || len(state.Sources) == 0 {
		return nil, err
	}
	p := &PausedReplica{srv: srv}
	srv.OnClose(p)
	var running []string
	for _, src := range state.Sources {
		if src.Applying {
			running = append(running, src.Name)
		}
	}
	if err := p.quiesce(ctx, running, timeout); err != nil {
		return nil, errors.Join(err, p.Close())
	}
	return p, nil
}

func (p *PausedReplica) quiesce(ctx context.Context, running []string, timeout time.Duration) error {
	for began := time.Now(); ; {
		for _, name := range running {
			if err := p.stop(ctx, name); err != nil {
				return err
			}
		}
		n, err := openTempTables(ctx, p.srv)
		if err != nil || n == 0 {
			return err
		}
		after := time.Since(began)
		if after >= timeout {
			return &OpenTempTablesError{Tables: n, After: after}
		}
		if err := p.Resume(ctx); err != nil {
			return err
		}
		if err := mysqld.Pause(ctx, min(safeSlavePause, timeout-after)); err != nil {
			return err
		}
	}
}

// stop stops one channel's thread. It is noted first: starting one that was not
// stopped does nothing.
func (p *PausedReplica) stop(ctx context.Context, name string) error {
	p.mu.Lock()
	p.stopped = append(p.stopped, name)
	p.mu.Unlock()
	return p.srv.Control.Exec(ctx, wordsOf(p.srv).applier("STOP", name))
}

func openTempTables(ctx context.Context, srv *mysqld.Server) (int, error) {
	name := wordsOf(srv).openTempTables
	status, err := srv.Status(ctx, name)
	if err != nil {
		return 0, err
	}
	n, err := strconv.Atoi(status[name])
	if err != nil {
		return 0, fmt.Errorf("the server's status variable %s is %q, not a number", name, status[name])
	}
	return n, nil
}

// Resume starts the threads that ran before. A second call does nothing.
func (p *PausedReplica) Resume(ctx context.Context) error {
	if p == nil {
		return nil
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	var errs []error
	for len(p.stopped) > 0 {
		name := p.stopped[0]
		p.stopped = p.stopped[1:]
		errs = append(errs, p.srv.Control.Exec(ctx, wordsOf(p.srv).applier("START", name)))
	}
	return errors.Join(errs...)
}

// Close is Resume for every other way out.
func (p *PausedReplica) Close() error {
	ctx, cancel := context.WithTimeout(context.Background(), mysqld.ReleaseTimeout)
	defer cancel()
	return p.Resume(ctx)
}
