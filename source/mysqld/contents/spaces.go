// Package contents asks a server what it holds: tablespaces, tables, indexes that are
// being built, plugins, and what hb cannot back up.
package contents

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"strconv"

	"github.com/go-sql-driver/mysql"

	"hb/source/mysqld"
	"hb/xbstream/innodb"
)

// A SpaceKind is what a tablespace is for.
type SpaceKind int

// The kinds.
const (
	SpaceTables    SpaceKind = iota // one table or partition, or a general tablespace
	SpaceSystem                     // ibdata1 …
	SpaceUndo                       // undo log
	SpaceTemporary                  // ibtmp1 and the like: not backed up
)

// A Tablespace is one that the server knows.
type Tablespace struct {
	ID   innodb.SpaceID
	Name string // "db/t", "innodb_undo_001", or a general tablespace's
	Path string // absolute, as the server sees it; of the system tablespace the first file
	Kind SpaceKind
	// Flags are FSP_FLAGS; 0 if the server does not list them: for the system
	// tablespace, undo tablespaces, and discarded ones.
	Flags uint32
	// Encrypted: its pages are, or are being, encrypted.
	Encrypted bool
	// Discarded: ALTER TABLE … DISCARD TABLESPACE took its file away, and no IMPORT
	// TABLESPACE has ended since. MariaDB 10.6 and later do not list it.
	Discarded bool
}

// flagEncrypted is FSP_FLAGS' bit of an encrypted tablespace (5.7.11 and later).
const flagEncrypted = 1 << 13

// The lists of tablespaces. Before MySQL 8.0 and MariaDB 10.6 the dictionary's own
// tables have those of tables. On MySQL 5.7 INFORMATION_SCHEMA.FILES has the open
// ones with undo and temporary tablespaces; in 8.0 and later FILES has them all, but
// not the ids of discarded ones, which the brief list has.
const (
	spacesOf105 = "SELECT s.SPACE, s.NAME, 0 AS FLAG, d.PATH, " + mariadbType + ", '' AS ENCRYPTION" + dictionary
	spacesOf106 = "SELECT s.SPACE, s.NAME, 0 AS FLAG, s.FILENAME AS PATH, " + mariadbType + ", '' AS ENCRYPTION FROM information_schema.INNODB_SYS_TABLESPACES s"
	mariadbType = "CASE WHEN s.NAME = 'innodb_temporary' THEN 'TEMPORARY' WHEN s.NAME LIKE 'innodb\\_undo%' THEN 'UNDO LOG' ELSE 'TABLESPACE' END AS TYPE"
	spacesOf56  = "SELECT s.SPACE, s.NAME, s.FLAG, d.PATH, 'TABLESPACE' AS TYPE, '' AS ENCRYPTION" + dictionary
	dictionary  = " FROM information_schema.INNODB_SYS_TABLESPACES s JOIN information_schema.INNODB_SYS_DATAFILES d ON d.SPACE = s.SPACE"
	// discarded105: DISCARD TABLESPACE takes the roots of a table's indexes away, and
	// IMPORT TABLESPACE gives them back when all is on disk (row0import.cc,
	// row_import_update_index_root). All indexes first: few of them are joined.
	discarded105 = "SELECT t.SPACE FROM information_schema.INNODB_SYS_INDEXES i STRAIGHT_JOIN information_schema.INNODB_SYS_TABLES t ON t.TABLE_ID = i.TABLE_ID WHERE i.PAGE_NO IS NULL"
	filesOf57    = "SELECT FILE_ID AS SPACE, TABLESPACE_NAME AS NAME, 0 AS FLAG, FILE_NAME AS PATH, FILE_TYPE AS TYPE, '' AS ENCRYPTION FROM information_schema.FILES WHERE ENGINE = 'InnoDB'"
	spacesOf80   = "SELECT COALESCE(f.FILE_ID, b.SPACE) AS SPACE, f.TABLESPACE_NAME AS NAME, COALESCE(t.FLAG, 0) AS FLAG, f.FILE_NAME AS PATH, f.FILE_TYPE AS TYPE, t.ENCRYPTION FROM information_schema.FILES f LEFT JOIN information_schema.INNODB_TABLESPACES t ON t.SPACE = f.FILE_ID LEFT JOIN information_schema.INNODB_TABLESPACES_BRIEF b ON f.FILE_ID IS NULL AND b.NAME = f.TABLESPACE_NAME WHERE f.ENGINE = 'InnoDB'"
)

// Tablespaces lists the tablespaces that the server knows, in no order: those of
// tables and partitions, general ones, the system tablespace once, and undo and
// temporary tablespaces. (Of MySQL 5.6 and MariaDB 10.5 the last two are missing:
// undo tablespaces are the files undo001 … of Vars.UndoDir.) Under LOCK INSTANCE
// FOR BACKUP, or under FLUSH TABLES WITH READ LOCK before 8.0, the list does not
// change. It needs PROCESS.
func Tablespaces(ctx context.Context, srv *mysqld.Server) ([]Tablespace, error) {
	system, err := srv.Vars.SystemFiles()
	if err != nil {
		return nil, err
	}
	out := []Tablespace{{Name: "innodb_system", Path: system[0], Kind: SpaceSystem}}
	switch {
	case srv.Series.ListsOpen:
		return listSpaces(ctx, srv, spacesOf106, out)
	case srv.Series.Stages:
		return listDiscarded(ctx, srv, out)
	case srv.Series.ListsFiles:
		return listSpaces(ctx, srv, spacesOf80, out)
	}
	if out, err = listSpaces(ctx, srv, spacesOf56, out); err != nil {
		return nil, err
	}
	if !srv.Version.AtLeast(5, 7) {
		return out, noteWithoutIndexes(ctx, srv, out)
	}
	files, err := listSpaces(ctx, srv, filesOf57, nil)
	if err != nil {
		return nil, err
	}
	return merge57(out, files), nil
}

// merge57 adds those of files that belong to no table, and notes which tables have
// no file.
func merge57(out, files []Tablespace) []Tablespace {
	open := make(map[innodb.SpaceID]bool)
	for _, f := range files {
		open[f.ID] = true
		if f.Kind != SpaceTables {
			out = append(out, f)
		}
	}
	for i, t := range out {
		out[i].Discarded = t.Kind == SpaceTables && !open[t.ID]
	}
	return out
}

// listDiscarded is listSpaces for MariaDB 10.5: the dictionary lists discarded ones, too.
func listDiscarded(ctx context.Context, srv *mysqld.Server, out []Tablespace) ([]Tablespace, error) {
	out, err := listSpaces(ctx, srv, spacesOf105, out)
	if err != nil {
		return nil, err
	}
	ids := make(map[string]bool)
	err = srv.Control.Each(ctx, discarded105, func(row map[string]string) error {
		ids[row["SPACE"]] = true
		return nil
	})
	for i, t := range out {
		out[i].Discarded = t.Kind == SpaceTables && ids[strconv.FormatUint(uint64(t.ID), 10)]
	}
	return out, err
}

// WithIndexes returns the tablespaces of tables that MariaDB's dictionary knows and that are not
// discarded. MariaDB 10.6 and later open a table's file only when the table is used, or when
// they load pages of it into the buffer pool at their start: until then [Tablespaces] lacks it.
func WithIndexes(ctx context.Context, srv *mysqld.Server) (map[innodb.SpaceID]bool, error) {
	out := make(map[innodb.SpaceID]bool)
	for _, list := range []struct {
		query string
		has   bool
	}{{"SELECT DISTINCT SPACE FROM information_schema.INNODB_SYS_TABLES", true}, {discarded105, false}} {
		err := srv.Control.Each(ctx, list.query, func(row map[string]string) error {
			id, err := strconv.ParseUint(row["SPACE"], 10, 32)
			if err != nil {
				return fmt.Errorf("the server's dictionary has a table in tablespace %q", row["SPACE"])
			}
			out[innodb.SpaceID(id)] = list.has
			return nil
		})
		if err != nil {
			return nil, err
		}
	}
	return out, nil
}

// noteWithoutIndexes notes which tables of MySQL 5.6 are discarded: it lists none of the
// indexes of such a table, the clustered one included, as they have no root (run on
// 5.6.24).
func noteWithoutIndexes(ctx context.Context, srv *mysqld.Server, spaces []Tablespace) error {
	ids := make(map[string]bool)
	err := srv.Control.Each(ctx, "SELECT DISTINCT SPACE FROM information_schema.INNODB_SYS_INDEXES", func(row map[string]string) error {
		ids[row["SPACE"]] = true
		return nil
	})
	for i, t := range spaces {
		spaces[i].Discarded = t.Kind == SpaceTables && t.ID != 0 && !ids[strconv.FormatUint(uint64(t.ID), 10)]
	}
	return err
}

// listSpaces adds the rows of a list to out, without the system tablespace.
func listSpaces(ctx context.Context, srv *mysqld.Server, query string, out []Tablespace) ([]Tablespace, error) {
	err := srv.Control.Each(ctx, query, func(row map[string]string) error {
		t, err := tablespace(row, srv.Vars.Datadir(), srv.Vars.UndoDir())
		if err != nil {
			return fmt.Errorf("the server's list of tablespaces: %w", err)
		}
		if t.ID != 0 {
			out = append(out, t)
		}
		return nil
	})
	return out, err
}

// tablespace reads a row of a list. Relative paths count from datadir or undoDir.
func tablespace(row map[string]string, datadir, undoDir string) (Tablespace, error) {
	t := Tablespace{Name: row["NAME"], Path: row["PATH"], Encrypted: row["ENCRYPTION"] == "Y"}
	id, err := strconv.ParseUint(row["SPACE"], 10, 32)
	if err != nil {
		return t, fmt.Errorf("%q has the id %q", t.Name, row["SPACE"])
	}
	flags, err := strconv.ParseUint(row["FLAG"], 10, 32)
	if err != nil {
		return t, fmt.Errorf("%q has the flags %q", t.Name, row["FLAG"])
	}
	if t.Path == "" {
		return t, fmt.Errorf("%q has no path", t.Name)
	}
	t.ID, t.Flags = innodb.SpaceID(id), uint32(flags)
	switch row["TYPE"] {
	case "TABLESPACE":
	case "UNDO LOG":
		t.Kind = SpaceUndo
	case "TEMPORARY":
		t.Kind = SpaceTemporary
	case "":
		t.Discarded = true
	default:
		return t, fmt.Errorf("%q is of the unknown type %q", t.Name, row["TYPE"])
	}
	t.Encrypted = t.Encrypted || t.Flags&flagEncrypted != 0
	t.Path = t.path(datadir, undoDir)
	return t, nil
}

// path is the tablespace's path as the server resolves it: against the data
// directory, but the mere name of an undo tablespace (CREATE UNDO TABLESPACE …
// ADD DATAFILE 'u.ibu') against innodb_undo_directory.
func (t Tablespace) path(datadir, undoDir string) string {
	switch path := filepath.Clean(t.Path); {
	case filepath.IsAbs(path):
		return path
	case t.Kind == SpaceUndo && filepath.Base(path) == path:
		return filepath.Join(undoDir, path)
	default:
		return filepath.Join(datadir, path)
	}
}

// NoSuchList reports whether an error of Tablespaces says that the server has no
// such list: MariaDB can be started without (innodb_sys_tablespaces=OFF, or on 10.5
// innodb_sys_indexes=OFF).
func NoSuchList(err error) bool {
	my, ok := errors.AsType[*mysql.MySQLError](err)
	return ok && my.Number == erUnknownTable
}

// erUnknownTable is the error for a table of INFORMATION_SCHEMA that is not there.
const erUnknownTable = 1109
