package datadir

import (
	"errors"
	"path/filepath"
	"slices"
	"strings"

	"hb/stream/disk"
	"hb/xbstream/aria"
)

// PlainTable is a non-transactional table, partitions and all.
type PlainTable struct {
	Name, Engine string
	Bytes        int64
}

// plainEngines are the engines of such tables, by the suffixes of their files.
var plainEngines = map[string]string{
	".MYD": "MyISAM", ".MYI": "MyISAM", ".MAD": "Aria", ".MAI": "Aria",
	".CSV": "CSV", ".CSM": "CSV", ".ARZ": "ARCHIVE", ".ARM": "ARCHIVE", ".MRG": "MERGE",
}

// PlainTables finds the users' non-transactional tables by their files, the largest
// first. (Those in mysql, of which 5.6 and 5.7 have dozens, are small.) Aria's
// crash-safe tables are not among them: they may be written while they are copied.
func PlainTables(system disk.System, files []File) ([]PlainTable, error) {
	tables, safe := make(map[string]*PlainTable), make(map[string]bool)
	for _, info := range files {
		suffix := filepath.Ext(info.Name)
		engine := plainEngines[suffix]
		if engine == "" || !IsPlainFile(info.Name) || strings.HasPrefix(info.Name, "mysql/") || strings.HasPrefix(info.Name, "sys/") {
			continue
		}
		name, _, _ := strings.Cut(strings.TrimSuffix(info.Name, suffix), "#P#")
		if tables[name] == nil {
			tables[name] = &PlainTable{Name: name, Engine: engine}
		}
		tables[name].Bytes += info.Size
		if suffix == ".MAI" {
			crashSafe, err := IsCrashSafe(system, info.Path)
			if err != nil {
				return nil, err
			}
			safe[name] = crashSafe
		}
	}
	var out []PlainTable
	for name, t := range tables {
		if !safe[name] {
			out = append(out, *t)
		}
	}
	slices.SortFunc(out, func(a, b PlainTable) int {
		if a.Bytes != b.Bytes {
			return int(min(max(b.Bytes-a.Bytes, -1), 1))
		}
		return strings.Compare(a.Name, b.Name)
	})
	return out, nil
}

// IsCrashSafe reports whether an Aria table is, by its index file. One that is
// gone, or being made, is.
func IsCrashSafe(system disk.System, path string) (safe bool, err error) {
	f, err := system.OpenRegular(path, true)
	if err != nil {
		return true, IgnoreGone(err)
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	t, err := aria.ReadTable(f)
	if err != nil && !SystemFailed(err) {
		return true, nil
	}
	return err == nil && t.CrashSafe, err
}
