package sink

import (
	"errors"
	"testing"

	"hb/xbstream/xbtest"
)

// newArchive begins an archive of hb's with its header.
func newArchive() *xbtest.Archiver { return xbtest.NewArchiver(16<<10, 100, 200) }

// ended is an archive that its maker's Finish or Close returns.
func ended(t testing.TB, end func() ([]byte, error)) []byte {
	t.Helper()
	archive, err := end()
	if err != nil {
		t.Fatal(err)
	}
	return archive
}

// hasType reports whether err is, or wraps, an error of type T.
func hasType[T error](err error) bool {
	_, ok := errors.AsType[T](err)
	return ok
}
