package terminal

import (
	"errors"
	"io"
	"log/slog"
	"strings"
	"testing"
)

func TestReport(t *testing.T) {
	for _, test := range []struct {
		quiet, json bool
		want        string
	}{
		{false, false, "ok       this: fine\nwarning  that: see to it\nFAIL     other: run\n    GRANT it?;\n"},
		{true, false, "warning  that: see to it\nFAIL     other: run\n    GRANT it?;\n"},
		{true, true, `"level":"WARN","msg":"see to it","event":"finding","check":"that","result":"warning"}` + "\n" +
			`"level":"ERROR","msg":"run\nGRANT it\u001b;","event":"finding","check":"other","result":"FAIL","exit_code":3}` + "\n"},
	} {
		var out strings.Builder
		c := New(io.Discard, nil)
		c.Set(test.quiet, test.json)
		r := c.Report(&out)
		err := errors.Join(r.Add(slog.LevelInfo, "this", "fine"), r.Add(slog.LevelWarn, "that", "see to it"),
			r.Add(slog.LevelError, "other", "run\nGRANT it\x1b;", slog.Int("exit_code", 3)))
		got := out.String()
		if test.json { // without times
			var lines []string
			for line := range strings.Lines(got) {
				_, rest, _ := strings.Cut(line, ",")
				lines = append(lines, rest)
			}
			got = strings.Join(lines, "")
		}
		if got != test.want || err != nil {
			t.Errorf("%+v: %q, %v", test, got, err)
		}
	}
}

type broken struct{ error }

func (b broken) Write([]byte) (int, error) { return 0, b.error }

// TestReportBroken: what cannot be written is an error, in either format, and
// stays one.
func TestReportBroken(t *testing.T) {
	for _, json := range []bool{false, true} {
		c := New(io.Discard, nil)
		c.Set(true, json)
		r := c.Report(broken{io.ErrClosedPipe})
		if err := r.Add(slog.LevelWarn, "this", "text"); !errors.Is(err, io.ErrClosedPipe) {
			t.Errorf("json %v: %v", json, err)
		}
		if err := r.Add(slog.LevelInfo, "this", "is not told"); !errors.Is(err, io.ErrClosedPipe) {
			t.Errorf("json %v: later %v", json, err)
		}
	}
}
