// Package sourcecmd has the commands that work on a server: backup and check. Their
// options are those of package source.
package sourcecmd

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"runtime"

	"hb/source"
	"hb/source/check"
	"hb/source/infofile"
	"hb/source/mysqld"
	"hb/source/mysqld/login"
	"hb/source/settings"
	"hb/stream"
	"hb/stream/program"
	"hb/stream/progress"
)

// Backup is hb backup.
type Backup struct{ source.Flags }

// Subject is nothing yet: hb does not know the server before it is connected.
func (c *Backup) Subject() []slog.Attr { return nil }

// Run makes the backup, or the estimate.
func (c *Backup) Run(ctx context.Context, p *program.Program, s *settings.Settings) error {
	if err := source.CheckSystem(runtime.GOOS); err != nil {
		return err
	}
	if c.Estimate {
		return c.estimate(ctx, p, s.Env)
	}
	info, err := infofile.Create(c.InfoFile, p.Stdout, p.Line, p.Version)
	if err != nil {
		return err
	}
	err = c.run(ctx, p, s.Env, info)
	why, code := p.Explain(ctx, err)
	return info.End(err, code, why)
}

func (c *Backup) run(ctx context.Context, p *program.Program, env login.Env, info *infofile.File) error {
	if err := p.CheckOutput(); err != nil {
		return err
	}
	stages, err := c.Prepare()
	if err != nil {
		return err
	}
	c.Tool, c.ToolVersion, c.Command = "hb", p.Version, p.Line
	c.Progress, c.Warn = new(progress.Tracker), func(text string) { p.Warn(text); info.Warn(text) }
	manifest, err := infofile.CreateManifest(c.ManifestOut, p.Stdout)
	if err != nil {
		return err
	}
	if manifest != nil {
		c.Manifest = manifest
	}
	srv, err := c.Connect(ctx, env, c.Warn)
	if err != nil {
		return manifest.End(err)
	}
	info.Note(func(i *infofile.Info) { i.Server, i.Options = srv.String(), c.Stored })
	return errors.Join(c.backup(ctx, p, srv, stages, info, manifest), srv.Close())
}

func (c *Backup) backup(ctx context.Context, p *program.Program, srv *mysqld.Server, stages stream.WriteOptions, info *infofile.File, manifest *infofile.Manifest) error {
	var result *source.Result
	sent, err := p.Send(ctx, stages, c.Progress, func(out io.Writer) (err error) {
		result, err = source.Run(ctx, srv, out, c.Options)
		return err
	})
	if result != nil { // it began
		info.Note(func(i *infofile.Info) {
			if i.Bytes, i.Locks = sent, result.Locks; err != nil {
				i.Phase = c.Progress.State().Name
			} else {
				i.ArchiveBytes, i.Manifest = result.Bytes, &result.Manifest
			}
		})
	}
	if err := manifest.End(err); err != nil {
		return err
	}
	p.Done(result.Describe(sent, p.Took()), append(result.Facts(), slog.Int64("bytes", sent))...)
	return nil
}

// estimate reports how large the archive would become. Standard output gets one
// number, for a shell's $(...).
func (c *Backup) estimate(ctx context.Context, p *program.Program, env login.Env) error {
	stages, err := c.Prepare()
	if err != nil {
		return err
	}
	srv, err := c.Connect(ctx, env, p.Warn)
	if err != nil {
		return err
	}
	e, err := check.EstimateSize(ctx, srv, c.Options, stages)
	if err := errors.Join(err, srv.Close()); err != nil {
		return err
	}
	p.Done(e.Describe(), e.Facts()...)
	_, err = fmt.Fprintln(p.Stdout, e.Expected())
	return err
}
