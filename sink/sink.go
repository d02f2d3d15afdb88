// Package sink turns an archive into a directory that a server starts on: [Restore]
// does in one pass what packages extract and apply do one after the other.
package sink

import (
	"context"
	"errors"
	"io"

	"hb/sink/apply"
	"hb/sink/extract"
)

// RestoreBusy is how many goroutines of Restore compute while the archive passes
// through others, in many short steps. Where processors are few, those would wait
// for them at every step, as Go lets a goroutine run for many milliseconds; with
// so many more in GOMAXPROCS it is the kernel that shares them out.
const RestoreBusy = 2

// Restore is extract.Run and then apply.Run, in one pass: what the extraction has
// verified and written is not read again to compare it with the manifest, and the redo
// log of an archive of hb's is read while it arrives. The directory takes the same
// steps: killed before the archive's end it has the file backupdir.MarkerName in it,
// and afterwards apply.Run goes on.
//
// The result of the extraction is returned when that is complete, whatever
// becomes of the recovery.
func Restore(ctx context.Context, r io.Reader, dir string, x extract.Options, o apply.Options) (extracted *extract.Result, applied *apply.Result, err error) {
	t, err := extract.Open(x.System, dir)
	if err != nil {
		return nil, nil, err
	}
	ahead := apply.NewAhead(ctx, t.Root, o)
	defer func() { err = errors.Join(err, ahead.Close(), t.Root.Close()) }()
	x.Follow = ahead.Begin
	if extracted, err = t.Extract(ctx, r, x); err != nil {
		return nil, nil, err
	}
	applied, err = ahead.Apply(ctx, dir)
	return extracted, applied, err
}
