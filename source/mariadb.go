package source

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"hb/source/datadir"
	"hb/source/mysqld/contents"
	"hb/source/mysqld/locks"
	"hb/source/mysqld/position"
	"hb/source/pages"
	"hb/source/redo"
	"hb/xbstream/innodb"
	"hb/xbstream/metadata"
)

// mariadbBackup is a backup of MariaDB.
type mariadbBackup struct {
	*backup
	stages *locks.Stages

	// listed are the tablespaces that the server listed last, while DDL went on; nil:
	// it has no such list.
	listed map[innodb.SpaceID]bool
	named  map[innodb.SpaceID][]string // and where it had those of tables
}

// release ends the stages after an error.
func (b *mariadbBackup) release() error {
	return b.stages.Close()
}

// rules: the redo has the whole of a tablespace that it creates.
func (b *mariadbBackup) rules() pages.Rules {
	return pages.Rules{LogsCreation: true, Listed: b.listed, Named: b.named}
}

func (b *mariadbBackup) describe(*metadata.Manifest) {}

func (b *mariadbBackup) openRedo(ctx context.Context) (err error) {
	b.copier.Again = true // until DDL is locked out
	b.copier.Truncated = b.undoTrimmed
	b.BeforeList = b.listKnown
	if err := b.askKeys(ctx); err != nil {
		return err
	}
	if b.lsns, err = position.Observe(ctx, b.Server); err != nil { // it must not queue behind other queries
		return err
	}
	b.follower, err = redo.Open(b.Disk, b.Layout.RedoDir, b.Options.Tmpdir, b.lsns.LSNs, b.Keys)
	return err
}

// undoTrimmed is Copier.Truncated of MariaDB: the server has the truncation of an undo
// tablespace in its log's file before it cuts the tablespace's (mtr_t::commit_shrink).
func (b *mariadbBackup) undoTrimmed(ctx context.Context, id innodb.SpaceID, page0 innodb.LSN) (bool, error) {
	if b.follower.File(id).Begun > page0 {
		return true, nil
	}
	err := b.knowRedo(ctx)
	return b.follower.File(id).Begun > page0, err
}

// enter makes the step of entering a backup stage.
func (b *mariadbBackup) enter(stage locks.Stage) step {
	return func(ctx context.Context) error {
		b.Options.Progress.Begin("waiting for BACKUP STAGE "+stage.String(), 0)
		if err := b.stages.Enter(ctx, stage); err != nil {
			return fmt.Errorf("entering backup stage %v: %w", stage, err)
		}
		return nil
	}
}

func (b *mariadbBackup) endStages(ctx context.Context) error { return b.stages.End(ctx) }

// stageMariaDB stages the files of other engines, Aria's control file first: it
// names the point in the Aria log where recovery begins, so that nothing that
// is copied after it may be older.
func (b *mariadbBackup) stageMariaDB(ctx context.Context) error {
	list, err := b.Layout.List()
	if err != nil {
		return err
	}
	control, logs, err := b.Layout.AriaFiles()
	if err != nil {
		return err
	}
	return b.stageAhead(ctx, control, list.Others, logs)
}

// listKnown asks which tablespaces the server has open, or opens when it needs them, before
// files are listed. Without that, every table that nobody has used since the server was
// started would be copied twice, and under BACKUP STAGE BLOCK_DDL the second time.
func (b *mariadbBackup) listKnown(ctx context.Context) error {
	spaces, err := contents.Tablespaces(ctx, b.Server)
	if contents.NoSuchList(err) {
		return nil // proveListed warns of it
	}
	if err != nil {
		return err
	}
	known, err := contents.WithIndexes(ctx, b.Server)
	if contents.NoSuchList(err) {
		known, err = make(map[innodb.SpaceID]bool), nil
	}
	if err != nil {
		return err
	}
	for _, s := range spaces {
		if has, listed := known[s.ID]; has || !listed { // else it was discarded since
			known[s.ID] = !s.Discarded
		}
	}
	b.copier.Known = known
	return nil
}

// A tablespace whose file is not there, although the server lists it, may be one
// that is being renamed or dropped: hb looks for it again so many times, after pauses
// that double.
const (
	listRetries    = 5
	firstListRetry = 4 * time.Millisecond
)

// proveListed makes sure that nobody removed a tablespace's file before hb copied it:
// the server, which holds the file open, would not notice. (settle notices files
// that vanish later, or have another name than the server's.) DDL goes on: the tablespaces it creates have files, and hb
// copies them later.
func (b *mariadbBackup) proveListed(ctx context.Context) error {
	missing, err := b.missingSpaces(ctx)
	switch {
	case contents.NoSuchList(err):
		b.Warn("the server does not list its tablespaces (innodb_sys_tablespaces=OFF): hb cannot detect data files that were deleted while the server was running, or tablespaces that were imported while they were copied")
		return nil
	case err != nil:
		return err
	}
	missing = slices.DeleteFunc(missing, func(s contents.Tablespace) bool {
		if s.Discarded {
			b.Warn("tablespace %d, %s, has no file: it was discarded (ALTER TABLE … DISCARD TABLESPACE), and will be in a restored server too", s.ID, s.Name)
		}
		return s.Discarded
	})
	if len(missing) > 0 {
		return newMissingSpaces(missing)
	}
	return nil
}

// missingSpaces returns the tablespaces that the server lists and whose files are not
// where the server has them.
func (b *mariadbBackup) missingSpaces(ctx context.Context) (missing []contents.Tablespace, err error) {
	wait := firstListRetry
	for try := 0; ; try++ {
		spaces, err := contents.Tablespaces(ctx, b.Server)
		if err != nil {
			return nil, err
		}
		b.listed, b.named = make(map[innodb.SpaceID]bool, len(spaces)), make(map[innodb.SpaceID][]string, len(spaces))
		for _, s := range spaces {
			b.listed[s.ID] = !s.Discarded
			if s.Kind == contents.SpaceTables && !s.Discarded {
				b.named[s.ID] = serverNames(s)
			}
		}
		before := missing
		if missing, err = b.withoutFile(spaces); err != nil {
			return nil, err
		}
		if try > 0 {
			missing = slices.DeleteFunc(missing, func(s contents.Tablespace) bool {
				return !slices.ContainsFunc(before, func(t contents.Tablespace) bool { return t.ID == s.ID })
			})
		}
		if len(missing) == 0 || try == listRetries {
			return missing, nil
		}
		if err := datadir.Pause(ctx, wait); err != nil {
			return nil, err
		}
		wait *= 2
	}
}

// withoutFile returns those of the server's tablespaces that have no file where the server
// has them, and of which the archive has no copy, or one of a file that somebody moved.
func (b *mariadbBackup) withoutFile(spaces []contents.Tablespace) (out []contents.Tablespace, err error) {
	names := b.registry.Names()
	for _, s := range spaces {
		if s.Kind == contents.SpaceTemporary || datadir.IsTemporary(s) {
			continue
		}
		there, err := b.isThere(s.Path)
		if state := b.follower.File(s.ID); err == nil && !there && state.Path != "" && !state.Deleted {
			there, err = b.isThere(state.Path) // renamed since it was listed
		}
		if err != nil {
			return nil, err
		}
		if name, have := names[s.ID]; !there && (!have || wasMoved(name, s)) {
			out = append(out, s)
		}
	}
	return out, nil
}

// underBlockDDL brings tablespaces and the files of other engines to their
// final state, while DDL and the writers of those engines wait.
func (b *mariadbBackup) underBlockDDL(ctx context.Context) error {
	b.Options.Progress.Begin("copying changed files", 0)
	locked, err := position.CurrentLSN(ctx, b.Server)
	if err != nil {
		return err
	}
	if err := b.FindOwners(ctx); err != nil {
		return err
	}
	list, err := b.Layout.List()
	if err != nil {
		return err
	}
	if err := b.Engines.Check(list.Others); err != nil {
		return err
	}
	if err := b.stage.Refresh(ctx, list.Others, datadir.IsNoLog); err != nil {
		return err
	}
	b.definitions.Locked(ctx)
	if err := b.lookAt(ctx, list); err != nil {
		return err
	}
	b.last.LSN = locked
	b.underStage()
	b.copier.Again, b.copier.Known = false, nil // IMPORT TABLESPACE waits too
	b.registry.Discard(func(a *pages.Copy) bool {
		_, ok := a.Table()
		return ok && a.Unlisted
	})
	if err := b.proveUnique(ctx); err != nil {
		return err
	}
	if _, err := b.copyMissing(ctx, b.last); err != nil {
		return err
	}
	return b.definitions.Await()
}

// underBlockCommit takes the position, and everything that only this lock keeps from
// changing. Every microsecond counts here: no commit goes through.
func (b *mariadbBackup) underBlockCommit(ctx context.Context) error {
	b.Options.Progress.Begin("taking the position", 0)
	if err := b.stand(ctx, b.stages); err != nil {
		return err
	}
	if err := position.FlushEngineLogs(ctx, b.Server); err != nil {
		return err
	}
	return b.stageLast(ctx)
}

// stageLast stages what is final only after commits are blocked: the files of the
// server's own tables, and last the Aria log, which then has every change to the
// crash-safe Aria tables that were staged before.
func (b *mariadbBackup) stageLast(ctx context.Context) error {
	late, err := b.Layout.LateFiles()
	if err != nil {
		return err
	}
	if err := b.stage.Refresh(ctx, late, func(name string) bool { return datadir.IsLateFile(name) && datadir.IsNoLog(name) }); err != nil {
		return err
	}
	if err := b.stage.RefreshLogTables(ctx, late, b.flushLogTable); err != nil {
		return err
	}
	_, logs, err := b.Layout.AriaFiles()
	if err != nil {
		return err
	}
	return b.stage.Refresh(ctx, logs, datadir.IsAriaLog)
}

// externalSpaces are those of MariaDB's tables with DATA DIRECTORY.
func (b *mariadbBackup) externalSpaces() (out []metadata.ExternalSpace) {
	files := slices.Clone(b.last.Deferred)
	for _, t := range b.last.Files {
		files = append(files, t.File)
	}
	for _, info := range files {
		if base, ok := strings.CutSuffix(info.Name, ".ibd"); ok && b.Layout.IsOutside(info.Path) {
			out = append(out, metadata.ExternalSpace{File: info.Path, Name: base, Type: metadata.ExternalTable, Outside: true})
		}
	}
	slices.SortFunc(out, func(a, b metadata.ExternalSpace) int { return strings.Compare(a.File, b.File) })
	return out
}
