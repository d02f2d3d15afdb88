package mysqld

import (
	"context"
	"fmt"
	"slices"
	"strings"
)

// A Plugin is an active plugin of the server.
type Plugin struct {
	Name, Type, Library string
}

// Plugins returns the server's active plugins.
func (s *Server) Plugins(ctx context.Context) ([]Plugin, error) {
	rows, err := s.control.rows(ctx, "SELECT PLUGIN_NAME AS n, PLUGIN_TYPE AS t, PLUGIN_LIBRARY AS l FROM information_schema.PLUGINS WHERE PLUGIN_STATUS = 'ACTIVE'")
	if err != nil {
		return nil, err
	}
	var out []Plugin
	for _, r := range rows {
		out = append(out, Plugin{Name: r["n"], Type: r["t"], Library: r["l"]})
	}
	return out, nil
}

// An UnsupportedFeatureError says that the server uses something whose data hb
// cannot copy correctly.
type UnsupportedFeatureError struct {
	Feature string // what it is
	Detail  string // what was seen
}

func (e *UnsupportedFeatureError) Error() string {
	return fmt.Sprintf("the server uses %s (%s): hb does not back that up", e.Feature, e.Detail)
}

// uncopied are storage engines, by plugin name in upper case, that keep data
// where hb does not copy it, each with the query that counts the user's tables
// without opening them; without a query the engine's presence alone is refused.
var uncopied = map[string]string{
	"ROCKSDB":     "SELECT COUNT(DISTINCT TABLE_SCHEMA, TABLE_NAME) AS n FROM information_schema.ROCKSDB_DDL WHERE TABLE_SCHEMA NOT LIKE '\\_\\_%'",
	"TOKUDB":      "",
	"COLUMNSTORE": "",
}

// CheckFeatures refuses what hb cannot back up: encryption at rest, and engines
// whose data hb does not copy. The error is an *UnsupportedFeatureError.
func (s *Server) CheckFeatures(ctx context.Context) error {
	plugins, err := s.Plugins(ctx)
	if err != nil {
		return err
	}
	if s.Vars.Bool("innodb_encrypt_log") {
		return &UnsupportedFeatureError{"an encrypted redo log", "innodb_encrypt_log=ON"}
	}
	for _, p := range plugins {
		if p.Type == "ENCRYPTION" {
			return &UnsupportedFeatureError{"data encryption at rest", "active plugin " + p.Name}
		}
		query, ok := uncopied[strings.ToUpper(p.Name)]
		if !ok || p.Type != "STORAGE ENGINE" {
			continue
		}
		n := "active"
		if query != "" {
			row, err := s.control.row(ctx, query)
			if err != nil {
				return err
			}
			if n = row["n"]; n == "0" {
				continue
			}
			n += " tables"
		}
		return &UnsupportedFeatureError{"the storage engine " + p.Name, n}
	}
	return nil
}

// ProviderPlugins are the active compression providers (MariaDB 10.7 and
// later): a restored server needs the same ones to read its pages.
func ProviderPlugins(plugins []Plugin) []Plugin {
	return slices.DeleteFunc(slices.Clone(plugins), func(p Plugin) bool {
		return !strings.HasPrefix(strings.ToLower(p.Name), "provider_")
	})
}
