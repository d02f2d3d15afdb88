package sourcecmd

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"runtime"
	"time"

	"hb/source"
	"hb/source/check"
	"hb/source/mysqld/login"
	"hb/source/settings"
	"hb/stream/program"
)

// Check is hb check.
type Check struct {
	source.Flags
	RateInterval time.Duration `help:"How long to measure the redo write rate (default 5)." default:"5" placeholder:"SECONDS"`
	Grants       bool          `help:"Print only the GRANT statements that the account still needs, for the server's client to run."`
}

// Subject is nothing, as Backup's.
func (c *Check) Subject() []slog.Attr { return nil }

// Run makes the checks, or prints the missing grants.
func (c *Check) Run(ctx context.Context, p *program.Program, s *settings.Settings) error {
	if err := source.CheckSystem(runtime.GOOS); err != nil {
		return err
	}
	if c.Grants {
		return c.printGrants(ctx, p, s.Env)
	}
	var written error
	err := check.Run(ctx, &c.Flags, s.Env, c.RateInterval, func(f check.Finding) {
		if f.Err != nil {
			f.Facts = append(f.Facts, slog.Int("exit_code", p.ExitCode(f.Err)))
		}
		written = p.Find(f.Level(), f.Check, f.Text, f.Facts...)
	})
	return cmp.Or(written, err)
}

// printGrants prints statements and nothing else: they are meant to be run.
func (c *Check) printGrants(ctx context.Context, p *program.Program, env login.Env) (err error) {
	if c.Keys, err = c.Encryption.Load(); err != nil {
		return err
	}
	srv, err := c.Connect(ctx, env, p.Warn)
	if err != nil {
		return err
	}
	grants, err := check.MissingGrants(ctx, srv, c.Options)
	if err := errors.Join(err, srv.Close()); err != nil {
		return err
	}
	for _, statement := range grants {
		if _, err := fmt.Fprintln(p.Stdout, statement); err != nil {
			return err
		}
	}
	return nil
}
