package terminal

import (
	"fmt"
	"io"
	"log/slog"
	"strings"
)

// Report is a list of findings, for a person or a program, in the format of a
// Console's messages. It is what its command is asked for, so that it goes to
// standard output, and what cannot be written is an error.
type Report struct {
	w       io.Writer
	least   slog.Level   // what is told
	json    *slog.Logger // nil: lines of text
	written error        // the first error
}

// Report begins a report on w. A quiet Console's has no findings that are good.
func (c *Console) Report(w io.Writer) *Report {
	r := &Report{w: w}
	if c.quiet {
		r.least = slog.LevelWarn
	}
	if c.json != nil {
		r.json = slog.New(slog.NewJSONHandler(r, nil))
	}
	return r
}

// verdicts are what levels say in a report.
var verdicts = map[slog.Level]string{slog.LevelInfo: "ok", slog.LevelWarn: "warning", slog.LevelError: "FAIL"}

// Add adds a finding about a subject. Lines of text after the first stand for
// themselves, to be copied. It returns the first error of writing.
func (r *Report) Add(level slog.Level, subject, text string, facts ...slog.Attr) error {
	switch {
	case level < r.least:
	case r.json != nil:
		facts = append([]slog.Attr{slog.String("check", subject), slog.String("result", verdicts[level])}, facts...)
		log(r.json, message{eventFinding, level, text, facts})
	default:
		const indent = "\n    "
		fmt.Fprintf(r, "%-7s  %s: %s\n", verdicts[level], printable(subject), strings.ReplaceAll(printable(text), "\n", indent))
	}
	return r.written
}

// Write is for the logger, whose errors nobody sees.
func (r *Report) Write(p []byte) (int, error) {
	n, err := r.w.Write(p)
	if r.written == nil && err != nil {
		r.written = fmt.Errorf("writing the report: %w", err)
	}
	return n, err
}
