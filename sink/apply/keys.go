package apply

import (
	"errors"
	"fmt"
	"io"
	"path"
	"slices"

	"hb/sink/backupdir"
	"hb/xbstream/innodb"
	"hb/xbstream/innodb/tde"
	"hb/xbstream/keyring"
)

// checkKeys makes sure that the keys of all encrypted tablespaces were given, and are
// right, before anything is written. Files that are not tablespaces are left to those who
// look for them.
func (a *applier) checkKeys() error {
	return backupdir.EachFile(a.root, func(file string) error {
		ext := path.Ext(file)
		table := path.Dir(file) != "." && (ext == backupdir.ExtTable || ext == backupdir.ExtNew)
		if !table && !slices.Contains(a.backup.SystemFiles[:1], file) && !backupdir.UndoFile.MatchString(file) {
			return nil
		}
		space, err := backupdir.ReadSpace(a.root, file)
		if err != nil || !space.Encryption.MayEncrypt() {
			return nil
		}
		return a.checkKey(file, &space)
	})
}

// maxProbed is how many pages of a tablespace are looked at for one that is encrypted.
const maxProbed = 64

// checkKey decrypts the first page that is encrypted.
func (a *applier) checkKey(file string, space *innodb.Space) (err error) {
	if space.Cipher, err = tde.Open(space, nil, a.Keys); err != nil {
		return fmt.Errorf("%s: %w", file, err)
	}
	f, err := a.root.Open(file)
	if err != nil {
		return fmt.Errorf("opening a tablespace: %w", err)
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	page := make([]byte, space.Physical)
	for no := range innodb.PageNo(maxProbed) {
		if _, err := f.ReadAt(page, int64(no)*int64(len(page))); err == io.EOF {
			break
		} else if err != nil {
			return fmt.Errorf("reading page %d of %s: %w", no, file, err)
		}
		if !space.Sealed(page, no) {
			continue
		}
		if _, err := space.Verify(page, no); keyring.IsKeyError(err) {
			return fmt.Errorf("%s: %w", file, err)
		}
		return nil // if it is damaged, the log may make it again
	}
	if space.Encryption.Scheme == 0 {
		return nil
	}
	if _, err := a.Keys.MariaDB(keyring.MariaDBKey{ID: space.Encryption.KeyID, Version: max(1, space.Encryption.MinVersion)}); err != nil {
		return fmt.Errorf("%s: %w", file, err)
	}
	return nil
}
