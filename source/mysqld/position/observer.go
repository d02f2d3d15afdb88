package position

import (
	"context"

	"hb/source/mysqld"
	"hb/xbstream/innodb"
)

// An Observer watches the server on a connection of its own. The backup does not
// depend on that connection.
type Observer struct {
	s *mysqld.Server
	c *mysqld.Session
}

// Observe opens the connection. Close it.
func Observe(ctx context.Context, srv *mysqld.Server) (*Observer, error) {
	c, err := srv.Open(ctx)
	if err != nil {
		return nil, err
	}
	return &Observer{srv, c}, nil
}

// Close hangs up.
func (o *Observer) Close() error { return o.c.Close() }

// recentLSN is MySQL's status variable, of 8.0.30 and later, which is up to a
// second old: seen on 9.7.4.
const recentLSN = "Innodb_redo_log_current_lsn"

// LSN returns an LSN that the redo log has reached: its end now, or a second ago.
// Before MySQL 8.0.30 that costs a SHOW ENGINE INNODB STATUS, which is to be asked
// for as rarely as those do who watch a server.
func (o *Observer) LSN(ctx context.Context) (innodb.LSN, error) {
	if o.s.Flavor == mysqld.MySQL && o.s.Version.AtLeast(8, 0) {
		status, err := o.c.Status(ctx, recentLSN)
		if err != nil {
			return 0, err
		}
		if text, ok := status[recentLSN]; ok {
			return parseLSN(recentLSN, text)
		}
	}
	l, err := readLSNs(ctx, o.s, o.c)
	return l.current, err
}

// LSNs is the function of that name on this connection.
func (o *Observer) LSNs(ctx context.Context) (flushed, current innodb.LSN, err error) {
	l, err := readLSNs(ctx, o.s, o.c)
	return l.flushed, l.current, err
}
