package keyring

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"os"
	"slices"
	"strings"
	"testing"
)

// componentJSON is a file that MySQL 9.7.4 wrote, its keys replaced.
const componentJSON = `{"version":"1.0","elements":[{"user":"","data_id":"INNODBKey-43e0745f-ecfa-11f1-bc6e-02fc00000001-1","data_type":"AES","data":"000102030405060708090A0B0C0D0E0F101112131415161718191A1B1C1D1E1F","extension":[]},{"user":"","data_id":"MySQLReplicationKey_43e0745f-ecfa-11f1-bc6e-02fc00000001_1","data_type":"AES","data":"B47D6F465BBB67E856F2C894C6E4E4A08341BEDBBF8151C7304CAE95F2518B8D","extension":[]},{"user":"","data_id":"MySQLReplicationKey_43e0745f-ecfa-11f1-bc6e-02fc00000001","data_type":"AES","data":"01000000000000000000000000000000","extension":[]}]}`

const (
	innodbName = "INNODBKey-43e0745f-ecfa-11f1-bc6e-02fc00000001-1"
	innodbHex  = "000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f"
	binlogName = "MySQLReplicationKey_43e0745f-ecfa-11f1-bc6e-02fc00000001_1"
	binlogHex  = "b47d6f465bbb67e856f2c894c6e4e4a08341bedbbf8151c7304cae95f2518b8d"
)

// pluginRecords is the one record of a key of the plugin with the bytes 00 to 1F, by
// its description: 40 bytes of lengths, 48 of name, 3 of type, none of user, 32 of key,
// 5 of padding.
var pluginRecords = "" +
	"\x80\x00\x00\x00\x00\x00\x00\x00" + "\x30\x00\x00\x00\x00\x00\x00\x00" + "\x03\x00\x00\x00\x00\x00\x00\x00" +
	"\x00\x00\x00\x00\x00\x00\x00\x00" + "\x20\x00\x00\x00\x00\x00\x00\x00" +
	innodbName + "AES" +
	"\x2a\x32\x32\x36\x39\x49\x6c\x73\x38\x23\x2b\x4b\x28\x45\x60\x62\x38\x3b\x3f\x2a\x39\x62\x2d\x2d" +
	"\x32\x2a\x2a\x2e\x21\x51\x74\x6b" +
	"\x00\x00\x00\x00\x00"

// TestMySQLKeyring: both kinds of files give the keys that are in them.
func TestMySQLKeyring(t *testing.T) {
	sum := sha256.Sum256([]byte(pluginRecords))
	for name, content := range map[string]string{
		"component": componentJSON,
		"1.0":       "Keyring file version:1.0" + pluginRecords + "EOF",
		"2.0":       "Keyring file version:2.0" + pluginRecords + "EOF" + string(sum[:]),
	} {
		var k Keys
		file := write(t, "keyring", []byte(content))
		if err := k.ReadMySQLKeyring(file); err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if key, err := k.Master(innodbName); err != nil || hex.EncodeToString(key) != innodbHex {
			t.Errorf("%s: %x, %v", name, []byte(key), err)
		}
		key, err := k.Master(binlogName)
		if name == "component" {
			if err != nil || hex.EncodeToString(key) != binlogHex {
				t.Errorf("%s: %x, %v", name, []byte(key), err)
			}
			continue
		}
		if missing, ok := errors.AsType[*MissingKeyError](err); !ok || !strings.Contains(missing.Error(), file) || !strings.Contains(missing.Error(), binlogName) {
			t.Errorf("%s: a key that is not there: %v", name, err)
		}
	}
}

// TestMySQLKeyringAgain: a key that the server makes after hb has read its keyring is
// found.
func TestMySQLKeyringAgain(t *testing.T) {
	file := write(t, "keyring", []byte(`{"version":"1.0","elements":[]}`))
	var k Keys
	if err := k.ReadMySQLKeyring(file); err != nil {
		t.Fatal(err)
	}
	if _, err := k.Master(innodbName); err == nil {
		t.Error("a key out of nothing")
	}
	if err := os.WriteFile(file, []byte(componentJSON), 0o600); err != nil {
		t.Fatal(err)
	}
	if key, err := k.Master(innodbName); err != nil || hex.EncodeToString(key) != innodbHex {
		t.Errorf("%x, %v", []byte(key), err)
	}
}

// TestMySQLKeyringBad: damaged files are refused, and no message has a part of a key.
func TestMySQLKeyringBad(t *testing.T) {
	sum := sha256.Sum256([]byte(pluginRecords))
	two := "Keyring file version:2.0" + pluginRecords + "EOF" + string(sum[:])
	flipped := []byte(two)
	flipped[100] ^= 1
	one := "Keyring file version:1.0" + pluginRecords + "EOF"
	long := []byte(one)
	long[24+8] = 0x90 // a name that is longer than the record
	for name, content := range map[string]string{
		"text": "hello", "version": strings.Replace(componentJSON, "1.0", "1.1", 1),
		"digits": strings.Replace(componentJSON, `"0001`, `"000x`, 1), "odd": strings.Replace(componentJSON, `"0001`, `"001`, 1),
		"cut": componentJSON[:len(componentJSON)-1], "plugin version": strings.Replace(one, "1.0", "3.0", 1),
		"plugin cut": one[:len(one)-1], "plugin cut 2": two[:len(two)-1], "plugin head": "Keyring file version:",
		"record cut": one[:len(one)-11] + "EOF", "length": string(long), "sum": string(flipped),
	} {
		var k Keys
		err := k.ReadMySQLKeyring(write(t, "keyring", []byte(content)))
		if err == nil || strings.Contains(strings.ToLower(err.Error()), "02030405") {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// TestMarshalComponent: hb writes the file as the server does.
func TestMarshalComponent(t *testing.T) {
	keys, err := parseComponentFile([]byte(componentJSON))
	if err != nil {
		t.Fatal(err)
	}
	if b, err := MarshalComponent(keys); err != nil || !bytes.Equal(b, []byte(componentJSON)) {
		t.Errorf("%s, %v", b, err)
	}
}

// TestKeyringBegins: a server that has not encrypted anything yet has an empty file. Its first
// key is found once there is one.
func TestKeyringBegins(t *testing.T) {
	var k Keys
	file := write(t, "keyring", nil)
	if err := k.ReadMySQLKeyring(file); err != nil {
		t.Fatal(err)
	}
	if _, err := k.Master(innodbName); !IsKeyError(err) || !strings.Contains(err.Error(), file) {
		t.Errorf("no key yet: %v", err)
	}
	if err := os.WriteFile(file, []byte(componentJSON), 0o600); err != nil {
		t.Fatal(err)
	}
	if key, err := k.Master(innodbName); err != nil || hex.EncodeToString(key) != innodbHex {
		t.Errorf("the first key: %x, %v", []byte(key), err)
	}
}

// TestNewestMaster: the key of a redo log is put under the newest master key that encryption
// information can name, which those of 5.7.11 are not (INNODBKey-<server id>-<number>).
func TestNewestMaster(t *testing.T) {
	const a, b = "INNODBKey-0a8c7c51-ed37-11f1-9110-02fc00000001-3", "INNODBKey-ffffffff-ed37-11f1-9110-02fc00000001-2"
	k := new(Keys)
	for _, name := range []string{a, b, "INNODBKey-1-9", "MySQLReplicationKey_0a8c7c51-ed37-11f1-9110-02fc00000001_12"} {
		if err := k.AddMaster(name, make(Secret, 32)); err != nil {
			t.Fatal(err)
		}
	}
	if name, _, ok := k.NewestMaster(); !ok || name != a {
		t.Errorf("%s, %v", name, ok)
	}
	if got := k.Masters(); !slices.Equal(got, []string{a, "INNODBKey-1-9", b}) {
		t.Errorf("%q", got)
	}
	only := new(Keys)
	if err := only.AddMaster("INNODBKey-1-9", make(Secret, 32)); err != nil {
		t.Fatal(err)
	}
	if name, _, ok := only.NewestMaster(); ok {
		t.Errorf("%s, of 5.7.11 only", name)
	}
}
