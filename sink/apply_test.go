package sink

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"hb/sink/apply"
	"hb/sink/apply/fixup"
	"hb/sink/backupdir"
	"hb/sink/replay"
	"hb/sink/replay/mariadb"
	"hb/stream/disk/disktest"
	"hb/xbstream/innodb"
	"hb/xbstream/innodb/innodbtest"
	"hb/xbstream/innodb/mariadbredo"
	"hb/xbstream/metadata"
)

// fakeBackup is a small backup directory made by hand: the system tablespace
// and table db/t (id 7), with pages of 16 KiB, and a log that begins at LSN
// start.
type fakeBackup struct {
	t      *testing.T
	dir    string
	format mariadbredo.Format
	flags  uint32
	log    innodbtest.Log
	end    innodb.LSN      // of the log
	sum    innodb.Checksum // of its pages, except for full_crc32; 0: ChecksumCRC32
	sick   bool            // verifying refuses it, although it can be recovered
	// what the manifest says of the binary log
	binlog     *metadata.BinlogPos
	binlogHome *metadata.BinlogHome
	scope      *metadata.Scope // of a partial backup

	archived struct { // the last archive that was made of it
		files   map[string]string
		archive []byte
	}
}

const (
	fakePage  = 16384
	fakeStart = innodb.LSN(50000)
	fullFlags = innodbtest.Full16K
	oldFlags  = innodbtest.Plain16K
)

func newFakeBackup(t *testing.T, format mariadbredo.Format, flags uint32) *fakeBackup {
	b := &fakeBackup{t: t, dir: t.TempDir(), format: format, flags: flags, end: fakeStart}
	b.log = innodbtest.Log{Form: innodbtest.MariaDB108, Start: fakeStart}
	if format == mariadbredo.Format105 {
		b.log.Form = innodbtest.MariaDB105
	}
	b.table("ibdata1", 0, 6, 40000)
	b.table("db/t.ibd", 7, 6, 40000)
	return b
}

// space describes a tablespace of so many pages, each filled with something.
func (b *fakeBackup) space(id innodb.SpaceID, pages int, lsn innodb.LSN) innodbtest.Tablespace {
	return innodbtest.Tablespace{ID: id, Flags: b.flags, Pages: pages, LSN: lsn, Sum: b.sum, Fill: func(page []byte, no innodb.PageNo) {
		if no != 0 {
			for i := 100; i < 9000; i++ {
				page[i] = byte(i * int(no))
			}
		}
		if id == 0 && no == innodb.TrxSysPage {
			innodbtest.TrxSys(page)
		}
	}}
}

// page returns page no of it.
func (b *fakeBackup) page(id innodb.SpaceID, no innodb.PageNo, pages int, lsn innodb.LSN) []byte {
	return b.space(id, pages, lsn).Page(no)
}

func (b *fakeBackup) stamp(page []byte, lsn innodb.LSN) { innodbtest.Seal(page, b.flags, lsn, b.sum) }

func (b *fakeBackup) table(name string, id innodb.SpaceID, pages int, lsn innodb.LSN) {
	b.write(name, b.space(id, pages, lsn).Bytes())
}

func (b *fakeBackup) write(name string, content []byte) {
	b.t.Helper()
	path := filepath.Join(b.dir, name)
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		b.t.Fatal(err)
	}
	if err := os.WriteFile(path, content, 0o644); err != nil {
		b.t.Fatal(err)
	}
}

func (b *fakeBackup) read(name string) []byte {
	b.t.Helper()
	content, err := os.ReadFile(filepath.Join(b.dir, name))
	if err != nil {
		b.t.Fatal(err)
	}
	return content
}

// mtr appends a mini-transaction to the log and returns its end.
func (b *fakeBackup) mtr(records ...[]byte) innodb.LSN {
	b.end = b.log.MTR(records...)
	return b.end
}

// rec makes a record: ids and body follow the first byte.
func rec(first byte, body ...byte) []byte { return innodbtest.MariaDBRecord(first, body...) }

// write50 writes text at byte 200 of a page.
func write50(space, no byte, text string) []byte {
	return innodbtest.MariaDBWrite(uint32(space), uint32(no), 200, text)
}

func file(first, space byte, name string) []byte {
	return innodbtest.MariaDBFile(first, uint32(space), name)
}

// page0 begins page 0 of a full_crc32 tablespace of so many pages.
func page0(space, pages byte) []byte {
	return slices.Concat(rec(0x10, space, 0),
		rec(0xB0, 38-24, 0, 0, 0, space), rec(0xB0, 46-42, 0, 0, 0, pages), rec(0xB0, 54-50, 0, 0, 0, fullFlags))
}

// finish writes the log file and the metadata.
func (b *fakeBackup) finish() *fakeBackup {
	c := mariadbredo.Checkpoint{LSN: fakeStart, End: fakeStart, Number: 4}
	b.write(mariadb.LogName, append(mariadbredo.BackupHead(b.format, c, "10.x"), b.log.Bytes()...))
	b.checkpoints(metadata.FullBackup, b.end)
	return b
}

func (b *fakeBackup) checkpoints(kind string, last innodb.LSN) {
	text, err := (&metadata.Checkpoints{BackupType: kind, ToLSN: fakeStart, LastLSN: last}).Marshal()
	if err != nil {
		b.t.Fatal(err)
	}
	b.write("xtrabackup_checkpoints", text)
}

func (b *fakeBackup) apply() (*apply.Result, error) {
	b.t.Helper()
	b.seal()
	o := apply.Options{Memory: 8 << 20, Parallel: 2, Tool: "hb test"}
	rehearsed, restored := b.rehearse(), b.restore(o)
	r, err := apply.Run(b.t.Context(), b.dir, o)
	rehearsed(r, err)
	restored(r, err)
	return r, err
}

// seal gives what says it is hb's its manifest, unless it has one.
func (b *fakeBackup) seal() {
	b.t.Helper()
	root := disktest.Open(b.t, b.dir)
	if own, err := backupdir.Exists(root, metadata.ArchiveName); err != nil || !own {
		return
	}
	if sealed, err := backupdir.Exists(root, metadata.ManifestName); err != nil || sealed {
		return
	}
	c, _, err := metadata.ReadCheckpoints(root.FS())
	if err != nil {
		b.t.Fatal(err)
	}
	b.sealTo(c.LastLSN)
}

// sealTo makes a manifest that states an end.
func (b *fakeBackup) sealTo(last innodb.LSN) {
	b.t.Helper()
	m := metadata.Manifest{FromLSN: fakeStart, CheckpointLSN: fakeStart, LastLSN: last, Start: time.Unix(1e9, 0), End: time.Unix(1e9, 0), Binlog: b.binlog, BinlogHome: b.binlogHome, Scope: b.scope}
	var text bytes.Buffer
	files := disktest.ReadTree(b.t, b.dir)
	for _, content := range files {
		m.Files++
		m.Bytes += int64(len(content))
	}
	w, err := metadata.NewManifestWriter(&text, m)
	if err != nil {
		b.t.Fatal(err)
	}
	for name, content := range files {
		err = errors.Join(err, w.Add(metadata.File{Path: name, Size: int64(len(content)), CRC32: crc32.ChecksumIEEE([]byte(content))}))
	}
	if err := errors.Join(err, w.Close()); err != nil {
		b.t.Fatal(err)
	}
	b.write(metadata.ManifestName, text.Bytes())
}

func (b *fakeBackup) mustApply() *apply.Result {
	b.t.Helper()
	r, err := b.apply()
	if err != nil {
		b.t.Fatal(err)
	}
	return r
}

// check compares a page with what it was, changed by edit and stamped with lsn.
func (b *fakeBackup) check(name string, id innodb.SpaceID, no innodb.PageNo, pages int, lsn innodb.LSN, edit func(page []byte)) {
	b.t.Helper()
	want := b.page(id, no, pages, 40000)
	edit(want)
	b.stamp(want, lsn)
	got := b.read(name)[int(no)*fakePage:][:fakePage]
	if !bytes.Equal(got, want) {
		b.t.Errorf("%s: page %d differs: LSN %d, want %d; at 200: %q, want %q", name, no,
			innodb.HeaderLSN(got), lsn, got[200:210], want[200:210])
	}
}

var fakeForms = []struct {
	format mariadbredo.Format
	flags  uint32
}{{mariadbredo.Format105, fullFlags}, {mariadbredo.Format105, oldFlags}, {mariadbredo.Format108, fullFlags}, {mariadbredo.Format108, oldFlags}}

func TestApply(t *testing.T) {
	for _, form := range fakeForms {
		t.Run(fmt.Sprintf("%v/%#x", form.format, form.flags), func(t *testing.T) {
			b := newFakeBackup(t, form.format, form.flags)
			b.mtr(file(0xB0, 7, "./db/t.ibd"), write50(7, 3, "first"))
			second := b.mtr(write50(7, 3, "2nd"), write50(0, 4, "system"))
			b.mtr(write50(7, 4, "gone"))
			third := b.mtr(rec(0x10, 7, 4), write50(7, 4, "anew"))
			b.mtr(write50(7, 5, "freed"))
			b.mtr(rec(0x00, 7, 5))
			for range 200 { // over several blocks
				b.mtr(write50(0, 2, "again"))
			}
			b.finish()
			before := b.read("db/t.ibd")

			r := b.mustApply()
			if r.AlreadyApplied || r.Resumed || r.FromLSN != fakeStart || r.LSN != b.end || r.Pages != 4 || len(r.Warnings) > 0 {
				t.Errorf("result %+v, want end %d", *r, b.end)
			}
			b.check("db/t.ibd", 7, 3, 6, second, func(p []byte) { copy(p[200:], "2ndst") })
			b.check("ibdata1", 0, 4, 6, second, func(p []byte) { copy(p[200:], "system") })
			b.check("ibdata1", 0, 2, 6, b.end, func(p []byte) { copy(p[200:], "again") })
			b.check("db/t.ibd", 7, 4, 6, third, func(p []byte) {
				clear(p)
				p[7] = 4
				for i := 8; i < 16; i++ {
					p[i] = 0xFF
				}
				p[37] = 7
				copy(p[200:], "anew")
			})
			if got := b.read("db/t.ibd"); !bytes.Equal(got[5*fakePage:], before[5*fakePage:]) {
				t.Error("a freed page was written")
			}
			b.checkFinal()
			if r := b.mustApply(); !r.AlreadyApplied {
				t.Errorf("second time: %+v", *r)
			}
		})
	}
}

func (b *fakeBackup) checkFinal() {
	b.t.Helper()
	log := b.read(mariadb.LogName)
	page0 := b.read("ibdata1")[:fakePage]
	flush := innodb.LSN(binary.BigEndian.Uint64(page0[innodb.OffsetFlushLSN:]))
	switch b.format {
	case mariadbredo.Format105:
		if len(log) != 0 || flush != b.end {
			b.t.Errorf("log of %d bytes, flush LSN %d, want %d", len(log), flush, b.end)
		}
	default:
		if !bytes.Equal(log, mariadbredo.CleanLog(b.format, b.end, "hb test")) || flush != 0 {
			b.t.Errorf("log of %d bytes, flush LSN %d", len(log), flush)
		}
	}
	space, err := innodb.ParseSpace(page0)
	if err == nil {
		_, err = space.Verify(page0, 0)
	}
	if err != nil {
		b.t.Errorf("page 0 of ibdata1: %v", err)
	}
	if !bytes.Contains(b.read("xtrabackup_checkpoints"), []byte("backup_type = log-applied\n")) {
		b.t.Errorf("checkpoints: %s", b.read("xtrabackup_checkpoints"))
	}
	entries, err := os.ReadDir(b.dir)
	if err != nil {
		b.t.Fatal(err)
	}
	for _, e := range entries {
		if strings.HasPrefix(e.Name(), "hb-") && e.Name() != backupdir.AppliedName || strings.HasSuffix(e.Name(), ".hb-tmp") {
			b.t.Errorf("%s was left behind", e.Name())
		}
	}
}

// TestApplyNewerPages: what a page has already is not applied to it.
func TestApplyNewerPages(t *testing.T) {
	b := newFakeBackup(t, mariadbredo.Format108, fullFlags)
	first := b.mtr(write50(7, 3, "one"))
	end := b.mtr(write50(7, 3, "XY"))
	b.finish()
	table := b.read("db/t.ibd")
	copy(table[3*fakePage:], b.page(7, 3, 6, first)) // copied after the first
	b.write("db/t.ibd", table)
	b.mustApply()
	b.check("db/t.ibd", 7, 3, 6, end, func(p []byte) { copy(p[200:], "XY") })
}

// TestApplyCreates: a table that the log creates, and one whose page 0 was not
// written when it was copied.
func TestApplyCreates(t *testing.T) {
	b := newFakeBackup(t, mariadbredo.Format108, fullFlags)
	b.write("db/zero.ibd", make([]byte, 4*fakePage))
	b.mtr(file(0x80, 8, "./db/new.ibd"))
	b.mtr(page0(8, 5), rec(0x10, 8, 3), write50(8, 3, "hello"))
	b.mtr(file(0xB0, 9, "./db/zero.ibd"), page0(9, 6), rec(0x10, 9, 2))
	b.mtr(file(0x80, 10, "./db/#sql-alter-1.ibd"), page0(10, 4))
	b.mtr(file(0x80, 11, "./db/dropped.ibd"), page0(11, 4))
	b.mtr(file(0x90, 11, "./db/dropped.ibd"))
	b.finish()
	b.mustApply()
	for name, want := range map[string]int{"db/new.ibd": 5, "db/zero.ibd": 6} {
		got := b.read(name)
		space, err := innodb.ParseSpace(got[:fakePage])
		if err != nil || len(got) != want*fakePage {
			t.Errorf("%s: %d bytes, %v", name, len(got), err)
			continue
		}
		for no := range want {
			if _, err := space.Verify(got[no*fakePage:(no+1)*fakePage], innodb.PageNo(no)); err != nil {
				t.Errorf("%s: %v", name, err)
			}
		}
	}
	if got := b.read("db/new.ibd")[3*fakePage+200:][:5]; string(got) != "hello" {
		t.Errorf("db/new.ibd: %q", got)
	}
	for _, name := range []string{"db/#sql-alter-1.ibd", "db/dropped.ibd"} {
		if _, err := os.Stat(filepath.Join(b.dir, name)); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// TestApplySizes: pages past the end of the file, and FSP_SIZE beyond all.
func TestApplySizes(t *testing.T) {
	b := newFakeBackup(t, mariadbredo.Format108, fullFlags)
	b.mtr(rec(0x30, 7, 0, 46, 0, 0, 0, 12))
	b.mtr(rec(0x10, 7, 8), write50(7, 8, "eight"))
	b.finish()
	b.mustApply()
	got := b.read("db/t.ibd")
	if len(got) != 12*fakePage || string(got[8*fakePage+200:][:5]) != "eight" || !innodb.AllZero(got[9*fakePage:]) {
		t.Errorf("%d bytes, page 8: %q", len(got), got[8*fakePage+200:][:5])
	}
}

func TestApplySystemFiles(t *testing.T) {
	b := newFakeBackup(t, mariadbredo.Format105, oldFlags)
	b.sick = true // no first file is so short that page 5 is in the second
	system := b.read("ibdata1")
	b.write("ibdata1", system[:2*fakePage])
	b.write("ibdata2", system[2*fakePage:])
	b.write("backup-my.cnf", []byte("[mysqld]\ninnodb_page_size=16384\ninnodb_data_file_path=ibdata1:32K;ibdata2:64K:autoextend\n"))
	b.mtr(write50(0, 1, "one"))
	end := b.mtr(write50(0, 3, "three"), rec(0x30, 0, 0, 46, 0, 0, 0, 9))
	b.finish()
	b.mustApply()
	if n := len(b.read("ibdata1")); n != 2*fakePage {
		t.Errorf("ibdata1 has %d bytes", n)
	}
	if n := len(b.read("ibdata2")); n != 7*fakePage {
		t.Errorf("ibdata2 has %d bytes", n)
	}
	b.write("all", append(b.read("ibdata1"), b.read("ibdata2")...))
	b.check("all", 0, 3, 6, end, func(p []byte) { copy(p[200:], "three") })
}

// TestApplyTrim: what the log changed beyond the end of a truncated tablespace is not
// applied, also where the tablespace grows again. Those pages are free: the log
// initialises them before they are used.
func TestApplyTrim(t *testing.T) {
	for _, pages := range []int{5, 8} {
		b := newFakeBackup(t, mariadbredo.Format108, fullFlags)
		b.table("undo001", 3, 8, 40000)
		b.mtr(write50(3, 5, "lost"), write50(3, 2, "lost"), write50(3, 7, "lost"))
		b.mtr(rec(0x20, 3, 4, mariadbredo.TrimPages))
		end := b.mtr(rec(0x10, 3, 2), write50(3, 2, "kept"), rec(0x30, 3, 0, 46, 0, 0, 0, byte(pages)))
		b.finish()
		b.mustApply()
		got := b.read("undo001")
		if len(got) != pages*fakePage || string(got[2*fakePage+200:][:4]) != "kept" || innodb.HeaderLSN(got[2*fakePage:]) != end {
			t.Errorf("%d pages: %d bytes, page 2: %q", pages, len(got), got[2*fakePage+200:][:4])
		}
		for no := 4; no < pages; no++ {
			b.check("undo001", 3, innodb.PageNo(no), 8, 40000, func([]byte) {}) // nobody's: as it was
		}
	}
}

// TestApplyRefuses: every kind of directory that must not come out as recovered.
func TestApplyRefuses(t *testing.T) {
	for _, tc := range []struct {
		name string
		make func(b *fakeBackup)
		want string
		is   error
	}{
		{"incomplete extraction", func(b *fakeBackup) { b.write(backupdir.MarkerName, nil) }, "extract again", nil},
		{"no backup", func(b *fakeBackup) { os.Remove(b.dir + "/xtrabackup_checkpoints") }, "not an extracted backup", nil},
		{"incremental", func(b *fakeBackup) { b.checkpoints(metadata.Incremental, b.end) }, "incremental", nil},
		{"unknown type", func(b *fakeBackup) { b.checkpoints("half", b.end) }, "half", nil},
		{"no log", func(b *fakeBackup) { os.Remove(b.dir + "/ib_logfile0") }, "ib_logfile0 is missing", nil},
		{"MySQL", func(b *fakeBackup) { os.Rename(b.dir+"/ib_logfile0", b.dir+"/xtrabackup_logfile") }, "MySQL", nil},
		{"no system tablespace", func(b *fakeBackup) { os.Remove(b.dir + "/ibdata1") }, "ibdata1 is missing", nil},
		{"log too short", func(b *fakeBackup) { b.checkpoints(metadata.FullBackup, b.end+100) }, "needs it up to", io.ErrUnexpectedEOF},
		{"end inside", func(b *fakeBackup) { b.checkpoints(metadata.FullBackup, b.end-3) }, "inside it", nil},
		{"cut log", func(b *fakeBackup) { b.write("ib_logfile0", b.read("ib_logfile0")[:12288+20]) }, "unexpected EOF", io.ErrUnexpectedEOF},
		{"cut header", func(b *fakeBackup) { b.write("ib_logfile0", b.read("ib_logfile0")[:5000]) }, "cut short", nil},
		{"empty log", func(b *fakeBackup) { b.write("ib_logfile0", nil) }, "empty", nil},
		{"damaged log", func(b *fakeBackup) { b.damage("ib_logfile0", 12288+10) }, "damaged", nil},
		{"a server's log", func(b *fakeBackup) {
			log := b.read("ib_logfile0")
			copy(log, mariadbredo.Header{Format: b.format, FirstLSN: fakeStart, Creator: "MariaDB 10.11"}.Marshal())
			b.write("ib_logfile0", log)
		}, "server's own", nil},
		{"damaged page", func(b *fakeBackup) { b.damage("db/t.ibd", 3*fakePage+5000) }, "db/t.ibd: page 3", nil},
		{"page from the future", func(b *fakeBackup) {
			table := b.read("db/t.ibd")
			copy(table[3*fakePage:], b.page(7, 3, 6, 1<<40))
			b.write("db/t.ibd", table)
		}, "newer than the redo log", nil},
		{"missing table", func(b *fakeBackup) { os.Remove(b.dir + "/db/t.ibd") }, "db/t.ibd", nil},
		{"page 0 never written", func(b *fakeBackup) { b.write("db/t.ibd", make([]byte, 4*fakePage)) }, "page 0 is neither", nil},
		{"stray empty table", func(b *fakeBackup) { b.write("db/u.ibd", make([]byte, 4*fakePage)) }, "db/u.ibd", nil},
		{"two of one id", func(b *fakeBackup) { b.write("db/u.ibd", b.read("db/t.ibd")) }, "both tablespace 7", nil},
		{"page size", func(b *fakeBackup) { b.write("backup-my.cnf", []byte("[mysqld]\ninnodb_page_size=4096\n")) }, "pages of 16384", nil},
		{"compressed", func(b *fakeBackup) { b.write("db/u.ibd.qp", []byte("qpress10")) }, "unpack it first", nil},
		{"already applied, log not", func(b *fakeBackup) { b.checkpoints(metadata.LogApplied, b.end) }, "restore it again", nil},
	} {
		t.Run(tc.name, func(t *testing.T) {
			b := newFakeBackup(t, mariadbredo.Format108, fullFlags)
			b.mtr(file(0xB0, 7, "./db/t.ibd"), write50(7, 3, "text"))
			b.mtr(write50(7, 4, "text"))
			b.finish()
			tc.make(b)
			_, err := b.apply()
			if err == nil || !strings.Contains(err.Error(), tc.want) || tc.is != nil && !errors.Is(err, tc.is) {
				t.Errorf("error %v, want one with %q", err, tc.want)
			}
			if strings.Contains(fmt.Sprint(err), "internal error") {
				t.Errorf("error %v", err)
			}
		})
	}
}

func (b *fakeBackup) damage(name string, at int) {
	content := b.read(name)
	content[at] ^= 0x40
	b.write(name, content)
}

// TestApplyEncryptedLog: of the form that 10.8 and later write first, hb says what it is.
func TestApplyEncryptedLog(t *testing.T) {
	b := newFakeBackup(t, mariadbredo.Format108, fullFlags).finish()
	log := b.read("ib_logfile0")
	binary.BigEndian.PutUint32(log[48:], 1) // the id of the key
	innodbtest.SealBlock(innodbtest.MariaDB108, log[:512])
	b.write("ib_logfile0", log)
	_, err := b.apply()
	u, ok := errors.AsType[*mariadbredo.UnsupportedError](err)
	if !ok || !u.Encrypted {
		t.Errorf("error %v", err)
	}
}

// TestApplyInitHealsPage: a page that the log initialises may be bad.
func TestApplyInitHealsPage(t *testing.T) {
	b := newFakeBackup(t, mariadbredo.Format108, oldFlags)
	b.mtr(write50(7, 3, "text"))
	b.mtr(rec(0x10, 7, 3), write50(7, 3, "anew"))
	b.finish()
	b.damage("db/t.ibd", 3*fakePage+5000)
	b.sick = true
	b.mustApply()
}

func TestApplyPartial(t *testing.T) {
	b := newFakeBackup(t, mariadbredo.Format108, fullFlags)
	b.mtr(file(0xB0, 7, "./db/t.ibd"), write50(7, 3, "text"), write50(9, 3, "other"))
	b.finish()
	os.Remove(b.dir + "/db/t.ibd")
	b.write("xtrabackup_info", []byte("partial = Y\n"))
	r := b.mustApply()
	if len(r.Warnings) != 2 || !strings.Contains(strings.Join(r.Warnings, " "), "db/t.ibd") {
		t.Errorf("warnings %q", r.Warnings)
	}
}

// TestApplyPartialDatabase: a database that a partial backup leaves out stays
// out, whatever the log creates, changes and renames in it.
func TestApplyPartialDatabase(t *testing.T) {
	b := newFakeBackup(t, mariadbredo.Format108, fullFlags)
	b.mtr(file(0xB0, 7, "./db/t.ibd"), write50(7, 3, "text"))
	b.mtr(file(0xB0, 8, "./out/old.ibd"), write50(8, 3, "other"))
	b.mtr(file(0x80, 9, "./out/new.ibd"))
	b.mtr(page0(9, 4), rec(0x10, 9, 3), write50(9, 3, "hello"))
	b.finish()
	b.write("xtrabackup_info", []byte("partial = Y\n"))
	r := b.mustApply()
	if said := strings.Join(r.Warnings, " "); len(r.Warnings) != 2 || !strings.Contains(said, "out/old.ibd") || !strings.Contains(said, "out/new.ibd") {
		t.Errorf("warnings %q", r.Warnings)
	}
	if _, err := os.Stat(filepath.Join(b.dir, "out")); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("the database is there: %v", err)
	}
}

// TestApplyTornEnd: the tool of 10.5 may stop inside a mini-transaction.
func TestApplyTornEnd(t *testing.T) {
	b := newFakeBackup(t, mariadbredo.Format105, fullFlags)
	for range 101 {
		b.mtr(write50(7, 3, "text"))
	}
	whole := b.end
	var long [][]byte
	for range 100 {
		long = append(long, write50(7, 4, "longlong"))
	}
	b.mtr(long...)
	b.finish()
	log := b.read("ib_logfile0")
	blocks := (len(log)-2048)/512 - 1 // without the last
	b.write("ib_logfile0", log[:2048+blocks*512])
	b.checkpoints(metadata.FullBackup, fakeStart&^511+innodb.LSN(blocks)*512)
	r := b.mustApply()
	if r.LSN != whole || len(r.Warnings) != 1 {
		t.Errorf("%+v, want LSN %d", *r, whole)
	}

	// hb knows exactly where its log ends.
	if err := os.Remove(filepath.Join(b.dir, backupdir.AppliedName)); err != nil {
		t.Fatal(err)
	}
	b.checkpoints(metadata.FullBackup, fakeStart&^511+innodb.LSN(blocks)*512)
	b.write("ib_logfile0", log[:2048+blocks*512])
	b.write(metadata.ArchiveName, []byte(`{"hb_archive":1,"hb_version":"1","server_flavor":"mariadb","server_version":"10.5.23-MariaDB","page_size":16384,"start_lsn":50000,"redo_format":"PHYS","created":"2026-11-20T10:00:00Z","options":{}}`))
	if _, err := b.apply(); !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Errorf("a cut log of hb's own: %v", err)
	}
}

func TestApplyRenames(t *testing.T) {
	b := newFakeBackup(t, mariadbredo.Format108, fullFlags)
	b.mtr(file(0xA0, 7, "./db/t.ibd\x00./db2/u.ibd"))
	end := b.mtr(write50(7, 3, "text"))
	b.finish()
	b.write("db2/db.opt", nil)
	r := b.mustApply()
	if len(r.Warnings) != 1 {
		t.Errorf("warnings %q", r.Warnings)
	}
	b.check("db2/u.ibd", 7, 3, 6, end, func(p []byte) { copy(p[200:], "text") })
}

func TestApplyLocks(t *testing.T) {
	b := newFakeBackup(t, mariadbredo.Format108, fullFlags).finish()
	f, err := os.OpenFile(b.dir+"/ibdata1", os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	lock := unix.Flock_t{Type: unix.F_WRLCK}
	if err := unix.FcntlFlock(f.Fd(), unix.F_OFD_SETLK, &lock); err != nil {
		t.Fatal(err)
	}
	if _, err := b.apply(); err == nil || !strings.Contains(err.Error(), "in use") {
		t.Errorf("error %v", err)
	}
}

// TestFixUp interrupts after every single step, runs it again, and expects the
// same result: chains, a swap, a longer cycle, dropped and new tables.
func TestFixUp(t *testing.T) {
	long := strings.Repeat("@4e2d", 50)
	before := map[string]string{
		"db/a.ibd": "A", "db/a.ren": "db/b", "db/b.ibd": "B", "db/b.ren": "db/a", // a swap
		"db/c.ibd": "C", "db/c.ren": "db2/d\n", "db/d.ibd": "D", "db/d.ren": "./db/e.ibd", // across databases, a chain
		"db/e.ibd": "E", "db/e.ren": "db/f", "db/f.ibd": "F", "db/f.del": "",
		"db/x.ibd": "X", "db/x.ren": "db/y", "db/y.ibd": "Y", "db/y.ren": "db/z", "db/z.ibd": "Z", "db/z.ren": "db/x", // a cycle
		"db/n.new": "N", "db/o.ibd": "old", "db/o.new": "O", "db/gone.del": "",
		"db/r.ren": "db/n", "db/a.frm": "frm", "ibdata1": "I",
		"db/" + long + "1.ibd": "L1", "db/" + long + "1.ren": "db/" + long + "2", // names as long as file systems take
		"db/" + long + "2.ibd": "L2", "db/" + long + "2.ren": "db/" + long + "1",
	}
	want := map[string]string{
		"db/a.ibd": "B", "db/b.ibd": "A", "db2/d.ibd": "C", "db/e.ibd": "D", "db/f.ibd": "E",
		"db/x.ibd": "Z", "db/y.ibd": "X", "db/z.ibd": "Y", "db/n.ibd": "N", "db/o.ibd": "O",
		"db/a.frm": "frm", "ibdata1": "I",
		"db/" + long + "1.ibd": "L2", "db/" + long + "2.ibd": "L1",
	}
	killed := errors.New("killed")
	for at := 1; ; at++ {
		dir := t.TempDir()
		for name, content := range before {
			path := filepath.Join(dir, name)
			if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(path, []byte(content), 0o644); err != nil {
				t.Fatal(err)
			}
		}
		root := disktest.Open(t, dir)
		var err error
		// Killed at step "at", and every few steps again.
		for left := at; ; left = at%3 + 2 {
			if err = fixup.InDatabases(root, func() error {
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
		got := disktest.ReadTree(t, dir)
		if fmt.Sprint(got) != fmt.Sprint(want) {
			t.Fatalf("killed at step %d:\n%v\nwant\n%v", at, got, want)
		}
		if at > 70 {
			return
		}
	}
}

func TestFixUpRefuses(t *testing.T) {
	for name, tree := range map[string]map[string]string{
		"target exists":    {"db/a.ibd": "A", "db/a.ren": "db/b", "db/b.ibd": "B"},
		"nothing to move":  {"db/a.ren": "db/b"},
		"outside":          {"db/a.ibd": "A", "db/a.ren": "../../etc/.."},
		"no name":          {"db/a.ibd": "A", "db/a.ren": ""},
		"no database":      {"db/a.ibd": "A", "db/a.ren": "b"},
		"far too long":     {"db/a.ibd": "A", "db/a.ren": "db/" + strings.Repeat("x", 5000)},
		"dropped new file": {"db/a.ibd": "A", "db/a.ren": "db/b", "db/c.new": "C"},
	} {
		b := &fakeBackup{t: t, dir: t.TempDir()}
		for name, content := range tree {
			b.write(name, []byte(content))
		}
		err := fixup.InDatabases(disktest.Open(t, b.dir), nil)
		if name == "dropped new file" {
			if err != nil {
				t.Errorf("%s: %v", name, err)
			}
			continue
		}
		if err == nil {
			t.Errorf("%s: accepted: %v", name, disktest.ReadTree(t, b.dir))
		}
		var kept []string
		for _, content := range disktest.ReadTree(t, b.dir) {
			kept = append(kept, content)
		}
		for _, content := range tree {
			if !slices.Contains(kept, content) {
				t.Errorf("%s: %q was lost: %v", name, content, kept)
			}
		}
	}
}

// TestTornPage: a page that an interrupted run was writing comes back from the
// doublewrite file; another backup's doublewrite file is of no use.
func TestTornPage(t *testing.T) {
	make := func() *fakeBackup {
		b := newFakeBackup(t, mariadbredo.Format108, fullFlags)
		b.mtr(write50(7, 3, "text"))
		return b.finish()
	}
	done := make()
	done.mustApply()

	b := make()
	good := done.read("db/t.ibd")[3*fakePage : 4*fakePage]
	for _, tc := range []struct {
		of replay.Identity
		ok bool
	}{{replay.Identity{From: fakeStart, To: b.end}, true}, {replay.Identity{From: fakeStart, To: b.end + 1}, false}, {replay.Identity{From: fakeStart + 1, To: b.end}, false}} {
		b := make()
		table := b.read("db/t.ibd")
		copy(table[3*fakePage:], good[:4096]) // the first sector got there
		b.write("db/t.ibd", table)
		b.write(backupdir.ApplyingName, []byte(`{"stage":"replay"}`))
		b.write(replay.DoublewriteName, replay.DoublewriteSlot(tc.of,
			7, fakePage, []innodb.PageNo{3}, [][]byte{good}))
		r, err := b.apply()
		if tc.ok {
			if err != nil || !r.Resumed {
				t.Errorf("%+v, %v", r, err)
			}
			if !bytes.Equal(b.read("db/t.ibd"), done.read("db/t.ibd")) {
				t.Error("the table differs from that of a run that was not interrupted")
			}
		} else if err == nil {
			t.Error("another recovery's page was used")
		}
	}
}
