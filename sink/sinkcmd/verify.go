package sinkcmd

import (
	"context"
	"io"
	"log/slog"
	"os"

	"filippo.io/age"

	"hb/sink/merge"
	"hb/sink/verify"
	"hb/stream"
	"hb/stream/program"
	"hb/stream/progress"
	"hb/xbstream/keyring"
)

// Verify is hb verify.
type Verify struct {
	stream.ReadFlags
	merge.Flags
	verify.Options
	Encryption keyring.Flags `embed:"" group:"Encryption at rest"`
}

// Subject is the archives, or the directory.
func (c *Verify) Subject() []slog.Attr {
	if c.isDirectory() {
		return []slog.Attr{slog.String("directory", c.Archive)}
	}
	return append(c.ReadFlags.Facts(), c.Flags.Facts()...)
}

// isDirectory reports whether verify gets a directory, not an archive.
func (c *Verify) isDirectory() bool {
	st, err := os.Stat(c.Archive)
	return err == nil && st.IsDir()
}

// Run verifies an archive, what a chain makes, or a directory.
func (c *Verify) Run(ctx context.Context, p *program.Program) error {
	result, err := c.verify(ctx, p)
	if err != nil {
		return err
	}
	p.WarnAll(result.Warnings)
	p.Done(result.Describe(p.Took()), result.Facts()...)
	return result.Partial()
}

func (c *Verify) verify(ctx context.Context, p *program.Program) (result *verify.Result, err error) {
	c.Progress, p.Ask = new(progress.Tracker), p.Ask.Once()
	c.Identities = func() ([]age.Identity, error) { return stream.ReadIdentities(c.Identity, p.Ask) }
	if c.Keys, err = c.Encryption.Load(); err != nil {
		return nil, err
	}
	directory := len(c.Increments) == 0 && c.isDirectory()
	if len(c.Identity) > 0 && !directory {
		var unread error
		if c.Keys, unread, err = sealedKeys(ctx, p, &c.ReadFlags, c.Increments, c.Keys); err != nil {
			return nil, err
		}
		defer func() {
			if err == nil {
				err = unread
			}
		}()
	}
	if directory {
		p.During(c.Progress, func() { result, err = verify.Directory(ctx, c.Archive, c.Options) })
		return result, err
	}
	in, err := open(ctx, p, "verifying", &c.ReadFlags, false, c.Increments, c.Tmpdir)
	if err != nil {
		return nil, err
	}
	if c.Replay {
		c.At = in.anywhere()
	}
	err = in.read(ctx, p, c.Progress, func(r io.Reader) (err error) {
		result, err = verify.Archive(ctx, r, c.Options)
		return err
	})
	return result, err
}
