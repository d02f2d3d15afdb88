package mariadbredo

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"strings"
	"testing"

	"hb/xbstream/innodb"
	"hb/xbstream/innodb/innodbtest"
)

// realLog is the beginning of the ib_logfile0 of a backup that that release's
// own tool made.
func realLog(t testing.TB, version string) []byte {
	t.Helper()
	return innodbtest.Gunzip(t, version+".log.gz")
}

func TestRealLogs(t *testing.T) {
	for _, tc := range []struct {
		version, creator string
		format           Format
		checkpoint       innodb.LSN
		firstFile        string
	}{
		{"10.5.23", "Backup 10.5.23-MariaDB", Format105, 45073, "./db/t_red.ibd"},
		{"10.11.18", "Backup 10.11.18", Format108, 87458, "./db/t_ft.ibd"},
		{"11.8.6", "Backup 11.8.6", Format108, 52994, "./db/t_dyn.ibd"},
	} {
		t.Run(tc.version, func(t *testing.T) {
			log := realLog(t, tc.version)
			h, err := ParseHeader(log)
			if err != nil {
				t.Fatal(err)
			}
			if h.Format != tc.format || h.Creator != tc.creator || !h.FromBackup() {
				t.Errorf("header %+v", h)
			}
			if got := h.Marshal(); !bytes.Equal(got, log[:512]) {
				t.Errorf("the header does not come back:\n%x\n%x", got[:64], log[:64])
			}
			c, err := h.Checkpoint(log)
			if err != nil {
				t.Fatal(err)
			}
			if c.LSN != tc.checkpoint {
				t.Errorf("checkpoint %d", c.LSN)
			}
			// The head of hb's own backups is the peer's, byte for byte.
			head := BackupHead(h.Format, c, tc.creator)
			if want := log[:h.Format.Facts().HeaderSize]; !bytes.Equal(head, want) {
				t.Errorf("the head differs from the peer's")
			}

			geo := LinearGeometry(h, c)
			cut := NewCutter(geo, c.LSN)
			base := cut.Position()
			body := log[geo.Offset(base):]
			pieces := cutAll(cut, body, base, len(body))
			if len(pieces) < 20 || int(cut.Seen()-base) < len(body)-MaxMTR/8 {
				t.Errorf("%d mini-transactions up to %d: %v", len(pieces), cut.Seen(), cut.Stop())
			}
			if stop := cut.Stop().Cause; stop != StopShort {
				t.Errorf("stopped by %v", cut.Stop())
			}
			for _, step := range []int{512, 1000} {
				again := cutAll(NewCutter(geo, c.LSN), body, base, step)
				if fmt.Sprint(again) != fmt.Sprint(pieces) {
					t.Errorf("in steps of %d it is cut in another way", step)
				}
			}
			checkRecords(t, geo, body, base, pieces, tc.firstFile)
		})
	}
}

// checkRecords reads all records, finds each run again by its LSN, and looks
// for a file that the log must name.
func checkRecords(t *testing.T, geo Geometry, body []byte, base innodb.LSN, pieces []piece, file string) {
	kinds := make(map[Type]int)
	var files []string
	scratch := make([]byte, MaxMTR)
	for _, p := range pieces {
		rr := ReadRuns([]byte(p.records))
		for rr.Next() {
			run := rr.Run()
			kinds[run.Kind]++
			if run.Kind.IsFile() {
				op, err := rr.FileOp()
				if err != nil {
					t.Fatalf("LSN %d: %v", p.start, err)
				}
				files = append(files, op.Name)
			}
			lsn := geo.Advance(p.start, run.Offset)
			got, err := geo.Payload(body[geo.Offset(lsn)-geo.Offset(base):], lsn, len(run.Bytes), scratch)
			if err != nil || !bytes.Equal(got, run.Bytes) {
				t.Fatalf("LSN %d, run at %d: got %x, want %x (%v)", p.start, run.Offset, got, run.Bytes, err)
			}
		}
		if err := rr.Err(); err != nil {
			t.Fatalf("LSN %d: %v", p.start, err)
		}
	}
	if kinds[Write] == 0 || kinds[InitPage] == 0 || kinds[Extended] == 0 {
		t.Errorf("kinds of runs: %v", kinds)
	}
	if !strings.Contains(strings.Join(files, " "), file) {
		t.Errorf("files %q, want %q among them", files, file)
	}
}

func TestUnsupported(t *testing.T) {
	block := func(tag uint32) []byte {
		b := make([]byte, 512)
		binary.BigEndian.PutUint32(b, tag)
		binary.BigEndian.PutUint64(b[8:], 20000)
		return b
	}
	seal := func(b []byte) []byte {
		innodbtest.SealBlock(innodbtest.MariaDB108, b)
		return b
	}
	first := block(0x50687973)
	first[51] = 1
	for _, tc := range []struct {
		block     []byte
		encrypted bool
		name      string
	}{
		{first, true, "10.8"},
		{block(1), false, "5.7"},
		{block(6), false, "MySQL 8.0"},
		{block(104), false, "10.4"},
		{block(104 | 1<<31), true, "10.4"},
		{block(0x12345678), false, "unknown"},
	} {
		_, err := ParseHeader(seal(tc.block))
		u, ok := errors.AsType[*UnsupportedError](err)
		if !ok || u.Encrypted != tc.encrypted || !strings.Contains(err.Error(), tc.name) {
			t.Errorf("tag %x: %v", tc.block[:4], err)
		}
	}
	good := Header{Format: Format108, FirstLSN: 20000, Creator: "x"}.Marshal()
	for name, b := range map[string][]byte{
		"bad CRC": append(bytes.Clone(good[:20]), append([]byte{1}, good[21:]...)...),
		"cut":     good[:511], "zero": make([]byte, 512),
		"version":   seal(append(bytes.Clone(good[:7]), append([]byte{1}, good[8:]...)...)),
		"first LSN": Header{Format: Format108, FirstLSN: 12287}.Marshal(),
	} {
		if _, err := ParseHeader(b); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
	if _, err := ParseHeader(nil); !errors.Is(err, ErrEmptyLog) {
		t.Errorf("empty: %v", err)
	}
}

func TestCheckpointChoice(t *testing.T) {
	for _, f := range []Format{Format105, Format108} {
		h := Header{Format: f, FirstLSN: 20000}
		facts := f.Facts()
		older := Checkpoint{LSN: 30000, End: 30000, Number: 7, Offset: 2048 + 30000%512}
		newer := Checkpoint{LSN: 40000, End: 40100, Number: 8, Offset: 4096 + 40000%512}
		for _, newerAt := range []int{0, 1} {
			head := make([]byte, facts.HeaderSize)
			copy(head[facts.Checkpoints[newerAt]:], h.MarshalCheckpoint(newer))
			copy(head[facts.Checkpoints[1-newerAt]:], h.MarshalCheckpoint(older))
			if c, err := h.Checkpoint(head); err != nil || c.LSN != newer.LSN || c.At != facts.Checkpoints[newerAt] {
				t.Errorf("%v: %+v, %v", f, c, err)
			}
			head[facts.Checkpoints[newerAt]+9]++ // damage the newer one
			if c, err := h.Checkpoint(head); err != nil || c.LSN != older.LSN {
				t.Errorf("%v, newer damaged: %+v, %v", f, c, err)
			}
			head[facts.Checkpoints[1-newerAt]+9]++
			if _, err := h.Checkpoint(head); !errors.Is(err, ErrNoCheckpoint) {
				t.Errorf("%v, both damaged: %v", f, err)
			}
		}
		if _, err := h.Checkpoint(make([]byte, 1000)); err == nil {
			t.Errorf("%v: a cut header was accepted", f)
		}
	}
	h := Header{Format: Format108, FirstLSN: 20000}
	head := make([]byte, 12288)
	copy(head[4096:], h.MarshalCheckpoint(Checkpoint{LSN: 19999, End: 30000}))
	copy(head[8192:], h.MarshalCheckpoint(Checkpoint{LSN: 30000, End: 29999}))
	if _, err := h.Checkpoint(head); !errors.Is(err, ErrNoCheckpoint) {
		t.Errorf("checkpoints out of bounds: %v", err)
	}
}

func TestGeometry(t *testing.T) {
	g, err := LiveGeometry(Header{Format: Format108, FirstLSN: 20000}, Checkpoint{LSN: 25000}, 12288+1000)
	if err != nil {
		t.Fatal(err)
	}
	for lsn, want := range map[innodb.LSN]int64{20000: 12288, 20999: 13287, 21000: 12288, 25123: 12411, 19999: 13287} {
		if got := g.Offset(lsn); got != want {
			t.Errorf("10.8: LSN %d is at %d, want %d", lsn, got, want)
		}
	}
	if n := g.Contiguous(20990); n != 10 {
		t.Errorf("10.8: %d bytes up to the end of the file, want 10", n)
	}
	g, err = LiveGeometry(Header{Format: Format105}, Checkpoint{LSN: 5*512 + 100, Offset: 2048 + 2*512 + 100}, 2048+4*512)
	if err != nil {
		t.Fatal(err)
	}
	for lsn, want := range map[innodb.LSN]int64{5*512 + 100: 2048 + 2*512 + 100, 6 * 512: 2048 + 3*512, 7 * 512: 2048, 3*512 + 1: 2049, 2 * 512: 2048 + 3*512} {
		if got := g.Offset(lsn); got != want {
			t.Errorf("10.5: LSN %d is at %d, want %d", lsn, got, want)
		}
	}
	if _, err := LiveGeometry(Header{Format: Format105}, Checkpoint{LSN: 100, Offset: 9000}, 4096); err == nil {
		t.Error("a checkpoint after the end of the file was accepted")
	}
	if _, err := LiveGeometry(Header{Format: Format108, FirstLSN: 20000}, Checkpoint{LSN: 20000}, 12288); err == nil {
		t.Error("a log without log bytes was accepted")
	}
}

func TestCleanLog(t *testing.T) {
	if b := CleanLog(Format105, 5000, "hb"); len(b) != 0 {
		t.Errorf("10.5: %d bytes", len(b))
	}
	b := CleanLog(Format108, 50116206, "hb 1.0")
	if len(b) != 12304 {
		t.Fatalf("%d bytes", len(b))
	}
	h, err := ParseHeader(b)
	if err != nil || h.Creator != "Backup hb 1.0" {
		t.Fatalf("%+v, %v", h, err)
	}
	c, err := h.Checkpoint(b)
	if err != nil || c.LSN != 50116190 || c.End != c.LSN || h.FirstLSN != c.LSN {
		t.Fatalf("%+v %+v, %v", h, c, err)
	}
	cut := NewCutter(LinearGeometry(h, c), c.LSN)
	cut.Feed(b[12288:])
	m, ok := cut.Next()
	if !ok || m.End != 50116206 {
		t.Fatalf("%+v: %v", m, cut.Stop())
	}
	r := ReadRecords(m.Records)
	if !r.Next() {
		t.Fatal(r.Err())
	}
	op, err := r.FileOp()
	if err != nil || op.Type != FileCheckpoint || op.Checkpoint != c.LSN || r.Next() {
		t.Errorf("%+v, %v", op, err)
	}
	if long := Creator(strings.Repeat("x", 100)); len(long) != 32 {
		t.Errorf("a creator of %d bytes", len(long))
	}
}

func TestFileOps(t *testing.T) {
	file := func(kind Type, body string) []byte {
		return innodbtest.MariaDBFile(byte(kind)<<4, 9, body)
	}
	all := bytes.Join([][]byte{
		file(FileModify, "./a/b.ibd"), file(FileCreate, "/x/a/c.ibd"), file(FileRename, "./a/b.ibd\x00./a/d.ibd"),
		file(FileDelete, "./a/d.ibd"), {0xFA, 0, 0, 0, 0, 0, 0, 0, 0, 1, 2}, {0xF1, 0}, {0xF2, 0, 0}, {0xF5, 0, 0, 0, 0, 0},
	}, nil)
	var got []string
	r := ReadRecords(all)
	for r.Next() {
		op, err := r.FileOp()
		if err != nil {
			t.Fatal(err)
		}
		got = append(got, fmt.Sprintf("%v %d %s %s %d", op.Type, op.Space, op.Name, op.NewName, op.Checkpoint))
	}
	want := []string{
		"FILE_MODIFY 9 ./a/b.ibd  0", "FILE_CREATE 9 /x/a/c.ibd  0", "FILE_RENAME 9 ./a/b.ibd ./a/d.ibd 0",
		"FILE_DELETE 9 ./a/d.ibd  0", "FILE_CHECKPOINT 0   258", "FILE_CHECKPOINT 0   0", "FILE_CHECKPOINT 0   0", "FILE_CHECKPOINT 0   0",
	}
	if r.Err() != nil || fmt.Sprint(got) != fmt.Sprint(want) {
		t.Errorf("got  %q\nwant %q (%v)", got, want, r.Err())
	}
	for name, b := range map[string][]byte{
		"no directory":     file(FileCreate, "abcdef.ibd"),
		"no extension":     file(FileModify, "./a/bcdefg"),
		"rename, one name": file(FileRename, "./a/b.ibd"),
		"NUL in the name":  file(FileDelete, "./a/b\x00c.ibd"),
		"system space":     {0xBB, 0, 0, '.', '/', 'a', '/', 'b', '.', 'i', 'b', 'd'},
		"page number":      {0xB3, 9, 1, 'x'},
		"type":             {0xC3, 9, 0, 'x'},
		"checkpoint":       {0xF5, 0, 0, 1, 2, 3},
	} {
		r := ReadRecords(b)
		if r.Next() {
			if _, err := r.FileOp(); err == nil {
				t.Errorf("%s: accepted", name)
			}
		} else if r.Err() == nil {
			t.Errorf("%s: no error", name)
		}
	}
}

func TestRuns(t *testing.T) {
	b := bytes.Join([][]byte{
		innodbtest.MariaDBFile(byte(FileModify)<<4, 7, "./a/b.ibd"),
		{0x12, 7, 5},            // INIT_PAGE
		{0xB2, 60, 1},           // WRITE, same page
		{0x33, 7, 6, 60},        // WRITE, another page
		{0x02, 7, 8},            // FREE_PAGE
		{0x23, 7, 9, TrimPages}, // TRIM_PAGES
		{0x33, 7, 5, 61},
	}, nil)
	var got []string
	rr := ReadRuns(b)
	for rr.Next() {
		r := rr.Run()
		got = append(got, fmt.Sprintf("%v %v %d %v", r.Kind, r.Page, len(r.Bytes), r.Trim))
	}
	want := []string{"FILE_MODIFY 7:0 12 false", "INIT_PAGE 7:5 6 false", "WRITE 7:6 4 false", "FREE_PAGE 7:8 3 false", "EXTENDED 7:9 4 true", "WRITE 7:5 4 false"}
	if rr.Err() != nil || fmt.Sprint(got) != fmt.Sprint(want) {
		t.Errorf("got  %q\nwant %q (%v)", got, want, rr.Err())
	}
	for name, b := range map[string][]byte{
		"freed, then written": {0x02, 7, 8, 0xB2, 60, 1},
		"trimmed, written":    {0x23, 7, 9, TrimPages, 0xB2, 60, 1},
	} {
		rr := ReadRuns(b)
		for rr.Next() {
		}
		if rr.Err() == nil {
			t.Errorf("%s: accepted", name)
		}
	}
}

// FuzzRecords reads hostile records: runs cover the bytes without a gap.
func FuzzRecords(f *testing.F) {
	for _, version := range []string{"10.5.23", "10.11.18", "11.8.6"} {
		log := realLog(f, version)
		h, err := ParseHeader(log)
		if err != nil {
			f.Fatal(err)
		}
		c, err := h.Checkpoint(log)
		if err != nil {
			f.Fatal(err)
		}
		cut := NewCutter(LinearGeometry(h, c), c.LSN)
		cut.Feed(log[h.Format.Facts().HeaderSize:])
		for range 40 {
			if m, ok := cut.Next(); ok {
				f.Add(bytes.Clone(m.Records))
			}
		}
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		rr := ReadRuns(b)
		at := 0
		for rr.Next() {
			r := rr.Run()
			if r.Offset != at || len(r.Bytes) == 0 {
				t.Fatalf("run of %d bytes at %d, want it at %d", len(r.Bytes), r.Offset, at)
			}
			at += len(r.Bytes)
			if r.Kind.IsFile() {
				rr.FileOp()
			}
		}
		if rr.Err() == nil && at != len(b) {
			t.Fatalf("%d of %d bytes read", at, len(b))
		}
	})
}
