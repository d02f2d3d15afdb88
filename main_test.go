package main

import (
	"bytes"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"

	"hb/xbstream"
	"hb/xbstream/metadata"
)

// asHB makes the test binary be hb.
const asHB = "HB_TEST_AS_HB"

func TestMain(m *testing.M) {
	if os.Getenv(asHB) == "1" {
		main()
	}
	testscript.Main(m, map[string]func(){"hb": main})
}

// TestScripts runs the scripts in testdata/script: what the commands do that
// needs no server.
//
// Besides testscript's own commands they have
//
//	exits CODE [<FILE] hb ARG...   hb must end with that exit code
//	mkarchive FILE                 a small whole archive
//	truncate FILE N                cut a file to N bytes; -N: by N bytes
//	flip FILE OFFSET               flip a bit; negative offsets count from the end
func TestScripts(t *testing.T) {
	testscript.Run(t, testscript.Params{
		Dir: filepath.Join("testdata", "script"),
		Cmds: map[string]func(*testscript.TestScript, bool, []string){
			"exits": exits, "mkarchive": mkarchive, "truncate": truncate, "flip": flip,
		},
	})
}

// exits runs hb and checks its exit code; stdout and stderr go to the files
// out and err.
func exits(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: exits CODE [<FILE] hb ARG...")
	}
	want, rest := args[0], args[1:]
	var stdin *os.File
	if name, ok := strings.CutPrefix(rest[0], "<"); ok {
		f, err := os.Open(ts.MkAbs(name))
		ts.Check(err)
		defer f.Close()
		stdin, rest = f, rest[1:]
	}
	exe, err := os.Executable()
	ts.Check(err)
	cmd := exec.Command(exe, rest[1:]...)
	cmd.Dir = ts.MkAbs(".")
	cmd.Env = append(os.Environ(), asHB+"=1", "HOME="+ts.Getenv("HOME"))
	if stdin != nil {
		cmd.Stdin = stdin
	}
	out, err := os.Create(ts.MkAbs("out"))
	ts.Check(err)
	defer out.Close()
	errs, err := os.Create(ts.MkAbs("err"))
	ts.Check(err)
	defer errs.Close()
	cmd.Stdout, cmd.Stderr = out, errs
	var exit *exec.ExitError
	if err := cmd.Run(); err != nil && !errors.As(err, &exit) {
		ts.Check(err)
	}
	if got := strconv.Itoa(cmd.ProcessState.ExitCode()); got != want {
		ts.Fatalf("exit code %s, want %s\n%s", got, want, ts.ReadFile("err"))
	}
}

// mkarchive writes an archive of three small files.
func mkarchive(ts *testscript.TestScript, _ bool, args []string) {
	f, err := os.Create(ts.MkAbs(args[0]))
	ts.Check(err)
	defer f.Close()
	w := xbstream.NewWriter(f)
	now := time.Now()
	head, err := (&metadata.Archive{
		Version: metadata.ArchiveVersion, HBVersion: "test", ServerFlavor: metadata.FlavorMariaDB,
		ServerVersion: "10.11.18-MariaDB", PageSize: 16 << 10, StartLSN: 1000, RedoFormat: "test", Created: now,
	}).Marshal()
	ts.Check(err)
	m := metadata.Manifest{FromLSN: 1000, CheckpointLSN: 1000, LastLSN: 2000, Start: now, End: now}
	var sums []metadata.File
	put := func(name string, content []byte) {
		out, err := w.Create(name)
		ts.Check(err)
		_, err = out.Write(content)
		ts.Check(err)
		ts.Check(out.Close())
		sums = append(sums, metadata.File{Path: name, Size: out.Sum().Size, CRC32: out.Sum().CRC32})
		m.Files++
		m.Bytes += out.Sum().Size
	}
	put(metadata.ArchiveName, head)
	put("db/t.frm", []byte("a definition"))
	put("ibdata1", bytes.Repeat([]byte("page"), 8<<10))
	out, err := w.Create(metadata.ManifestName)
	ts.Check(err)
	mw, err := metadata.NewManifestWriter(out, m)
	ts.Check(err)
	for _, f := range sums {
		ts.Check(mw.Add(f))
	}
	ts.Check(mw.Close())
	ts.Check(out.Close())
	ts.Check(w.Close())
}

func truncate(ts *testscript.TestScript, _ bool, args []string) {
	b := ts.ReadFile(args[0])
	ts.Check(os.WriteFile(ts.MkAbs(args[0]), []byte(b[:offset(ts, b, args[1])]), 0o644))
}

func flip(ts *testscript.TestScript, _ bool, args []string) {
	b := []byte(ts.ReadFile(args[0]))
	b[offset(ts, string(b), args[1])] ^= 1
	ts.Check(os.WriteFile(ts.MkAbs(args[0]), b, 0o644))
}

func offset(ts *testscript.TestScript, b, text string) int {
	n, err := strconv.Atoi(text)
	ts.Check(err)
	if n < 0 {
		n += len(b)
	}
	return n
}

// hb returns a command that runs hb with the given arguments.
func hb(t *testing.T, args ...string) *exec.Cmd {
	t.Helper()
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(exe, args...)
	cmd.Env = append(os.Environ(), asHB+"=1")
	return cmd
}

// result is how a command ended.
type result struct {
	code           int
	stdout, stderr string
}

// run runs a command and returns how it ended.
func run1(t *testing.T, cmd *exec.Cmd) result {
	t.Helper()
	var out, errs bytes.Buffer
	if cmd.Stdout == nil {
		cmd.Stdout = &out
	}
	cmd.Stderr = &errs
	err := cmd.Run()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		t.Fatal(err)
	}
	return result{cmd.ProcessState.ExitCode(), out.String(), errs.String()}
}

// succeed runs a command that must end well and returns what it said.
func succeed(t *testing.T, cmd *exec.Cmd) result {
	t.Helper()
	r := run1(t, cmd)
	if r.code != 0 {
		t.Fatalf("%s: exit code %d\n%s", strings.Join(cmd.Args[1:], " "), r.code, r.stderr)
	}
	return r
}
