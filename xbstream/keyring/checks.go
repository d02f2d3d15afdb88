package keyring

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"maps"
	"slices"
)

const (
	// checkSize is how many bytes of its hash tell a key from any other.
	checkSize = 8
	// maxChecks bounds how many keys are told from others: those with the smallest numbers.
	maxChecks = 1000
)

// check tells a key from others: the first bytes of a SHA-256 in hexadecimal. A key has at
// least 128 random bits, of which this gives nothing away that a page does not.
func (k MariaDBKey) check(key Secret) string {
	sum := sha256.Sum256(append([]byte("hb key check\x00"+k.String()+"\x00"), key...))
	return hex.EncodeToString(sum[:checkSize])
}

// Checks returns, by name, what tells each key of MariaDB from any other. Neither a tablespace
// nor the redo log of MariaDB has that: with a wrong key a page that the log makes would
// be encrypted so that no server can read it.
func (k *Keys) Checks() map[string]string {
	if k == nil {
		return nil
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	names := slices.SortedFunc(maps.Keys(k.mariadb), MariaDBKey.compare)
	if len(names) == 0 {
		return nil
	}
	out := make(map[string]string)
	for _, name := range names[:min(len(names), maxChecks)] {
		out[name.String()] = name.check(k.mariadb[name])
	}
	return out
}

// Expect makes the keys of MariaDB be those that Checks was called for, of those that it knew.
// The error is a *WrongKeyError: now for those that are needed, by name, and for others, which the
// server may have changed since, when somebody asks for one.
func (k *Keys) Expect(checks map[string]string, needed func(name string) bool) error {
	if k == nil || len(checks) == 0 {
		return nil
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	k.checks = checks
	for _, name := range slices.SortedFunc(maps.Keys(k.mariadb), MariaDBKey.compare) {
		if !needed(name.String()) {
			continue
		}
		if err := k.expected(name, k.mariadb[name]); err != nil {
			return err
		}
	}
	return nil
}

// expected compares a key with what Expect was given.
func (k *Keys) expected(name MariaDBKey, key Secret) error {
	if want := k.checks[name.String()]; want != "" && want != name.check(key) {
		return &WrongKeyError{Name: name.String(), What: fmt.Sprintf("the server that was backed up had another one (%s)", want)}
	}
	return nil
}

// Prove notes that something showed a key of MariaDB to be the right one.
func (k *Keys) Prove(name MariaDBKey) {
	if k == nil {
		return
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.proven == nil {
		k.proven = make(map[MariaDBKey]bool)
	}
	k.proven[name] = true
}

// Unproven returns the keys of MariaDB that somebody asked for, and that neither Expect nor
// Prove was called for.
func (k *Keys) Unproven() (out []MariaDBKey) {
	k.Each(func(name MariaDBKey, _ Secret) { out = append(out, name) }, func(string, Secret) {})
	if k == nil {
		return nil
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	return slices.DeleteFunc(out, func(name MariaDBKey) bool { return k.proven[name] || k.checks[name.String()] != "" })
}
