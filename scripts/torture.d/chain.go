package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"hb/scripts/torture.d/load"
	"hb/scripts/torture.d/oracle"
)

// A round with a chain takes a full backup first, and then one incremental backup after
// the other, while the load goes on. The last of them is the one that the plan is about:
// the fault and the pipe are its own. hb merge makes an archive of them all, and from
// there on the round is like any other: what a full backup must be right about, a
// merged one must.

// link is the n-th archive of the chain, of which 0 is the full one.
func (r *round) link(n int) string { return filepath.Join(r.dir, fmt.Sprintf("link%d.hb", n)) }

// links are the archives of the whole chain.
func (r *round) links() (names []string) {
	for n := range r.chain + 1 {
		names = append(names, r.link(n))
	}
	return names
}

// beginChain takes all backups of the chain but the last.
func (r *round) beginChain(ctx context.Context) error {
	for n := range r.chain {
		args := slices.Concat([]string{"backup"}, r.reach(), []string{"--tmpdir=" + r.dir, "--parallel=2"}, r.scope(), r.stages(), r.chained(n))
		said, err := r.toFile(ctx, r.link(n), args...)
		if exit := (*exitError)(nil); errors.As(err, &exit) {
			if why := r.excused(&backup{exit.code, said}); why != "" {
				r.note("backup %d of the chain failed with %d: %s", n, exit.code, why)
				r.chain = n // the round's own backup takes its place
				return nil
			}
		}
		if err != nil {
			return fmt.Errorf("backup %d of the chain, which nothing hurts: %w\n%s", n, err, said)
		}
		load.Sleep(ctx, time.Duration(100+400*r.at[n%len(r.at)])*time.Millisecond)
	}
	return nil
}

// chained are the options of the n-th backup of the chain. What is encrypted to a key
// that the server has not got is continued from the manifest.
func (r *round) chained(n int) (options []string) {
	if n > 0 {
		base := r.link(n - 1)
		if len(r.stages()) > 1 || r.at[n%len(r.at)] < 0.5 {
			base = r.manifestOf(n - 1)
		}
		options = append(options, "--since="+base)
	}
	if n < r.chain {
		options = append(options, "--manifest-out="+r.manifestOf(n))
	}
	return options
}

func (r *round) manifestOf(n int) string {
	return filepath.Join(r.dir, fmt.Sprintf("link%d.manifest", n))
}

// stages are the plan's options of the archive's stages.
func (r *round) stages() (options []string) {
	for _, o := range r.plan.backup {
		if o == "--compress" || strings.HasPrefix(o, "--encrypt") {
			options = append(options, strings.ReplaceAll(o, "@PASS@", r.passphrase()))
		}
	}
	return options
}

// mergeChain makes the round's archive of the chain, whose last backup is in its place,
// and demands that hb refuses chains that are not whole.
func (r *round) mergeChain(ctx context.Context) error {
	if err := os.Rename(r.archive(), r.link(r.chain)); err != nil {
		return err
	}
	merge := func(to string, links ...string) (string, error) {
		return r.toFile(ctx, to, slices.Concat([]string{"merge", "--no-defaults", r.identity()}, r.stages(), links)...)
	}
	if said, err := merge(r.archive(), r.links()...); err != nil {
		return fmt.Errorf("hb merge of a chain: %w\n%s", err, said)
	}
	if r.when == "idle" && !r.hurt.harmsServer {
		if err := r.sameAsFull(ctx); err != nil {
			return err
		}
	}
	refused := filepath.Join(r.dir, "refused.hb")
	what, links := r.brokenChain()
	if said, err := merge(refused, links...); err == nil {
		return fmt.Errorf("hb merge took a chain %s:\n%s", what, said)
	}
	return load.IgnoreGone(os.Remove(refused))
}

// brokenChain is the chain with one thing wrong.
func (r *round) brokenChain() (what string, links []string) {
	links = r.links()
	n := int(r.at[0] * float64(r.chain)) // a backup that another one builds on
	switch int(r.at[1] * 3) {
	case 0:
		return fmt.Sprintf("without backup %d", n), slices.Delete(links, n, n+1)
	case 1:
		links[n], links[n+1] = links[n+1], links[n]
		return fmt.Sprintf("with %d and %d in the wrong order", n, n+1), links
	}
	return fmt.Sprintf("with %d twice", n+1), slices.Insert(links, n+1, links[n+1])
}

// sameAsFull takes a full backup of a server on which nobody writes, and demands that the
// chain restores the same users' files.
func (r *round) sameAsFull(ctx context.Context) error {
	full := filepath.Join(r.dir, "full.hb")
	if said, err := r.toFile(ctx, full, slices.Concat([]string{"backup"}, r.reach(), r.scope(), []string{"--tmpdir=" + r.dir})...); err != nil {
		return fmt.Errorf("a full backup after the chain: %w\n%s", err, said)
	}
	dirs := [2]string{filepath.Join(r.dir, "of the chain"), filepath.Join(r.dir, "of a full backup")}
	for i, archive := range []string{r.archive(), full} {
		if err := r.must(ctx, append([]string{"extract", "--no-defaults", "--apply", "-C", dirs[i], r.identity(), archive}, r.placing()...)...); err != nil {
			return err
		}
	}
	return oracle.SameUserFiles(dirs[0], dirs[1])
}

// exitError is a command that failed.
type exitError struct{ code int }

func (e *exitError) Error() string { return fmt.Sprintf("ended with %d", e.code) }

// toFile runs hb with its standard output in a file.
func (r *round) toFile(ctx context.Context, name string, args ...string) (said string, err error) {
	out, err := os.Create(name)
	if err != nil {
		return "", err
	}
	cmd := exec.CommandContext(ctx, r.hb.plain, args...)
	log, err := r.logFile("hb "+args[0], cmd)
	if err != nil {
		return "", errors.Join(err, out.Close())
	}
	cmd.Stdout, cmd.Stderr = out, log
	err = cmd.Run()
	if exit := (*exec.ExitError)(nil); errors.As(err, &exit) {
		err = &exitError{exit.ExitCode()}
	}
	text, readErr := os.ReadFile(log.Name())
	return string(text), errors.Join(err, out.Close(), log.Close(), readErr)
}
