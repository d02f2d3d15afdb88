package tde_test

import (
	"encoding/hex"
	"encoding/json"
	"os"
	"testing"
)

func keyNamed(t *testing.T, keyring, name string) []byte {
	t.Helper()
	b, err := os.ReadFile(keyring)
	if err != nil {
		t.Fatal(err)
	}
	var k struct {
		Elements []struct {
			ID   string `json:"data_id"`
			Data string `json:"data"`
		} `json:"elements"`
	}
	if err := json.Unmarshal(b, &k); err != nil {
		t.Fatal(err)
	}
	for _, e := range k.Elements {
		if e.ID == name {
			key, err := hex.DecodeString(e.Data)
			if err != nil {
				t.Fatal(err)
			}
			return key
		}
	}
	t.Fatalf("the keyring has no %q", name)
	return nil
}
