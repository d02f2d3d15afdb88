package innodbtest

import (
	"bytes"
	"compress/gzip"
	"encoding/json"
	"errors"
	"io"
	"os"
	"testing"
)

// Gunzip returns the content of a file of testdata, which is compressed with gzip.
func Gunzip(t testing.TB, name string) []byte {
	t.Helper()
	f, err := os.Open("testdata/" + name)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	z, err := gzip.NewReader(f)
	if err != nil {
		t.Fatal(err)
	}
	b, err := io.ReadAll(z)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// Load returns the values in a file of testdata that has one JSON object after the other,
// compressed with gzip: pages that servers wrote.
func Load[T any](t testing.TB, name string) []T {
	t.Helper()
	var all []T
	for dec := json.NewDecoder(bytes.NewReader(Gunzip(t, name))); ; {
		var v T
		if err := dec.Decode(&v); errors.Is(err, io.EOF) {
			return all
		} else if err != nil {
			t.Fatal(err)
		}
		all = append(all, v)
	}
}
