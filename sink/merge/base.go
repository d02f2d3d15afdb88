package merge

import (
	"context"
	"errors"
	"fmt"
	"io"

	"hb/sink/catalog"
	"hb/xbstream"
	"hb/xbstream/metadata"
)

// follower follows the base's stream.
type follower struct {
	*merger
	cat  *catalog.Catalog
	open map[string]*assembly // files that are wanted and have not ended
	came map[string]bool      // of the files that the first increment names

	header []byte // hb-archive.json
	id     *metadata.PointHash

	// odd is the first thing that does not fit, where the base's id is still to come: it
	// explains more.
	odd error
}

// followBase puts out the files that begin in the base, and proves all of it.
func (m *merger) followBase() error {
	r, err := m.chain.base.Open()
	if err != nil {
		return err
	}
	f := &follower{merger: m, cat: catalog.New(), open: make(map[string]*assembly), came: make(map[string]bool)}
	rd := xbstream.NewReader(r, xbstream.ReaderOptions{})
	for {
		if m.ctx.Err() != nil {
			return context.Cause(m.ctx)
		}
		ch, err := rd.Next()
		if err == io.EOF {
			return f.finish(rd)
		}
		if err == nil {
			_, err = f.cat.Add(ch)
		}
		if err == nil && f.cat.Archive != nil && f.cat.Archive.Options.Incremental {
			return checkBase(m.chain.base.Name, f.cat.Archive, new(metadata.Manifest))
		}
		if err == nil && !f.cat.Own {
			return mismatch(m.chain.base.Name, "hb did not make this archive: a chain begins with a full backup of hb's")
		}
		if err != nil {
			return f.cat.Explain(fmt.Errorf("%s: %w", m.chain.base.Name, err))
		}
		if err := f.take(ch); err != nil && !f.later(err) {
			return err
		}
	}
}

// pickBase puts out the files that begin in the base and are wanted, and proves those.
func (m *merger) pickBase() error {
	picked := catalog.NewPicked(m.chain.base.Parts, func(path string) bool {
		f := m.chain.index.base[path]
		return f != nil && m.wants(f)
	})
	defer picked.Close()
	f := &follower{merger: m, open: make(map[string]*assembly), came: make(map[string]bool)}
	rd := xbstream.NewReader(picked.Open(), xbstream.ReaderOptions{})
	for {
		ch, err := rd.Next()
		if err == io.EOF {
			return picked.Finish()
		}
		if err == nil {
			_, err = picked.Add(ch)
		}
		if err != nil {
			return fmt.Errorf("%s: %w", m.chain.base.Name, picked.Explain(err))
		}
		if err := f.take(ch); err != nil {
			return err
		}
		if m.ctx.Err() != nil {
			return context.Cause(m.ctx)
		}
	}
}

// later keeps what does not fit until it is known whether the archives are a chain at all.
func (f *follower) later(err error) bool {
	_, one := errors.AsType[*MismatchError](err)
	_, other := errors.AsType[*DivergedError](err)
	if f.chain.base.Parts != nil || !one && !other {
		return false
	}
	f.odd = err
	return true
}

// take takes a chunk that is proven as far as it can be.
func (f *follower) take(ch *xbstream.Chunk) error {
	switch ch.Path {
	case metadata.ArchiveName:
		f.header = append(f.header, ch.Data...)
		return nil
	case metadata.ManifestName:
		if f.id == nil {
			f.id = metadata.NewPointHash(f.header)
		}
		f.id.Write(ch.Data)
		return nil
	}
	if metadata.IsOwn(ch.Path) || f.odd != nil {
		return nil
	}
	if ch.First {
		if err := f.begin(ch.Path); err != nil {
			return err
		}
	}
	a := f.open[ch.Path]
	if a == nil {
		return nil
	}
	if ch.Type == xbstream.End {
		delete(f.open, ch.Path)
		return a.end()
	}
	return a.feed(ch.Data)
}

// begin begins a file, if it is wanted.
func (f *follower) begin(path string) (err error) {
	first := f.chain.incs[0]
	if _, known := f.chain.index.known[path]; !known {
		return mismatch(first.Name, "its manifest does not say what became of %s of the backup before it", path)
	}
	f.came[path] = true
	if want := f.chain.index.base[path]; want != nil && f.wants(want) {
		f.open[path], err = f.assemble(want)
	}
	return err
}

// finish proves, at the end of the base, that it is the base of the chain.
func (f *follower) finish(rd *xbstream.Reader) error {
	if err := f.cat.Finish(); err != nil {
		return f.cat.Explain(fmt.Errorf("%s: %w", f.chain.base.Name, err))
	}
	first, name := f.chain.incs[0], f.chain.base.Name
	m := f.cat.Summary(rd).Manifest
	if err := checkBase(name, f.cat.Archive, m); err != nil {
		return err
	}
	if id := m.Point(f.id.Sum()); id != first.manifest.Since.Base {
		return &ChainError{Name: first.Name, Base: name, Want: first.manifest.Since.Base, Have: id,
			Hint: "an increment between them is missing, or it is of another chain"}
	}
	if err := sameServer(first, name, f.cat.Archive, m); err != nil {
		return err
	}
	if f.odd != nil {
		return f.odd
	}
	for path, must := range f.chain.index.known {
		if must && !f.came[path] {
			return mismatch(first.Name, "its manifest names %s, which is not in the backup before it", path)
		}
	}
	return nil
}
