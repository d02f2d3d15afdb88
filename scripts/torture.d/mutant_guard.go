package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"hb/scripts/torture.d/mutant"
)

// ran is what a test came to.
type ran struct {
	passed bool
	said   string // its output
}

// huntByTest runs a test with files of the source replaced by others, and returns the
// line by which it failed, "" if it passed. Of hb as it is, it must pass.
func (t *torture) huntByTest(ctx context.Context, test mutant.GoTest, replace map[string]string) (by string, err error) {
	if !t.sound[test] {
		whole, err := t.runTest(ctx, test, nil)
		if err != nil {
			return "", err
		}
		if !whole.passed {
			return "", fmt.Errorf("%v fails without a mutant:\n%s", test, whole.said)
		}
		if t.sound == nil {
			t.sound = make(map[mutant.GoTest]bool)
		}
		t.sound[test] = true
	}
	broken, err := t.runTest(ctx, test, replace)
	if err != nil || broken.passed {
		return "", err
	}
	return test.Name + ": " + broken.reason(), nil
}

// runTest runs one test. An error says that it did not run: it does not compile, there
// is no such test, or it was skipped.
func (t *torture) runTest(ctx context.Context, test mutant.GoTest, replace map[string]string) (ran, error) {
	overlay := filepath.Join(t.dir, "test.overlay.json")
	if err := writeOverlay(overlay, t.root, replace); err != nil {
		return ran{}, err
	}
	cmd := exec.CommandContext(ctx, "go", "test", "-overlay", overlay, "-count=1", "-timeout=10m", "-v", "-run", "^"+test.Name+"$", test.Pkg)
	cmd.Dir = t.root
	cmd.Env = append(os.Environ(), "HB_TEST_SERVERS=require")
	text, err := cmd.CombinedOutput()
	if ctx.Err() != nil {
		return ran{}, context.Cause(ctx)
	}
	if exit, ok := errors.AsType[*exec.ExitError](err); err != nil && !ok {
		return ran{}, fmt.Errorf("%v: %w", test, exit)
	}
	r := ran{passed: err == nil, said: string(text)}
	return r, r.proves(test)
}

// proves demands that the output is of a test that ran to its end.
func (r ran) proves(test mutant.GoTest) error {
	result := "--- FAIL: "
	if r.passed {
		result = "--- PASS: "
	}
	if !strings.Contains("\n"+r.said, "\n"+result+test.Name+" ") {
		return fmt.Errorf("%v did not run:\n%s", test, r.said)
	}
	return nil
}

// reason is the first line with which the test says why it failed.
func (r ran) reason() string {
	for line := range strings.Lines(r.said) {
		if line = strings.TrimSpace(line); strings.Contains(line, "_test.go:") {
			return firstLine(errors.New(line))
		}
	}
	return "failed"
}
