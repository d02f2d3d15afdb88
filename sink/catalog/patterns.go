package catalog

import (
	"fmt"
	"path"
	"strings"

	"hb/stream"
)

// Patterns choose files of an archive by their paths in it. None choose all.
type Patterns struct {
	patterns []string
	used     []bool
}

// NewPatterns reads shell patterns (path.Match's) for a path, for a directory that files
// are in, or, without a slash, for a file's name. A wrong one is a *stream.UsageError.
func NewPatterns(patterns []string) (*Patterns, error) {
	for _, p := range patterns {
		if _, err := path.Match(p, ""); err != nil || p == "" {
			return nil, stream.AsUsage(fmt.Errorf("the pattern %q is wrong: it is empty, a bracket is not closed, or nothing follows a backslash", p))
		}
	}
	return &Patterns{patterns, make([]bool, len(patterns))}, nil
}

// All reports whether there is no pattern, so that all files are chosen.
func (p *Patterns) All() bool { return len(p.patterns) == 0 }

// Choose reports whether a file is chosen, and notes by which patterns.
func (p *Patterns) Choose(name string) bool {
	chosen := p.All()
	for i, pattern := range p.patterns {
		if matches(pattern, name) {
			chosen, p.used[i] = true, true
		}
	}
	return chosen
}

// NoMatchError is of a pattern that chooses no file of an archive.
type NoMatchError struct{ Pattern string }

func (e *NoMatchError) Error() string {
	return fmt.Sprintf("the archive has no file that matches %q: hb list shows what it has", e.Pattern)
}

// Unused returns a *NoMatchError of the first pattern that has chosen no file, or nil.
func (p *Patterns) Unused() error {
	for i, used := range p.used {
		if !used {
			return &NoMatchError{p.patterns[i]}
		}
	}
	return nil
}

// matches reports whether a pattern is for a file: its path, one of the directories that
// it is in, or its name.
func matches(pattern, name string) bool {
	pattern = strings.TrimSuffix(pattern, "/")
	is := func(s string) bool { ok, err := path.Match(pattern, s); return ok && err == nil }
	if !strings.Contains(pattern, "/") && is(path.Base(name)) {
		return true
	}
	for ; name != "." && name != "/"; name = path.Dir(name) {
		if is(name) {
			return true
		}
	}
	return false
}
