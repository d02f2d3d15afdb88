package xbtest

import (
	"io"
	"testing"

	"hb/xbstream"
)

// ReadAll returns the files of an archive.
func ReadAll(t testing.TB, r io.Reader) map[string][]byte {
	t.Helper()
	files := map[string][]byte{}
	in := xbstream.NewReader(r, xbstream.ReaderOptions{})
	for {
		chunk, err := in.Next()
		if err == io.EOF {
			return files
		}
		if err != nil {
			t.Fatal(err)
		}
		files[chunk.Path] = append(files[chunk.Path], chunk.Data...)
	}
}
