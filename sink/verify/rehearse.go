package verify

import (
	"context"
	"errors"
	"slices"

	"hb/sink/apply"
	"hb/sink/backupdir"
	"hb/sink/verify/overlay"
	"hb/xbstream/keyring"
)

// applyOptions are those of the recovery that is looked at.
func (o *Options) applyOptions() apply.Options {
	return apply.Options{Parallel: o.Parallel, Memory: o.Memory, Keys: o.Keys, Identities: o.Identities, Tool: "hb verify", Progress: o.Progress}
}

// rehearse does on dir what recovery does: all of it, or all but to recover
// pages. Without keys, that a redo log is encrypted ends neither.
func (o *Options) rehearse(ctx context.Context, dir *overlay.Dir, r *Result) error {
	var err error
	if r.hasKeys, err = backupdir.Exists(dir, keyring.SealedName); err != nil {
		return err
	}
	how := apply.Survey
	if o.Replay {
		how = apply.Rehearse
	}
	found, err := how(ctx, dir, o.applyOptions())
	if missing, ok := errors.AsType[*keyring.MissingKeyError](err); ok && o.Keys.None() && !o.Replay {
		r.SealedRedo = missing
		if r.Manifest != nil {
			r.FromLSN, r.LSN = r.Manifest.FromLSN, r.Manifest.LastLSN
		}
		return nil
	}
	if err != nil {
		return err
	}
	r.FromLSN, r.LSN, r.MTRs = found.FromLSN, found.LSN, found.MTRs
	r.Replayed, r.Recovered = o.Replay, found.Pages
	r.Temporary += dir.Written()
	r.Warnings = slices.Concat(r.Warnings, found.Warnings)
	return nil
}
