package check

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"time"

	"hb/source/datadir"
	"hb/source/mysqld"
	"hb/source/mysqld/position"
	"hb/source/pages"
	"hb/source/subject"
	"hb/stream"
	"hb/stream/disk"
	"hb/xbstream"
)

// Estimate is the size of an archive of a server, in bytes before its stages, as far
// as that is known before the backup.
type Estimate struct {
	Tablespaces int64 // of an incremental backup: those of their pages that it has
	Others      int64 // files of other engines, definitions, and what the format adds
	Redo        int64 // what there is already
	// RedoRate is how many bytes of redo the server writes in a second now. The archive
	// grows as fast while the backup lasts.
	RedoRate int64
	// Part is the size of samples of the tablespaces after compression and encryption,
	// as a part of their size before: 0 to about 1.
	Part float64

	compressed bool
	disk       disk.System
	files      []datadir.File // tablespaces, to take samples of
	bytes      int64          // of these files
	changes    *changes       // nil: it is a full backup
}

// rateTime is for how long the redo log is watched.
const rateTime = 2 * time.Second

// EstimateSize estimates the archive of a backup. It makes the backup's own checks
// first. It takes rateTime and the reading of samples.
func EstimateSize(ctx context.Context, srv *mysqld.Server, opt subject.Options, stages stream.WriteOptions) (*Estimate, error) {
	s, err := subject.New(disk.OS, srv, opt)
	if err != nil {
		return nil, err
	}
	if err := Preflight(ctx, s); err != nil {
		return nil, err
	}
	e := &Estimate{disk: s.Disk, compressed: stages.Compress != nil}
	if err := e.measureFiles(ctx, s); err != nil {
		return nil, err
	}
	if err := e.measureRedo(ctx, s); err != nil {
		return nil, err
	}
	e.Part, err = stages.Part(ctx, e.sample)
	return e, err
}

func (e *Estimate) measureFiles(ctx context.Context, s *subject.Subject) error {
	list, err := s.List(ctx)
	if err != nil {
		return err
	}
	for _, path := range s.Layout.System {
		info, err := datadir.Stat(s.Disk, path, path)
		if err != nil {
			return err
		}
		info.Linked = true
		e.files = append(e.files, info)
	}
	e.files = append(e.files, list.Tablespaces...)
	others := list.Others
	if s.Server.Flavor == mysqld.MariaDB {
		control, logs, err := s.Layout.AriaFiles()
		if err != nil {
			return err
		}
		others = append(append(others, control...), logs...)
	}
	if s.Base != nil {
		others = sentFiles(s.Base, others)
	}
	for _, f := range e.files {
		e.bytes += f.Size
		e.Others += framing(f)
	}
	for _, f := range others {
		e.Others += f.Size + framing(f)
	}
	if e.Tablespaces = e.bytes; s.Base == nil {
		return nil
	}
	e.changes, err = measureChanges(ctx, s, list.Tablespaces)
	if err == nil {
		e.Tablespaces, _ = e.changes.size()
	}
	return err
}

// framing is about what chunk headers and the manifest take for a file.
func framing(f datadir.File) int64 {
	const manifestLine = 60
	return xbstream.Framing(f.Name, f.Size, pages.SegmentSize) + int64(len(f.Name)) + manifestLine
}

// measureRedo measures the redo log since its checkpoint, and how fast it grows.
func (e *Estimate) measureRedo(ctx context.Context, s *subject.Subject) error {
	checkpoint, err := s.Checkpoint()
	if err != nil {
		return err
	}
	first, err := position.CurrentLSN(ctx, s.Server)
	if err != nil {
		return err
	}
	began := time.Now()
	if err := datadir.Pause(ctx, rateTime); err != nil {
		return err
	}
	second, err := position.CurrentLSN(ctx, s.Server)
	if err != nil {
		return err
	}
	e.Redo = int64(second) - int64(min(checkpoint, second))
	e.RedoRate = int64(float64(second-first) / time.Since(began).Seconds())
	return nil
}

// redoPart is the least that compression leaves of redo, as a part: similar rows lie
// close together in tables, but not in the log.
const redoPart = 0.3

// Size is the archive's, for a backup that takes no time.
func (e *Estimate) Size() int64 { return e.size(e.Tablespaces) }

func (e *Estimate) size(tablespaces int64) int64 {
	return int64(float64(tablespaces+e.Others)*e.Part + float64(e.Redo)*max(e.Part, redoPart))
}

// What an archive may have more than its estimate, in percent: redo of the time
// that the backup takes, rows inserted during it, pages unlike the samples.
const (
	spare           = 25
	spareCompressed = 50
)

func (e *Estimate) spare() int64 {
	if e.compressed {
		return spareCompressed
	}
	return spare
}

// Expected is an upper bound: the archive is not expected to reach it.
func (e *Estimate) Expected() int64 {
	most := e.Tablespaces
	if e.changes != nil {
		_, most = e.changes.size()
	}
	return e.size(most) / 100 * (100 + e.spare())
}

// samples is how many pieces of pages.SegmentSize are taken.
const samples = 64

// sample writes pieces of the tablespaces to w, from all over them; of an incremental
// backup, pages that it has.
func (e *Estimate) sample(ctx context.Context, w io.Writer) error {
	if e.changes != nil {
		return e.changes.write(ctx, e.disk, w)
	}
	step := max(pages.SegmentSize, e.bytes/samples)
	buf := make([]byte, pages.SegmentSize)
	next := int64(0) // of the next piece, in all tablespaces one after the other
	at := int64(0)   // of the file
	for _, info := range e.files {
		for ; next < at+info.Size; next += step {
			if err := ctx.Err(); err != nil {
				return context.Cause(ctx)
			}
			n, err := e.piece(info, next-at, buf)
			if err != nil {
				return err
			}
			if _, err := w.Write(buf[:n]); err != nil {
				return err
			}
		}
		at += info.Size
	}
	return nil
}

// piece reads a piece of a file; nothing, if the file is gone.
func (e *Estimate) piece(info datadir.File, off int64, buf []byte) (n int, err error) {
	f, err := e.disk.OpenRegular(info.Path, info.Linked)
	if err != nil {
		return 0, datadir.IgnoreGone(err)
	}
	n, err = f.ReadAt(buf, off)
	if err == io.EOF {
		err = nil
	}
	return n, errors.Join(err, f.Close())
}

// Facts are the fields of the message for programs.
func (e *Estimate) Facts() []slog.Attr {
	return []slog.Attr{
		slog.Int64("estimated_bytes", e.Size()), slog.Int64("expected_size", e.Expected()), slog.Int64("tablespaces", e.Tablespaces),
		slog.Int64("others", e.Others), slog.Int64("redo", e.Redo), slog.Int64("redo_rate", e.RedoRate), slog.Float64("part", e.Part),
	}
}

// Describe says in two lines how large the archive will be, and of what, and what
// that is good for.
func (e *Estimate) Describe() string {
	part := ""
	if e.compressed {
		part = fmt.Sprintf("; compressed to an estimated %.0f%% (from samples)", e.Part*100)
	}
	room := fmt.Sprintf("%d%% more", e.spare())
	tablespaces := "of tablespaces"
	if e.changes != nil {
		tablespaces, room = e.changes.String(), "the error of the sample, and then for "+room
	}
	return fmt.Sprintf("the archive will have about %v: %v %s, %v of other files, %v of redo log, and %v more for each second that the backup takes%s\n"+
		"for aws s3 cp, which makes at most 10,000 parts of an archive: --expected-size %d leaves room for %s",
		stream.Size(e.Size()), stream.Size(e.Tablespaces), tablespaces, stream.Size(e.Others), stream.Size(e.Redo), stream.Size(e.RedoRate), part,
		e.Expected(), room)
}
