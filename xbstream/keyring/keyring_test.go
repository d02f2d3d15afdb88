package keyring

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// keyFile is a key file as MariaDB's documentation has them.
const keyFile = `# keys
1;770A8A65DA156D24EE2A093277530142

2;a7addd9adea9978fda19f21e6be987880e68ac92632ca052e5bb42b1a506939a # of 32 bytes
4294967295; 0102030405060708090a0b0c0d0e0f101112131415161718
`

// keyFileSalted is keyFile as `openssl enc -aes-256-cbc -md sha1 -pass pass:s3cret` of
// OpenSSL 3.0.19 encrypted it.
const keyFileSalted = "53616c7465645f5f83cedc49333fb28f80105ab85efa9b00faa6e61b062f461558a244a5c47588202e66827ca0b251ad4e0cf75cd5a5ee088901ad810e5c038c63bd1efab19fd9c5e886b8fe7ff4d7599d5ba4dc2ca742187cc72139a82ecd6096329b734001e98ae662ad38b54f88ef67623fc4866ba610bc0b6f4f5ee107a7a54727f252015ccdd7f2f687c6887d352b1f290bac4f552838ad7dd3d1b48e2520fa63e12156613bdad20c0f4e6189724851049b475f3744bfcb3cff432b6c77a2d6119bf69624983604684d2c190885"

var keyFileKeys = map[MariaDBKey]string{
	{1, 1}:          "770a8a65da156d24ee2a093277530142",
	{2, 1}:          "a7addd9adea9978fda19f21e6be987880e68ac92632ca052e5bb42b1a506939a",
	{4294967295, 1}: "0102030405060708090a0b0c0d0e0f101112131415161718",
}

func write(t *testing.T, name string, content []byte) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(path, content, 0o700); err != nil {
		t.Fatal(err)
	}
	return path
}

func unhex(t *testing.T, s string) []byte {
	t.Helper()
	b, err := hex.DecodeString(s)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// TestKeyFile: both forms of a key file have the same keys, and those that were written.
func TestKeyFile(t *testing.T) {
	plain := write(t, "keys", []byte(keyFile))
	sealed := write(t, "keys.enc", unhex(t, keyFileSalted))
	secret := write(t, "secret", []byte("s3cret\n"))
	for _, c := range []struct{ name, secret string }{{plain, ""}, {plain, secret}, {sealed, secret}} {
		var k Keys
		if err := k.ReadKeyFile(c.name, c.secret); err != nil {
			t.Fatal(err)
		}
		for name, want := range keyFileKeys {
			key, err := k.MariaDB(name)
			if err != nil || hex.EncodeToString(key) != want {
				t.Errorf("%s: %v: %x, %v", filepath.Base(c.name), name, []byte(key), err)
			}
		}
		_, err := k.MariaDB(MariaDBKey{1, 2})
		if missing, ok := errors.AsType[*MissingKeyError](err); !ok || !strings.Contains(missing.Error(), "key 1, version 2") || !strings.Contains(missing.Error(), c.name) {
			t.Errorf("a version that is not there: %v", err)
		}
	}
	var k Keys
	err := k.ReadKeyFile(sealed, write(t, "secret", []byte("other")))
	if _, ok := errors.AsType[*WrongKeyError](err); !ok {
		t.Errorf("another secret: %v", err)
	}
	err = k.ReadKeyFile(sealed, "")
	if _, ok := errors.AsType[*MissingKeyError](err); !ok {
		t.Errorf("no secret: %v", err)
	}
}

// TestKeyFileBad: what no server reads is refused, and no message has a part of a key.
func TestKeyFileBad(t *testing.T) {
	for name, content := range map[string]string{
		"no key 1":  "2;770A8A65DA156D24EE2A093277530142\n",
		"length":    "1;770A8A65DA156D24EE2A0932775301\n",
		"digits":    "1;770A8A65DA156D24EE2A09327753014x\n",
		"odd":       "1;770A8A65DA156D24EE2A0932775301421\n",
		"separator": "1:770A8A65DA156D24EE2A093277530142\n",
		"number":    "0;770A8A65DA156D24EE2A093277530142\n",
		"overflow":  "4294967296;770A8A65DA156D24EE2A093277530142\n",
		"twice":     "1;770A8A65DA156D24EE2A093277530142\n1;770A8A65DA156D24EE2A093277530143\n",
		"long":      keyFile + strings.Repeat("#", maxKeyFile),
		"empty":     "",
	} {
		var k Keys
		err := k.ReadKeyFile(write(t, "keys", []byte(content)), "")
		if err == nil || strings.Contains(strings.ToUpper(err.Error()), "770A8A") {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// TestCommand: hb asks a program with number and version, and takes only a key from it.
func TestCommand(t *testing.T) {
	const key = "770a8a65da156d24ee2a093277530142"
	program := func(script string) *Command {
		return &Command{Argv: []string{"/bin/sh", "-c", script, "sh"}, Timeout: 3 * time.Second}
	}
	var k Keys
	k.SetCommand(program(`[ "$1 $2" = "7 3" ] && echo ` + key))
	got, err := k.MariaDB(MariaDBKey{7, 3})
	if err != nil || hex.EncodeToString(got) != key {
		t.Errorf("%x, %v", []byte(got), err)
	}
	for name, script := range map[string]string{
		"status":  "echo " + key + "; echo reason >&2; exit 3",
		"nothing": ":",
		"text":    "echo no " + key,
		"length":  "echo " + key[2:],
		"endless": "while :; do echo " + key + "; done",
		"slow":    "echo " + key + "; sleep 100",
	} {
		var k Keys
		k.SetCommand(program(script))
		start := time.Now()
		_, err := k.MariaDB(MariaDBKey{7, 3})
		if _, ok := errors.AsType[*CommandError](err); !ok || strings.Contains(strings.ReplaceAll(err.Error(), script, ""), key[2:]) {
			t.Errorf("%s: %v", name, err)
		}
		if time.Since(start) > 20*time.Second {
			t.Errorf("%s: took %v", name, time.Since(start))
		}
		if name == "status" && !strings.Contains(err.Error(), "reason") {
			t.Errorf("no reason: %v", err)
		}
	}
}

// TestSecretHidden: no way to print a value prints a key.
func TestSecretHidden(t *testing.T) {
	s := Secret("hunter22hunter22")
	type holder struct{ Key Secret }
	for _, format := range []string{"%v", "%+v", "%#v", "%s", "%x", "%X", "%q", "%d"} {
		for _, v := range []any{s, &s, holder{s}, &holder{s}, []Secret{s}, map[string]Secret{"a": s}} {
			text := fmt.Sprintf(format, v)
			if !strings.Contains(text, "…") && strings.Contains(strings.ToLower(text), "68756e74") || strings.Contains(text, "hunter") || strings.Contains(text, "104 117") {
				t.Errorf("%s of %T: %s", format, v, text)
			}
		}
	}
	if b, err := json.Marshal(holder{s}); err == nil || bytes.Contains(b, []byte("hunt")) {
		t.Errorf("json: %s, %v", b, err)
	}
}

// TestFlags: a file that is not there, or is not a key file, is a mistake in the command
// line; a secret that is missing or wrong is not.
func TestFlags(t *testing.T) {
	plain, sealed := write(t, "keys", []byte(keyFile)), write(t, "keys.enc", unhex(t, keyFileSalted))
	for name, c := range map[string]struct {
		flags   Flags
		mistake bool
	}{
		"no such file": {Flags{KeyFile: plain + "x"}, true},
		"no key file":  {Flags{KeyFile: write(t, "other", []byte("text\n"))}, true},
		"secret only":  {Flags{KeySecretFile: plain}, true},
		"algorithm":    {Flags{KeyFile: plain, KeyAlgorithm: "aes_gcm"}, true},
		"no program":   {Flags{KeyCommand: " "}, true},
		"no secret":    {Flags{KeyFile: sealed}, false},
		"wrong secret": {Flags{KeyFile: sealed, KeySecretFile: plain}, false},
	} {
		keys, err := c.flags.Load()
		_, mistake := errors.AsType[*FlagError](err)
		if err == nil || keys != nil || mistake != c.mistake || !c.mistake && !IsKeyError(err) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if keys, err := new(Flags).Load(); keys != nil || err != nil {
		t.Errorf("no flags: %v, %v", keys, err)
	}
}

// TestCommandSees: the program that prints keys gets none, in its arguments, its
// environment or its files, though hb has others.
func TestCommandSees(t *testing.T) {
	var k Keys
	if err := k.ReadKeyFile(write(t, "keys", []byte(keyFile)), ""); err != nil {
		t.Fatal(err)
	}
	seen := filepath.Join(t.TempDir(), "seen")
	k.SetCommand(&Command{Argv: []string{"/bin/sh", "-c", `{ cat /proc/$$/environ /proc/$$/cmdline; ls -l /proc/$$/fd; } > "` + seen + `"; echo 000102030405060708090a0b0c0d0e0f`, "sh"}})
	if _, err := k.MariaDB(MariaDBKey{7, 3}); err != nil {
		t.Fatal(err)
	}
	b, err := os.ReadFile(seen)
	if err != nil || !bytes.Contains(b, []byte("\x007\x003\x00")) {
		t.Fatalf("%q, %v", b, err)
	}
	for name, key := range keyFileKeys {
		if bytes.Contains(bytes.ToLower(b), []byte(key)) || bytes.Contains(b, unhex(t, key)) {
			t.Errorf("%v is in %q", name, b)
		}
	}
	if bytes.Contains(b, []byte("/keys")) {
		t.Errorf("the key file is open: %q", b)
	}
}
