package contents

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"hb/source/mysqld"
)

// A Plugin is an active plugin of the server.
type Plugin struct {
	Name, Type, Library string
}

// Plugins returns the server's active plugins.
func Plugins(ctx context.Context, srv *mysqld.Server) ([]Plugin, error) {
	rows, err := srv.Control.Rows(ctx, "SELECT PLUGIN_NAME AS n, PLUGIN_TYPE AS t, PLUGIN_LIBRARY AS l FROM information_schema.PLUGINS WHERE PLUGIN_STATUS = 'ACTIVE'")
	if err != nil {
		return nil, err
	}
	var out []Plugin
	for _, r := range rows {
		out = append(out, Plugin{Name: r["n"], Type: r["t"], Library: r["l"]})
	}
	return out, nil
}

// uncopied are storage engines, by plugin name in upper case, that keep data
// where hb does not copy it, each with the query that counts the user's tables
// without opening them; if there is no query, hb refuses the mere presence of the engine.
var uncopied = map[string]string{
	"ROCKSDB":     "SELECT COUNT(DISTINCT TABLE_SCHEMA, TABLE_NAME) AS n FROM information_schema.ROCKSDB_DDL WHERE TABLE_SCHEMA NOT LIKE '\\_\\_%'",
	"TOKUDB":      "",
	"COLUMNSTORE": "",
}

// copied are the storage engines of MySQL that hb copies, or that keep no data,
// by plugin name in upper case. The presence of any other is refused.
var copied = []string{
	"INNODB", "MYISAM", "MRG_MYISAM", "CSV", "ARCHIVE", "MEMORY", "BLACKHOLE", "FEDERATED",
	"PERFORMANCE_SCHEMA", "BINLOG", "PARTITION", "TEMPTABLE", "NDBINFO",
}

// A setting is a variable, or status variable, that hb does not work with.
type setting struct {
	name    string
	refused func(value string) bool
	feature string
}

func isOn(v string) bool  { return strings.EqualFold(v, "ON") || v == "1" }
func isOff(v string) bool { return strings.EqualFold(v, "OFF") || v == "0" }
func isSet(v string) bool { return v != "" && v != "0" }

// mysqlSettings are refused where the server has them and they are so.
var mysqlSettings = []setting{
	{"innodb_redo_log_encrypt", func(v string) bool { return !isOff(v) && !isOn(v) }, "a redo log that is encrypted in Percona Server's way"},
	{"innodb_sys_tablespace_encrypt", isOn, "an encrypted system tablespace"}, // Percona Server
	{"encrypt_binlog", isOn, "encrypted binary logs"},                         // Percona Server 5.7
	{"innodb_log_checksums", isOff, "a redo log without checksums, in which a block that is being written looks like a whole one"},
	{"innodb_log_checksum_algorithm", func(v string) bool { return v != "innodb" && v != "strict_innodb" }, "a redo log with other checksums"}, // Percona Server 5.6
	{"innodb_log_block_size", func(v string) bool { return v != "512" }, "a redo log with other blocks"},                                       // Percona Server 5.6
	{"innodb_force_recovery", isSet, "forced recovery, as after damage"},
	{"innodb_read_only", isOn, "InnoDB that only reads"},
	{"innodb_redo_log_enabled", isOff, "no redo log (ALTER INSTANCE DISABLE INNODB REDO_LOG)"},
}

// CheckFeatures refuses what hb cannot back up: encryption at rest of MySQL that it does not know
// (of MariaDB hb refuses one form of the redo log, when it opens that), engines whose data hb does not copy, and settings without which a copy would not be
// whole. On MySQL before 8.0.30 it needs PROCESS, for the list of encrypted tablespaces. The
// error is an *UnsupportedFeatureError for each of them, joined.
func CheckFeatures(ctx context.Context, srv *mysqld.Server) error {
	plugins, err := Plugins(ctx, srv)
	if err != nil {
		return err
	}
	if srv.Flavor == mysqld.MySQL {
		return checkMySQL(ctx, srv, plugins)
	}
	var errs []error
	for _, p := range plugins {
		errs = append(errs, checkEngine(ctx, srv, p))
	}
	return errors.Join(errs...)
}

// checkEngine refuses an engine of uncopied that is in use.
func checkEngine(ctx context.Context, srv *mysqld.Server, p Plugin) error {
	query, ok := uncopied[strings.ToUpper(p.Name)]
	if !ok || p.Type != "STORAGE ENGINE" {
		return nil
	}
	n := "active"
	if query != "" {
		row, err := srv.Control.Row(ctx, query)
		if err != nil {
			return err
		}
		if n = row["n"]; n == "0" {
			return nil
		}
		n += " tables"
	}
	return &mysqld.UnsupportedFeatureError{Feature: "the storage engine " + p.Name, Detail: n}
}

func checkMySQL(ctx context.Context, srv *mysqld.Server, plugins []Plugin) error {
	status, err := srv.Status(ctx, "Innodb_redo_log_enabled")
	if err != nil {
		return err
	}
	var errs []error
	for _, set := range mysqlSettings {
		value := srv.Vars.String(set.name)
		for name, v := range status {
			if strings.EqualFold(name, set.name) {
				value = v
			}
		}
		if value != "" && set.refused(value) {
			errs = append(errs, &mysqld.UnsupportedFeatureError{Feature: set.feature, Detail: set.name + "=" + value})
		}
	}
	for _, p := range plugins {
		errs = append(errs, checkEngine(ctx, srv, p))
		name := strings.ToUpper(p.Name)
		_, known := uncopied[name]
		if p.Type == "STORAGE ENGINE" && !known && !slices.Contains(copied, name) {
			errs = append(errs, &mysqld.UnsupportedFeatureError{Feature: "the storage engine " + p.Name, Detail: "active"})
		}
	}
	if !srv.Series.Encrypts {
		errs = append(errs, checkEncrypted(ctx, srv))
	}
	return errors.Join(errs...)
}

// maxNamed bounds how many tablespaces an error names.
const maxNamed = 10

// checkEncrypted refuses encrypted tablespaces.
func checkEncrypted(ctx context.Context, srv *mysqld.Server) error {
	spaces, err := Tablespaces(ctx, srv)
	if err != nil {
		return err
	}
	var names []string
	for _, t := range spaces {
		if t.Encrypted && t.Kind != SpaceTemporary {
			names = append(names, t.Name)
		}
	}
	return refuseEncrypted(names)
}

// refuseEncrypted refuses tablespaces that are encrypted, if there are any.
func refuseEncrypted(names []string) error {
	if len(names) == 0 {
		return nil
	}
	slices.Sort(names)
	list := strings.Join(names[:min(len(names), maxNamed)], ", ")
	if more := len(names) - maxNamed; more > 0 {
		list += fmt.Sprintf(" and %d more", more)
	}
	return &mysqld.UnsupportedFeatureError{Feature: "encrypted tablespaces", Detail: list}
}

// ProviderPlugins are the active compression providers (MariaDB 10.7 and
// later): a restored server needs the same ones to read its pages.
func ProviderPlugins(plugins []Plugin) []Plugin {
	return slices.DeleteFunc(slices.Clone(plugins), func(p Plugin) bool {
		return !strings.HasPrefix(strings.ToLower(p.Name), "provider_")
	})
}

// KeyPlugin is MariaDB's active plugin that has the keys of encryption at rest; nil: there is
// none.
func KeyPlugin(plugins []Plugin) *Plugin {
	i := slices.IndexFunc(plugins, func(p Plugin) bool { return p.Type == "ENCRYPTION" })
	if i < 0 {
		return nil
	}
	return &plugins[i]
}
