package innodbtest

import (
	"compress/gzip"
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
