// Package definitions records the definitions of a server's objects during a backup: what SHOW
// CREATE answers, for restores of single tables and databases. In come a connection and the
// stage, which has the files that define tables; out comes the file hb-definitions
// (metadata.Definition).
//
// What is recorded is the definition that the backup has, or why it is missing. hb asks before
// the last lock, and notes before each question the stamp of the object. Under the lock, which
// keeps DDL out, it compares stamps, and asks again about objects that changed, for
// a short time at most. It asks about the rest when the lock is released, and then looks
// whether the stamps are still those under the lock.
//
// The stamp of an object is (list.go):
//
//   - MySQL 5 and MariaDB: of tables and views the .frm file, of triggers the .TRG file of their
//     table, of databases db.opt: its inode, size and times, as the stage has it. DDL makes
//     a new file or renames one, which changes its ctime. Foreign keys are compared with
//     InnoDB's dictionary under the lock (foreign.go). Routines and events: their rows in mysql.proc
//     and mysql.event.
//   - MySQL 8.0 and later: the row in INFORMATION_SCHEMA, with the time of the last change; of
//     databases and views also how many statements have changed any. Tables are in the
//     tablespaces and .sdi files themselves.
//   - Sequences of MariaDB have their definition in a row, of which there is no stamp: hb asks
//     again under the lock, about these first.
//
// A stamp that was young when hb looked, so that a later change need not show in it, counts as
// changed.
package definitions

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"hb/source/mysqld"
	"hb/source/scope"
	"hb/source/spool"
	"hb/source/stage"
	"hb/stream/disk"
	"hb/stream/progress"
	"hb/xbstream/metadata"
)

const (
	// allBudget and ddlBudget bound the time for which hb asks while it holds the last lock: one
	// for which commits wait (MySQL 5), and one for which only DDL waits, and on MariaDB writers
	// of other engines.
	allBudget = 50 * time.Millisecond
	ddlBudget = 200 * time.Millisecond
	// mostBlocked is after how many questions that met another session's lock hb leaves the
	// others to later.
	mostBlocked = 10
	// memory is how many bytes of definitions are kept in memory; the others are in files.
	memory = 4 << 20
)

// Recorder records the definitions during one backup. A nil one records none.
type Recorder struct {
	srv      *mysqld.Server
	system   disk.System
	stage    *stage.Stage
	scope    *scope.Scope
	warn     func(format string, args ...any)
	spool    *spool.Spool
	conn     *mysqld.Session
	lacking  []mysqld.Privilege
	listings []listing
	// foreign are the foreign keys under the lock, if the server lists them.
	foreign      map[string]string
	listsForeign bool

	units  map[key]*unit
	byFile map[string]key
	locked map[key]state // under the lock; nil: before it
	done   chan error    // of what runs under the lock; nil: nothing does
}

// A unit is what one stamp stands for: an object, or all triggers of a table.
type unit struct {
	state
	lines    []spool.Extent // its definitions; none: hb has not asked, or was not answered
	asked    bool
	foreign  string // its foreign keys: see foreignIn
	sequence bool
	why      string // it was not answered
}

// Options say what to record.
type Options struct {
	Server *mysqld.Server
	Disk   disk.System
	Tmpdir string
	Stage  *stage.Stage
	Scope  *scope.Scope
	Warn   func(format string, args ...any)
}

// New returns a recorder that has not connected yet.
func New(o Options) *Recorder {
	return &Recorder{
		srv: o.Server, system: o.Disk, stage: o.Stage, scope: o.Scope, warn: o.Warn,
		spool: spool.New(o.Disk, o.Tmpdir, memory), units: make(map[key]*unit), byFile: make(map[string]key),
	}
}

// inFiles reports whether files define tables, views and triggers.
func (r *Recorder) inFiles() bool { return !r.srv.Series.LogStatus }

// Ahead records while DDL goes on.
func (r *Recorder) Ahead(ctx context.Context, tracker *progress.Tracker) error {
	if r == nil {
		return nil
	}
	missing, err := r.srv.LacksForDefinitions(ctx)
	if err != nil {
		return err
	}
	if missing != nil {
		r.lacking = missing.Missing
		r.warn("the archive does not have all definitions of tables, views, triggers, routines and events as SQL, which restores of single tables need: %s. "+
			"Run %s, or back up with --no-definitions", missing.Lacks(), strings.Join(missing.Grants(), " "))
	}
	r.listings = r.mayList()
	if err := r.open(ctx); err != nil {
		return err
	}
	list, err := r.list(ctx)
	if err != nil {
		return err
	}
	tracker.Begin("recording definitions", 0)
	blocked := 0
	for _, k := range sorted(list) {
		u := &unit{state: list[k]}
		r.units[k] = u
		if blocked < mostBlocked {
			err := r.ask(ctx, k, u)
			if isBlocked(err) {
				blocked++
			} else if err != nil {
				return err
			}
		}
	}
	return nil
}

// open opens the recorder's connection, whose questions wait for other sessions' locks for a
// second, the shortest time that all servers know.
func (r *Recorder) open(ctx context.Context) (err error) {
	if r.conn, err = r.srv.Open(ctx); err != nil {
		return err
	}
	set := "SET SESSION lock_wait_timeout=1, SESSION time_zone='+00:00', SESSION sql_quote_show_create=1"
	if r.srv.Vars.Has("show_old_temporals") {
		set += ", SESSION show_old_temporals=0"
	}
	return r.conn.Exec(ctx, set)
}

// Locked begins to compare, while the last lock keeps DDL out and the stage has the files that
// are not InnoDB's as they are, and to ask again about what changed. Await waits for that: both
// the lock and the files stay until then.
func (r *Recorder) Locked(ctx context.Context) {
	if r == nil {
		return
	}
	r.done = make(chan error, 1)
	go func() { r.done <- r.underLock(ctx) }()
}

// Await waits for what Locked began.
func (r *Recorder) Await() error {
	if r == nil || r.done == nil {
		return nil
	}
	err := <-r.done
	r.done = nil
	return err
}

func (r *Recorder) underLock(ctx context.Context) (err error) {
	if r.locked, err = r.list(ctx); err != nil {
		return err
	}
	if err := r.listForeign(ctx); err != nil {
		return err
	}
	var again []key
	for k, now := range r.locked {
		u := r.units[k]
		if u == nil {
			u = &unit{}
			r.units[k] = u
		}
		if !r.proven(k, u, now) {
			again = append(again, k)
		}
	}
	for k, u := range r.units {
		if _, there := r.locked[k]; !there {
			if err := r.forget(u); err != nil {
				return err
			}
			delete(r.units, k)
		}
	}
	slices.SortFunc(again, func(a, b key) int {
		return cmp.Or(cmp.Compare(r.urgency(a), r.urgency(b)), a.compare(b))
	})
	for _, k := range again {
		if err := r.forget(r.units[k]); err != nil {
			return err
		}
	}
	return r.askWithin(ctx, again)
}

// proven reports whether what was asked before the lock is the definition under it.
func (r *Recorder) proven(k key, u *unit, now state) bool {
	return u.asked && !u.sequence && u.settled && u.same(now) && r.sameForeign(k, u)
}

// urgency is smaller for what hb can ask about only under the lock.
func (r *Recorder) urgency(k key) int {
	switch {
	case r.units[k].sequence:
		return 0
	case !r.locked[k].settled:
		return 1
	}
	return 2
}

// askWithin asks for the time that the lock allows. A question that is under way then is given up.
func (r *Recorder) askWithin(ctx context.Context, list []key) error {
	if len(list) == 0 {
		return nil
	}
	budget := ddlBudget
	if d := &r.srv.Series; !d.Stages && !d.LogStatus {
		budget = allBudget
	}
	bounded, cancel := context.WithTimeout(ctx, budget)
	defer cancel()
	for _, k := range list {
		if bounded.Err() != nil {
			break
		}
		u := r.units[k]
		u.state = r.locked[k]
		err := r.ask(bounded, k, u)
		switch {
		case err == nil || isBlocked(err):
		case bounded.Err() != nil && ctx.Err() == nil:
			return r.reopen(ctx)
		default:
			return err
		}
	}
	return nil
}

// reopen replaces a connection on which a question was given up.
func (r *Recorder) reopen(ctx context.Context) error {
	r.srv.Kill(r.conn)
	if err := r.conn.Close(); err != nil {
		return err
	}
	r.conn = nil // opened again after the lock
	return nil
}

// After asks, when the lock is released, about what is still missing.
func (r *Recorder) After(ctx context.Context) error {
	if r == nil {
		return nil
	}
	if r.conn == nil {
		if err := r.open(ctx); err != nil {
			return err
		}
	}
	var late []key
	events := false
	for _, k := range sorted(r.locked) {
		u := r.units[k]
		events = events || k.group == groupOf(metadata.DefinesEvent)
		if u.asked {
			continue
		}
		if u.sequence || !r.locked[k].settled {
			u.why = cmp.Or(u.why, "it was changed during the backup, and hb did not hold the lock long enough to ask for it")
			continue
		}
		late, u.state = append(late, k), r.locked[k]
		if err := r.ask(ctx, k, u); err != nil && !isBlocked(err) {
			return err
		}
	}
	if len(late) > 0 || events {
		if err := r.proveLate(ctx, late); err != nil {
			return err
		}
	}
	r.tellMissing()
	err := r.conn.Close()
	r.conn = nil
	return err
}

// proveLate drops what was asked after the lock if it has changed since, and events that
// changed by themselves while the lock was released: the scheduler may do so any time.
func (r *Recorder) proveLate(ctx context.Context, late []key) error {
	now, err := r.listAgain(ctx, late)
	if err != nil {
		return err
	}
	for k, u := range r.units {
		if k.group == groupOf(metadata.DefinesEvent) && u.asked {
			late = append(late, k)
		}
	}
	for _, k := range late {
		u := r.units[k]
		if u.sequence || !r.locked[k].same(now[k]) || !r.sameForeign(k, u) {
			if err := r.forget(u); err != nil {
				return err
			}
			u.why = "it was changed during the backup, and again before hb could ask for it"
		}
	}
	return nil
}

// forget drops what was answered.
func (r *Recorder) forget(u *unit) error {
	var errs []error
	for _, e := range u.lines {
		errs = append(errs, r.spool.Release(e))
	}
	u.lines, u.asked, u.foreign = nil, false, ""
	return errors.Join(errs...)
}

// tellMissing warns of what the archive will lack.
func (r *Recorder) tellMissing() {
	const most = 3
	var names []string
	n := 0
	for _, k := range sorted(r.locked) {
		if u := r.units[k]; !u.asked {
			if n++; n <= most {
				names = append(names, fmt.Sprintf("%s: %s", k, u.reason()))
			}
		}
	}
	if n > 0 {
		r.warn("the archive lacks %d definitions as SQL, which restores of single tables need (%s): the backup itself is complete", n, strings.Join(names, "; "))
	}
}

func (u *unit) reason() string {
	return cmp.Or(u.why, "hb did not ask for it in time")
}

// Send writes the file, which create begins.
func (r *Recorder) Send(ctx context.Context, create func(name string) (io.WriteCloser, error), server string) error {
	if r == nil {
		return nil
	}
	out, err := create(metadata.DefinitionsName)
	if err != nil {
		return err
	}
	head := metadata.DefinitionsHead{Server: server, Tables: r.inFiles()}
	for _, p := range r.lacking {
		head.Lacking = append(head.Lacking, string(p))
	}
	w, err := metadata.NewDefinitionsWriter(out, head)
	if err != nil {
		return err
	}
	for _, k := range sorted(r.locked) {
		if err := ctx.Err(); err != nil {
			return context.Cause(ctx)
		}
		if err := r.sendUnit(w, k, r.units[k]); err != nil {
			return err
		}
	}
	if err := w.Close(); err != nil {
		return err
	}
	return out.Close()
}

func (r *Recorder) sendUnit(w *metadata.DefinitionsWriter, k key, u *unit) error {
	if !u.asked {
		line, err := k.missing(u.reason()).Line()
		if err != nil {
			return err
		}
		return w.AddLine(line)
	}
	for _, e := range u.lines {
		line := make([]byte, e.Len())
		if _, err := r.spool.ReadAt(e, line, 0); err != nil {
			return err
		}
		if err := w.AddLine(line); err != nil {
			return err
		}
		if err := r.spool.Release(e); err != nil {
			return err
		}
	}
	return nil
}

// Close frees what the recorder has.
func (r *Recorder) Close() error {
	if r == nil {
		return nil
	}
	// What still runs ends with its context, and its error is not the first.
	err := errors.Join(r.Await(), r.spool.Close())
	if r.conn != nil {
		err = errors.Join(err, r.conn.Close())
	}
	return err
}

// Size is how many bytes of memory and disk the definitions take.
func (r *Recorder) Size() int64 {
	if r == nil {
		return 0
	}
	return r.spool.Size()
}
