package rows

import (
	"context"
	"database/sql"
	"fmt"
	"strconv"
	"sync/atomic"

	"hb/scripts/torture.d/load"
)

// logs has the server log all statements to a table, which no lock keeps it from,
// and numbers statements: the copy has all that were answered when the backup began,
// without a gap, and none that was not sent when it ended.
type logs struct {
	r            *load.Round
	seed         uint64
	sent, logged atomic.Int64
	lowest, most int64
}

func NewLogs(r *load.Round, seed uint64) load.Load { return &logs{r: r, seed: seed} }

const logMark = "SELECT 'hb mark "

func (l *logs) Prepare(ctx context.Context, db *sql.DB) error {
	engine := []string{"CSV", "MyISAM"}[l.seed%2]
	return load.ExecAll(ctx, db, "SET GLOBAL log_output = 'TABLE'", "SET GLOBAL general_log = 0", "SET GLOBAL slow_query_log = 0",
		"ALTER TABLE mysql.general_log ENGINE="+engine, "ALTER TABLE mysql.slow_log ENGINE="+engine, "SET GLOBAL general_log = 1")
}

func (l *logs) Run(ctx context.Context, db *sql.DB) error {
	return load.Sessions(ctx, db, 1, l.seed, func(ctx context.Context, _ int, s *load.Session) error {
		for n := int64(1); ctx.Err() == nil; n++ {
			l.sent.Store(n)
			if err := s.Exec(fmt.Sprintf("%s%d'", logMark, n)); err != nil {
				return err
			}
			l.logged.Store(n)
			load.Sleep(ctx, 1_000_000)
		}
		return s.Exec("SET GLOBAL general_log = 0")
	})
}

func (l *logs) Began() { l.lowest = l.logged.Load() }
func (l *logs) Ended() { l.most = l.sent.Load() }

func (l *logs) Check(ctx context.Context, db *sql.DB) error {
	got, err := load.Table(ctx, db, fmt.Sprintf("SELECT COUNT(*), COUNT(DISTINCT n), COALESCE(MIN(n), 1), COALESCE(MAX(n), 0) FROM "+
		"(SELECT CAST(SUBSTRING(argument, %d) AS UNSIGNED) AS n FROM mysql.general_log WHERE LEFT(argument, %d) = '%s') x",
		len(logMark)+1, len(logMark), "SELECT ''hb mark "))
	if err != nil {
		return err
	}
	g := got[0]
	n, err := strconv.ParseInt(g[3], 10, 64)
	if err != nil {
		return err
	}
	if g[0] != g[3] || g[1] != g[3] || g[2] != "1" || n < l.lowest || n > l.most {
		return fmt.Errorf("mysql.general_log has %s marks, %s different ones, from %s to %s: want all from 1 to some between %d and %d", g[0], g[1], g[2], g[3], l.lowest, l.most)
	}
	return nil
}
