package source

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"hb/source/innodb"
)

// systemFiles prepares the files of the system tablespace for copying. Their
// pages are numbered through all files, and only the first file says what
// they are.
func (b *backup) systemFiles(ctx context.Context) ([]*tablespaceFile, error) {
	first := b.layout.System[0]
	f, err := os.Open(first)
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
		info, err := statFile(path, filepath.Base(path))
		if err != nil {
			return nil, err
		}
		files = append(files, &tablespaceFile{fileInfo: info, space: space, firstPage: innodb.PageNo(pages), skipCheck: area})
		pages += info.size / int64(b.pageSize)
	}
	return files, nil
}

// doublewriteArea reads where the doublewrite buffer is: those pages are
// copies of others.
func doublewriteArea(ctx context.Context, f *os.File, space *innodb.Space, buf []byte) ([]innodb.PageRange, error) {
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

// ariaControl names Aria's control file: which log files there are and where
// recovery begins.
const ariaControl = "aria_log_control"

// ariaFiles lists Aria's control file and its logs.
func (l *Layout) ariaFiles() (control, logs []fileInfo, err error) {
	entries, err := os.ReadDir(l.AriaLogDir)
	if err != nil {
		return nil, nil, fmt.Errorf("listing aria_log_dir_path: %w", err)
	}
	for _, e := range entries {
		list := &logs
		switch {
		case e.Name() == ariaControl:
			list = &control
		case !ariaLogName.MatchString(e.Name()):
			continue
		}
		info, err := statFile(filepath.Join(l.AriaLogDir, e.Name()), e.Name())
		if err != nil {
			return nil, nil, err
		}
		*list = append(*list, info)
	}
	return control, logs, nil
}

// lateTables are the tables of the mysql database that are written until
// commits are blocked (sql/backup.cc of MariaDB, FLUSH_SYS_TABLES).
var lateTables = []string{"general_log", "slow_log", "table_stats", "column_stats", "index_stats"}

// isLateFile reports whether a file belongs to one of the late tables.
func isLateFile(name string) bool {
	base, ok := strings.CutPrefix(name, "mysql/")
	table, _, _ := strings.Cut(base, ".")
	return ok && slices.Contains(lateTables, table) && otherSuffixes[filepath.Ext(base)]
}

// lateFiles lists the files of the late tables.
func (l *Layout) lateFiles() ([]fileInfo, error) {
	var out listing
	for _, table := range lateTables {
		for ext := range otherSuffixes {
			if err := out.addEntry(filepath.Join(l.Datadir, "mysql"), "mysql", table+ext); err != nil {
				return nil, err
			}
		}
	}
	return out.others, nil
}
