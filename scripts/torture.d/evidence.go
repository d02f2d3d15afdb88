package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"hb/source/mysqld/mysqldtest"
)

// keepEvidence moves the directory of a round to where it stays: the archive, the
// data directories of the source and of all copies, every log, and a note that
// says how to see it again.
func (t *torture) keepEvidence(r *round, found error) error {
	to := filepath.Join(t.keep, fmt.Sprintf("seed%d-round%d", r.seed, r.round))
	for n := 2; ; n++ {
		if _, err := os.Lstat(to); err != nil {
			break
		}
		to = filepath.Join(t.keep, fmt.Sprintf("seed%d-round%d.%d", r.seed, r.round, n))
	}
	text := fmt.Sprintf("%v\n\n%v\n\nAgain: %s\n\n%s\n", found, r.plan, r.plan.command(), strings.Join(r.notes, "\n"))
	err := errors.Join(
		os.MkdirAll(t.keep, 0o755),
		mysqldtest.CopyTree(to, r.dir),
		os.WriteFile(filepath.Join(to, "FINDING"), []byte(text), 0o644),
	)
	say("   kept in %s; again: %s", to, r.plan.command())
	return err
}
