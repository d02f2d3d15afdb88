package mysqld

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"
)

// A BufferPoolDump is a dump of the buffer pool's page numbers into the file
// innodb_buffer_pool_filename, which the server writes on its own.
type BufferPoolDump struct {
	srv    *Server
	before string // the status before it was asked for

	mu      sync.Mutex
	restore string // the statement that restores the settings, if any
}

const dumpStatus = "Innodb_buffer_pool_dump_status"

// DumpBufferPool has the server dump its buffer pool, percent of the newest
// pages (0: as the server is set, and on 5.6 always), and returns at once. Close
// restores what was set. (--dump-innodb-buffer-pool, --dump-innodb-buffer-pool-pct)
func (s *Server) DumpBufferPool(ctx context.Context, percent int) (*BufferPoolDump, error) {
	if percent < 0 || percent > 100 {
		return nil, fmt.Errorf("%d is not a percentage of the buffer pool", percent)
	}
	const pct = "innodb_buffer_pool_dump_pct"
	vars, err := s.Refresh(ctx)
	if err != nil {
		return nil, err
	}
	status, err := s.Status(ctx, dumpStatus)
	if err != nil {
		return nil, err
	}
	d := &BufferPoolDump{srv: s, before: status[dumpStatus]}
	s.OnClose(d)
	if percent > 0 && vars.Has(pct) {
		if err := s.Control.Exec(ctx, fmt.Sprintf("SET GLOBAL %s=%d", pct, percent)); err != nil {
			return nil, err
		}
		d.restore = fmt.Sprintf("SET GLOBAL %s=%s", pct, vars.String(pct))
	}
	if err := s.Control.Exec(ctx, "SET GLOBAL innodb_buffer_pool_dump_now=ON"); err != nil {
		return nil, errors.Join(err, d.Close())
	}
	return d, nil
}

// Wait waits until the dump is complete, at most timeout: done is false if it
// is not by then. (--dump-innodb-buffer-pool-timeout)
func (d *BufferPoolDump) Wait(ctx context.Context, timeout time.Duration) (done bool, err error) {
	for end := time.Now().Add(timeout); ; {
		status, err := d.srv.Status(ctx, dumpStatus)
		if err != nil {
			return false, err
		}
		text := status[dumpStatus]
		switch {
		case text == d.before:
		case strings.Contains(text, "completed"):
			return true, nil
		case strings.Contains(text, "Cannot") || strings.Contains(text, "Error"):
			return false, fmt.Errorf("the server's dump of its buffer pool: %s", text)
		}
		if !time.Now().Before(end) {
			return false, nil
		}
		if err := Pause(ctx, PollPause); err != nil {
			return false, err
		}
	}
}

// Close restores the server's settings. A second Close does nothing.
// Server.Close does it too.
func (d *BufferPoolDump) Close() error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.restore == "" {
		return nil
	}
	restore := d.restore
	d.restore = ""
	ctx, cancel := context.WithTimeout(context.Background(), ReleaseTimeout)
	defer cancel()
	return d.srv.Control.Exec(ctx, restore)
}
