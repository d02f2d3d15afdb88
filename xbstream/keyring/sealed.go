package keyring

import (
	"bytes"
	"cmp"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"

	"filippo.io/age"
)

// SealedName is the file of a backup that holds the keys that a restore needs, encrypted to
// the recipients of the archive: an age file of the JSON of sealedKeys. It is encrypted by
// itself, so that the archive's own encryption can be taken off without it.
const SealedName = "hb-keys.age"

// MaxSealed bounds the file, in bytes.
const MaxSealed = 4 << 20

// sealedVersion is the version of the JSON. A reader refuses a later one.
const sealedVersion = 1

type sealedKeys struct {
	Version   int             `json:"version"`
	Algorithm string          `json:"algorithm,omitempty"` // of MariaDB, as its setting names it
	MariaDB   []sealedMariaDB `json:"mariadb,omitempty"`
	MySQL     []sealedMySQL   `json:"mysql,omitempty"`
}

type sealedMariaDB struct {
	ID      uint32 `json:"id"`
	Version uint32 `json:"version"`
	Key     string `json:"key"` // hexadecimal
}

type sealedMySQL struct {
	Name string `json:"name"` // in the server's keyring
	Key  string `json:"key"`  // hexadecimal
}

// Seal returns the content of SealedName: all keys of MariaDB, those master keys of MySQL
// that somebody asked for, and the newest of each server, which the redo log may bring in. It
// returns nil if it has no keys.
func (k *Keys) Seal(recipients []age.Recipient) ([]byte, error) {
	if err := k.readAgain(); err != nil {
		return nil, err
	}
	k.useNewest()
	doc := k.needed()
	if len(doc.MariaDB) == 0 && len(doc.MySQL) == 0 {
		return nil, nil
	}
	text, err := json.Marshal(doc)
	if err != nil {
		return nil, err
	}
	return encrypt(text, recipients)
}

func encrypt(text []byte, recipients []age.Recipient) ([]byte, error) {
	var out bytes.Buffer
	w, err := age.Encrypt(&out, recipients...)
	if err == nil {
		_, err = w.Write(text)
	}
	if err == nil {
		err = w.Close()
	}
	if err != nil {
		return nil, fmt.Errorf("encrypting %s: %w", SealedName, err)
	}
	return out.Bytes(), nil
}

// Reseal returns the content of a SealedName, encrypted to other recipients. opened is false if
// none of the identities opens it: then it is returned as it is.
func Reseal(content []byte, identities []age.Identity, recipients []age.Recipient) (_ []byte, opened bool, err error) {
	if len(identities) == 0 {
		return content, false, nil
	}
	text, err := decrypt(bytes.NewReader(content), identities)
	if _, none := errors.AsType[*age.NoIdentityMatchError](err); none {
		return content, false, nil
	}
	if err != nil {
		return nil, false, fmt.Errorf("%s: %w", SealedName, err)
	}
	content, err = encrypt(text, recipients)
	return content, true, err
}

func decrypt(r io.Reader, identities []age.Identity) ([]byte, error) {
	plain, err := age.Decrypt(r, identities...)
	if err != nil {
		return nil, err
	}
	text, err := io.ReadAll(io.LimitReader(plain, MaxSealed+1))
	if err == nil && len(text) > MaxSealed {
		err = errors.New("it is too long")
	}
	return text, err
}

// needed returns the keys that a restore needs.
func (k *Keys) needed() sealedKeys {
	doc := sealedKeys{Version: sealedVersion}
	k.mu.Lock()
	defer k.mu.Unlock()
	for _, name := range slices.SortedFunc(maps.Keys(k.mariadb), MariaDBKey.compare) {
		doc.MariaDB = append(doc.MariaDB, sealedMariaDB{name.ID, name.Version, hex.EncodeToString(k.mariadb[name])})
	}
	if len(doc.MariaDB) > 0 {
		doc.Algorithm = string(cmp.Or(k.algorithm, CBC))
	}
	for _, name := range slices.Sorted(maps.Keys(k.mysql)) {
		if k.used[name] {
			doc.MySQL = append(doc.MySQL, sealedMySQL{name, hex.EncodeToString(k.mysql[name])})
		}
	}
	return doc
}

// Unseal adds the keys of a SealedName that r reads. That none of the identities opens it is the
// error, a *WrongKeyError, when a key is missing: the identities may be only those of the
// archive, which hb merge may have encrypted to others, and keys may not be needed, or come from
// elsewhere.
func (k *Keys) Unseal(r io.Reader, identities []age.Identity) error {
	text, err := decrypt(r, identities)
	if _, none := errors.AsType[*age.NoIdentityMatchError](err); none {
		k.mu.Lock()
		defer k.mu.Unlock()
		k.unopened = &WrongKeyError{"the identity for " + SealedName, "the keys of the backup are not encrypted to it, and keys are needed"}
		return nil
	}
	var doc sealedKeys
	if err == nil && json.Unmarshal(text, &doc) != nil { // whose error may quote a key
		err = errors.New("it is not the JSON that hb writes")
	}
	if err == nil && (doc.Version < 1 || doc.Version > sealedVersion) {
		err = fmt.Errorf("it is of version %d, and hb reads %d", doc.Version, sealedVersion)
	}
	if err == nil {
		err = k.add(&doc)
	}
	if twice, ok := errors.AsType[*twiceError](err); ok {
		return &WrongKeyError{twice.name + " that was given", "the backup has other bytes for it (" + SealedName + ")"}
	}
	if err != nil {
		return fmt.Errorf("%s: %w", SealedName, err)
	}
	k.AddSource(SealedName + " of the backup")
	return nil
}

func (k *Keys) add(doc *sealedKeys) error {
	if len(doc.MariaDB) > 0 {
		if err := k.DefaultAlgorithm(Algorithm(doc.Algorithm)); err != nil {
			return err
		}
	}
	for _, m := range doc.MariaDB {
		key, err := parseHex([]byte(m.Key))
		if err == nil {
			err = k.AddMariaDB(MariaDBKey{m.ID, m.Version}, key)
		}
		if err != nil {
			return err
		}
	}
	for _, m := range doc.MySQL {
		key, err := parseHex([]byte(m.Key))
		if err == nil {
			err = k.AddMaster(m.Name, key)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// errNoKeys says that there is nothing to write.
var errNoKeys = errors.New("there are no keys: give those of the server that was backed up, or an identity that opens the backup's own")

// MarshalMySQL returns a keyring file of MySQL in a format, with all master keys; with the
// name of one of InnoDB, without the others of InnoDB.
func (k *Keys) MarshalMySQL(format Format, only string) ([]byte, error) {
	if k == nil {
		return nil, errNoKeys
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	var keys []MySQLKey
	for _, name := range slices.Sorted(maps.Keys(k.mysql)) {
		if only == "" || name == only || !strings.HasPrefix(name, masterPrefix) {
			keys = append(keys, MySQLKey{Name: name, Type: masterType, Data: k.mysql[name]})
		}
	}
	if len(keys) == 0 {
		return nil, errNoKeys
	}
	if format == Plugin {
		return MarshalPlugin(keys), nil
	}
	return MarshalComponent(keys)
}

// MarshalMariaDB returns a file of file_key_management with all keys. The plugin knows only
// the first version of a key.
func (k *Keys) MarshalMariaDB() ([]byte, error) {
	if k == nil {
		return nil, errNoKeys
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	var out bytes.Buffer
	for _, name := range slices.SortedFunc(maps.Keys(k.mariadb), MariaDBKey.compare) {
		if name.Version != 1 {
			return nil, fmt.Errorf("%v cannot be in a file of file_key_management, which knows no versions", name)
		}
		fmt.Fprintf(&out, "%d;%s\n", name.ID, hex.EncodeToString(k.mariadb[name]))
	}
	if out.Len() == 0 {
		return nil, errNoKeys
	}
	if _, ok := k.mariadb[MariaDBKey{1, 1}]; !ok {
		return nil, errors.New("there is no key 1, without which file_key_management does not start")
	}
	return out.Bytes(), nil
}
