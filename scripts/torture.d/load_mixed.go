package main

import (
	"context"
	"database/sql"

	"hb/source/mysqld/mysqldtest/workload"
)

// mixed is the load of hb's own live tests, with all of its rules.
type mixed struct {
	quiet
	o workload.Options
	l *workload.Load
}

func newMixed(r *round, seed uint64) load {
	return &mixed{o: workload.Options{Writers: 3, Accounts: 60, Rate: 40, DDLRate: 6, MaxBlob: 30000, Seed: seed}}
}

func (l *mixed) prepare(ctx context.Context, db *sql.DB) (err error) {
	l.l, err = workload.Prepare(ctx, db, l.o)
	return err
}

func (l *mixed) run(ctx context.Context, db *sql.DB) error { return l.l.Run(ctx) }

func (l *mixed) check(ctx context.Context, db *sql.DB) error { return workload.CheckRules(ctx, db) }
