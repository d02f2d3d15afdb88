package source_test

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"hb/sink/apply"
	"hb/sink/verify"
	"hb/source"
	"hb/source/mysqld/mysqldtest"
	"hb/stream/disk/disktest"
)

// TestUndoEncryptedMeanwhile: the server begins to encrypt its undo tablespaces at moments of
// a backup, while they are written to; before that its keyring has no key. With either order
// of DDL the backup is right, or is refused, with the reason.
func TestUndoEncryptedMeanwhile(t *testing.T) {
	root, right := mysqldtest.Need(t, mysqldtest.MySQL97), 0
	for i, at := range []int{3, 30, 45} {
		for _, when := range []source.LockDDL{source.LockDDLReduced, source.LockDDLOn} {
			t.Run(fmt.Sprintf("%d%s", at, when), func(t *testing.T) {
				dir := disktest.Memory(t)
				file := filepath.Join(dir, "keyring")
				s := mysqldtest.Start(t, root, mysqldtest.Options{Keyring: file, Config: []string{"skip-log-bin"}})
				stop := churnUndo(t, s, time.Millisecond)
				archive := filepath.Join(dir, "archive")
				out, err := os.Create(archive)
				if err != nil {
					t.Fatal(err)
				}
				defer out.Close()
				n := 0
				_, err = hooked(t, s, out, source.Options{MySQLOptions: source.MySQLOptions{LockDDL: when}, Pace: func(context.Context, int) error {
					if n++; n == at {
						s.Exec(t, "SET GLOBAL innodb_undo_log_encrypt=ON")
					}
					if n == at+1+i {
						s.Exec(t, "SET GLOBAL innodb_max_dirty_pages_pct=0, innodb_max_dirty_pages_pct_lwm=0")
					}
					time.Sleep(10 * time.Millisecond)
					return nil
				}})
				stop()
				if err != nil {
					if !strings.Contains(err.Error(), "began to encrypt the tablespace") {
						t.Error(err)
					}
					return
				}
				right++
				if err := s.Stop(); err != nil {
					t.Fatal(err)
				}
				if r, err := verifyWith(t, archive, verify.Options{Keys: keysOf(t, file), Replay: true}); err != nil || r.Partial() != nil {
					t.Errorf("%v, %v", r, err)
				}
				target := filepath.Join(dir, "target")
				unpack(t, archive, target)
				if _, err := apply.Run(t.Context(), target, apply.Options{Tool: "hb test", Keys: keysOf(t, file)}); err != nil {
					t.Fatal(err)
				}
				copied := mysqldtest.StartOn(t, root, target, mysqldtest.Options{Keyring: file})
				if c := copied.Rows(t, "CHECK TABLE d.a EXTENDED"); c[0][3] != "OK" {
					t.Errorf("%v", c)
				}
			})
		}
	}
	if right == 0 {
		t.Error("all backups were refused")
	}
}
