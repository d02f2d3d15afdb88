package tracking

import (
	"context"
	"encoding/binary"
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"hb/stream/disk"
	"hb/xbstream/innodb"
)

// fakeList is a server that writes lists, as far as lister knows it.
type fakeList struct {
	path    string
	counts  []int64 // answers, the last one again and again; negative: an error
	asked   int
	entries int // of the file; -1: it is not written
	torn    int // bytes after the last entry
	code    int64
	cleared int
}

func (f *fakeList) lister() *lister {
	return &lister{
		count: func(context.Context) (int64, error) {
			n := f.counts[min(f.asked, len(f.counts)-1)]
			if f.asked++; n < 0 {
				return 0, &Unusable{Reason: Gap}
			}
			return n, nil
		},
		write: func(context.Context) (int64, error) {
			if f.entries < 0 {
				return f.code, nil
			}
			var b []byte
			for i := range f.entries {
				b = binary.BigEndian.AppendUint64(b, pageKey(7, innodb.PageNo(f.entries-i)))
			}
			return f.code, os.WriteFile(f.path, append(b, make([]byte, f.torn)...), 0o600)
		},
		clear: func(context.Context) error {
			f.cleared++
			if err := os.Remove(f.path); !errors.Is(err, fs.ErrNotExist) {
				return err
			}
			return nil
		},
		open: func() (disk.File, error) { return disk.OS.OpenRegular(f.path, false) },
	}
}

func TestList(t *testing.T) {
	for what, c := range map[string]struct {
		fakeList
		want error // nil: the list is used
		n    int
	}{
		"complete":                        {fakeList{counts: []int64{5}, entries: 5}, nil, 5},
		"empty, without a file":           {fakeList{counts: []int64{0}, entries: -1}, nil, 0},
		"no file":                         {fakeList{counts: []int64{5}, entries: -1}, &Unusable{Reason: Unreadable}, 0},
		"short by one":                    {fakeList{counts: []int64{5}, entries: 4}, &Unusable{Reason: Incomplete}, 0},
		"longer by one":                   {fakeList{counts: []int64{5}, entries: 6}, &Unusable{Reason: Incomplete}, 0},
		"entries where none are counted":  {fakeList{counts: []int64{0}, entries: 6}, &Unusable{Reason: Incomplete}, 0},
		"half an entry":                   {fakeList{counts: []int64{5}, entries: 5, torn: 4}, &Unusable{Reason: Incomplete}, 0},
		"the server adds to it, and ends": {fakeList{counts: []int64{3, 4, 4, 5, 5}, entries: 5}, nil, 5},
		"the server adds all the time":    {fakeList{counts: []int64{5, 6, 5, 6, 5, 6, 5, 6, 5, 6, 5, 6, 5, 6, 5, 6, 5, 6, 5, 6, 5, 6, 5, 6, 5, 6, 5, 6, 5, 6, 5, 6, 5, 6, 5, 6, 5, 6, 5, 6}, entries: 5}, &Unusable{Reason: Incomplete}, 0},
		"the range is not tracked":        {fakeList{counts: []int64{-1}, entries: 5}, &Unusable{Reason: Gap}, 0},
		"nor for the list":                {fakeList{counts: []int64{5}, entries: 5, code: erRangeNotTracked}, &Unusable{Reason: Gap}, 0},
		"an error":                        {fakeList{counts: []int64{5}, entries: 5, code: 1}, &Unusable{Reason: Refused}, 0},
		"too long":                        {fakeList{counts: []int64{maxEntries + 1}, entries: 5}, &Unusable{Reason: TooMany}, 0},
	} {
		c.path = filepath.Join(t.TempDir(), "1.idx")
		pages, err := c.lister().get(t.Context())
		if c.want != nil {
			var u *Unusable
			if !errors.As(err, &u) || u.Reason != c.want.(*Unusable).Reason || pages != nil {
				t.Errorf("%s: %v, want %v", what, err, c.want)
			}
		} else if err != nil || pages.Len() != c.n || c.n > 0 && !pages.Has(innodb.PageID{Space: 7, No: 1}) {
			t.Errorf("%s: %v", what, err)
		}
		if _, err := os.Lstat(c.path); !errors.Is(err, fs.ErrNotExist) || c.cleared < 2 {
			t.Errorf("%s: the list was left (%v), cleared %d times", what, err, c.cleared)
		}
	}
}

// TestListOpens: what is not a file in the server's own directory is not read.
func TestListOpens(t *testing.T) {
	for what, f := range map[string]func(dir string) error{
		"": func(dir string) error { return os.WriteFile(filepath.Join(dir, listDir, "9.idx"), nil, 0o600) },
		"a link": func(dir string) error {
			return errors.Join(os.WriteFile(filepath.Join(dir, "x"), nil, 0o600), os.Symlink("../x", filepath.Join(dir, listDir, "9.idx")))
		},
		"a dangling link": func(dir string) error { return os.Symlink("gone", filepath.Join(dir, listDir, "9.idx")) },
		"a directory":     func(dir string) error { return os.Mkdir(filepath.Join(dir, listDir, "9.idx"), 0o700) },
		"a linked directory": func(dir string) error {
			return errors.Join(os.Rename(filepath.Join(dir, listDir), filepath.Join(dir, "y")), os.Symlink("y", filepath.Join(dir, listDir)),
				os.WriteFile(filepath.Join(dir, "y", "9.idx"), nil, 0o600))
		},
	} {
		dir := t.TempDir()
		if err := errors.Join(os.Mkdir(filepath.Join(dir, listDir), 0o700), f(dir)); err != nil {
			t.Fatal(err)
		}
		file, err := openList(disk.OS, dir, "9")
		if (what == "") != (err == nil) {
			t.Errorf("%s: %v", what, err)
		}
		if err == nil && file.Close() != nil {
			t.Error("close")
		}
	}
}

// TestGrown: the server's own list must be past its first block, and have its first file
// and not too many bytes for its entries to be counted from the beginning.
func TestGrown(t *testing.T) {
	for what, c := range map[string]struct {
		files            map[string]int64
		grown, countable bool
	}{
		"no files":                    {nil, false, false},
		"others":                      {map[string]int64{"active": 0, "durable": 1 << 20}, false, false},
		"one block":                   {map[string]int64{"ib_page_0": 2 * archiveBlock}, false, true},
		"one block and part of one":   {map[string]int64{"ib_page_0": 3*archiveBlock - 1}, false, true},
		"two blocks":                  {map[string]int64{"ib_page_0": 3 * archiveBlock}, true, true},
		"a second file":               {map[string]int64{"ib_page_0": 0, "ib_page_1": archiveBlock}, true, true},
		"the first files were purged": {map[string]int64{"ib_page_12": archiveBlock}, true, false},
		"2 GiB, less a byte":          {map[string]int64{"ib_page_0": 1 << 30, "ib_page_1": 1<<30 - 1}, true, true},
		"2 GiB":                       {map[string]int64{"ib_page_0": 1 << 30, "ib_page_1": 1 << 30}, true, false},
	} {
		dir := t.TempDir()
		group := filepath.Join(dir, "#ib_archive", "page_group_77")
		if c.files != nil {
			if err := os.MkdirAll(group, 0o700); err != nil {
				t.Fatal(err)
			}
		}
		for name, size := range c.files {
			name := filepath.Join(group, name)
			if err := errors.Join(os.WriteFile(name, nil, 0o600), os.Truncate(name, size)); err != nil {
				t.Fatal(err)
			}
		}
		files, err := archiveFiles(disk.OS, dir, 77)
		if err != nil || grown(files) != c.grown || countable(files) != c.countable {
			t.Errorf("%s: grown %v, countable %v, %v", what, grown(files), countable(files), err)
		}
	}
}

func TestRun(t *testing.T) {
	a, err := newRun()
	b, err2 := newRun()
	if err != nil || err2 != nil || a == b || !IsRun(a) || !IsRun(b) {
		t.Errorf("%q, %q, %v, %v", a, b, err, err2)
	}
	for _, r := range []string{"", "1", "68620000000000000", a + "0", "7" + a[1:], a[:19] + "x"} {
		if IsRun(r) {
			t.Errorf("%q is valid", r)
		}
	}
}

func TestReasons(t *testing.T) {
	for r := NotInstalled; r <= Unreadable; r++ {
		e := &Unusable{Reason: r}
		if e.Error() == "" || !errors.Is(&Unusable{Reason: r, Detail: "x"}, e) || !strings.HasSuffix((&Unusable{Reason: r, Detail: "x"}).Error(), " (x)") {
			t.Errorf("reason %d: %q", r, e.Error())
		}
	}
	if len(reasons) != int(Unreadable) {
		t.Errorf("%d reasons", len(reasons))
	}
}

// TestAwaitCheckpoint: a checkpoint that appears after the call may have been begun
// before it.
func TestAwaitCheckpoint(t *testing.T) {
	answers := []innodb.LSN{10, 10, 12, 12, 15}
	i := -1
	next := func(context.Context) (innodb.LSN, error) {
		i = min(i+1, len(answers)-1)
		return answers[i], nil
	}
	got, err := awaitCheckpoint(t.Context(), 1e10, next, func(c innodb.LSN, advances int) (bool, error) { return c >= 99 || advances >= 2, nil })
	if got != 15 || err != nil {
		t.Errorf("%d, %v", got, err)
	}
	if _, err := awaitCheckpoint(t.Context(), 0, next, func(innodb.LSN, int) (bool, error) { return false, nil }); !errors.Is(err, &Unusable{Reason: NoCheckpoint}) && !strings.Contains(err.Error(), "checkpoint") {
		t.Errorf("%v", err)
	}
	if _, err := awaitCheckpoint(t.Context(), 0, next, func(innodb.LSN, int) (bool, error) { return false, io.ErrUnexpectedEOF }); err != io.ErrUnexpectedEOF {
		t.Errorf("%v", err)
	}
}
