package nearest

import (
	"slices"
	"strings"
	"testing"
)

// TestNearest: which names a word is taken for.
func TestNearest(t *testing.T) {
	names := []string{"backup", "apply", "extract", "list", "compress", "compress-level", "compress-chunk", "compress-more"}
	for _, test := range []struct {
		word string
		want []string
	}{
		{"backup", []string{"backup"}},
		{"bakcup", []string{"backup"}},
		{"aply", []string{"apply"}},
		{"lst", []string{"list"}},
		{"ls", nil},
		{"ext", []string{"extract"}},
		{"compres", []string{"compress"}},
		{"compress-", []string{"compress"}},
		{"compress-l", []string{"compress-level"}},
		{"comp", []string{"compress", "compress-level", "compress-chunk"}},
		{"", nil},
		{"frobnicate", nil},
		{strings.Repeat("compress", 9), nil},
	} {
		if got := To(test.word, names); !slices.Equal(got, test.want) {
			t.Errorf("%q is near to %q, want %q", test.word, got, test.want)
		}
	}
	for _, test := range []struct {
		a, b string
		want int
	}{{"", "", 0}, {"", "abc", 3}, {"abc", "", 3}, {"abc", "acb", 1}, {"abc", "abd", 1}, {"abc", "bc", 1}, {"kitten", "sitting", 3}} {
		if got := distance(test.a, test.b); got != test.want {
			t.Errorf("from %q to %q: %d, want %d", test.a, test.b, got, test.want)
		}
	}
}
