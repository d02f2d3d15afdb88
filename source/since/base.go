// Package since knows the backup that an incremental one builds on: in goes its
// manifest, from wherever that is, and out comes what the base has of each file, and
// whether it is a base for a given server.
package since

import (
	"bytes"
	"cmp"
	"fmt"
	"iter"
	"slices"

	"hb/xbstream/innodb"
	"hb/xbstream/metadata"
)

// Base is a backup as far as its increment has to know it. Of a million files it takes
// about 100 bytes each.
type Base struct {
	Name     string           // as the user named it
	Point    metadata.PointID // the state that it restores
	Archive  *metadata.Archive
	Manifest *metadata.Manifest // without the files

	names   [][]byte // blocks of paths, one after the other
	files   [][]entry
	count   int
	byPath  []uint32 // numbers of files, sorted
	bySpace []uint32 // likewise: tablespaces' files that count, without those of tablespace 0
}

// File is one file of the server's in a base.
type File struct {
	Number int    // counts from 0
	Path   string // in a full backup's archive, or of a live file of an incremental one
	Size   int64  // bytes
	Space  innodb.SpaceID
	Pages  bool // Space is the tablespace that it is of
	CRC32  uint32
	HasCRC bool
}

// entry is a File in few bytes.
type entry struct {
	size   int64
	name   uint64 // where its path is: block, and offset in that
	length uint16
	flags  uint8
	space  innodb.SpaceID
	crc    uint32
}

const (
	isPages uint8 = 1 << iota
	hasCRC
	isVoid // a full backup has it, and says that it is to be deleted

	// nameBlock is how many bytes of paths are in one piece, and fileBlock how many files:
	// one slice of all would be in memory twice when it grows.
	nameBlock = 1 << 20
	fileBlock = 1 << 12
)

// PeersCopy is how many bytes of files of other engines, which may be unchanged, an
// increment has nevertheless. The peers' tools want all: when they put an increment onto a
// directory they remove every such file from it first (seen with mariadb-backup 10.5 to
// 11.8).
const PeersCopy = 64 << 20

func (b *Base) add(f File) {
	last := len(b.files) - 1
	if last < 0 || len(b.files[last]) == fileBlock {
		b.files = append(b.files, make([]entry, 0, fileBlock))
		last++
	}
	e := entry{size: f.Size, space: f.Space, crc: f.CRC32, length: uint16(len(f.Path)), name: b.keep(f.Path)}
	if f.Pages {
		e.flags |= isPages
	}
	if f.HasCRC {
		e.flags |= hasCRC
	}
	b.files[last] = append(b.files[last], e)
	b.count++
}

// keep stores a path.
func (b *Base) keep(path string) uint64 {
	last := len(b.names) - 1
	if last < 0 || len(b.names[last])+len(path) > nameBlock {
		b.names = append(b.names, make([]byte, 0, nameBlock))
		last++
	}
	at := len(b.names[last])
	b.names[last] = append(b.names[last], path...)
	return uint64(last)*nameBlock + uint64(at)
}

func (b *Base) entry(n uint32) *entry { return &b.files[n/fileBlock][n%fileBlock] }

func (b *Base) path(n uint32) []byte {
	e := b.entry(n)
	block, at := e.name/nameBlock, e.name%nameBlock
	return b.names[block][at : at+uint64(e.length)]
}

func (b *Base) file(n uint32) File {
	e := b.entry(n)
	return File{Number: int(n), Path: string(b.path(n)), Size: e.size, Space: e.space, Pages: e.flags&isPages != 0, CRC32: e.crc, HasCRC: e.flags&hasCRC != 0}
}

// index makes the files findable. deleted are names without suffix of tables' files that
// a full backup has and deletes.
func (b *Base) index(deleted []string) error {
	b.byPath = make([]uint32, b.count)
	for n := range b.byPath {
		b.byPath[n] = uint32(n)
	}
	slices.SortFunc(b.byPath, func(x, y uint32) int { return bytes.Compare(b.path(x), b.path(y)) })
	for i := 1; i < len(b.byPath); i++ {
		if bytes.Equal(b.path(b.byPath[i]), b.path(b.byPath[i-1])) {
			return fmt.Errorf("the manifest lists %q twice", b.path(b.byPath[i]))
		}
	}
	for _, name := range deleted {
		if n, ok := b.find(name + ".ibd"); ok {
			b.entry(n).flags |= isVoid
		}
	}
	for n := range uint32(b.count) {
		if e := b.entry(n); e.flags&(isPages|isVoid) == isPages && e.space != 0 {
			b.bySpace = append(b.bySpace, n)
		}
	}
	slices.SortFunc(b.bySpace, func(x, y uint32) int { return cmp.Compare(b.entry(x).space, b.entry(y).space) })
	for i := 1; i < len(b.bySpace); i++ {
		if x, y := b.bySpace[i-1], b.bySpace[i]; b.entry(x).space == b.entry(y).space {
			return fmt.Errorf("the manifest has %q and %q for tablespace %d", b.path(x), b.path(y), b.entry(x).space)
		}
	}
	return nil
}

func (b *Base) find(path string) (uint32, bool) {
	i, ok := slices.BinarySearchFunc(b.byPath, []byte(path), func(n uint32, path []byte) int { return bytes.Compare(b.path(n), path) })
	if !ok {
		return 0, false
	}
	return b.byPath[i], true
}

// Tablespace finds the file of a tablespace, whatever its name was then. The system
// tablespace may have several, which keep their names.
func (b *Base) Tablespace(id innodb.SpaceID, path string) (File, bool) {
	if id == 0 {
		f, ok := b.At(path)
		return f, ok && f.Pages && f.Space == 0
	}
	i, ok := slices.BinarySearchFunc(b.bySpace, id, func(n uint32, id innodb.SpaceID) int { return cmp.Compare(b.entry(n).space, id) })
	if !ok {
		return File{}, false
	}
	return b.file(b.bySpace[i]), true
}

// At finds a file by its path.
func (b *Base) At(path string) (File, bool) {
	n, ok := b.find(path)
	if !ok {
		return File{}, false
	}
	return b.file(n), true
}

// Len is how many files the base has.
func (b *Base) Len() int { return b.count }

// Files are all of them, sorted by path.
func (b *Base) Files() iter.Seq[File] {
	return func(yield func(File) bool) {
		for _, n := range b.byPath {
			if !yield(b.file(n)) {
				return
			}
		}
	}
}
