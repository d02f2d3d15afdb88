package stream

import (
	"encoding"
	"math"
	"testing"
)

var _ encoding.TextUnmarshaler = new(Size)

func TestParseSize(t *testing.T) {
	for in, want := range map[string]Size{
		"0": 0, "1": 1, "65536": 65536, "512B": 512, "64K": 64 << 10, "64k": 64 << 10, "64KiB": 64 << 10, "64kb": 64000,
		"50MiB": 50 << 20, "50M": 50 << 20, "10MB/s": 10e6, "10 MiB/s": 10 << 20, "1G": 1 << 30, "1.5G": 3 << 29, "0.5k": 512,
		"2TiB": 2 << 40, "1TB": 1e12, "9223372036854775807": math.MaxInt64, "8388607T": 8388607 << 40, " 5 M ": 5 << 20,
	} {
		if got, err := ParseSize(in); got != want || err != nil {
			t.Errorf("ParseSize(%q) = %d, %v, want %d", in, got, err, want)
		}
	}
	for _, in := range []string{"", "K", "MiB", "-1", "+1", "1e3", "0x10", "1X", "1KK", "1 2", "1.2.3", "NaN", "Inf", "infinity", ".", "9223372036854775808", "8388608T", "1e400", "1/s/s", "１"} {
		if got, err := ParseSize(in); err == nil {
			t.Errorf("ParseSize(%q) = %d, want an error", in, got)
		}
	}
}

func TestSizeText(t *testing.T) {
	for s, want := range map[Size]string{0: "0", 1000: "1000", 1024: "1KiB", 3 << 29: "1536MiB", 1 << 30: "1GiB", 5 << 40: "5TiB", 1<<30 + 1: "1073741825"} {
		text, err := s.MarshalText()
		if err != nil || string(text) != want {
			t.Errorf("MarshalText of %d = %s, %v, want %s", int64(s), text, err, want)
		}
		var back Size
		if err := back.UnmarshalText(text); back != s || err != nil {
			t.Errorf("%s came back as %d, %v", text, int64(back), err)
		}
	}
	for s, want := range map[Size]string{0: "0 B", 999: "999 B", 1000: "0.98 KiB", 1536: "1.50 KiB", 10 << 10: "10.0 KiB", 123 << 20: "123 MiB", 1023 << 20: "1.00 GiB", 3 << 40: "3.00 TiB", 5000 << 40: "5000 TiB"} {
		if got := s.String(); got != want {
			t.Errorf("String of %d = %q, want %q", int64(s), got, want)
		}
	}
}

func FuzzParseSize(f *testing.F) {
	for _, s := range []string{"50MiB", "1.5G", "10MB/s", "", "99999999999T"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, in string) {
		s, err := ParseSize(in)
		if err != nil {
			return
		}
		if s < 0 {
			t.Fatalf("ParseSize(%q) = %d", in, s)
		}
		text, _ := s.MarshalText()
		if back, err := ParseSize(string(text)); back != s || err != nil {
			t.Fatalf("%q is %d, written as %s, read as %d, %v", in, s, text, back, err)
		}
	})
}
