package source

import (
	"context"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"hb/source/mysqld"
	"hb/source/redo"
)

// mariadbState is what only a backup of MariaDB has.
type mariadbState struct {
	stages *mysqld.Stages
	galera *mysqld.GaleraState // nil: not asked for, or no cluster
}

func (m *mariadbState) close() error {
	if m.stages == nil {
		return nil
	}
	return m.stages.Close()
}

func (b *backup) openMariaDBRedo() (err error) {
	b.follower, err = redo.Open(b.disk, b.layout.RedoDir, b.opt.Tmpdir, b.srv.LSNs)
	return err
}

// enter makes the step of entering a backup stage.
func enter(stage mysqld.Stage) step {
	return func(b *backup, ctx context.Context) error {
		b.opt.Progress.Begin("waiting for BACKUP STAGE "+stage.String(), 0)
		b.mariadb.stages = b.srv.Stages()
		if err := b.mariadb.stages.Enter(ctx, stage); err != nil {
			return fmt.Errorf("entering backup stage %v: %w", stage, err)
		}
		return nil
	}
}

func (b *backup) endStages(ctx context.Context) error { return b.mariadb.stages.End(ctx) }

// stageMariaDB stages the files of other engines, Aria's control file first: it
// names the point in the Aria log where recovery begins, so that nothing that
// is copied after it may be older.
func (b *backup) stageMariaDB(ctx context.Context) error {
	list, err := b.layout.list()
	if err != nil {
		return err
	}
	control, logs, err := b.layout.ariaFiles()
	if err != nil {
		return err
	}
	return b.stageAhead(ctx, control, list.others, logs)
}

// A tablespace whose file is not there, although the server lists it, may be one
// that is being renamed or dropped: so often it is looked at again, after pauses
// of which each is twice the one before.
const (
	listRetries    = 5
	firstListRetry = 4 * time.Millisecond
)

// proveListed makes sure that no file of a tablespace was removed behind the
// server's back, which holds it open and believes that it has it, before it was
// copied. (What vanishes later settle notices.) DDL goes on meanwhile: what it
// makes has a file, and is copied later.
func (b *backup) proveListed(ctx context.Context) error {
	missing, err := b.missingSpaces(ctx)
	switch {
	case mysqld.NoSuchList(err):
		b.warn("the server does not list its tablespaces (innodb_sys_tablespaces=OFF): that a file was removed behind its back would not be noticed")
		return nil
	case err != nil || len(missing) == 0:
		return err
	case b.srv.Dialect.ListsOpen:
		return newMissingSpaces(missing)
	}
	for _, s := range missing {
		b.warn("tablespace %d, %s, has no file, and is not in the backup: it was discarded (ALTER TABLE … DISCARD TABLESPACE), or somebody removed its file", s.ID, s.Name)
	}
	return nil
}

// missingSpaces returns the tablespaces that the server lists, that are not in the
// archive, and that have no file either.
func (b *backup) missingSpaces(ctx context.Context) (missing []mysqld.Tablespace, err error) {
	wait := firstListRetry
	for try := 0; ; try++ {
		spaces, err := b.srv.Tablespaces(ctx)
		if err != nil {
			return nil, err
		}
		before := missing
		if missing, err = b.withoutFile(spaces); err != nil {
			return nil, err
		}
		if try > 0 {
			missing = slices.DeleteFunc(missing, func(s mysqld.Tablespace) bool {
				return !slices.ContainsFunc(before, func(t mysqld.Tablespace) bool { return t.ID == s.ID })
			})
		}
		if len(missing) == 0 || try == listRetries {
			return missing, nil
		}
		if err := pause(ctx, wait); err != nil {
			return nil, err
		}
		wait *= 2
	}
}

// withoutFile returns those of the server's tablespaces of which the archive has no
// copy, and the disk no file.
func (b *backup) withoutFile(spaces []mysqld.Tablespace) (out []mysqld.Tablespace, err error) {
	have := b.registry.ids()
	for _, s := range spaces {
		if have[s.ID] || s.Kind == mysqld.SpaceTemporary || isTemporary(s) {
			continue
		}
		_, err := b.disk.Stat(b.layout.seen(s.Path))
		switch {
		case err == nil:
		case ignoreGone(err) != nil:
			return nil, err
		default:
			out = append(out, s)
		}
	}
	return out, nil
}

// underBlockDDL brings tablespaces and the files of other engines to their
// final state, while DDL and the writers of those engines wait.
func (b *backup) underBlockDDL(ctx context.Context) error {
	b.opt.Progress.Begin("copying changed files", 0)
	locked, err := b.srv.CurrentLSN(ctx)
	if err != nil {
		return err
	}
	list, err := b.layout.list()
	if err != nil {
		return err
	}
	if err := b.stage.refresh(ctx, list.others, anyFile); err != nil {
		return err
	}
	if b.last, err = b.inventory.look(ctx, list.tablespaces); err != nil {
		return err
	}
	b.last.lsn = locked
	b.databases = list.databases
	b.underStage()
	if err := b.last.unique(); err != nil {
		return err
	}
	_, err = b.copyMissing(ctx, b.last)
	return err
}

// underBlockCommit takes the position, and all that only this lock holds still.
// Here every microsecond counts: no commit goes through.
func (b *backup) underBlockCommit(ctx context.Context) (err error) {
	b.opt.Progress.Begin("taking the position", 0)
	b.follower.Hold()
	if err := b.takePosition(ctx); err != nil {
		return err
	}
	if b.end, err = b.srv.CurrentLSN(ctx); err != nil {
		return err
	}
	if err := b.srv.FlushEngineLogs(ctx); err != nil {
		return err
	}
	return b.stageLast(ctx)
}

// takePosition records where in the binary logs the backup stands.
func (b *backup) takePosition(ctx context.Context) error {
	var err error
	if b.spot, err = b.srv.BinlogPosition(ctx); err != nil {
		return err
	}
	if b.opt.SlaveInfo {
		if b.slave, err = b.srv.ReplicaState(ctx); err != nil {
			return err
		}
	}
	if b.opt.GaleraInfo {
		galera, on, err := b.srv.GaleraState(ctx)
		if err != nil {
			return err
		}
		if on {
			b.mariadb.galera = &galera
		}
	}
	return nil
}

// stageLast stages what is written until commits are blocked: the log and
// statistics tables, and at the very end the Aria log, which then holds every
// change to the crash-safe Aria tables that were staged before.
func (b *backup) stageLast(ctx context.Context) error {
	late, err := b.layout.lateFiles()
	if err != nil {
		return err
	}
	if err := b.stage.refresh(ctx, late, isLateFile); err != nil {
		return err
	}
	_, logs, err := b.layout.ariaFiles()
	if err != nil {
		return err
	}
	return b.stage.refresh(ctx, logs, ariaLogName.MatchString)
}

// ariaControl names Aria's control file: which log files there are and where
// recovery begins.
const ariaControl = "aria_log_control"

// ariaFiles lists Aria's control file and its logs.
func (l *Layout) ariaFiles() (control, logs []fileInfo, err error) {
	entries, err := l.disk.ReadDir(l.AriaLogDir)
	if err != nil {
		return nil, nil, fmt.Errorf("listing aria_log_dir_path: %w", err)
	}
	for _, e := range entries {
		list := &logs
		switch {
		case e.Name() == ariaControl:
			list = &control
		case !ariaLogName.MatchString(e.Name()):
			continue
		}
		info, err := statFile(l.disk, filepath.Join(l.AriaLogDir, e.Name()), e.Name())
		if err != nil {
			return nil, nil, err
		}
		*list = append(*list, info)
	}
	return control, logs, nil
}

// lateTables are the tables of the mysql database that are written until
// commits are blocked (sql/backup.cc of MariaDB, FLUSH_SYS_TABLES).
var lateTables = []string{"general_log", "slow_log", "table_stats", "column_stats", "index_stats"}

// isLateFile reports whether a file belongs to one of the late tables.
func isLateFile(name string) bool {
	base, ok := strings.CutPrefix(name, "mysql/")
	table, _, _ := strings.Cut(base, ".")
	return ok && slices.Contains(lateTables, table) && otherSuffixes[filepath.Ext(base)]
}

// lateFiles lists the files of the late tables.
func (l *Layout) lateFiles() ([]fileInfo, error) {
	out := listing{disk: l.disk}
	for _, table := range lateTables {
		for ext := range otherSuffixes {
			if err := out.addEntry(filepath.Join(l.Datadir, "mysql"), "mysql", table+ext); err != nil {
				return nil, err
			}
		}
	}
	return out.others, nil
}
