package backupdir

import (
	"io/fs"

	"hb/stream/disk"
)

// NoFollow has nothing to add: an archive cannot bring links, and no name leads
// out of the directory.
const NoFollow = 0

// SameOwner has nothing to do: a new file inherits its owner from the directory.
func SameOwner(disk.File, fs.FileInfo) error { return nil }

// OfRoot has nothing to report: there is no root.
func OfRoot(fs.FileInfo) bool { return false }

// Links is how many names a file has; it cannot be known.
func Links(fs.FileInfo) uint64 { return 1 }
