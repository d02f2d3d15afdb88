package infofile

import (
	"bufio"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"hb/stream"
	"hb/stream/disk"
)

// Manifest keeps the manifest of a backup, for an incremental one to build on: a file
// that is there, as a whole, if and only if the backup is complete. Until then a file of
// an earlier backup stays. Without a path it is nil, and all methods do nothing.
type Manifest struct {
	dir             disk.Dir
	file            disk.File // nil: it is closed
	out             *bufio.Writer
	name, temporary string
}

// CreateManifest begins the file at path, which must be a regular file or not there, and
// not the archive. An error is a *stream.UsageError.
func CreateManifest(path string, archive *os.File) (*Manifest, error) {
	if path == "" {
		return nil, nil
	}
	path, err := aside(path, archive)
	if err != nil {
		return nil, stream.AsUsage(err)
	}
	m, err := createManifest(disk.OS, path)
	return m, stream.AsUsage(err)
}

func createManifest(system disk.System, path string) (_ *Manifest, err error) {
	m := &Manifest{name: filepath.Base(path)}
	m.temporary = fmt.Sprintf(".%s.%d", m.name, os.Getpid())
	if m.dir, err = system.OpenDir(filepath.Dir(path)); err != nil {
		return nil, err
	}
	if err = m.dir.Remove(m.temporary); err == nil || errors.Is(err, fs.ErrNotExist) {
		m.file, err = m.dir.OpenFile(m.temporary, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o644)
	}
	if err != nil {
		return nil, errors.Join(err, m.dir.Close())
	}
	m.out = bufio.NewWriter(m.file)
	return m, nil
}

// Write takes the next bytes. It fails when the disk is full, and the backup with it.
func (m *Manifest) Write(p []byte) (int, error) {
	n, err := m.out.Write(p)
	return n, m.about(err)
}

func (m *Manifest) about(err error) error {
	if err != nil {
		err = fmt.Errorf("writing the manifest to %s: %w", filepath.Join(m.dir.Name(), m.name), err)
	}
	return err
}

// End puts the file in its place if backup, the backup's error, is nil, and removes it
// otherwise. It returns the backup's error and its own.
func (m *Manifest) End(backup error) error {
	if m == nil {
		return backup
	}
	if backup != nil {
		return errors.Join(backup, m.close(), m.dir.Remove(m.temporary), m.dir.Close())
	}
	// The content is on disk before the name leads to it, and the name before hb says
	// that the backup is complete.
	err := m.out.Flush()
	if err == nil {
		err = m.file.Sync()
	}
	if err = errors.Join(err, m.close()); err == nil {
		err = m.dir.Rename(m.temporary, m.name)
	}
	if err == nil {
		err = disk.SyncDir(m.dir, ".")
	} else {
		_ = m.dir.Remove(m.temporary) // if it is there
	}
	if err = errors.Join(err, m.dir.Close()); err != nil {
		return fmt.Errorf("the archive is complete, but %w", m.about(err))
	}
	return nil
}

func (m *Manifest) close() error {
	f := m.file
	m.file = nil
	return f.Close()
}
