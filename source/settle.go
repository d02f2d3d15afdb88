package source

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"path"
	"slices"
	"strings"

	"hb/source/datadir"
	"hb/source/mysqld"
	"hb/source/mysqld/contents"
	"hb/source/pages"
	"hb/source/redo"
	"hb/xbstream/innodb"
)

// settle sends the tablespaces that the archive still lacks, and records their final
// names.
func (b *backup) settle(ctx context.Context) error {
	files := b.follower.Files()
	rules := b.family.rules()
	if b.Layout.Scope != nil {
		rules.Has = b.Layout.Scope.Has
	}
	end, err := pages.Settle(b.last, files, rules)
	if err != nil {
		return err
	}
	if err := b.settleScope(end, files); err != nil {
		return err
	}
	if err := b.proveCopied(files); err != nil {
		return err
	}
	for _, info := range end.Unknown {
		if err := b.Inventory.Young(ctx, info); err != nil {
			return err
		}
	}
	for _, info := range end.Empty {
		if err := b.CheckEmpty(ctx, info); err != nil {
			return err
		}
	}
	if b.Server.Flavor == mysqld.MariaDB { // else the server's own list is compared
		if err := b.registry.Vanished(slices.Concat(b.last.Files, b.last.Left), files, rules.Named); err != nil {
			return err
		}
	}
	for _, t := range end.Stubs {
		if err := b.sendStub(t); err != nil {
			return err
		}
	}
	b.now = end.Now
	b.warnImported(files)
	return nil
}

// proveCopied makes sure that the archive has a copy of every tablespace that was there when
// they were listed for the last time: one that was void, and was not made again, would be
// missed by nothing else if the redo log does not name the tablespace.
func (b *backup) proveCopied(files map[innodb.SpaceID]*redo.FileState) error {
	for _, t := range b.last.Files {
		if s := files[t.Space.ID]; !b.registry.Has(t.Key()) && (s == nil || !s.Deleted) {
			return &LostCopyError{t.Space.ID, t.Path}
		}
	}
	return nil
}

// LostCopyError says that hb lost a copy of a tablespace, and did not make another.
type LostCopyError struct {
	ID   innodb.SpaceID
	Path string
}

func (e *LostCopyError) Error() string {
	return fmt.Sprintf("%s (tablespace %d) was changed while hb copied it for the last time, so that the archive does not have it: back up again", e.Path, e.ID)
}

// warnImported names the tables that MariaDB imported after hb had read the deletion of
// their former tablespaces in the log. A server that recovers from such a log by itself
// leaves out the changes after the deletion (sink's apply refuses to leave it to one).
func (b *backup) warnImported(files map[innodb.SpaceID]*redo.FileState) {
	const most = 5
	var names []string
	for _, t := range b.last.Files {
		if s := files[t.Space.ID]; s != nil && s.Again {
			names = append(names, t.Name)
		}
	}
	if len(names) == 0 {
		return
	}
	more := ""
	if n := len(names) - most; n > 0 {
		more = fmt.Sprintf(" and %d more", n)
	}
	b.Warn("%s%s: imported during the backup (ALTER TABLE … IMPORT TABLESPACE), and changed after that: recover this backup with hb apply. "+
		"A server or mariadb-backup that recovers it would leave out those changes, and not notice", strings.Join(names[:min(len(names), most)], ", "), more)
}

// stubPages is how many pages a tablespace that has not been written has on
// disk (FIL_IBD_FILE_INITIAL_SIZE).
const stubPages = 4

// sendStub archives a tablespace whose creation is in the copied redo: the redo makes
// every page of it, so that the file need only exist. If page 0 has not reached the
// file, the redo has the creation: the first checkpoint after it would have written
// page 0, so it lies after the checkpoint where the copy of the redo begins.
func (b *backup) sendStub(t *pages.File) error {
	return b.copier.PutZero(t, stubPages)
}

// proveWritten makes sure that the redo log makes every page that is in use and zero
// in the archive. The server had written all pages as they were at the checkpoint
// where the log begins. So a page that was in use then, that no later record changes,
// and that is zero has lost its content. If the server has changed since which pages
// are in use, hb cannot know this of servers that build indexes without redo during a
// backup (MySQL up to 5.7, and MariaDB up to 10.5 with innodb_log_optimize_ddl): there
// the page passes. For the system tablespace hb only warns: it may have been upgraded
// from servers that no test has.
func (b *backup) proveWritten() error {
	from, files := b.follower.Checkpoint().LSN, b.follower.Files()
	logged := b.Server.Series.ListsOpen || b.Server.Series.LogStatus // MariaDB 10.6, MySQL 8.0, and later
	pages, full := b.copier.ZeroPages()
	if full {
		b.Warn("the server had so many unwritten pages in use (%d or more) that hb did not check all of them for lost content: run hb apply, and then hb verify on the directory", len(pages))
	}
	warned := false
	for _, z := range pages {
		if s := files[z.Space]; s != nil && (s.Created != 0 || s.Begun != 0 || s.Unlogged != 0 || s.Deleted) {
			continue
		}
		if !logged && z.Listed >= from || !b.registry.Has(z.Key) || !b.follower.Untouched(z.PageID) {
			continue
		}
		written, err := b.copier.Written(z)
		if err != nil {
			return err
		}
		if written { // by an index that is built without redo: the copy lacks it
			return &UnloggedError{Name: z.File.Name, Series: &b.Server.Series}
		}
		lost := &innodb.PageError{PageID: z.PageID, What: "is in use, and zero"}
		if z.Space == 0 {
			if !warned {
				b.Warn("%s: %v: its content is lost on the server, unless a very old server allocated it and never wrote it", z.File.Path, lost)
			}
			warned = true
			continue
		}
		return fmt.Errorf("copying %s: %w; the page is damaged on the server: check the table there (CHECK TABLE) before backing up", z.File.Path, lost)
	}
	return nil
}

// proveUnique makes sure, while tablespaces cannot change, that no two files are the
// same one. A file that waits for IMPORT TABLESPACE has the id of the tablespace that
// it is a copy of, and the name of a table that is discarded: it is left out. A file of
// another tablespace's id at the place of a table that is not discarded stays a stray.
func (b *backup) proveUnique(ctx context.Context) error {
	err := b.last.Unique()
	if _, twice := errors.AsType[*pages.DuplicateError](err); !twice {
		return err
	}
	spaces, lerr := contents.Tablespaces(ctx, b.Server)
	if contents.NoSuchList(lerr) {
		return err // nobody says which one is the server's
	}
	if lerr != nil {
		return lerr
	}
	tables, err := contents.InnoDBNames(ctx, b.Server)
	if err != nil {
		return err
	}
	files := make(map[string]innodb.SpaceID)
	for _, t := range slices.Concat(b.last.Files, b.last.Left) {
		files[t.Path] = t.Space.ID
	}
	owner := make(map[innodb.SpaceID]string) // of tablespaces that the server has in a file of that id
	used := make(map[string]bool)            // paths at which the server has a tablespace
	for _, s := range spaces {
		at := b.Layout.Seen(s.Path)
		if s.Discarded || s.ID == 0 {
			continue
		}
		if used[at] = true; files[at] == s.ID {
			owner[s.ID] = at
		}
	}
	waits := func(t *pages.File) bool {
		own := owner[t.Space.ID]
		if own == "" || used[t.Path] || !tables[strings.TrimSuffix(t.Name, ".ibd")] {
			return false
		}
		b.Warn("%s is left out: it has the tablespace id of %s, and waits for ALTER TABLE … IMPORT TABLESPACE", t.Path, own)
		b.registry.Discard(func(a *pages.Copy) bool { return a.Key == t.Key() })
		return true
	}
	b.last.Files, b.last.Left = slices.DeleteFunc(b.last.Files, waits), slices.DeleteFunc(b.last.Left, waits)
	return b.last.Unique()
}

// isThere reports whether a tablespace has a file under the server's name for it.
func (b *backup) isThere(name string) (bool, error) {
	_, err := b.Disk.Stat(b.Layout.Seen(name))
	return err == nil, datadir.IgnoreGone(err)
}

// serverNames are the names in the archive that the file of a tablespace may have: the
// last two parts of the server's path for it, or what the server calls it. The directory
// that these are in does not matter: servers before MySQL 8.0 and MariaDB 10.6 may list a
// table that had a DATA DIRECTORY, and was restored inside, where it was before.
func serverNames(s contents.Tablespace) []string {
	dir, base := path.Split(s.Path)
	return []string{path.Join(path.Base(dir), base), s.Name + ".ibd"}
}

// wasMoved reports whether a file of a table, or a copy of it, has a name under which no
// server looks for it.
func wasMoved(name string, s contents.Tablespace) bool {
	if s.Kind != contents.SpaceTables || datadir.IsNameless(name) {
		return false
	}
	names := serverNames(s)
	if path.Base(name) == name { // a general tablespace
		names = append(names, path.Base(s.Path))
	}
	return !slices.Contains(names, datadir.PlainName(name))
}

// MissingSpacesError says that hb found no files of tablespaces that the server knows.
type MissingSpacesError struct{ Spaces []contents.Tablespace }

func newMissingSpaces(spaces []contents.Tablespace) *MissingSpacesError {
	slices.SortFunc(spaces, func(a, b contents.Tablespace) int { return cmp.Compare(a.ID, b.ID) })
	return &MissingSpacesError{spaces}
}

func (e *MissingSpacesError) Error() string {
	const most = 5
	var names []string
	for _, s := range e.Spaces[:min(len(e.Spaces), most)] {
		names = append(names, fmt.Sprintf("tablespace %d, %s (%s)", s.ID, s.Name, s.Path))
	}
	more := ""
	if n := len(e.Spaces) - most; n > 0 {
		more = fmt.Sprintf(" and %d more", n)
	}
	return fmt.Sprintf("the server knows of tablespaces whose files are not where it has them: %s%s; "+
		"a backup without them could not be restored: drop the tables, or bring the files back", strings.Join(names, "; "), more)
}
