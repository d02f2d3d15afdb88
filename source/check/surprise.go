package check

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"strings"
	"time"

	"hb/source/datadir"
	"hb/source/pages"
	"hb/stream"
	"hb/stream/progress"
	"hb/xbstream/innodb"
)

// What will surprise when a backup is made or restored, though it is good.

// samplePages is how many pages of each tablespace are looked at for their checksums, and
// sampleMost of how many tablespaces.
const (
	samplePages = 8
	sampleMost  = 2000
)

// tellChecksums reports whether the server gives pages checksums, and has done so.
func (c *checker) tellChecksums(ctx context.Context, f *Finding) error {
	algorithm := c.Server.Vars.String("innodb_checksum_algorithm")
	f.Text = "pages are written with checksums (" + algorithm + ")"
	if strings.TrimPrefix(algorithm, "strict_") == "none" {
		f.Warning = true
		f.Text = "the server writes pages without checksums (innodb_checksum_algorithm=" + algorithm + "): hb cannot notice damage in them, " +
			"nor, with ROW_FORMAT=COMPRESSED, be certain that a page was not torn while it was read; " +
			"set innodb_checksum_algorithm to crc32: pages get checksums as they are written"
		return nil
	}
	unsummed, err := c.unsummed(ctx)
	if err != nil || len(unsummed) == 0 {
		return err
	}
	f.Warning = true
	f.Text += fmt.Sprintf(", but tablespaces have pages from a time without, in which nothing can notice damage: %s; OPTIMIZE TABLE writes a table's pages again",
		examples(unsummed))
	f.Facts = append(f.Facts, slog.Int("unsummed_tablespaces", len(unsummed)))
	return nil
}

// unsummed finds tablespaces with pages that have no checksum, by samples.
func (c *checker) unsummed(ctx context.Context) (names []string, err error) {
	list, err := c.List(ctx)
	if err != nil {
		return nil, err
	}
	look, err := c.Inventory.Look(ctx, list.Tablespaces[:min(len(list.Tablespaces), sampleMost)])
	if err != nil {
		return nil, err
	}
	for _, t := range look.Files {
		found, err := c.lacksSums(t)
		if err != nil {
			return nil, err
		}
		if found {
			names = append(names, t.Name)
		}
	}
	return names, nil
}

// lacksSums reports whether one of some pages of a tablespace has no checksum. Pages that
// are wrong, as they may be being written, are not judged.
func (c *checker) lacksSums(t *pages.File) (found bool, err error) {
	size := int64(t.Space.Physical)
	count := t.Size / size
	f, err := c.Disk.OpenRegular(t.Path, t.Linked)
	if err != nil {
		return false, datadir.IgnoreGone(err)
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	page := make([]byte, size)
	for i := range min(samplePages, count) {
		off := count * i / min(samplePages, count) * size
		if _, err := f.ReadAt(page, off); err != nil && err != io.EOF {
			return false, err
		}
		if sum, err := t.Space.VerifyAt(page, off); err == nil && sum == innodb.ChecksumNone {
			return true, nil
		}
	}
	return false, nil
}

// tellUnstored reports tables whose rows no backup has.
func (c *checker) tellUnstored(_ context.Context, f *Finding) error {
	list, err := c.Layout.List()
	if err != nil {
		return err
	}
	tables, err := datadir.UnstoredTables(c.Disk, list.Others)
	if err != nil {
		return err
	}
	f.Text = "the backup has the rows of all tables"
	if len(tables) == 0 {
		return nil
	}
	var names []string
	for _, t := range tables {
		names = append(names, fmt.Sprintf("%s (%s)", t.Name, t.Engine))
	}
	f.Warning = true
	f.Text = "of these tables the backup has the definition only, for their rows are in no file here: " + examples(names)
	f.Facts = append(f.Facts, slog.Int("unstored_tables", len(tables)))
	return nil
}

// examples names the first of many.
func examples(names []string) string {
	const most = 5
	text := strings.Join(names[:min(len(names), most)], ", ")
	if more := len(names) - most; more > 0 {
		text += fmt.Sprintf(" and %d more", more)
	}
	return text
}

// assumedRate is how many bytes a second a backup is taken to copy where nobody limits
// it: what a single disk, or a network of 1 Gbit/s, takes.
const assumedRate = 100 << 20

// duration estimates how long a backup copies tablespaces, and says by what.
func (c *checker) duration(ctx context.Context) (time.Duration, string, error) {
	list, err := c.List(ctx)
	if err != nil {
		return 0, "", err
	}
	var bytes int64
	for _, t := range list.Tablespaces {
		bytes += t.Size
	}
	for _, path := range c.Layout.System {
		info, err := datadir.Stat(c.Disk, path, path)
		if err != nil {
			return 0, "", err
		}
		bytes += info.Size
	}
	rate := cmp.Or(int64(c.Options.Throttle), assumedRate)
	return lasts(bytes, float64(rate)), fmt.Sprintf("%s at %s/s", stream.Size(bytes), stream.Size(rate)), nil
}

// describeLaps adds how often the log, which wraps in lap, does so during a backup.
func (o *outlook) describeLaps(f *Finding, lap time.Duration) {
	if o.during <= lap || o.during == 0 {
		return
	}
	f.Warning = true
	f.Text += fmt.Sprintf("; a backup takes about %s (%s), in which it wraps %.0f times, and hb must keep up all the time",
		progress.Span(o.during), o.copied, o.during.Seconds()/lap.Seconds())
}
