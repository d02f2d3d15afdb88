package usage

import (
	"fmt"
	"runtime"
	"runtime/debug"
	"strings"
)

// A Build is what the build recorded of the program.
type Build struct {
	Version  string // the module's, or devel and the commit
	Commit   string // empty: not known
	Time     string // of the commit, as RFC 3339 has it; empty: not known
	Modified bool   // it was built from more than that commit
	Go       string // version of Go
	Platform string
}

// String is the program's name and version.
func (b Build) String() string { return "hb " + b.Version }

// What scripts/package has the linker set, where a build records none of it: in
// source archives, and in linked working trees.
var release, commit, committed, modified string

// ReadBuild reads it.
func ReadBuild() Build {
	b := Build{Version: "unknown", Go: runtime.Version(), Platform: runtime.GOOS + "/" + runtime.GOARCH}
	if release != "" {
		b.Version, b.Commit, b.Time, b.Modified = release, commit, committed, modified != ""
		return b
	}
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return b
	}
	for _, s := range info.Settings {
		switch s.Key {
		case "vcs.revision":
			b.Commit = s.Value
		case "vcs.time":
			b.Time = s.Value
		case "vcs.modified":
			b.Modified = s.Value == "true"
		}
	}
	if b.Version = info.Main.Version; b.Version == "" || b.Version == "(devel)" {
		b.Version = "devel"
		if b.Commit != "" {
			b.Version += "-" + b.Commit[:min(12, len(b.Commit))]
		}
	}
	return b
}

// A Fact is a line of hb version, such as supported formats.
type Fact struct{ Name, Value string }

// An About is all of hb version.
type About struct {
	Build
	Facts []Fact
}

// String is that as text, in lines of the form "name: value", after one with name
// and version of the program.
func (a About) String() string {
	var b strings.Builder
	fmt.Fprintln(&b, a.Build)
	line := func(name, value string) { fmt.Fprintf(&b, "%s: %s\n", name, value) }
	switch {
	case a.Commit == "":
		line("commit", "not recorded")
	case a.Modified:
		line("commit", a.Commit+" of "+a.Time+", and changes")
	default:
		line("commit", a.Commit+" of "+a.Time)
	}
	line("built with", a.Go+" for "+a.Platform)
	for _, f := range a.Facts {
		line(f.Name, f.Value)
	}
	return b.String()
}
