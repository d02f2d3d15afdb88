package main

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"time"
)

// source is what is packaged: a commit.
type source struct {
	version  string // such as 1.2.3, 1.2.3-rc1, or 1.2.3+5.g0123abc, five commits later
	commit   string
	time     time.Time // of the commit, and of all that is made
	author   string    // of the commit, who answers for the packages
	modified bool      // there is more than the commit
}

func (s *source) rfc3339() string { return s.time.Format(time.RFC3339) }

// commitFile describes the commit. Git fills it in when it makes an archive of the
// source (gitattributes(5), export-subst), and takes the same text from here as its
// format in a repository.
const commitFile = "scripts/package.d/commit"

// findSource describes the working copy, which is a Git repository or a source
// archive of one.
func findSource(version string) (*source, error) {
	text, err := os.ReadFile(commitFile)
	if err != nil {
		return nil, err
	}
	facts, modified := string(text), false
	if strings.Contains(facts, "$Format:") {
		if facts, modified, err = askGit(facts); err != nil {
			return nil, err
		}
	}
	s, described, err := parseFacts(facts)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", commitFile, err)
	}
	s.modified = modified
	s.version = s.versionOf(described)
	if version != "" {
		s.version = version
	}
	if !versions.MatchString(s.version) {
		return nil, fmt.Errorf("%q is no version: it is to be such as 1.2.3 or 1.2.3-rc1", s.version)
	}
	return s, nil
}

// versions is the form of a version that all kinds of packages can have.
var versions = regexp.MustCompile(`^[0-9]+(\.[0-9]+)*(-[0-9A-Za-z.]+)?(\+[0-9A-Za-z.]+)?$`)

// askGit fills in the facts, and tells whether the working copy has more than the
// commit.
func askGit(facts string) (filled string, modified bool, err error) {
	top, err := git("rev-parse", "--show-toplevel")
	if err != nil {
		return "", false, fmt.Errorf("this is no source archive, which would name its commit, and: %w", err)
	}
	here, err := os.Getwd()
	if err == nil {
		here, err = filepath.EvalSymlinks(here)
	}
	if err != nil {
		return "", false, err
	}
	if top != here {
		return "", false, fmt.Errorf("this is a copy in the repository %s, and no commit of its own: package that", top)
	}
	format := strings.NewReplacer("$Format:", "", "$", "").Replace(facts)
	if filled, err = git("log", "-1", "--format="+format); err != nil {
		return "", false, err
	}
	status, err := git("status", "--porcelain")
	return filled, status != "", err
}

func git(args ...string) (string, error) {
	out, err := exec.Command("git", args...).Output()
	if e, ok := errors.AsType[*exec.ExitError](err); ok {
		err = errors.New(strings.TrimSpace(string(e.Stderr)))
	}
	if err != nil {
		return "", fmt.Errorf("git %s: %w", args[0], err)
	}
	return strings.TrimSpace(string(out)), nil
}

// parseFacts reads a filled commitFile: a name and a value in each line.
func parseFacts(text string) (s *source, described string, err error) {
	facts := make(map[string]string)
	for line := range strings.Lines(text) {
		name, value, _ := strings.Cut(strings.TrimSpace(line), " ")
		facts[name] = value
	}
	seconds, err := strconv.ParseInt(facts["seconds"], 10, 64)
	if err != nil || facts["commit"] == "" || facts["author"] == "" {
		return nil, "", errors.New("it does not say which commit this is")
	}
	return &source{commit: facts["commit"], time: time.Unix(seconds, 0).UTC(), author: facts["author"]}, facts["describe"], nil
}

// described is what git describe prints after a tag: how many commits, and which.
var described = regexp.MustCompile(`-([0-9]+)-(g[0-9a-f]+)$`)

// versionOf is the version by the last tag. Without one it is that of the commit's
// day.
func (s *source) versionOf(describe string) string {
	v := described.ReplaceAllString(strings.TrimPrefix(describe, "v"), "+$1.$2")
	if describe == "" {
		v = fmt.Sprintf("0.0.0+%s.g%.12s", s.time.Format("20060102"), s.commit)
	}
	if !s.modified {
		return v
	}
	if strings.Contains(v, "+") {
		return v + ".modified"
	}
	return v + "+modified"
}
