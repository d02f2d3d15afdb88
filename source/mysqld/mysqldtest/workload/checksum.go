package workload

import (
	"context"
	"database/sql"
	"fmt"
	"maps"
	"slices"
)

// ownTables are tables of the mysql database that each server keeps for itself,
// so that a replica's differ from its source's:
//
//   - logs and statistics that the server collects by itself
//   - positions of replication, which are the replica's business
//   - MySQL's component and cost tables carry times of their own
var ownTables = []string{
	"general_log", "slow_log",
	"innodb_index_stats", "innodb_table_stats",
	"gtid_slave_pos", "gtid_executed",
	"slave_master_info", "slave_relay_log_info", "slave_worker_info",
	"engine_cost", "server_cost", "replication_asynchronous_connection_failover",
	"replication_asynchronous_connection_failover_managed", "replication_group_configuration_version",
	"replication_group_member_actions",
}

// Checksums returns CHECKSUM TABLE of every table of every database but those of
// [ownTables], by quoted name. A table that has none has "".
func Checksums(ctx context.Context, db *sql.DB) (map[string]string, error) {
	conn, err := db.Conn(ctx)
	if err != nil {
		return nil, err
	}
	defer conn.Close()
	names, err := baseTables(ctx, conn)
	if err != nil {
		return nil, err
	}
	out := map[string]string{}
	for _, n := range names {
		if n.db == "mysql" && slices.Contains(ownTables, n.table) {
			continue
		}
		sum, err := checksum(ctx, conn, n.String())
		if err != nil {
			return nil, err
		}
		out[n.String()] = sum
	}
	return out, nil
}

// checksum asks for the checksum of one table.
func checksum(ctx context.Context, conn *sql.Conn, table string) (string, error) {
	// MySQL answers 0 for an ARCHIVE table that was not read since it was opened,
	// and an engine without checksums answers as a broken table does: so each is
	// read first. In the same session: another one of MySQL may open the table again, for
	// the server has several caches of open tables (table_open_cache_instances).
	var count int64
	if err := conn.QueryRowContext(ctx, "SELECT COUNT(*) FROM "+table).Scan(&count); err != nil {
		return "", fmt.Errorf("reading %s: %w", table, err)
	}
	var name string
	var sum sql.NullString
	if err := conn.QueryRowContext(ctx, "CHECKSUM TABLE "+table).Scan(&name, &sum); err != nil {
		return "", fmt.Errorf("CHECKSUM TABLE %s: %w", table, err)
	}
	return sum.String, nil
}

// Differences compares the checksums of two servers and returns a line for each
// table that is not the same on both.
func Differences(a, b map[string]string) []string {
	var out []string
	for _, n := range slices.Sorted(maps.Keys(a)) {
		if other, ok := b[n]; !ok {
			out = append(out, n+": only on the first")
		} else if other != a[n] {
			out = append(out, fmt.Sprintf("%s: %s and %s", n, a[n], other))
		}
	}
	for _, n := range slices.Sorted(maps.Keys(b)) {
		if _, ok := a[n]; !ok {
			out = append(out, n+": only on the second")
		}
	}
	return out
}
