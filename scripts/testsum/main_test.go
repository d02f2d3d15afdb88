package main

import (
	"strings"
	"testing"
)

// TestRaceReport: what the race detector reports is printed, although the test
// that it is put down to has passed. (So it was with two tests at a
// time, of which the other one failed.)
func TestRaceReport(t *testing.T) {
	events := `{"Action":"output","Package":"p","Test":"TestA","Output":"==================\n"}
{"Action":"output","Package":"p","Test":"TestA","Output":"WARNING: DATA RACE\n"}
{"Action":"output","Package":"p","Test":"TestB","Output":"Write at 0x1 by goroutine 7:\n"}
{"Action":"output","Package":"p","Test":"TestA","Output":"==================\n"}
{"Action":"output","Package":"p","Test":"TestA","Output":"said by a test that passes\n"}
{"Action":"pass","Package":"p","Test":"TestA"}
{"Action":"output","Package":"p","Test":"TestB","Output":"    testing.go:1: race detected during execution of test\n"}
{"Action":"fail","Package":"p","Test":"TestB"}
{"Action":"fail","Package":"p"}
`
	var out strings.Builder
	if code := run(strings.NewReader(events), &out); code != 1 {
		t.Errorf("exit code %d", code)
	}
	for _, want := range []string{"WARNING: DATA RACE\nWrite at 0x1 by goroutine 7:\n", "race detected during", "1 passed, 1 failed\n"} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("no %q in\n%s", want, out.String())
		}
	}
	if strings.Contains(out.String(), "said by") {
		t.Errorf("too much:\n%s", out.String())
	}
}
