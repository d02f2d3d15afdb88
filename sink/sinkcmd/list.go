package sinkcmd

import (
	"bufio"
	"context"
	"errors"
	"log/slog"

	"hb/sink/catalog"
	"hb/sink/listing"
	"hb/stream"
	"hb/stream/program"
)

// List is hb list.
type List struct {
	stream.ReadFlags
	listing.Options
}

// Subject is the archive.
func (c *List) Subject() []slog.Attr { return c.Facts() }

// Run lists the files, or writes the manifest.
func (c *List) Run(ctx context.Context, p *program.Program) error {
	if c.Manifest {
		return c.writeManifest(ctx, p)
	}
	list, err := listing.New(c.Options)
	if err != nil {
		return err
	}
	r, err := openParts(ctx, p, &c.ReadFlags, nil)
	if err != nil {
		return err
	}
	result, err := catalog.ListInput(ctx, r, list.Add)
	out := bufio.NewWriter(p.Stdout)
	if err := errors.Join(err, list.Write(out, result), out.Flush(), r.Close()); err != nil {
		return err
	}
	p.WarnAll(result.Warnings)
	text := result.Describe()
	if encrypted := result.DescribeEncryption(); encrypted != "" {
		text += "\n" + encrypted
	}
	p.Done(text, append(result.Facts(), slog.Int64("bytes_read", r.BytesRead()))...)
	return nil
}

// writeManifest writes what hb backup --since needs of the archive.
func (c *List) writeManifest(ctx context.Context, p *program.Program) error {
	if err := c.CheckManifest(); err != nil {
		return err
	}
	r, err := openParts(ctx, p, &c.ReadFlags, nil)
	if err != nil {
		return err
	}
	out := bufio.NewWriter(p.Stdout)
	result, err := catalog.WriteManifest(ctx, r, out)
	if err := errors.Join(err, out.Flush(), r.Close()); err != nil {
		return err
	}
	p.Done(result.Describe(), append(result.Facts(), slog.Int64("bytes_read", r.BytesRead()))...)
	return nil
}
