package sinkcmd

import (
	"context"
	"errors"
	"fmt"
	"log/slog"

	"filippo.io/age"

	"hb/sink/apply"
	"hb/sink/export"
	"hb/sink/export/committed"
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
	Export    bool   `help:"Then write beside each tablespace of a table a .cfg file, and a .cfp file with its key if MySQL encrypted it: ALTER TABLE ... IMPORT TABLESPACE takes the three."`
	apply.Options
	committed.Server `embed:""`
	Encryption       keyring.Flags `embed:"" group:"Encryption at rest"`
	Identity         []string      `short:"i" group:"Encryption at rest" help:"Open the keys that the backup has with the age identity or SSH key in this file. May be repeated." placeholder:"FILE" type:"path" sep:"none"`
}

// Subject is the directory.
func (c *Apply) Subject() []slog.Attr { return []slog.Attr{slog.String("directory", c.Directory)} }

// Run recovers the directory.
func (c *Apply) Run(ctx context.Context, p *program.Program) error {
	c.Tool, c.Progress = p.Tool, new(progress.Tracker)
	c.Identities = func() ([]age.Identity, error) { return stream.ReadIdentities(c.Identity, p.Ask) }
	if err := c.check(); err != nil {
		return err
	}
	var err error
	if c.Keys, err = c.Encryption.Load(); err != nil {
		return err
	}
	if c.Keys == nil && c.Export {
		c.Keys = new(keyring.Keys) // which the backup may have itself
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
	if !c.Export {
		p.Done(result.Describe(c.Directory, p.Took()), result.Facts()...)
		return nil
	}
	described, err := c.describe(ctx, p)
	if err != nil {
		return err
	}
	p.Done(fmt.Sprintf("%s\nservers can import %d of its tables, which have %d .cfg and .cfp files now", result.Describe(c.Directory, p.Took()), described.Tables, described.Files),
		append(result.Facts(), slog.Int("described_tables", described.Tables))...)
	if described.Lacking != nil {
		return described.Lacking
	}
	return nil
}

// check finds mistakes in the options.
func (c *Apply) check() error {
	switch {
	case c.Export && c.ByServer:
		return stream.AsUsage(errors.New("--export needs the pages as they are after recovery, and with --by-server hb does not recover them"))
	case c.Export && c.NewMasterKey:
		return stream.AsUsage(errors.New("--export and --new-master-key do not go together: run hb apply --new-master-key first, and then hb apply --export with the new keyring"))
	case !c.Export && (c.Program != "" || len(c.Server.Options) > 0 || c.Timeout != 0):
		return stream.AsUsage(errors.New("--server is for --export"))
	}
	return nil
}

// describe writes the files of --export. A table for which something is pending is an error,
// unless a server finishes that.
func (c *Apply) describe(ctx context.Context, p *program.Program) (described *export.Described, err error) {
	var finished *committed.Finished
	p.During(c.Progress, func() {
		c.Progress.Begin("describing tables", 0)
		if c.Program != "" {
			c.Server.Whole = true
			err = c.inDirectory(false, func(d *export.Directory) error {
				tables, err := d.Importable()
				if err != nil {
					return err
				}
				finished, err = d.Finish(ctx, &c.Server, tables...)
				return err
			})
		}
		if err == nil {
			err = c.inDirectory(finished.Served(), func(d *export.Directory) (err error) {
				described, err = d.DescribeAll(ctx)
				return err
			})
		}
	})
	if err != nil {
		return nil, err
	}
	for _, refused := range described.Refused[:min(len(described.Refused), maxRefused)] {
		p.Warn(refused.Error())
	}
	if n := len(described.Refused) - maxRefused; n > 0 {
		p.Warn(fmt.Sprintf("%d more tables cannot be exported", n))
	}
	if described.Pending != nil {
		return nil, described.Pending
	}
	return described, nil
}

// maxRefused is of how many tables hb says that they cannot be exported.
const maxRefused = 20

// inDirectory opens the directory, on which a server may have run, for the time of a call.
func (c *Apply) inDirectory(served bool, f func(*export.Directory) error) error {
	d, err := export.OpenDirectory(c.Directory, export.Options{Keys: c.Keys, Served: served})
	if err != nil {
		return err
	}
	return errors.Join(f(d), d.Close())
}
