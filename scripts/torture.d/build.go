package main

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
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
	replace = maps.Clone(replace)
	if replace == nil {
		replace = make(map[string]string)
	}
	replace["torture_faults.go"] = filepath.Join(root, "scripts", "torture.d", "testdata", "faults.go")
	return goBuild(ctx, root, t.hb.faulty, ".", replace)
}

// goBuild builds a package of the source at root, with some of its files replaced by
// others.
func goBuild(ctx context.Context, root, out, pkg string, replace map[string]string) error {
	overlay := out + ".overlay.json"
	if err := writeOverlay(overlay, root, replace); err != nil {
		return err
	}
	cmd := exec.CommandContext(ctx, "go", "build", "-overlay", overlay, "-o", out, pkg)
	cmd.Dir = root
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if text, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("build hb: %w\n%s", err, text)
	}
	return nil
}

// writeOverlay writes the file that has go replace files of the source at root, by their
// names from there.
func writeOverlay(file, root string, replace map[string]string) error {
	root, err := filepath.Abs(root)
	if err != nil {
		return err
	}
	whole := make(map[string]string)
	for name, by := range replace {
		whole[filepath.Join(root, name)] = by
	}
	b, err := json.Marshal(map[string]any{"Replace": whole})
	if err != nil {
		return err
	}
	return os.WriteFile(file, b, 0o644)
}
