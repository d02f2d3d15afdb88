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
	if err := a.passOverTransition(); err != nil {
		return err
	}
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

// transitionKeys is where XtraBackup puts the keys of tablespaces, encrypted by a passphrase
// or by a key of the server's (--transition-key, --generate-transition-key).
const transitionKeys = "xtrabackup_keys"

// passOverTransition notes, for the message about a missing key, that hb cannot read
// XtraBackup's keys. They are a second way to open what the server's keyring opens.
func (a *applier) passOverTransition() error {
	found, err := backupdir.Exists(a.root, transitionKeys)
	if err != nil {
		return fmt.Errorf("looking for %s: %w", transitionKeys, err)
	}
	if !found {
		return nil
	}
	if a.Keys == nil {
		a.Keys = new(keyring.Keys)
	}
	a.Keys.AddSource(transitionKeys + " of the backup (which hb does not read: give the server's keyring with --keyring)")
	return nil
}

// writeKeyring writes the keys for the server that will start on the directory, unless
// rewrap has.
func (a *applier) writeKeyring() error {
	if a.WriteKeyring == "" || a.master != "" {
		return nil
	}
	content, err := a.keyringFile("")
	if err != nil {
		return err
	}
	return newKeyring(a.WriteKeyring, content)
}

// keyringFile is the content of WriteKeyring: with the name of a master key of InnoDB,
// without all others.
func (a *applier) keyringFile(master string) (content []byte, err error) {
	if a.backup.Flavor == metadata.FlavorMySQL {
		content, err = a.Keys.MarshalMySQL(a.KeyringFormat, master)
	} else {
		content, err = a.Keys.MarshalMariaDB()
	}
	if err != nil {
		return nil, fmt.Errorf("writing a keyring: %w", err)
	}
	return content, nil
}

// newKeyring writes a file that is not there yet.
func newKeyring(name string, content []byte) error {
	f, err := os.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
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
func (a *applier) checkKeys() error { return a.eachEncrypted(a.checkKey) }

// eachEncrypted calls f for the first file of each tablespace that may be encrypted.
func (a *applier) eachEncrypted(f func(file string, space *innodb.Space) error) error {
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
		return f(file, &space)
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
