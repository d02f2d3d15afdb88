package main

import (
	"embed"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

// What packages say of hb.
const (
	summary = "hot physical backup of MySQL and MariaDB"
	about   = summary + `
hb backs up a running MySQL or MariaDB server physically, while it is written
to, as a Unix filter. It writes one archive to standard output, unpacks it, and
replays the redo log itself, so that a server starts on the directory.`
)

// release counts packages of the same version.
const release = "1"

// distro makes the packages of a target for Debian's family and for Red Hat's.
func (m *maker) distro(t target, program string) error {
	version := strings.ReplaceAll(m.version, "-", "~") // what is before a release
	rpmArch := map[string]string{"amd64": "x86_64", "arm64": "aarch64"}[t.arch]
	for packager, name := range map[string]string{
		"deb": fmt.Sprintf("hb_%s-%s_%s.deb", version, release, t.arch),
		"rpm": fmt.Sprintf("hb-%s-%s.%s.rpm", version, release, rpmArch),
	} {
		files, err := m.installed(packager, version)
		if err != nil {
			return err
		}
		config, err := m.stage(packager, t, version, program, files)
		if err != nil {
			return err
		}
		cmd := exec.Command(m.nfpm, "package", "--config", config, "--packager", packager, "--target", filepath.Join(m.out, name))
		if out, err := cmd.CombinedOutput(); err != nil {
			return fmt.Errorf("nfpm: %w: %s", err, out)
		}
		m.made = append(m.made, name)
	}
	return nil
}

// units are the service of a nightly backup, which is not started: the account and its
// password come first.
//
//go:embed units
var units embed.FS

// unitFiles are units in their places.
func unitFiles() (files []file, err error) {
	for name, place := range map[string]string{"hb-nightly": "usr/lib/hb/", "hb-backup.service": "usr/lib/systemd/system/", "hb-backup.timer": "usr/lib/systemd/system/"} {
		text, err := units.ReadFile("units/" + name)
		if err != nil {
			return nil, err
		}
		files = append(files, file{place + name, text, name == "hb-nightly"})
	}
	slices.SortFunc(files, byName)
	return files, nil
}

// installed are the files of a package, except for the program.
func (m *maker) installed(packager, version string) (files []file, err error) {
	add := func(name string, content []byte) { files = append(files, file{name: name, content: content}) }
	compressed := func(name string, content []byte) error {
		packed, err := gzipped(content)
		add(name+".gz", packed)
		return err
	}
	for _, f := range m.manuals {
		if err := compressed("usr/share/man/man1/"+f.name, f.content); err != nil {
			return nil, err
		}
	}
	zsh := map[string]string{"deb": "vendor-completions", "rpm": "site-functions"}[packager]
	places := map[string]string{
		"hb.bash": "bash-completion/completions/hb", "_hb": "zsh/" + zsh + "/_hb", "hb.fish": "fish/vendor_completions.d/hb.fish",
	}
	for _, f := range m.scripts {
		add("usr/share/"+places[f.name], f.content)
	}
	service, err := unitFiles()
	if err != nil {
		return nil, err
	}
	files = append(files, service...)
	texts, err := documents()
	if err != nil {
		return nil, err
	}
	for _, f := range texts {
		switch {
		case f.name != "LICENSE":
			add("usr/share/doc/hb/"+f.name, f.content)
		case packager == "rpm":
			add("usr/share/licenses/hb/"+f.name, f.content)
		}
	}
	if packager == "rpm" {
		add("usr/share/licenses/hb/"+licencesName, m.licences)
		return files, nil
	}
	add("usr/share/doc/hb/copyright", fmt.Appendf(nil, copyright, m.time.Year()))
	add("usr/share/lintian/overrides/hb", []byte(overrides))
	return files, errors.Join(compressed("usr/share/doc/hb/third-party", m.licences),
		compressed("usr/share/doc/hb/changelog.Debian", m.changelog(version)))
}

// copyright is Debian's file of that name, which refers to the texts of licences
// that every system has.
const copyright = `Copyright %d the authors of hb, whom its repository names.

hb is under the Apache License, version 2.0, which on Debian systems is in
/usr/share/common-licenses/Apache-2.0. What is built into it besides, and the
licences of that, is in /usr/share/doc/hb/third-party.gz.
`

// overrides say what Debian's checker is to pass over.
const overrides = `# Programs in Go that call no C library are.
hb: statically-linked-binary [usr/bin/hb]
# It is none of Debian's own packages.
hb: initial-upload-closes-no-bugs [usr/share/doc/hb/changelog.Debian.gz:1]
`

// changelog is Debian's: that there is this version. What changed, the repository
// tells.
func (m *maker) changelog(version string) []byte {
	return fmt.Appendf(nil, "hb (%s-%s) unstable; urgency=medium\n\n  * Version %s,\n    of commit %s.\n\n -- %s  %s\n",
		version, release, m.version, m.commit, m.author, m.time.Format(time.RFC1123Z))
}

// content is a file of a package, as nfpm wants it.
type content struct {
	Source      string   `json:"src"`
	Destination string   `json:"dst"`
	Info        fileInfo `json:"file_info"`
}

type fileInfo struct {
	Mode  fs.FileMode `json:"mode"`
	MTime string      `json:"mtime"`
}

func entry(path, name string, mode fs.FileMode, mtime string) content {
	return content{path, "/" + name, fileInfo{mode, mtime}}
}

// stage writes the files to where nfpm gets them, with its configuration, and
// returns where that is.
func (m *maker) stage(packager string, t target, version, program string, files []file) (config string, err error) {
	dir := filepath.Join(m.work, packager, t.arch)
	contents := []content{entry(program, "usr/bin/hb", 0o755, m.rfc3339())}
	for _, f := range files {
		path := filepath.Join(dir, f.name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			return "", err
		}
		if err := os.WriteFile(path, f.content, 0o644); err != nil {
			return "", err
		}
		contents = append(contents, entry(path, f.name, f.mode(), m.rfc3339()))
	}
	settings := map[string]any{
		"name": "hb", "arch": t.arch, "platform": t.os, "version": version, "version_schema": "none", "release": release,
		"section": "database", "priority": "optional", "maintainer": m.author, "description": about,
		"mtime": m.rfc3339(), "disable_globbing": true, "contents": contents,
		"rpm": map[string]any{"summary": summary, "buildhost": "localhost", "group": "Applications/Databases"},
	}
	if packager == "rpm" { // Debian has no such field
		settings["license"] = "Apache-2.0"
	}
	text, err := json.Marshal(settings) // which is YAML
	if err != nil {
		return "", err
	}
	config = filepath.Join(dir, "nfpm.yaml")
	return config, os.WriteFile(config, text, 0o644)
}
