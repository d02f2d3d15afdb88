package stream

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"

	"filippo.io/age"
	"filippo.io/age/agessh"
	"filippo.io/age/armor"
	"golang.org/x/crypto/ssh"

	"hb/stream/stage"
)

const (
	// maxKeyFile bounds a recipients or identity file.
	maxKeyFile = 1 << 20
	// maxKeyLine bounds one line of a recipients file; a post-quantum
	// recipient has about 2,000 bytes, a large RSA key about 3,000.
	maxKeyLine = 8 << 10
)

// ParseRecipient reads one public key that an archive can be encrypted to:
//
//	age1...                      X25519, made by age-keygen
//	age1pq1...                   post-quantum (ML-KEM-768 and X25519)
//	ssh-ed25519 ..., ssh-rsa ... a line of an SSH public key file
//
// Post-quantum recipients cannot be mixed with others; WriteOptions.Validate says so.
func ParseRecipient(s string) (age.Recipient, error) {
	s = strings.TrimSpace(s)
	switch {
	case s == "":
		return nil, errors.New("empty recipient")
	case strings.HasPrefix(s, "AGE-"):
		return nil, errors.New("this is a secret key; give the public key that belongs to it (age-keygen -y prints it)")
	case strings.HasPrefix(s, "ssh-"):
		r, err := agessh.ParseRecipient(s)
		return r, wrapRecipient(s, err)
	case strings.HasPrefix(s, "age1pq1"):
		r, err := age.ParseHybridRecipient(s)
		return r, wrapRecipient(s, err)
	case strings.HasPrefix(s, "age1") && strings.Count(s, "1") > 1:
		return nil, fmt.Errorf("recipient %q is of an age plugin, which hb does not run; pipe the backup through age instead", shorten(s))
	case strings.HasPrefix(s, "age1"):
		r, err := age.ParseX25519Recipient(s)
		return r, wrapRecipient(s, err)
	}
	return nil, fmt.Errorf("recipient %q is neither an age1 nor an ssh- public key", shorten(s))
}

func wrapRecipient(s string, err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("recipient %q: %w", shorten(s), err)
}

// shorten keeps messages readable, and short of showing a whole pasted key.
func shorten(s string) string {
	const most = 24
	if len(s) <= most {
		return s
	}
	return s[:most] + "..."
}

// ParseRecipientsFile reads a file of recipients, one on each line; empty
// lines and those that begin with # are skipped. SSH authorized_keys files
// without options will do.
func ParseRecipientsFile(name string) ([]age.Recipient, error) {
	text, err := readKeyFile(name)
	if err != nil {
		return nil, fmt.Errorf("recipients file: %w", err)
	}
	var recipients []age.Recipient
	lines := bufio.NewScanner(bytes.NewReader(text))
	lines.Buffer(nil, maxKeyLine)
	for n := 1; lines.Scan(); n++ {
		line := strings.TrimSpace(lines.Text())
		if line == "" || line[0] == '#' {
			continue
		}
		r, err := ParseRecipient(line)
		if err != nil {
			// Only the kind of fault: the line may be of a secret file that
			// was given by mistake.
			return nil, fmt.Errorf("recipients file %s: line %d is not a public key that hb knows", name, n)
		}
		recipients = append(recipients, r)
	}
	if err := lines.Err(); err != nil {
		return nil, fmt.Errorf("recipients file %s: %w", name, err)
	}
	if len(recipients) == 0 {
		return nil, fmt.Errorf("recipients file %s: no recipient in it", name)
	}
	return recipients, nil
}

func readKeyFile(name string) ([]byte, error) {
	f, err := os.Open(name)
	if err != nil {
		return nil, err
	}
	text, err := io.ReadAll(io.LimitReader(f, maxKeyFile+1))
	if err := errors.Join(err, f.Close()); err != nil {
		return nil, fmt.Errorf("reading %s: %w", name, err)
	}
	if len(text) > maxKeyFile {
		return nil, fmt.Errorf("%s has more than %d bytes", name, maxKeyFile)
	}
	return text, nil
}

// PassphraseRecipient returns a recipient for those who know the passphrase.
// It must be the only one of an archive.
func PassphraseRecipient(passphrase string) (age.Recipient, error) {
	r, err := age.NewScryptRecipient(passphrase)
	if err != nil {
		return nil, fmt.Errorf("passphrase: %w", err)
	}
	return r, nil
}

// Prompt asks a person for a secret, such as "passphrase of backup.key". It
// is called only when the secret is needed.
type Prompt func(what string) (string, error)

// ParseIdentitiesFile reads a file of secret keys: the lines of age-keygen
// (X25519 or post-quantum), such a file encrypted with a passphrase, or an
// SSH private key, encrypted or not. Prompt is asked for the passphrase of an
// encrypted file when an archive needs the key; it may be nil, and is then
// missed only there.
func ParseIdentitiesFile(name string, prompt Prompt) ([]age.Identity, error) {
	text, err := readKeyFile(name)
	if err != nil {
		return nil, fmt.Errorf("identity file: %w", err)
	}
	ids, err := parseIdentities(name, text, prompt)
	if err != nil {
		return nil, fmt.Errorf("identity file %s: %w", name, err)
	}
	return ids, nil
}

func parseIdentities(name string, text []byte, prompt Prompt) ([]age.Identity, error) {
	trimmed := bytes.TrimSpace(text)
	ask := func() (string, error) { return prompt.ask("passphrase of " + name) }
	switch {
	case bytes.HasPrefix(text, []byte(ageMagic)):
		return []age.Identity{&lockedIdentity{text: text, ask: ask}}, nil
	case bytes.HasPrefix(trimmed, []byte(armor.Header)):
		plain, err := io.ReadAll(armor.NewReader(bytes.NewReader(trimmed)))
		if err != nil {
			return nil, err
		}
		return []age.Identity{&lockedIdentity{text: plain, ask: ask}}, nil
	case bytes.HasPrefix(trimmed, []byte("-----BEGIN")):
		return parseSSHIdentity(name, text, ask)
	case bytes.Contains(text, []byte("AGE-PLUGIN-")):
		return nil, errors.New("its key is of an age plugin, which hb does not run; decrypt with `age -d -i` and pipe the output into hb")
	}
	ids, err := age.ParseIdentities(bytes.NewReader(text))
	if err != nil {
		return nil, fmt.Errorf("no age or SSH secret key: %w", err)
	}
	return ids, nil
}

func (p Prompt) ask(what string) (string, error) {
	if p == nil {
		return "", fmt.Errorf("cannot ask for the %s here", what)
	}
	return p(what)
}

// Once asks for each secret once.
func (p Prompt) Once() Prompt {
	if p == nil {
		return nil
	}
	known := make(map[string]string)
	return func(what string) (string, error) {
		if secret, ok := known[what]; ok {
			return secret, nil
		}
		secret, err := p(what)
		if err == nil {
			known[what] = secret
		}
		return secret, err
	}
}

func parseSSHIdentity(name string, text []byte, ask func() (string, error)) ([]age.Identity, error) {
	id, err := agessh.ParseIdentity(text)
	if missing, ok := errors.AsType[*ssh.PassphraseMissingError](err); ok {
		public := missing.PublicKey
		if public == nil {
			// Old PEM keys do not hold their public half in the clear.
			if public, err = readSSHPublicKey(name + ".pub"); err != nil {
				return nil, err
			}
		}
		id, err = agessh.NewEncryptedSSHIdentity(public, text, func() ([]byte, error) {
			passphrase, err := ask()
			return []byte(passphrase), err
		})
	}
	if err != nil {
		return nil, fmt.Errorf("SSH key: %w", err)
	}
	return []age.Identity{id}, nil
}

func readSSHPublicKey(name string) (ssh.PublicKey, error) {
	text, err := readKeyFile(name)
	if err != nil {
		return nil, fmt.Errorf("the public half of the key is needed too: %w", err)
	}
	key, _, _, _, err := ssh.ParseAuthorizedKey(text)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	return key, nil
}

// lockedIdentity is an identity file that is itself encrypted with a
// passphrase. It is opened when it is first tried.
type lockedIdentity struct {
	text []byte // binary age
	ask  func() (string, error)
	ids  []age.Identity
}

func (l *lockedIdentity) Unwrap(stanzas []*age.Stanza) ([]byte, error) {
	if l.ids == nil {
		if err := l.unlock(); err != nil {
			return nil, fmt.Errorf("encrypted identity file: %w", err)
		}
	}
	for _, id := range l.ids {
		key, err := id.Unwrap(stanzas)
		if !errors.Is(err, age.ErrIncorrectIdentity) {
			return key, err
		}
	}
	return nil, age.ErrIncorrectIdentity
}

func (l *lockedIdentity) unlock() error {
	r, err := age.Decrypt(bytes.NewReader(l.text), &passphraseIdentity{ask: l.ask})
	if err != nil {
		return err
	}
	// The content is bounded by the file, which readKeyFile bounded.
	text, err := io.ReadAll(r)
	if err != nil {
		return err
	}
	l.ids, err = age.ParseIdentities(bytes.NewReader(text))
	return err
}

// passphraseIdentity asks for a passphrase, but only where one would help.
type passphraseIdentity struct {
	ask func() (string, error)
}

func (p *passphraseIdentity) Unwrap(stanzas []*age.Stanza) ([]byte, error) {
	if !isScrypt(stanzas) {
		return nil, age.ErrIncorrectIdentity
	}
	if n := scryptLogN(stanzas[0]); n > maxScryptLogN {
		return nil, &EncryptedError{Passphrase: true, WorkFactor: n}
	}
	passphrase, err := p.ask()
	if errors.Is(err, io.EOF) {
		return nil, errors.New("no passphrase was given") // and it is not the archive that ended
	}
	if err != nil {
		return nil, err
	}
	id, err := age.NewScryptIdentity(passphrase)
	if err != nil {
		return nil, err
	}
	id.SetMaxWorkFactor(maxScryptLogN)
	key, err := id.Unwrap(stanzas)
	switch {
	case errors.Is(err, age.ErrIncorrectIdentity):
		return nil, &EncryptedError{Passphrase: true, Wrong: true}
	case err != nil:
		return nil, &stage.DamageError{Stage: "age", Err: err}
	}
	return key, nil
}

// maxScryptLogN bounds what opening a passphrase may cost to 2^18, which is what
// age itself writes: a second and 256 MiB. A hostile header could otherwise ask
// for any of both.
const maxScryptLogN = 18

// scryptLogN is the work factor that a passphrase's stanza asks for, or 0 where
// it states none.
func scryptLogN(s *age.Stanza) int {
	if len(s.Args) != 2 {
		return 0
	}
	n, err := strconv.Atoi(s.Args[1])
	if err != nil {
		return 0
	}
	return n
}

func isScrypt(stanzas []*age.Stanza) bool {
	return len(stanzas) == 1 && stanzas[0].Type == "scrypt"
}

// newEncryptor returns a stage that encrypts to w, in age's binary format,
// for all of the recipients. It writes the header at once.
func newEncryptor(w io.Writer, recipients ...age.Recipient) (*stage.Writer, error) {
	if len(recipients) == 0 {
		return nil, errors.New("encryption without a recipient")
	}
	return stage.NewWriter("age", w, func(out io.Writer) (io.WriteCloser, error) {
		return age.Encrypt(out, recipients...)
	})
}

// EncryptedError reports an archive that cannot be decrypted with what was
// given.
type EncryptedError struct {
	Passphrase bool // it is encrypted with a passphrase, not to recipients
	Wrong      bool // a passphrase was given, and is not the one
	WorkFactor int  // its passphrase would cost 2^WorkFactor, which is too much; 0: no
	Tried      int  // identities that were given
}

func (e *EncryptedError) Error() string {
	switch {
	case e.WorkFactor > 0:
		return fmt.Sprintf("the archive's passphrase would cost 2^%d of scrypt to try, more than the 2^%d that hb spends: decrypt it with `age -d` and pipe that into hb", e.WorkFactor, maxScryptLogN)
	case e.Wrong:
		return "the passphrase is wrong"
	case e.Passphrase:
		return "the archive is encrypted with a passphrase: run from a terminal to be asked for it, or give it with --passphrase-file"
	case e.Tried == 0:
		return "the archive is encrypted: give the file of a secret key with --identity"
	}
	return "the archive is encrypted to other keys: none of those in the files given with --identity opens it"
}

// keyring is the keys that are tried on an archive.
type keyring struct {
	ids   []age.Identity
	probe *stanzaProbe
	files int // identities that were given
}

func newKeyring(opts Options) *keyring {
	probe := &stanzaProbe{}
	k := &keyring{[]age.Identity{probe}, probe, len(opts.Identities)}
	if opts.Passphrase != nil {
		k.ids = append(k.ids, &strictIdentity{&passphraseIdentity{ask: func() (string, error) {
			return opts.Passphrase("passphrase of the archive")
		}}, probe})
	}
	for _, open := range []bool{true, false} { // those that lie open first: others may ask for something
		for _, id := range opts.Identities {
			if liesOpen(id) == open {
				k.ids = append(k.ids, &strictIdentity{id, probe})
			}
		}
	}
	return k
}

// fault is age's error when it opens an archive; ended and failed are how the input
// did.
func (k *keyring) fault(err error, ended, failed bool) error {
	if _, ok := errors.AsType[*age.NoIdentityMatchError](err); ok {
		return &EncryptedError{Passphrase: k.probe.scrypt, Tried: k.files}
	}
	switch {
	case k.probe.opened && !errors.Is(err, io.ErrUnexpectedEOF) && !failed:
		return &stage.DamageError{Stage: "age", Err: err} // the header is not the one that was written for the key
	case k.probe.asked: // the header was read: it is the keys that fail
		return ageError(err, false)
	case ended || failed:
		return ageError(err, ended)
	}
	return &stage.DamageError{Stage: "age", Err: err}
}

// decrypt returns a reader of the content of the age file in r.
func decrypt(r io.Reader, opts Options) (io.Reader, error) {
	keys := newKeyring(opts)
	in := &tailReader{r: r}
	plain, err := age.Decrypt(in, keys.ids...)
	if err != nil {
		return nil, keys.fault(err, in.ended, in.failed)
	}
	return &ageReader{in: in, r: plain}, nil
}

// ageReader distinguishes a cut from damage as far as possible: age cannot know
// whether a last chunk that does not authenticate was shortened or changed.
type ageReader struct {
	in *tailReader
	r  io.Reader
}

func (a *ageReader) Read(p []byte) (int, error) {
	n, err := a.r.Read(p)
	switch {
	case err == nil || err == io.EOF:
	case a.in.ended || a.in.failed:
		err = ageError(err, a.in.ended)
	default:
		err = &stage.DamageError{Stage: "age", Err: err}
	}
	return n, err
}

// ageError names the stage; ended: the input had ended when the
// error came. The wrapping matters: the readers of some formats take a bare
// io.ErrUnexpectedEOF from below for an end.
func ageError(err error, ended bool) error {
	switch {
	case errors.Is(err, io.ErrUnexpectedEOF):
		return fmt.Errorf("age: %w", err)
	case errors.Is(err, io.EOF) || ended:
		return fmt.Errorf("age: the input is cut, or damaged at its end: %w (%v)", io.ErrUnexpectedEOF, err)
	}
	return fmt.Errorf("age: %w", err)
}

// stanzaProbe is an identity that opens nothing and learns to whom the file
// is encrypted.
type stanzaProbe struct{ asked, scrypt, opened bool }

func (p *stanzaProbe) Unwrap(stanzas []*age.Stanza) ([]byte, error) {
	p.asked, p.scrypt = true, isScrypt(stanzas)
	return nil, age.ErrIncorrectIdentity
}

// liesOpen reports whether a key can be used without asking for anything.
func liesOpen(id age.Identity) bool {
	switch id.(type) {
	case *age.X25519Identity, *age.HybridIdentity, *agessh.Ed25519Identity, *agessh.RSAIdentity:
		return true
	}
	return false
}

// strictIdentity distinguishes a damaged header from a key that cannot be used:
// a key that lies open can only fail at the header.
type strictIdentity struct {
	age.Identity
	probe *stanzaProbe
}

func (s *strictIdentity) Unwrap(stanzas []*age.Stanza) ([]byte, error) {
	key, err := s.Identity.Unwrap(stanzas)
	if err == nil {
		s.probe.opened = true
	}
	if err == nil || errors.Is(err, age.ErrIncorrectIdentity) {
		return key, err
	}
	if liesOpen(s.Identity) {
		err = &stage.DamageError{Stage: "age", Err: err}
	}
	return nil, err
}

// dearmor returns a reader of the binary age file that r holds as text.
func dearmor(r io.Reader) io.Reader {
	in := &tailReader{r: &shortLines{r: r}}
	return &armorReader{in: in, r: armor.NewReader(in)}
}

// armorReader distinguishes a cut text from a damaged one: a cut one ends without the
// closing line.
type armorReader struct {
	in *tailReader
	r  io.Reader
}

func (a *armorReader) Read(p []byte) (int, error) {
	n, err := a.r.Read(p)
	switch {
	case err == nil || err == io.EOF:
	case a.in.ended && !bytes.HasSuffix(bytes.TrimSpace(a.in.tail), []byte(armor.Footer)):
		err = fmt.Errorf("age armor is cut: %w", io.ErrUnexpectedEOF)
	case a.in.failed:
		err = fmt.Errorf("age armor: %w", err)
	default:
		err = &stage.DamageError{Stage: "age armor", Err: err}
	}
	return n, err
}

// shortLines fails at a line that is longer than any of armor, which its reader
// would gather whatever its length.
type shortLines struct {
	r    io.Reader
	line int // bytes of the last line so far
}

// maxArmorLine is far above armor's 64 bytes, and the white space that may come
// before and after it.
const maxArmorLine = 4 << 10

func (s *shortLines) Read(p []byte) (int, error) {
	n, err := s.r.Read(p)
	for rest := p[:n]; ; {
		line, after, more := bytes.Cut(rest, []byte{'\n'})
		if s.line += len(line); s.line > maxArmorLine {
			return 0, &stage.DamageError{Stage: "age armor", Err: fmt.Errorf("a line has more than %d bytes", maxArmorLine)}
		}
		if !more {
			return n, err
		}
		s.line, rest = 0, after
	}
}

// tailReader remembers the last bytes of its input, and how that ended.
type tailReader struct {
	r      io.Reader
	tail   []byte
	ended  bool // with io.EOF
	failed bool // with another error
}

func (t *tailReader) Read(p []byte) (int, error) {
	const kept = 128
	n, err := t.r.Read(p)
	t.tail = append(t.tail, p[max(0, n-kept):n]...)
	t.tail = t.tail[max(0, len(t.tail)-kept):]
	t.ended = t.ended || err == io.EOF
	t.failed = t.failed || err != nil && err != io.EOF
	return n, err
}
