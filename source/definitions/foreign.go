package definitions

import (
	"context"
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"hb/source/mysqld"
	"hb/source/mysqld/contents"
	"hb/xbstream/innodb/filename"
)

// Foreign keys of MySQL 5 and MariaDB are in InnoDB's dictionary, and not in the table's file:
// a table or a column that they refer to is renamed there only. A table may be
// renamed and get its name back, so that the dictionary before the lock and under it are the
// same, and the answer in between was another. So hb compares the answer itself with the
// dictionary under the lock.

// foreignClause is a foreign key in SHOW CREATE TABLE's answer, without what happens to rows,
// which only ALTER TABLE changes, with another file.
var foreignClause = regexp.MustCompile("(?m)^  (CONSTRAINT `.*` FOREIGN KEY \\(.*\\) REFERENCES .* \\(`.*`\\))(?: ON |,?$)")

// foreignIn are the foreign keys in an answer; "": it has none.
func foreignIn(text string) string {
	if !strings.Contains(text, " FOREIGN KEY ") {
		return ""
	}
	var list []string
	for _, m := range foreignClause.FindAllStringSubmatch(text, -1) {
		list = append(list, m[1])
	}
	slices.Sort(list)
	return strings.Join(list, "\n")
}

// foreignKeys are those in the dictionary, as foreignIn has them, by the table as the dictionary
// names it. ok: the server lists them.
func (r *Recorder) foreignKeys(ctx context.Context) (_ map[string]string, ok bool, err error) {
	columns, err := r.foreignColumns(ctx)
	if err != nil {
		return nil, false, ignoreNoList(err)
	}
	lists := make(map[string][]string)
	err = r.conn.Each(ctx, "SELECT ID, FOR_NAME, REF_NAME FROM information_schema.INNODB_SYS_FOREIGN", func(row map[string]string) error {
		db, name, _ := strings.Cut(row["ID"], "/")
		of, _, _ := strings.Cut(row["FOR_NAME"], "/")
		refDB, ref, _ := strings.Cut(row["REF_NAME"], "/")
		target := mysqld.QuoteName(sqlName(ref))
		if refDB != of {
			target = mysqld.QuoteName(sqlName(refDB)) + "." + target
		}
		if db != of {
			return nil // it is never equal to an answer
		}
		c := columns[row["ID"]]
		lists[row["FOR_NAME"]] = append(lists[row["FOR_NAME"]], fmt.Sprintf("CONSTRAINT %s FOREIGN KEY (%s) REFERENCES %s (%s)",
			mysqld.QuoteName(name), strings.Join(c[0], ", "), target, strings.Join(c[1], ", ")))
		return nil
	})
	if err != nil {
		return nil, false, ignoreNoList(err)
	}
	out := make(map[string]string, len(lists))
	for table, list := range lists {
		slices.Sort(list)
		out[table] = strings.Join(list, "\n")
	}
	return out, true, nil
}

func ignoreNoList(err error) error {
	if contents.NoSuchList(err) {
		return nil
	}
	return err
}

// maxForeignColumns bounds the columns of a foreign key (MAX_NUM_FK_COLUMNS is 500).
const maxForeignColumns = 512

// foreignColumns are the columns of foreign keys and those that they refer to, quoted and in
// their order, by the key's id.
func (r *Recorder) foreignColumns(ctx context.Context) (map[string][2][]string, error) {
	out := make(map[string][2][]string)
	err := r.conn.Each(ctx, "SELECT ID, FOR_COL_NAME, REF_COL_NAME, POS FROM information_schema.INNODB_SYS_FOREIGN_COLS", func(row map[string]string) error {
		pos, err := strconv.Atoi(row["POS"])
		if err != nil || pos < 0 || pos > maxForeignColumns {
			return fmt.Errorf("the server's list of foreign keys: %s has a column at %q", row["ID"], row["POS"])
		}
		list := out[row["ID"]]
		for len(list[0]) <= pos {
			list[0], list[1] = append(list[0], ""), append(list[1], "")
		}
		list[0][pos], list[1][pos] = mysqld.QuoteName(row["FOR_COL_NAME"]), mysqld.QuoteName(row["REF_COL_NAME"])
		out[row["ID"]] = list
		return nil
	})
	return out, err
}

// listForeign notes the foreign keys under the lock, with which answers are compared.
func (r *Recorder) listForeign(ctx context.Context) error {
	if !r.inFiles() || !r.has(mysqld.PrivSelect) {
		return nil
	}
	list, ok, err := r.foreignKeys(ctx)
	r.foreign, r.listsForeign = list, ok
	return err
}

// sameForeign reports whether the foreign keys of an answer are those under the lock.
func (r *Recorder) sameForeign(k key, u *unit) bool {
	return u.foreign == "" || r.listsForeign && u.foreign == r.foreign[filename.Encode(k.database)+"/"+filename.Encode(k.name)]
}
