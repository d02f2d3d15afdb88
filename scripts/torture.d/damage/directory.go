// Package damage hurts files without the knowledge of their server: a page of a tablespace
// (page.go), or one thing in the directory of a backup. In go a directory and a source of
// chance; out comes what was done, in words.
package damage

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"hb/scripts/torture.d/load/rows"
	"hb/scripts/torture.d/oracle"
)

// A Directory does one thing to a directory, and says what. "" means that there was
// nothing to do it to.
type Directory struct {
	Name string
	Do   func(pageSize int, dir string, rnd *rand.Rand) (string, error)
}

const (
	None      = "nothing hurt" // then nothing is done to the other directory either
	HardLinks = "foreign: hard links"
)

var Recovered = []Directory{ // of recovered directories
	{None, nil},
	{"file removed", removeAny},
	{"file cut", cutAny},
	{"page zeroed", zeroUsed},
	{"byte changed", changeAny},
	{"undo tablespace removed", removeUndo},
}

var Foreign = []Directory{
	{"foreign: file cut", cutAny},
	{"foreign: undo tablespace removed", removeUndo},
	{"foreign: page flipped", flipUsed},
	{HardLinks, nil},
}

// Named is the damage of that name.
func Named(name string) Directory {
	for _, d := range slices.Concat(Recovered, Foreign) {
		if d.Name == name {
			return d
		}
	}
	return Directory{}
}

// pickFile picks one of the files.
func pickFile(dir string, rnd *rand.Rand, is func(name string, size int64) bool) (name, path string, err error) {
	names, err := oracle.FilesOf(dir, is)
	if err != nil || len(names) == 0 {
		return "", "", err
	}
	name = names[rnd.IntN(len(names))]
	return name, filepath.Join(dir, name), nil
}

// noted are the files of a recovered directory that are compared with nothing: the
// note of what belongs there.
func noted(name string) bool { return name != "hb-applied.json" }

func removeAny(_ int, dir string, rnd *rand.Rand) (string, error) {
	kind := rnd.IntN(3)
	name, path, err := pickFile(dir, rnd, func(name string, _ int64) bool {
		switch kind {
		case 0:
			return noted(name)
		case 1:
			return strings.HasPrefix(filepath.Base(name), "ib_logfile") || strings.Contains(name, "#innodb_redo")
		}
		return oracle.IsPages(name)
	})
	if err != nil || name == "" {
		return "", err
	}
	return name + " removed", os.Remove(path)
}

func cutAny(pageSize int, dir string, rnd *rand.Rand) (string, error) {
	page := int64(pageSize)
	name, path, err := pickFile(dir, rnd, func(name string, size int64) bool { return oracle.IsPages(name) && size > 2*page })
	if err != nil || name == "" {
		return "", err
	}
	f, err := os.Open(path)
	if err != nil {
		return "", err
	}
	pages, err := UsedPage(f, pageSize, rnd.Float64())
	if err = errors.Join(err, f.Close()); err != nil {
		return "", err
	}
	if pages == 0 {
		pages = 1
	}
	return fmt.Sprintf("%s cut to %d pages", name, pages), os.Truncate(path, pages*page)
}

// victimFile is the victim's tablespace in a directory, "" if it was dropped.
func victimFile(dir string) (string, error) {
	names, err := oracle.FilesOf(dir, func(name string, _ int64) bool {
		return filepath.Dir(name) == rows.VictimDB && strings.HasPrefix(filepath.Base(name), "v") && filepath.Ext(name) == ".ibd"
	})
	if err != nil || len(names) == 0 {
		return "", err
	}
	return names[0], nil
}

// zeroUsed zeroes a leaf of the victim's: a page that is in use for certain.
func zeroUsed(pageSize int, dir string, rnd *rand.Rand) (string, error) {
	return hurtVictim(pageSize, dir, rnd, func(f *os.File, page int64, size int) error { return Zero(f, page, size) })
}

// flipUsed changes a bit of a leaf of the victim's.
func flipUsed(pageSize int, dir string, rnd *rand.Rand) (string, error) {
	return hurtVictim(pageSize, dir, rnd, Flip)
}

func hurtVictim(pageSize int, dir string, rnd *rand.Rand, how func(f *os.File, page int64, size int) error) (string, error) {
	name, err := victimFile(dir)
	if err != nil || name == "" {
		return "", err
	}
	f, err := os.OpenFile(filepath.Join(dir, name), os.O_RDWR, 0)
	if err != nil {
		return "", err
	}
	page, err := UsedPage(f, pageSize, rnd.Float64())
	if err != nil || page == 0 {
		return "", errors.Join(err, f.Close())
	}
	return fmt.Sprintf("page %d of %s", page, name), errors.Join(how(f, page, pageSize), f.Close())
}

// changeAny changes a byte of the redo log, or of a file that recovery leaves as it
// is.
func changeAny(_ int, dir string, rnd *rand.Rand) (string, error) {
	log := rnd.IntN(2) == 0
	name, path, err := pickFile(dir, rnd, func(name string, size int64) bool {
		if log {
			return size > 0 && (strings.HasPrefix(filepath.Base(name), "ib_logfile") || strings.Contains(name, "#innodb_redo"))
		}
		return size > 0 && slices.Contains([]string{".MYD", ".MYI", ".MAD", ".MAI", ".CSV", ".frm", ".opt", ".sdi"}, filepath.Ext(name))
	})
	if err != nil || name == "" {
		return "", err
	}
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		return "", err
	}
	st, err := f.Stat()
	if err != nil {
		return "", errors.Join(err, f.Close())
	}
	at, b := rnd.Int64N(st.Size()), make([]byte, 1)
	if _, err = f.ReadAt(b, at); err == nil {
		b[0] ^= 1 << rnd.IntN(8)
		_, err = f.WriteAt(b, at)
	}
	return fmt.Sprintf("byte %d of %s changed", at, name), errors.Join(err, f.Close())
}

func removeUndo(_ int, dir string, rnd *rand.Rand) (string, error) {
	name, path, err := pickFile(dir, rnd, func(name string, _ int64) bool {
		return oracle.IsPages(name) && !strings.Contains(name, "/") && (strings.HasPrefix(name, "undo") || filepath.Ext(name) == ".ibu")
	})
	if err != nil || name == "" {
		return "", err
	}
	return name + " removed", os.Remove(path)
}
