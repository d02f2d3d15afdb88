package sinkcmd

import (
	"context"
	"log/slog"

	"filippo.io/age"

	"hb/sink/apply"
	"hb/sink/mergedir"
	"hb/stream"
	"hb/stream/program"
	"hb/stream/progress"
	"hb/xbstream/keyring"
)

// Apply is hb apply.
type Apply struct {
	Directory string `arg:"" help:"Directory of an extracted backup." type:"path"`
	Merge     string `help:"First put the incremental backup of mariadb-backup or XtraBackup in this directory onto the backup, which was applied before." placeholder:"DIR" type:"path"`
	apply.Options
	Encryption keyring.Flags `embed:"" group:"Encryption at rest"`
	Identity   []string      `short:"i" group:"Encryption at rest" help:"Open the keys that the backup has with the age identity or SSH key in this file. May be repeated." placeholder:"FILE" type:"path" sep:"none"`
}

// Subject is the directory.
func (c *Apply) Subject() []slog.Attr { return []slog.Attr{slog.String("directory", c.Directory)} }

// Run recovers the directory.
func (c *Apply) Run(ctx context.Context, p *program.Program) error {
	c.Tool, c.Progress = p.Tool, new(progress.Tracker)
	c.Identities = func() ([]age.Identity, error) { return stream.ReadIdentities(c.Identity, p.Ask) }
	var err error
	if c.Keys, err = c.Encryption.Load(); err != nil {
		return err
	}
	if c.Merge != "" {
		var merged *mergedir.Result
		p.During(c.Progress, func() { merged, err = mergedir.Run(ctx, c.Directory, c.Merge, mergedir.Options{Progress: c.Progress}) })
		if err != nil {
			return err
		}
		p.WarnAll(merged.Warnings)
	}
	var result *apply.Result
	p.During(c.Progress, func() { result, err = apply.Run(ctx, c.Directory, c.Options) })
	if err != nil {
		return err
	}
	p.WarnAll(result.Warnings)
	p.Done(result.Describe(c.Directory, p.Took()), result.Facts()...)
	return nil
}
