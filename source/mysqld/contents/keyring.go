package contents

import (
	"context"
	"errors"

	"github.com/go-sql-driver/mysql"

	"hb/source/mysqld"
)

// KeyringFile returns the path of the file in which a MySQL keeps its keys, as the server
// has it; "" if it has none, keeps them elsewhere, or does not tell this account. It asks
// for component_keyring_file (8.0.24 and later), then for the plugin keyring_file.
func KeyringFile(ctx context.Context, srv *mysqld.Server) (string, error) {
	if srv.Flavor != mysqld.MySQL {
		return "", nil
	}
	if path := srv.Vars.String("keyring_file_data"); path != "" {
		return path, nil
	}
	rows, err := srv.Control.Rows(ctx, "SELECT STATUS_KEY AS k, STATUS_VALUE AS v FROM performance_schema.keyring_component_status")
	if err != nil {
		return "", ignoreDenied(err)
	}
	for _, r := range rows {
		if r["k"] == "Data_file" {
			return r["v"], nil
		}
	}
	return "", nil
}

// SeesKeyring reports whether this account may ask a MySQL of 8.0.24 or later where it
// keeps its keys. A server without the table has nothing to ask for.
func SeesKeyring(ctx context.Context, srv *mysqld.Server) (bool, error) {
	_, err := srv.Control.Rows(ctx, "SELECT STATUS_KEY FROM performance_schema.keyring_component_status LIMIT 0")
	return !mysqld.IsDenied(err), ignoreDenied(err)
}

// ignoreDenied ignores that there is no such table, or none for this account.
func ignoreDenied(err error) error {
	my, ok := errors.AsType[*mysql.MySQLError](err)
	if mysqld.IsDenied(err) || ok && my.Number == erNoSuchTable {
		return nil
	}
	return err
}

// erNoSuchTable is the error for a table that is not there.
const erNoSuchTable = 1146
