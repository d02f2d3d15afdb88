package datadir

import (
	"errors"
	"io"
	"path/filepath"
	"regexp"
	"slices"
	"strings"

	"hb/stream/disk"
)

// UnstoredTable is a table whose rows are in no file of the data directory: a backup has
// its definition only.
type UnstoredTable struct {
	Name   string // directory/table, in the filename charset
	Engine string
}

// unstored are such engines by the number that an .frm file has of them, at its fourth
// byte. (enum legacy_db_type of sql/handler.h; MEMORY and BLACKHOLE were seen on 5.7.29 and 10.11.18.)
var unstored = map[byte]string{6: "MEMORY", 18: "FEDERATED", 19: "BLACKHOLE"}

// sdiEngine finds the engine in an .sdi file of MySQL 8.0 and later, which those have of
// each table that is not in InnoDB.
var sdiEngine = regexp.MustCompile(`"engine": ?"(MEMORY|FEDERATED|BLACKHOLE)"`)

const (
	extFrm = ".frm"
	extSdi = ".sdi"
	// maxSdi is how much of an .sdi file is looked at: its columns come after the engine,
	// or before, where they may have megabytes.
	maxSdi = 4 << 20
)

// sdiNumber is the number in the name of an .sdi file: t_371.sdi.
var sdiNumber = regexp.MustCompile(`_\d+\.sdi$`)

// UnstoredTables finds such tables by the files that define them, sorted by name.
func UnstoredTables(system disk.System, files []File) ([]UnstoredTable, error) {
	var list []UnstoredTable
	for _, info := range files {
		if !strings.Contains(info.Name, "/") {
			continue
		}
		engine, err := engineOf(system, info)
		if err != nil {
			return nil, err
		}
		if engine != "" {
			name := sdiNumber.ReplaceAllString(strings.TrimSuffix(info.Name, extFrm), "")
			list = append(list, UnstoredTable{name, engine})
		}
	}
	slices.SortFunc(list, func(a, b UnstoredTable) int { return strings.Compare(a.Name, b.Name) })
	return list, nil
}

// engineOf is the engine of unstored that a file is a definition for, or "".
func engineOf(system disk.System, info File) (string, error) {
	switch filepath.Ext(info.Name) {
	case extFrm:
		head, err := readHead(system, info.Path, 4)
		if len(head) < 4 || head[0] != 0xFE || head[1] != 1 { // a view, or none
			return "", err
		}
		return unstored[head[3]], err
	case extSdi:
		text, err := readHead(system, info.Path, min(info.Size, maxSdi))
		if m := sdiEngine.FindSubmatch(text); m != nil {
			return string(m[1]), err
		}
		return "", err
	}
	return "", nil
}

// readHead reads the first bytes of a file; nothing, if the file is gone.
func readHead(system disk.System, path string, size int64) (_ []byte, err error) {
	f, err := system.OpenRegular(path, true)
	if err != nil {
		return nil, IgnoreGone(err)
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	return io.ReadAll(io.NewSectionReader(f, 0, size))
}
