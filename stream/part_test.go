package stream

import (
	"bytes"
	"context"
	"errors"
	"io"
	"testing"
)

// TestPart: what stages leave of zeros, of noise, and of nothing.
func TestPart(t *testing.T) {
	recipient, err := PassphraseRecipient("pass")
	if err != nil {
		t.Fatal(err)
	}
	of := func(data []byte) func(context.Context, io.Writer) error {
		return func(_ context.Context, w io.Writer) error { _, err := w.Write(data); return err }
	}
	zstd, age := WriteOptions{Compress: &Compression{}}, WriteOptions{}
	age.Recipients = append(age.Recipients, recipient)
	noise := pages(4<<20, 1)
	for _, test := range []struct {
		name     string
		o        WriteOptions
		data     []byte
		min, max float64
	}{
		{"no stages", WriteOptions{}, noise, 1, 1},
		{"zeros", zstd, make([]byte, 4<<20), 0, 0.01},
		{"pages", zstd, noise, 0.01, 1.01},
		{"encrypted", age, noise, 1, 1.01},
		{"nothing", zstd, nil, 1, 1},
	} {
		part, err := test.o.Part(t.Context(), of(test.data))
		if err != nil || part < test.min || part > test.max {
			t.Errorf("%s: %v, %v", test.name, part, err)
		}
	}
	wrong := errors.New("cannot be read")
	if _, err := zstd.Part(t.Context(), func(_ context.Context, w io.Writer) error {
		return errors.Join(of(bytes.Repeat([]byte("x"), 100))(t.Context(), w), wrong)
	}); !errors.Is(err, wrong) {
		t.Errorf("error = %v", err)
	}
}
