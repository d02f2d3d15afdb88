package workload

import (
	"path/filepath"
	"testing"
	"time"

	"hb/source/mysqld/mysqldtest"
)

// TestPeerBackup cuts the load with the server's own backup tool, and so proves
// that the rules hold at the cut of a backup that is known to be right: the
// copy passes Check, and as a replica from the recorded position it catches up
// with equal checksums. There is no DDL meanwhile: under this load's, 10.11.18's
// tool loses a table now and then ("Tablespace is missing"), 11.8.6's the indexes
// of Aria tables.
func TestPeerBackup(t *testing.T) {
	mysqldtest.Each(t, mysqldtest.MariaDB, func(t *testing.T, root *mysqldtest.Root) {
		source := mysqldtest.Start(t, root, mysqldtest.Options{Binlog: true})
		l, err := Prepare(t.Context(), source.DB(), Options{DDLRate: -1, Seed: seed(t)})
		if err != nil {
			t.Fatal(err)
		}
		dir := filepath.Join(t.TempDir(), "backup")
		During(t, l, func() {
			time.Sleep(runFor() / 2)
			l.ResetStalls()
			tool(t, root, "--defaults-file="+source.DefaultsFile, "--backup", "--target-dir="+dir)
			t.Logf("longest stall during the backup: %+v", l.Stats().MaxStall())
			time.Sleep(runFor() / 4)
		})
		tool(t, root, "--prepare", "--target-dir="+dir)
		VerifyCopy(t, source, dir, true, peersFaults...)
	})
}

// peersFaults are what Check finds now and then on copies that mariadb-backup
// made; no row is lost by them.
var peersFaults = []string{
	// 11.8.6 copies a table of MyISAM while its header says that it is open.
	"hasn't closed the table properly",
	// 10.5.23: after replication, the index misses documents that the table has.
	"documents that FULLTEXT finds by",
}

func tool(t *testing.T, root *mysqldtest.Root, args ...string) {
	t.Helper()
	if out, err := root.Tool("mariadb-backup", args...).CombinedOutput(); err != nil {
		if len(out) > 4000 {
			out = out[len(out)-4000:]
		}
		t.Fatalf("mariadb-backup %v: %v\n%s", args, err, out)
	}
}
