package disktest

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"slices"
	"sync"

	"hb/stream/disk"
)

// pieceSize is the unit that a crash keeps or loses as a whole.
const pieceSize = 4 << 10

// power remembers writes that were not synced since, as the worst of disks
// loses it when its power fails: any piece of it, in any order. Names are not
// forgotten: a directory's entries count as written at once.
type power struct {
	mu    sync.Mutex
	rnd   *rand.Rand           // draws what is lost
	files map[uint64]*unsynced // by inode
	count int                  // files so far
}

// unsynced is one file's way back.
type unsynced struct {
	no   int      // in the order of the first writes
	f    *os.File // a handle of our own
	back []content
}

// content is the earlier content of a part of a file that n bytes were written to,
// and how long the file was.
type content struct {
	at, n, size int64
	was         []byte
}

// writes notes what n bytes at an offset (-1: at the end) will overwrite; n is -1
// where the file is cut.
func (p *power) writes(f disk.File, at, n int64) error {
	if p == nil {
		return nil
	}
	facts, err := f.Statx()
	if err != nil {
		return err
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	u := p.files[facts.Ino]
	if u == nil {
		own, err := os.OpenFile(fmt.Sprintf("/proc/self/fd/%d", f.(interface{ Fd() uintptr }).Fd()), os.O_RDWR, 0)
		if err != nil {
			return err
		}
		p.count++
		u = &unsynced{no: p.count, f: own}
		p.files[facts.Ino] = u
	}
	switch {
	case at < 0:
		at = facts.Size
	case n < 0:
		n = max(0, facts.Size-at)
	}
	was := make([]byte, max(0, min(n, facts.Size-at)))
	if _, err := u.f.ReadAt(was, at); err != nil && len(was) > 0 {
		return err
	}
	u.back = append(u.back, content{at, n, facts.Size, was})
	return nil
}

// synced forgets writes that are on disk now.
func (p *power) synced(f disk.File) {
	if p == nil {
		return
	}
	facts, err := f.Statx()
	if err != nil {
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if u := p.files[facts.Ino]; u != nil {
		u.f.Close()
		delete(p.files, facts.Ino)
	}
}

// fail undoes writes that are not on disk: all of them, any piece, or a few. It draws in
// the order in which the files were first written, which is the same in each run of a
// program, as inodes and a map's order are not.
func (p *power) fail() {
	if p == nil {
		return
	}
	p.mu.Lock() // for ever: nothing is written any more
	one := []int{1, 2, 256, 1024}[p.rnd.IntN(4)]
	lost := func() bool { return p.rnd.IntN(one) == 0 }
	files := slices.SortedFunc(maps.Values(p.files), func(a, b *unsynced) int { return a.no - b.no })
	for _, u := range files {
		for _, c := range slices.Backward(u.back) {
			if err := u.takeBack(c, lost); err != nil {
				panic(err)
			}
		}
	}
}

// takeBack takes back those pieces of a change that are lost.
func (u *unsynced) takeBack(c content, lost func() bool) error {
	st, err := u.f.Stat()
	if err != nil {
		return err
	}
	if c.size != st.Size() && lost() {
		if err := u.f.Truncate(c.size); err != nil {
			return err
		}
	}
	end := c.at + max(c.n, int64(len(c.was)))
	for at := c.at; at < end; {
		next := min(end, (at/pieceSize+1)*pieceSize)
		if lost() {
			if err := u.putBack(c, at, next); err != nil {
				return err
			}
		}
		at = next
	}
	return nil
}

// putBack gives a piece its earlier content, which is zero past the former end
// of the file. It leaves the file as long as it is.
func (u *unsynced) putBack(c content, from, to int64) error {
	st, err := u.f.Stat()
	if err != nil {
		return err
	}
	piece := make([]byte, to-from)
	if from < c.at+int64(len(c.was)) {
		copy(piece, c.was[from-c.at:])
	}
	if to = min(to, st.Size()); to <= from {
		return nil
	}
	_, err = u.f.WriteAt(piece[:to-from], from)
	return err
}
