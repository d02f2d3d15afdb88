package sink

import (
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"hb/sink/apply"
	"hb/sink/backupdir"
	"hb/source/mysqld/mysqldtest"
	"hb/stream/disk/disktest"
	"hb/xbstream/innodb/mysqlredo"
	"hb/xbstream/metadata"
)

// binlogTrial is a backup whose binary log belongs into a directory beside it.
func binlogTrial(t *testing.T, byServer bool) trial {
	b := newFakeMySQL(t, mysqlredo.Format8030)
	b.binlog = &metadata.BinlogPos{File: "x.000007", Pos: 9000}
	b.binlogHome = &metadata.BinlogHome{Base: "/elsewhere/x", Index: "/elsewhere/x.index"}
	b.write(b.binlog.File, []byte(strings.Repeat("an event\n", 1000)))
	b.write("x.index", []byte("./x.000007\n"))
	b.mtr(put(7, 3, "first"), put(0, 4, "system"))
	b.own().finish().seal()
	c := trial{image: t.TempDir(), sub: "backup"}
	c.o = apply.Options{Memory: 1, Parallel: 1, Tool: "hb test", ByServer: byServer, LogBin: "../logs/x"}
	if err := os.CopyFS(c.backup(c.image), os.DirFS(b.dir)); err != nil {
		t.Fatal(err)
	}
	if err := os.Mkdir(filepath.Join(c.image, "logs"), 0o755); err != nil {
		t.Fatal(err)
	}
	if _, want := c.applied(t, filepath.Join(t.TempDir(), "dir")); want["../logs/x.000007"] != string(b.read("x.000007")) ||
		want["../logs/x.index"] != "../logs/x.000007\n" || want["x.000007"] == "" {
		t.Fatalf("the binary log is not where the server looks for it: %q", want["../logs/x.index"])
	}
	return c
}

// TestPlaceBinlogFaults is TestApplyFaults for each operation by which the binary
// log comes to its place.
func TestPlaceBinlogFaults(t *testing.T) {
	mysqldtest.Heavy(t)
	for _, byServer := range []bool{false, true} {
		applyFaults(t, binlogTrial(t, byServer), func(all []disktest.Op) []disktest.Op {
			placing := slices.DeleteFunc(slices.Clone(all), func(op disktest.Op) bool { return !strings.HasPrefix(op.Name, "logs") })
			if len(placing) < 20 {
				t.Errorf("only %q have to do with it", placing)
			}
			return placing
		})
	}
}

// TestPlaceBinlogCrash is TestApplyCrash likewise. When a server can start, the
// binary log is in its place, whatever a crash loses.
func TestPlaceBinlogCrash(t *testing.T) {
	mysqldtest.Heavy(t)
	for _, byServer := range []bool{false, true} {
		if byServer && !mysqldtest.Long() {
			continue // of many MiB, each time
		}
		applyCrashes(t, binlogTrial(t, byServer), func(op string) int {
			// When ibdata1 has its name back, servers can start.
			if strings.Contains(op, " logs") || strings.Contains(op, "ibdata1"+backupdir.ExtHeld) || op == "sync backup" {
				return 1
			}
			return 0
		})
	}
}

// TestBinlogInPlace: a restore over the original server puts the binary log to where that
// had it, and sets its files aside; where the index was elsewhere, it asks.
func TestBinlogInPlace(t *testing.T) {
	for _, elsewhere := range []bool{false, true} {
		logs := t.TempDir()
		at := func(name string) string { return filepath.Join(logs, name) }
		b := newFakeMySQL(t, mysqlredo.Format8030)
		b.binlog = &metadata.BinlogPos{File: "x.000007", Pos: 9000}
		b.binlogHome = &metadata.BinlogHome{Base: at("x"), Index: at("x.index")}
		if elsewhere {
			b.binlogHome.Index = "/elsewhere/x.index"
		}
		b.write(b.binlog.File, []byte("an event\n"))
		b.mtr(put(7, 3, "first"), put(0, 4, "system"))
		b.own().finish().seal()
		old := map[string]string{"x.000007": "an event\nand a later one\n", "x.000008": "more\n", "x.index": at("x.000007") + "\n" + at("x.000008") + "\n"}
		for name, text := range old {
			if err := os.WriteFile(at(name), []byte(text), 0o640); err != nil {
				t.Fatal(err)
			}
		}
		taken := at("x.index.hb-aside")
		if err := os.WriteFile(taken, nil, 0o640); err != nil {
			t.Fatal(err)
		}
		before := disktest.ReadTree(t, b.dir)
		if _, err := apply.Run(t.Context(), b.dir, apply.Options{InPlace: true, Tool: "hb test"}); err == nil || !maps.Equal(disktest.ReadTree(t, b.dir), before) {
			t.Errorf("while the name of a file to set aside is taken: %v, and the backup may have changed", err)
		}
		if err := os.Remove(taken); err != nil {
			t.Fatal(err)
		}
		_, err := apply.Run(t.Context(), b.dir, apply.Options{InPlace: true, Tool: "hb test"})
		got := disktest.ReadTree(t, logs)
		if elsewhere {
			if !hasType[*apply.BinlogPlaceError](err) || !maps.Equal(got, old) {
				t.Errorf("with its index elsewhere: %v, %q", err, got)
			}
			continue
		}
		want := map[string]string{
			"x.000007": "an event\n", "x.index": at("x.000007") + "\n", "x.000008": old["x.000008"],
			"x.000007.hb-aside": old["x.000007"], "x.index.hb-aside": old["x.index"],
		}
		if err != nil || !maps.Equal(got, want) {
			t.Errorf("%v: %q, want %q", err, got, want)
		}
	}
}
