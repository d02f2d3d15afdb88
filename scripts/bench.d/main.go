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
	"slices"
	"strings"
	"syscall"

	"hb/stream"
)

// options are those of the command line.
type options struct {
	hb   string
	dir  string // for all files
	size int64  // of the data, bytes
	runs int
	only []string // names of contests; none: all
	out  string   // where the report goes, without .md and .svg
}

func main() {
	var o options
	size := stream.Size(2 << 30)
	flag.StringVar(&o.hb, "hb", "", "the hb `program`")
	flag.StringVar(&o.dir, "dir", "", "an empty `directory` for all files")
	flag.TextVar(&size, "size", size, "how much data each server has")
	flag.IntVar(&o.runs, "runs", 5, "how often each command runs")
	only := flag.String("only", "", "measure these contests alone, by `name`, with commas between")
	flag.StringVar(&o.out, "out", "", "write the report to `file`.md and file.svg too")
	flag.Parse()
	o.size = int64(size)
	if *only != "" {
		o.only = strings.Split(*only, ",")
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := bench(ctx, &o); err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

func bench(ctx context.Context, o *options) error {
	var all []*contest
	for _, part := range []func(context.Context, *options) ([]*contest, error){mariadbContests, mysqlContests} {
		done, err := part(ctx, o)
		if err != nil {
			return err
		}
		all = append(all, done...)
	}
	text := markdown(o, all)
	fmt.Print(text)
	if o.out == "" {
		return nil
	}
	return errors.Join(
		os.WriteFile(o.out+".md", []byte(text), 0o644),
		os.WriteFile(o.out+".svg", []byte(plot(all)), 0o644))
}

// contest is one job done by hb and by others, in turns.
type contest struct {
	name  string // for --only
	title string
	bars  []bar
	sides []*side // hb's is the first
}

// bar is what hb's figure may at most be, as a ratio to a peer's.
type bar struct {
	peer   int // index in sides
	figure figure
	most   float64
}

// figure is one of those that a run gives.
type figure struct {
	name string
	of   func(usage) float64
}

var (
	wall = figure{"time", func(u usage) float64 { return u.Wall.Seconds() }}
	cpu  = figure{"CPU", func(u usage) float64 { return u.CPU.Seconds() }}
)

// side is one way to do the job.
type side struct {
	name    string
	prepare func(ctx context.Context) error // not measured; may be nil
	run     func(ctx context.Context) (usage, error)
	runs    []usage
}

// hold holds a contest: all sides once to warm up, and then in turns.
func (o *options) hold(ctx context.Context, c *contest) error {
	fmt.Fprintf(os.Stderr, "bench: %s\n", c.title)
	for round := range o.runs + 1 {
		for _, s := range c.sides {
			if s.prepare != nil {
				if err := s.prepare(ctx); err != nil {
					return fmt.Errorf("%s, %s: %w", c.name, s.name, err)
				}
			}
			u, err := s.run(ctx)
			if err != nil {
				return fmt.Errorf("%s, %s: %w", c.name, s.name, err)
			}
			if round > 0 {
				s.runs = append(s.runs, u)
			}
		}
	}
	for _, s := range c.sides {
		m := medians(s.runs)
		fmt.Fprintf(os.Stderr, "bench:   %-60s %s, CPU %s, peak %s\n", s.name, seconds(m.Wall), seconds(m.CPU), mib(m.Peak))
	}
	return nil
}

// holdAll holds those of the contests that were asked for.
func (o *options) holdAll(ctx context.Context, contests ...*contest) (held []*contest, err error) {
	for _, c := range contests {
		if !o.wants(c.name) {
			continue
		}
		if err := o.hold(ctx, c); err != nil {
			return nil, err
		}
		held = append(held, c)
	}
	return held, nil
}

func (o *options) wants(names ...string) bool {
	return len(o.only) == 0 || slices.ContainsFunc(names, func(n string) bool { return slices.Contains(o.only, n) })
}
