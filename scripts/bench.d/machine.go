//go:build linux

package main

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"hb/source/mysqld/mysqldtest"
	"hb/stream"
)

// machine describes what the figures depend on: processors, memory, kernel, and
// the file system of a directory.
func machine(dir string) (string, error) {
	var info unix.Sysinfo_t
	var uts unix.Utsname
	if err := unix.Sysinfo(&info); err != nil {
		return "", err
	}
	if err := unix.Uname(&uts); err != nil {
		return "", err
	}
	fs, err := fileSystem(dir)
	if err != nil {
		return "", err
	}
	return fmt.Sprintf("%d processors (%s), %s of memory, Linux %s, %s", runtime.NumCPU(), processor(),
		stream.Size(uint64(info.Totalram)*uint64(info.Unit)), unix.ByteSliceToString(uts.Release[:]), fs), nil
}

// processor names the machine's processor, where the system tells.
func processor() string {
	text, err := os.ReadFile("/proc/cpuinfo")
	if err != nil {
		return runtime.GOARCH
	}
	_, rest, _ := strings.Cut(string(text), "model name")
	line, _, _ := strings.Cut(rest, "\n")
	if _, name, ok := strings.Cut(line, ": "); ok {
		return strings.TrimSpace(name)
	}
	return runtime.GOARCH
}

// fileSystem names the type of the file system that dir is on: that of the mount
// with the longest path above it, and of those the last.
func fileSystem(dir string) (string, error) {
	dir, err := filepath.EvalSymlinks(dir)
	if err != nil {
		return "", err
	}
	text, err := os.ReadFile("/proc/self/mounts")
	if err != nil {
		return "", err
	}
	kind, longest := "unknown file system", 0
	for line := range strings.Lines(string(text)) {
		f := strings.Fields(line) // device, mount point, type, options
		if len(f) < 3 || len(f[1]) < longest || !strings.HasPrefix(dir+"/", strings.TrimSuffix(f[1], "/")+"/") {
			continue
		}
		kind, longest = f[2], len(f[1])
	}
	return kind, nil
}

// versionNumber is how programs write their versions.
var versionNumber = regexp.MustCompile(`[0-9]+(\.[0-9]+)+`)

// versions names all that is measured; mariadb-backup and mbstream are those of
// the server's release.
func versions(ctx context.Context, hb string) (string, error) {
	var all []string
	for _, program := range []string{"zstd", "age"} {
		out, err := exec.CommandContext(ctx, program, "--version").Output()
		if err != nil {
			return "", fmt.Errorf("%s --version: %w", program, err)
		}
		all = append(all, program+" "+versionNumber.FindString(string(out)))
	}
	out, err := exec.CommandContext(ctx, hb, "--version").Output()
	if err != nil {
		return "", fmt.Errorf("hb --version: %w", err)
	}
	all = append(all, strings.TrimSpace(string(out))+" ("+runtime.Version()+")")
	for _, name := range []string{mysqldtest.MariaDB1011, mysqldtest.MySQL97} {
		root, err := mysqldtest.Installed(name)
		if err != nil {
			return "", err
		}
		all = append(all, root.Flavour+" "+root.Version)
	}
	slices.Reverse(all)
	return strings.Join(all, ", "), nil
}
