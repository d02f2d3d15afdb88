package tables

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"hb/sink"
	"hb/sink/apply"
	"hb/sink/backupdir"
	"hb/sink/export"
	"hb/sink/export/committed"
	"hb/sink/extract"
	"hb/sink/restore"
	"hb/stream"
	"hb/stream/disk"
	"hb/xbstream/innodb/undo"
	"hb/xbstream/keyring"
	"hb/xbstream/metadata"
)

// Flags are the command-line options for tables.
type Flags struct {
	Table    []string `group:"Single tables" help:"Extract only this table, for a server to import: db.table, as SQL has the names. May be repeated." placeholder:"DB.TABLE" sep:"none"`
	Database []string `group:"Single tables" help:"Extract all tables of this database so. May be repeated." placeholder:"DB" sep:"none"`

	Into    bool   `group:"Single tables" help:"Then import the tables into a running server of this machine, which the options of the connection name. It gets no table that it has already."`
	Replace bool   `group:"Single tables" help:"With --into: where the server has a table of that name, put the imported one in its place once CHECK TABLE found it to be good, and drop the old one."`
	As      string `group:"Single tables" help:"Give the one table another name on the server." placeholder:"DB.TABLE"`

	committed.Server `embed:"" group:"Single tables"`
}

// Any reports whether tables were asked for.
func (f *Flags) Any() bool { return len(f.Table)+len(f.Database) > 0 }

// Check returns a *stream.UsageError if a name is wrong, or if there are options that tables go
// without.
func (f *Flags) Check(o *sink.Options) error {
	if !f.Any() {
		if f.Program != "" || len(f.Server.Options) > 0 || f.Timeout != 0 {
			return stream.AsUsage(errors.New("--server is for --table and --database"))
		}
		if f.Into || f.Replace || f.As != "" {
			return stream.AsUsage(errors.New("--into, --replace and --as are for --table and --database"))
		}
		return nil
	}
	for _, no := range []struct {
		given    bool
		name, so string
	}{
		{o.Apply, "--apply", "is for a whole backup: with --table, hb recovers what the table needs by itself"},
		{len(o.Files) > 0, "--files", "chooses files as they are in the archive, and --table tables: give one of them"},
		{o.InPlace, "--in-place", "is for a whole backup"},
		{o.LogBin != "", "--log-bin", "is for a whole backup"},
		{o.WriteKeyring != "" || o.NewMasterKey, "--write-keyring and --new-master-key", "are for a whole backup: a table gets a .cfp file with its key"},
	} {
		if no.given {
			return stream.AsUsage(errors.New(no.name + " " + no.so))
		}
	}
	if f.Replace && !f.Into {
		return stream.AsUsage(errors.New("--replace is for --into"))
	}
	if _, err := ParseNames(f.Table, f.Database); err != nil {
		return err
	}
	_, err := f.Renamed()
	return err
}

// Renamed is the name that the one table is to have; zero: its own.
func (f *Flags) Renamed() (restore.Name, error) {
	if f.As == "" {
		return restore.Name{}, nil
	}
	if len(f.Table) != 1 || len(f.Database) > 0 {
		return restore.Name{}, stream.AsUsage(errors.New("--as is for one --table"))
	}
	names, err := ParseNames([]string{f.As}, nil)
	if err != nil {
		return restore.Name{}, err
	}
	return restore.Name(names[0]), nil
}

// Options are how Extract works: those of sink.Options that are not for whole backups.
type Options struct {
	sink.Options
	// Server finishes what is pending for the tables when the backup ends, if it is given: see
	// committed.Server.
	Server *committed.Server
	// As is the name that the one table is to have on a server; zero: its own.
	As   restore.Name
	Free backupdir.FreeSpace
}

// Result is what Extract did.
type Result struct {
	Extracted *extract.Result
	Applied   *apply.Result
	Tables    []*export.Written
	Refused   []error // of tables in databases that were asked for
	Finished  *committed.Finished
	// Sources are the tables that can be brought back, and Undefined says of the others why not:
	// the backup does not have their definitions.
	Sources   []restore.Source
	Undefined []string
	From      restore.Server // of the backup
	PageSize  int            // innodb_page_size of From in bytes
	Objects   restore.Objects
}

// scratchName is the directory with what the tables need, beside them while hb works.
const scratchName = "hb-scratch"

// Extract puts the selected tables of the archive in r, already without its stages, into a
// directory, for servers to import. o.Parts is the archive by its index, if it has one: then r
// is not read.
//
// What the tables need is recovered in a directory in that one, which is removed at the end,
// also after an error. Until all that is to stay is on disk, files and then their names, the
// directory has the mark of an extraction that has not finished (backupdir.MarkerName): what a
// crash leaves of it, nothing takes for the tables. The scratch directory is removed before the
// mark.
//
// Where tables of a database cannot be exported, the others are, and the error is a
// *RefusedError, with a result.
func Extract(ctx context.Context, r io.Reader, s *Selection, o Options) (_ *Result, err error) {
	if err := outsideServers(o.Directory); err != nil {
		return nil, err
	}
	if err := backupdir.CheckSpace(o.Free, existing(o.Directory), s.Bytes(), "the files of the tables take"); err != nil {
		return nil, err
	}
	target, err := extract.Open(nil, o.Directory)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, target.Root.Close()) }()
	x := &extraction{Options: o, names: s.want.names, target: target}
	if err := x.inScratch(ctx, r, s); err != nil {
		return nil, errors.Join(err, x.clear())
	}
	if err := backupdir.SyncTree(target.Root); err != nil {
		return nil, errors.Join(err, x.clear())
	}
	if err := x.clear(); err != nil {
		return nil, err
	}
	if err := target.Finish(); err != nil {
		return nil, err
	}
	return &x.result, x.refused()
}

// existing is a directory, or that above it in which it will be made.
func existing(dir string) string {
	for dir = filepath.Clean(dir); dir != filepath.Dir(dir); dir = filepath.Dir(dir) {
		if _, err := os.Stat(dir); !errors.Is(err, os.ErrNotExist) {
			break
		}
	}
	return dir
}

// outsideServers refuses a directory in a server's data directory: MySQL 8.0 and later look
// through all of that when they start, and do not if they find two files of one tablespace.
func outsideServers(dir string) error {
	at, err := filepath.Abs(dir)
	if err == nil {
		if links, err := filepath.EvalSymlinks(filepath.Dir(at)); err == nil { // else it is not there yet
			at = filepath.Join(links, filepath.Base(at))
		}
	}
	for err == nil && at != filepath.Dir(at) {
		at = filepath.Dir(at)
		for _, name := range []string{"ibdata1", "auto.cnf"} {
			if _, err := os.Lstat(filepath.Join(at, name)); err == nil {
				return &backupdir.TargetError{Dir: dir, Reason: fmt.Sprintf("%s is a server's data directory (it has %s), and a server may not start where it finds files of its tables twice: extract to another place", at, name)}
			}
		}
	}
	return err
}

// extraction is one call of Extract.
type extraction struct {
	Options
	names  []Name
	target *extract.Target
	result Result
}

// inScratch makes the scratch directory, and exports from it.
func (x *extraction) inScratch(ctx context.Context, r io.Reader, s *Selection) (err error) {
	if x.Keys == nil {
		x.Keys = new(keyring.Keys) // which the backup may have itself
	}
	o := x.Options.Options
	o.Directory, o.Apply, o.Selection = filepath.Join(x.Directory, scratchName), true, s
	if x.result.Extracted, x.result.Applied, err = sink.Run(ctx, r, o); err != nil {
		return err
	}
	if x.Server.Program != "" {
		x.Progress.Begin("letting a server end transactions", 0)
		if err := x.finish(ctx, o.Directory); err != nil {
			return err
		}
	}
	x.Progress.Begin("exporting tables", 0)
	d, err := export.OpenDirectory(o.Directory, export.Options{Keys: o.Keys, Below: scratchName, Served: x.result.Finished.Served()})
	if err != nil {
		return err
	}
	return errors.Join(x.export(ctx, d), d.Close())
}

// finish lets the server finish what is pending for the tables.
func (x *extraction) finish(ctx context.Context, dir string) error {
	d, err := export.OpenDirectory(dir, export.Options{Keys: x.Keys})
	if err != nil {
		return err
	}
	chosen, err := x.choose(d)
	if err == nil {
		x.result.Finished, err = d.Finish(ctx, x.Server, chosen...)
	}
	return errors.Join(err, d.Close())
}

// clear removes the scratch directory.
func (x *extraction) clear() error {
	if err := x.target.Root.RemoveAll(scratchName); err != nil {
		return fmt.Errorf("removing %s: %w", filepath.Join(x.Directory, scratchName), err)
	}
	return nil
}

// export writes the tables. Nothing may be pending for any of them but what hb rolls back itself.
func (x *extraction) export(ctx context.Context, d *export.Directory) error {
	chosen, err := x.choose(d)
	if err != nil {
		return err
	}
	if err := d.Writable(chosen...); err != nil {
		return err
	}
	if err := x.definitions(d); err != nil {
		return err
	}
	for _, t := range chosen {
		var w *export.Written
		err := d.Verify(ctx, t, nil)
		if err == nil && x.isSequence(t) {
			if err = x.sequence(d, t); err == nil {
				continue
			}
		} else if err == nil {
			w, err = d.Write(ctx, t, x.target.Root)
		}
		if x.refuses(t, err) {
			continue
		}
		if err != nil {
			return err
		}
		x.result.Tables = append(x.result.Tables, w)
	}
	return x.define(d)
}

// definitions reads those of the databases.
func (x *extraction) definitions(d *export.Directory) error {
	var databases []string // that were asked for as a whole
	for _, n := range x.names {
		if n.Table == "" {
			databases = append(databases, n.Database)
		}
	}
	definitions, err := d.Definitions(func(def *metadata.Definition) bool {
		return slices.ContainsFunc(x.names, func(n Name) bool { return n.Database == def.Database })
	})
	if err != nil {
		return err
	}
	x.result.Objects = restore.Objects{Definitions: definitions, Databases: databases, Sequences: map[restore.Name]*export.Sequence{}}
	return nil
}

// isSequence reports whether a table is a sequence of MariaDB that is made again with its database:
// servers do not import its file.
func (x *extraction) isSequence(t *export.Table) bool {
	o := &x.result.Objects
	return t.Engine == export.InnoDB && o.Definitions != nil && slices.Contains(o.Databases, t.Database) && o.Definitions.Find(metadata.DefinesSequence, t.Database, t.Name) != nil
}

// sequence notes where a sequence goes on.
func (x *extraction) sequence(d *export.Directory, t *export.Table) error {
	s, err := d.Sequence(t)
	if err == nil {
		x.result.Objects.Sequences[restore.Name{Database: t.Database, Table: t.Name}] = s
	}
	return err
}

// define writes how the tables are defined, and the script that brings them back.
func (x *extraction) define(d *export.Directory) error {
	r := &x.result
	r.From, r.PageSize = restore.Server{MariaDB: d.MariaDB(), Version: d.Version()}, d.System().Space().Logical
	for _, w := range r.Tables {
		create, err := d.Create(w.Table, r.Objects.Definitions)
		if err == nil {
			_, err = restore.New(w, create, r.From, x.As)
		}
		if refused, none := errors.AsType[*export.RefusedError](err); none {
			r.Undefined = append(r.Undefined, fmt.Sprintf("the files of table %v are in the directory, but hb has no CREATE TABLE for it: %s", w.Table, refused.What))
			continue
		}
		if err != nil {
			return err
		}
		r.Sources = append(r.Sources, restore.Source{Written: w, Create: create, As: x.As})
	}
	if len(r.Sources)+len(r.Objects.Sequences) == 0 {
		return nil
	}
	return restore.Write(x.target.Root, r.Sources, r.From, r.Objects)
}

// refuses notes that a table of a database cannot be exported, or is damaged, which is no reason
// not to export the others.
func (x *extraction) refuses(t *export.Table, err error) bool {
	_, refused := errors.AsType[*export.RefusedError](err)
	_, damaged := errors.AsType[*backupdir.DamageError](err)
	if !refused && !damaged || slices.Contains(x.names, Name{t.Database, t.Name}) {
		return false
	}
	x.result.Refused = append(x.result.Refused, err)
	return true
}

// unlisted notes the tables of whole databases that have a definition in the directory, and
// nothing that could be exported: those of engines that keep no rows in files.
func (x *extraction) unlisted(d *export.Directory, found map[Name]bool) error {
	return backupdir.EachDatabaseFile(d.Root(), func(file string) error {
		ext := path.Ext(file)
		of, ok := owner(file)
		if !ok || of.Table == "" || ext != ".frm" && ext != ".sdi" || strings.Contains(file, "#") {
			return nil
		}
		n := decoded(of)
		if found[n] || !slices.Contains(x.names, Name{Database: n.Database}) {
			return nil
		}
		if ext == ".frm" {
			view, err := isView(d.Root(), file)
			if err != nil || view {
				return err
			}
		}
		found[n] = true
		x.result.Refused = append(x.result.Refused, &export.RefusedError{Table: n.String(),
			What: "the backup has its definition, and no files with its rows, because its engine keeps them in memory or elsewhere, or because its tablespace is discarded: make it again"})
		return nil
	})
}

// isView reports whether a .frm file is a view's.
func isView(root disk.Dir, file string) (_ bool, err error) {
	f, err := root.Open(file)
	if err != nil {
		return false, err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	head := make([]byte, len(viewHead))
	n, err := f.ReadAt(head, 0)
	if err == io.EOF {
		err = nil
	}
	return string(head[:n]) == viewHead, err
}

// viewHead begins the .frm files of views, which are texts. (TestDatabase)
const viewHead = "TYPE=VIEW"

// choose returns the tables that were asked for, and can be exported as far as they are described.
func (x *extraction) choose(d *export.Directory) (chosen []*export.Table, err error) {
	all, err := d.Tables()
	if err != nil {
		return nil, err
	}
	found := make(map[Name]bool)
	for _, t := range all {
		table, database := Name{t.Database, t.Name}, Name{Database: t.Database}
		for _, n := range x.names {
			if n == table || n == database {
				if !found[table] {
					chosen = append(chosen, t)
				}
				found[table], found[database] = true, true
			}
		}
	}
	for _, n := range x.names {
		if n.Table != "" && !found[n] {
			return nil, &NotFoundError{Name: n, View: true}
		}
	}
	x.result.Refused = nil
	if err := x.unlisted(d, found); err != nil {
		return nil, err
	}
	out := chosen[:0]
	for _, t := range chosen {
		switch err := d.Describe(t); {
		case x.refuses(t, err):
		case err != nil:
			return nil, err
		default:
			out = append(out, t)
		}
	}
	return out, nil
}

// RefusedError says which tables could not be exported, or have no CREATE TABLE.
type RefusedError struct {
	Directory string
	Tables    int // that can be imported
	Refused   []error
}

func (e *RefusedError) Error() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%d tables can be imported from %s, and %d cannot:", e.Tables, e.Directory, len(e.Refused))
	for _, err := range e.Refused {
		fmt.Fprintf(&b, "\n%v", err)
	}
	return b.String()
}

// refused returns a *RefusedError if there are tables that were asked for, and that cannot be
// imported from the directory.
func (x *extraction) refused() error {
	all := slices.Clone(x.result.Refused)
	for _, text := range x.result.Undefined {
		all = append(all, errors.New(text))
	}
	if len(all) == 0 {
		return nil
	}
	return &RefusedError{x.Directory, len(x.result.Sources), all}
}

// Warnings are what the user should know.
func (r *Result) Warnings() []string {
	var back []restore.Name
	for _, src := range r.Sources {
		back = append(back, restore.Name{Database: src.Written.Table.Database, Table: src.Written.Table.Name})
	}
	all := slices.Concat(r.Extracted.Warnings, r.Applied.Warnings, r.Objects.Unrecorded(back))
	if text := restore.Counters(r.Sources, r.From); text != "" {
		all = append(all, text)
	}
	var xa []*undo.XID
	if r.Finished != nil {
		xa = r.Finished.RolledBack
	}
	for _, w := range r.Tables {
		if w.Rebuild {
			all = append(all, fmt.Sprintf("table %v: changes of its secondary indexes are only in the change buffer; after the import, its indexes are built again (ALTER TABLE … FORCE). --server makes these changes on a copy instead", w.Table))
		}
		if w.RolledBack != nil {
			xa = append(xa, w.RolledBack.XA()...)
		}
	}
	var names []string
	for _, x := range xa {
		names = append(names, committed.XAName(x))
	}
	slices.Sort(names)
	for _, name := range slices.Compact(names) {
		all = append(all, fmt.Sprintf("XA transaction %s was prepared when the backup ended. The tables are as if it had been rolled back; a server on the whole backup still has it", name))
	}
	return all
}

// Describe describes the result for a directory, and the time that it took.
func (r *Result) Describe(dir string, took time.Duration) string {
	return fmt.Sprintf("extracted %s, %s, as of LSN %d, into %s, in %s; read %s of the archive",
		r.count(), stream.Size(r.bytes()), r.Applied.LSN, dir, took, stream.Size(r.Extracted.Read))
}

func (r *Result) count() string {
	if len(r.Tables) == 1 {
		return fmt.Sprintf("table %v", r.Tables[0].Table)
	}
	return fmt.Sprintf("%d tables", len(r.Tables))
}

func (r *Result) bytes() (n int64) {
	for _, w := range r.Tables {
		n += w.Bytes
	}
	return n
}

// Facts are the result for programs.
func (r *Result) Facts() []slog.Attr {
	names, files := []string{}, 0
	for _, w := range r.Tables {
		names, files = append(names, w.Table.String()), files+len(w.Files)
	}
	facts := []slog.Attr{slog.Any("exported", names), slog.Int("files", files), slog.Int64("bytes", r.bytes()), slog.Int64("bytes_read", r.Extracted.Read)}
	facts = append(facts, r.Extracted.About()...)
	return append(facts, slog.Uint64("from_lsn", uint64(r.Applied.FromLSN)), slog.Uint64("last_lsn", uint64(r.Applied.LSN)))
}
