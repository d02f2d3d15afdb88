package stream

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"runtime"
	"slices"
	"strings"
	"testing"
	"testing/iotest"
	"time"

	"filippo.io/age"
	"github.com/klauspost/compress/zstd"

	"hb/source/mysqld/mysqldtest"
	"hb/stream/stage"
	"hb/stream/zstdstage"
)

// pages makes n bytes that compress about as data pages do: rows of words and
// numbers, with a stretch of zeros at each page's end.
func pages(n int, seed uint64) []byte {
	const pageSize = 16 << 10
	rng := rand.New(rand.NewPCG(seed, 1))
	words := strings.Fields("amber birch cedar delta ember flint grove haven inlet jade karst ledge mason north ochre pearl quill ridge slate tidal umber vivid wharf xenon yield zephyr")
	b := make([]byte, 0, n+pageSize)
	for len(b) < n {
		end := len(b) + pageSize
		b = binary.BigEndian.AppendUint64(b, rng.Uint64())
		for len(b) < end-pageSize/4 {
			b = binary.BigEndian.AppendUint32(b, uint32(len(b)))
			b = append(b, words[rng.IntN(len(words))]...)
			b = binary.BigEndian.AppendUint32(b, rng.Uint32())
			b = append(b, words[rng.IntN(len(words))]...)
		}
		b = append(b, make([]byte, end-len(b))...)
	}
	return b[:n]
}

// archive is something that Open takes for an archive.
func archive(n int) []byte { return append([]byte("XBSTCK01"), pages(n, 3)...) }

func testIdentity(t testing.TB) *age.X25519Identity {
	id, err := age.GenerateX25519Identity()
	if err != nil {
		t.Fatal(err)
	}
	return id
}

func stages(t testing.TB, opts WriteOptions, data []byte) []byte {
	t.Helper()
	var out bytes.Buffer
	w, err := Create(&out, opts)
	if err != nil {
		t.Fatal(err)
	}
	if n, err := w.Write(data); n != len(data) || err != nil {
		t.Fatalf("Write = %d, %v", n, err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	if w.Sent() != int64(out.Len()) {
		t.Errorf("Sent() = %d, but %d bytes came", w.Sent(), out.Len())
	}
	return out.Bytes()
}

func readAll(in io.Reader, opts Options) ([]byte, []string, error) {
	r, err := Open(in, opts)
	if err != nil {
		return nil, nil, err
	}
	data, err := io.ReadAll(r)
	return data, r.Stages, errors.Join(err, r.Close())
}

func TestRoundTrip(t *testing.T) {
	id := testIdentity(t)
	for _, size := range []int{0, 1, 4095, 64<<10 - 8, 64 << 10, 64<<10 + 1, 1 << 20, 5<<20 + 3} {
		data := archive(size)
		for _, tt := range []struct {
			opts WriteOptions
			want []string
		}{
			{WriteOptions{}, nil},
			{WriteOptions{Compress: &Compression{}}, []string{"zstd"}},
			{WriteOptions{Recipients: []age.Recipient{id.Recipient()}}, []string{"age"}},
			{WriteOptions{Compress: &Compression{Level: 1, Threads: 4}, Recipients: []age.Recipient{id.Recipient()}}, []string{"age", "zstd"}},
		} {
			out := stages(t, tt.opts, data)
			readers := []func(io.Reader) io.Reader{
				func(r io.Reader) io.Reader { return r }, iotest.HalfReader, iotest.DataErrReader,
			}
			if size <= 64<<10 {
				readers = append(readers, iotest.OneByteReader)
			}
			for _, wrap := range readers {
				got, names, err := readAll(wrap(bytes.NewReader(out)), Options{Identities: []age.Identity{id}})
				if err != nil {
					t.Fatalf("size %d, stages %v: %v", size, tt.want, err)
				}
				if !bytes.Equal(got, data) || !slices.Equal(names, tt.want) {
					t.Errorf("size %d: got %d bytes through %v, want %d through %v", size, len(got), names, len(data), tt.want)
				}
			}
		}
	}
}

func TestLevels(t *testing.T) {
	data := archive(300 << 10)
	for level := 1; level <= zstdstage.MaxLevel; level++ {
		out := stages(t, WriteOptions{Compress: &Compression{Level: level, Threads: 2}}, data)
		got, _, err := readAll(bytes.NewReader(out), Options{})
		if err != nil || !bytes.Equal(got, data) {
			t.Errorf("level %d: %v", level, err)
		}
		if len(out) > len(data)*2/3 {
			t.Errorf("level %d: %d bytes became %d", level, len(data), len(out))
		}
	}
	for _, level := range []int{-1, zstdstage.MaxLevel + 1} {
		if _, err := Create(io.Discard, WriteOptions{Compress: &Compression{Level: level}}); err == nil {
			t.Errorf("level %d is accepted", level)
		}
	}
}

// cuts returns some hundred places to cut n bytes at, denser at both ends.
func cuts(n int) []int {
	var at []int
	for i := range min(n, 150) {
		at = append(at, i, n-1-i)
	}
	for i := 0; i < n; i += max(1, n/100) {
		at = append(at, i)
	}
	slices.Sort(at)
	return slices.Compact(at)
}

// TestTruncation cuts each kind of output everywhere. No cut may pass, and
// each must count as a truncation.
func TestTruncation(t *testing.T) {
	id := testIdentity(t)
	to := []age.Recipient{id.Recipient()}
	data := archive(200 << 10)
	zst := &Compression{Level: 1, Threads: 2}
	outputs := map[string][]byte{
		"zstd":     stages(t, WriteOptions{Compress: zst}, data),
		"age":      stages(t, WriteOptions{Recipients: to}, data),
		"both":     stages(t, WriteOptions{Compress: zst, Recipients: to}, data),
		"backward": stages(t, WriteOptions{Compress: zst}, stages(t, WriteOptions{Recipients: to}, data)),
		"armor":    armored(t, stages(t, WriteOptions{Recipients: to}, data[:3000])),
	}
	for name, out := range outputs {
		end := len(out)
		if name == "armor" {
			end = len(bytes.TrimRight(out, "\n")) // white space at the end is free
		}
		for _, cut := range cuts(end) {
			_, _, err := readAll(bytes.NewReader(out[:cut]), Options{Identities: []age.Identity{id}})
			if !errors.Is(err, io.ErrUnexpectedEOF) {
				t.Errorf("%s cut at %d of %d: %v", name, cut, end, err)
			}
		}
		if _, _, err := readAll(bytes.NewReader(out[:end]), Options{Identities: []age.Identity{id}}); err != nil {
			t.Errorf("%s whole: %v", name, err)
		}
	}
}

// TestInputErrors makes sure that an error of the input comes through every
// stage as itself, even one that decoders take for an end.
func TestInputErrors(t *testing.T) {
	id := testIdentity(t)
	to := []age.Recipient{id.Recipient()}
	data := archive(100 << 10)
	errNet := errors.New("connection reset")
	for _, opts := range []WriteOptions{
		{}, {Compress: &Compression{}}, {Recipients: to}, {Compress: &Compression{}, Recipients: to},
	} {
		out := stages(t, opts, data)
		for _, fault := range []error{errNet, io.ErrUnexpectedEOF} {
			for _, cut := range append(cuts(len(out)), len(out)) {
				in := io.MultiReader(bytes.NewReader(out[:cut]), iotest.ErrReader(fault))
				if _, _, err := readAll(in, Options{Identities: []age.Identity{id}}); !errors.Is(err, fault) {
					t.Fatalf("%v after %d of %d bytes: got %v", fault, cut, len(out), err)
				}
			}
		}
	}
}

func TestTrailingGarbage(t *testing.T) {
	id := testIdentity(t)
	to := []age.Recipient{id.Recipient()}
	data := archive(100 << 10)
	for name, opts := range map[string]WriteOptions{
		"zstd": {Compress: &Compression{}},
		"age":  {Recipients: to},
		"both": {Compress: &Compression{}, Recipients: to},
	} {
		out := stages(t, opts, data)
		for _, tail := range []string{"x", "xy", "xyz", "\x28", "\x28\xb5\x2f", "\x28\xb5\x2f\xfd", "\x50", "\x50\x2a\x4d\x18", "\x50\x2a\x4d\x18\x05\x00\x00\x00abc", "garbage at the end", strings.Repeat("\x00", 1024)} {
			_, _, err := readAll(strings.NewReader(string(out)+tail), Options{Identities: []age.Identity{id}})
			if err == nil {
				t.Errorf("%s: %q at the end is not noticed", name, tail)
			}
		}
	}
}

func TestDamage(t *testing.T) {
	id := testIdentity(t)
	to := []age.Recipient{id.Recipient()}
	data := archive(100 << 10)
	for name, opts := range map[string]WriteOptions{
		"zstd": {Compress: &Compression{Level: 1}},
		"age":  {Recipients: to},
	} {
		out := stages(t, opts, data)
		for _, at := range cuts(len(out)) {
			bad := bytes.Clone(out)
			bad[at] ^= 0x10
			got, _, err := readAll(bytes.NewReader(bad), Options{Identities: []age.Identity{id}})
			if err == nil {
				if !bytes.Equal(got, data) {
					t.Errorf("%s: a changed byte at %d gives other content and no error", name, at)
				}
				continue
			}
			_, damage := errors.AsType[*DamageError](err)
			_, notOurs := errors.AsType[*NotArchiveError](err)
			_, noKey := errors.AsType[*EncryptedError](err)
			if !damage && !notOurs && !noKey && !errors.Is(err, io.ErrUnexpectedEOF) && !(name == "age" && at < 200) {
				t.Errorf("%s: a changed byte at %d gives an error of no kind: %v", name, at, err)
			}
		}
	}
}

// TestBlockDamage changes every bit of an archive of one block: none is without
// effect, neither around the compressed content nor in it.
func TestBlockDamage(t *testing.T) {
	mysqldtest.Heavy(t)
	out := stages(t, WriteOptions{Compress: &Compression{Level: 1, Threads: 2}}, archive(2000))
	for bit := range 8 * len(out) {
		bad := bytes.Clone(out)
		bad[bit/8] ^= 1 << (bit % 8)
		if _, _, err := readAll(bytes.NewReader(bad), Options{}); err == nil {
			t.Errorf("bit %d of byte %d changed: not noticed", bit%8, bit/8)
		}
	}
}

func TestZstdForms(t *testing.T) {
	data := archive(50 << 10)
	half := len(data) / 2
	skippable := "\x5a\x2a\x4d\x18\x04\x00\x00\x00abcd"
	enc, err := zstd.NewWriter(nil, zstd.WithZeroFrames(true))
	if err != nil {
		t.Fatal(err)
	}
	frame := func(data []byte) string { return string(enc.EncodeAll(data, nil)) }
	a, b, empty := frame(data[:half]), frame(data[half:]), frame(nil)
	for name, in := range map[string]string{
		"two frames":          a + b,
		"skippable first":     skippable + a + b,
		"skippable between":   a + skippable + b,
		"skippable last":      a + b + skippable,
		"empty frame first":   empty + a + b,
		"empty frame between": a + empty + b,
	} {
		got, _, err := readAll(strings.NewReader(in), Options{})
		if err != nil || !bytes.Equal(got, data) {
			t.Errorf("%s: %d bytes, %v", name, len(got), err)
		}
	}
	for name, in := range map[string]string{"empty frame": empty, "only skippable": skippable} {
		_, _, err := readAll(strings.NewReader(in), Options{})
		if !errors.Is(err, io.ErrUnexpectedEOF) || !strings.Contains(err.Error(), "empty") {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestOpenRefuses(t *testing.T) {
	deep := archive(100)
	for range maxStages + 1 {
		deep = stages(t, WriteOptions{Compress: &Compression{Threads: 1}}, deep)
	}
	tests := []struct{ name, in, want string }{
		{"empty", "", "the archive is empty: did"},
		{"gzip", "\x1f\x8b\x08\x00\x00\x00\x00\x00", "gzip -d"},
		{"xz", "\xfd7zXZ\x00\x00", "xz -d"},
		{"lz4", "\x04\x22\x4d\x18\x60", "lz4 -d"},
		{"xbcrypt", "XBCRYP03xxxx", "xbcrypt -d"},
		{"tar", strings.Repeat("\x00", 257) + "ustar\x0000", "tar -x"},
		{"dump", "-- MySQL dump 10.13", "mysql < FILE"},
		{"MariaDB's dump", "/*M!999999\\- enable the sandbox mode */ ", "mysql < FILE"},
		{"text", "mysqldump: Got error", "it begins with 6d7973716c64756d703a20476f742065"},
		{"one byte", "?", "it begins with 3f"},
		{"too deep", string(deep), "more than 4 times"},
	}
	for _, tt := range tests {
		_, err := Open(strings.NewReader(tt.in), Options{})
		if err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s: error %v, want one with %q", tt.name, err, tt.want)
		}
	}
	if _, err := Open(strings.NewReader("PK\x03\x04"), Options{}); err != nil {
		if _, ok := errors.AsType[*NotArchiveError](err); !ok {
			t.Errorf("error %v is no NotArchiveError", err)
		}
	}
}

func TestEncryptedErrors(t *testing.T) {
	id, other := testIdentity(t), testIdentity(t)
	out := stages(t, WriteOptions{Recipients: []age.Recipient{id.Recipient()}}, archive(10))
	for tried, ids := range [][]age.Identity{{}, {other}} {
		_, err := Open(bytes.NewReader(out), Options{Identities: ids, Passphrase: func(string) (string, error) {
			t.Error("asked for a passphrase, which would not help")
			return "", nil
		}})
		enc, ok := errors.AsType[*EncryptedError](err)
		if !ok || enc.Tried != tried || enc.Passphrase || !strings.Contains(err.Error(), "--identity") {
			t.Errorf("%d identities: %v", tried, err)
		}
	}
}

func TestPassphrase(t *testing.T) {
	to, err := age.NewScryptRecipient("correct horse")
	if err != nil {
		t.Fatal(err)
	}
	to.SetWorkFactor(10) // the default takes a second, twice
	data := archive(1000)
	out := stages(t, WriteOptions{Recipients: []age.Recipient{to}}, data)
	answer := func(s string) Prompt { return func(string) (string, error) { return s, nil } }

	got, _, err := readAll(bytes.NewReader(out), Options{Passphrase: answer("correct horse"), Identities: []age.Identity{testIdentity(t)}})
	if err != nil || !bytes.Equal(got, data) {
		t.Errorf("right passphrase: %v", err)
	}
	if _, err := Open(bytes.NewReader(out), Options{Passphrase: answer("battery staple")}); err == nil || !strings.Contains(err.Error(), "wrong") {
		t.Errorf("wrong passphrase: %v", err)
	}
	_, err = Open(bytes.NewReader(out), Options{})
	if enc, ok := errors.AsType[*EncryptedError](err); !ok || !enc.Passphrase {
		t.Errorf("no passphrase: %v", err)
	}
	errTTY := errors.New("no terminal")
	if _, err := Open(bytes.NewReader(out), Options{Passphrase: func(string) (string, error) { return "", errTTY }}); !errors.Is(err, errTTY) {
		t.Errorf("failing prompt: %v", err)
	}
}

// limitedSink fails after n bytes.
type limitedSink struct {
	n   int
	err error
	bytes.Buffer
}

func (s *limitedSink) Write(p []byte) (int, error) {
	if len(p) > s.n {
		n := s.n
		s.n = 0
		s.Buffer.Write(p[:n])
		return n, s.err
	}
	s.n -= len(p)
	return s.Buffer.Write(p)
}

// TestSinkErrors breaks the destination at many places. The error must come
// out of Write or Close and stay, and what arrived must not pass for whole.
func TestSinkErrors(t *testing.T) {
	id := testIdentity(t)
	to := []age.Recipient{id.Recipient()}
	data := archive(3 << 20)
	errFull := errors.New("no space left")
	before := runtime.NumGoroutine()
	for _, opts := range []WriteOptions{
		{}, {Compress: &Compression{Level: 1, Threads: 4}}, {Recipients: to}, {Compress: &Compression{Level: 1, Threads: 4}, Recipients: to},
	} {
		whole := len(stages(t, opts, data))
		for _, room := range []int{0, 1, 100, 300, 70 << 10, whole / 2, whole - 200, whole - 1} {
			sink := &limitedSink{n: room, err: errFull}
			w, err := Create(sink, opts)
			if err != nil {
				if !errors.Is(err, errFull) {
					t.Errorf("Create: %v", err)
				}
				continue
			}
			_, err = w.Write(data)
			closeErr := w.Close()
			if err == nil {
				err = closeErr
			}
			if !errors.Is(err, errFull) || !errors.Is(closeErr, errFull) {
				t.Errorf("room for %d of %d: Write %v, Close %v", room, whole, err, closeErr)
			}
			if _, err := w.Write([]byte("x")); !errors.Is(err, errFull) {
				t.Errorf("Write after failure: %v", err)
			}
			w.Abort(nil)
		}
	}
	waitGoroutines(t, before)
}

// waitGoroutines fails the test if more goroutines stay than there were.
func waitGoroutines(t *testing.T, before int) {
	t.Helper()
	for range 100 {
		if runtime.NumGoroutine() <= before {
			return
		}
		time.Sleep(10 * time.Millisecond)
	}
	t.Errorf("%d goroutines, %d before", runtime.NumGoroutine(), before)
}

func TestAbort(t *testing.T) {
	id := testIdentity(t)
	errGone := errors.New("server has gone away")
	before := runtime.NumGoroutine()
	for _, opts := range []WriteOptions{
		{}, {Compress: &Compression{Threads: 4}}, {Recipients: []age.Recipient{id.Recipient()}},
		{Compress: &Compression{Threads: 4}, Recipients: []age.Recipient{id.Recipient()}},
	} {
		for _, size := range []int{0, 100, 9 << 20} {
			var out bytes.Buffer
			w, err := Create(&out, opts)
			if err != nil {
				t.Fatal(err)
			}
			if _, err := w.Write(archive(size)); err != nil {
				t.Fatal(err)
			}
			w.Abort(errGone)
			sent := out.Len()
			if err := w.Close(); !errors.Is(err, errGone) {
				t.Errorf("Close after Abort: %v", err)
			}
			if _, err := w.Write([]byte("x")); !errors.Is(err, errGone) {
				t.Errorf("Write after Abort: %v", err)
			}
			if out.Len() != sent {
				t.Error("bytes were sent after Abort")
			}
			if len(opts.Recipients) > 0 || opts.Compress != nil {
				if _, _, err := readAll(&out, Options{Identities: []age.Identity{id}}); err == nil {
					t.Errorf("an output given up after %d bytes passes for whole", size)
				}
			}
		}
	}
	waitGoroutines(t, before)
}

func TestCloseTwice(t *testing.T) {
	id := testIdentity(t)
	var out bytes.Buffer
	w, err := Create(&out, WriteOptions{Compress: &Compression{}, Recipients: []age.Recipient{id.Recipient()}})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := w.WriteVec([]byte("XBST"), nil, []byte("CK01")); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); !errors.Is(err, stage.ErrClosed) {
		t.Errorf("second Close: %v", err)
	}
	if _, err := w.Write([]byte("x")); !errors.Is(err, stage.ErrClosed) {
		t.Errorf("Write after Close: %v", err)
	}
	r, err := Open(&out, Options{Identities: []age.Identity{id}})
	if err != nil {
		t.Fatal(err)
	}
	if got, err := io.ReadAll(r); string(got) != "XBSTCK01" || err != nil {
		t.Errorf("got %q, %v", got, err)
	}
	if !r.Encrypted() || !r.Compressed() {
		t.Errorf("stages %v", r.Stages)
	}
	if err := r.Close(); err != nil {
		t.Error(err)
	}
	if err := r.Close(); !errors.Is(err, stage.ErrClosed) {
		t.Errorf("second Close of the reader: %v", err)
	}
}

func TestMixedRecipients(t *testing.T) {
	pq, err := age.GenerateHybridIdentity()
	if err != nil {
		t.Fatal(err)
	}
	pass, err := PassphraseRecipient("x")
	if err != nil {
		t.Fatal(err)
	}
	x := testIdentity(t)
	for name, to := range map[string][]age.Recipient{
		"post-quantum and X25519": {pq.Recipient(), x.Recipient()},
		"passphrase and X25519":   {pass, x.Recipient()},
	} {
		var out bytes.Buffer
		if _, err := Create(&out, WriteOptions{Recipients: to}); err == nil {
			t.Errorf("%s: accepted", name)
		}
		if out.Len() > 0 {
			t.Errorf("%s: %d bytes were written before the refusal", name, out.Len())
		}
	}
}

func TestMeter(t *testing.T) {
	var m Meter
	var out bytes.Buffer
	w := m.Writer(&out)
	fmt.Fprint(w, "12345")
	if n, err := w.WriteVec([]byte("67"), []byte("8")); n != 3 || err != nil {
		t.Errorf("WriteVec = %d, %v", n, err)
	}
	if m.Count() != 8 || out.String() != "12345678" {
		t.Errorf("Count() = %d, wrote %q", m.Count(), out.String())
	}
	w = m.Writer(&limitedSink{n: 2, err: context.Canceled})
	if n, err := w.WriteVec([]byte("67"), []byte("8")); n != 2 || err == nil {
		t.Errorf("WriteVec = %d, %v", n, err)
	}
	if m.Count() != 10 {
		t.Errorf("Count() = %d", m.Count())
	}
}

// TestIncompressible: blocks that do not get smaller pass at every strength, as tables
// that the server compresses or encrypts make them.
func TestIncompressible(t *testing.T) {
	data := append([]byte("XBSTCK01"), make([]byte, zstdstage.MaxBlock)...)
	_, _ = rand.NewChaCha8([32]byte{5}).Read(data[8:])
	for _, c := range []Compression{{Level: 1}, {Level: 1, Threads: 32}, {Level: 3}, {Level: 7}, {Level: 19}} {
		out := stages(t, WriteOptions{Compress: &c}, data)
		if got, _, err := readAll(bytes.NewReader(out), Options{}); err != nil || !bytes.Equal(got, data) {
			t.Errorf("%+v: %v", c, err)
		}
	}
}
