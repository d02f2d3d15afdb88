package sink

import (
	"context"
	"errors"
	"io"

	"hb/stream/disk"
)

// RestoreBusy is how many goroutines of Restore compute while the archive passes
// through others, in many short steps. Where processors are few, those would wait
// for them at every step, as Go lets a goroutine run for many milliseconds; with
// so many more in GOMAXPROCS it is the kernel that shares them out.
const RestoreBusy = 2

// Restore is Extract and then Apply, in one pass: what Extract has verified and
// written is not read again to compare it with the manifest, and the redo log of an archive of hb's is
// read while it arrives. The directory takes the same steps: killed before the
// archive's end it has the file MarkerName in it, and afterwards Apply goes on.
//
// The result of the extraction is returned when that is complete, whatever
// becomes of the recovery.
func Restore(ctx context.Context, r io.Reader, dir string, x ExtractOptions, o ApplyOptions) (*ExtractResult, *ApplyResult, error) {
	return restoreOn(ctx, disk.OS, r, dir, x, o)
}

func restoreOn(ctx context.Context, system disk.System, r io.Reader, dir string, x ExtractOptions, o ApplyOptions) (extracted *ExtractResult, applied *ApplyResult, err error) {
	t, err := openTarget(system, dir)
	if err != nil {
		return nil, nil, err
	}
	o.fill()
	ahead := newReadAhead(ctx, t.root, o.planMemory())
	defer func() { err = errors.Join(err, ahead.Close(), t.root.Close()) }()
	if extracted, err = t.extract(ctx, r, x, ahead); err != nil {
		return nil, nil, err
	}
	ahead.reading.Wait()
	a := &applier{ApplyOptions: o, dir: dir, root: t.root, fresh: true, ahead: ahead}
	if err := a.run(ctx); err != nil {
		return extracted, nil, err
	}
	return extracted, &a.result, nil
}
