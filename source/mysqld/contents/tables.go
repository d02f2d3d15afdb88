package contents

import (
	"context"
	"fmt"
	"strconv"

	"hb/source/mysqld"
)

// A Table is a table by its names as SQL has them.
type Table struct{ Schema, Name, Engine string }

func (t Table) String() string { return t.Schema + "." + t.Name }

// NonTransactionalTables lists the tables of other engines than InnoDB that keep
// data in files (not MEMORY, BLACKHOLE, FEDERATED), in the databases of the server
// too, but without the log tables, which nobody can lock. complete is false
// if the account may not see all tables, having no SELECT on *.*: then only the
// disk can tell. On 8.0 and later the answer decides whether FLUSH TABLES WITH
// READ LOCK is needed; before, the query opens every table's definition.
func NonTransactionalTables(ctx context.Context, srv *mysqld.Server) (tables []Table, complete bool, err error) {
	have, err := srv.GlobalPrivileges(ctx)
	if err != nil {
		return nil, false, err
	}
	complete = have["ALL PRIVILEGES"] || have[mysqld.PrivSelect]
	tables, err = BaseTables(ctx, srv, "TABLE_SCHEMA NOT IN ('information_schema', 'performance_schema') AND NOT (TABLE_SCHEMA = 'mysql' AND TABLE_NAME IN ('general_log', 'slow_log')) "+
		"AND ENGINE NOT IN ('InnoDB', 'MEMORY', 'BLACKHOLE', 'FEDERATED')")
	return tables, complete, err
}

// baseTables lists the base tables that the account may see.
func BaseTables(ctx context.Context, srv *mysqld.Server, condition string) ([]Table, error) {
	rows, err := srv.Control.Rows(ctx, "SELECT TABLE_SCHEMA AS s, TABLE_NAME AS n, ENGINE AS e FROM information_schema.TABLES WHERE TABLE_TYPE = 'BASE TABLE' AND "+condition)
	if err != nil {
		return nil, err
	}
	var out []Table
	for _, r := range rows {
		out = append(out, Table{Schema: r["s"], Name: r["n"], Engine: r["e"]})
	}
	return out, nil
}

// InnoDBTables returns the names of the tables, and partitions, of the dictionary
// of InnoDB, as their files have them: db/table, by their ids.
func InnoDBTables(ctx context.Context, srv *mysqld.Server) (map[uint64]string, error) {
	list := "INNODB_SYS_TABLES"
	if srv.Series.ListsFiles {
		list = "INNODB_TABLES"
	}
	names := make(map[uint64]string)
	err := srv.Control.Each(ctx, "SELECT TABLE_ID, NAME FROM information_schema."+list, func(row map[string]string) error {
		id, err := strconv.ParseUint(row["TABLE_ID"], 10, 64)
		if err != nil {
			return fmt.Errorf("the server's list of tables: %q has the id %q", row["NAME"], row["TABLE_ID"])
		}
		names[id] = row["NAME"]
		return nil
	})
	return names, err
}

// InnoDBNames returns only the names.
func InnoDBNames(ctx context.Context, srv *mysqld.Server) (map[string]bool, error) {
	tables, err := InnoDBTables(ctx, srv)
	names := make(map[string]bool, len(tables))
	for _, name := range tables {
		names[name] = true
	}
	return names, err
}
