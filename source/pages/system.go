package pages

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"strings"

	"hb/source/datadir"
	"hb/stream/disk"
	"hb/xbstream/innodb"
)

// System prepares the files of the system tablespace for copying. Their pages are
// numbered through all files, and only the first file has their flags.
func (v *Inventory) System(ctx context.Context, paths []string) ([]*File, error) {
	first, pageSize := paths[0], len(v.buf)
	f, err := v.disk.OpenRegular(first, true)
	if err != nil {
		return nil, fmt.Errorf("opening the system tablespace: %w", err)
	}
	defer f.Close()
	space, err := readSpace(ctx, f, v.Keys, v.buf)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", first, err)
	}
	if space.ID != 0 || space.Logical != pageSize {
		return nil, fmt.Errorf("%s is tablespace %d with pages of %d bytes, but the server's system tablespace has pages of %d",
			first, space.ID, space.Logical, pageSize)
	}
	page0 := bytes.Clone(v.buf[:space.Physical])
	area, err := doublewriteArea(ctx, f, &space, v.buf)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", first, err)
	}
	var files []*File
	var total int64
	for _, path := range paths {
		info, err := datadir.Stat(v.disk, path, filepath.Base(path))
		if err != nil {
			return nil, err
		}
		info.Linked = true // if it is, the server's administrator made it so
		files = append(files, &File{
			File: info, Space: innodb.File{Space: space, First: innodb.PageNo(total), Exempt: area},
		})
		total += info.Size / int64(pageSize)
	}
	files[0].page0 = page0
	if err := space.CheckLength(total * int64(pageSize)); err != nil {
		return nil, fmt.Errorf("%s: %w", strings.Join(paths, ", "), err)
	}
	return files, nil
}

// doublewriteArea reads where the doublewrite buffer is: those pages are
// copies of others.
func doublewriteArea(ctx context.Context, f disk.File, space *innodb.Space, buf []byte) ([]innodb.PageRange, error) {
	page := buf[:space.Physical]
	err := datadir.Retry(ctx, func() error {
		if _, err := f.ReadAt(page, int64(innodb.TrxSysPage)*int64(space.Physical)); err != nil {
			return noEOF(err)
		}
		_, err := space.Verify(page, innodb.TrxSysPage)
		return err
	})
	if err != nil {
		return nil, err
	}
	return space.DoublewriteArea(page), nil
}

// noEOF makes of an end of file, where bytes must be, an error.
func noEOF(err error) error {
	if errors.Is(err, io.EOF) {
		return io.ErrUnexpectedEOF
	}
	return err
}

// Unopened makes copy jobs of listed files.
func Unopened(files []datadir.File) []*File {
	jobs := make([]*File, len(files))
	for i, info := range files {
		jobs[i] = &File{File: info, undo: datadir.TruncatedInPlace(info.Name)}
	}
	return jobs
}
