package keyring

import (
	"encoding/hex"
	"errors"
	"strings"
	"testing"
)

// TestChecks: a key is refused that is not the one of its name, from wherever it comes, and one
// of which nothing is known is not.
func TestChecks(t *testing.T) {
	var server Keys
	if err := server.ReadKeyFile(write(t, "keys", []byte(keyFile)), ""); err != nil {
		t.Fatal(err)
	}
	checks := server.Checks()
	all, none := func(string) bool { return true }, func(string) bool { return false }
	// printf 'hb key check\0key 1, version 1\0' with the key's bytes, through sha256sum.
	if len(checks) != len(keyFileKeys) || checks["key 1, version 1"] != "bac958ec9b29093c" {
		t.Errorf("%v", checks)
	}
	good := &Keys{}
	if err := good.ReadKeyFile(write(t, "keys", []byte(keyFile+"7;01020304050607080910111213141516\n")), ""); err != nil {
		t.Fatal(err)
	}
	if err := good.Expect(checks, all); err != nil {
		t.Error(err)
	}
	for _, id := range []uint32{1, 7} {
		if _, err := good.MariaDB(MariaDBKey{id, 1}); err != nil {
			t.Error(err)
		}
	}
	if got := good.Unproven(); len(got) != 1 || got[0] != (MariaDBKey{7, 1}) {
		t.Errorf("unproven: %v", got)
	}
	good.Prove(MariaDBKey{7, 1})
	if got := good.Unproven(); len(got) > 0 {
		t.Errorf("unproven: %v", got)
	}
	const other = "770a8a65da156d24ee2a093277530143"
	bad := &Keys{}
	if err := bad.ReadKeyFile(write(t, "keys", []byte("1;"+other+"\n")), ""); err != nil {
		t.Fatal(err)
	}
	err := bad.Expect(checks, all)
	if wrong, ok := errors.AsType[*WrongKeyError](err); !ok || wrong.Name != "key 1, version 1" || strings.Contains(err.Error(), other) {
		t.Errorf("another key: %v", err)
	}
	if err := bad.Expect(checks, none); err != nil {
		t.Errorf("another key that nothing needs: %v", err)
	}
	for range 2 {
		if _, err := bad.MariaDB(MariaDBKey{1, 1}); !IsKeyError(err) {
			t.Errorf("another key that something needs after all: %v", err)
		}
	}
	if got := bad.Unproven(); len(got) > 0 {
		t.Errorf("a wrong key was used: %v", got)
	}
	for key, ok := range map[string]bool{keyFileKeys[MariaDBKey{1, 1}]: true, other: false} {
		k := &Keys{}
		k.SetCommand(&Command{Argv: []string{write(t, "print", []byte("#!/bin/sh\necho "+key+"\n"))}})
		if err := k.Expect(checks, all); err != nil {
			t.Fatal(err)
		}
		got, err := k.MariaDB(MariaDBKey{1, 1})
		if _, wrong := errors.AsType[*WrongKeyError](err); wrong == ok || ok && hex.EncodeToString(got) != key {
			t.Errorf("a program that prints %s: %v", key, err)
		}
		if _, again := k.MariaDB(MariaDBKey{1, 1}); !ok && again == nil {
			t.Error("a wrong key is given at the second time")
		}
	}
	if err := (*Keys)(nil).Expect(checks, all); err != nil || (*Keys)(nil).Unproven() != nil || new(Keys).Checks() != nil {
		t.Error("no keys")
	}
}

// TestAlgorithms: what the server encrypts with is not what an option says against it.
func TestAlgorithms(t *testing.T) {
	var k Keys
	if err := errors.Join(k.DefaultAlgorithm(CTR), k.DefaultAlgorithm(""), k.DefaultAlgorithm(CTR)); err != nil || k.Algorithm() != CTR {
		t.Errorf("%v, %v", k.Algorithm(), err)
	}
	if _, ok := errors.AsType[*FlagError](k.DefaultAlgorithm(CBC)); !ok || k.Algorithm() != CTR {
		t.Error("another algorithm is taken")
	}
}
