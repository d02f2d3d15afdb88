package source

import (
	"fmt"

	"hb/xbstream/innodb"
)

// proveWritten makes sure that every page which the archive has as zeros, and which is
// in use, is made by the redo log. The server had written all pages as they were at
// the checkpoint where the log begins: one that was in use then, that no record is
// about since, and that is zero, has lost its content. Where the server has changed
// which pages are in use since, that cannot be told of servers that build indexes
// without redo while a backup runs (MySQL up to 5.7, and MariaDB up to 10.5 with
// innodb_log_optimize_ddl): there the page passes. Of the system
// tablespace hb only warns: it may have been upgraded from servers that no test has.
func (b *backup) proveWritten() error {
	from, files := b.follower.Checkpoint().LSN, b.follower.Files()
	logged := b.srv.Series.ListsOpen || b.srv.Series.LogStatus // MariaDB from 10.6 on; MySQL from 8.0 on
	pages, full := b.copier.ZeroPages()
	if full {
		b.warn("the server had so many pages in use and not yet written (%d or more) that hb did not look at all of them for lost ones: hb verify finds those in the directory that hb apply leaves", len(pages))
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
			return &UnloggedError{Name: z.File.Name}
		}
		lost := &innodb.PageError{PageID: z.PageID, What: "is in use, and zero"}
		if z.Space == 0 {
			if !warned {
				b.warn("%s: %v: its content is lost on the server, unless a very old server allocated it and never wrote it", z.File.Path, lost)
			}
			warned = true
			continue
		}
		return fmt.Errorf("copying %s: %w; the page is damaged on the server: check the table there (CHECK TABLE) before backing up", z.File.Path, lost)
	}
	return nil
}
