package source_test

import (
	"fmt"
	"io"
	"testing"
	"time"

	"hb/source"
	"hb/source/mysqld/mysqldtest"
	"hb/source/mysqld/mysqldtest/client"
)

// BenchmarkDefinitions measures what recording definitions costs with 10,000 tables, of which
// 5,000 have foreign keys, 5,000 views and procedures, and 1,000 triggers: seconds of a whole backup, milliseconds for which its last lock is
// held, and both without definitions. The tables are in no cache of the server.
func BenchmarkDefinitions(b *testing.B) {
	for _, name := range allServers() {
		b.Run(name, func(b *testing.B) {
			s := mysqldtest.Start(b, mysqldtest.Need(b, name), mysqldtest.Options{Config: []string{"open_files_limit=20000"}})
			s.Exec(b, "CREATE DATABASE d", "CREATE DATABASE e")
			for i := range 5000 {
				s.Exec(b, fmt.Sprintf("CREATE TABLE d.t%d (id INT PRIMARY KEY, a VARCHAR(100) NOT NULL DEFAULT 'x', b DATETIME, KEY (a), KEY (b)) ENGINE=InnoDB", i),
					fmt.Sprintf("CREATE TABLE d.c%d (id INT PRIMARY KEY, CONSTRAINT f%d FOREIGN KEY (id) REFERENCES d.t%d (id)) ENGINE=InnoDB", i, i, i),
					fmt.Sprintf("CREATE VIEW e.v%d AS SELECT * FROM d.t%d", i, i), fmt.Sprintf("CREATE PROCEDURE e.p%d() SELECT * FROM d.t%d", i, i))
				if i < 1000 {
					s.Exec(b, fmt.Sprintf("CREATE TRIGGER d.r%d BEFORE INSERT ON d.t%d FOR EACH ROW SET NEW.a = 'y'", i, i))
				}
			}
			settle()
			s.WriteOut(b)
			var took, held [2][]float64
			for range b.N {
				for i := range took {
					s.Exec(b, "FLUSH TABLES")
					seconds, lock := timedBackup(b, s, source.Options{NoDefinitions: i == 1})
					took[i], held[i] = append(took[i], seconds), append(held[i], lock)
				}
			}
			b.ReportMetric(0, "ns/op")
			b.ReportMetric(median(took[0]), "s")
			b.ReportMetric(median(took[1]), "s-without")
			b.ReportMetric(median(held[0]), "ms-locked")
			b.ReportMetric(median(held[1]), "ms-locked-without")
		})
	}
}

// timedBackup returns the seconds of a backup, and the milliseconds of its last lock against DDL.
func timedBackup(b *testing.B, s *mysqldtest.Server, o source.Options) (seconds, locked float64) {
	b.Helper()
	srv := client.Open(b, s)
	defer srv.Close()
	o.Tmpdir, o.Tool, o.ToolVersion = b.TempDir(), "hb", "test"
	began := time.Now()
	r, err := source.Run(b.Context(), srv, io.Discard, o)
	if err != nil {
		b.Fatal(err)
	}
	for _, l := range r.Locks {
		switch l.Lock {
		case "BACKUP STAGE BLOCK_DDL", "FLUSH TABLES WITH READ LOCK", "LOCK INSTANCE FOR BACKUP":
			locked = float64(l.Held.Microseconds()) / 1000
		}
	}
	return time.Since(began).Seconds(), locked
}
