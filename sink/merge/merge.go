// Package merge makes one full backup of a chain: of a full backup and the incremental
// ones that build on it. Archives come in, the full one as a stream in its own order and
// the others read where they are needed; one full archive goes out as a stream. Its pages
// are the base's, overlaid by those of the increments; its redo log is the last
// increment's. Nothing is replayed: see [Run].
package merge

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"time"

	"hb/stream"
	"hb/xbstream/innodb"
	"hb/xbstream/metadata"
)

// Input is an archive of a chain.
type Input struct {
	Name  string // for messages
	Parts *stream.Parts
}

// Base is the full archive that a chain begins with. Its content comes from a stream, which
// proves it; Parts, if it can be read anywhere, prove the chain before anything is
// written.
type Base struct {
	Input
	// Open opens the archive from front to back, without its stages.
	Open func() (io.Reader, error)
}

// Options are how [Run] works.
type Options struct {
	// HBVersion is that of the hb that writes the archive.
	HBVersion string
	// Stored is how the archive is stored: its stages.
	Stored metadata.ArchiveFlags
	// Reseal encrypts the keys that the archives have themselves (keyring.SealedName) to others;
	// nil: they stay as they are.
	Reseal func(content []byte) ([]byte, error)
	// Part chooses files: the result is a partial backup. nil: all, as far as they were
	// backed up.
	Part *Part
}

// Part is which files of a chain are wanted. Of a base that can be read anywhere the others
// are not read, and not proven.
type Part struct {
	// Databases are the names of what was asked for, as metadata.Scope has them.
	Databases []string
	// Choose reports whether a file of the server is wanted, by its line in the manifest of the
	// last increment.
	Choose func(*metadata.Live) bool
}

// scope is what a part is of: its tablespaces are those of live that it chooses, and
// all others are left out.
func (p *Part) scope(live []metadata.Live, of *metadata.Scope) *metadata.Scope {
	var ranges []metadata.SpaceRange
	if of != nil {
		ranges = of.LeftOut
	}
	var left, there []innodb.SpaceID
	for i := range live {
		switch l := &live[i]; {
		case l.Space == nil:
		case p.Choose(l):
			there = append(there, *l.Space)
		default:
			left = append(left, *l.Space)
		}
	}
	return &metadata.Scope{Databases: p.Databases, LeftOut: metadata.JoinRanges(ranges, left, there)}
}

// Result is what Run did.
type Result struct {
	Archive  *metadata.Archive
	Manifest metadata.Manifest // of the archive that was written
	Bytes    int64             // of the archive
	Pages    int64             // pages of increments that were laid over others
	Steps    int               // increments
	Warnings []string          // what could not be proven, and those of the last backup
}

// Describe describes the result, and the time that it took.
func (r *Result) Describe(took time.Duration) string {
	return fmt.Sprintf("merged %d increments into a full backup of %s: %d files, %s, redo from LSN %d to %d; in %s, %s/s",
		r.Steps, r.Archive.Server(), r.Manifest.Files, stream.Size(r.Bytes), r.Manifest.FromLSN, r.Manifest.LastLSN, took, stream.Rate(r.Bytes, took))
}

// Facts are the result for programs.
func (r *Result) Facts() []slog.Attr {
	return []slog.Attr{
		slog.Int64("files", r.Manifest.Files), slog.Int64("archive_bytes", r.Bytes), slog.Int64("pages", r.Pages),
		slog.String("stands_for", r.Manifest.StandsFor.String()), slog.String("server", r.Archive.Server()), slog.Time("created", r.Archive.Created),
		slog.Uint64("from_lsn", uint64(r.Manifest.FromLSN)), slog.Uint64("last_lsn", uint64(r.Manifest.LastLSN)),
	}
}

// Chain is a base and its increments, proven as far as their manifests can.
type Chain struct {
	base  Base
	steps []*step // the base, if its manifest is known, and the increments
	incs  []*step
	index *plan
}

// Check makes sure that the archives are a chain, as far as their manifests say: an error
// comes before anything is written. If base has no Parts, Run proves the rest.
func Check(base Base, incs []Input) (*Chain, error) {
	c := &Chain{base: base}
	all := incs
	if base.Parts != nil {
		all = append([]Input{base.Input}, incs...)
	}
	for _, in := range all {
		s, err := readStep(in)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", in.Name, err)
		}
		c.steps = append(c.steps, s)
	}
	c.incs = c.steps[len(all)-len(incs):]
	if err := c.checkOrder(); err != nil {
		return nil, err
	}
	var err error
	c.index, err = c.plan()
	return c, err
}

// Run writes the full backup that a chain makes to w, as one archive without stages. If it
// returns an error, the archive has no manifest, and nothing takes it for a backup.
//
// Memory: the manifests, an entry of the index for each chunk of the increments, 4 bytes
// for each page in the increments of the files that are open in the base's stream (about
// as many as hb backup had workers), and a cache of chunks.
//
// What is proven: the chain by the ids of its backups; the base as hb verify would
// (checksums, the sum over all heads, sizes); of the increments every chunk that is read
// and the checksums of all files that are used; and that the pages of each tablespace are
// those that the last backup saw on the server, by their sum. Run returns when ctx ends,
// but cannot interrupt a Read.
func (c *Chain) Run(ctx context.Context, w io.Writer, o Options) (*Result, error) {
	m := &merger{ctx: ctx, chain: c, part: o.Part, out: newOutput(w), cache: newCache()}
	if err := m.run(o); err != nil {
		m.out.w.Abort(err)
		return nil, err
	}
	last := c.incs[len(c.incs)-1]
	return &Result{
		Archive: last.archive, Manifest: m.out.manifest, Bytes: m.out.w.Written(), Pages: m.pages, Steps: len(c.incs),
		Warnings: append(c.Warnings(), m.out.manifest.Warnings...),
	}, nil
}

// Live are the files of the server that the chain makes, by their names in the end.
func (c *Chain) Live() []metadata.Live { return c.incs[len(c.incs)-1].live }

// Manifest is that of the last increment.
func (c *Chain) Manifest() *metadata.Manifest { return c.incs[len(c.incs)-1].manifest }

// Warnings are what the chain cannot prove, as is known from its manifests.
func (c *Chain) Warnings() (w []string) {
	for _, s := range c.incs {
		if s.manifest.Since.PageTracking {
			w = append(w, fmt.Sprintf("%s was made of the server's list of changed pages, so that nothing proves that the other pages are those of the server: if it was restored from another backup since %s was made, nobody notices", s.Name, c.base.Name))
		}
	}
	return w
}

// merger is one Run under way.
type merger struct {
	ctx   context.Context
	chain *Chain
	part  *Part // nil: all files are wanted
	out   *output
	cache *cache
	pages int64 // of increments, that are in the output

	copied []byte // a chunk on its way
}

func (m *merger) run(o Options) error {
	last := m.chain.incs[len(m.chain.incs)-1]
	if err := m.out.header(last.archive, o); err != nil {
		return err
	}
	follow := m.followBase
	if m.part != nil && m.chain.base.Parts != nil {
		follow = m.pickBase
	}
	if err := follow(); err != nil {
		return err
	}
	if err := m.rest(); err != nil {
		return err
	}
	if err := m.metadata(last, o.Reseal); err != nil {
		return err
	}
	var scope *metadata.Scope
	if m.part != nil {
		scope = m.part.scope(last.live, last.manifest.Scope)
	}
	return m.out.finish(last, scope)
}

// wants reports whether a file of the result is wanted.
func (m *merger) wants(f *content) bool { return m.part == nil || m.part.Choose(f.live) }

// rest puts out the files of which nothing is in the base.
func (m *merger) rest() error {
	for _, f := range m.chain.index.rest {
		if m.ctx.Err() != nil {
			return context.Cause(m.ctx)
		}
		if !m.wants(f) {
			continue
		}
		a, err := m.assemble(f)
		if err == nil {
			err = m.fill(a, f)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// fill feeds a file that begins in an increment: with a file that it has, or with nothing.
func (m *merger) fill(a *assembly, f *content) error {
	bottom := f.bottom()
	if bottom.live.Kind == metadata.LiveNew {
		return a.end()
	}
	return m.copyMember(bottom.step, bottom.live.Stored, a.feed, a.end)
}

// copyMember reads a file of an increment from front to back.
func (m *merger) copyMember(s *step, path string, feed func([]byte) error, end func() error) error {
	f, err := s.member(path, m.cache)
	if err != nil {
		return err
	}
	for i := range f.chunks {
		if m.ctx.Err() != nil {
			return context.Cause(m.ctx)
		}
		data, err := f.chunk(i)
		if err == nil {
			m.copied = append(m.copied[:0], data...) // the cache keeps the original
			err = feed(m.copied)
		}
		if err != nil {
			return err
		}
	}
	if err := f.close(); err != nil {
		return err
	}
	return end()
}
