package verify

import (
	"fmt"
	"log/slog"
	"slices"
	"strings"

	"hb/sink/backupdir"
)

// PartialError says that nothing is wrong with a backup as far as that shows without the
// keys of what is encrypted at rest, or without those that only the redo log has.
type PartialError struct {
	Pages   int64 // encrypted ones that nothing vouches for
	Redo    error // why the redo log was not read; nil: it was
	HasKeys bool  // the backup has the keys itself
	// JustMade: keys were given. The pages are of tablespaces that the server was just making
	// when hb copied them: page 0 has no key yet.
	JustMade bool
}

func (e *PartialError) Error() string {
	if e.JustMade {
		return fmt.Sprintf("this is not a complete verification: hb could not verify the checksums of %d encrypted pages of tablespaces that the server was just making, as only the redo log has their keys. Nothing is wrong with the rest: hb verify --replay also verifies those that the redo log changes", e.Pages)
	}
	var parts []string
	if e.Pages > 0 {
		parts = append(parts, fmt.Sprintf("the checksums of %d encrypted pages", e.Pages))
	}
	if e.Redo != nil {
		parts = append(parts, fmt.Sprintf("the redo log (%v)", e.Redo))
	}
	how := "give the keys of the server, with --keyring FILE (MySQL) or --key-file FILE (MariaDB)"
	if e.HasKeys {
		how = "give the archive as a file or an address, or the directory, with -i IDENTITY, which opens the keys in the backup"
	}
	return fmt.Sprintf("this is not a complete verification: hb could not verify %s without keys. Nothing is wrong with the rest: %s", strings.Join(parts, ", nor "), how)
}

// Partial is what could not be verified without keys, as a *PartialError; nil: the
// verification is complete.
func (r *Result) Partial() error {
	if r.Tally.Sealed == 0 && r.SealedRedo == nil {
		return nil
	}
	e := &PartialError{Pages: r.Tally.Sealed, HasKeys: r.hasKeys, JustMade: r.keyed}
	if r.SealedRedo != nil {
		e.Redo = r.SealedRedo
	}
	return e
}

// noteEncrypted notes that a file has encrypted pages, or may have.
func (r *Result) noteEncrypted(name string, f *backupdir.PageFeed) {
	if f.State == backupdir.IsSpace && f.Encrypted() {
		r.Encrypted = append(r.Encrypted, name)
	}
}

// count enters what was found about pages, and returns a warning about it; "": there is
// none.
func (r *Result) count(sum *backupdir.PageSum) string {
	slices.Sort(r.Encrypted)
	r.Pages, r.Tally = sum.Pages, sum.Tally
	told := sum.Tally
	told.Sealed = 0 // Partial tells that
	return told.Describe()
}

// maxNamed is how many encrypted files are named to people.
const maxNamed = 10

func (r *Result) describeEncrypted() string {
	if len(r.Encrypted) == 0 {
		return ""
	}
	text := fmt.Sprintf("\nencrypted tablespaces: %d: %s", len(r.Encrypted), strings.Join(r.Encrypted[:min(maxNamed, len(r.Encrypted))], ", "))
	if more := len(r.Encrypted) - maxNamed; more > 0 {
		text += fmt.Sprintf(" and %d more", more)
	}
	return text
}

// factsEncrypted are what is encrypted, for programs.
func (r *Result) factsEncrypted() []slog.Attr {
	var facts []slog.Attr
	if len(r.Encrypted) > 0 {
		facts = append(facts, slog.Any("encrypted", r.Encrypted))
	}
	if r.Partial() != nil {
		facts = append(facts, slog.Int64("sealed_pages", r.Tally.Sealed), slog.Bool("sealed_redo", r.SealedRedo != nil))
	}
	return facts
}
