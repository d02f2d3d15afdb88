package main

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
)

// programs are the two builds of hb that a round uses: as it is, and with files
// that can be made to fail.
type programs struct{ plain, faulty string }

// build builds both.
func (t *torture) build(ctx context.Context) error {
	if err := t.buildFaulty(ctx, nil); err != nil {
		return err
	}
	t.hb.plain = filepath.Join(t.dir, "hb")
	return goBuild(ctx, t.root, t.hb.plain, ".", nil)
}

// buildFaulty builds the one whose files can fail, with some files of the source
// replaced by others, and has it stand for both: without a rule nothing fails.
func (t *torture) buildFaulty(ctx context.Context, replace map[string]string) error {
	t.hb.faulty = filepath.Join(t.dir, "hb-faulty")
	t.hb.plain = t.hb.faulty
	root, err := filepath.Abs(t.root)
	if err != nil {
		return err
	}
	overlay := map[string]string{}
	for name, by := range replace {
		overlay[filepath.Join(root, name)] = by
	}
	overlay[filepath.Join(root, "torture_faults.go")] = filepath.Join(root, "scripts", "torture.d", "testdata", "faults.go")
	return goBuild(ctx, root, t.hb.faulty, ".", overlay)
}

// goBuild builds a package of the source at root.
func goBuild(ctx context.Context, root, out, pkg string, overlay map[string]string) error {
	b, err := json.Marshal(map[string]any{"Replace": overlay})
	if err != nil {
		return err
	}
	file := out + ".overlay.json"
	if err := os.WriteFile(file, b, 0o644); err != nil {
		return err
	}
	cmd := exec.CommandContext(ctx, "go", "build", "-overlay", file, "-o", out, pkg)
	cmd.Dir = root
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if text, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("build hb: %w\n%s", err, text)
	}
	return nil
}
