package metadata

import (
	"fmt"
	"slices"
	"strings"

	"hb/xbstream/keyring"
)

// Encryption is what of a backup is encrypted at rest, so that it shows without keys, and which
// keys a restore needs. It is in the manifest also if nothing is encrypted, but hb had keys of
// MariaDB.
type Encryption struct {
	// Tablespaces is how many tablespaces were encrypted when the backup ended, or had been begun
	// to be, by their page 0. Names are the first files of these, sorted, MaxEncryptedNames at
	// most. The system tablespace counts as it was when hb began to copy it.
	Tablespaces int64    `json:"tablespaces"`
	Names       []string `json:"names,omitempty"`
	// Others is what else is encrypted, at least in part: EncryptedRedo and so on.
	Others []string `json:"others,omitempty"`
	// Keys are the names of keys that a restore needs: hb apply refuses wrong ones before it changes
	// anything. It may need others, which only pages name: other versions of these. They are
	// MariaDB's as keyring.MariaDBKey names them, or master keys in MySQL's keyring.
	Keys []string `json:"keys,omitempty"`
	// KeysWithin says that the archive has all of Keys (keyring.SealedName).
	KeysWithin bool `json:"keys_in_backup,omitempty"`
}

// What Encryption.Others may have.
const (
	EncryptedRedo   = "the redo log"
	EncryptedBinlog = "the binary log"
	EncryptedAria   = "Aria tables"
)

const (
	// MaxEncryptedNames bounds Encryption.Names, and maxNamesBytes their length together, of a
	// manifest that is written.
	MaxEncryptedNames = 1000
	maxNamesBytes     = 128 << 10
	// maxEncryptedKeys bounds Encryption.Keys and Others.
	maxEncryptedKeys = 2000
	// maxEncryptedName bounds each of their strings, in bytes.
	maxEncryptedName = 512
)

// SetNames sets Tablespaces and Names.
func (e *Encryption) SetNames(files []string) {
	e.Tablespaces = int64(len(files))
	files = slices.Sorted(slices.Values(files))
	bytes := 0
	for _, name := range files[:min(len(files), MaxEncryptedNames)] {
		if bytes += len(name); bytes > maxNamesBytes {
			break
		}
		e.Names = append(e.Names, cutText(name, maxEncryptedName))
	}
}

// SetKeys sets Keys. There are never so many that one is left out, which hb apply would miss only
// when it needs it.
func (e *Encryption) SetKeys(names []string) {
	slices.Sort(names)
	e.Keys = names[:min(len(names), maxEncryptedKeys)]
}

// Of returns what is left of e in a part of the backup, of which has tells the files. Those that
// have no name in e count as not in it.
func (e *Encryption) Of(has func(name string) bool) *Encryption {
	if e == nil {
		return nil
	}
	part := *e
	part.Names = nil
	for _, name := range e.Names {
		if has(name) {
			part.Names = append(part.Names, name)
		}
	}
	part.Tablespaces = int64(len(part.Names))
	return &part
}

// Any reports whether anything is encrypted. A nil *Encryption has nothing.
func (e *Encryption) Any() bool { return e != nil && (e.Tablespaces > 0 || len(e.Others) > 0) }

// Needs reports whether a restore needs a key, by its name. A manifest without an *Encryption
// does not tell: then it needs all.
func (e *Encryption) Needs(key string) bool { return e == nil || slices.Contains(e.Keys, key) }

// Describe says in one line what is encrypted, and what a restore needs; "": nothing is.
func (e *Encryption) Describe(flavor string) string {
	if !e.Any() {
		return ""
	}
	what := slices.Clone(e.Others)
	if e.Tablespaces > 0 {
		what = append([]string{fmt.Sprintf("%d tablespaces: %s", e.Tablespaces, some(e.Names, e.Tablespaces))}, what...)
	}
	return "encrypted at rest: " + strings.Join(what, "; ") + "; " + e.describeRestore(flavor)
}

func (e *Encryption) describeRestore(flavor string) string {
	keys := ""
	if len(e.Keys) > 0 {
		keys = " with " + some(e.Keys, int64(len(e.Keys)))
	}
	switch {
	case e.KeysWithin:
		return "a restore needs only an identity that opens the keys in the backup (" + keyring.SealedName + ")"
	case flavor == FlavorMySQL:
		return "a restore needs the server's keyring file" + keys + " (--keyring)"
	}
	return "a restore needs the server's key file" + keys + " (--key-file, or --key-command)"
}

// some names the first of all.
func some(names []string, all int64) string {
	const most = 10
	names = names[:min(len(names), most)]
	text := strings.Join(names, ", ")
	if more := all - int64(len(names)); more > 0 {
		text += fmt.Sprintf(" and %d more", more)
	}
	return text
}

// validate reports what is wrong with e.
func (e *Encryption) validate() error {
	if e.Tablespaces < int64(len(e.Names)) || len(e.Names) > MaxEncryptedNames || len(e.Keys) > maxEncryptedKeys || len(e.Others) > maxEncryptedKeys {
		return fmt.Errorf("%d encrypted tablespaces with %d names, %d keys", e.Tablespaces, len(e.Names), len(e.Keys))
	}
	for _, s := range slices.Concat(e.Names, e.Others, e.Keys) {
		if len(s) > maxEncryptedName {
			return fmt.Errorf("a name of %d bytes in what is encrypted", len(s))
		}
	}
	return nil
}
