package source_test

import (
	"fmt"
	"path/filepath"
	"testing"
	"time"

	"hb/source/mysqld/mysqldtest"
	"hb/source/mysqld/mysqldtest/workload"
)

// TestMySQLUnderLoad is TestUnderLoad for MySQL: there is only hb to restore with.
func TestMySQLUnderLoad(t *testing.T) {
	mysqldtest.Each(t, mysqldtest.MySQL, func(t *testing.T, root *mysqldtest.Root) {
		rounds := 1
		if mysqldtest.Long() {
			rounds = 5
		}
		for round := range rounds {
			t.Run(fmt.Sprintf("round %d", round+1), func(t *testing.T) { mysqlUnderLoad(t, root) })
		}
	})
}

func mysqlUnderLoad(t *testing.T, root *mysqldtest.Root) {
	s := mysqldtest.Start(t, root, mysqldtest.Options{Binlog: true})
	load, err := workload.Prepare(t.Context(), s.DB(), workload.Options{DDLRate: 20})
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	archive := filepath.Join(dir, "archive")
	workload.During(t, load, func() {
		time.Sleep(2 * time.Second)
		load.ResetStalls()
		r := backup(t, s, archive)
		t.Logf("longest stall during the backup: %+v", load.Stats().MaxStall())
		t.Logf("%+v %+v", r.Manifest, r.Manifest.Binlog)
		time.Sleep(time.Second)
	})
	for _, byGTID := range []bool{true, false} {
		target := filepath.Join(dir, fmt.Sprint("restored, by GTID ", byGTID))
		restoreByHB(t, root, archive, target)
		workload.VerifyCopy(t, s, target, byGTID)
	}
}
