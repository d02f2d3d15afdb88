package progress

import (
	"testing"
	"time"
)

func TestSpan(t *testing.T) {
	for d, want := range map[time.Duration]string{
		0:                              "0s",
		1549 * time.Millisecond:        "1.5s",
		512*time.Second + 1:            "8m32s",
		time.Hour:                      "1h0m",
		17*time.Hour + 301*time.Second: "17h5m",
		47 * time.Hour:                 "47h0m",
		71 * time.Hour:                 "3 days",
		24000 * time.Hour:              "1000 days",
	} {
		if got := Span(d); got != want {
			t.Errorf("%d ns: %q, want %q", d, got, want)
		}
	}
}
