package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/go-sql-driver/mysql"

	"hb/scripts/torture.d/damage"
	"hb/scripts/torture.d/load"
	"hb/scripts/torture.d/load/rows"
	"hb/source/mysqld/mysqldtest"
)

// A fault is what goes wrong during a backup. A backup may fail by it; if it does
// not, its copies must be right.
type fault struct {
	name string
	on   []string // the servers that it can be done to; nil: all
	// victim: it hurts the file of the victim table.
	victim bool
	// mustFail: no backup may succeed.
	mustFail bool
	// harmless: no backup may fail by it.
	harmless bool
	// harmsServer: the server may end, or its sessions fail.
	harmsServer bool
	before      func(ctx context.Context, r *round) error // before the backup begins
	during      func(ctx context.Context, r *round) error // while it runs; ctx ends with it
	rule        func(r *round) string                     // for the faulty hb: see testdata/faults.go
}

var faults = []fault{
	{name: "none", harmless: true},
	{name: "page flipped", victim: true, before: hurtPage(damage.Flip)},
	{name: "page zeroed", victim: true, before: hurtPage(damage.Zero)},
	{name: "page misplaced", victim: true, before: hurtPage(damage.Misplace)},
	{name: "page torn", victim: true, before: hurtPage(damage.Tear)},
	{name: "file cut", victim: true, before: hurtPage(damage.Cut)},
	{name: "file gone", victim: true, before: func(ctx context.Context, r *round) error {
		return errors.Join(settleVictim(ctx, r), os.Remove(r.victim.File()))
	}},
	{name: "stray copy", victim: true, before: strayCopy},
	{name: "strays", harmless: true, before: strays},
	{name: "unknown engine", on: mariadbServers, mustFail: true, before: unknownEngine},
	{name: "second backup", harmless: true, during: secondBackup},
	{name: "file cut later", victim: true, during: later(hurtPage(damage.Cut))},
	{name: "page flipped later", victim: true, during: later(hurtPage(damage.Flip))},
	{name: "file removed", victim: true, during: later(func(_ context.Context, r *round) error { return load.IgnoreGone(os.Remove(r.victim.File())) })},
	{name: "file renamed", victim: true, during: later(func(_ context.Context, r *round) error {
		return load.IgnoreGone(os.Rename(r.victim.File(), filepath.Join(filepath.Dir(r.victim.File()), "moved.ibd")))
	})},
	{name: "file replaced", victim: true, during: later(replaceFile)},
	{name: "read error", rule: func(r *round) string { return fmt.Sprintf("read:*.ibd:%d:EIO", ladder(r.at[1], 400)) }},
	{name: "read error in victim", victim: true, rule: func(r *round) string { return fmt.Sprintf("read:v*.ibd:%d+:EIO", 1+int(r.at[1]*12)) }},
	{name: "any operation fails", rule: func(r *round) string { return fmt.Sprintf("any:*:%d:EIO", ladder(r.at[1], 4000)) }},
	{name: "disk full", rule: func(r *round) string { return "write:*:1+:ENOSPC" }},
	{name: "torn reads", harmless: true, rule: func(r *round) string {
		n := ladder(r.at[1], 60)
		return fmt.Sprintf("read:*.ibd:%d:TORN;read:*.ibd:%d:TORN;read:ibdata1:%d:TORN", n, 3*n, 1+n%8)
	}},
	{name: "slow files", harmless: true, rule: func(r *round) string { return "read:*.ibd:1+:SLEEP=4" }},
	{name: "slow redo log", harmless: true, rule: func(r *round) string { return "read:ib_logfile*:1+:SLEEP=25;read:#ib_redo*:1+:SLEEP=25" }},
	{name: "hb killed", rule: func(r *round) string { return fmt.Sprintf("any:*:%d:KILL", ladder(r.at[1], 4000)) }},
	{name: "server killed", harmsServer: true, during: later(func(_ context.Context, r *round) error { return r.source.Kill() })},
	{name: "connection killed", during: later(killConnection)},
}

// faultNames are the faults that a plan draws from.
func faultNames(server string) (out []string) {
	for _, f := range faults[1:] {
		if f.on == nil || slices.Contains(f.on, server) {
			out = append(out, f.name)
		}
	}
	return out
}

func faultNamed(name string) *fault {
	return &faults[slices.IndexFunc(faults, func(f fault) bool { return f.name == name })]
}

func usesVictim(name string) bool { return faultNamed(name).victim }

// ladder makes of a share a count from 1 to most, small ones as often as large
// ones.
func ladder(share float64, most int) int {
	return max(1, int(math.Exp(share*math.Log(float64(most)))))
}

// later does something at the planned moment of a backup.
func later(f func(context.Context, *round) error) func(context.Context, *round) error {
	return func(ctx context.Context, r *round) error {
		if r.at[1] > 0.3 {
			r.awaitArchive(ctx)
		}
		load.Sleep(ctx, time.Duration(r.at[0]*float64(backupTakes)))
		if ctx.Err() != nil {
			return nil
		}
		r.note("fault: %s", r.fault)
		return f(ctx, r)
	}
}

// awaitArchive waits until something is in the archive: before, hb only looks around.
func (r *round) awaitArchive(ctx context.Context) {
	for ctx.Err() == nil {
		if st, err := os.Stat(r.archive()); err == nil && st.Size() > 0 {
			return
		}
		load.Sleep(ctx, 10*time.Millisecond)
	}
}

// backupTakes is about how long a backup of a round takes.
const backupTakes = 1200 * time.Millisecond

// disturbances are what happens to the victim's name while its file is hurt.
var disturbances = []string{"rest", "rest", "renamed", "swapped", "dropped"}

// disturb gives the victim other names until ctx is done.
func (r *round) disturbVictim(ctx context.Context) error {
	var statements []string
	switch r.disturb {
	case "renamed":
		statements = []string{"RENAME TABLE " + rows.VictimTable + " TO " + rows.VictimSpare, "RENAME TABLE " + rows.VictimSpare + " TO " + rows.VictimTable}
	case "swapped":
		statements = []string{fmt.Sprintf("RENAME TABLE %s TO %s, %s.other TO %s, %s TO %s.other", rows.VictimTable, rows.VictimSpare, rows.VictimDB, rows.VictimTable, rows.VictimSpare, rows.VictimDB)}
	case "dropped":
		load.Sleep(ctx, time.Duration(r.at[2]*float64(backupTakes)))
		if ctx.Err() == nil {
			r.victim.Dropped = true
			statements = []string{"DROP TABLE " + rows.VictimTable}
		}
	}
	return load.Sessions(ctx, r.source.DB(), 1, r.loadSeed, func(ctx context.Context, _ int, s *load.Session) error {
		for len(statements) > 0 && ctx.Err() == nil {
			load.Sleep(ctx, time.Duration(20+s.Rnd.IntN(150))*time.Millisecond)
			err := s.Exec(statements[0])
			if refused, ok := errors.AsType[*mysql.MySQLError](err); ok {
				r.note("%s: %v", statements[0], refused) // the file is gone or damaged
				return nil
			}
			if err != nil {
				return err
			}
			r.note("%s", statements[0])
			statements = append(statements[1:], statements[0])
			if r.disturb == "dropped" {
				return nil
			}
		}
		return nil
	})
}

// settleVictim has the server write the victim's pages to its file.
func settleVictim(ctx context.Context, r *round) error {
	c, err := r.source.DB().Conn(ctx)
	if err != nil {
		return err
	}
	defer c.Close()
	for _, q := range []string{"FLUSH TABLES " + rows.VictimTable + " FOR EXPORT", "UNLOCK TABLES"} {
		if _, err := c.ExecContext(ctx, q); err != nil {
			return err
		}
	}
	return nil
}

// hurtPage hurts a page of the victim's file, behind the server's back.
func hurtPage(how func(f *os.File, page int64, size int) error) func(context.Context, *round) error {
	return func(ctx context.Context, r *round) error {
		if err := settleVictim(ctx, r); err != nil {
			return load.Ignore(err, load.NoSuchTable) // it was dropped, or has its other name
		}
		f, err := os.OpenFile(r.victim.File(), os.O_RDWR, 0)
		if err != nil {
			return load.IgnoreGone(err)
		}
		size := r.pageSize()
		page, err := damage.UsedPage(f, size, r.at[3])
		if err != nil || page == 0 {
			return errors.Join(err, f.Close())
		}
		r.note("fault: %s, page %d", r.fault, page)
		return errors.Join(how(f, page, size), f.Close())
	}
}

// pageSize is innodb_page_size.
func (r *round) pageSize() int {
	for _, s := range r.settings {
		if s != nil && s.page > 0 {
			return s.page
		}
	}
	return 16384
}

// replaceFile puts a copy of another table's file in the place of the victim's.
func replaceFile(_ context.Context, r *round) error {
	temporary := filepath.Join(r.dir, "replacement")
	if err := mysqldtest.CopyFile(temporary, filepath.Join(filepath.Dir(r.victim.File()), "other.ibd")); err != nil {
		return load.IgnoreGone(err)
	}
	return os.Rename(temporary, r.victim.File())
}

// strayCopy leaves a copy of the victim's file beside it.
func strayCopy(ctx context.Context, r *round) error {
	if err := settleVictim(ctx, r); err != nil {
		return err
	}
	return mysqldtest.CopyFile(filepath.Join(filepath.Dir(r.victim.File()), "stray.ibd"), r.victim.File())
}

// strays makes what no server makes: things that are no files, with names of files.
func strays(_ context.Context, r *round) error {
	db := filepath.Dir(r.victim.File())
	socket, err := net.Listen("unix", filepath.Join(filepath.Dir(r.source.Socket), "stray"))
	if err != nil {
		return err
	}
	return errors.Join(
		exec.Command("mkfifo", filepath.Join(db, "pipe.MYD"), filepath.Join(db, "pipe.ibd")).Run(),
		os.Mkdir(filepath.Join(db, "directory.ibd"), 0o755), os.Mkdir(filepath.Join(db, "directory.MYI"), 0o755),
		os.Mkdir(filepath.Join(r.source.Datadir, "undo099"), 0o755),
		os.WriteFile(filepath.Join(db, "notes.txt"), []byte("nobody's"), 0o644),
		os.WriteFile(filepath.Join(db, "empty.ibd"), nil, 0o644),
		socket.Close())
}

// unknownEngine makes the definition of a table of an engine that nobody knows.
func unknownEngine(ctx context.Context, r *round) error {
	if err := load.ExecAll(ctx, r.source.DB(), "CREATE TABLE "+rows.VictimDB+".stranger (id INT) ENGINE=MyISAM"); err != nil {
		return err
	}
	path := filepath.Join(filepath.Dir(r.victim.File()), "stranger.frm")
	frm, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	frm[3] = 200 // the engine's number; those of later engines are given out at run time
	return os.WriteFile(path, frm, 0o644)
}

// secondBackup takes another backup meanwhile.
func secondBackup(ctx context.Context, r *round) error {
	load.Sleep(ctx, time.Duration(r.at[0]*float64(backupTakes)))
	args := slices.Concat([]string{"backup", "--tmpdir=" + r.dir}, r.reach(), r.scope())
	cmd := exec.CommandContext(context.WithoutCancel(ctx), r.hb.plain, args...)
	var said bytes.Buffer
	cmd.Stderr = &said
	err := cmd.Run()
	if err == nil || r.excused(&backup{cmd.ProcessState.ExitCode(), said.String()}) != "" {
		return nil
	}
	// The server keeps its redo log for one reader only, which is the first.
	if cmd.ProcessState.ExitCode() == 5 && strings.Contains(said.String(), "overwrote its redo log before it could be read") {
		return nil
	}
	return fmt.Errorf("the second backup: %w: %s", err, said.String())
}

// killConnection ends one of hb's connections.
func killConnection(ctx context.Context, r *round) error {
	ids, err := load.Table(ctx, r.source.DB(), "SELECT id FROM information_schema.processlist WHERE user = '"+account+"' ORDER BY id")
	if err != nil || len(ids) == 0 {
		return err
	}
	id := ids[int(r.at[4]*float64(len(ids)))][0]
	r.note("fault: KILL %s of %d", id, len(ids))
	_, err = r.source.DB().ExecContext(ctx, "KILL "+id)
	return load.Ignore(err, noSuchThread)
}

const noSuchThread = 1094
