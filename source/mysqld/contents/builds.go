package contents

import (
	"context"
	"fmt"
	"regexp"
	"strconv"

	"hb/source/mysqld"
	"hb/xbstream/innodb"
)

// A Build is an index that the server has not put into service yet.
type Build struct {
	Space innodb.SpaceID // that its pages are in, or will be
	// State changes when the build ends: it holds the names that the dictionary
	// has until then.
	State string
}

// The indexes in the dictionary that are not in service. The dictionary shows changes
// at once, without regard to transactions. DISTINCT makes the list of tables one that
// the server looks up by its key.
//
// In 5.7, whose builds leave no redo, the dictionary marks the name of an index
// under construction (shown as "?name"), and the name of a table that is rebuilt
// in place (#sql-ib…). The tables that hold a full-text index have names with its
// id; their own indexes carry no mark. In both series an index of a discarded
// tablespace has none.
const (
	buildsOf56 = "SELECT i.INDEX_ID, i.NAME, t.NAME AS TABLE_NAME, t.SPACE" + dictionaryIndexes + noSpace
	buildsOf57 = buildsOf56 + ` OR i.NAME LIKE '?%' OR t.NAME LIKE '%/#sql-ib%' OR t.NAME LIKE '%/FTS\_%\_INDEX\__'`

	dictionaryIndexes = " FROM information_schema.INNODB_SYS_INDEXES i JOIN" +
		" (SELECT DISTINCT TABLE_ID, NAME, SPACE FROM information_schema.INNODB_SYS_TABLES) t ON t.TABLE_ID = i.TABLE_ID WHERE"
	noSpace = " i.SPACE = 4294967295"
)

// fullTextTable is the name of a table of a full-text index: the ids of table and
// index, in hexadecimal since 5.6.14 (fts_write_object_id).
var fullTextTable = regexp.MustCompile(`/FTS_[0-9a-f]+_([0-9a-f]+)_INDEX_[0-9]$`)

// Builds lists, by the id of the index, what changes pages without redo until it
// ends, on MySQL 5.6 and 5.7: indexes that are under construction (5.7), and
// those whose tablespace is discarded, so that it may be imported. It needs
// PROCESS.
func Builds(ctx context.Context, srv *mysqld.Server) (map[uint64]Build, error) {
	query := buildsOf56
	if srv.Series.UnloggedBuilds {
		query = buildsOf57
	}
	builds := make(map[uint64]Build)
	parents := make(map[uint64]uint64) // of a full-text index's table: the index
	err := srv.Control.Each(ctx, query, func(row map[string]string) error {
		id, err := strconv.ParseUint(row["INDEX_ID"], 10, 64)
		space, err2 := strconv.ParseUint(row["SPACE"], 10, 32)
		if err != nil || err2 != nil {
			return fmt.Errorf("the server's list of indexes: index %q in tablespace %q", row["INDEX_ID"], row["SPACE"])
		}
		table := row["TABLE_NAME"]
		builds[id] = Build{innodb.SpaceID(space), row["NAME"] + " of " + table}
		if m := fullTextTable.FindStringSubmatch(table); m != nil {
			if parents[id], err = strconv.ParseUint(m[1], 16, 64); err != nil {
				return fmt.Errorf("the server's list of indexes: %s: %w", table, err)
			}
		}
		return nil
	})
	for id, parent := range parents {
		if p, ok := builds[parent]; ok {
			builds[id] = Build{builds[id].Space, p.State}
		} else {
			delete(builds, id)
		}
	}
	return builds, err
}
