package merge

import (
	"strings"

	"hb/sink/backupdir"
	"hb/xbstream/innodb/delta"
	"hb/xbstream/metadata"
)

// content is what a file consists of: what one archive says of it, and what is below. In
// a full base it is the archive's file, whose size is not known before it has come.
type content struct {
	path  string         // at that step
	step  *step          // nil: the base
	live  *metadata.Live // nil: the base
	below *content       // of kept and changed files
}

// bottom is where the content begins.
func (f *content) bottom() *content {
	for f.below != nil {
		f = f.below
	}
	return f
}

// plan is what a chain comes to.
type plan struct {
	// base are the files that begin with one of the base, by its path there.
	base map[string]*content
	rest []*content // the others, in the order of the last increment's manifest
	// known are the base's files that the first increment accounts for. true: it
	// must be there.
	known map[string]bool
}

// plan follows each file of the last increment down to where it begins.
func (c *Chain) plan() (*plan, error) {
	p := &plan{base: make(map[string]*content), known: make(map[string]bool)}
	var before map[string]*content // nil: a base that is yet to come
	if len(c.steps) > len(c.incs) {
		before = make(map[string]*content)
		for _, f := range c.steps[0].Parts.Files {
			if !metadata.IsOwn(f.Path) {
				before[f.Path] = &content{path: f.Path}
			}
		}
	}
	for i, s := range c.incs {
		l := link{step: s, before: before, open: before == nil, files: make(map[string]*content), used: make(map[string]bool)}
		if err := l.all(); err != nil {
			return nil, err
		}
		if i == 0 {
			p.known = l.accounted()
		}
		before = l.files
	}
	for i := range c.incs[len(c.incs)-1].live {
		f := before[c.incs[len(c.incs)-1].live[i].Path]
		if bottom := f.bottom(); bottom.step == nil {
			p.base[bottom.path] = f
		} else {
			p.rest = append(p.rest, f)
		}
	}
	return p, nil
}

// link is one increment on what is before it.
type link struct {
	step   *step
	before map[string]*content
	open   bool // before is not known: what the increment names is there
	files  map[string]*content
	used   map[string]bool // of before, by live or dropped files
}

func (l *link) all() error {
	for i := range l.step.live {
		if err := l.add(&l.step.live[i]); err != nil {
			return err
		}
	}
	for _, path := range l.step.dropped {
		if _, err := l.use(path, "dropped"); err != nil {
			return err
		}
	}
	for path := range l.before {
		if f := l.files[path]; !l.used[path] && (f == nil || f.below != nil) {
			return mismatch(l.step.Name, "its manifest does not say what became of %s of the backup before it", path)
		}
	}
	return nil
}

// accounted are the files of before that the increment names, or replaces.
func (l *link) accounted() map[string]bool {
	known := make(map[string]bool)
	for path, f := range l.files {
		if f.below == nil {
			known[path] = false
		}
	}
	for path := range l.used {
		known[path] = true
	}
	return known
}

// use takes a file of the backup before.
func (l *link) use(path, what string) (*content, error) {
	if l.used[path] {
		return nil, mismatch(l.step.Name, "its manifest uses %s of the backup before it twice (%s)", path, what)
	}
	l.used[path] = true
	f := l.before[path]
	switch {
	case f != nil:
	case l.open && !metadata.IsOwn(path):
		f = &content{path: path}
	default:
		return nil, mismatch(l.step.Name, "its manifest names %s (%s), which is not in the backup before it", path, what)
	}
	return f, nil
}

// add enters a live file.
func (l *link) add(live *metadata.Live) (err error) {
	f := &content{path: live.Path, step: l.step, live: live}
	if l.files[live.Path] != nil || metadata.IsOwn(live.Path) || backupdir.IsMark(live.Path) {
		return mismatch(l.step.Name, "its manifest has no place for a file %s", live.Path)
	}
	if live.Space != nil && live.Sum == nil && !l.step.manifest.Since.PageTracking {
		return mismatch(l.step.Name, "its manifest has no sum of the pages of %s", live.Path)
	}
	l.files[live.Path] = f
	if live.From != "" {
		if f.below, err = l.use(live.From, string(live.Kind)); err != nil {
			return err
		}
		if err := l.fits(live, f.below); err != nil {
			return err
		}
	}
	return l.stored(live)
}

// fits compares a live file with the one that it is made of.
func (l *link) fits(live *metadata.Live, below *content) error {
	if below.live == nil {
		return nil // its size is known when it has come
	}
	switch {
	case live.Kind == metadata.LiveKept && live.Size != below.live.Size:
		return mismatch(l.step.Name, "its manifest says that %s is kept, with %d bytes: before it has %d", live.Path, live.Size, below.live.Size)
	case live.Space != nil && below.live.Space != nil && *live.Space != *below.live.Space:
		return mismatch(l.step.Name, "its manifest says that %s is tablespace %d, made of tablespace %d", live.Path, *live.Space, *below.live.Space)
	}
	return nil
}

// stored makes sure that the archive has what a live file needs.
func (l *link) stored(live *metadata.Live) error {
	need := []string{live.Stored}
	switch live.Kind {
	case metadata.LiveKept:
		return nil
	case metadata.LiveChanged, metadata.LiveNew:
		base, ok := strings.CutSuffix(live.Stored, delta.Ext)
		if !ok {
			return mismatch(l.step.Name, "its manifest says that the changed pages of %s are in %s", live.Path, live.Stored)
		}
		need = append(need, base+delta.ExtMeta)
	}
	for _, path := range need {
		if _, ok := l.step.numbers[path]; !ok {
			return mismatch(l.step.Name, "its manifest says that %s is made of %s, which it does not have", live.Path, path)
		}
	}
	if size := l.step.Parts.Files[l.step.numbers[live.Stored]].Size; live.Kind == metadata.LiveCopied && size != live.Size {
		return mismatch(l.step.Name, "its manifest says that %s has %d bytes, and that %s, which it is, has %d", live.Path, live.Size, live.Stored, size)
	}
	return nil
}
