// Command testsum reads the events of "go test -json" from standard input,
// prints the result of each package and the output of what failed, and ends with
// one line that counts. It exits 1 if a test or package failed, and also if a
// test was skipped, for whatever reason: scripts/test brings all servers and
// programs, so a skip would be a hole. The events may be of several runs: a test
// that one left to another must have been in that.
package main

import (
	"bufio"
	"encoding/json"
	"fmt"
	"os"
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

type summary struct {
	output         map[string]*strings.Builder // by package and test
	failedIn       map[string]bool             // packages with a failed test
	passed, failed int
	holes          []string
	heavy          map[string]bool // tests that were left to another run
	done           map[string]bool // tests that passed
}

func main() {
	s := summary{output: map[string]*strings.Builder{}, failedIn: map[string]bool{}, heavy: map[string]bool{}, done: map[string]bool{}}
	in := bufio.NewScanner(os.Stdin)
	in.Buffer(make([]byte, 64<<10), maxLine)
	for in.Scan() {
		var e event
		if err := json.Unmarshal(in.Bytes(), &e); err != nil {
			fmt.Println(in.Text()) // go's own messages are no events
			continue
		}
		s.add(e)
	}
	if err := in.Err(); err != nil {
		fmt.Fprintln(os.Stderr, "testsum:", err)
		os.Exit(1)
	}
	os.Exit(s.finish())
}

func (s *summary) add(e event) {
	key := e.Package + " " + e.Test
	switch e.Action {
	case "build-output":
		fmt.Print(e.Output)
	case "output":
		if s.output[key] == nil {
			s.output[key] = &strings.Builder{}
		}
		s.output[key].WriteString(e.Output)
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
			fmt.Printf("--- %s\n%s", key, o)
		}
	}
}

func (s *summary) addPackage(e event, key string) {
	if e.Action == "skip" {
		return // it has no tests
	}
	fmt.Printf("%-4s %s (%.1fs)\n", e.Action, e.Package, e.Elapsed)
	if e.Action != "fail" {
		return
	}
	if o := s.output[key]; o != nil {
		fmt.Print(o)
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
			fmt.Printf("--- %s\n%s", key, o)
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
		fmt.Println("not run:", h)
	}
	failed := s.failed + len(s.holes)
	fmt.Printf("%d passed, %d failed\n", s.passed, failed)
	if failed > 0 || s.passed == 0 {
		return 1
	}
	return 0
}
