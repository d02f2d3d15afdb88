package oracle

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"hb/scripts/torture.d/load"
	"hb/source/mysqld/mysqldtest"
)

// CountCommits compares position and data of a copy s in dir: the source itself says how many rows
// its binary logs insert into the table commits up to the recorded position,
// and which transactions they hold; the copy says how many rows it has.
func CountCommits(ctx context.Context, source, s *mysqldtest.Server, dir, commits string) error {
	at, err := mysqldtest.RecordedPosition(dir)
	if err != nil {
		return err
	}
	inserted, gtids, err := binlogUpTo(ctx, source, at, commits)
	if err != nil {
		return err
	}
	have, err := load.Row(ctx, s.DB(), "SELECT COUNT(*) FROM "+commits)
	if err != nil {
		return err
	}
	if want := fmt.Sprint([]int{inserted}); have != want {
		return fmt.Errorf("the recorded position %s %d is not that of the data: the binary logs insert %s rows up to there, and the copy has %s", at.File, at.Pos, want, have)
	}
	if err := sameGTIDs(ctx, source, at, gtids); err != nil || source.Root.Name != mysqldtest.MySQL97 {
		return err
	}
	return executedGTIDs(ctx, source, s, at)
}

// binlogUpTo reads the source's binary logs up to a position: the rows inserted
// into the table of commits, and on MySQL the GTIDs.
func binlogUpTo(ctx context.Context, source *mysqldtest.Server, at mysqldtest.Position, commits string) (rows int, gtids []string, err error) {
	files, err := load.Table(ctx, source.DB(), "SHOW BINARY LOGS")
	if err != nil {
		return 0, nil, err
	}
	last := slices.IndexFunc(files, func(f []string) bool { return f[0] == at.File })
	if last < 0 {
		return 0, nil, fmt.Errorf("the recorded position is in %s, and the source has %v", at.File, files)
	}
	for i, f := range files[:last+1] {
		events, err := load.Table(ctx, source.DB(), "SHOW BINLOG EVENTS IN '"+f[0]+"'")
		if err != nil {
			return 0, nil, err
		}
		for _, e := range events { // Log_name, Pos, Event_type, Server_id, End_log_pos, Info
			end, err := strconv.ParseUint(e[4], 10, 64)
			if err != nil {
				return 0, nil, err
			}
			if i == last && end > at.Pos {
				break
			}
			switch {
			case e[2] == "Table_map" && strings.Contains(e[5], "("+commits+")"):
				rows++
			case e[2] == "Previous_gtids" && i == 0 && e[5] != "":
				gtids = append(gtids, e[5])
			case strings.Contains(e[5], "GTID_NEXT= '"):
				_, g, _ := strings.Cut(e[5], "GTID_NEXT= '")
				g, _, _ = strings.Cut(g, "'")
				if strings.Contains(g, ":") {
					gtids = append(gtids, g)
				}
			}
		}
	}
	return rows, gtids, nil
}

// executedGTIDs demands that the copy knows which of the source's transactions it
// has: those recorded, and of the source no other.
func executedGTIDs(ctx context.Context, source, s *mysqldtest.Server, at mysqldtest.Position) error {
	id, err := load.Table(ctx, source.DB(), "SELECT @@server_uuid")
	if err != nil {
		return err
	}
	got, err := load.Table(ctx, s.DB(), fmt.Sprintf("SELECT GTID_SUBTRACT('%s', @@global.gtid_executed), GTID_SUBTRACT(@@global.gtid_executed, '%s')", at.GTID, at.GTID))
	if err != nil {
		return err
	}
	if got[0][0] != "" || strings.Contains(got[0][1], id[0][0]) {
		return fmt.Errorf("gtid_executed of the copy is not what is recorded: it lacks %q, and has %q too many", got[0][0], got[0][1])
	}
	return nil
}

// sameGTIDs compares the recorded GTIDs with those of the binary logs up to the
// recorded position. The server does the arithmetic.
func sameGTIDs(ctx context.Context, source *mysqldtest.Server, at mysqldtest.Position, gtids []string) error {
	if source.Root.MariaDB() {
		got, err := load.Table(ctx, source.DB(), fmt.Sprintf("SELECT BINLOG_GTID_POS('%s', %d)", at.File, at.Pos))
		if err != nil {
			return err
		}
		if got[0][0] != at.GTID {
			return fmt.Errorf("the recorded GTID is %q, and that of %s %d is %q", at.GTID, at.File, at.Pos, got[0][0])
		}
		return nil
	}
	want := foldGTIDs(gtids)
	got, err := load.Table(ctx, source.DB(), fmt.Sprintf("SELECT GTID_SUBTRACT('%s', '%s'), GTID_SUBTRACT('%s', '%s')", want, at.GTID, at.GTID, want))
	if err != nil {
		return err
	}
	if got[0][0] != "" || got[0][1] != "" {
		return fmt.Errorf("the recorded GTIDs are not those up to %s %d: they lack %q and have %q too many", at.File, at.Pos, got[0][0], got[0][1])
	}
	return nil
}

// foldGTIDs writes a GTID set in few bytes: one for each transaction would be a longer
// statement than a small max_allowed_packet takes. Transactions that follow each other
// in the binary logs mostly have numbers that do, too.
func foldGTIDs(gtids []string) string {
	var out []string
	var source string
	var first, last int
	flush := func() {
		if source != "" {
			out = append(out, fmt.Sprintf("%s:%d-%d", source, first, last))
		}
		source = ""
	}
	for _, g := range gtids {
		before, number, _ := strings.Cut(g, ":")
		n, err := strconv.Atoi(number)
		if err != nil { // a set, with ranges or tags
			flush()
			out = append(out, strings.ReplaceAll(g, "\n", ""))
			continue
		}
		if before != source || n != last+1 {
			flush()
			source, first = before, n
		}
		last = n
	}
	flush()
	return strings.Join(out, ",")
}
