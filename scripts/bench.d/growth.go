//go:build linux

package main

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"path/filepath"
	"slices"

	"hb/source/mysqld/mysqldtest"
	"hb/stream"
)

// growing is the section of what becomes of time and memory with more to do.
var growing = &section{
	title:   "Growth",
	columns: []figure{wall, cpu, peak, size},
	text: fmt.Sprintf("No step should be worse than linear: time and memory for each GiB, or for each table, are compared with those of the step before, "+
		"and a tenth more is taken for noise. Where there are many tables, hb may have no more than %d files open.", openFiles),
}

const (
	// linear is what a step may take for each unit, as a ratio to the step before.
	linear = 1.1
	// openFiles is how many files hb may have open where there are many tables.
	openFiles = 1024
	// makers is how many connections make tables.
	makers = 4
	// growthRuns is how often each step runs at most: the last ones are long.
	growthRuns = 3
)

// grower is a server that gets more and more to back up.
type grower struct {
	*bench
	dir     string
	options mysqldtest.Options
	server  *mysqldtest.Server
	large   bool // there is no room for what several runs unpack
}

// step makes as much to do as units says.
type step struct {
	name  string
	units float64
	unit  string
	grow  func(ctx context.Context) error
}

// growth measures how time and memory of hb grow with the data, and with the
// number of tables.
func (b *bench) growth(ctx context.Context) error {
	b.parts(ctx,
		func(ctx context.Context) error {
			return b.grow(ctx, "growth-data", "with twice the data each time", (*grower).data, nil)
		},
		func(ctx context.Context) error {
			// Its hard limit too, since Go's runtime raises the soft one to that.
			limit := []string{"sh", "-c", fmt.Sprintf(`ulimit -n %d && exec "$@"`, openFiles), "sh"}
			return b.grow(ctx, "growth-tables", "with ten times the tables each time", (*grower).many, limit)
		})
	return nil
}

// grow takes a new server through steps, and measures hb, started by launcher,
// after each.
func (b *bench) grow(ctx context.Context, name, how string, steps func(*grower) []step, launcher []string) (err error) {
	if !b.wants(name) {
		return nil
	}
	root, err := mysqldtest.Installed(mysqldtest.MariaDB1011)
	if err != nil {
		return err
	}
	g := &grower{bench: b, dir: filepath.Join(b.dir, name)}
	defer removeAll(g.dir)
	// A small pool has the server write early, and leaves the cache to the files.
	g.options = mysqldtest.Options{Dir: g.dir, Config: []string{"innodb-buffer-pool-size=512M", "innodb-log-file-size=1G",
		"innodb-doublewrite=OFF", "innodb-flush-log-at-trx-commit=2"}}
	if g.server, err = mysqldtest.Launch(ctx, root, g.options); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, g.server.Kill()) }()
	if _, err := g.server.DB().ExecContext(ctx, "CREATE DATABASE bench"); err != nil {
		return err
	}
	return g.walk(ctx, name, how, steps(g), launcher)
}

// walk takes the steps. There are two contests, of hb with itself.
func (g *grower) walk(ctx context.Context, name, how string, steps []step, launcher []string) error {
	to := filepath.Join(g.dir, "to")
	if err := emptyDir(to); err != nil {
		return err
	}
	backup := &contest{name: name, title: "back up, " + how, section: growing, warm: true}
	extract := &contest{name: name, title: "back up into hb extract, " + how, section: growing}
	for _, s := range steps {
		say("growing to %s", s.name)
		err := s.grow(ctx)
		if err == nil {
			g.server, err = restart(ctx, g.server, g.options)
		}
		if err != nil {
			return err
		}
		from := slices.Concat(launcher, g.hbBackup(g.server))
		backup.step(s, into(s.name, from))
		extract.step(s, g.unpacking(s.name, to, from, launcher))
		for _, c := range []*contest{backup, extract} {
			say("%s", c.title)
			if err := g.turns(ctx, c, min(g.runs, growthRuns), c.sides[len(c.sides)-1]); err != nil {
				return err
			}
		}
	}
	g.held = append(g.held, backup, extract)
	return nil
}

// unpacking is a side that unpacks a backup into a new directory in to. What others
// left there is removed before only where there is little room for more: ext4 does not
// take inodes that were deleted in the last half minute, and where those are many
// thousand it searches for others much longer than hb takes for all the rest
// (recently_deleted in fs/ext4/ialloc.c; no restore begins so).
func (g *grower) unpacking(name, to string, from, launcher []string) *side {
	runs := 0
	return &side{name: name,
		prepare: func(context.Context) error {
			if g.large {
				return emptyDir(to)
			}
			return syncDir(to)
		},
		run: func(ctx context.Context) (usage, error) {
			runs++
			dir := filepath.Join(to, fmt.Sprintf("%s %d", name, runs))
			return pipeline(ctx, "", discard, from, slices.Concat(launcher, []string{g.hb, "extract", "--quiet", "-C", dir}))
		}}
}

// step adds a side that does what a step left to do.
func (c *contest) step(to step, s *side) {
	do := s.run
	s.run = func(ctx context.Context) (usage, error) {
		u, err := do(ctx)
		u.Units = to.units
		return u, err
	}
	if last := len(c.sides); last > 0 {
		for _, f := range []figure{wall, peak} {
			c.bars = append(c.bars, bar{figure: perUnit(f, to.unit), side: last, peer: last - 1, limit: linear})
		}
	}
	c.sides = append(c.sides, s)
}

// data grows what the tables hold: half of the size at first, and then twice as
// much each time.
func (g *grower) data() (steps []step) {
	g.large = true
	have := int64(0)
	for n := g.size / 2; n <= 4*g.size; n *= 2 {
		number, more := len(steps), n-have
		have = n
		steps = append(steps, step{stream.Size(n).String(), float64(n) / (1 << 30), "GiB", func(ctx context.Context) error {
			return eachTable(func(table string) error {
				return fillWide(ctx, g.server.DB(), fmt.Sprintf("%s_%d", table, number), more/tables)
			})
		}})
	}
	return steps
}

// fillWide makes a table of so many bytes in long rows, which is fast.
func fillWide(ctx context.Context, db *sql.DB, table string, bytes int64) error {
	const (
		perRow = 8 << 10 // bytes: half of a page
		most   = 4096    // rows of one statement
	)
	_, err := db.ExecContext(ctx, "CREATE TABLE "+table+" (id BIGINT NOT NULL PRIMARY KEY AUTO_INCREMENT, c VARBINARY(7900) NOT NULL) ENGINE=InnoDB")
	for rows := bytes / perRow; err == nil && rows > 0; rows -= most {
		_, err = db.ExecContext(ctx, fmt.Sprintf("INSERT INTO %s (c) SELECT REPEAT(SHA2(RAND(), 256), 123) FROM bench.seq_1_to_%d", table, min(rows, most)))
	}
	return err
}

// many grows the number of tables, ten times each time.
func (g *grower) many() (steps []step) {
	have := 0
	for _, n := range []int{g.tables / 100, g.tables / 10, g.tables} {
		from := have
		have = n
		steps = append(steps, step{fmt.Sprintf("%d tables", n), float64(n), "table", func(ctx context.Context) error {
			return inParallel(makers, func(i int) error {
				for k := from + i; k < n; k += makers {
					q := fmt.Sprintf("CREATE TABLE bench.small%d (id INT NOT NULL PRIMARY KEY, c VARCHAR(100)) ENGINE=InnoDB SELECT 1 AS id, 'one' AS c", k)
					if _, err := g.server.DB().ExecContext(ctx, q); err != nil {
						return err
					}
				}
				return nil
			})
		}})
	}
	return steps
}
