package sinkcmd

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"path/filepath"
	"strings"

	"filippo.io/age"

	"hb/sink"
	"hb/sink/apply"
	"hb/sink/extract"
	"hb/sink/merge"
	"hb/sink/restore"
	"hb/sink/tables"
	"hb/stream"
	"hb/stream/disk"
	"hb/stream/program"
	"hb/stream/progress"
	"hb/xbstream/keyring"
)

// Extract is hb extract.
type Extract struct {
	stream.ReadFlags
	merge.Flags
	sink.Options
	Tables     tables.Flags  `embed:""`
	Encryption keyring.Flags `embed:"" group:"Encryption at rest"`
	// Connect connects to the server that tables are to be imported into, and makes sure that its
	// data directory is the one here. It is package main's to give: packages of sink know no way
	// to a server.
	Connect func(ctx context.Context, warn func(text string)) (Target, error) `kong:"-"`
	Tmpdir  string                                                            `help:"Directory for an increment that cannot be read anywhere, such as standard input (default: TMPDIR or /tmp)." placeholder:"DIR" type:"path"`
}

// Subject is the archives and the directory.
func (c *Extract) Subject() []slog.Attr {
	facts := append(c.ReadFlags.Facts(), c.Flags.Facts()...)
	if c.check() != nil {
		return facts // Run reports what is wrong
	}
	return append(facts, slog.String("directory", c.Directory))
}

// check finds mistakes in the options, and fills in the directory.
func (c *Extract) check() error {
	o := c.Options
	if err := c.Tables.Check(&o); err != nil {
		return err
	}
	o.Apply = o.Apply || c.Tables.Any()
	err := o.Check(c.Name())
	c.Directory = o.Directory
	return err
}

// Run extracts the archive, or what a chain makes.
func (c *Extract) Run(ctx context.Context, p *program.Program) error {
	if err := c.check(); err != nil {
		return err
	}
	if c.InPlace && len(c.Increments) == 0 {
		if err := sink.CheckInPlace(ctx, &c.ReadFlags); err != nil {
			return err
		}
	}
	c.Identities = func() ([]age.Identity, error) { return stream.ReadIdentities(c.Identity, p.Ask) }
	var err error
	if c.Keys, err = c.Encryption.Load(); err != nil {
		return err
	}
	in, err := open(ctx, p, "extracting", &c.ReadFlags, len(c.Files) > 0 || c.Tables.Any(), c.Increments, c.Tmpdir)
	if none, ok := errors.AsType[*merge.NoIncrementError](err); ok {
		return stream.AsUsage(fmt.Errorf("%v; to extract chosen files only, use --files %s", none, filepath.Base(none.Name)))
	}
	if err != nil {
		return err
	}
	c.Tool, c.Progress, c.Parts = p.Tool, new(progress.Tracker), in.parts()
	if c.Tables.Any() {
		return c.tables(ctx, p, in)
	}
	var extracted *extract.Result
	var applied *apply.Result
	err = in.read(ctx, p, c.Progress, func(r io.Reader) (err error) {
		extracted, applied, err = sink.Run(ctx, r, c.Options)
		return err
	})
	return c.report(p, extracted, applied, in.BytesRead(), err)
}

// report tells what became of the directory.
func (c *Extract) report(p *program.Program, extracted *extract.Result, applied *apply.Result, read int64, err error) error {
	if extracted == nil || err != nil && !c.Apply {
		return err
	}
	p.WarnAll(extracted.Warnings)
	extracted.Read = read
	text := extracted.Describe(c.Directory, p.Took(), applied != nil)
	if applied == nil {
		p.Done(text, append(extracted.Facts(), slog.Int64("bytes_read", extracted.Read))...)
		return err
	}
	p.Extracted(text, extracted.Facts()...)
	p.WarnAll(applied.Warnings)
	p.Done(applied.Describe(c.Directory, p.Took()), append(extracted.Size(), applied.Facts()...)...)
	return err
}

// tables extracts single tables, and imports them if that is asked for. The server is asked
// first, so that nothing is read in vain if it cannot be reached.
func (c *Extract) tables(ctx context.Context, p *program.Program, in *input) (err error) {
	selected, err := c.selectTables(in)
	if err != nil {
		return errors.Join(err, in.Close())
	}
	as, err := c.Tables.Renamed()
	if err != nil {
		return errors.Join(err, in.Close())
	}
	var target Target
	if c.Tables.Into {
		if target, err = c.Connect(ctx, p.Warn); err != nil {
			return errors.Join(err, in.Close())
		}
		defer func() { err = errors.Join(err, target.Close()) }()
		if err := c.checkTarget(ctx, target, as, selected.Bytes()); err != nil {
			return errors.Join(err, in.Close())
		}
	}
	var result *tables.Result
	err = in.read(ctx, p, c.Progress, func(r io.Reader) (err error) {
		result, err = tables.Extract(ctx, r, selected, tables.Options{Options: c.Options, Server: &c.Tables.Server, As: as})
		return err
	})
	if result == nil {
		return err
	}
	p.WarnAll(result.Warnings())
	result.Extracted.Read = in.BytesRead()
	text := result.Describe(c.Directory, p.Took())
	if !c.Tables.Into {
		p.Done(text, result.Facts()...)
		return err
	}
	p.Extracted(text, result.Extracted.Facts()...)
	return errors.Join(err, c.importTables(ctx, p, target, result))
}

// Target is a server that tables are imported into.
type Target interface {
	Open(ctx context.Context) (restore.Connection, error)
	Close() error
}

// checkTarget makes sure that the server can take the tables that are named, whose files have at
// least that many bytes.
func (c *Extract) checkTarget(ctx context.Context, target Target, as restore.Name, bytes int64) error {
	names, err := tables.ParseNames(c.Tables.Table, nil)
	if err != nil {
		return err
	}
	var wanted []restore.Name
	for _, n := range names {
		wanted = append(wanted, restore.Name(n))
	}
	if as != (restore.Name{}) {
		wanted = []restore.Name{as}
	}
	return restore.Check(ctx, restore.Options{Open: target.Open, Replace: c.Tables.Replace}, c.Directory, wanted, bytes)
}

// importTables brings the tables to the server.
func (c *Extract) importTables(ctx context.Context, p *program.Program, target Target, result *tables.Result) (err error) {
	from, err := disk.OS.OpenDir(c.Directory)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, from.Close()) }()
	var done []string
	var imported *restore.Result
	p.During(c.Progress, func() {
		c.Progress.Begin("importing tables", 0)
		imported, err = restore.Into(ctx, from, result.Sources, restore.Options{
			Open: target.Open, Objects: result.Objects, From: result.From, PageSize: result.PageSize, Replace: c.Tables.Replace, Report: func(text string) { done = append(done, text) }})
	})
	if imported != nil {
		p.WarnAll(imported.Warnings)
	}
	if err != nil {
		if len(done) > 0 {
			p.Warn("these tables are on the server: " + strings.Join(done, "; "))
		}
		return err
	}
	names := []string{}
	for _, t := range imported.Tables {
		names = append(names, t.Name.String())
	}
	done = append(done, c.Directory+" is not needed any more")
	p.Done(strings.Join(done, "\n"), append(result.Facts(), slog.Any("imported", names))...)
	return nil
}

// selectTables finds out which files of the backup the tables need.
func (c *Extract) selectTables(in *input) (s *tables.Selection, err error) {
	names, err := tables.ParseNames(c.Tables.Table, c.Tables.Database)
	if err != nil {
		return nil, err
	}
	if in.chain != nil {
		s, in.part, err = tables.SelectChain(names, in.chain.Chain, c.Tables.Program != "")
		return s, err
	}
	return tables.Select(names, in.parts(), c.Tables.Program != "")
}
