// This file is no part of hb: scripts/torture builds an hb that has it, whose
// files can be made to fail. The rules are in the environment:
//
//	HB_TORTURE=KIND:PATTERN:N:ACTION[;…]
//
// The N-th operation of that kind on a file whose base name matches is done
// otherwise, and with N+ all that follow it as well. A kind is one of disktest's,
// or "any", or "change" for all that change a directory. An action is the name of
// an error, or TORN (a read ends in other bytes), KILL (a write is half done),
// POWER=SEED (and what was not synced is lost, as the seed has it), or
// SLEEP=MILLISECONDS.
package main

import (
	"fmt"
	"os"
	"path"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"hb/stream/disk"
	"hb/stream/disk/disktest"
)

func init() {
	text := os.Getenv("HB_TORTURE")
	if text == "" {
		return
	}
	var rules []*tortureRule
	for _, s := range strings.Split(text, ";") {
		rules = append(rules, parseTorture(s))
	}
	f := disktest.NewFaults("/")
	f.Rule = func(op disktest.Op) error {
		var err error
		for _, r := range rules {
			if e := r.apply(op); e != nil {
				err = e
			}
		}
		return err
	}
	f.Die = func() {
		_ = syscall.Kill(os.Getpid(), syscall.SIGKILL)
		select {}
	}
	for _, r := range rules {
		if seed, ok := strings.CutPrefix(r.action, "POWER="); ok {
			n, err := strconv.ParseUint(seed, 10, 64)
			if err != nil {
				panic("HB_TORTURE: " + text)
			}
			f.LosePower(n)
		}
	}
	disk.OS = f
}

type tortureRule struct {
	kind, pattern, action string
	n                     int
	on                    bool // and all that follow
	mu                    sync.Mutex
	seen                  int
}

func parseTorture(s string) *tortureRule {
	f := strings.Split(s, ":")
	if len(f) != 4 {
		panic("HB_TORTURE: " + s)
	}
	r := &tortureRule{kind: f[0], pattern: f[1], action: f[3]}
	count, on := strings.CutSuffix(f[2], "+")
	n, err := strconv.Atoi(count)
	if err != nil {
		panic("HB_TORTURE: " + s)
	}
	r.n, r.on = n, on
	return r
}

var changing = []disktest.Kind{
	disktest.Mkdir, disktest.OpenWrite, disktest.Write, disktest.Truncate, disktest.Sync, disktest.Rename, disktest.Link, disktest.Symlink, disktest.Remove,
}

func (r *tortureRule) apply(op disktest.Op) error {
	if r.kind != "any" && r.kind != string(op.Kind) && !(r.kind == "change" && slices.Contains(changing, op.Kind)) {
		return nil
	}
	if ok, _ := path.Match(r.pattern, path.Base(op.Name)); !ok {
		return nil
	}
	r.mu.Lock()
	r.seen++
	hit := r.seen == r.n || r.on && r.seen > r.n
	first := r.seen == r.n
	r.mu.Unlock()
	if !hit {
		return nil
	}
	if first {
		fmt.Fprintf(os.Stderr, "torture: %v: %s\n", op, r.action)
	}
	switch action, value, _ := strings.Cut(r.action, "="); action {
	case "EIO":
		return syscall.EIO
	case "ENOSPC":
		return syscall.ENOSPC
	case "TORN":
		return disktest.ErrTorn
	case "KILL":
		return disktest.ErrDead
	case "POWER":
		return disktest.ErrPower
	case "SLEEP":
		ms, _ := strconv.Atoi(value)
		time.Sleep(time.Duration(ms) * time.Millisecond)
		return nil
	}
	panic("HB_TORTURE: " + r.action)
}
