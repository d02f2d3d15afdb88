//go:build linux

package main

import (
	"context"
	"encoding/xml"
	"errors"
	"io"
	"math"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"hb/scripts/bench.d/plot"
	"hb/stream"
)

func took(seconds ...float64) (runs []usage) {
	for _, s := range seconds {
		runs = append(runs, usage{Wall: time.Duration(s * float64(time.Second)), Peak: 64 << 20, Rate: s, Units: s})
	}
	return runs
}

// sample is a contest with a limit of every kind, one of them missed.
func sample() *contest {
	return &contest{name: "sample", title: "do <it>", section: moved,
		bars: []bar{
			against(1, wall, 0.6), against(1, wall, 0.4), within(peak, 128<<20),
			{figure: rate, peer: 1, limit: 0.4, rule: above}, {figure: wall, peer: 1, rule: tell},
			{figure: perUnit(wall, "job"), side: 1, peer: 0, limit: linear},
		},
		sides: []*side{{name: "hb", runs: took(9, 1, 2)}, {name: "peer", runs: took(4, 3, 5, 4)}},
	}
}

func TestValues(t *testing.T) {
	c := sample()
	for i, want := range []struct {
		value float64
		met   bool
	}{{0.5, true}, {0.5, false}, {64 << 20, true}, {0.5, true}, {0.5, true}, {1, true}} {
		if got := c.value(c.bars[i]); math.Abs(got-want.value) > 1e-9 {
			t.Errorf("bar %d: %v, want %v", i, got, want.value)
		}
		if got := c.met(c.bars[i]); got != want.met {
			t.Errorf("bar %d: met is %v", i, got)
		}
	}
}

func TestReport(t *testing.T) {

	text := barsTable([]*contest{sample()}) + moved.table([]*contest{sample()})
	for _, want := range []string{
		"| do <it> | time, against peer | 0.50 | at most 0.6 | yes |\n",
		"|  | time, against peer | 0.50 | at most 0.4 | **no** |\n",
		"|  | peak memory | 64.0 MiB | at most 128 MiB | yes |\n",
		"|  | transactions/s, against peer | 0.50 | above 0.4 | yes |\n",
		"|  | time, against peer | 0.50 |  |  |\n",
		"|  | peer: time per job, against hb | 1.00 | at most 1.1 | yes |\n",
		"| do <it> | hb | 2.00 s | – | 64.0 MiB | – |\n",
		"|  | peer | 4.00 s | – | 64.0 MiB | – |\n",
	} {
		if !strings.Contains(text, want) {
			t.Errorf("no %q in\n%s", want, text)
		}
	}
	if s := loaded.table([]*contest{sample()}); s != "" {
		t.Errorf("a section without contests is in the report:\n%s", s)
	}
	if about, err := machine(t.TempDir()); err != nil || !strings.Contains(about, "processors (") {
		t.Errorf("machine: %q, %v", about, err)
	}
}

// TestLimits: a limit that is a fraction is shown with two digits.
func TestLimits(t *testing.T) {
	for want, b := range map[string]bar{
		"at most 1.11":     against(1, wall, 1/0.9),
		"at most 0.05":     against(1, wall, 0.05),
		"at most 1":        against(1, wall, 1),
		"at most 1.50":     within(readPerByte, 1.5),
		"at most 64.0 MiB": within(peak, 64<<20),
	} {
		if got := b.limitText(); got != want {
			t.Errorf("%q, want %q", got, want)
		}
	}
}

// TestGrowth has a contest grow by a step that takes twice as long for twice as
// much, and half more memory for each unit.
func TestGrowth(t *testing.T) {
	c := growth(t)
	for i, want := range []struct {
		what  string
		value float64
		met   bool
	}{{"2 jobs: time per job, against 1 job", 1, true}, {"2 jobs: peak memory per job, against 1 job", 1.5, false}} {
		b := c.bars[i]
		if got := c.value(b); c.what(b) != want.what || math.Abs(got-want.value) > 1e-9 || c.met(b) != want.met {
			t.Errorf("%s: %v, want %s: %v", c.what(b), got, want.what, want.value)
		}
	}
}

func growth(t *testing.T) *contest {
	c := &contest{title: "more", section: growing}
	for i, n := range []string{"1 job", "2 jobs"} {
		units := float64(i + 1)
		c.step(step{n, units, "job", nil}, &side{name: n, run: func(context.Context) (usage, error) {
			return usage{Wall: time.Duration(units) * time.Second, Peak: []int64{1000, 3000}[i]}, nil
		}})
		u, err := c.sides[i].once(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		c.sides[i].runs = []usage{u}
	}
	return c
}

// TestPlot demands well-formed SVG with a bar for each limit.
func TestPlot(t *testing.T) {
	d := xml.NewDecoder(strings.NewReader(plot.SVG(plotted([]*contest{sample(), growth(t)}))))
	rects := 0
	for {
		token, err := d.Token()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		if e, ok := token.(xml.StartElement); ok && e.Name.Local == "rect" {
			rects++
		}
	}
	// The ground, three of the legend, five ratios, peak memory, growth of time.
	if rects != 1+3+5+1+1 {
		t.Errorf("%d rectangles", rects)
	}
}

func TestPipeline(t *testing.T) {
	ctx := t.Context()
	u, err := pipeline(ctx, "/dev/zero", discard, []string{"head", "-c", "3000000"}, []string{"cat"})
	if err != nil || u.Bytes != 3_000_000 || u.Peak == 0 || u.Wall == 0 {
		t.Errorf("%+v, %v", u, err)
	}
	if u.Read < 6_000_000 || u.Read > 7_000_000 { // by both; they read their libraries, too
		t.Errorf("%d bytes read", u.Read)
	}
	name := filepath.Join(t.TempDir(), "file")
	for _, take := range []taker{intoFile(name), slowly(name, stream.Size(1<<30))} {
		u, err := pipeline(ctx, "", take, []string{"head", "-c", "100000", "/dev/zero"})
		st, statErr := os.Stat(name)
		if err := errors.Join(err, statErr); err != nil || u.Bytes != 100_000 || st.Size() != u.Bytes {
			t.Errorf("%+v, %v", u, err)
		}
	}
	_, err = pipeline(ctx, "", discard, []string{"sh", "-c", "echo because >&2; exit 5"}, []string{"cat"})
	if exit, ok := errors.AsType[*exec.ExitError](err); !ok || exit.ExitCode() != 5 || !strings.Contains(err.Error(), "because") {
		t.Errorf("%v", err)
	}
	if _, err := pipeline(ctx, "", discard, []string{"no-such-program"}); err == nil {
		t.Error("a program that is not there was run")
	}
	full := func(context.Context, *os.File) (int64, error) { return 0, errors.New("full") }
	if _, err := pipeline(ctx, "", full, []string{"cat", "/dev/zero"}); err == nil || !strings.Contains(err.Error(), "full") {
		t.Errorf("%v", err)
	}
}

// TestReaderIsNotCounted has a program that does little write to a reader that
// does much.
func TestReaderIsNotCounted(t *testing.T) {
	busy := func(ctx context.Context, pipe *os.File) (int64, error) {
		for began := time.Now(); time.Since(began) < 300*time.Millisecond; {
		}
		return discard(ctx, pipe)
	}
	u, err := pipeline(t.Context(), "", busy, []string{"echo"})
	if err != nil || u.CPU > 150*time.Millisecond || u.Wall < 300*time.Millisecond {
		t.Errorf("%+v, %v", u, err)
	}
}

func TestOfProcess(t *testing.T) {
	u, err := ofProcess(os.Getpid())
	if err != nil || u.Peak < 1<<20 {
		t.Errorf("%+v, %v", u, err)
	}
}
