package source

import (
	"fmt"
	"sync"

	"hb/xbstream"
)

// archive is the stream being written, and the record of what it holds, from
// which the manifest is made.
type archive struct {
	w *xbstream.Writer

	mu    sync.Mutex
	files []fileSum
}

// fileSum is one finished file of the archive.
type fileSum struct {
	name string
	xbstream.Sum
}

// archiveFile is one file being written.
type archiveFile struct {
	*xbstream.File
	a *archive
}

func (a *archive) create(name string) (*archiveFile, error) {
	f, err := a.w.Create(name)
	if err != nil {
		return nil, err
	}
	return &archiveFile{f, a}, nil
}

// output begins a file, for the copier.
func (a *archive) output(name string) (output, error) { return a.create(name) }

// Close ends the file and enters it in the record.
func (f *archiveFile) Close() error {
	if err := f.File.Close(); err != nil {
		return err
	}
	f.a.mu.Lock()
	defer f.a.mu.Unlock()
	f.a.files = append(f.a.files, fileSum{f.Path(), f.Sum()})
	return nil
}

// put writes a whole small file.
func (a *archive) put(name string, content []byte) error {
	f, err := a.create(name)
	if err != nil {
		return err
	}
	if _, err := f.Write(content); err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	return f.Close()
}
