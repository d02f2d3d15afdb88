package keyring

import (
	"bytes"
	"encoding/hex"
	"errors"
	"strings"
	"testing"

	"filippo.io/age"
)

// TestSealed: the recipient of a backup gets the keys that it needs, and nobody else any.
func TestSealed(t *testing.T) {
	var k Keys
	if err := k.ReadMySQLKeyring(write(t, "keyring", []byte(componentJSON))); err != nil {
		t.Fatal(err)
	}
	if err := k.ReadKeyFile(write(t, "keys", []byte(keyFile)), ""); err != nil {
		t.Fatal(err)
	}
	if err := k.SetAlgorithm(CTR); err != nil {
		t.Fatal(err)
	}
	ours, err := age.GenerateX25519Identity()
	if err != nil {
		t.Fatal(err)
	}
	other, err := age.GenerateX25519Identity()
	if err != nil {
		t.Fatal(err)
	}
	sealed, err := k.Seal([]age.Recipient{ours.Recipient()})
	if err != nil || len(sealed) == 0 || bytes.Contains(sealed, []byte("key")) && bytes.Contains(sealed, []byte(innodbHex)) {
		t.Fatalf("%q, %v", sealed, err)
	}
	var got Keys
	if err := got.Unseal(bytes.NewReader(sealed), []age.Identity{other, ours}); err != nil {
		t.Fatal(err)
	}
	if key, err := got.Master(innodbName); err != nil || hex.EncodeToString(key) != innodbHex {
		t.Errorf("%x, %v", []byte(key), err)
	}
	for name, want := range keyFileKeys {
		if key, err := got.MariaDB(name); err != nil || hex.EncodeToString(key) != want {
			t.Errorf("%v: %x, %v", name, []byte(key), err)
		}
	}
	if got.Algorithm() != CTR {
		t.Errorf("algorithm %v", got.Algorithm())
	}
	// Nobody asked for this one.
	if _, err := got.Master(binlogName); err == nil {
		t.Error("a key is there that the backup does not need")
	}
	err = new(Keys).Unseal(bytes.NewReader(sealed), []age.Identity{other})
	if _, ok := errors.AsType[*WrongKeyError](err); !ok {
		t.Errorf("another identity: %v", err)
	}
	for n := range sealed {
		bad := bytes.Clone(sealed)
		bad[n] ^= 1
		if err := new(Keys).Unseal(bytes.NewReader(bad), []age.Identity{ours}); err == nil || strings.Contains(err.Error(), innodbHex[2:]) {
			t.Errorf("byte %d changed: %v", n, err)
		}
		if err := new(Keys).Unseal(bytes.NewReader(sealed[:n]), []age.Identity{ours}); err == nil {
			t.Errorf("%d bytes are taken", n)
		}
	}
	if none, err := new(Keys).Seal([]age.Recipient{ours.Recipient()}); none != nil || err != nil {
		t.Errorf("no keys: %d bytes, %v", len(none), err)
	}
}

// TestMarshalKeys: a written keyring has the keys, and what the plugins cannot hold is an
// error.
func TestMarshalKeys(t *testing.T) {
	var k Keys
	if _, err := k.MarshalMySQL(); err == nil {
		t.Error("a keyring without keys")
	}
	if _, err := k.MarshalMariaDB(); err == nil {
		t.Error("a key file without keys")
	}
	if err := k.ReadMySQLKeyring(write(t, "keyring", []byte(componentJSON))); err != nil {
		t.Fatal(err)
	}
	if err := k.ReadKeyFile(write(t, "keys", []byte(keyFile)), ""); err != nil {
		t.Fatal(err)
	}
	b, err := k.MarshalMySQL()
	if err != nil {
		t.Fatal(err)
	}
	var again Keys
	if err := again.ReadMySQLKeyring(write(t, "keyring", b)); err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]string{innodbName: innodbHex, binlogName: binlogHex} {
		if key, err := again.Master(name); err != nil || hex.EncodeToString(key) != want {
			t.Errorf("%s: %x, %v", name, []byte(key), err)
		}
	}
	if b, err = k.MarshalMariaDB(); err != nil {
		t.Fatal(err)
	}
	if err := again.ReadKeyFile(write(t, "keys", b), ""); err != nil {
		t.Fatal(err)
	}
	for name, want := range keyFileKeys {
		if key, err := again.MariaDB(name); err != nil || hex.EncodeToString(key) != want {
			t.Errorf("%v: %x, %v", name, []byte(key), err)
		}
	}
	if err := k.AddMariaDB(MariaDBKey{1, 2}, make(Secret, 16)); err != nil {
		t.Fatal(err)
	}
	if _, err := k.MarshalMariaDB(); err == nil || !strings.Contains(err.Error(), "version 2") {
		t.Errorf("two versions: %v", err)
	}
}
