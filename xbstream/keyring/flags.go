package keyring

import (
	"errors"
	"fmt"
	"strings"
)

// Flags are the command-line options that name keys. The tags are the command line's.
type Flags struct {
	Keyring       string `help:"Keyring file of MySQL, of component_keyring_file (default for hb backup and hb check: the one that the server names)." placeholder:"FILE" type:"path"`
	KeyFile       string `help:"Key file of MariaDB's plugin file_key_management, for encrypted tablespaces." placeholder:"FILE" type:"path"`
	KeySecretFile string `help:"File with the secret of an encrypted --key-file (file_key_management_filekey)." placeholder:"FILE" type:"path"`
	KeyCommand    string `help:"Run this program for each key of MariaDB that is needed, with the number of the key and its version as arguments. It prints the key in hexadecimal." placeholder:"COMMAND"`
	KeyAlgorithm  string `help:"file_key_management_encryption_algorithm of the server: aes_cbc or aes_ctr (default: as the backup records it, else aes_cbc)." placeholder:"NAME"`
}

// FlagError is a mistake in the options.
type FlagError struct{ Err error }

func (e *FlagError) Error() string { return e.Err.Error() }

// Unwrap returns the mistake.
func (e *FlagError) Unwrap() error { return e.Err }

// Load reads the keys. Without any option it returns nil.
func (f *Flags) Load() (*Keys, error) {
	switch {
	case f.KeySecretFile != "" && f.KeyFile == "":
		return nil, &FlagError{errors.New("--key-secret-file is for --key-file")}
	case *f == (Flags{}):
		return nil, nil
	}
	k := new(Keys)
	if err := k.SetAlgorithm(Algorithm(f.KeyAlgorithm)); err != nil {
		return nil, &FlagError{err}
	}
	if f.Keyring != "" {
		if err := k.ReadMySQLKeyring(f.Keyring); err != nil {
			return nil, err
		}
	}
	if f.KeyFile != "" {
		if err := k.ReadKeyFile(f.KeyFile, f.KeySecretFile); IsKeyError(err) {
			return nil, err
		} else if err != nil {
			return nil, &FlagError{fmt.Errorf("--key-file: %w", err)}
		}
	}
	if argv := strings.Fields(f.KeyCommand); len(argv) > 0 {
		k.SetCommand(&Command{Argv: argv})
	} else if f.KeyCommand != "" {
		return nil, &FlagError{errors.New("--key-command names no program")}
	}
	return k, nil
}
