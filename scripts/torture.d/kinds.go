package main

import "slices"

// A Kind is a kind of load.
type Kind struct {
	Name string
	On   []string // the servers that can have it; nil: all
	Make func(r *Round, seed uint64) Load
}

// All are all kinds. The first two are part of every plan.
var All = []Kind{
	{Name: "commits", Make: NewCommits},
	{Name: "victim", Make: NewVictim},
	{Name: "mixed", Make: NewMixed},
	{Name: "renames", Make: NewRenames},
	{Name: "indexes", Make: NewIndexes},
	{Name: "plain", Make: NewPlain},
	{Name: "truncates", Make: NewTruncates},
	{Name: "imports", Make: NewImports},
	{Name: "databases", Make: NewDatabases},
	{Name: "partitions", Make: NewPartitions},
	{Name: "columns", Make: NewColumns},
	{Name: "bulk", Make: NewBulk},
	{Name: "names", Make: NewNames},
	{Name: "logs", Make: NewLogs},
	{Name: "elsewhere", Make: NewElsewhere},
}

// Names are the kinds that a plan draws from.
func Names(server string) (out []string) {
	for _, k := range All[2:] {
		if k.On == nil || slices.Contains(k.On, server) {
			out = append(out, k.Name)
		}
	}
	return out
}
