package main

import (
	"context"
	"errors"
	"fmt"
	"strings"
)

// idleSessions is how many sessions wait for the next statement.
const idleSessions = 2

// setGlobals gives the server the global settings of the plan, for sessions that
// begin from now on, and returns what takes them back. The loads have their
// sessions.
func (r *round) setGlobals(ctx context.Context) (restore func() error, err error) {
	var before []string
	for _, s := range r.settings {
		if s == nil {
			continue
		}
		for _, set := range s.globals {
			name, _, _ := strings.Cut(set, "=")
			old, err := table(ctx, r.source.DB(), "SELECT @@global."+name)
			if err != nil {
				return nil, err
			}
			before = append(before, fmt.Sprintf("SET GLOBAL %s='%s'", name, old[0][0]))
			if strings.Trim(old[0][0], "0123456789.") == "" {
				before[len(before)-1] = fmt.Sprintf("SET GLOBAL %s=%s", name, old[0][0])
			}
		}
	}
	if len(before) == 0 {
		return func() error { return nil }, nil
	}
	c, err := r.source.DB().Conn(ctx) // a session of its own: it is not cut off by what it sets
	if err != nil {
		return nil, err
	}
	restore = func() error {
		var errs []error
		for _, q := range before {
			_, err := c.ExecContext(context.WithoutCancel(ctx), q)
			errs = append(errs, err)
		}
		err := errors.Join(append(errs, c.Close())...)
		// Sessions that began meanwhile have these settings: oracles must not get them.
		r.source.DB().SetMaxIdleConns(0)
		r.source.DB().SetMaxIdleConns(idleSessions)
		if err == nil || r.hurt.harmsServer {
			return nil
		}
		return &ownError{"take global settings back", err}
	}
	for _, s := range r.settings {
		if s == nil {
			continue
		}
		for _, set := range s.globals {
			if _, err := c.ExecContext(ctx, "SET GLOBAL "+set); err != nil {
				return nil, errors.Join(fmt.Errorf("SET GLOBAL %s: %w", set, err), restore())
			}
		}
	}
	return restore, nil
}
