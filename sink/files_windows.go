package sink

import (
	"io/fs"

	"hb/stream/disk"
)

// noFollow has nothing to add: an archive cannot bring links, and no name leads
// out of the directory.
const noFollow = 0

// sameOwner has nothing to do: a file has what the directory gives to new ones.
func sameOwner(disk.File, fs.FileInfo) error { return nil }
