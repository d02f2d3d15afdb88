package apply

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"slices"

	"filippo.io/age"

	"hb/sink/backupdir"
	"hb/xbstream/innodb"
	"hb/xbstream/innodb/tde"
	"hb/xbstream/keyring"
	"hb/xbstream/metadata"
)

// openKeys adds the keys that the backup has itself, if there is an identity for them.
func (a *applier) openKeys() (err error) {
	f, err := a.root.Open(keyring.SealedName)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("opening the keys of the backup: %w", err)
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	if a.Keys == nil {
		a.Keys = new(keyring.Keys)
	}
	var ids []age.Identity
	if a.Identities != nil {
		if ids, err = a.Identities(); err != nil {
			return err
		}
	}
	if len(ids) == 0 {
		a.Keys.AddSource(keyring.SealedName + " of the backup (which --identity FILE opens)")
		return nil
	}
	return a.Keys.Unseal(f, ids)
}

// writeKeyring writes the keys for the server that will start on the directory.
func (a *applier) writeKeyring() (err error) {
	if a.WriteKeyring == "" {
		return nil
	}
	marshal := a.Keys.MarshalMariaDB
	if a.backup.Flavor == metadata.FlavorMySQL {
		marshal = a.Keys.MarshalMySQL
	}
	content, err := marshal()
	if err != nil {
		return fmt.Errorf("writing a keyring: %w", err)
	}
	f, err := os.OpenFile(a.WriteKeyring, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return fmt.Errorf("writing a keyring: %w", err)
	}
	_, err = f.Write(content)
	return errors.Join(err, f.Sync(), f.Close())
}

// checkKeys makes sure that the keys of all encrypted tablespaces were given, and are
// right, before anything is written. Files that are not tablespaces are left to those who
// look for them.
//
// MariaDB's keys are proven by a page that one encrypted, or by what the backup has to tell
// them from others.
func (a *applier) checkKeys() error {
	return backupdir.EachFile(a.root, func(file string) error {
		ext := path.Ext(file)
		table := ext == backupdir.ExtTable || ext == backupdir.ExtNew
		if !table && !slices.Contains(a.backup.SystemFiles[:1], file) && !backupdir.UndoFile.MatchString(file) {
			return nil
		}
		space, err := backupdir.ReadSpace(a.root, file)
		if _, failed := errors.AsType[*fs.PathError](err); failed {
			return fmt.Errorf("looking for encrypted tablespaces: %w", err)
		}
		if err != nil || !space.Encrypted() {
			return nil
		}
		return a.checkKey(file, &space)
	})
}

// warnUnproven warns of keys of MariaDB that were used and that nothing proved: a backup that
// had no keys, of tables so young that no page of theirs was written to its file.
func (a *applier) warnUnproven() {
	for _, name := range a.Keys.Unproven() {
		a.result.Warnings = append(a.result.Warnings, fmt.Sprintf("nothing in the backup shows whether %v is the server's, because all pages that are encrypted with it are from the redo log: "+
			"if it is not, the server will find their tables damaged", name))
	}
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
		_, err := space.Verify(page, no)
		if keyring.IsKeyError(err) {
			return fmt.Errorf("%s: %w", file, err)
		}
		if version := space.KeyVersion(page, no); err == nil && version != 0 {
			a.Keys.Prove(keyring.MariaDBKey{ID: space.Encryption.KeyID, Version: version})
		}
		return nil // if it is damaged, the log may make it again
	}
	if space.MySQLEncrypted() || space.Encryption.Scheme == 0 {
		return nil
	}
	if _, err := a.Keys.MariaDB(keyring.MariaDBKey{ID: space.Encryption.KeyID, Version: max(1, space.Encryption.MinVersion)}); err != nil {
		return fmt.Errorf("%s: %w", file, err)
	}
	return nil
}
