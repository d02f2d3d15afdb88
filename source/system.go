package source

import (
	"context"
	"errors"
	"fmt"
	"io"
	"path/filepath"

	"hb/source/innodb"
	"hb/stream/disk"
)

// systemFiles prepares the files of the system tablespace for copying. Their
// pages are numbered through all files, and only the first file says what
// they are.
func (b *backup) systemFiles(ctx context.Context) ([]*tablespaceFile, error) {
	first := b.layout.System[0]
	f, err := b.disk.Open(first)
	if err != nil {
		return nil, fmt.Errorf("opening the system tablespace: %w", err)
	}
	defer f.Close()
	space, err := readSpace(ctx, f, b.inventory.buf)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", first, err)
	}
	if space.ID != 0 || space.Logical != b.pageSize {
		return nil, fmt.Errorf("%s is tablespace %d with pages of %d bytes, but the server's system tablespace has pages of %d",
			first, space.ID, space.Logical, b.pageSize)
	}
	area, err := doublewriteArea(ctx, f, &space, b.inventory.buf)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", first, err)
	}
	var files []*tablespaceFile
	var pages int64
	for _, path := range b.layout.System {
		info, err := statFile(b.disk, path, filepath.Base(path))
		if err != nil {
			return nil, err
		}
		files = append(files, &tablespaceFile{
			fileInfo: info, space: innodb.File{Space: space, First: innodb.PageNo(pages), Exempt: area},
		})
		pages += info.size / int64(b.pageSize)
	}
	return files, nil
}

// doublewriteArea reads where the doublewrite buffer is: those pages are
// copies of others.
func doublewriteArea(ctx context.Context, f disk.File, space *innodb.Space, buf []byte) ([]innodb.PageRange, error) {
	page := buf[:space.Physical]
	err := retryPage(ctx, func() error {
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

// unopened makes copy jobs of listed files.
func unopened(files []fileInfo) []*tablespaceFile {
	jobs := make([]*tablespaceFile, len(files))
	for i, info := range files {
		jobs[i] = &tablespaceFile{fileInfo: info, mayShrink: undoName.MatchString(info.name)}
	}
	return jobs
}

// anyFile matches the names of listing.others, for stage.refresh.
func anyFile(name string) bool { return otherSuffixes[filepath.Ext(name)] }
