// Package kinds lists all kinds of load, by the names that plans have for them.
package kinds

import (
	"hb/scripts/torture.d/load"
	"hb/scripts/torture.d/load/ddl"
	"hb/scripts/torture.d/load/rows"
)

// A Kind is a kind of load.
type Kind struct {
	Name string
	Make func(r *load.Round, seed uint64) load.Load
	// Keyring: only for servers with a keyring, which plans draw as a setting.
	Keyring bool
}

// All are all kinds. The first two are part of every plan.
var All = []Kind{
	{Name: "commits", Make: rows.NewCommits},
	{Name: "victim", Make: rows.NewVictim},
	{Name: "mixed", Make: rows.NewMixed},
	{Name: "renames", Make: ddl.NewRenames},
	{Name: "indexes", Make: ddl.NewIndexes},
	{Name: "plain", Make: rows.NewPlain},
	{Name: "truncates", Make: ddl.NewTruncates},
	{Name: "imports", Make: ddl.NewImports},
	{Name: "databases", Make: ddl.NewDatabases},
	{Name: "partitions", Make: ddl.NewPartitions},
	{Name: "columns", Make: ddl.NewColumns},
	{Name: "bulk", Make: rows.NewBulk},
	{Name: "names", Make: ddl.NewNames},
	{Name: "left out", Make: ddl.NewLeftOut},
	{Name: "logs", Make: rows.NewLogs},
	{Name: "elsewhere", Make: rows.NewElsewhere},
	{Name: "tablespaces", Make: ddl.NewTablespaces},
	{Name: "encryptions", Make: ddl.NewEncryptions, Keyring: true},
}

// Names are the kinds that a plan draws from.
func Names() (out []string) {
	for _, k := range All[2:] {
		if !k.Keyring {
			out = append(out, k.Name)
		}
	}
	return out
}
