package stream

import (
	"bufio"
	"cmp"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"strings"

	"filippo.io/age"

	"hb/stream/disk"
	"hb/stream/remote"
)

// WriteFlags are the command-line options for what is done to an
// archive on its way out.
type WriteFlags struct {
	Compress              bool     `help:"Compress with zstd."`
	CompressLevel         int      `type:"count" help:"zstd level, 1 to 19 (default 3); implies --compress." placeholder:"N"`
	EncryptTo             []string `help:"Encrypt to this recipient: age1..., or an SSH public key. May be repeated." placeholder:"RECIPIENT" sep:"none"`
	EncryptToFile         []string `help:"Encrypt to the recipients in this file. May be repeated." placeholder:"FILE" type:"path" sep:"none"`
	EncryptPassphraseFile string   `help:"Encrypt with the passphrase in the first line of this file." placeholder:"FILE" type:"path"`
}

// UsageError is a mistake in the command line, or in a file that it names.
type UsageError struct{ Err error }

func (e *UsageError) Error() string { return e.Err.Error() }

// Unwrap returns the mistake.
func (e *UsageError) Unwrap() error { return e.Err }

// AsUsage returns an error as a *UsageError; nil stays nil.
func AsUsage(err error) error {
	if err == nil {
		return nil
	}
	return &UsageError{err}
}

// Options reads the recipients that the flags name. An error is a *UsageError.
func (f *WriteFlags) Options() (o WriteOptions, err error) {
	defer func() { err = AsUsage(err) }()
	if f.Compress || f.CompressLevel != 0 {
		o.Compress = &Compression{Level: f.CompressLevel}
	}
	for _, s := range f.EncryptTo {
		r, err := ParseRecipient(s)
		if err != nil {
			return o, err
		}
		o.Recipients = append(o.Recipients, r)
	}
	for _, name := range f.EncryptToFile {
		r, err := ParseRecipientsFile(name)
		if err != nil {
			return o, err
		}
		o.Recipients = append(o.Recipients, r...)
	}
	if f.EncryptPassphraseFile != "" {
		phrase, err := firstLine(f.EncryptPassphraseFile)
		if err != nil {
			return o, err
		}
		r, err := PassphraseRecipient(phrase)
		if err != nil {
			return o, err
		}
		o.Recipients = append(o.Recipients, r)
	}
	return o, o.Validate()
}

// TempDir returns where temporary files go: in dir, or in the system's place if that
// is empty. That nobody can make a file there is a *UsageError.
func TempDir(dir string) (string, error) {
	dir = cmp.Or(dir, os.TempDir())
	if err := disk.Access(dir, disk.Writable|disk.Searchable); err != nil {
		return dir, AsUsage(fmt.Errorf("nothing can be spooled to %s: %w; give another place with --tmpdir", dir, err))
	}
	return dir, nil
}

// ReadFlags are the command-line options for where an archive is, and how
// to decrypt it.
type ReadFlags struct {
	Identity       []string `short:"i" help:"Decrypt with the age identity or SSH key in this file. May be repeated." placeholder:"FILE" type:"path" sep:"none"`
	PassphraseFile string   `help:"Decrypt with the passphrase in the first line of this file (default: ask)." placeholder:"FILE" type:"path"`
	Archive        string   `arg:"" optional:"" help:"Archive to read: a file, or an https:// address that answers range requests (default: standard input)." type:"archive"`
}

// Of are the same flags for another archive.
func (f ReadFlags) Of(archive string) *ReadFlags {
	f.Archive = archive
	return &f
}

// Stdin reports whether the archive comes from standard input.
func (f *ReadFlags) Stdin() bool { return f.Archive == "" || f.Archive == "-" }

// Name is the archive's file, or its address without secrets; "" for standard input.
func (f *ReadFlags) Name() string {
	switch {
	case f.Stdin():
		return ""
	case remote.Is(f.Archive):
		return remote.Name(f.Archive)
	}
	return f.Archive
}

// Facts is the archive for programs: its file, or "-" for standard input.
func (f *ReadFlags) Facts() []slog.Attr {
	return []slog.Attr{slog.String("archive", cmp.Or(f.Name(), "-"))}
}

// options reads the identities that the flags name. An error is a *UsageError.
func (f *ReadFlags) options(ask Prompt) (o Options, err error) {
	defer func() { err = AsUsage(err) }()
	o = Options{Passphrase: ask}
	if f.PassphraseFile != "" {
		o.Passphrase = func(string) (string, error) { return firstLine(f.PassphraseFile) }
	}
	o.Identities, err = ReadIdentities(f.Identity, ask)
	return o, err
}

// ReadIdentities reads the identities in files. An error is a *UsageError.
func ReadIdentities(files []string, ask Prompt) ([]age.Identity, error) {
	var all []age.Identity
	for _, name := range files {
		ids, err := ParseIdentitiesFile(name, ask)
		if err != nil {
			return nil, AsUsage(err)
		}
		all = append(all, ids...)
	}
	return all, nil
}

// maxSecret bounds the length in bytes of a line that holds a password or a
// passphrase.
const maxSecret = 4096

// firstLine is the first line of a file, without its end.
func firstLine(name string) (_ string, err error) {
	f, err := os.Open(name)
	if err != nil {
		return "", err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	return SecretLine(f, name)
}

// SecretLine reads a password or a passphrase, which is the first line of r,
// without its end. name is r's in errors.
func SecretLine(r io.Reader, name string) (string, error) {
	line, err := bufio.NewReader(io.LimitReader(r, maxSecret)).ReadString('\n')
	if err != nil && !errors.Is(err, io.EOF) {
		return "", fmt.Errorf("reading %s: %w", name, err)
	}
	return strings.TrimRight(line, "\r\n"), nil
}
