package sinkcmd

import (
	"context"
	"errors"
	"io"
	"log/slog"

	"hb/sink/merge"
	"hb/stream"
	"hb/stream/program"
	"hb/stream/progress"
	"hb/xbstream/keyring"
	"hb/xbstream/metadata"
)

// Merge is hb merge.
type Merge struct {
	stream.ReadFlags
	merge.Flags
	stream.WriteFlags
	Tmpdir string `help:"Directory for an increment that cannot be read anywhere, such as standard input (default: TMPDIR or /tmp)." placeholder:"DIR" type:"path"`
}

// Subject is the archives.
func (c *Merge) Subject() []slog.Attr { return append(c.ReadFlags.Facts(), c.Flags.Facts()...) }

// Run writes the full backup that a chain makes.
func (c *Merge) Run(ctx context.Context, p *program.Program) error {
	if err := p.CheckOutput(); err != nil {
		return err
	}
	stages, err := c.WriteFlags.Options()
	if err != nil {
		return err
	}
	p.Ask = p.Ask.Once() // the archives are opened first, and then the keys in them
	phase, m := progress.NewPhase("merging", 0), new(progress.Tracker)
	chain, err := openChain(ctx, p, c.ReadFlags, c.Increments, c.Tmpdir, phase)
	if err != nil {
		return err
	}
	m.Enter(phase)
	return errors.Join(c.merge(ctx, p, m, chain, stages), chain.Close())
}

// merge writes the archive. Until the chain is known to be one, nothing is written.
func (c *Merge) merge(ctx context.Context, p *program.Program, m *progress.Tracker, chain *merge.Archives, stages stream.WriteOptions) error {
	stored := metadata.ArchiveFlags{Compressed: stages.Compress != nil, Encrypted: len(stages.Recipients) > 0}
	reseal, err := c.reseal(p, stages)
	if err != nil {
		return err
	}
	var result *merge.Result
	sent, err := p.Send(ctx, stages, m, func(out io.Writer) (err error) {
		result, err = chain.Run(ctx, out, merge.Options{HBVersion: p.Version, Stored: stored, Reseal: reseal})
		return err
	})
	if err != nil {
		return err
	}
	p.WarnAll(result.Manifest.Warnings)
	p.Done(result.Describe(p.Took()), append(result.Facts(), slog.Int64("bytes", sent), slog.Int64("bytes_read", chain.BytesRead()))...)
	return nil
}

// reseal returns what encrypts the keys in the archives to the recipients of the result, if an
// identity opens them; nil: the result is not encrypted, and whoever has the keys' identity reads it.
func (c *Merge) reseal(p *program.Program, stages stream.WriteOptions) (func([]byte) ([]byte, error), error) {
	if len(stages.Recipients) == 0 {
		return nil, nil
	}
	const stay = "that they stay encrypted as they are: to restore the merged backup, give an identity that opens them, or the server's keys"
	if c.EncryptPassphraseFile != "" {
		return func(content []byte) ([]byte, error) {
			p.WarnAll([]string{"the keys in the archives (" + keyring.SealedName + ") cannot be encrypted with a passphrase, so " + stay})
			return content, nil
		}, nil
	}
	ids, err := stream.ReadIdentities(c.Identity, p.Ask)
	return func(content []byte) ([]byte, error) {
		sealed, opened, err := keyring.Reseal(content, ids, stages.Recipients)
		if err == nil && !opened {
			p.WarnAll([]string{"no identity of -i opens the keys in the archives (" + keyring.SealedName + "), so " + stay})
		}
		return sealed, err
	}, err
}
