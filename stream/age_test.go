package stream

import (
	"bytes"
	"crypto/ed25519"
	"crypto/rand"
	"encoding/pem"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"filippo.io/age"
	"filippo.io/age/armor"
	"golang.org/x/crypto/ssh"
)

func armored(t testing.TB, data []byte) []byte {
	t.Helper()
	var out bytes.Buffer
	w := armor.NewWriter(&out)
	if _, err := w.Write(data); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

func writeFile(t *testing.T, name, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// sshKey makes an Ed25519 key: the private half, encrypted if a passphrase is
// given, and the public line.
func sshKey(t *testing.T, passphrase string) (private, public string) {
	t.Helper()
	pub, priv, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	var block *pem.Block
	if passphrase == "" {
		block, err = ssh.MarshalPrivateKey(priv, "test")
	} else {
		block, err = ssh.MarshalPrivateKeyWithPassphrase(priv, "test", []byte(passphrase))
	}
	if err != nil {
		t.Fatal(err)
	}
	sshPub, err := ssh.NewPublicKey(pub)
	if err != nil {
		t.Fatal(err)
	}
	return string(pem.EncodeToMemory(block)), strings.TrimSpace(string(ssh.MarshalAuthorizedKey(sshPub)))
}

// TestKeyKinds encrypts to each kind of recipient, read as text, and decrypts
// with the identity file that belongs to it.
func TestKeyKinds(t *testing.T) {
	x := testIdentity(t)
	pq, err := age.GenerateHybridIdentity()
	if err != nil {
		t.Fatal(err)
	}
	sshPriv, sshPub := sshKey(t, "")
	lockedPriv, lockedPub := sshKey(t, "open sesame")
	lock, err := age.NewScryptRecipient("open sesame")
	if err != nil {
		t.Fatal(err)
	}
	lock.SetWorkFactor(10)
	keyFile := "# created: today\n# public key: " + x.Recipient().String() + "\n\n" + x.String() + "\n"
	locked := string(stages(t, WriteOptions{Recipients: []age.Recipient{lock}}, []byte(keyFile)))

	data := archive(1000)
	asked := 0
	prompt := func(what string) (string, error) {
		asked++
		if !strings.Contains(what, "key") {
			t.Errorf("asked for %q", what)
		}
		return "open sesame", nil
	}
	for _, tt := range []struct {
		name, recipient, identity string
		asks                      int
	}{
		{"X25519", x.Recipient().String(), keyFile, 0},
		{"post-quantum", pq.Recipient().String(), pq.String(), 0},
		{"SSH", sshPub, sshPriv, 0},
		{"SSH with passphrase", lockedPub, lockedPriv, 1},
		{"encrypted identity file", x.Recipient().String(), locked, 1},
		{"encrypted, armored identity file", x.Recipient().String(), "\n" + string(armored(t, []byte(locked))), 1},
	} {
		t.Run(tt.name, func(t *testing.T) {
			to, err := ParseRecipientsFile(writeFile(t, "recipients", "# ours\n\n"+tt.recipient+"\n"))
			if err != nil {
				t.Fatal(err)
			}
			out := stages(t, WriteOptions{Recipients: to}, data)
			asked = 0
			ids, err := ParseIdentitiesFile(writeFile(t, "key", tt.identity), prompt)
			if err != nil {
				t.Fatal(err)
			}
			if asked != 0 {
				t.Error("asked for a passphrase before it was needed")
			}
			for _, in := range [][]byte{out, armored(t, out)} {
				got, _, err := readAll(bytes.NewReader(in), Options{Identities: ids})
				if err != nil || !bytes.Equal(got, data) {
					t.Errorf("%v", err)
				}
			}
			if asked < tt.asks || asked > 2*tt.asks {
				t.Errorf("asked %d times", asked)
			}
			// Another archive's key: not this one, but a plain refusal.
			stranger := stages(t, WriteOptions{Recipients: []age.Recipient{testIdentity(t).Recipient()}}, data)
			if _, ok := errors.AsType[*EncryptedError](func() error { _, err := Open(bytes.NewReader(stranger), Options{Identities: ids}); return err }()); !ok {
				t.Error("a stranger's archive is no EncryptedError")
			}
		})
	}
}

func TestLockedIdentityErrors(t *testing.T) {
	x := testIdentity(t)
	lock, err := age.NewScryptRecipient("right")
	if err != nil {
		t.Fatal(err)
	}
	lock.SetWorkFactor(10)
	file := writeFile(t, "key", string(stages(t, WriteOptions{Recipients: []age.Recipient{lock}}, []byte(x.String()))))
	out := stages(t, WriteOptions{Recipients: []age.Recipient{x.Recipient()}}, archive(10))
	for name, prompt := range map[string]Prompt{
		"the passphrase is wrong": func(string) (string, error) { return "wrong", nil },
		"cannot ask for":          nil,
	} {
		ids, err := ParseIdentitiesFile(file, prompt)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := Open(bytes.NewReader(out), Options{Identities: ids}); err == nil || !strings.Contains(err.Error(), name) {
			t.Errorf("got %v, want an error with %q", err, name)
		}
	}
}

func TestBadKeys(t *testing.T) {
	x := testIdentity(t)
	secret := x.String()
	for name, recipient := range map[string]string{
		"empty":       "",
		"secret key":  secret,
		"damaged":     x.Recipient().String()[:60] + "qq",
		"plugin":      "age1yubikey1qwerty",
		"github":      "github:someone",
		"host name":   "backup@example.com",
		"SSH ECDSA":   "ecdsa-sha2-nistp256 AAAA",
		"damaged SSH": "ssh-ed25519 AAAA",
	} {
		_, err := ParseRecipient(recipient)
		if err == nil {
			t.Errorf("%s: accepted", name)
		} else if strings.Contains(err.Error(), secret) {
			t.Errorf("%s: the message holds the secret key", name)
		}
		_, err = ParseRecipientsFile(writeFile(t, "r", x.Recipient().String()+"\n"+recipient+"\n"))
		if recipient != "" && (err == nil || !strings.Contains(err.Error(), "line 2") || strings.Contains(err.Error(), secret)) {
			t.Errorf("%s in a file: %v", name, err)
		}
	}
	for name, text := range map[string]string{
		"empty":       "",
		"comments":    "# nothing\n",
		"public key":  x.Recipient().String(),
		"plugin":      "AGE-PLUGIN-YUBIKEY-1QWERTY",
		"damaged":     secret[:40],
		"bad PEM":     "-----BEGIN OPENSSH PRIVATE KEY-----\nAAAA\n-----END OPENSSH PRIVATE KEY-----\n",
		"bad armor":   "-----BEGIN AGE ENCRYPTED FILE-----\n????\n",
		"too long":    strings.Repeat("# long\n", maxKeyFile/7+1),
		"binary junk": "\x00\x01\x02",
	} {
		_, err := ParseIdentitiesFile(writeFile(t, "key", text), nil)
		if err == nil {
			t.Errorf("identity file, %s: accepted", name)
		} else if strings.Contains(err.Error(), secret[:40]) {
			t.Errorf("identity file, %s: the message shows the secret: %v", name, err)
		}
		if _, err := ParseRecipientsFile(writeFile(t, "r", text)); err == nil && name != "public key" {
			t.Errorf("recipients file, %s: accepted", name)
		}
	}
	for _, err := range []error{
		func() error { _, err := ParseIdentitiesFile("/nonexistent/key", nil); return err }(),
		func() error { _, err := ParseRecipientsFile("/nonexistent/key"); return err }(),
	} {
		if !errors.Is(err, os.ErrNotExist) {
			t.Errorf("missing file: %v", err)
		}
	}
}
