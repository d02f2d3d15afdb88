package stream

import (
	"bufio"
	"bytes"
	"encoding/hex"
	"errors"
	"fmt"
	"io"

	"filippo.io/age"
	"filippo.io/age/armor"

	"hb/stream/stage"
	"hb/stream/zstdstage"
)

const (
	ageMagic     = "age-encryption.org/"
	xbMagic      = "XBSTCK"
	zstdMagic    = "\x28\xb5\x2f\xfd"
	zstdSkipTail = "\x2a\x4d\x18" // of a skippable frame's magic, after a byte 0x50 to 0x5f

	// peekSize is enough for every magic, and for an armored header after a
	// little white space.
	peekSize = 512
	// maxStages bounds how often an archive may have been compressed or
	// encrypted over again.
	maxStages = 4
	// stageBuffer is what each stage reads ahead.
	stageBuffer = 256 << 10
)

// foreign are formats that hb recognises, and what to do with them.
var foreign = []struct {
	at                int // where the magic is
	magic, name, hint string
}{
	{0, "\x1f\x8b", "gzip data", run("gzip -d")},
	{0, "BZh", "bzip2 data", run("bzip2 -d")},
	{0, "\xfd7zXZ\x00", "xz data", run("xz -d")},
	{0, "\x04\x22\x4d\x18", "lz4 data", run("lz4 -d")},
	{0, "-----BEGIN PGP", "OpenPGP data", run("gpg -d")},
	{0, "\x89LZO\x00", "lzop data", run("lzop -d")},
	{0, "Salted__", "openssl enc data", run("openssl enc -d")},
	{0, "XBCRYP0", "xbcrypt data", run("xbcrypt -d")},
	{0, "qpress10", "qpress data", run("qpress -d")},
	{0, "PK\x03\x04", "zip data", run("unzip")},
	{257, "ustar", "a tar archive", "unpack it with `tar -x`; hb apply takes the directory if it is a backup"},
	{0, "-- MySQL dump", "a dump of SQL statements", load},
	{0, "-- MariaDB dump", "a dump of SQL statements", load},
	{0, "/*M!999999", "a dump of SQL statements", load}, // MariaDB's sandbox line
}

const load = "give it to the server's client: mysql < FILE"

// run is the hint to a program that makes input readable.
func run(program string) string {
	return "hb leaves that to its own tool: run `" + program + "` on it first"
}

// Options are how Open decrypts an archive.
type Options struct {
	// Identities are tried on an encrypted archive.
	Identities []age.Identity
	// Passphrase is asked when an archive is encrypted with a passphrase. It
	// may be nil.
	Passphrase Prompt
}

// Reader gives an archive's bytes with all stages taken off.
type Reader struct {
	io.Reader
	// Stages are those taken off, outermost first: "age", "armor", "zstd".
	Stages []string

	input   Meter
	closers []io.Closer
	err     error
}

// Encrypted reports whether one of the stages was age.
func (r *Reader) Encrypted() bool { return r.has("age") }

// Compressed reports whether one of the stages was zstd.
func (r *Reader) Compressed() bool { return r.has("zstd") }

func (r *Reader) has(stage string) bool {
	for _, s := range r.Stages {
		if s == stage {
			return true
		}
	}
	return false
}

// Consumed returns how many bytes of the input have been read. It may be
// called from any goroutine at any time.
func (r *Reader) Consumed() int64 { return r.input.Count() }

// Close frees the stages' resources. It does not close the input, and returns
// nothing of whether the archive was whole: reading it to io.EOF does. A
// second Close is an error.
func (r *Reader) Close() error {
	if r.err != nil {
		return r.err
	}
	r.err = fmt.Errorf("archive stages: %w", stage.ErrClosed)
	var errs []error
	for i := len(r.closers) - 1; i >= 0; i-- {
		errs = append(errs, r.closers[i].Close())
	}
	return errors.Join(errs...)
}

// Open recognises the stages around the archive in in by their first bytes
// and takes them off. It reads only as much as that needs. If in holds no
// archive the error describes what it looks like; if it is encrypted and nothing
// given opens it, the error is an *EncryptedError.
func Open(in io.Reader, opts Options) (*Reader, error) {
	r := &Reader{}
	src := io.Reader(&prefixReader{name: "input", r: r.input.Reader(in)})
	for range maxStages + 1 {
		buffered := bufio.NewReaderSize(src, stageBuffer)
		next, stage, err := r.peel(buffered, opts)
		if err != nil {
			return nil, errors.Join(err, r.Close())
		}
		if stage == "" {
			r.Reader = buffered
			return r, nil
		}
		r.Stages = append(r.Stages, stage)
		src = next
	}
	return nil, errors.Join(&stage.DamageError{Stage: "stages", Err: fmt.Errorf("the input is compressed or encrypted more than %d times over", maxStages)}, r.Close())
}

// peel recognises the stage that begins in b and returns a reader of what is
// in it. The stage is empty where the archive itself begins.
func (r *Reader) peel(b *bufio.Reader, opts Options) (next io.Reader, stage string, err error) {
	p, err := b.Peek(peekSize)
	if err != nil && err != io.EOF {
		return nil, "", fmt.Errorf("reading the archive: %w", err)
	}
	switch {
	case len(p) == 0:
		return nil, "", r.emptyError()
	case hasPrefix(p, xbMagic):
		return nil, "", nil
	case isZstd(p):
		window := uint64(zstdstage.MaxWindow)
		if r.Compressed() {
			window = zstdstage.MaxInnerWindow
		}
		dec, err := zstdstage.NewDecoder(b, window)
		if err != nil {
			return nil, "", err
		}
		r.closers = append(r.closers, dec)
		return dec, "zstd", nil
	case hasPrefix(p, ageMagic):
		next, err = decrypt(b, opts)
		return next, "age", err
	case hasPrefix(bytes.TrimLeft(p, " \t\r\n"), armor.Header):
		return dearmor(b), "armor", nil
	}
	return nil, "", unknownError(p)
}

// hasPrefix reports whether p begins as magic does. An input shorter than the
// magic counts if all of it does, so that a cut there is reported as one by
// the format's own reader.
func hasPrefix(p []byte, magic string) bool {
	n := min(len(p), len(magic))
	return n > 0 && string(p[:n]) == magic[:n]
}

// EmptyError says that the input is empty.
type EmptyError struct{ stage string } // in which; "": not even a stage

func (e *EmptyError) Error() string {
	if e.stage != "" {
		return fmt.Sprintf("the archive is empty inside its %s stage: did the backup fail?", e.stage)
	}
	return "the archive is empty: did the command that wrote it fail?"
}

// Unwrap makes every EmptyError a truncation.
func (e *EmptyError) Unwrap() error { return io.ErrUnexpectedEOF }

func (r *Reader) emptyError() error {
	if len(r.Stages) > 0 {
		return &EmptyError{r.Stages[len(r.Stages)-1]}
	}
	return &EmptyError{}
}

// NotArchiveError reports input that is not an archive in any form hb reads.
type NotArchiveError struct {
	Format string // what it looks like, if that is known
	Hint   string // what to do with that
	Head   []byte // its first bytes
}

func (e *NotArchiveError) Error() string {
	if e.Format != "" {
		return fmt.Sprintf("the input is %s, not a backup archive: %s", e.Format, e.Hint)
	}
	return fmt.Sprintf("the input is not a backup archive: it begins with %s (%q)", hex.EncodeToString(e.Head), e.Head)
}

func unknownError(p []byte) error {
	const shown = 16
	e := &NotArchiveError{Head: bytes.Clone(p[:min(len(p), shown)])}
	for _, f := range foreign {
		if f.at < len(p) && bytes.HasPrefix(p[f.at:], []byte(f.magic)) {
			e.Format, e.Hint = f.name, f.hint
		}
	}
	return e
}

// prefixReader names the stage in errors. The wrapping matters: the readers
// of some formats take a bare io.ErrUnexpectedEOF from below for an end.
type prefixReader struct {
	name string
	r    io.Reader
}

func (p *prefixReader) Read(b []byte) (int, error) {
	n, err := p.r.Read(b)
	if err != nil && err != io.EOF {
		err = fmt.Errorf("%s: %w", p.name, err)
	}
	return n, err
}
