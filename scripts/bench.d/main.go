//go:build linux

// Command bench.d is the body of scripts/bench: it measures hb against its peers,
// in turns, on servers of its own.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"slices"
	"strings"
	"syscall"

	"hb/scripts/bench.d/plot"
	"hb/stream"
)

// options are those of the command line.
type options struct {
	hb      string
	dir     string // for all files
	size    int64  // of the data, bytes
	runs    int
	tables  int      // that the contest of many tables ends with
	only    []string // names of contests; none: all
	out     string   // where the report goes, without .md and .svg
	command string   // for the report: what the user typed
}

// names are those of the contests, in the order in which they are held.
var names = []string{
	"empty", "backup", "compress", "encrypt", "extract", "extract-compressed", "apply", "extract-apply",
	"increment", "merge", "one-table", "table-back", "load", "overrun", "mysql-backup", "mysql-apply", "tracking", "encrypted-backup", "encrypted-apply", "growth-data", "growth-tables",
}

// bench is one run of the benchmark.
type bench struct {
	options
	held   []*contest
	failed []error
}

func main() {
	var b bench
	if err := b.parse(); err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(2)
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := b.all(ctx); err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

func (b *bench) parse() error {
	dataSize := stream.Size(2 << 30)
	flag.StringVar(&b.hb, "hb", "", "the hb `program`")
	flag.StringVar(&b.dir, "dir", "", "an empty `directory` for all files")
	flag.StringVar(&b.command, "command", "scripts/bench", "the command `line`, for the report")
	flag.TextVar(&dataSize, "size", dataSize, "how much data each server has; growth ends with four times as much")
	flag.IntVar(&b.runs, "runs", 5, "how often each command runs")
	flag.IntVar(&b.tables, "tables", 10_000, "how many tables growth ends with")
	only := flag.String("only", "", "measure these contests alone, by `name`, with commas between: "+strings.Join(names, ", "))
	small := flag.Bool("small", false, "only see that all works: little data, one run")
	flag.StringVar(&b.out, "out", "", "write the report to `file`.md and file.svg too")
	flag.Parse()
	b.size = int64(dataSize)
	if *small {
		b.size, b.runs, b.tables = 64<<20, 1, 1000
	}
	if *only != "" {
		b.only = strings.Split(*only, ",")
	}
	for _, n := range b.only {
		if !slices.Contains(names, n) {
			return fmt.Errorf("there is no contest %q; there are %s", n, strings.Join(names, ", "))
		}
	}
	if flag.NArg() > 0 || b.runs < 1 || b.size < 16<<20 || b.tables < 100 {
		return errors.New("want no arguments but flags, a run or more, 16 MiB or more and 100 tables or more (--help shows all)")
	}
	if b.out == "" {
		return nil
	}
	return os.MkdirAll(filepath.Dir(b.out), 0o755) // now, not when all is measured
}

// all holds all contests and writes the report, of what could be measured.
func (b *bench) all(ctx context.Context) error {
	b.parts(ctx, b.mariadb, b.mysql, b.encrypted, b.growth)
	text, err := b.markdown(ctx)
	if err != nil {
		return errors.Join(b.err(), err)
	}
	fmt.Print(text)
	if b.out != "" {
		err = errors.Join(
			os.WriteFile(b.out+".md", []byte(text), 0o644),
			os.WriteFile(b.out+".svg", []byte(plot.SVG(plotted(b.held))), 0o644))
	}
	return errors.Join(b.err(), err)
}

// wants reports whether one of the contests is to be held.
func (o *options) wants(names ...string) bool {
	return len(o.only) == 0 || slices.ContainsFunc(names, func(n string) bool { return slices.Contains(o.only, n) })
}
