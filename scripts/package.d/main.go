// Command package.d is the body of scripts/package: it builds hb for each system,
// packs it, and says what it made. It runs in the working copy's first directory.
//
// The result depends only on the commit and on the version of Go: all else that would
// get in, such as times, owners, paths and the environment, is fixed here.
package main

import (
	"cmp"
	"crypto/sha256"
	"errors"
	"flag"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"text/tabwriter"

	"hb/stream"
)

// target is a system that hb is built for.
type target struct{ os, arch string }

func (t target) String() string { return t.os + "/" + t.arch }

// targets are all of them.
var targets = []target{
	{"linux", "amd64"}, {"linux", "arm64"},
	{"darwin", "amd64"}, {"darwin", "arm64"},
	{"windows", "amd64"},
}

func main() {
	flag.Usage = func() {
		fmt.Fprintln(flag.CommandLine.Output(), "usage: scripts/package [OPTION]...")
		flag.PrintDefaults()
	}
	out := flag.String("out", "dist", "the `directory` to make it in; what is there is removed")
	version := flag.String("version", "", "the `version`, such as 1.2.3 (default: by the last tag)")
	only := flag.String("only", "", "the `systems` to build for, with commas between (default: "+names(targets)+")")
	nfpm := flag.String("nfpm", "nfpm", "the nfpm `program`")
	work := flag.String("work", os.TempDir(), "a `directory` for temporary files")
	flag.Parse()
	if err := run(*out, *version, *only, *nfpm, *work); err != nil {
		fmt.Fprintln(os.Stderr, "package:", err)
		os.Exit(1)
	}
}

func run(out, version, only, nfpm, work string) error {
	if flag.NArg() > 0 {
		return fmt.Errorf("%q is no option", flag.Arg(0))
	}
	wanted, err := choose(only)
	if err != nil {
		return err
	}
	src, err := findSource(version)
	if err != nil {
		return err
	}
	if err := empty(out); err != nil {
		return err
	}
	m := &maker{source: src, out: out, work: work, nfpm: nfpm, built: make(map[target]string)}
	fmt.Printf("hb %s, commit %s of %s\n", src.version, src.commit, src.rfc3339())
	if err := m.makeAll(wanted); err != nil {
		return err
	}
	return m.report(os.Stdout)
}

func names(list []target) string {
	var text []string
	for _, t := range list {
		text = append(text, t.String())
	}
	return strings.Join(text, ",")
}

// choose returns the targets that are named; all, if none is.
func choose(only string) ([]target, error) {
	if only == "" {
		return targets, nil
	}
	var chosen []target
	for name := range strings.SplitSeq(only, ",") {
		i := slices.IndexFunc(targets, func(t target) bool { return t.String() == name })
		if i < 0 {
			return nil, fmt.Errorf("hb is not built for %q, but for %s", name, names(targets))
		}
		chosen = append(chosen, targets[i])
	}
	return chosen, nil
}

// sumsName is the file with the sums of all others.
const sumsName = "SHA256SUMS"

// empty makes a directory, or empties one that this program made.
func empty(dir string) error {
	entries, err := os.ReadDir(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return os.MkdirAll(dir, 0o755)
	}
	if err != nil {
		return err
	}
	for _, e := range entries {
		if !e.Type().IsRegular() || e.Name() != sumsName && !strings.HasPrefix(e.Name(), "hb") {
			return fmt.Errorf("%s has a %s, which is not of this program's making: remove it", dir, e.Name())
		}
	}
	for _, e := range entries {
		if err := os.Remove(filepath.Join(dir, e.Name())); err != nil {
			return err
		}
	}
	return nil
}

// maker makes everything.
type maker struct {
	*source
	out, work, nfpm string

	built    map[target]string // where programs are
	manuals  []file            // of every system
	scripts  []file            // completion
	licences []byte            // of what is built in
	made     []string
}

// makeAll makes all files.
func (m *maker) makeAll(wanted []target) error {
	var err error
	if m.licences, err = licences(wanted); err != nil {
		return fmt.Errorf("licences: %w", err)
	}
	if err := m.describe(wanted); err != nil {
		return err
	}
	for _, t := range wanted {
		if err := m.make(t); err != nil {
			return fmt.Errorf("%v: %w", t, err)
		}
	}
	return m.sums()
}

// make makes the files of one target.
func (m *maker) make(t target) error {
	program, err := m.build(t)
	if err != nil {
		return err
	}
	name := fmt.Sprintf("hb-%s-%s-%s", m.version, t.os, t.arch)
	bill, err := bill(program, m.source)
	if err != nil {
		return fmt.Errorf("bill of materials: %w", err)
	}
	if err := m.write(name+".cdx.json", bill); err != nil {
		return err
	}
	if err := m.archive(t, name, program); err != nil {
		return err
	}
	if t.os != "linux" {
		return nil
	}
	return m.distro(t, program)
}

// write writes one file that is released.
func (m *maker) write(name string, content []byte) error {
	m.made = append(m.made, name)
	return os.WriteFile(filepath.Join(m.out, name), content, 0o644)
}

// sums writes the sums of all files, as sha256sum checks them.
func (m *maker) sums() error {
	slices.Sort(m.made)
	var text strings.Builder
	for _, name := range m.made {
		sum, _, err := sumOf(filepath.Join(m.out, name))
		if err != nil {
			return err
		}
		fmt.Fprintf(&text, "%x  %s\n", sum, name)
	}
	return m.write(sumsName, []byte(text.String()))
}

// report prints what was made.
func (m *maker) report(w io.Writer) error {
	table := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	for _, name := range m.made {
		sum, size, err := sumOf(filepath.Join(m.out, name))
		if err != nil {
			return err
		}
		fmt.Fprintf(table, "%s\t%v\t%x\n", filepath.Join(m.out, name), stream.Size(size), sum)
	}
	return table.Flush()
}

func sumOf(path string) (sum []byte, size int64, err error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, 0, err
	}
	defer f.Close() // only read
	h := sha256.New()
	size, err = io.Copy(h, f)
	return h.Sum(nil), size, err
}

// file is one file of an archive or a package.
type file struct {
	name    string
	content []byte
	program bool
}

func (f file) mode() fs.FileMode {
	if f.program {
		return 0o755
	}
	return 0o644
}

func byName(a, b file) int { return cmp.Compare(a.name, b.name) }
