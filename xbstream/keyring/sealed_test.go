package keyring

import (
	"bytes"
	"encoding/hex"
	"errors"
	"maps"
	"regexp"
	"slices"
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
	for name, add := range map[string]func(*Keys) error{
		innodbName:         func(k *Keys) error { return k.AddMaster(innodbName, bytes.Repeat([]byte{1}, 32)) },
		"key 1, version 1": func(k *Keys) error { return k.AddMariaDB(MariaDBKey{1, 1}, bytes.Repeat([]byte{1}, 32)) },
	} {
		var given Keys
		if err := add(&given); err != nil {
			t.Fatal(err)
		}
		err := given.Unseal(bytes.NewReader(sealed), []age.Identity{ours})
		if wrong, ok := errors.AsType[*WrongKeyError](err); !ok || !strings.Contains(wrong.Name, name) {
			t.Errorf("another %s was given: %v", name, err)
		}
	}
	var closed Keys
	if err := closed.Unseal(bytes.NewReader(sealed), []age.Identity{other}); err != nil {
		t.Fatal(err)
	}
	for _, ask := range []func() error{
		func() error { _, err := closed.Master(innodbName); return err },
		func() error { _, err := closed.MariaDB(MariaDBKey{1, 1}); return err },
	} {
		if _, ok := errors.AsType[*WrongKeyError](ask()); !ok || closed.None() {
			t.Errorf("another identity: %v", ask())
		}
	}
	if err := closed.ReadMySQLKeyring(write(t, "keyring", []byte(componentJSON))); err != nil {
		t.Fatal(err)
	}
	if _, err := closed.Master(innodbName); err != nil {
		t.Errorf("another identity, and the server's keyring: %v", err)
	}
	for n := range sealed {
		bad := bytes.Clone(sealed)
		bad[n] ^= 1
		var k Keys
		err := k.Unseal(bytes.NewReader(bad), []age.Identity{ours})
		if err == nil { // it looks encrypted to somebody else
			_, err = k.Master(innodbName)
		}
		if err == nil || strings.Contains(err.Error(), innodbHex[2:]) {
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

// TestSealNewest: of a keyring with the keys of several servers, the sealed keys have the newest
// of each.
func TestSealNewest(t *testing.T) {
	ours, err := age.GenerateX25519Identity()
	if err != nil {
		t.Fatal(err)
	}
	const a, b = "INNODBKey-00000000-0000-0000-0000-00000000000a-", "INNODBKey-00000000-0000-0000-0000-00000000000b-"
	var k, got Keys
	for _, name := range []string{a + "9", a + "10", b + "1", b + "2", "INNODBKey-7", "MySQLReplicationKey_x_1"} {
		if err := k.AddMaster(name, make(Secret, 32)); err != nil {
			t.Fatal(err)
		}
	}
	sealed, err := k.Seal([]age.Recipient{ours.Recipient()})
	if err == nil {
		err = got.Unseal(bytes.NewReader(sealed), []age.Identity{ours})
	}
	if names := slices.Sorted(maps.Keys(got.mysql)); err != nil || !slices.Equal(names, []string{a + "10", b + "2"}) {
		t.Errorf("%q, %v", names, err)
	}
}

// TestMarshalKeys: a written keyring has the keys, and what the plugins cannot hold is an
// error.
func TestMarshalKeys(t *testing.T) {
	var k Keys
	if _, err := k.MarshalMySQL(Component, ""); err == nil {
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
	var again Keys
	for _, format := range []Format{"", Component, Plugin} {
		b, err := k.MarshalMySQL(format, "")
		if err != nil {
			t.Fatal(err)
		}
		if bytes.HasPrefix(b, []byte("{")) == (format == Plugin) {
			t.Errorf("%s: %.20q", format, b)
		}
		again = Keys{}
		if err := again.ReadMySQLKeyring(write(t, "keyring", b)); err != nil {
			t.Fatal(err)
		}
		for name, want := range map[string]string{innodbName: innodbHex, binlogName: binlogHex} {
			if key, err := again.Master(name); err != nil || hex.EncodeToString(key) != want {
				t.Errorf("%s: %x, %v", name, []byte(key), err)
			}
		}
	}
	b, err := k.MarshalMariaDB()
	if err != nil {
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
	var second Keys
	if err := second.AddMariaDB(MariaDBKey{2, 1}, make(Secret, 16)); err != nil {
		t.Fatal(err)
	}
	if b, err := second.MarshalMariaDB(); err == nil {
		t.Errorf("a file that the plugin does not start with: %q", b)
	}
	if err := k.AddMariaDB(MariaDBKey{1, 2}, make(Secret, 16)); err != nil {
		t.Fatal(err)
	}
	if _, err := k.MarshalMariaDB(); err == nil || !strings.Contains(err.Error(), "version 2") {
		t.Errorf("two versions: %v", err)
	}
}

// TestMarshalPlugin: the file of the plugin is, to the byte, what its description says. (One
// that MySQL's own tests have, plugin_keyring_file_data, comes out as it went in, too, but for
// the version.)
func TestMarshalPlugin(t *testing.T) {
	key, err := hex.DecodeString(innodbHex)
	if err != nil {
		t.Fatal(err)
	}
	if got, want := string(MarshalPlugin([]MySQLKey{{Name: innodbName, Type: "AES", Data: key}})), "Keyring file version:1.0"+pluginRecords+"EOF"; got != want {
		t.Errorf("%q, want %q", got, want)
	}
}

// TestNewMaster: a new master key has a name of its own, and a keyring with only it of
// InnoDB has the keys of binary logs, too.
func TestNewMaster(t *testing.T) {
	var k Keys
	if err := k.ReadMySQLKeyring(write(t, "keyring", []byte(componentJSON))); err != nil {
		t.Fatal(err)
	}
	one, err := k.NewMaster()
	if err != nil {
		t.Fatal(err)
	}
	two, err := k.NewMaster()
	if err != nil {
		t.Fatal(err)
	}
	form := regexp.MustCompile("^INNODBKey-[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}-1$")
	if one == two || !form.MatchString(one) || !form.MatchString(two) {
		t.Errorf("%q, %q", one, two)
	}
	b, err := k.MarshalMySQL(Component, two)
	if err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]bool{one: false, two: true, innodbName: false, binlogName: true} {
		if strings.Contains(string(b), name+`"`) != want {
			t.Errorf("%s: %s", name, b)
		}
	}
}
