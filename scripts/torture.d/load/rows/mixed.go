package rows

import (
	"context"
	"database/sql"

	"hb/scripts/torture.d/load"
	"hb/source/mysqld/mysqldtest/workload"
)

// mixed is the load of hb's own live tests, with all of its rules.
type mixed struct {
	load.Quiet
	o workload.Options
	l *workload.Load
}

func NewMixed(r *load.Round, seed uint64) load.Load {
	return &mixed{o: workload.Options{Writers: 3, Accounts: 60, Rate: 40, DDLRate: 6, MaxBlob: 30000, Seed: seed}}
}

func (l *mixed) Prepare(ctx context.Context, db *sql.DB) (err error) {
	l.l, err = workload.Prepare(ctx, db, l.o)
	return err
}

func (l *mixed) Run(ctx context.Context, db *sql.DB) error { return l.l.Run(ctx) }

func (l *mixed) Check(ctx context.Context, db *sql.DB) error { return workload.CheckRules(ctx, db) }
