package stream

import (
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"
)

// Size is a number of bytes, or a rate in bytes a second, as people write it:
// "65536", "64K", "50MiB", "1.5G", "10MB/s".
//
// A plain letter and the form with i count in powers of 1024, as the servers'
// own variables and zstd(1) do: K, KiB, M, MiB, G, GiB, T, TiB. The form with
// B counts in powers of 1000: KB, MB, GB, TB. Case does not matter, a space
// before the unit and neither does a single B, and "/s" may follow.
type Size int64

// Rate is how many bytes that is a second.
func Rate(bytes int64, d time.Duration) Size {
	return Size(float64(bytes) / max(d, time.Millisecond).Seconds())
}

var units = map[string]float64{
	"": 1, "b": 1,
	"k": 1 << 10, "kib": 1 << 10, "kb": 1e3,
	"m": 1 << 20, "mib": 1 << 20, "mb": 1e6,
	"g": 1 << 30, "gib": 1 << 30, "gb": 1e9,
	"t": 1 << 40, "tib": 1 << 40, "tb": 1e12,
}

// ParseSize reads a Size.
func ParseSize(s string) (Size, error) {
	text := strings.ToLower(strings.TrimSpace(s))
	text = strings.TrimSpace(strings.TrimSuffix(text, "/s"))
	digits := strings.TrimRight(text, "abcdefghijklmnopqrstuvwxyz")
	factor, ok := units[text[len(digits):]]
	digits = strings.TrimSpace(digits)
	if !ok || digits == "" || strings.Trim(digits, "0123456789.") != "" {
		return 0, fmt.Errorf("%q is not a size: want a number and a unit, such as 64K, 50MiB or 1.5G", s)
	}
	// A whole number of bytes must not go through a float.
	if n, err := strconv.ParseInt(digits, 10, 64); err == nil {
		if n > math.MaxInt64/int64(factor) {
			return 0, fmt.Errorf("size %q is too large", s)
		}
		return Size(n * int64(factor)), nil
	}
	f, err := strconv.ParseFloat(digits, 64)
	if err != nil {
		return 0, fmt.Errorf("%q is not a size: %w", s, err)
	}
	if f *= factor; f >= math.MaxInt64 {
		return 0, fmt.Errorf("size %q is too large", s)
	}
	return Size(f), nil
}

// UnmarshalText implements encoding.TextUnmarshaler.
func (s *Size) UnmarshalText(text []byte) error {
	v, err := ParseSize(string(text))
	if err != nil {
		return err
	}
	*s = v
	return nil
}

// MarshalText gives the exact value with the largest unit that divides it.
func (s Size) MarshalText() ([]byte, error) {
	for _, u := range []struct {
		size Size
		name string
	}{{1 << 40, "TiB"}, {1 << 30, "GiB"}, {1 << 20, "MiB"}, {1 << 10, "KiB"}} {
		if s != 0 && s%u.size == 0 {
			return fmt.Appendf(nil, "%d%s", s/u.size, u.name), nil
		}
	}
	return strconv.AppendInt(nil, int64(s), 10), nil
}

// String gives the value for people, to three digits: "1.46 GiB".
func (s Size) String() string {
	v, unit := float64(s), "B"
	for _, u := range []string{"KiB", "MiB", "GiB", "TiB"} {
		if math.Abs(v) < 999.5 {
			break
		}
		v, unit = v/1024, u
	}
	switch {
	case unit == "B":
		return fmt.Sprintf("%d B", int64(s))
	case math.Abs(v) < 9.995:
		return fmt.Sprintf("%.2f %s", v, unit)
	case math.Abs(v) < 99.95:
		return fmt.Sprintf("%.1f %s", v, unit)
	}
	return fmt.Sprintf("%.0f %s", v, unit)
}
