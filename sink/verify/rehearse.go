package verify

import (
	"context"
	"slices"

	"hb/sink/apply"
	"hb/sink/verify/overlay"
)

// applyOptions are those of the recovery that is looked at.
func (o *Options) applyOptions() apply.Options {
	return apply.Options{Parallel: o.Parallel, Memory: o.Memory, Keys: o.Keys, Tool: "hb verify", Progress: o.Progress}
}

// rehearse does on dir what recovery does: all of it, or all but to recover
// pages.
func (o *Options) rehearse(ctx context.Context, dir *overlay.Dir, r *Result) error {
	how := apply.Survey
	if o.Replay {
		how = apply.Rehearse
	}
	found, err := how(ctx, dir, o.applyOptions())
	if err != nil {
		return err
	}
	r.FromLSN, r.LSN, r.MTRs = found.FromLSN, found.LSN, found.MTRs
	r.Replayed, r.Recovered = o.Replay, found.Pages
	r.Temporary += dir.Written()
	r.Warnings = slices.Concat(r.Warnings, found.Warnings)
	return nil
}
