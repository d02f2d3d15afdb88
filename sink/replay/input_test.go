package replay

import (
	"bytes"
	"errors"
	"io"
	"math/rand/v2"
	"testing"
	"testing/iotest"
)

// TestInput takes a log in parts of any size, whatever the reads bring.
func TestInput(t *testing.T) {
	log := make([]byte, inputSize+inputSize/2)
	random := rand.NewChaCha8([32]byte{1})
	random.Read(log)
	for name, r := range map[string]io.Reader{
		"whole": bytes.NewReader(log), "half": iotest.HalfReader(bytes.NewReader(log)),
		"end with the data": iotest.DataErrReader(bytes.NewReader(log)),
		"some bytes":        &someBytes{bytes.NewReader(log)},
	} {
		in := NewInput(r)
		var got []byte
		steps := rand.New(random)
		for {
			head, err := in.Need(steps.IntN(100 << 10))
			if err != nil {
				t.Fatal(name, err)
			}
			if n := len(got) + len(head); n > len(log) || !bytes.Equal(head, log[len(got):n]) {
				t.Fatalf("%s: other bytes at %d", name, len(got))
			}
			got = append(got, in.Bytes()...)
			if err := in.Skip(int64(len(in.Bytes()))); err != nil {
				t.Fatal(name, err)
			}
			if more, err := in.More(); err != nil {
				t.Fatal(name, err)
			} else if !more {
				break
			}
		}
		if !bytes.Equal(got, log) {
			t.Errorf("%s: %d bytes, want %d", name, len(got), len(log))
		}
		if err := in.Skip(1); !errors.Is(err, io.ErrUnexpectedEOF) {
			t.Errorf("%s: beyond the end: %v", name, err)
		}
	}
}

// someBytes reads a few bytes at a time.
type someBytes struct{ r io.Reader }

func (s *someBytes) Read(p []byte) (int, error) { return s.r.Read(p[:min(len(p), 5000)]) }

// TestInputSkips: far ahead, beyond the end, and into a read that fails.
func TestInputSkips(t *testing.T) {
	log := bytes.Repeat([]byte("0123456789"), inputSize/4)
	in := NewInput(bytes.NewReader(log))
	if err := in.Skip(2*inputSize + 3); err != nil {
		t.Fatal(err)
	}
	if head, err := in.Need(5); err != nil || !bytes.Equal(head, log[2*inputSize+3:][:5]) {
		t.Errorf("%q, %v", head, err)
	}
	if err := in.Skip(int64(len(log))); !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Errorf("beyond the end: %v", err)
	}
	broken := errors.New("broken")
	in = NewInput(io.MultiReader(bytes.NewReader(log[:100]), iotest.ErrReader(broken)))
	if head, err := in.Need(100); err != nil || len(head) != 100 {
		t.Errorf("%d bytes, %v", len(head), err)
	}
	if _, err := in.Need(101); !errors.Is(err, broken) {
		t.Errorf("a read that fails: %v", err)
	}
	if err := in.Skip(101); !errors.Is(err, broken) {
		t.Errorf("skipping into a read that fails: %v", err)
	}
}

// TestInputFull: a log of which nothing is taken is no endless loop.
func TestInputFull(t *testing.T) {
	in := NewInput(bytes.NewReader(make([]byte, 2*inputSize)))
	for range 2 * inputSize / inputStep {
		if more, err := in.More(); err != nil {
			return
		} else if !more {
			break
		}
	}
	t.Error("more was read than there is room for")
}
