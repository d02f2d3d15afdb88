package main

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"strings"
)

// environment is that of the go command for a target: the user's, except what
// changes the program.
func (t target) environment() []string {
	return append(os.Environ(), "GOOS="+t.os, "GOARCH="+t.arch, "CGO_ENABLED=0", "GOFLAGS=", "GOWORK=off",
		"GOAMD64=v1", "GOARM64=v8.0", "GOEXPERIMENT=", "GOFIPS140=off")
}

// build builds hb for a target, and returns where the program is.
func (m *maker) build(t target) (string, error) {
	if program := m.built[t]; program != "" {
		return program, nil
	}
	program := filepath.Join(m.work, t.os, t.arch, "hb")
	if t.os == "windows" {
		program += ".exe"
	}
	const variables = " -X hb/stream/terminal/usage."
	set := variables + "release=" + m.version + variables + "commit=" + m.commit + variables + "committed=" + m.rfc3339()
	if m.modified {
		set += variables + "modified=true"
	}
	// What Git knows is in there already, and the same without Git.
	cmd := exec.Command("go", "build", "-trimpath", "-buildvcs=false", "-ldflags=-s -w"+set, "-o", program, ".")
	cmd.Env, cmd.Stderr = t.environment(), os.Stderr
	if err := cmd.Run(); err != nil {
		return "", fmt.Errorf("go build: %w", err)
	}
	m.built[t] = program
	return program, nil
}

// describe has hb itself write its manual pages and completion scripts, which are
// the same on all systems.
func (m *maker) describe(wanted []target) error {
	program, err := m.build(target{runtime.GOOS, runtime.GOARCH})
	if err != nil {
		return err
	}
	page, err := output(program, "man")
	if err != nil {
		return err
	}
	m.manuals = []file{{name: "hb.1", content: page}}
	for _, c := range commands.FindAllSubmatch(page, -1) {
		if page, err = output(program, "man", string(c[1])); err != nil {
			return err
		}
		m.manuals = append(m.manuals, file{name: fmt.Sprintf("hb-%s.1", c[1]), content: page})
	}
	if len(m.manuals) == 1 {
		return errors.New("hb man tells of no commands")
	}
	for _, shell := range []struct{ name, file string }{{"bash", "hb.bash"}, {"zsh", "_hb"}, {"fish", "hb.fish"}} {
		script, err := output(program, "completion", shell.name)
		if err != nil {
			return err
		}
		m.scripts = append(m.scripts, file{name: shell.file, content: script})
	}
	return nil
}

// commands are the headings of commands in hb(1).
var commands = regexp.MustCompile(`(?m)^\.SS "hb ([a-z]+)"$`)

func output(program string, args ...string) ([]byte, error) {
	var stderr bytes.Buffer
	cmd := exec.Command(program, args...)
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		return nil, fmt.Errorf("%s %s: %w: %s", filepath.Base(program), strings.Join(args, " "), err, bytes.TrimSpace(stderr.Bytes()))
	}
	return out, nil
}
