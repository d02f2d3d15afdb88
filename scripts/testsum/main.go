// Command testsum reads the events of "go test -json" from standard input, prints the
// result of each package, the output of what failed, and which tests took longest, and
// ends with one line that counts. It exits 1 if a test or package failed, and also if a
// test was skipped, for whatever reason: scripts/test brings all servers and programs,
// so a skip would be a hole. The events may be of several runs: a test that one left to
// another must have been in that.
package main

import (
	"bufio"
	"cmp"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"

	"hb/source/mysqld/mysqldtest"
)

// event is one line of "go test -json" (see go doc test2json).
type event struct {
	Action     string
	Package    string
	ImportPath string
	Test       string
	Output     string
	Elapsed    float64
}

// maxLine bounds one event; a test's output comes line by line.
const maxLine = 16 << 20

// The race detector writes its reports to standard error between lines of these.
// "go test" puts them down to the test that was named last, of those that run at
// the same time, and fails others with "race detected during execution of test".
const (
	raceMark = "WARNING: DATA RACE"
	raceRule = "=================="
)

type summary struct {
	out            io.Writer
	output         map[string]*strings.Builder // by package and test
	races          map[string]*strings.Builder // reports, by package
	racing         map[string]bool             // packages in the midst of a report
	failedIn       map[string]bool             // packages with a failed test
	passed, failed int
	holes          []string
	heavy          map[string]bool // tests that were left to another run
	done           map[string]bool // tests that passed
	took           []took
}

// took is how long a test took, with its subtests.
type took struct {
	seconds float64
	test    string
}

// slowest is how many tests are named for the time that they take.
const slowest = 20

func main() { os.Exit(run(os.Stdin, os.Stdout)) }

// run reads events and prints the summary. It returns the exit code.
func run(events io.Reader, out io.Writer) int {
	s := summary{
		out: out, output: map[string]*strings.Builder{}, races: map[string]*strings.Builder{}, racing: map[string]bool{},
		failedIn: map[string]bool{}, heavy: map[string]bool{}, done: map[string]bool{},
	}
	in := bufio.NewScanner(events)
	in.Buffer(make([]byte, 64<<10), maxLine)
	for in.Scan() {
		var e event
		if err := json.Unmarshal(in.Bytes(), &e); err != nil {
			fmt.Fprintln(out, in.Text()) // go's own messages are not events
			continue
		}
		s.add(e)
	}
	if err := in.Err(); err != nil {
		fmt.Fprintln(os.Stderr, "testsum:", err)
		return 1
	}
	return s.finish()
}

// race keeps what belongs to a report of the race detector, whichever test it is
// put down to, and whether that passes or not.
func (s *summary) race(pkg, line string) {
	switch {
	case strings.Contains(line, raceMark):
		s.racing[pkg] = true
	case s.racing[pkg] && strings.Contains(line, raceRule):
		s.racing[pkg] = false
	}
	if s.racing[pkg] {
		if s.races[pkg] == nil {
			s.races[pkg] = &strings.Builder{}
		}
		s.races[pkg].WriteString(line)
	}
}

func (s *summary) add(e event) {
	key := e.Package + " " + e.Test
	switch e.Action {
	case "build-output":
		fmt.Fprint(s.out, e.Output)
	case "output":
		if s.output[key] == nil {
			s.output[key] = &strings.Builder{}
		}
		s.output[key].WriteString(e.Output)
		s.race(e.Package, e.Output)
		if strings.Contains(e.Output, mysqldtest.SkipMark) {
			s.holes = append(s.holes, key+": "+strings.TrimSpace(e.Output))
		}
		if strings.Contains(e.Output, mysqldtest.HeavyMark) {
			s.heavy[key] = true
		}
	case "pass", "fail", "skip":
		if e.Test == "" {
			s.addPackage(e, key)
		} else {
			s.addTest(e, key)
		}
		delete(s.output, key)
	}
}

func (s *summary) addTest(e event, key string) {
	if !strings.Contains(e.Test, "/") {
		s.took = append(s.took, took{e.Elapsed, key})
	}
	switch e.Action {
	case "pass":
		s.passed++
		s.done[key] = true
	case "skip":
		o := s.output[key]
		if !s.heavy[key] && (o == nil || !strings.Contains(o.String(), mysqldtest.SkipMark)) { // those are noted
			s.holes = append(s.holes, key+": skipped, and does not say why with "+mysqldtest.SkipMark)
		}
	case "fail":
		s.failed++
		s.failedIn[e.Package] = true
		if o := s.output[key]; o != nil {
			fmt.Fprintf(s.out, "--- %s\n%s", key, o)
		}
	}
}

func (s *summary) addPackage(e event, key string) {
	if e.Action == "skip" {
		return // it has no tests
	}
	fmt.Fprintf(s.out, "%-4s %s (%.1fs)\n", e.Action, e.Package, e.Elapsed)
	if r := s.races[e.Package]; r != nil {
		fmt.Fprintf(s.out, "--- races in %s\n%s", e.Package, r)
		delete(s.races, e.Package)
	}
	if e.Action != "fail" {
		return
	}
	if o := s.output[key]; o != nil {
		fmt.Fprint(s.out, o)
	}
	if !s.failedIn[e.Package] { // it did not build, or ended outside its tests
		s.failed++
		s.printUnended(e.Package)
	}
}

// printUnended prints the output of tests that have no result, as after a panic.
func (s *summary) printUnended(pkg string) {
	for key, o := range s.output {
		if strings.HasPrefix(key, pkg+" ") && key != pkg+" " {
			fmt.Fprintf(s.out, "--- %s\n%s", key, o)
		}
	}
}

func (s *summary) finish() int {
	for key := range s.heavy {
		if !s.done[key] {
			s.holes = append(s.holes, key+": left to a run that did not pass it")
		}
	}
	for _, h := range s.holes {
		fmt.Fprintln(s.out, "not run:", h)
	}
	slices.SortFunc(s.took, func(a, b took) int { return cmp.Compare(b.seconds, a.seconds) })
	for _, t := range s.took[:min(slowest, len(s.took))] {
		fmt.Fprintf(s.out, "took %.1fs: %s\n", t.seconds, t.test)
	}
	failed := s.failed + len(s.holes)
	fmt.Fprintf(s.out, "%d passed, %d failed\n", s.passed, failed)
	if failed > 0 || s.passed == 0 {
		return 1
	}
	return 0
}
