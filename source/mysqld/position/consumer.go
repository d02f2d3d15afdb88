package position

import (
	"context"
	"errors"
	"fmt"
	"sync"

	"github.com/go-sql-driver/mysql"

	"hb/source/mysqld"
	"hb/xbstream/innodb"
)

// A RedoConsumer keeps the server from recycling redo log files that hb has not
// read (MySQL 8.0.30 and later). It lives on a connection of its own.
//
// A consumer that does not advance stalls all writers of the server once the
// redo log's capacity is used up. Call Advance every few MB, from the goroutine that
// reads the log (never from one that may wait for the archive), and Close as soon as
// the last redo has been read.
type RedoConsumer struct {
	mu   sync.Mutex
	conn *mysqld.Session
	read innodb.LSN // accepted by the server
}

// RegisterRedoConsumer registers hb as the reader of the redo log. From then on
// every redo log file from the checkpoint of this moment on stays until Advance.
// Only one reader can be registered with a server.
//
// If the server does not do it (there is another reader, or the privilege is
// missing) the consumer is nil and warning is the reason: the backup can go on, and
// always notices redo that is overwritten before it was read.
func RegisterRedoConsumer(ctx context.Context, srv *mysqld.Server) (c *RedoConsumer, warning string, err error) {
	conn, err := srv.Open(ctx)
	if err != nil {
		return nil, "", err
	}
	warning, err = register(ctx, conn)
	if err != nil || warning != "" {
		return nil, warning, errors.Join(err, conn.Close())
	}
	c = &RedoConsumer{conn: conn}
	srv.OnClose(c)
	return c, "", nil
}

// register returns why the server refused, if it did.
func register(ctx context.Context, conn *mysqld.Session) (string, error) {
	row, err := conn.Row(ctx, "SELECT innodb_redo_log_consumer_register() AS r")
	if my, ok := errors.AsType[*mysql.MySQLError](err); ok && !errors.Is(err, mysqld.ErrConnectionLost) {
		return fmt.Sprintf("the server does not keep redo log files for hb: %v", my), nil
	}
	if err != nil {
		return "", err
	}
	if row["r"] != "0" {
		return "the server does not keep redo log files for hb: another program is registered as the redo log's reader", nil
	}
	return "", nil
}

// Advance reports to the server that hb has read all redo before lsn. It must not lie beyond
// the end of the log; going back is ignored. An error means that the
// registration is, or may be, lost; reading can go on as if there had been none.
func (c *RedoConsumer) Advance(ctx context.Context, lsn innodb.LSN) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.conn == nil || lsn <= c.read {
		return nil
	}
	row, err := c.conn.Row(ctx, fmt.Sprintf("SELECT innodb_redo_log_consumer_advance(%d) AS r", lsn))
	switch {
	case err != nil:
		return err
	case row["r"] == "0":
		c.read = lsn
	case c.read != 0: // else it lies before where the server began to count
		return fmt.Errorf("the server does not count hb as the redo log's reader any more (at LSN %v)", lsn)
	}
	return nil
}

// Close ends the registration. A second Close does nothing. Server.Close does it
// too.
func (c *RedoConsumer) Close() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.conn == nil {
		return nil
	}
	conn := c.conn
	c.conn = nil
	ctx, cancel := context.WithTimeout(context.Background(), mysqld.ReleaseTimeout)
	defer cancel()
	_, err := conn.Row(ctx, "SELECT innodb_redo_log_consumer_unregister() AS r")
	if errors.Is(err, mysqld.ErrConnectionLost) {
		err = nil // and with the connection the registration
	}
	return errors.Join(err, conn.Close())
}
