package mysqlredo_test

import (
	"bytes"
	"compress/gzip"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"hb/source/mysqld/mysqldtest"
	"hb/source/mysqld/mysqldtest/census"
	"hb/source/mysqld/mysqldtest/workload"
	"hb/stream/disk"
	"hb/stream/disk/disktest"
	"hb/xbstream/innodb"
	"hb/xbstream/innodb/mysqlredo"
	"hb/xbstream/innodb/mysqlredo/mlog"
	"hb/xbstream/innodb/redolog"
)

// crash runs the load on a server whose log is large enough for all of it, and
// kills it.
func crash(t *testing.T, root *mysqldtest.Root, config ...string) *mysqldtest.Server {
	t.Helper()
	s := mysqldtest.Start(t, root, mysqldtest.Options{Config: config})
	l, err := workload.Prepare(t.Context(), s.DB(), workload.Options{})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
	defer cancel()
	if err := l.Run(ctx); err != nil {
		t.Fatal(err)
	}
	if err := s.Kill(); err != nil {
		t.Fatal(err)
	}
	return s
}

// bigLog makes a log of which nothing is overwritten.
func bigLog(root *mysqldtest.Root) []string {
	if root.AtLeast(8, 0) {
		return []string{"innodb-redo-log-capacity=512M"}
	}
	return []string{"innodb-log-file-size=256M"}
}

// linear returns the log of a dead server as a backup holds it.
func linear(t *testing.T, dir string) ([]byte, innodb.LSN) {
	t.Helper()
	f, err := mysqlredo.OpenFiles(disk.OS, dir)
	if err != nil {
		t.Fatal(err)
	}
	var b bytes.Buffer
	end, err := f.WriteLinear(&b, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes(), end
}

// TestServers reads the logs of killed servers to their end, and has the
// servers recover from logs that were rebuilt from what was read.
func TestServers(t *testing.T) {
	mysqldtest.Each(t, mysqldtest.MySQL, func(t *testing.T, root *mysqldtest.Root) {
		s := crash(t, root, bigLog(root)...)
		log, end := linear(t, s.Datadir)
		save(t, root, log)
		if got := countAll(t, log, end); got < 10000 {
			t.Errorf("only %d records", got)
		}
		theirs, ours := s.Datadir, filepath.Join(t.TempDir(), "data")
		if err := os.CopyFS(ours, os.DirFS(theirs)); err != nil {
			t.Fatal(err)
		}
		removeLog(t, ours)
		if err := mysqlredo.RebuildInFiles(disktest.Open(t, ours), bytes.NewReader(log), end, nil, 4<<20); err != nil {
			t.Fatal(err)
		}
		again, againEnd := linear(t, ours)
		if againEnd != end || !bytes.Equal(again[mysqlredo.HeaderSize:], log[mysqlredo.HeaderSize:]) {
			t.Errorf("the rebuilt log ends at LSN %d, want %d", againEnd, end)
		}
		compareServers(t, root, theirs, ours, bigLog(root))
	})
}

// save keeps the beginning of a log, cut after a mini-transaction, if the
// environment names a directory for it: so the files in testdata were made.
func save(t *testing.T, root *mysqldtest.Root, log []byte) {
	t.Helper()
	dir := os.Getenv("HB_TEST_SAVE")
	if dir == "" {
		return
	}
	l, err := mysqlredo.ParseLinear(log)
	if err != nil {
		t.Fatal(err)
	}
	cut := mysqlredo.NewCutter(l.Header.Format, l.Checkpoint.LSN)
	cut.Feed(log[mysqlredo.HeaderSize:][:250*redolog.BlockSize])
	for _, ok := cut.Next(); ok; _, ok = cut.Next() {
	}
	at := l.Offset(redolog.BlockOf(cut.End()))
	last, err := mysqlredo.LastBlock(l.Header.Format, log[at:at+redolog.BlockSize], cut.End())
	if err != nil {
		t.Fatal(err)
	}
	var b bytes.Buffer
	z := gzip.NewWriter(&b)
	z.Write(log[:at])
	z.Write(last)
	if err := z.Close(); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, root.Version+".log.gz"), b.Bytes(), 0o644); err != nil {
		t.Fatal(err)
	}
}

// countAll parses a whole linear log and returns how many records it has.
func countAll(t *testing.T, log []byte, end innodb.LSN) int {
	t.Helper()
	l, err := mysqlredo.ParseLinear(log)
	if err != nil {
		t.Fatal(err)
	}
	cut := mysqlredo.NewCutter(l.Header.Format, l.Checkpoint.LSN)
	cut.Feed(log[mysqlredo.HeaderSize:])
	var counts census.Counts
	var index mlog.Index
	for m, ok := cut.Next(); ok; m, ok = cut.Next() {
		if err := counts.Add(m.Records); err != nil {
			t.Fatalf("LSN %d: %v", m.Start, err)
		}
		checkIndexes(t, m, &index)
	}
	if cut.End() != end || !cut.Clean() || cut.Stop().Cause != mysqlredo.StopPartialBlock {
		t.Errorf("%v: cut up to LSN %d (%v), want %d", l.Header.Format, cut.End(), cut.Stop(), end)
	}
	sum := 0
	for typ, n := range counts {
		if n > 0 {
			t.Logf("%8d %v", n, mlog.Type(typ))
			sum += int(n)
		}
	}
	return sum
}

// checkIndexes parses what the records of a mini-transaction say of indexes and
// files.
func checkIndexes(t *testing.T, m redolog.MTR, x *mlog.Index) {
	t.Helper()
	for b := m.Records; len(b) > 0; {
		r, _, err := mlog.ParseRecord(b)
		if err != nil {
			t.Fatal(err)
		}
		b = b[r.Size:]
		if _, err := x.Parse(r.Type, r.Body); err != nil {
			t.Fatalf("LSN %d: %v", m.Start, err)
		}
		if sorted := slices.Sorted(slices.Values(x.Physical)); len(sorted) != len(x.Fields) ||
			len(sorted) > 0 && (sorted[0] != 0 || sorted[len(sorted)-1] != len(sorted)-1) {
			t.Fatalf("LSN %d: physical positions %v of %d fields", m.Start, x.Physical, len(x.Fields))
		}
		if x.Compact && x.NUniq < len(x.Fields) && (x.Fields[x.NUniq].Len != 6 || x.Fields[x.NUniq+1].Len != 7) {
			t.Fatalf("LSN %d: DB_TRX_ID and DB_ROLL_PTR are not after the key: %+v", m.Start, x)
		}
		if r.Type.IsFile() {
			op, err := r.FileOp()
			if err != nil || op.Type != mlog.FileExtend && !strings.Contains(op.Name, "/") {
				t.Fatalf("LSN %d: %+v, %v", m.Start, op, err)
			}
		}
		if r.Type == mlog.DynamicMeta {
			if _, err := mlog.ParseMeta(r.Body); err != nil {
				t.Fatalf("LSN %d: %v", m.Start, err)
			}
		}
	}
}

func removeLog(t *testing.T, dir string) {
	t.Helper()
	old, _ := filepath.Glob(filepath.Join(dir, "ib_logfile*"))
	for _, f := range append(old, filepath.Join(dir, mysqlredo.RedoDir)) {
		if err := os.RemoveAll(f); err != nil {
			t.Fatal(err)
		}
	}
}

// compareServers starts a server on each directory and compares all tables.
func compareServers(t *testing.T, root *mysqldtest.Root, theirs, ours string, config []string) {
	t.Helper()
	var sums [2]map[string]string
	var faults [2]string
	for i, dir := range []string{theirs, ours} {
		s := mysqldtest.StartOn(t, root, dir, mysqldtest.Options{Config: config})
		// Tables of other engines suffer from the kill, in both the same.
		err := workload.Check(t.Context(), s.DB())
		faults[i] = fmt.Sprint(err)
		if sums[i], err = workload.Checksums(t.Context(), s.DB()); err != nil {
			t.Fatal(err)
		}
		log, err := s.ErrorLog()
		if err != nil {
			t.Fatal(err)
		}
		if strings.Contains(log, "in the future") {
			t.Errorf("%s: pages from the future:\n%s", dir, log)
		}
		if err := s.Stop(); err != nil {
			t.Error(err)
		}
	}
	if faults[0] != faults[1] {
		t.Errorf("the server finds other faults after the rebuilt log:\n%s\n%s", faults[0], faults[1])
	}
	if d := workload.Differences(sums[0], sums[1]); len(d) > 0 || len(sums[0]) < 10 {
		t.Errorf("%d tables: %v", len(sums[0]), d)
	}
}

// TestSynthetic starts a server on a log that holds nothing but AUTO_INCREMENT
// counters: of one table, and, over several blocks, of tables that are not.
func TestSynthetic(t *testing.T) {
	root := mysqldtest.Need(t, mysqldtest.MySQL97)
	for _, others := range []int{0, 500} {
		s := mysqldtest.Start(t, root, mysqldtest.Options{})
		s.Exec(t, "CREATE DATABASE d", "CREATE TABLE d.t (id BIGINT AUTO_INCREMENT PRIMARY KEY)", "INSERT INTO d.t VALUES (1)")
		id, err := strconv.ParseUint(s.Value(t, "SELECT TABLE_ID FROM information_schema.INNODB_TABLES WHERE NAME='d/t'"), 10, 64)
		if err != nil {
			t.Fatal(err)
		}
		if err := s.Stop(); err != nil {
			t.Fatal(err)
		}
		_, end := linear(t, s.Datadir)
		set := mlog.MetaSet{}
		for i := range others {
			set.Add(mlog.Meta{Table: uint64(1<<40 + i), Version: 1 << 33, Item: mlog.AppendM64([]byte{2}, 1<<50)})
		}
		set.Add(mlog.Meta{Table: id, Item: mlog.AppendM64([]byte{2}, 5000)})
		set.Add(mlog.Meta{Table: id, Item: mlog.AppendM64([]byte{2}, 4000)})
		writeSynthetic(t, s.Datadir, mysqlredo.Synthetic{End: end + 1<<20, UUID: 7, Meta: set.Sorted()})
		_, got := linear(t, s.Datadir)
		if want := mysqlredo.FlushLSN(end + 1<<20); got < want || others > 0 && got < want+512*10 {
			t.Errorf("the synthetic log ends at LSN %d, begins at %d", got, want)
		}
		again := mysqldtest.StartOn(t, root, s.Datadir, mysqldtest.Options{})
		again.Exec(t, "INSERT INTO d.t VALUES (NULL)")
		if got := again.Value(t, "SELECT MAX(id) FROM d.t"); got != "5001" && got != "5000" {
			t.Errorf("the next AUTO_INCREMENT is %s", got)
		}
		log, err := again.ErrorLog()
		if err != nil {
			t.Fatal(err)
		}
		if strings.Contains(log, "[ERROR]") || strings.Contains(log, "in the future") {
			t.Errorf("the server complains:\n%s", log)
		}
		if err := again.Stop(); err != nil {
			t.Error(err)
		}
	}
}

// writeSynthetic replaces the log of a directory and tells page 0.
func writeSynthetic(t *testing.T, datadir string, s mysqlredo.Synthetic) {
	t.Helper()
	removeLog(t, datadir)
	dir := filepath.Join(datadir, mysqlredo.RedoDir)
	if err := os.Mkdir(dir, 0o750); err != nil {
		t.Fatal(err)
	}
	var b bytes.Buffer
	if err := mysqlredo.WriteSynthetic(&b, s); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, mysqlredo.RedoName(0)), b.Bytes(), 0o640); err != nil {
		t.Fatal(err)
	}
	f, err := os.OpenFile(filepath.Join(datadir, "ibdata1"), os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	lsn := binary.BigEndian.AppendUint64(nil, uint64(mysqlredo.FlushLSN(s.End)))
	_, err = f.WriteAt(lsn, innodb.OffsetFlushLSN)
	if err := errors.Join(err, f.Close()); err != nil {
		t.Fatal(err)
	}
}
