// Package load is what all loads of a round are: writers that know what a copy of the
// server must look like, and the sessions by which they write. Packages rows and ddl have
// the loads, kinds the list of them.
package load

import (
	"context"
	"database/sql"
)

// A Load writes to the server while it is backed up, and knows what a copy of the
// server must look like. Each kind is in a file of its own.
type Load interface {
	Prepare(ctx context.Context, db *sql.DB) error
	// Run writes until ctx is done, and ends with no statement under way.
	Run(ctx context.Context, db *sql.DB) error
	// Began and Ended tell it that the backup begins and has ended.
	Began()
	Ended()
	// Check looks at a restored server.
	Check(ctx context.Context, db *sql.DB) error
}

// Tidier is a load that may leave on a copy what no check can look at.
type Tidier interface {
	Tidy(ctx context.Context, db *sql.DB) error
}

// Round is what a load may know of the round that it is part of.
type Round struct {
	Server   string   // as scripts/servers has it
	Ways     []string // of restoring
	Datadir  string   // of the server
	Outside  string   // where the server keeps what is not in its data directory
	NoBinlog bool
	Note     func(format string, args ...any) // keeps a line for the evidence
}

// Quiet is a load that does not care when the backup is.
type Quiet struct{}

func (Quiet) Began() {}
func (Quiet) Ended() {}
