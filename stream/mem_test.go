//go:build !race

package stream

import (
	"bytes"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"testing"

	"hb/stream/zstdstage"
)

// The race detector's own memory would be measured too; hence the build
// constraint.

// countSink counts.
type countSink struct{ n int64 }

func (s *countSink) Write(p []byte) (int, error) { s.n += int64(len(p)); return len(p), nil }

// TestCompressorMemory measures, in a process of its own, what the zstd stage
// adds to the resident size, for each strength and for as many workers as a
// large machine has.
func TestCompressorMemory(t *testing.T) {
	if spec := os.Getenv("HB_TEST_COMPRESSOR"); spec != "" {
		measureCompressor(t, spec)
		return
	}
	specs := []string{"1 2", "3 16", "7 32", "19 32"}
	if testing.Short() {
		specs = specs[:1]
	}
	if all := os.Getenv("HB_TEST_COMPRESSOR_ALL"); all != "" {
		specs = strings.Split(all, ",")
	}
	for _, spec := range specs {
		cmd := exec.Command(os.Args[0], "-test.run=^TestCompressorMemory$", "-test.v")
		cmd.Env = append(os.Environ(), "HB_TEST_COMPRESSOR="+spec)
		out, err := cmd.CombinedOutput()
		if err != nil {
			t.Fatalf("%s: %v\n%s", spec, err, out)
		}
		_, after, ok := strings.Cut(string(out), "PEAK ")
		if !ok {
			t.Fatalf("%s: no figure in\n%s", spec, out)
		}
		figure, rest, _ := strings.Cut(after, " ")
		kib, err := strconv.ParseInt(figure, 10, 64)
		if err != nil {
			t.Fatal(err)
		}
		t.Logf("level and threads %s: %d MiB; %s", spec, kib>>10, strings.SplitN(rest, "\n", 2)[0])
		if kib<<10 > zstdstage.CompressorMemory {
			t.Errorf("level and threads %s: %d MiB, more than %d", spec, kib>>10, zstdstage.CompressorMemory>>20)
		}
	}
}

func measureCompressor(t *testing.T, spec string) {
	var c Compression
	if _, err := fmt.Sscan(spec, &c.Level, &c.Threads); err != nil {
		t.Fatal(err)
	}
	data := pages(32<<20, 7)
	before := peakKiB(t)
	var sink countSink
	enc, err := zstdstage.NewEncoder(&sink, c)
	if err != nil {
		t.Fatal(err)
	}
	rounds := 16
	if c.Level > 5 {
		rounds = 8
	}
	for range rounds {
		if _, err := enc.Write(data); err != nil {
			t.Fatal(err)
		}
	}
	if err := enc.Close(); err != nil {
		t.Fatal(err)
	}
	fmt.Printf("PEAK %d KiB, ratio %.2f\n", peakKiB(t)-before, float64(rounds*len(data))/float64(sink.n))
}

// peakKiB returns the largest resident size the process has had.
func peakKiB(t *testing.T) int64 {
	status, err := os.ReadFile("/proc/self/status")
	if err != nil {
		t.Fatal(err)
	}
	_, after, ok := bytes.Cut(status, []byte("VmHWM:"))
	if !ok {
		t.Fatal("no VmHWM in /proc/self/status")
	}
	var kib int64
	if _, err := fmt.Fscan(bytes.NewReader(after), &kib); err != nil && err != io.EOF {
		t.Fatal(err)
	}
	return kib
}
