package disk

import (
	"errors"
	"io/fs"
	"os"
)

// Replace gives a file new content that is on disk, all or nothing: it is written
// to a temporary file, which then takes the name. made, if not nil, is given the
// temporary file before that. After an error that file may be left. One that an
// earlier try left is removed: nothing is written through a link of its name.
func Replace(d Dir, name, temporary string, mode fs.FileMode, content []byte, made func(File) error) error {
	if err := d.Remove(temporary); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	f, err := d.OpenFile(temporary, os.O_WRONLY|os.O_CREATE|os.O_EXCL, mode)
	if err != nil {
		return err
	}
	_, err = f.Write(content)
	if err == nil && made != nil {
		err = made(f)
	}
	if err == nil {
		err = f.Sync()
	}
	if err = errors.Join(err, f.Close()); err != nil {
		return err
	}
	return d.Rename(temporary, name)
}
