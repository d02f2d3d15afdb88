package restore

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"hb/sink/backupdir"
	"hb/sink/export"
	"hb/stream/disk"
)

// A Source is a table that package export wrote.
type Source struct {
	Written *export.Written
	Create  string // its CREATE TABLE statement: see New
	As      Name   // what it is to be called; zero: as it was
}

// Options are how tables are brought to a server.
type Options struct {
	From     Server // whose tables they are
	PageSize int    // innodb_page_size of From in bytes
	Replace  bool   // tables of the same names are replaced
	// Open opens a connection to the server, whose data directory is that of this machine which
	// it names: the caller has proved that.
	Open    func(context.Context) (Connection, error)
	Objects Objects // what else is made, where the tables are called as they were
	// Report is told what was done, step by step.
	Report func(text string)
	System disk.System // nil: that of the operating system
	Free   backupdir.FreeSpace
}

// Result is what Into did.
type Result struct {
	Tables   []Imported
	Warnings []string
}

// Imported is a table that was brought to a server.
type Imported struct {
	Name     Name
	Rows     int64
	Replaced bool
}

// Check makes sure that Into could make tables of these names from a directory, before anything is
// done for them. Their files have at least that many bytes.
func Check(ctx context.Context, o Options, dir string, names []Name, bytes int64) (err error) {
	s, err := o.Open(ctx)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, s.Close()) }()
	to, err := learn(ctx, s)
	if err != nil {
		return err
	}
	if err := to.keepOut(dir); err != nil {
		return err
	}
	for _, name := range names {
		if _, err := checkFree(ctx, s, to.cased(name), o.Replace); err != nil {
			return err
		}
	}
	return to.checkSpace(o.Free, bytes)
}

// checkSpace makes sure that files fit into the data directory: the server needs what is free there.
func (t *target) checkSpace(f backupdir.FreeSpace, bytes int64) error {
	return backupdir.CheckSpace(f, t.datadir, bytes, "the imported tables take")
}

// space is how many bytes are taken at most before Into is done: all tables, and what the server
// needs to make one again. Of tables that are replaced, one after the other goes.
func (o *Options) space(sources []Source) (all int64) {
	var most int64
	for _, src := range sources {
		n := src.Written.Bytes
		all += n
		if src.Written.Rebuild {
			n *= 2
		}
		most = max(most, n)
	}
	if o.Replace {
		return most
	}
	return max(all, most)
}

// Into brings tables to a running server. The files are in from. It makes no table that exists
// unless Options.Replace is set, and then exchanges the old table for the new one after CHECK
// TABLE EXTENDED found that to be good. A table after whose import something fails is removed
// again; those before it stay. The binary log does not get the statements. A
// *TargetServerError says why the server does not take a table.
func Into(ctx context.Context, from disk.Dir, sources []Source, o Options) (_ *Result, err error) {
	if o.System == nil {
		o.System = disk.OS
	}
	s, err := o.Open(ctx)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, s.Close()) }()
	to, err := learn(ctx, s)
	if err != nil {
		return nil, err
	}
	if err := errors.Join(to.accepts(o.From, o.PageSize), to.keepOut(from.Name())); err != nil {
		return nil, err
	}
	datadir, err := o.System.OpenDir(to.datadir)
	if err != nil {
		return nil, refuse("the server's data directory %s cannot be opened here: %v; run hb on the server's machine, as root or as its user", to.datadir, err)
	}
	defer func() { err = errors.Join(err, datadir.Close()) }()
	sources = slices.Clone(sources)
	slices.SortStableFunc(sources, func(a, b Source) int { return isMerge(a.Written.Table.Engine) - isMerge(b.Written.Table.Engine) })
	if err := to.checkNames(ctx, s, sources, o.Replace); err != nil {
		return nil, err
	}
	if err := to.checkSpace(o.Free, o.space(sources)); err != nil {
		return nil, err
	}
	if err := to.prepare(ctx, s); err != nil {
		return nil, err
	}
	r := &Result{}
	if to.logs {
		r.Warnings = append(r.Warnings, "the server writes a binary log, which does not get what hb does (sql_log_bin=0): replicas do not have the tables; import them there, too")
	}
	id, err := values(ctx, s, "id", "SELECT CONNECTION_ID() AS id")
	if err != nil {
		return nil, err
	}
	r.Warnings = append(r.Warnings, makeSequences(ctx, s, o.Objects)...)
	if err := to.prepare(ctx, s); err != nil { // again: definitions have settings of their own
		return r, err
	}
	var done []*importing
	for _, src := range sources {
		i := &importing{Session: s, id: id[0], Options: o, target: to, datadir: datadir, from: from, result: r}
		if err := i.run(ctx, src); err != nil {
			return r, fmt.Errorf("importing table %s.%s: %w", src.Written.Table.Database, src.Written.Table.Name, err)
		}
		done = append(done, i)
	}
	for _, i := range done { // now that the tables are there that keys refer to
		i.addForeign(ctx)
	}
	var plans []*Table
	for _, i := range done {
		i.plan.Name = i.name // it may have been made under another one
		plans = append(plans, i.plan)
	}
	r.Warnings = append(r.Warnings, makeObjects(ctx, s, plans, o.Objects)...)
	return r, nil
}

// isMerge is 1 for MERGE tables, which come after those that they are of.
func isMerge(e export.Engine) int {
	if e == export.Merge {
		return 1
	}
	return 0
}

// importing is one table on its way.
type importing struct {
	Session
	Options
	target  *target
	datadir disk.Dir
	from    disk.Dir
	result  *Result
	plan    *Table

	id     string   // of the connection, at the server
	name   Name     // what it is called in the end
	own    []string // databases that hb made for the way, with names that nobody else has
	tables []Name   // made on the way
	// perhaps is a table that the server has made, although hb knows of an error only; zero: none.
	perhaps Name
	files   []placed
	waiting []Copy // that are there under their temporary names
	like    fs.FileInfo
}

// placed is a file that hb put into the data directory.
type placed struct {
	of   Name // the table
	path string
	made fs.FileInfo
}

// work and replaced begin the names of databases: where a table is made that is to replace
// another, because names of constraints are unique in a database, and where the other one goes.
const work, replaced = "hb_import_", "hb_replaced_"

// makeOwn makes a database with a name that nobody else has.
func (i *importing) makeOwn(ctx context.Context, prefix string) (string, error) {
	var id [8]byte
	if _, err := rand.Read(id[:]); err != nil {
		return "", err
	}
	name := prefix + hex.EncodeToString(id[:])
	if err := i.Exec(ctx, "CREATE DATABASE "+quote(name)); err != nil {
		return "", err
	}
	i.own = append(i.own, name)
	return name, nil
}

func (i *importing) run(ctx context.Context, src Source) (err error) {
	t := src.Written.Table
	was := Name{t.Database, t.Name}
	i.name = i.target.named(src)
	exists, err := checkFree(ctx, i, i.name, i.Replace)
	if err != nil {
		return err
	}
	at := i.name
	if exists {
		if at.Database, err = i.makeOwn(ctx, work); err != nil {
			return errors.Join(err, i.undo())
		}
	}
	create := src.Create
	if i.name != was && !i.target.MariaDB { // there they are the table's own
		create = withoutCheckNames(create)
	}
	if i.plan, err = New(src.Written, create, i.target.Server, at); err != nil {
		return errors.Join(err, i.undo())
	}
	if !exists {
		if err := i.warnChildren(ctx); err != nil {
			return err
		}
	}
	began := time.Now()
	rows, err := i.bring(ctx)
	if err == nil && exists {
		err = i.exchange(ctx, at)
	}
	if err != nil {
		return errors.Join(err, i.undo())
	}
	i.Report(fmt.Sprintf("table %s: imported %d bytes, %d rows, in %.1f s", i.name, src.Written.Bytes, rows, time.Since(began).Seconds()))
	i.result.Tables = append(i.result.Tables, Imported{i.name, rows, exists})
	return i.dropOwn(ctx, i.Session)
}

// bring makes the table, and returns how many rows it has.
func (i *importing) bring(ctx context.Context) (rows int64, err error) {
	if err := i.haveDatabase(ctx, i.plan.Name.Database); err != nil {
		return 0, err
	}
	for n := range i.plan.Steps {
		if err := i.step(ctx, &i.plan.Steps[n]); err != nil {
			return 0, err
		}
	}
	if err := i.removePassing(); err != nil {
		return 0, err
	}
	for _, step := range i.plan.After {
		if err := i.Exec(ctx, step.SQL); err != nil {
			return 0, err
		}
	}
	return i.check(ctx)
}

// haveDatabase makes a database, unless it is there. It stays: others may use it from then on.
func (i *importing) haveDatabase(ctx context.Context, name string) error {
	found, err := values(ctx, i, "x", "SELECT SCHEMA_NAME AS x FROM information_schema.SCHEMATA WHERE SCHEMA_NAME="+text(name))
	if err != nil || len(found) > 0 {
		return err
	}
	return i.Exec(ctx, createDatabase(name, i.plan.Was.Database, nil))
}

const createTable, dropTable, importEnd = "CREATE TABLE ", "DROP TABLE ", "TABLESPACE"

// step takes a step.
func (i *importing) step(ctx context.Context, s *Step) error {
	if len(s.Copies) > 0 {
		for _, c := range s.Copies {
			if err := i.copy(ctx, c, i.tables[len(i.tables)-1]); err != nil {
				return err
			}
		}
		return nil
	}
	if err := i.place(); err != nil {
		return err
	}
	makes := strings.HasPrefix(s.SQL, createTable)
	made := i.plan.Name
	if makes && len(i.tables) > 0 {
		made = Name{i.plan.Name.Database, partitionTable}
	}
	if makes {
		if _, err := checkFree(ctx, i, made, false); err != nil {
			return err
		}
	}
	if err := i.Exec(ctx, s.SQL); err != nil {
		if makes {
			i.perhaps = made
		}
		return err
	}
	switch {
	case makes:
		i.tables = append(i.tables, made)
		if err := i.compare(ctx, s.SQL, made); err != nil {
			return err
		}
		return i.look(made)
	case strings.HasSuffix(s.SQL, importEnd):
		return i.warnings(ctx)
	}
	if strings.HasPrefix(s.SQL, dropTable) {
		i.tables = slices.DeleteFunc(i.tables, func(n Name) bool { return n.Table == partitionTable })
	}
	return nil
}

// look finds the files of a table that was made just now: so the data directory is the server's.
// What is put beside them gets their owner and mode.
func (i *importing) look(name Name) error {
	dir := fileName(name.Database)
	entries, err := i.datadir.ReadDir(dir)
	if err != nil {
		return refuse("the server's data directory %s is not the one here: %v; run hb on the server's machine, as root or as its user", i.target.datadir, err)
	}
	base := fileName(name.Table)
	for _, e := range entries {
		rest, ok := strings.CutPrefix(e.Name(), base)
		if !ok || !isOf(rest, i.plan.Engine) {
			continue
		}
		if i.like, err = i.datadir.Lstat(dir + "/" + e.Name()); err != nil {
			return err
		}
		if i.like.Mode().IsRegular() {
			return nil
		}
	}
	return refuse("table %s was made, and %s has no file of it: that is not the server's data directory, or the table's is elsewhere", name, filepath.Join(i.target.datadir, dir))
}

// isOf reports whether a file whose name begins with a table's is one of its own, by the rest.
func isOf(rest string, engine export.Engine) bool {
	if engine == export.InnoDB {
		return path.Ext(rest) == backupdir.ExtTable && (rest[0] == '.' || rest[0] == '#')
	}
	return strings.HasPrefix(rest, ".") || strings.HasPrefix(rest, "#") || strings.HasPrefix(rest, "_") && path.Ext(rest) == ".sdi"
}

// copySize is how many bytes are copied at a time.
const copySize = 1 << 20

// interruptible reads until the context ends.
type interruptible struct {
	ctx context.Context
	r   io.Reader
}

func (r *interruptible) Read(b []byte) (int, error) {
	if err := context.Cause(r.ctx); err != nil {
		return 0, err
	}
	return r.r.Read(b)
}

// copy puts a file into the data directory, all or nothing. Where InnoDB's file is to come, the
// server has taken its own away, and there must be none. In the place of files of other engines
// are those of the empty table.
func (i *importing) copy(ctx context.Context, c Copy, of Name) (err error) {
	in, err := i.from.Open(c.From)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, in.Close()) }()
	temporary := c.To + backupdir.ExtTemporary
	out, err := i.datadir.OpenFile(temporary, os.O_WRONLY|os.O_CREATE|os.O_EXCL, c.mode(i.like))
	if err != nil {
		return err
	}
	made, err := out.Stat()
	if err == nil {
		i.files = append(i.files, placed{of, temporary, made}, placed{of, c.To, made})
		_, err = io.CopyBuffer(struct{ io.Writer }{out}, &interruptible{ctx, in}, make([]byte, copySize))
	}
	if err == nil {
		err = backupdir.SameOwner(out, i.like)
	}
	if err == nil {
		err = out.Sync()
	}
	if err = errors.Join(err, out.Close()); err != nil {
		return fmt.Errorf("copying %s: %w", c.From, err)
	}
	i.waiting = append(i.waiting, c)
	return nil
}

// place gives the files that were copied their names, right before the statement that they are
// for: MySQL 8.0 and later do not start where two .ibd files have the id of one tablespace, and
// today's table can have that of the backup's.
func (i *importing) place() error {
	for _, c := range i.waiting {
		temporary := c.To + backupdir.ExtTemporary
		if i.plan.Engine != export.InnoDB {
			if err := i.datadir.Rename(temporary, c.To); err != nil {
				return err
			}
			continue
		}
		if err := i.datadir.Link(temporary, c.To); err != nil {
			return err
		}
		if err := i.datadir.Remove(temporary); err != nil {
			return err
		}
	}
	if len(i.waiting) == 0 {
		return nil
	}
	dir := path.Dir(i.waiting[0].To)
	i.waiting = nil
	return backupdir.SyncIn(i.datadir, dir)
}
