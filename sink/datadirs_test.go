package sink_test

import (
	"bytes"
	"encoding/binary"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"hb/sink/apply"
	"hb/sink/replay/mysql/scan"
	"hb/sink/verify"
	"hb/source/mysqld/mysqldtest"
	"hb/source/mysqld/mysqldtest/census"
	"hb/stream/disk"
	"hb/xbstream/innodb"
	"hb/xbstream/innodb/mysqlredo"
	"hb/xbstream/innodb/mysqlredo/mlog"
	"hb/xbstream/innodb/redolog"
)

// datadir is a data directory that a server of MySQL 8.0 or 8.4 left as it stopped in
// order: what scripts/datadirs brings.
type datadir struct {
	name    string
	creator string // of the redo log
	format  mysqlredo.Format
	mtrs    int // mini-transactions that are in the log still
	pages   int // that these begin; those of a short log change only older ones
}

var datadirs = []datadir{
	{"data_80011", "MySQL 8.0.11", mysqlredo.Format803, 52130, 833},
	{"data_80011_ci_mac", "MySQL 8.0.11", mysqlredo.Format803, 69914, 1504},
	{"data_80012", "MySQL 8.0.12", mysqlredo.Format803, 53509, 803},
	{"data_80013", "MySQL 8.0.13", mysqlredo.Format803, 53260, 801},
	{"data_80014", "MySQL 8.0.14", mysqlredo.Format803, 53091, 841},
	{"data_80015", "MySQL 8.0.15", mysqlredo.Format803, 53625, 813},
	{"data_80016", "MySQL 8.0.16", mysqlredo.Format803, 53129, 792},
	{"80016_subpart", "MySQL 8.0.16", mysqlredo.Format803, 72515, 1418},
	{"data_80017", "MySQL 8.0.17", mysqlredo.Format803, 51970, 781},
	{"data_80018", "MySQL 8.0.18", mysqlredo.Format803, 50747, 758},
	{"data80019_partition_prefix_key", "MySQL 8.0.19", mysqlredo.Format803, 77066, 1486},
	{"data80028_invalid_opt_hints", "MySQL 8.0.28", mysqlredo.Format8020, 77143, 1466},
	{"data841_long_index", "MySQL 8.0.38", mysqlredo.Format8030, 4773, 0},
	{"data_80017_36890891", "MySQL 8.0.42", mysqlredo.Format8030, 191, 0},
	{"data84_with_externally_stored_tablespaces", "MySQL 8.4.0", mysqlredo.Format8030, 7064, 37},
	{"data_instant_ddl_upgrade_8_4_3", "MySQL 8.4.3", mysqlredo.Format8030, 33945, 0},
	{"data_instant_ddl_upgrade_part_8_4_3", "MySQL 8.4.3", mysqlredo.Format8030, 35874, 0},
	{"data_instant_ddl_upgrade_rollback_8_4_3", "MySQL 8.4.3", mysqlredo.Format8030, 11948, 0},
	{"instant_ddl_upgrade_update_8_4_3", "MySQL 8.4.3", mysqlredo.Format8030, 33870, 0},
}

// TestDatadirs: the redo logs that servers of 8.0 and 8.4 wrote, as far back as their
// files go, make the pages that those servers left. Of a copy of each data directory
// the pages are zeroed that the log begins; apply must make them again, equal to what
// they were.
func TestDatadirs(t *testing.T) {
	mysqldtest.Heavy(t)
	for _, d := range datadirs {
		t.Run(d.name, func(t *testing.T) {
			t.Parallel()
			data := mysqldtest.Datadir(t, d.name)
			want := readFiles(t, data)
			end := stoppedAt(t, data, want)
			log, err := census.ReadWhole(data)
			if err != nil {
				t.Fatal(err)
			}
			if log.Header.Creator != d.creator || log.Header.Format != d.format || log.End != end {
				t.Errorf("the redo log is of %q in the format of %v and ends at %d, the checkpoint is at %d",
					log.Header.Creator, log.Header.Format, log.End, end)
			}
			dir := filepath.Join(t.TempDir(), "backup")
			h := unmade(t, data, log, end, dir)
			r := mustApply(t, dir, apply.Options{})
			made, later := h.compare(t, readFiles(t, dir), want)
			t.Logf("| %s | %s | %d | %d | %d | %d, %d of them latched later |", d.name, d.creator, d.format, r.MTRs, end-log.Checkpoint.LSN, made, later)
			if int(r.MTRs) != d.mtrs || made != d.pages {
				t.Errorf("%d mini-transactions made %d pages, not %d and %d", r.MTRs, made, d.mtrs, d.pages)
			}
		})
	}
}

// stoppedAt is the LSN at which a server stopped in order: FLUSH LSN of the system
// tablespace, that of the last checkpoint, and the end of the redo log.
func stoppedAt(t *testing.T, data string, files *census.Files) innodb.LSN {
	t.Helper()
	flushed := innodb.LSN(binary.BigEndian.Uint64(files.Spaces[0].Page(0)[innodb.OffsetFlushLSN:]))
	log, err := census.ReadLog(data, nil)
	if err != nil {
		t.Fatal(err)
	}
	if log.Checkpoint.LSN != flushed || log.End != flushed {
		t.Fatalf("FLUSH LSN is %d, the last checkpoint at %d, the end of the redo log at %d", flushed, log.Checkpoint.LSN, log.End)
	}
	return flushed
}

// history is what a log does to each page.
type history map[innodb.PageID]*pageHistory

type pageHistory struct {
	begun bool       // its first record initialises it
	last  innodb.LSN // where the last mini-transaction ends that changes it
}

func historyOf(t *testing.T, log *census.Log) history {
	t.Helper()
	h := history{}
	err := log.Each(func(m *redolog.MTR) error {
		for at := 0; at < len(m.Records); {
			r, _, err := mlog.ParseRecord(m.Records[at:])
			if err != nil {
				return err
			}
			if r.Type.IsPage() {
				p := h[r.Page]
				if p == nil {
					p = &pageHistory{begun: r.Type == mlog.InitFilePage2}
					h[r.Page] = p
				}
				p.last = m.End
			}
			at += r.Size
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return h
}

// begins reports whether the log has all that was done to a page. Page 0 counts as
// one that it does not: it tells which tablespace a file is.
func (h history) begins(id innodb.PageID) bool { return id.No > 0 && h[id] != nil && h[id].begun }

// unmade makes a backup of a data directory, with a log that goes far back, in which
// the pages are zeroed that the log begins.
func unmade(t *testing.T, data string, log *census.Log, end innodb.LSN, dir string) history {
	t.Helper()
	census.Backup(t, data, log, end, dir)
	h := historyOf(t, log)
	for id, f := range readFiles(t, dir).Spaces {
		out, err := os.OpenFile(filepath.Join(dir, f.Name), os.O_WRONLY, 0)
		if err != nil {
			t.Fatal(err)
		}
		zero := make([]byte, f.Space.Physical)
		for no := range f.Pages() {
			if h.begins(innodb.PageID{Space: id, No: no}) {
				_, werr := out.WriteAt(zero, int64(no)*int64(len(zero)))
				err = errors.Join(err, werr)
			}
		}
		if err := errors.Join(err, out.Close()); err != nil {
			t.Fatal(err)
		}
	}
	return h
}

// compare compares all pages, and returns how many of them the log began, and how
// many of these the server latched later, which gives a page a later LSN.
func (h history) compare(t *testing.T, got, want *census.Files) (made, later int) {
	t.Helper()
	bad := 0
	for id, theirs := range want.Spaces {
		skip := census.Skipped(want, id)
		for no := range theirs.Pages() {
			if slices.ContainsFunc(skip, func(r innodb.PageRange) bool { return r.Contains(no) }) {
				continue
			}
			p := innodb.PageID{Space: id, No: no}
			var ours []byte
			if f := got.Spaces[id]; f != nil {
				ours = f.Page(no)
			}
			b := theirs.Page(no)
			same, isLater := h.same(theirs, p, ours, b)
			if !same {
				if bad++; bad <= 5 {
					t.Errorf("%v", &census.Diff{ID: p, Name: theirs.Name, Type: innodb.HeaderType(b), Ours: ours, Theirs: b})
				}
				continue
			}
			if h.begins(p) {
				made++
				if isLater {
					later++
				}
			}
		}
	}
	if bad > 0 {
		t.Errorf("%d pages differ", bad)
	}
	return made, later
}

// same reports whether a page is what the server left, and whether the server gave
// it a later LSN: those of all pages that a mini-transaction has latched exclusively
// are set at its end, whether or not it changed them.
func (h history) same(f *census.File, id innodb.PageID, ours, theirs []byte) (same, later bool) {
	if len(ours) != len(theirs) {
		return false, false
	}
	if bytes.Equal(ours, theirs) {
		return true, false
	}
	a, b := bytes.Clone(ours), bytes.Clone(theirs)
	if id == (innodb.PageID{}) { // FLUSH LSN
		clear(a[innodb.OffsetFlushLSN:innodb.OffsetSpace])
		clear(b[innodb.OffsetFlushLSN:innodb.OffsetSpace])
		return bytes.Equal(a, b), false
	}
	if !h.begins(id) || innodb.HeaderLSN(ours) != h[id].last || innodb.HeaderLSN(theirs) < h[id].last {
		return false, false
	}
	for _, page := range [][]byte{a, b} {
		clear(page[:4])
		clear(page[innodb.OffsetLSN : innodb.OffsetLSN+8])
		if !f.Space.Zip() {
			clear(page[len(page)-8:])
		}
		// As it writes a page that was given out and not used, the server gives it a
		// type, without redo (buf_flush_init_for_writing).
		if innodb.HeaderType(page) == typeUnknown {
			binary.BigEndian.PutUint16(page[innodb.OffsetType:], 0)
		}
	}
	return bytes.Equal(a, b), innodb.HeaderLSN(theirs) > h[id].last
}

// typeUnknown is FIL_PAGE_TYPE_UNKNOWN.
const typeUnknown = 13

// TestDatadirCrashed: a server of 8.0.28 was killed on that data directory. From its
// last checkpoint on, apply makes the same pages as from the beginning of the log on
// pages that are zero, and the rows are those that MySQL's own test expects there
// (mysql-test, suite innodb, instant_ddl_recovery_old).
func TestDatadirCrashed(t *testing.T) {
	mysqldtest.Heavy(t)
	data := mysqldtest.Datadir(t, "crashed_datadir")
	log, err := census.ReadLog(data, nil)
	if err != nil {
		t.Fatal(err)
	}
	if log.Header.Creator != "MySQL 8.0.28" || log.Header.Format != mysqlredo.Format8020 || log.End == log.Checkpoint.LSN {
		t.Fatalf("the redo log is of %q in the format of %v, from %d to %d", log.Header.Creator, log.Header.Format, log.Checkpoint.LSN, log.End)
	}
	ours := filepath.Join(t.TempDir(), "ours")
	census.Backup(t, data, log, log.End, ours)
	r := mustApply(t, ours, apply.Options{})
	if r.Pages < 20 { // those of the statements that MySQL's test names
		t.Errorf("only %d pages were recovered", r.Pages)
	}
	whole, err := census.ReadWhole(data)
	if err != nil {
		t.Fatal(err)
	}
	fromNothing := filepath.Join(t.TempDir(), "whole")
	h := unmade(t, data, whole, log.End, fromNothing)
	all := mustApply(t, fromNothing, apply.Options{})
	made, later := h.compare(t, readFiles(t, fromNothing), readFiles(t, ours))
	t.Logf("%d pages recovered from LSN %d to %d; of the log from %d on, %d mini-transactions made %d pages, %d of them latched later",
		r.Pages, log.Checkpoint.LSN, r.LSN, whole.Checkpoint.LSN, all.MTRs, made, later)
	if all.MTRs != 77993 || made != 1492 {
		t.Errorf("%d mini-transactions made %d pages", all.MTRs, made)
	}
	for _, format := range []string{"redundant", "compact", "dynamic"} {
		got := instantRows(t, filepath.Join(ours, "test", "t1_"+format+".ibd"), format == "redundant")
		if want := []string{"1 r0c0 r1c2 r1c3", "3 r3c1 r3c2 r3c3"}; !slices.Equal(got, want) {
			t.Errorf("t1_%s has the rows %q, not %q", format, got, want)
		}
	}
	v, err := verify.Directory(t.Context(), ours, verify.Options{})
	if err != nil {
		t.Errorf("verify: %v", err)
	} else if len(v.Warnings) != 1 || !strings.Contains(v.Warnings[0], "not made by hb") {
		t.Errorf("verify warns: %q", v.Warnings)
	}
	rebuilt, err := census.ReadLog(ours, nil)
	if err != nil || rebuilt.Checkpoint.LSN != log.Checkpoint.LSN || rebuilt.End != log.End {
		t.Errorf("the redo log for the server is from %d to %d, not %d to %d: %v", rebuilt.Checkpoint.LSN, rebuilt.End, log.Checkpoint.LSN, log.End, err)
	}
}

// instantRows reads the rows of a table (id INT PRIMARY KEY, c1 CHAR(10), c2
// CHAR(10), c3 CHAR(10)) in utf8mb4 whose only leaf is page 4, as they lie there: the
// key, 13 bytes of the transaction, and of each column 10 bytes, or with REDUNDANT the
// most that 10 characters take.
func instantRows(t *testing.T, name string, redundant bool) (rows []string) {
	t.Helper()
	b, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	page := b[4*16384 : 5*16384]
	at, end, info, width, extra := 99, 112, 5, 10, 10 // 5 fixed, a count of the fields, a NULL byte, 3 lengths
	if redundant {
		at, end, info, width, extra = 101, 116, 6, 40, 18 // 6 fixed, the ends of 6 fields
	}
	const deleted = 0x20
	for range 10 {
		next := int(binary.BigEndian.Uint16(page[at-2:]))
		if !redundant {
			next = int(uint16(at + next))
		}
		if at = next; at == end {
			top, garbage := int(binary.BigEndian.Uint16(page[40:])), int(binary.BigEndian.Uint16(page[46:]))
			begin := end + 8 // after the text of the supremum, with REDUNDANT also a zero
			if redundant {
				begin++
			}
			if want := len(rows) * (extra + 17 + 3*width); top-begin-garbage != want {
				t.Errorf("%s: of %d bytes of rows %d are free, and not all but %d", name, top-begin, garbage, want)
			}
			return rows
		}
		if page[at-info]&deleted == 0 {
			row := strconv.Itoa(int(binary.BigEndian.Uint32(page[at:]) ^ 1<<31))
			for i := range 3 {
				row += " " + strings.TrimRight(string(page[at+17+width*i:][:width]), " ")
			}
			rows = append(rows, row)
		}
	}
	t.Fatalf("%s: the rows of page 4 have no end", name)
	return nil
}

// TestDatadirEncrypted: apply refuses a data directory of 8.0.22 by the name of its
// encrypted table; the pages of all other tables the log makes as the server left them.
func TestDatadirEncrypted(t *testing.T) {
	mysqldtest.Heavy(t)
	data := mysqldtest.Datadir(t, "data_8021")
	files := readFiles(t, data)
	end := stoppedAt(t, data, files)
	log, err := census.ReadWhole(data)
	if err != nil {
		t.Fatal(err)
	}
	if log.Header.Creator != "MySQL 8.0.22" || log.Header.Format != mysqlredo.Format8020 || log.End != end {
		t.Errorf("the redo log is of %q in the format of %v and ends at %d", log.Header.Creator, log.Header.Format, log.End)
	}
	dir := filepath.Join(t.TempDir(), "backup")
	h := unmade(t, data, log, end, dir)
	if _, err := apply.Run(t.Context(), copyTree(t, dir, dir+"-again"), apply.Options{}); err == nil || !strings.Contains(err.Error(), "test/t1.ibd: the master key INNODBKey-") {
		t.Errorf("apply: %v", err)
	}
	pages := replayMySQL(t, dir, log, end)
	got := pages.Files
	for id, p := range pages.Pages {
		if p.Err == nil && p.Image != nil && p.LSN > 0 {
			copy(got.Spaces[id.Space].Page(id.No), p.Image)
		}
	}
	for id, f := range files.Spaces {
		if f.Space.Encrypted() {
			delete(files.Spaces, id)
		}
	}
	made, later := h.compare(t, got, files)
	t.Logf("%d pages were made, %d of them latched later", made, later)
	if made != 1455 {
		t.Errorf("%d pages were made", made)
	}
}

// Test8029: a data directory of 8.0.29, whose redo log has a form of its own, is
// refused by name, and nothing of it is changed.
func Test8029(t *testing.T) {
	data := mysqldtest.Datadir(t, "wl131303_datadir")
	const name = "MySQL 8.0.29, which no other release reads"
	if _, err := mysqlredo.OpenFiles(disk.OS, data); err == nil || !strings.Contains(err.Error(), name) {
		t.Errorf("reading the redo log of a server: %v", err)
	}
	dir := filepath.Join(t.TempDir(), "backup")
	census.Backup(t, data, &census.Log{Checkpoint: mysqlredo.Checkpoint{LSN: firstLSN}}, firstLSN, dir)
	log, err := os.ReadFile(filepath.Join(data, mysqlredo.RingName(0)))
	if err == nil {
		err = os.WriteFile(filepath.Join(dir, scan.LogName), log, 0o644)
	}
	if err != nil {
		t.Fatal(err)
	}
	before := copyTree(t, dir, dir+"-before")
	if _, err := apply.Run(t.Context(), dir, apply.Options{}); err == nil || !strings.Contains(err.Error(), name) {
		t.Errorf("apply: %v", err)
	}
	sameTrees(t, "refused by apply", dir, before)
}

// firstLSN is where the log of a new server begins.
const firstLSN = 8192
