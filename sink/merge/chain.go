package merge

import (
	"errors"
	"fmt"
	"io"

	"hb/xbstream"
	"hb/xbstream/metadata"
)

// ChainError says that archives are not a chain, or are not one in this order.
type ChainError struct {
	Name, Base string           // the archive that does not fit, and the one before it
	Want, Have metadata.PointID // what Name builds on, and what Base is
	Hint       string           // what they are, if that is known
}

func (e *ChainError) Error() string {
	text := fmt.Sprintf("%s does not build on %s: it builds on backup %s, and that is backup %s", e.Name, e.Base, short(e.Want), short(e.Have))
	if e.Hint != "" {
		text += "; " + e.Hint
	}
	return text
}

// short is enough of an id to recognise it in hb list --json.
func short(id metadata.PointID) string { return id.String()[:16] }

// MismatchError says of archives of a chain what they do not have in common, or what one of
// them cannot be in a chain.
type MismatchError struct{ Name, What string }

func (e *MismatchError) Error() string { return e.Name + ": " + e.What }

func mismatch(name, format string, args ...any) error {
	return &MismatchError{name, fmt.Sprintf(format, args...)}
}

// DivergedError says that a file is not what the backup saw on the server: the server was restored since the base, from another backup than those of the
// chain, and went on from there.
type DivergedError struct{ Name, Path string }

func (e *DivergedError) Error() string {
	return fmt.Sprintf("%s: in the chain %s is not as this backup found it on the server: was the server restored from another backup since the base was made? Make a new full backup", e.Name, e.Path)
}

// step is an archive of the chain by its manifest.
type step struct {
	Input
	archive  *metadata.Archive
	manifest *metadata.Manifest
	id       metadata.PointID // of the archive itself
	live     []metadata.Live
	dropped  []string

	numbers map[string]int // of the archive's files, by path
	chunks  *places        // nil: not looked up yet
}

func readStep(in Input) (*step, error) {
	s := &step{Input: in, archive: in.Parts.Archive, manifest: in.Parts.Manifest, numbers: make(map[string]int)}
	p := metadata.NewManifestParser(nil, nil)
	p.Live = func(l metadata.Live) error {
		s.live = append(s.live, l)
		return nil
	}
	p.Dropped = func(path string) error {
		s.dropped = append(s.dropped, path)
		return nil
	}
	header, err := in.Parts.Header()
	if err != nil {
		return nil, err
	}
	id := metadata.NewPointHash(header)
	if err := errors.Join(in.Parts.WriteManifest(io.MultiWriter(id, p)), p.Close()); err != nil {
		return nil, err
	}
	s.id = id.Sum()
	for i := range in.Parts.Index.Files() {
		if _, twice := s.numbers[in.Parts.Path(i)]; twice {
			return nil, &xbstream.CorruptError{Path: in.Parts.Path(i), Offset: in.Parts.At, Reason: "the index has it twice"}
		}
		s.numbers[in.Parts.Path(i)] = i
	}
	return s, nil
}

// point is the id of what the backup restores.
func (s *step) point() metadata.PointID { return s.manifest.Point(s.id) }

// checkOrder makes sure that each archive builds on the one before it.
func (c *Chain) checkOrder() error {
	for _, s := range c.incs {
		if s.manifest.Since == nil || !s.archive.Options.Incremental {
			return mismatch(s.Name, "it is a full backup: only the first archive of a chain is one")
		}
	}
	if len(c.steps) > len(c.incs) {
		if err := checkBase(c.steps[0].Name, c.steps[0].archive, c.steps[0].manifest); err != nil {
			return err
		}
	}
	for i := 1; i < len(c.steps); i++ {
		if err := c.follows(c.steps[i], c.steps[i-1]); err != nil {
			return err
		}
	}
	return nil
}

// checkBase makes sure that an archive can be the base of a chain.
func checkBase(name string, a *metadata.Archive, m *metadata.Manifest) error {
	switch {
	case m.Since != nil || a.Options.Incremental:
		return mismatch(name, "it is an incremental backup: a chain begins with a full backup")
	}
	return nil
}

// follows makes sure that s builds on before.
func (c *Chain) follows(s, before *step) error {
	since := s.manifest.Since
	if since.Base != before.point() {
		return &ChainError{Name: s.Name, Base: before.Name, Want: since.Base, Have: before.point(), Hint: c.hint(s, before)}
	}
	return sameServer(s, before.Name, before.archive, before.manifest)
}

// hint explains why s does not build on the archive before it.
func (c *Chain) hint(s, before *step) string {
	for _, o := range c.steps {
		if o != s && o.id == s.id {
			return fmt.Sprintf("%s and %s are the same backup", o.Name, s.Name)
		}
	}
	for _, o := range c.steps {
		if o.point() == s.manifest.Since.Base {
			return fmt.Sprintf("it builds on %s: give it after that", o.Name)
		}
	}
	if before.manifest.StandsFor != nil && before.manifest.LastLSN >= s.manifest.LastLSN {
		return before.Name + " was merged, and perhaps has it in it"
	}
	return "an increment between them is missing, or it is of another chain"
}

// sameServer makes sure that an increment is of the server and from the LSNs of what it
// builds on, which its id says already: a manifest that contradicts itself is refused.
func sameServer(s *step, name string, a *metadata.Archive, m *metadata.Manifest) error {
	since := s.manifest.Since
	switch {
	case m.Server != s.manifest.Server && m.Server != "":
		return mismatch(s.Name, "it is a backup of server %s, and %s is one of server %s", s.manifest.Server, name, m.Server)
	case a.ServerFlavor != s.archive.ServerFlavor:
		return mismatch(s.Name, "it is a backup of %s, and %s is one of %s", s.archive.Server(), name, a.Server())
	case a.PageSize != s.archive.PageSize:
		return mismatch(s.Name, "it has pages of %d bytes, and %s of %d", s.archive.PageSize, name, a.PageSize)
	case !m.Scope.Same(s.manifest.Scope):
		return mismatch(s.Name, "it is a backup of %v, and %s is one of %v", s.manifest.Scope, name, m.Scope)
	case since.FromLSN != m.FromLSN || since.CheckpointLSN != m.CheckpointLSN || since.LastLSN != m.LastLSN:
		return mismatch(s.Name, "it continues from LSNs %d, %d and %d; those of %s are %d, %d and %d",
			since.FromLSN, since.CheckpointLSN, since.LastLSN, name, m.FromLSN, m.CheckpointLSN, m.LastLSN)
	}
	return nil
}
