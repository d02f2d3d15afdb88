package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
)

// goPackage is a package as go list prints it.
type goPackage struct {
	ImportPath string
	Dir        string
	GoFiles    []string
	ImportMap  map[string]string
	Standard   bool
	Module     *struct {
		Path, Version, Dir string
		Main               bool
	}
}

// packages are those that hb is built from on a target, each behind those that it
// imports.
func (t target) packages() (list []goPackage, err error) {
	cmd := exec.Command("go", "list", "-deps", "-json=ImportPath,Dir,GoFiles,ImportMap,Standard,Module", ".")
	cmd.Env, cmd.Stderr = t.environment(), os.Stderr
	out, err := cmd.Output()
	if err != nil {
		return nil, fmt.Errorf("go list: %w", err)
	}
	for d := json.NewDecoder(bytes.NewReader(out)); ; {
		var p goPackage
		if err := d.Decode(&p); err == io.EOF {
			return list, nil
		} else if err != nil {
			return nil, fmt.Errorf("go list: %w", err)
		}
		list = append(list, p)
	}
}

// licences are the licences of all that is built into hb: Go's library, and the
// modules.
func licences(wanted []target) ([]byte, error) {
	found := make(map[string]map[string]bool) // files, by module
	for _, t := range wanted {
		list, err := t.packages()
		if err != nil {
			return nil, err
		}
		for _, p := range list {
			if p.Standard || p.Module.Main {
				continue
			}
			name := p.Module.Path + " " + p.Module.Version
			if found[name] == nil {
				found[name] = make(map[string]bool)
			}
			if err := licencesOf(p, found[name]); err != nil {
				return nil, err
			}
		}
	}
	root, err := output("go", "env", "GOROOT")
	if err != nil {
		return nil, err
	}
	found[" Go, its standard library and runtime"] = map[string]bool{filepath.Join(strings.TrimSpace(string(root)), "LICENSE"): true} // the blank has it first
	return printLicences(found)
}

// licenceName is what files with licences are called.
var licenceName = regexp.MustCompile(`(?i)^(licen[cs]e|copying|notice|patents)([-.].*)?$`)

// licencesOf finds the files with licences in a package's directory, and in those
// that it is in, as far as its module goes.
func licencesOf(p goPackage, found map[string]bool) error {
	for dir := p.Dir; ; dir = filepath.Dir(dir) {
		entries, err := os.ReadDir(dir)
		if err != nil {
			return err
		}
		for _, e := range entries {
			if e.Type().IsRegular() && licenceName.MatchString(e.Name()) && filepath.Ext(e.Name()) != ".go" {
				found[filepath.Join(dir, e.Name())] = true
			}
		}
		if dir == p.Module.Dir {
			return nil
		}
		if len(dir) <= len(p.Module.Dir) {
			return fmt.Errorf("%s is not in %s", p.Dir, p.Module.Dir)
		}
	}
}

// printLicences prints the files by what they are of, each text once.
func printLicences(found map[string]map[string]bool) ([]byte, error) {
	var b bytes.Buffer
	b.WriteString("hb is built from its own source, whose licence is in the file LICENSE, and from\n" +
		"what is named here, each under its own licence. The source of each module is\n" +
		"what go mod download gets, of that version.\n")
	for _, name := range slices.Sorted(maps.Keys(found)) {
		if len(found[name]) == 0 {
			return nil, errors.New(strings.TrimSpace(name) + " has no licence")
		}
		fmt.Fprintf(&b, "\n%s\n%s\n", strings.Repeat("=", 72), strings.TrimSpace(name))
		for _, path := range slices.Sorted(maps.Keys(found[name])) {
			text, err := os.ReadFile(path)
			if err != nil {
				return nil, err
			}
			fmt.Fprintf(&b, "%s\n\n%s\n", strings.Repeat("-", 72), bytes.TrimSpace(text))
		}
	}
	return b.Bytes(), nil
}
