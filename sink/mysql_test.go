package sink

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"hb/sink/apply"
	"hb/sink/apply/fixup"
	"hb/sink/backupdir"
	"hb/sink/replay"
	"hb/sink/replay/mysql/scan"
	"hb/stream/disk/disktest"
	"hb/xbstream/innodb"
	"hb/xbstream/innodb/innodbtest"
	"hb/xbstream/innodb/mysqlredo"
	"hb/xbstream/innodb/mysqlredo/mlog"
	"hb/xbstream/innodb/redolog"
	"hb/xbstream/keyring"
	"hb/xbstream/metadata"
)

// fakeMySQL is a small backup directory of MySQL made by hand: the system
// tablespace in two files, table db/t (id 7) and, for 8.0, two undo tablespaces,
// with pages of 16 KiB and a log that begins at fakeStart.
type fakeMySQL struct {
	*fakeBackup
	format mysqlredo.Format
	rsegs  map[int]innodb.SpaceID // rollback segments' tablespaces
}

// The doublewrite area and the size of the first file, in pages.
const (
	fakeArea  = 8
	fakeFirst = fakeArea + 128
)

// emptyFakeMySQL is one without a tablespace but the system's.
func emptyFakeMySQL(t *testing.T, format mysqlredo.Format) *fakeMySQL {
	b := &fakeMySQL{fakeBackup: &fakeBackup{t: t, dir: t.TempDir(), flags: oldFlags}, format: format, rsegs: map[int]innodb.SpaceID{0: 0}}
	b.emptyLog()
	return b
}

// emptyLog begins the log again.
func (b *fakeMySQL) emptyLog() {
	b.log, b.end = innodbtest.Log{Form: innodbtest.MySQLForm(b.format), Start: fakeStart}, fakeStart
}

func newFakeMySQL(t *testing.T, format mysqlredo.Format) *fakeMySQL {
	b := emptyFakeMySQL(t, format)
	b.table("db/t.ibd", 7, 6, 40000)
	if format >= mysqlredo.Format801 {
		b.table("mysql.ibd", 0xFFFFFFFE, 4, 40000)
		b.table("undo_001", 0xFFFFFFEF, 4, 40000)
		b.table("undo_002", 0xFFFFFFEE-127, 4, 40000) // truncated once
	}
	return b
}

// records

func my(t mlog.Type, space, page uint32, body ...byte) []byte {
	return innodbtest.MySQLRecord(t, space, page, body...)
}

// put writes text at byte 200 of a page.
func put(space, page uint32, text string) []byte { return putAt(space, page, 200, []byte(text)) }

func putAt(space, page uint32, at int, b []byte) []byte {
	body := binary.BigEndian.AppendUint16(nil, uint16(at))
	body = binary.BigEndian.AppendUint16(body, uint16(len(b)))
	return my(mlog.WriteString, space, page, append(body, b...)...)
}

// writeAt writes a number at a byte of a page.
func writeAt(t mlog.Type, space, page uint32, at uint16, value uint32) []byte {
	return my(t, space, page, innodbtest.AppendC32(binary.BigEndian.AppendUint16(nil, at), value)...)
}

func named(t mlog.Type, space uint32, names ...string) []byte {
	var body []byte
	if t == mlog.FileCreate2 {
		body = []byte{0, 0, 0, 0}
	}
	for _, name := range names {
		body = binary.BigEndian.AppendUint16(body, uint16(len(name)+1))
		body = append(append(body, name...), 0)
	}
	return my(t, space, 0, body...)
}

// makePage0 begins page 0 of a tablespace.
func makePage0(init mlog.Type, space, pages, flags uint32) []byte {
	be := binary.BigEndian
	return bytes.Join([][]byte{
		my(init, space, 0),
		putAt(space, 0, 38, be.AppendUint32(nil, space)),
		putAt(space, 0, 46, be.AppendUint32(nil, pages)),
		putAt(space, 0, 54, be.AppendUint32(nil, flags)),
	}, nil)
}

func counter(table, version byte, value byte) []byte {
	return []byte{byte(mlog.DynamicMeta), table, version, 2, value}
}

// finish writes the system tablespace, the log and the metadata.
func (b *fakeMySQL) finish() *fakeMySQL {
	system := b.space(0, fakeFirst+64, 40000).Bytes()
	trx := system[5*fakePage : 6*fakePage]
	for slot, id := range b.rsegs {
		innodbtest.RollbackSegment(trx, slot, id)
	}
	innodbtest.DoublewriteArea(trx, fakeArea, fakeArea+64)
	b.stamp(trx, 40000)
	b.write("ibdata1", system[:fakeFirst*fakePage])
	b.write("ibdata2", system[fakeFirst*fakePage:])
	h := mysqlredo.Header{Format: b.format, UUID: 77, StartLSN: 8192}
	head := mysqlredo.BackupHead(h, mysqlredo.Checkpoint{LSN: redolog.Canonical(fakeStart)}, time.Unix(0, 0))
	b.write(scan.LogName, append(head, b.log.Bytes()...))
	b.write("backup-my.cnf", []byte("[mysqld]\ninnodb_data_file_path=ibdata1:1M;ibdata2:1M:autoextend\ninnodb_page_size=16384\n"))
	b.checkpoints(metadata.FullBackup, b.end)
	return b
}

// own makes it a backup of hb's.
func (b *fakeMySQL) own() *fakeMySQL {
	a := metadata.Archive{Version: 1, HBVersion: "1", ServerFlavor: metadata.FlavorMySQL, ServerVersion: "8.4.0",
		PageSize: fakePage, StartLSN: fakeStart, RedoFormat: b.format.String(), Created: time.Unix(1e9, 0)}
	text, err := a.Marshal()
	if err != nil {
		b.t.Fatal(err)
	}
	b.write(metadata.ArchiveName, text)
	return b
}

var fakeFormats = []mysqlredo.Format{mysqlredo.Format56, mysqlredo.Format57, mysqlredo.Format803, mysqlredo.Format8020, mysqlredo.Format8030}

func TestApplyMySQL(t *testing.T) {
	for _, format := range fakeFormats {
		t.Run(format.String(), func(t *testing.T) {
			b := newFakeMySQL(t, format)
			b.mtr(put(7, 3, "first"))
			second := b.mtr(put(7, 3, "2nd"), put(0, 4, "system"), put(7, 3, "3rd"))
			b.mtr(put(7, 4, "gone"))
			begun := b.mtr(my(mlog.InitFilePage2, 7, 4), put(7, 4, "anew"))
			for range 200 { // over several blocks
				b.mtr(put(0, fakeFirst+1, "again"))
			}
			b.finish()
			r := b.mustApply()
			if r.AlreadyApplied || r.Resumed || r.FromLSN != fakeStart || r.LSN != b.end || r.Pages != 4 || len(r.Warnings) > 0 {
				t.Errorf("result %+v, want end %d", *r, b.end)
			}
			b.check("db/t.ibd", 7, 3, 6, second, func(p []byte) { copy(p[200:], "3rdst") })
			b.check("ibdata1", 0, 4, fakeFirst+64, second, func(p []byte) { copy(p[200:], "system") })
			b.check("db/t.ibd", 7, 4, 6, begun, func(p []byte) {
				clear(p)
				p[7], p[37] = 4, 7
				copy(p[200:], "anew")
			})
			if got := b.read("ibdata2")[fakePage:][:fakePage]; string(got[200:205]) != "again" || innodb.HeaderLSN(got) != b.end {
				t.Error("the page in the second file was not recovered")
			}
			b.checkFinal(b.end)
			if r := b.mustApply(); !r.AlreadyApplied || r.LSN != b.end {
				t.Errorf("second time: %+v", *r)
			}
		})
	}
}

// checkFinal checks what a server finds, by series.
func (b *fakeMySQL) checkFinal(end innodb.LSN) {
	b.t.Helper()
	files := disktest.ReadTree(b.t, b.dir)
	flush := func(name string) innodb.LSN {
		return innodb.LSN(binary.BigEndian.Uint64([]byte(files[name][26:34])))
	}
	want := [2]innodb.LSN{mysqlredo.FlushLSN(end), mysqlredo.FlushLSN(end)}
	switch {
	case b.format == mysqlredo.Format56:
	case b.format == mysqlredo.Format57, b.format == mysqlredo.Format8030:
		want[1] = 0
	default:
		want = [2]innodb.LSN{}
	}
	second := flush("ibdata2")
	if b.format != mysqlredo.Format56 && second == innodb.LSN(binary.BigEndian.Uint64(b.page(0, fakeFirst, 0, 0)[26:])) {
		second = 0 // as it was
	}
	if got := [2]innodb.LSN{flush("ibdata1"), second}; got != want {
		b.t.Errorf("flush LSNs %v, want %v", got, want)
	}
	var redo []string
	for name := range files {
		switch {
		case strings.HasPrefix(name, "hb-") && name != metadata.ArchiveName && name != metadata.IndexName && name != metadata.ManifestName && name != metadata.DefinitionsName && name != backupdir.AppliedName, strings.HasSuffix(name, ".hb-tmp"), name == scan.LogName:
			b.t.Errorf("%s was left behind", name)
		case strings.HasPrefix(name, "ib_logfile"), strings.HasPrefix(name, mysqlredo.RedoDir):
			redo = append(redo, name)
		}
	}
	if n := map[mysqlredo.Format]int{mysqlredo.Format56: 0, mysqlredo.Format57: 0, mysqlredo.Format8030: 1}; len(redo) != n[b.format] && (b.format.Ring() && len(redo) != 2) {
		b.t.Errorf("redo log files %q", redo)
	}
	if !innodb.AllZero([]byte(files["ibdata1"][fakeArea*fakePage : fakeFirst*fakePage])) {
		b.t.Error("the doublewrite area is not cleared")
	}
	if !strings.Contains(files["xtrabackup_checkpoints"], "backup_type = full-prepared\n") {
		b.t.Errorf("checkpoints: %s", files["xtrabackup_checkpoints"])
	}
	for name, content := range files {
		if strings.HasSuffix(name, ".ibd") || strings.HasPrefix(name, "ibdata") || strings.HasPrefix(name, "undo") {
			b.verify(name, []byte(content))
		}
	}
}

func (b *fakeMySQL) verify(name string, content []byte) {
	b.t.Helper()
	first := innodb.PageNo(0)
	if name == "ibdata2" {
		first = fakeFirst
	}
	space, err := innodb.ParseFlags(b.flags)
	if err != nil {
		b.t.Fatal(err)
	}
	space.ID = innodb.HeaderSpace(content)
	for at := 0; at < len(content); at += fakePage {
		if _, err := space.Verify(content[at:at+fakePage], first+innodb.PageNo(at/fakePage)); err != nil {
			b.t.Errorf("%s: %v", name, err)
		}
	}
}

// TestApplyMySQLMeta: the AUTO_INCREMENT counters of 8.0 and later live on in
// the new redo log, the newest of each table.
func TestApplyMySQLMeta(t *testing.T) {
	for _, format := range []mysqlredo.Format{mysqlredo.Format803, mysqlredo.Format8030} {
		b := newFakeMySQL(t, format)
		b.mtr(counter(17, 1, 5), put(7, 3, "text"))
		b.mtr(counter(18, 1, 6))
		b.mtr(counter(17, 3, 9))
		b.mtr(counter(17, 2, 8))
		b.finish().mustApply()
		name := mysqlredo.RedoDir + "/" + mysqlredo.RedoName(0)
		if format.Ring() {
			name = mysqlredo.RingName(0)
		}
		got := b.metaIn(name)
		if fmt.Sprint(got) != "[[17 9] [18 6]]" {
			t.Errorf("%v: counters %v", format, got)
		}
	}
}

// metaIn returns tables and counters in a redo log.
func (b *fakeMySQL) metaIn(name string) [][2]int {
	b.t.Helper()
	log := b.read(name)
	h, err := mysqlredo.ParseHeader(log)
	if err != nil {
		b.t.Fatal(err)
	}
	ckpt, err := h.Checkpoint(log)
	if err != nil {
		b.t.Fatal(err)
	}
	c := mysqlredo.NewCutter(b.format, ckpt.LSN)
	c.Feed(log[mysqlredo.HeaderSize:])
	set := make(mlog.MetaSet)
	for m, ok := c.Next(); ok; m, ok = c.Next() {
		if r, _, err := mlog.ParseRecord(m.Records); err != nil {
			b.t.Fatal(err)
		} else if r.Type == mlog.DynamicMeta {
			meta, err := mlog.ParseMeta(r.Body)
			if err != nil {
				b.t.Fatal(err)
			}
			set.Add(meta)
		}
	}
	var got [][2]int
	for _, m := range set.Sorted() {
		got = append(got, [2]int{int(m.Table), int(m.Item[1])})
	}
	return got
}

// TestApplyMySQLNewer: a page that is newer than its initialisation in the log
// stays, except for 5.6's initialisation, which counts whatever is on disk.
func TestApplyMySQLNewer(t *testing.T) {
	for _, init := range []mlog.Type{mlog.InitFilePage, mlog.InitFilePage2} {
		b := newFakeMySQL(t, mysqlredo.Format57)
		b.mtr(my(init, 7, 3), put(7, 3, "log"))
		middle := b.mtr(put(7, 4, "other"))
		end := b.mtr(put(7, 3, "end"))
		b.finish()
		table := b.read("db/t.ibd")
		copy(table[3*fakePage:], b.page(7, 3, 6, middle))
		b.write("db/t.ibd", table)
		b.mustApply()
		b.check("db/t.ibd", 7, 3, 6, end, func(p []byte) {
			if init == mlog.InitFilePage {
				clear(p)
				p[7], p[37] = 3, 7
			}
			copy(p[200:], "end")
		})
	}
}

// TestApplyMySQLFiles: what the log says of files, by series.
func TestApplyMySQLFiles(t *testing.T) {
	for _, format := range []mysqlredo.Format{mysqlredo.Format56, mysqlredo.Format57, mysqlredo.Format8030} {
		t.Run(format.String(), func(t *testing.T) {
			b := newFakeMySQL(t, format)
			b.table("db/a.ibd", 20, 5, 40000)
			b.table("db/b.ibd", 21, 5, 40000)
			b.table("db/dropped.ibd", 22, 5, 40000)
			b.table("general.ibd", 23, 5, 40000)
			create, rename, suffix := mlog.FileCreate2, mlog.FileRename2, ".ibd"
			if format == mysqlredo.Format56 {
				rename, suffix = mlog.FileRename, ""
			}
			name := func(s string) string {
				if format == mysqlredo.Format56 {
					return "db/" + s
				}
				return "./db/" + s + suffix
			}
			b.mtr(named(rename, 20, name("a"), name("x")))
			b.mtr(named(rename, 21, name("b"), name("a")))
			b.mtr(named(rename, 20, name("x"), name("b")))
			b.mtr(put(20, 3, "twenty"), put(21, 3, "twenty-one"), put(22, 3, "dropped"), put(23, 3, "general"), put(24, 3, "unknown"))
			b.mtr(named(mlog.FileDelete, 22, "./db/dropped.ibd"), named(mlog.FileDelete, 24, "./db/unknown.ibd"))
			b.mtr(named(create, 25, name("made")), makePage0(mlog.InitFilePage2, 25, 5, oldFlags))
			end := b.mtr(my(mlog.InitFilePage2, 25, 3), put(25, 3, "made"))
			b.finish().mustApply()

			a, bb := "db/a.ibd", "db/b.ibd"
			_, err := os.Lstat(filepath.Join(b.dir, "db/dropped.ibd"))
			if format == mysqlredo.Format8030 { // the data dictionary's business
				a, bb = bb, a
				if err != nil {
					t.Errorf("a dropped table was removed: %v", err)
				}
			} else if !errors.Is(err, os.ErrNotExist) {
				t.Errorf("a dropped table is still there: %v", err)
			}
			for file, text := range map[string]string{a: "twenty-one", bb: "twenty", "general.ibd": "general", "db/made.ibd": "made"} {
				if got := b.read(file)[3*fakePage:]; string(got[200:200+len(text)]) != text {
					t.Errorf("%s: page 3 has %q, want %q", file, got[200:220], text)
				}
			}
			made := b.read("db/made.ibd")
			if len(made) != 5*fakePage || innodb.HeaderLSN(made[3*fakePage:]) != end {
				t.Errorf("the created table has %d bytes", len(made))
			}
			b.verify("db/made.ibd", made)
		})
	}
}

// TestApplyMySQLReuse: a tablespace that came back under an id that the log
// deletes, and one that 5.7 truncated in place.
func TestApplyMySQLReuse(t *testing.T) {
	b := newFakeMySQL(t, mysqlredo.Format57)
	b.mtr(put(7, 3, "old"), put(8, 3, "old"), put(7, 4, "old"))
	b.mtr(named(mlog.FileDelete, 7, "./db/t.ibd"))
	truncated := b.mtr(put(8, 4, "old"))
	end := b.mtr(my(mlog.Truncate, 8, 0, binary.BigEndian.AppendUint64(nil, uint64(truncated))...), put(8, 5, "new"))
	b.finish()
	b.table("db/t.ibd", 7, 6, truncated) // imported after it was discarded
	b.table("db/cut.ibd", 8, 6, 40000)
	before := b.read("db/t.ibd")
	clear(before[4*fakePage : 5*fakePage]) // never written: its LSN does not tell that it is newer
	b.write("db/t.ibd", before)
	b.mustApply()
	if !bytes.Equal(b.read("db/t.ibd"), before) {
		t.Error("what the log did before the deletion went to the imported tablespace")
	}
	for no := range innodb.PageNo(5) {
		b.check("db/cut.ibd", 8, no, 6, 40000, func([]byte) {})
	}
	b.check("db/cut.ibd", 8, 5, 6, end, func(p []byte) { copy(p[200:], "new") })

	b = newFakeMySQL(t, mysqlredo.Format57)
	b.mtr(named(mlog.FileDelete, 7, "./db/t.ibd"))
	end = b.mtr(put(7, 3, "new"))
	b.finish().mustApply()
	b.check("db/t.ibd", 7, 3, 6, end, func(p []byte) { copy(p[200:], "new") })
}

// TestApplyMySQLDeletedNamed: a checkpoint of 5.7 that comes between the record of a
// deletion and the deletion names the file once more (fil_names_clear). The file is gone
// for all that: the server's recovery keeps such a tablespace deleted (fil_name_process).
// Another name is of a file that has come since.
func TestApplyMySQLDeletedNamed(t *testing.T) {
	b := newFakeMySQL(t, mysqlredo.Format57)
	b.mtr(named(mlog.FileName, 17, "./db/gone.ibd"), put(17, 3, "old"))
	b.mtr(named(mlog.FileDelete, 17, "./db/gone.ibd"))
	b.mtr(named(mlog.FileName, 17, "./db/gone.ibd"), named(mlog.FileName, 18, "./db/u.ibd"))
	end := b.mtr(put(18, 3, "new"))
	b.table("db/u.ibd", 18, 6, 40000)
	b.finish().mustApply()
	b.check("db/u.ibd", 18, 3, 6, end, func(p []byte) { copy(p[200:], "new") })
	if _, err := os.Lstat(filepath.Join(b.dir, "db", "gone.ibd")); err == nil {
		t.Error("the deleted table is there")
	}

	b = newFakeMySQL(t, mysqlredo.Format57)
	b.mtr(named(mlog.FileName, 17, "./db/gone.ibd"), put(17, 3, "old"))
	b.mtr(named(mlog.FileDelete, 17, "./db/gone.ibd"))
	b.mtr(named(mlog.FileName, 17, "./db/other.ibd"), put(17, 3, "new"))
	b.finish()
	if _, err := apply.Run(t.Context(), b.dir, apply.Options{}); err == nil || !strings.Contains(err.Error(), "db/other.ibd (tablespace 17) is missing") {
		t.Errorf("under another name: %v", err)
	}
}

// TestApplyMySQLExtents: beyond the first extent a file has whole ones only, or a
// server would take it for shorter than page 0 says.
func TestApplyMySQLExtents(t *testing.T) {
	for _, format := range []mysqlredo.Format{mysqlredo.Format56, mysqlredo.Format8030} {
		for size, want := range map[uint32]int{63: 63, 65: 128, 128: 128} {
			b := newFakeMySQL(t, format)
			b.mtr(putAt(7, 0, 46, binary.BigEndian.AppendUint32(nil, size)))
			b.finish().mustApply()
			if got := len(b.read("db/t.ibd")); got != want*fakePage {
				t.Errorf("%v: page 0 says %d pages, the file has %d bytes, want %d pages", format, size, got, want)
			}
		}
	}
}

// TestApplyMySQLRefuses: nothing is said to be recovered that is not, and the
// message names the fault.
func TestApplyMySQLRefuses(t *testing.T) {
	body := binary.BigEndian.AppendUint64(nil, 5)
	for name, tc := range map[string]struct {
		format mysqlredo.Format
		make   func(b *fakeMySQL)
		want   string
	}{
		"missing table": {mysqlredo.Format8030, func(b *fakeMySQL) {
			b.mtr(named(mlog.FileRename, 9, "./db/u.ibd", "./db/w.ibd"), put(9, 3, "x"))
			b.finish()
		}, "db/w.ibd (tablespace 9) is missing"},
		"missing, no name": {mysqlredo.Format56, func(b *fakeMySQL) { b.mtr(put(9, 3, "x")); b.finish() }, "tablespace 9"},
		"created without redo": {mysqlredo.Format57, func(b *fakeMySQL) {
			b.mtr(named(mlog.FileCreate2, 9, "./db/u.ibd"), makePage0(mlog.InitFilePage2, 9, 5, oldFlags))
			b.mtr(my(mlog.IndexLoad, 9, 0, body...))
			b.finish()
		}, "not all of its pages"},
		// LOCK=SHARED: no MLOG_INDEX_LOAD, but a page that is given and not initialised.
		"created, index built without redo": {mysqlredo.Format57, func(b *fakeMySQL) {
			b.mtr(named(mlog.FileCreate2, 9, "./db/u.ibd"), makePage0(mlog.InitFilePage2, 9, 5, oldFlags))
			b.mtr(writeAt(mlog.Write1, 9, 0, 150+24+1, 0xFB), writeAt(mlog.Write4, 9, 2, 50+64, 5))
			b.finish()
		}, "not all of its pages"},
		"same id twice":              {mysqlredo.Format8030, func(b *fakeMySQL) { b.finish().table("general.ibd", 7, 5, 40000) }, "tablespace 7"},
		"undo of a rollback segment": {mysqlredo.Format56, func(b *fakeMySQL) { b.rsegs[3] = 2; b.finish() }, "undo tablespace 2"},
		"undo of 5.7": {mysqlredo.Format57, func(b *fakeMySQL) {
			b.rsegs[3], b.rsegs[33] = 2, 4 // the former is of temporary tables
			b.finish()
		}, "undo tablespace 4"},
		"undo of 8.0":    {mysqlredo.Format8030, func(b *fakeMySQL) { b.finish(); os.Remove(b.dir + "/undo_002") }, "undo_002"},
		"undo of 8.0.11": {mysqlredo.Format803, func(b *fakeMySQL) { b.finish(); os.Remove(b.dir + "/undo_002") }, "undo_002"},
		"no undo": {mysqlredo.Format803, func(b *fakeMySQL) {
			b.finish()
			os.Remove(b.dir + "/undo_001")
			os.Remove(b.dir + "/undo_002")
		}, "undo_001"},
		"undo that the manifest lists": {mysqlredo.Format8030, func(b *fakeMySQL) {
			b.own().finish().seal()
			list := func(m *metadata.Manifest) { m.UndoSpaces = []innodb.SpaceID{0xFFFFFFED, 0xFFFFFFEF} }
			b.write(metadata.ManifestName, []byte(editManifest(string(b.read(metadata.ManifestName)), list)))
		}, "undo tablespace 4294967277, which is in the manifest, is missing"},
		"data dictionary": {mysqlredo.Format8030, func(b *fakeMySQL) { b.finish(); os.Remove(b.dir + "/mysql.ibd") }, "mysql.ibd"},
		"undo that the metadata name": {mysqlredo.Format8030, func(b *fakeMySQL) {
			b.finish().write(metadata.ExternalName, []byte(`{"version":2,"external_tablespaces":[{"file_name":"/x/more.ibu","tablespace_name":"undo_x","tablespace_type":"UNDO_LOG"}]}`))
		}, "undo_x"},
		"too few undo": {mysqlredo.Format803, func(b *fakeMySQL) {
			b.finish()
			b.write("backup-my.cnf", append(b.read("backup-my.cnf"), "innodb_undo_tablespaces=3\n"...))
		}, "one of 3 undo"},
		"log cut": {mysqlredo.Format8030, func(b *fakeMySQL) {
			b.mtr(put(7, 3, "x"))
			b.finish().checkpoints(metadata.FullBackup, b.end+600)
		}, "ends at LSN"},
		"log damaged": {mysqlredo.Format8030, func(b *fakeMySQL) {
			for range 60 {
				b.mtr(put(7, 3, "a text"))
			}
			b.finish()
			log := b.read(scan.LogName)
			log[2048+600] ^= 1
			b.write(scan.LogName, log)
		}, "checksum"},
		"end within": {mysqlredo.Format8030, func(b *fakeMySQL) {
			b.mtr(put(7, 3, "x"))
			b.own().finish().checkpoints(metadata.FullBackup, b.end-2)
		}, "is inside it"},
		"record does not fit": {mysqlredo.Format8030, func(b *fakeMySQL) {
			b.mtr(putAt(7, 3, 16380, []byte("beyond the end")))
			b.finish()
		}, "db/t.ibd, page 3: the redo record at LSN 500"},
		"unknown record": {mysqlredo.Format8030, func(b *fakeMySQL) { b.mtr([]byte{12, 7, 3}); b.finish() }, "LSN 500"},
		"damaged page": {mysqlredo.Format8030, func(b *fakeMySQL) {
			b.mtr(put(7, 3, "x"))
			b.finish().damage("db/t.ibd", 3)
		}, "page 3: wrong checksum"},
		"damaged page of a bulk load": {mysqlredo.Format57, func(b *fakeMySQL) {
			b.mtr(my(mlog.InitFilePage2, 7, 3))
			b.mtr(my(mlog.IndexLoad, 7, 0, body...))
			b.finish().damage("db/t.ibd", 3)
		}, "page 3: wrong checksum"},
		"damaged page that the log begins": {mysqlredo.Format57, func(b *fakeMySQL) {
			b.mtr(my(mlog.InitFilePage2, 7, 3))
			b.finish().damage("db/t.ibd", 3)
		}, "page 3: wrong checksum"},
		"newer page": {mysqlredo.Format8030, func(b *fakeMySQL) {
			b.mtr(put(7, 3, "x"))
			b.finish().table("db/t.ibd", 7, 6, b.end+100)
		}, "newer than the redo log"},
		"encrypted": {mysqlredo.Format8030, func(b *fakeMySQL) {
			b.mtr(put(7, 3, "x"))
			b.flags |= 1 << 13
			b.table("db/t.ibd", 7, 6, 40000)
			b.flags &^= 1 << 13
			b.finish()
		}, "db/t.ibd, page 3: encrypting it: it is encrypted, and its tablespace has no key"},
		"server's own": {mysqlredo.Format8030, func(b *fakeMySQL) { b.finish().write(mysqlredo.RedoDir+"/#ib_redo4", []byte("x")) }, "a server's own redo log"},
		"no log":       {mysqlredo.Format8030, func(b *fakeMySQL) { b.own().finish(); os.Remove(b.dir + "/" + scan.LogName) }, "is missing"},
		"logging off": {mysqlredo.Format8030, func(b *fakeMySQL) {
			b.finish()
			log := b.read(scan.LogName)
			log[51] |= 1
			innodbtest.SealBlock(innodbtest.MySQL8030, log[:512])
			b.write(scan.LogName, log)
		}, "logging is disabled"},
		"MariaDB's log": {mysqlredo.Format8030, func(b *fakeMySQL) { b.finish().write(scan.LogName, append([]byte("Phys"), make([]byte, 4096)...)) }, "of MariaDB"},
		"compressed":    {mysqlredo.Format8030, func(b *fakeMySQL) { b.finish().write("db/u.ibd.zst", []byte("x")) }, "compressed, encrypted"},
		"corrupt":       {mysqlredo.Format8030, func(b *fakeMySQL) { b.finish().write("db/u.ibd.crpt", []byte("x")) }, "prepare the backup with XtraBackup"},
	} {
		t.Run(name, func(t *testing.T) {
			b := newFakeMySQL(t, tc.format)
			tc.make(b)
			_, err := b.apply()
			if err == nil || !strings.Contains(err.Error(), tc.want) {
				t.Errorf("error %v", err)
			}
			if !bytes.Contains(b.read("xtrabackup_checkpoints"), []byte("full-backuped")) {
				t.Error("the backup counts as recovered")
			}
		})
	}
}

// TestApplyTransitionKeys: the keys of XtraBackup beside an encrypted tablespace do not replace the
// server's keyring, and apply says so before it writes.
func TestApplyTransitionKeys(t *testing.T) {
	b := newFakeMySQL(t, mysqlredo.Format8030)
	b.mtr(put(7, 3, "x"))
	flags := b.flags
	b.flags |= 1 << 13
	b.table("db/t.ibd", 7, 6, 40000)
	b.edit("db/t.ibd", func(content []byte) []byte {
		const uuid = "00000000-0000-0000-0000-000000000001"
		copy(content[10390:], "lCC\x00\x00\x00\x01"+uuid) // after the extent descriptors; the number of the master key
		b.stamp(content[:fakePage], 40000)
		return content
	})
	b.flags = flags
	b.finish().write("xtrabackup_keys", []byte("KEYSV01"))
	before := disktest.ReadTree(t, b.dir)
	_, err := b.apply()
	if missing, ok := errors.AsType[*keyring.MissingKeyError](err); !ok || !strings.Contains(missing.Error(), "-000000000001-1 ") ||
		!strings.Contains(missing.Error(), "xtrabackup_keys of the backup (which hb does not read: give the server's keyring with --keyring)") {
		t.Errorf("error %v", err)
	}
	if after := disktest.ReadTree(t, b.dir); !maps.Equal(after, before) {
		t.Error("the directory was changed")
	}
}

func (b *fakeMySQL) damage(name string, no int) {
	content := b.read(name)
	content[no*fakePage+5000] ^= 1
	b.write(name, content)
}

// TestApplyMySQLEnd: hb stops exactly where the backup ends; of XtraBackup's log
// the last mini-transaction may be cut off.
func TestApplyMySQLEnd(t *testing.T) {
	for _, own := range []bool{true, false} {
		b := newFakeMySQL(t, mysqlredo.Format8030)
		middle := b.mtr(put(7, 3, "counts"))
		b.mtr(put(7, 3, "does not"))
		if b.finish(); own {
			b.own()
		}
		target := middle
		if !own {
			target += 3
		}
		b.checkpoints(metadata.FullBackup, target)
		r := b.mustApply()
		if r.LSN != middle || len(r.Warnings) > 0 == own {
			t.Errorf("%+v, want LSN %d", *r, middle)
		}
		b.check("db/t.ibd", 7, 3, 6, middle, func(p []byte) { copy(p[200:], "counts") })
		b.checkFinal(middle)
	}
	b := newFakeMySQL(t, mysqlredo.Format8030)
	b.finish().write(scan.LogName, b.read(scan.LogName)[:2048])
	if _, err := b.apply(); !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Errorf("a log without blocks: %v", err)
	}
}

// TestApplyMySQLResumes goes on from every step of the end.
func TestApplyMySQLResumes(t *testing.T) {
	for _, format := range fakeFormats {
		whole := newFakeMySQL(t, format)
		whole.mtr(put(7, 3, "text"), counter(17, 1, 5))
		if format < mysqlredo.Format801 {
			whole.emptyLog()
			whole.mtr(put(7, 3, "text"))
		}
		whole.finish()
		at := disktest.ReadTree(t, whole.dir)
		whole.mustApply()
		want := disktest.ReadTree(t, whole.dir)
		finishing := fmt.Sprintf(`{"stage":"finish","end":%d,"format":%d}`, whole.end, format)
		for name, change := range map[string]func(b *fakeMySQL){
			"begun": func(b *fakeMySQL) { b.write(backupdir.ApplyingName, []byte(`{"stage":"replay"}`)) },
			"log half made": func(b *fakeMySQL) {
				b.write(backupdir.ApplyingName, []byte(`{"stage":"replay"}`))
				b.write("hb-redo/x", nil)
			},
			"done except for the mark": func(b *fakeMySQL) {
				b.restore(want)
				os.Remove(b.dir + "/" + scan.LogName)
				b.write(backupdir.ApplyingName, []byte(finishing))
			},
			"log not taken away": func(b *fakeMySQL) {
				b.restore(want)
				b.write(backupdir.ApplyingName, []byte(finishing))
				b.write("hb-doublewrite", []byte("x"))
			},
		} {
			b := newFakeMySQL(t, format)
			b.restore(at)
			change(b)
			if r := b.mustApply(); !r.Resumed {
				t.Errorf("%v, %s: %+v", format, name, *r)
			}
			if got := disktest.ReadTree(t, b.dir); !maps.Equal(got, want) {
				t.Errorf("%v, %s: another result", format, name)
			}
		}
	}
}

func (b *fakeMySQL) restore(files map[string]string) {
	for name, content := range files {
		b.write(name, []byte(content))
	}
}

// TestApplyMySQLByServer: the server's own log, up to the same LSN, and every
// file where it was.
func TestApplyMySQLByServer(t *testing.T) {
	for _, format := range fakeFormats {
		b := newFakeMySQL(t, format)
		end := b.mtr(put(7, 3, "text"))
		b.mtr(put(7, 3, "behind"))
		b.finish().checkpoints(metadata.FullBackup, end)
		before := disktest.ReadTree(t, b.dir)
		b.write("db/t.isl", []byte("/elsewhere/db/t.ibd"))
		o := apply.Options{ByServer: true}
		for _, stage := range []string{"", `{"stage":"server","looked":true}`} {
			if stage != "" {
				b = newFakeMySQL(t, format)
				b.restore(before)
				b.write(backupdir.ApplyingName, []byte(stage))
				b.write("hb-redo/ib_logfile0", []byte("half"))
				if _, err := b.apply(); err == nil {
					t.Error("replayed what was being made ready for the server")
				}
			}
			r, err := apply.Run(t.Context(), b.dir, o)
			if err != nil || r.LSN != end || r.AlreadyApplied {
				t.Fatalf("%v: %+v, %v", format, r, err)
			}
			after := disktest.ReadTree(t, b.dir)
			for name, content := range before {
				if name != scan.LogName && name != "xtrabackup_checkpoints" && after[name] != content {
					t.Errorf("%v: %s was changed", format, name)
				}
				delete(after, name)
			}
			if after[backupdir.HandedOverName] == "" {
				t.Errorf("%v: there is no %s", format, backupdir.HandedOverName)
			}
			delete(after, backupdir.HandedOverName)
			var log []byte
			for name, content := range after {
				if strings.HasSuffix(name, "0") {
					log = []byte(content)
				} else if name != mysqlredo.RingName(1) {
					t.Errorf("%v: there is %s", format, name)
				}
			}
			h, err := mysqlredo.ParseHeader(log)
			if err != nil {
				t.Fatal(err)
			}
			ckpt, err := h.Checkpoint(log)
			if err != nil || ckpt.LSN != fakeStart {
				t.Fatal(ckpt, err)
			}
			c := mysqlredo.NewCutter(format, ckpt.LSN)
			c.Feed(log[mysqlredo.HeaderSize:])
			for _, ok := c.Next(); ok; _, ok = c.Next() {
			}
			if c.End() != end {
				t.Errorf("%v: the log ends at LSN %d, want %d", format, c.End(), end)
			}
			if r := b.mustApply(); !r.AlreadyApplied {
				t.Errorf("%v: applied once more", format)
			}
		}
	}
	b := newFakeMySQL(t, mysqlredo.Format8030)
	b.mtr(named(mlog.FileCreate2, 25, "./db/made.ibd"), makePage0(mlog.InitFilePage2, 25, 5, oldFlags))
	b.finish()
	if _, err := apply.Run(t.Context(), b.dir, apply.Options{ByServer: true}); err == nil || !strings.Contains(err.Error(), "db/made.ibd") {
		t.Errorf("a table that a server would not make: %v", err)
	}
	// What an interrupted run changed for a server stays so, whatever the next one says.
	state := b.read(backupdir.ApplyingName)
	b.write(backupdir.ApplyingName, []byte(`{"stage":"server","looked":true}`))
	if _, err := apply.Run(t.Context(), b.dir, apply.Options{ByServer: true}); err == nil {
		t.Error("a table that a server would not make, the second time")
	}
	if _, err := b.apply(); err == nil {
		t.Error("replayed what was being changed for the server")
	}
	b.write(backupdir.ApplyingName, state)
	if r := b.mustApply(); !r.Resumed {
		t.Errorf("refused by the server, then applied by hb: %+v", *r)
	}
	b = newFakeMySQL(t, mysqlredo.Format8030)
	b.finish().write(backupdir.ApplyingName, []byte(`{"stage":"replay"}`))
	if _, err := apply.Run(t.Context(), b.dir, apply.Options{ByServer: true}); err == nil {
		t.Error("made ready for the server what was half replayed")
	}
}

// TestApplyMySQLByServerGrown: a server finds each file as long as the redo log needs it, also
// where that does not say that the file grew.
func TestApplyMySQLByServerGrown(t *testing.T) {
	for _, format := range fakeFormats {
		b := newFakeMySQL(t, format)
		pages := map[string]int{"db/t.ibd": 10}
		b.mtr(put(7, 9, "text"))
		if format >= mysqlredo.Format801 {
			pages["undo_001"] = 7
			b.mtr(put(0xFFFFFFEF, 6, "text"))
		}
		b.finish()
		if _, err := apply.Run(t.Context(), b.dir, apply.Options{ByServer: true}); err != nil {
			t.Fatalf("%v: %v", format, err)
		}
		for name, want := range pages {
			if got := len(b.read(name)); got != want*fakePage {
				t.Errorf("%v: %s has %d bytes, want %d pages", format, name, got, want)
			}
		}
	}
}

// TestApplyMySQLByServerPool: with a long redo log, a server is given to one who knows how large a
// buffer pool it needs.
func TestApplyMySQLByServerPool(t *testing.T) {
	for _, c := range []struct {
		mtrs int
		want string
	}{{10, ""}, {1800, "innodb_buffer_pool_size of at least 132 MiB"}} {
		b := newFakeMySQL(t, mysqlredo.Format8030)
		for range c.mtrs {
			b.mtr(putAt(7, 3, 200, make([]byte, 15000)))
		}
		b.finish()
		r, err := apply.Run(t.Context(), b.dir, apply.Options{ByServer: true})
		if err != nil {
			t.Fatal(err)
		}
		if got := strings.Join(r.Warnings, "\n"); (c.want == "") != (got == "") || !strings.Contains(got, c.want) {
			t.Errorf("%d mini-transactions: warnings %q, want %q", c.mtrs, got, c.want)
		}
	}
}

// TestApplyMySQLByServerRenames: names that go round are not left to a server that
// renames files while it reads the log; one that only goes on is.
func TestApplyMySQLByServerRenames(t *testing.T) {
	for _, format := range fakeFormats {
		rename, name := mlog.FileRename2, func(s string) string { return "./db/" + s + ".ibd" }
		if format == mysqlredo.Format56 {
			rename, name = mlog.FileRename, func(s string) string { return "db/" + s }
		}
		for what, steps := range map[string][]string{"on": {"a", "x"}, "far": {"a", "x", "x", "y", "y", "z"}, "round": {"a", "x", "b", "a", "x", "b"}, "back": {"a", "x", "x", "a"},
			"back to a later name": {"a", "x", "x", "y", "y", "x"}} {
			b := newFakeMySQL(t, format)
			b.table("db/a.ibd", 20, 5, 40000)
			b.table("db/b.ibd", 21, 5, 40000)
			ids := map[string]uint32{"a": 20, "b": 21}
			for i := 0; i < len(steps); i += 2 {
				from, to := steps[i], steps[i+1]
				b.mtr(named(rename, ids[from], name(from), name(to)))
				ids[to] = ids[from]
			}
			b.finish()
			_, err := apply.Run(t.Context(), b.dir, apply.Options{ByServer: true})
			notBackup, refused := errors.AsType[*backupdir.NotBackupError](err)
			if want := format < mysqlredo.Format801 && what != "on" && what != "far"; refused != want || refused && !strings.Contains(notBackup.What, "without --by-server") || !refused && err != nil {
				t.Errorf("%v, %s: %v", format, what, err)
			}
			if refused {
				b.mustApply()
			}
		}
	}
}

// TestApplyMySQLByServerReused: a tablespace that the log deletes and then changes is not
// left to a server, also if it is renamed between. One that it only deletes, or names
// once more, is.
func TestApplyMySQLByServerReused(t *testing.T) {
	change := func(b *fakeMySQL) { b.mtr(put(20, 3, "new")) }
	for what, c := range map[string]struct {
		then    func(b *fakeMySQL)
		refused bool
	}{
		"nothing": {func(*fakeMySQL) {}, false},
		"named":   {func(b *fakeMySQL) { b.mtr(named(mlog.FileName, 20, "./db/a.ibd")) }, false},
		"changed": {change, true},
		"named and changed": {func(b *fakeMySQL) {
			b.mtr(named(mlog.FileName, 20, "./db/a.ibd"), put(20, 3, "new"))
		}, true},
		"renamed and changed": {func(b *fakeMySQL) {
			b.mtr(named(mlog.FileRename2, 20, "./db/b.ibd", "./db/a.ibd"))
			change(b)
		}, true},
		"made again": {func(b *fakeMySQL) {
			b.mtr(named(mlog.FileCreate2, 20, "./db/a.ibd"))
			change(b)
		}, false},
		"deleted again": {func(b *fakeMySQL) {
			change(b)
			b.mtr(named(mlog.FileDelete, 20, "./db/a.ibd"))
		}, false},
	} {
		b := newFakeMySQL(t, mysqlredo.Format57)
		b.mtr(put(20, 2, "old"), named(mlog.FileName, 20, "./db/a.ibd"))
		imported := b.mtr(named(mlog.FileDelete, 20, "./db/a.ibd"))
		b.table("db/a.ibd", 20, 5, imported)
		c.then(b)
		b.finish()
		_, err := apply.Run(t.Context(), b.dir, apply.Options{ByServer: true})
		notBackup, refused := errors.AsType[*backupdir.NotBackupError](err)
		if refused != c.refused || refused && !strings.Contains(notBackup.What, "IMPORT TABLESPACE") || !refused && err != nil {
			t.Errorf("%s: %v", what, err)
		}
		if refused {
			b.mustApply()
		}
	}
	// 5.6 deletes the file in any case.
	b := newFakeMySQL(t, mysqlredo.Format56)
	b.table("db/a.ibd", 20, 5, b.mtr(named(mlog.FileDelete, 20, "./db/a.ibd")))
	b.finish()
	_, err := apply.Run(t.Context(), b.dir, apply.Options{ByServer: true})
	if notBackup, refused := errors.AsType[*backupdir.NotBackupError](err); !refused || !strings.Contains(notBackup.What, "IMPORT TABLESPACE") {
		t.Errorf("5.6: %v", err)
	}
	b.mustApply()
}

// TestFixUpMySQL interrupts after every step XtraBackup's own fix-ups, which go
// by ids: a swap, a chain across databases and the top directory, dropped and
// new tables.
func TestFixUpMySQL(t *testing.T) {
	make := func() *fakeBackup {
		b := &fakeBackup{t: t, dir: t.TempDir(), flags: oldFlags}
		for name, id := range map[string]innodb.SpaceID{
			"db/a.ibd": 1, "db/b.ibd": 2, "db/c.ibd": 3, "db/d.ibd": 4, "general.ibd": 5, "db/dropped.ibd": 6,
			"db/old.ibd": 8, "db/old.ibd.new": 9, "db/n.ibd.new": 10, "undo_3.ibu": 0xFFFFFFED,
		} {
			b.table(name, id, 1, 1)
		}
		for name, content := range map[string]string{
			"db/1.ren": "db/b.ibd", "db/2.ren": "./db/a.ibd\n", "db/3.ren": "db2/d.ibd", "db/4.ren": "db/c",
			"5.ren": "./renamed.ibd", "db/6.del": "", "db/77.del": "", "db/8.del": "", "db/10.ren": "db/n.ibd",
		} {
			b.write(name, []byte(content))
		}
		return b
	}
	want := map[string]innodb.SpaceID{
		"db/a.ibd": 2, "db/b.ibd": 1, "db2/d.ibd": 3, "db/c.ibd": 4, "renamed.ibd": 5, "db/old.ibd": 9, "db/n.ibd": 10,
		"undo_3.ibu": 0xFFFFFFED,
	}
	killed := errors.New("killed")
	for at := 1; at < 40; at++ {
		b := make()
		root := disktest.Open(t, b.dir)
		var err error
		for left := at; ; left = at%3 + 2 {
			if err = fixup.ByID(root, noSystem, func() error {
				if left--; left == 0 {
					return killed
				}
				return nil
			}); !errors.Is(err, killed) {
				break
			}
		}
		if err != nil {
			t.Fatalf("killed at step %d: %v", at, err)
		}
		got := disktest.ReadTree(t, b.dir)
		for name, id := range want {
			if len(got[name]) < fakePage || innodb.HeaderSpace([]byte(got[name])) != id {
				t.Errorf("killed at step %d: %s is not tablespace %d", at, name, id)
			}
			delete(got, name)
		}
		for name := range got {
			t.Errorf("killed at step %d: %s is left", at, name)
		}
	}
}

// noSystem says that no file is the system tablespace's.
func noSystem(string) bool { return false }

func TestFixUpMySQLRefuses(t *testing.T) {
	for name, tree := range map[string]map[string]string{
		"target exists":   {"db/1.ren": "db/b.ibd"},
		"nothing to move": {"db/3.ren": "db/c.ibd"},
		"no number":       {"db/x.ren": "db/c.ibd"},
		"outside":         {"db/1.ren": "../.."},
		"no name":         {"db/1.ren": ""},
	} {
		b := &fakeBackup{t: t, dir: t.TempDir(), flags: oldFlags}
		b.table("db/a.ibd", 1, 1, 1)
		b.table("db/b.ibd", 2, 1, 1)
		for file, content := range tree {
			b.write(file, []byte(content))
		}
		if err := fixup.ByID(disktest.Open(t, b.dir), noSystem, nil); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
}

// TestApplyMySQLTorn: a page that an interrupted run was writing comes back from
// the doublewrite file.
func TestApplyMySQLTorn(t *testing.T) {
	make := func() *fakeMySQL {
		b := newFakeMySQL(t, mysqlredo.Format8030)
		b.mtr(put(7, 3, "text"))
		return b.finish()
	}
	done := make()
	done.mustApply()
	good := done.read("db/t.ibd")[3*fakePage : 4*fakePage]
	b := make()
	table := b.read("db/t.ibd")
	copy(table[3*fakePage:], good[:4096]) // the first sector got there
	b.write("db/t.ibd", table)
	b.write(backupdir.ApplyingName, []byte(`{"stage":"replay"}`))
	b.write(replay.DoublewriteName, replay.DoublewriteSlot(replay.Identity{From: fakeStart, To: b.end},
		7, fakePage, []innodb.PageNo{3}, [][]byte{good}))
	if r := b.mustApply(); !r.Resumed || !bytes.Equal(b.read("db/t.ibd"), done.read("db/t.ibd")) {
		t.Errorf("%+v", *r)
	}
}
