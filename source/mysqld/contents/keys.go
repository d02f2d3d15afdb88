package contents

import (
	"context"
	"fmt"
	"strconv"

	"hb/source/mysqld"
	"hb/xbstream/keyring"
)

const (
	// maxVersions bounds how many versions of a key are named, the newest ones. MariaDB has one
	// with most plugins, and encrypts a tablespace again before it has many.
	maxVersions = 100
	// noVersion is what the server lists for a key that it does not have
	// (ENCRYPTION_KEY_VERSION_INVALID).
	noVersion = 1<<32 - 1
)

// TablespaceKeys returns the keys of MariaDB that its tablespaces are, or may be, encrypted with
// now. It needs PROCESS.
func TablespaceKeys(ctx context.Context, srv *mysqld.Server) (names []keyring.MariaDBKey, err error) {
	rows, err := srv.Control.Rows(ctx, "SELECT CURRENT_KEY_ID AS id, MIN(MIN_KEY_VERSION) AS oldest, MAX(CURRENT_KEY_VERSION) AS newest FROM information_schema.INNODB_TABLESPACES_ENCRYPTION "+
		fmt.Sprintf("WHERE CURRENT_KEY_VERSION BETWEEN 1 AND %d GROUP BY CURRENT_KEY_ID", noVersion-1))
	if err != nil {
		return nil, err
	}
	for _, row := range rows {
		var n [3]uint64
		for i, column := range []string{"id", "oldest", "newest"} {
			if n[i], err = strconv.ParseUint(row[column], 10, 32); err != nil {
				return nil, fmt.Errorf("information_schema.INNODB_TABLESPACES_ENCRYPTION: %w", err)
			}
		}
		for version := max(1, n[1], n[2]-min(n[2], maxVersions)); version <= n[2]; version++ {
			names = append(names, keyring.MariaDBKey{ID: uint32(n[0]), Version: uint32(version)})
		}
	}
	return names, nil
}

// EncryptedNames returns, by the names of their files without ".ibd", the keys of the tablespaces
// that a MariaDB encrypts now; nil if it does not tell this account. It needs PROCESS.
func EncryptedNames(ctx context.Context, srv *mysqld.Server) (map[string]keyring.MariaDBKey, error) {
	rows, err := srv.Control.Rows(ctx, "SELECT NAME AS name, CURRENT_KEY_ID AS id, MIN_KEY_VERSION AS oldest FROM information_schema.INNODB_TABLESPACES_ENCRYPTION WHERE ENCRYPTION_SCHEME <> 0")
	if mysqld.IsDenied(err) || NoSuchList(err) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	names := make(map[string]keyring.MariaDBKey, len(rows))
	for _, row := range rows {
		id, err := strconv.ParseUint(row["id"], 10, 32)
		if err != nil {
			return nil, fmt.Errorf("information_schema.INNODB_TABLESPACES_ENCRYPTION: %w", err)
		}
		oldest, err := strconv.ParseUint(row["oldest"], 10, 32)
		if err != nil {
			return nil, fmt.Errorf("information_schema.INNODB_TABLESPACES_ENCRYPTION: %w", err)
		}
		names[row["name"]] = keyring.MariaDBKey{ID: uint32(id), Version: uint32(max(1, oldest))}
	}
	return names, nil
}
