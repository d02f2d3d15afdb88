package login_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"

	"hb/source/mysqld"
	"hb/source/mysqld/login"
)

// TestSecret shows that a password does not print, in whatever it is held.
func TestSecret(t *testing.T) {
	const word = "geheim"
	s := login.NewSecret(word)
	o := login.Options{Network: "unix", Password: s}
	f := login.Flags{Password: &s}
	e := &mysqld.ConnectError{Options: o, Err: errors.New("x")}
	for _, v := range []any{s, &s, o, &o, f, &f, e, *e, []login.Secret{s}, map[string]login.Secret{"a": s}} {
		for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%d"} {
			if text := fmt.Sprintf(verb, v); strings.Contains(text, word) || strings.Contains(text, fmt.Sprintf("%x", word)) {
				t.Errorf("%s of %T: %s", verb, v, text)
			}
		}
		b, err := json.Marshal(v)
		if err != nil || bytes.Contains(b, []byte(word)) {
			t.Errorf("JSON of %T: %s, %v", v, b, err)
		}
	}
}
