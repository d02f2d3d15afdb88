// Package keyring holds the keys that decrypt what a server encrypts at rest, and
// reads them from where servers and their users keep them. Its functions read the files
// that their caller names, and nothing else.
//
// MariaDB has keys by number and version; hb knows the formats of its plugin
// file_key_management. MySQL has master keys by name. Keys from anywhere else come from
// a command: see Command.
package keyring

import (
	"bytes"
	"cmp"
	"encoding/hex"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
)

// Secret is a key or a passphrase. It prints as "…" in every format.
type Secret []byte

const hidden = "…"

// String implements fmt.Stringer.
func (Secret) String() string { return hidden }

// GoString implements fmt.GoStringer.
func (Secret) GoString() string { return hidden }

// Format implements fmt.Formatter, so that %x and %s do not print the bytes either.
func (Secret) Format(f fmt.State, _ rune) { fmt.Fprint(f, hidden) }

// MarshalText implements encoding.TextMarshaler with an error: a secret is written only
// by code that says so.
func (Secret) MarshalText() ([]byte, error) { return nil, errors.New("a key is not to be written") }

// MariaDBKey names one version of a key of MariaDB. Both count from 1.
type MariaDBKey struct{ ID, Version uint32 }

func (k MariaDBKey) String() string { return fmt.Sprintf("key %d, version %d", k.ID, k.Version) }

// Algorithm is how MariaDB encrypts with its keys: a setting of the plugin
// (file_key_management_encryption_algorithm) that no encrypted file records.
type Algorithm string

// The algorithms, as the servers' setting names them.
const (
	CBC Algorithm = "aes_cbc"
	CTR Algorithm = "aes_ctr"
)

// MissingKeyError says that a key is needed that hb was not given.
type MissingKeyError struct {
	Name  string   // of the key
	Where []string // where hb looked
}

func (e *MissingKeyError) Error() string {
	if len(e.Where) == 0 {
		return fmt.Sprintf("%s is needed, and no keys were given: name the server's key file with --key-file (MariaDB) or --keyring (MySQL), or a program that prints keys with --key-command", e.Name)
	}
	return fmt.Sprintf("%s is needed, and is not in %s", e.Name, strings.Join(e.Where, ", "))
}

// WrongKeyError says that a key does not decrypt what it should.
type WrongKeyError struct {
	Name string // of the key, or of the file that could not be decrypted
	What string // what shows it
}

func (e *WrongKeyError) Error() string {
	return fmt.Sprintf("%s is the wrong one: %s", e.Name, e.What)
}

// twiceError says that two keys have one name.
type twiceError struct{ name string }

func (e *twiceError) Error() string { return e.name + " is there twice, with different bytes" }

// IsKeyError reports whether the cause of an error is a key that is missing or wrong.
func IsKeyError(err error) bool {
	if _, ok := errors.AsType[*MissingKeyError](err); ok {
		return true
	}
	if _, ok := errors.AsType[*WrongKeyError](err); ok {
		return true
	}
	_, ok := errors.AsType[*CommandError](err)
	return ok
}

// Keys are the keys that hb was given. Several goroutines may use them at a time. A nil
// *Keys has none.
type Keys struct {
	mu        sync.Mutex
	algorithm Algorithm
	mariadb   map[MariaDBKey]Secret
	mysql     map[string]Secret
	where     []string // the sources, for messages
	keyrings  []string // files of MySQL, read again for a key that is missing
	command   *Command
	used      map[string]bool
	checks    map[string]string // by name of a key of MariaDB: see Expect
	proven    map[MariaDBKey]bool
	unopened  error // that the keys of a backup are encrypted to others: see Unseal
}

// Asks reports whether a program prints keys of MariaDB, so that only those are known that
// somebody asked for.
func (k *Keys) Asks() bool {
	if k == nil {
		return false
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.command != nil
}

// Has reports whether a key of MariaDB is known, without asking any program for it.
func (k *Keys) Has(name MariaDBKey) bool {
	if k == nil {
		return false
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	_, ok := k.mariadb[name]
	return ok
}

// None reports whether there are no keys, no command to ask for any, and none that no identity
// opened.
func (k *Keys) None() bool {
	if k == nil {
		return true
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	return len(k.mariadb) == 0 && len(k.mysql) == 0 && k.command == nil && k.unopened == nil
}

// Lacking returns the error for a key that is not there.
func (k *Keys) Lacking(name string) error {
	return &MissingKeyError{Name: name, Where: k.Sources()}
}

// once is protect, for the first key of this process.
var once = sync.OnceValue(protect)

// AddMariaDB adds a key of 16, 24 or 32 bytes.
func (k *Keys) AddMariaDB(name MariaDBKey, key Secret) error {
	switch len(key) {
	case 16, 24, 32:
	default:
		return fmt.Errorf("%v has %d bytes, not 16, 24 or 32", name, len(key))
	}
	if err := once(); err != nil {
		return err
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.mariadb == nil {
		k.mariadb = make(map[MariaDBKey]Secret)
	}
	if old, ok := k.mariadb[name]; ok && !bytes.Equal(old, key) {
		return &twiceError{name.String()}
	}
	k.mariadb[name] = key
	return nil
}

// AddMaster adds a master key of MySQL, which has 32 bytes.
func (k *Keys) AddMaster(name string, key Secret) error {
	if len(key) != 32 {
		return fmt.Errorf("the master key %s has %d bytes, not 32", name, len(key))
	}
	if err := once(); err != nil {
		return err
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.mysql == nil {
		k.mysql = make(map[string]Secret)
	}
	if old, ok := k.mysql[name]; ok && !bytes.Equal(old, key) {
		return &twiceError{"the master key " + name}
	}
	k.mysql[name] = key
	return nil
}

// AddSource notes where keys are from, for messages about one that is missing.
func (k *Keys) AddSource(where string) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.where = append(k.where, where)
}

// SetCommand names the program that is asked for keys of MariaDB that are not there.
func (k *Keys) SetCommand(c *Command) {
	k.AddSource("what " + c.Argv[0] + " prints")
	k.mu.Lock()
	defer k.mu.Unlock()
	k.command = c
}

// MariaDB returns a key of MariaDB, or a *MissingKeyError; where the keys of the backup did not
// open, that error.
func (k *Keys) MariaDB(name MariaDBKey) (Secret, error) {
	missing := &MissingKeyError{Name: name.String()}
	if k == nil {
		return nil, missing
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	key, ok := k.mariadb[name]
	if !ok && k.command != nil {
		if err := once(); err != nil {
			return nil, err
		}
		var err error
		if key, err = k.command.mariadb(name); err != nil {
			return nil, err
		}
		if k.mariadb == nil {
			k.mariadb = make(map[MariaDBKey]Secret)
		}
		k.mariadb[name], ok = key, true
	}
	if !ok {
		return nil, k.lacks(missing)
	}
	if err := k.expected(name, key); err != nil {
		return nil, err
	}
	k.use(name.String())
	return key, nil
}

// Latest returns the newest version of a key of MariaDB that hb was given, with which a
// page is encrypted that no server has encrypted yet; least is one that there is.
func (k *Keys) Latest(id, least uint32) uint32 {
	if k == nil {
		return least
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	for name := range k.mariadb {
		if name.ID == id {
			least = max(least, name.Version)
		}
	}
	return least
}

// Master returns a master key of MySQL, or an error as MariaDB does.
func (k *Keys) Master(name string) (Secret, error) {
	missing := &MissingKeyError{Name: "the master key " + name}
	if k == nil {
		return nil, missing
	}
	if err := k.refresh(name); err != nil {
		return nil, err
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	key, ok := k.mysql[name]
	if !ok {
		return nil, k.lacks(missing)
	}
	k.use(name)
	return key, nil
}

// lacks is the error for a key that is not there.
func (k *Keys) lacks(missing *MissingKeyError) error {
	if k.unopened != nil {
		return k.unopened
	}
	missing.Where = k.where
	return missing
}

func (k *Keys) use(name string) {
	if k.used == nil {
		k.used = make(map[string]bool)
	}
	k.used[name] = true
}

// Each calls the functions for every key that somebody asked for: what a backup needs.
func (k *Keys) Each(mariadb func(MariaDBKey, Secret), master func(string, Secret)) {
	if k == nil {
		return
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	for _, name := range slices.SortedFunc(maps.Keys(k.mariadb), MariaDBKey.compare) {
		if k.used[name.String()] {
			mariadb(name, k.mariadb[name])
		}
	}
	for _, name := range slices.Sorted(maps.Keys(k.mysql)) {
		if k.used[name] {
			master(name, k.mysql[name])
		}
	}
}

func (k MariaDBKey) compare(o MariaDBKey) int {
	return cmp.Or(cmp.Compare(k.ID, o.ID), cmp.Compare(k.Version, o.Version))
}

// SetAlgorithm sets how MariaDB encrypts. "" leaves it as it is.
func (k *Keys) SetAlgorithm(a Algorithm) error {
	switch a {
	case "":
		return nil
	case CBC, CTR:
	default:
		return fmt.Errorf("unknown encryption algorithm %q: hb knows %s and %s", a, CBC, CTR)
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	k.algorithm = a
	return nil
}

// DefaultAlgorithm sets how MariaDB encrypts, which is known from the server or the backup. If
// another one was set, that is a *FlagError. "" says nothing.
func (k *Keys) DefaultAlgorithm(a Algorithm) error {
	if k == nil || a == "" {
		return nil
	}
	k.mu.Lock()
	set := k.algorithm
	k.mu.Unlock()
	if set != "" && set != a {
		return &FlagError{fmt.Errorf("--key-algorithm %s: the server encrypts with %s", set, a)}
	}
	return k.SetAlgorithm(a)
}

// Algorithm returns how MariaDB encrypts: CBC, unless it was set.
func (k *Keys) Algorithm() Algorithm {
	if k == nil {
		return CBC
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	return cmp.Or(k.algorithm, CBC)
}

// parseHex decodes a key. The error has none of its characters.
func parseHex(text []byte) (Secret, error) {
	key := make([]byte, hex.DecodedLen(len(text)))
	if _, err := hex.Decode(key, text); err != nil {
		return nil, errors.New("the key is not hexadecimal")
	}
	return key, nil
}
