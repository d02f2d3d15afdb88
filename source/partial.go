package source

import (
	"context"
	"fmt"

	"hb/source/datadir"
	"hb/source/mysqld/contents"
	"hb/source/pages"
	"hb/source/redo"
	"hb/source/scope"
	"hb/xbstream/innodb"
	"hb/xbstream/metadata"
)

// lookAt identifies the tablespaces of the last listing, while tablespaces cannot change:
// those of a partial backup, and, as strictly, those that it leaves out.
func (b *backup) lookAt(ctx context.Context, list *datadir.Listing) (err error) {
	if b.last, err = b.Inventory.Look(ctx, list.Tablespaces); err != nil {
		return err
	}
	left, err := b.Inventory.Look(ctx, list.LeftOut)
	if err != nil {
		return err
	}
	b.last.Left, b.last.LeftDeferred = left.Files, left.Deferred
	b.databases = list.Kept()
	return b.checkScope(ctx, list)
}

// checkScope makes sure that everything that the options name is there, at the moment that
// the backup is of: a table that is made after that may have the name of one that was dropped
// before.
func (b *backup) checkScope(ctx context.Context, list *datadir.Listing) error {
	s := b.Layout.Scope
	if s == nil {
		return nil
	}
	has := scope.ContentsOf(list.Databases, list.Names())
	gone := s.Check(has, true)
	if gone == nil {
		return nil
	}
	tables, err := contents.InnoDBNames(ctx, b.Server) // some have no file
	if contents.NoSuchList(err) {
		return gone
	}
	if err != nil {
		return err
	}
	for name := range tables {
		has.Add(name)
	}
	return s.Check(has, true)
}

// settleScope decides, of a partial backup, which tablespaces it leaves out: those to which
// the redo log may have changes that nobody needs.
func (b *backup) settleScope(end pages.Settlement, files map[innodb.SpaceID]*redo.FileState) error {
	if b.Layout.Scope == nil {
		return nil
	}
	var there []innodb.SpaceID
	for key := range end.Now {
		there = append(there, key.ID)
	}
	left := make(map[innodb.SpaceID]bool, len(end.Left))
	for _, id := range end.Left {
		left[id] = true
	}
	for _, id := range there {
		if left[id] {
			return fmt.Errorf("tablespace %d is in the scope of the backup and out of it", id)
		}
	}
	for id, state := range files {
		if !left[id] && !state.Deleted {
			there = append(there, id)
		}
	}
	if b.leftOut = metadata.SpaceRanges(end.Left, there); len(b.leftOut) > metadata.MaxLeftOut {
		return &TooScatteredError{len(b.leftOut)}
	}
	return nil
}

// TooScatteredError says that the tablespaces that a partial backup leaves out lie in too
// many ranges between those that it has.
type TooScatteredError struct{ Ranges int }

func (e *TooScatteredError) Error() string {
	return fmt.Sprintf("the tablespaces that the backup would leave out are in %d ranges, more than %d: choose more tables, or all", e.Ranges, metadata.MaxLeftOut)
}
