package sink

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"hb/sink/apply"
	"hb/xbstream/innodb/mariadbredo"
)

// TestOwnerTold: where hb runs as root, and so do its files, it says that the server's
// user must own them; not if they belong to somebody already.
func TestOwnerTold(t *testing.T) {
	for _, owner := range []int{os.Geteuid(), 27333} {
		if owner != os.Geteuid() && os.Geteuid() != 0 {
			continue // only root gives files away
		}
		b := newFakeBackup(t, mariadbredo.Format108, fullFlags)
		b.finish()
		if err := os.Chown(filepath.Join(b.dir, "ibdata1"), owner, -1); err != nil {
			t.Fatal(err)
		}
		result, err := apply.Run(t.Context(), b.dir, apply.Options{})
		if err != nil {
			t.Fatal(err)
		}
		text := result.Describe(b.dir, time.Second)
		if told := strings.Contains(text, "a server can start on "+b.dir+", once its user owns the files: chown -R mysql: "+b.dir); told != (owner == 0) {
			t.Errorf("files of user %d: %s", owner, text)
		}
	}
}
