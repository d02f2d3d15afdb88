package source

import (
	"context"
	"sync"
	"sync/atomic"
	"time"

	"hb/source/mysqld/position"
	"hb/xbstream/innodb"
)

const (
	// watchInterval is the time between two looks at the spool.
	watchInterval = time.Second
	// lsnInterval is the time between two questions to the server for its LSN.
	lsnInterval = 5 * time.Second
)

// watcher reports what no single step knows: how far the redo that hb has read lags
// behind the server, and how much is spooled.
type watcher struct {
	b       *backup
	wg      sync.WaitGroup
	resting atomic.Bool

	server *position.Observer // nil: it could not be had
	newest innodb.LSN         // 0: not known
	asked  time.Time
}

// rest stops the questions to the server: it is about to be locked.
func (w *watcher) rest() { w.resting.Store(true) }

// wait returns when the watcher has ended, which it does with its context.
func (w *watcher) wait() { w.wg.Wait() }

// start starts watching a backup, if anybody looks.
func (w *watcher) start(ctx context.Context, b *backup) {
	if b.Options.Progress != nil {
		w.b = b
		w.look(ctx)
		w.wg.Go(func() { w.run(ctx) })
	}
}

// run watches. A backup that ends before the first look costs the server no
// connection. It ignores a server that does not answer: the backup will notice.
func (w *watcher) run(ctx context.Context) {
	tick := time.NewTicker(watchInterval)
	defer tick.Stop()
	for first := true; ; first = false {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		if first {
			w.server, _ = position.Observe(ctx, w.b.Server)
			if w.server != nil {
				defer w.server.Close() // to an end that the backup does not depend on
			}
		}
		w.look(ctx)
	}
}

func (w *watcher) look(ctx context.Context) {
	if w.server != nil && !w.resting.Load() && time.Since(w.asked) >= lsnInterval {
		if lsn, err := w.server.LSN(ctx); err == nil {
			w.newest = max(w.newest, lsn)
		}
		w.asked = time.Now()
	}
	m := w.b.Options.Progress
	if w.newest > 0 {
		m.SetLag(int64(w.newest) - int64(w.b.follower.End()))
	}
	m.SetSpool(w.b.follower.Spooled() + w.b.stage.Spooled() + w.b.definitions.Size())
}
