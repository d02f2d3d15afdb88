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
//     a new file or renames one, which changes its ctime. Foreign keys are in no file: hb
//     compares those of the tables that they refer to (foreign.go). Routines and events: their rows in mysql.proc
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
	"maps"
	"slices"
	"strings"
	"time"

	"hb/source/datadir"
	"hb/source/mysqld"
	"hb/source/spool"
	"hb/source/stage"
	"hb/stream/disk"
	"hb/stream/progress"
	"hb/xbstream/metadata"
)

const (
	// allBudget and ddlBudget bound the time for which hb lists and asks while it holds the last
	// lock: one for which commits wait (MySQL 5), and one for which only DDL waits, and on
	// MariaDB writers of other engines.
	allBudget = 50 * time.Millisecond
	ddlBudget = 200 * time.Millisecond
	// patience bounds each question before and after the lock: a server may open connections to
	// others. After mostLate such hb asks no more.
	patience = 5 * time.Second
	mostLate = 3
	// mostBlocked is after how many questions that met another session's lock hb leaves the
	// others to later.
	mostBlocked = 10
	// memory is how many bytes of definitions are kept in memory; the others are in files.
	memory = 4 << 20
)

// Recorder records the definitions during one backup. A nil one records none.
//
// Definitions are an addition: no answer of the server, nor a connection that is lost, ends the
// backup. What hb does not learn is missing in the file.
type Recorder struct {
	Options
	budget   time.Duration // under the lock
	spool    *spool.Spool
	conn     *mysqld.Session // nil: it is opened again after the lock
	lacking  []mysqld.Privilege
	listings []listing

	units      map[key]*unit
	byFile     map[string]key
	indexes    map[key][]string // paths, of MyISAM and Aria tables
	locked     map[key]state    // under the lock; nil: before it
	incomplete []string
	late       int        // questions that the server did not answer in time
	unlisted   bool       // hb does not know what the server listed under the lock
	done       chan error // of what runs under the lock; nil: nothing does
}

// A unit is what one stamp stands for: an object, or all triggers of a table.
type unit struct {
	state
	lines    []spool.Extent // its definitions; none: hb has not asked, or was not answered
	asked    bool
	refused  int      // of its definitions: what the server did not answer for another reason than a lock
	parents  []parent // that its foreign keys refer to
	sequence bool
	why      string // it was not answered
}

// Options say what to record.
type Options struct {
	Server *mysqld.Server
	Disk   disk.System
	Layout *datadir.Layout
	Tmpdir string
	Stage  *stage.Stage
	Warn   func(format string, args ...any)
}

// New returns a recorder that has not connected yet.
func New(o Options) *Recorder {
	r := &Recorder{Options: o, budget: ddlBudget, spool: spool.New(o.Disk, o.Tmpdir, memory), units: make(map[key]*unit), byFile: make(map[string]key), indexes: make(map[key][]string)}
	if d := &o.Server.Series; !d.Stages && !d.LogStatus {
		r.budget = allBudget
	}
	return r
}

// inFiles reports whether files define tables, views and triggers.
func (r *Recorder) inFiles() bool { return !r.Server.Series.LogStatus }

// diskError is a failure of the files of this machine, which ends the backup.
type diskError struct{ error }

func (e diskError) Unwrap() error { return e.error }

func onDisk(err error) error {
	if err != nil {
		return diskError{err}
	}
	return nil
}

// fatal returns the error that ends the backup, if err is one.
func fatal(ctx context.Context, err error) error {
	if _, disk := errors.AsType[diskError](err); disk || err == nil {
		return err
	}
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	return nil
}

// Ahead records while DDL goes on.
func (r *Recorder) Ahead(ctx context.Context, tracker *progress.Tracker) error {
	if r == nil {
		return nil
	}
	tracker.Begin("recording definitions", 0)
	err := r.ahead(ctx)
	if err == nil || fatal(ctx, err) != nil {
		return fatal(ctx, err)
	}
	r.lose(err)
	r.hangUp()
	return nil
}

func (r *Recorder) ahead(ctx context.Context) error {
	missing, err := r.Server.LacksForDefinitions(ctx)
	if err != nil {
		return err
	}
	if missing != nil {
		r.lacking = missing.Missing
		r.Warn("the archive does not have all definitions of tables, views, triggers, routines and events as SQL, which restores of single tables need: %s. "+
			"Run %s, or back up with --no-definitions", missing.Lacks(), strings.Join(missing.Grants(), " "))
	}
	r.listings = r.mayList()
	if err := r.open(ctx); err != nil {
		return err
	}
	list, err := r.filesNow()
	if err != nil {
		return err
	}
	if err := r.listFirst(ctx, list); err != nil {
		return err
	}
	blocked := 0
	for _, k := range sorted(list) {
		u := &unit{state: list[k]}
		r.units[k] = u
		if blocked == mostBlocked {
			continue
		}
		if err := r.askPatiently(ctx, k, u); isBlocked(err) {
			blocked++
		} else if err != nil {
			return err
		}
	}
	return nil
}

// askPatiently asks for as long as patience allows.
func (r *Recorder) askPatiently(ctx context.Context, k key, u *unit) error {
	bounded, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	err := r.ask(bounded, k, u)
	if bounded.Err() == nil || ctx.Err() != nil {
		return err
	}
	u.why = "the server did not answer in time"
	if r.late++; r.late >= mostLate {
		return errors.New("the server does not answer in time when hb asks for definitions")
	}
	r.hangUp()
	return r.open(ctx)
}

// lose notes that hb does not learn all that it should record.
func (r *Recorder) lose(err error) {
	r.incomplete = append(r.incomplete, err.Error())
	r.Warn("the archive does not have all definitions as SQL, which restores of single tables need; the backup itself is complete: %v", err)
}

// open opens the recorder's connection, whose questions wait for other sessions' locks for a
// second, the shortest time that all servers know.
func (r *Recorder) open(ctx context.Context) (err error) {
	if r.conn, err = r.Server.Open(ctx); err != nil {
		r.conn = nil
		return err
	}
	set := "SET SESSION lock_wait_timeout=1, SESSION time_zone='+00:00', SESSION sql_quote_show_create=1"
	if r.Server.Vars.Has("show_old_temporals") {
		set += ", SESSION show_old_temporals=1"
	}
	return r.conn.Exec(ctx, set)
}

// hangUp ends a connection on which a question was given up, or that is lost.
func (r *Recorder) hangUp() {
	if r.conn != nil {
		r.Server.Kill(r.conn)
		r.closeConn()
	}
}

// closeConn closes the connection, which changed nothing, so that no error matters.
func (r *Recorder) closeConn() {
	if r.conn != nil {
		_ = r.conn.Close()
		r.conn = nil
	}
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

// underLock does all that needs the server within a time that the lock allows.
func (r *Recorder) underLock(ctx context.Context) error {
	bounded, cancel := context.WithTimeout(ctx, r.budget)
	defer cancel()
	r.locked = r.listFiles()
	again, err := r.compare(bounded)
	if err == nil {
		err = r.askAgain(bounded, again)
	}
	if err != nil {
		r.hangUp() // After opens another
	}
	return fatal(ctx, err)
}

// compare drops the answers about objects that changed or that are gone, and returns about which
// hb has to ask.
func (r *Recorder) compare(ctx context.Context) (again []key, err error) {
	answers := make(map[key]state)
	err = errNotConnected
	if r.conn != nil {
		err = r.listAnswers(ctx, answers)
	}
	if r.unlisted = err != nil; !r.unlisted {
		maps.Copy(r.locked, answers)
	}
	for k, u := range r.units {
		if _, there := r.locked[k]; !there && (k.inFile() || !r.unlisted) {
			if err := r.forget(u); err != nil {
				return nil, err
			}
			delete(r.units, k)
		}
	}
	for k, now := range r.locked {
		u := r.units[k]
		if u == nil {
			u = &unit{}
			r.units[k] = u
		}
		same, statErr := r.proven(u, now)
		if statErr != nil {
			return nil, statErr
		}
		if !same {
			again = append(again, k)
			if err := r.forget(u); err != nil {
				return nil, err
			}
		}
	}
	slices.SortFunc(again, func(a, b key) int {
		return cmp.Or(cmp.Compare(r.urgency(a), r.urgency(b)), a.compare(b))
	})
	return again, err
}

// errNotConnected says that the recorder has no connection.
var errNotConnected = errors.New("hb lost the connection on which it asks for definitions")

// proven reports whether what was asked before the lock is the definition under it.
func (r *Recorder) proven(u *unit, now state) (bool, error) {
	if !u.asked || u.sequence || !u.settled || !u.same(now) {
		return false, nil
	}
	return r.sameParents(u)
}

// urgency is smaller for what hb can ask about only under the lock.
func (r *Recorder) urgency(k key) int {
	switch {
	case r.units[k].sequence:
		return 0
	case !r.locked[k].settled || len(r.units[k].parents) > 0:
		return 1
	}
	return 2
}

// askAgain asks until there is no more time.
func (r *Recorder) askAgain(ctx context.Context, list []key) error {
	for _, k := range list {
		if err := ctx.Err(); err != nil {
			return err
		}
		u := r.units[k]
		u.state = r.locked[k]
		if err := r.ask(ctx, k, u); err != nil && !isBlocked(err) {
			return err
		}
	}
	return nil
}

const (
	lateChange = "it was changed during the backup, and hb did not hold the lock long enough to ask for it"
	laterAgain = "it was changed during the backup, and again before hb could ask for it"
)

// After asks, when the lock is released, about what is still missing.
func (r *Recorder) After(ctx context.Context) error {
	if r == nil {
		return nil
	}
	err := r.after(ctx)
	if fatal(ctx, err) != nil {
		return fatal(ctx, err)
	}
	if err != nil {
		r.lose(err)
	}
	r.tellMissing()
	r.closeConn()
	return nil
}

// after leaves only answers that are proven, after an error too.
func (r *Recorder) after(ctx context.Context) error {
	var late []key
	for _, k := range sorted(r.locked) {
		u := r.units[k]
		if u.asked && u.refused > 0 && r.locked[k].settled { // the server may have been short of something
			if err := r.forget(u); err != nil {
				return err
			}
		}
		if !u.asked {
			if u.sequence || !r.locked[k].settled {
				u.why = cmp.Or(u.why, lateChange)
				continue
			}
			late = append(late, k)
		}
	}
	err := r.askLate(ctx, late)
	now := make(map[key]state)
	if err == nil {
		err = r.listAnswers(ctx, now)
	}
	return errors.Join(err, r.proveLate(ctx, late, now))
}

func (r *Recorder) askLate(ctx context.Context, late []key) error {
	if r.conn == nil {
		if err := r.open(ctx); err != nil {
			return err
		}
	}
	blocked := 0
	for _, k := range late {
		u := r.units[k]
		u.state = r.locked[k]
		if blocked == mostBlocked {
			break
		}
		if err := r.askPatiently(ctx, k, u); isBlocked(err) {
			blocked++
		} else if err != nil {
			return err
		}
	}
	return nil
}

// proveLate drops what was asked after the lock if it has changed since the lock, and events,
// which the scheduler may change by itself between the locks' release and now. now is
// what the server lists now. If hb does not know what it listed under the lock, that
// it lists the same now as before hb asked proves as much.
func (r *Recorder) proveLate(ctx context.Context, late []key, now map[key]state) error {
	drop := func(u *unit, why string) error {
		u.why = why
		return r.forget(u)
	}
	for _, k := range late {
		u := r.units[k]
		if !u.asked {
			continue
		}
		state, err := r.stateNow(k, now)
		if err != nil {
			return err
		}
		same := r.locked[k].same(state) && !u.sequence
		if same && len(u.parents) > 0 { // nobody knows what they were under the lock
			same = false
		}
		if !same {
			if err := drop(u, laterAgain); err != nil {
				return err
			}
		}
	}
	for k, u := range r.units {
		was := r.locked[k]
		if k.inFile() || !r.unlisted && k.group != groupEvent {
			continue
		}
		if r.unlisted {
			was = u.state
			r.locked[k] = was
		}
		if !u.asked || r.unlisted && !was.settled || !was.same(now[k]) {
			if err := drop(u, laterAgain); err != nil {
				return err
			}
		}
	}
	if r.unlisted {
		for k, s := range now {
			if r.units[k] == nil { // it may be as new as the lock, or newer
				r.units[k], r.locked[k] = &unit{why: laterAgain}, s
			}
		}
	}
	return nil
}

// stateNow is the state of a unit after the lock.
func (r *Recorder) stateNow(k key, answers map[key]state) (state, error) {
	was := r.locked[k].file
	if !k.inFile() {
		return answers[k], nil
	}
	info, err := datadir.Stat(r.Disk, was.Path, was.Name)
	return state{file: info}, onDisk(datadir.IgnoreGone(err))
}

// forget drops what was answered.
func (r *Recorder) forget(u *unit) error {
	var errs []error
	for _, e := range u.lines {
		errs = append(errs, r.spool.Release(e))
	}
	u.lines, u.asked, u.refused = nil, false, 0
	return onDisk(errors.Join(errs...))
}

// tellMissing warns of what the archive will lack.
func (r *Recorder) tellMissing() {
	const most = 3
	var names []string
	n := 0
	for _, k := range sorted(r.locked) {
		u := r.units[k]
		if u.asked && u.refused == 0 {
			continue
		}
		if n++; n <= most {
			names = append(names, fmt.Sprintf("%s: %s", k, u.reason()))
		}
	}
	if n > 0 {
		r.Warn("the archive lacks %d definitions as SQL, which restores of single tables need (%s): the backup itself is complete", n, strings.Join(names, "; "))
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
	head.Incomplete = r.incomplete
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
	err := r.Await()
	r.closeConn()
	return errors.Join(err, r.spool.Close())
}

// Size is how many bytes of memory and disk the definitions take.
func (r *Recorder) Size() int64 {
	if r == nil {
		return 0
	}
	return r.spool.Size()
}
