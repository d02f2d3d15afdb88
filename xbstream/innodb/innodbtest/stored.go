package innodbtest

import (
	"bytes"
	"compress/gzip"
	"fmt"
	"io"
	"os"
	"testing"

	"hb/xbstream/innodb"
)

// Stored is a tablespace in memory, such as one that a server wrote. Nothing verifies its
// pages, so that tests can damage them. It is a btree.Pages.
type Stored struct {
	Data []byte // of a file; page 0 has the geometry
	Geo  innodb.Space
}

// ReadStored reads a tablespace from a file that is compressed with gzip.
func ReadStored(t testing.TB, name string) *Stored {
	t.Helper()
	f, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	z, err := gzip.NewReader(bytes.NewReader(f))
	if err != nil {
		t.Fatal(err)
	}
	data, err := io.ReadAll(z)
	if err != nil {
		t.Fatal(err)
	}
	s, err := NewStored(data)
	if err != nil {
		t.Fatalf("%s: %v", name, err)
	}
	return s
}

// NewStored reads the geometry from page 0 of a tablespace.
func NewStored(data []byte) (*Stored, error) {
	geo, err := innodb.ParseSpace(data)
	return &Stored{data, geo}, err
}

// Space describes the tablespace.
func (s *Stored) Space() *innodb.Space { return &s.Geo }

// Page returns a page as it is.
func (s *Stored) Page(no innodb.PageNo) ([]byte, error) {
	size := s.Geo.Physical
	if int64(no) >= int64(len(s.Data)/size) {
		return nil, fmt.Errorf("page %d: %w", no, io.ErrUnexpectedEOF)
	}
	return s.Data[int(no)*size:][:size], nil
}
