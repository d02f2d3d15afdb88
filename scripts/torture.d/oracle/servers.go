package oracle

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"

	"hb/xbstream/innodb"
)

// backupsOwn are the files of a recovered directory that are not the server's, and its redo
// log, which hb apply made.
var backupsOwn = regexp.MustCompile(`^hb-|^xtrabackup_|^mariadb_backup_|^backup-my\.cnf$|^ib_logfile\d|^#innodb_redo(/|$)`)

// Equality is what [SameServers] found to be equal.
type Equality struct {
	Files, Pages int
	Later        int // pages that the server changed between the two backups
	Stamped      int // pages that are equal but for their LSN, or for being stored compressed
}

// SameServers compares two recovered directories: all files of the server, those of other
// engines too, to the byte, and tablespaces page by page. ends are the LSNs at which the two
// backups end: a page of the second one with a later LSN than the first one's end is counted,
// not compared, since the server has changed it between the backups; or has freed it, so that
// recovery makes zeros of it. So are pages that differ
// in their LSN only, or in being stored compressed (see SameUserFiles): which pages hb apply
// makes of the redo log depends on the checkpoint. Pages of the doublewrite area are copies of
// others. The error has all differences.
func SameServers(first, second string, ends [2]innodb.LSN) (e Equality, err error) {
	x, err := serverFiles(first)
	y, err2 := serverFiles(second)
	if err = errors.Join(err, err2); err != nil {
		return e, err
	}
	var errs []error
	for _, name := range slices.Sorted(maps.Keys(y)) {
		if _, ok := x[name]; !ok {
			errs = append(errs, fmt.Errorf("%s is only in the second", name))
		}
	}
	var system *systemFiles
	for _, name := range slices.Sorted(maps.Keys(x)) {
		dir, ok := y[name]
		switch {
		case !ok:
			errs = append(errs, fmt.Errorf("%s is only in the first", name))
			continue
		case dir != x[name]:
			errs = append(errs, fmt.Errorf("%s is a directory in one of them only", name))
			continue
		case dir:
			continue
		}
		p, err := os.ReadFile(filepath.Join(first, name))
		q, err2 := os.ReadFile(filepath.Join(second, name))
		if err = errors.Join(err, err2); err != nil {
			return e, err
		}
		e.Files++
		c := comparison{Equality: &e, name: name, ends: ends}
		if strings.HasPrefix(name, "ibdata") {
			if system, err = system.next(q); err != nil {
				return e, fmt.Errorf("%s: %w", name, err)
			}
			c.system = system
		}
		errs = append(errs, c.files(p, q))
	}
	return e, errors.Join(errs...)
}

// serverFiles are the server's files and directories, by name: true is a directory.
func serverFiles(dir string) (map[string]bool, error) {
	files := make(map[string]bool)
	return files, filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || path == dir {
			return err
		}
		name, err := filepath.Rel(dir, path)
		if name = filepath.ToSlash(name); err == nil && !backupsOwn.MatchString(name) {
			files[name] = d.IsDir()
		}
		return err
	})
}

// systemFiles are the files of the system tablespace so far. Their pages are numbered
// through all of them, and only the first one has their size.
type systemFiles struct {
	space  innodb.Space
	exempt []innodb.PageRange
	first  innodb.PageNo // of the file
	pages  innodb.PageNo // in it
}

// next are those with one more file, which follows; of nil, with the first.
func (s *systemFiles) next(content []byte) (*systemFiles, error) {
	n := &systemFiles{}
	if s == nil {
		var err error
		if n.space, err = innodb.ParseSpace(content); err != nil {
			return nil, err
		}
		n.exempt = n.space.DoublewriteArea(content[n.space.Physical*int(innodb.TrxSysPage):][:n.space.Physical])
	} else {
		*n = *s
		n.first += s.pages
	}
	n.pages = innodb.PageNo(len(content) / n.space.Physical)
	return n, nil
}

// comparison is that of one file.
type comparison struct {
	*Equality
	name   string
	ends   [2]innodb.LSN
	system *systemFiles // nil: a file of no system tablespace
}

// mostDifferences is how many differences of a file are listed.
const mostDifferences = 5

func (c *comparison) files(a, b []byte) error {
	if !IsPages(c.name) {
		if !bytes.Equal(a, b) {
			return fmt.Errorf("%s has %d bytes and %d, and differs", c.name, len(a), len(b))
		}
		return nil
	}
	var space innodb.Space
	var err error
	if c.system != nil {
		space = c.system.space
	} else if space, err = innodb.ParseSpace(b); err != nil {
		return fmt.Errorf("%s: %w", c.name, err)
	}
	if len(a) != len(b) || len(b)%space.Physical != 0 {
		return fmt.Errorf("%s has %d bytes and %d, in pages of %d", c.name, len(a), len(b), space.Physical)
	}
	var errs []error
	for at := 0; at < len(b); at += space.Physical {
		if err := c.page(&space, at/space.Physical, a[at:at+space.Physical], b[at:at+space.Physical]); err != nil {
			if errs = append(errs, err); len(errs) == mostDifferences {
				break
			}
		}
	}
	return errors.Join(errs...)
}

func (c *comparison) page(space *innodb.Space, n int, a, b []byte) error {
	no := innodb.PageNo(n)
	if c.system != nil {
		no += c.system.first
		if slices.ContainsFunc(c.system.exempt, func(r innodb.PageRange) bool { return r.Contains(no) }) {
			return nil
		}
	}
	switch {
	case bytes.Equal(a, b):
		c.Pages++
	case sameContent(space, a, b):
		c.Stamped++
	case innodb.HeaderLSN(b) > c.ends[0], c.ends[0] != c.ends[1] && (innodb.AllZero(b) || c.system != nil && no == 0): // which has the end itself
		c.Later++
	default:
		at := 0
		for a[at] == b[at] {
			at++
		}
		return fmt.Errorf("%s: page %d differs from byte %d: LSN %d and %d, type %d and %d, end %d", c.name, no, at,
			innodb.HeaderLSN(a), innodb.HeaderLSN(b), innodb.HeaderType(a), innodb.HeaderType(b), c.ends[0])
	}
	return nil
}
