package source

import (
	"errors"
	"os"
	"strings"
	"testing"

	"hb/source/mysqld/position"
	"hb/source/subject"
	"hb/stream/disk"
	"hb/xbstream/metadata"
)

// TestCountGTIDs: what is recorded is what the binary log holds up to the position
// and what is in none, whatever the server reported; a log that has not what the
// server reported is refused.
func TestCountGTIDs(t *testing.T) {
	const file, uuid, other = "binlog/testdata/mysql-9.7.4", "74e805c3-ebeb-11f1-b567-02fc00000001:", "00000000-0000-0000-0000-00000000000a:"
	for _, c := range []struct {
		pos                    uint64
		reported, purged, want string
		err                    string
		before, executed       string // with the file's beginning
	}{
		{pos: 1147, reported: uuid + "1-4:hello_tag:1", want: uuid + "1-6:a:1:hello_tag:1"}, // two that were not done with
		{pos: 1311, reported: uuid + "1-7:a:1:hello_tag:1", want: uuid + "1-7:a:1:hello_tag:1"},
		{pos: 249, reported: uuid + "1-4:hello_tag:1," + other + "1-9", purged: other + "1-9", want: other + "1-9," + uuid + "1-4:hello_tag:1"},
		{pos: 249, reported: uuid + "1-4:hello_tag:1", purged: other + "1", want: uuid + "1-4:hello_tag:1"}, // became known later
		{pos: 777, reported: uuid + "1-6", err: uuid + "6"},
		{pos: 777, reported: other + "1", err: other + "1"},
		{pos: 249, reported: other + "1-2", executed: other + "1-2", want: other + "1-2," + uuid + "1-4:hello_tag:1"}, // carried out after the file was begun
		{pos: 249, reported: other + "1-2", executed: other + "1", err: other + "2"},
		{pos: 249, reported: other + "1", executed: other + "1", before: other + "1", err: other + "1"},
		{pos: 777, before: "x", err: "gtid_executed"},
		{pos: 777, executed: "x", err: "gtid_executed"},
		{pos: 776, err: "position 776"},
		{pos: 777, reported: "x", err: "gtid_executed"},
		{pos: 777, purged: "x", err: "gtid_purged"},
	} {
		f, err := disk.OS.Open(file)
		if err != nil {
			t.Fatal(err)
		}
		b := &mysql8Backup{mysqlBackup: mysqlBackup{backup: &backup{at: position.Moment{Binlog: &metadata.BinlogPos{File: "binlog.000002", Pos: c.pos, GTID: c.reported}, Purged: c.purged}}}}
		b.binlog, b.logFile = f, position.BinlogFile{Before: c.before, Executed: c.executed}
		err = b.countGTIDs(t.Context(), f)
		if err := f.Close(); err != nil {
			t.Fatal(err)
		}
		if c.err == "" && (err != nil || b.at.Binlog.GTID != c.want || b.at.Replica.GTIDPos != c.want) || c.err != "" && (err == nil || !strings.Contains(err.Error(), c.err)) {
			t.Errorf("at %d, %q of the server and purged %q: %q, %q (%v), want %q", c.pos, c.reported, c.purged, b.at.Binlog.GTID, b.at.Replica.GTIDPos, err, c.want)
		}
	}
	s := &subject.Subject{}
	if _, err := s.OpenBinlog("../binlog.000001"); !errors.Is(err, os.ErrNotExist) && !strings.Contains(err.Error(), "not the name of a file") {
		t.Errorf("a path in place of a name: %v", err)
	}
}
