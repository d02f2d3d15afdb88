package mysqlredo

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"hb/stream/disk"
	"hb/xbstream/innodb"
	"hb/xbstream/innodb/mysqlredo/mlog"
)

// redoDir writes files of 64 KiB in RedoDir, full of blocks of dummies.
type redoDir struct {
	t   *testing.T
	dir string
}

const redoPart = redoGranule - HeaderSize

func (d redoDir) content(start innodb.LSN, flags Flags, ckpt innodb.LSN) []byte {
	h := Header{Format: Format8030, UUID: 1, StartLSN: start, Creator: "MySQL test", Flags: flags}
	b := append(h.Marshal(), make([]byte, HeaderSize-blockSize)...)
	copy(b[firstSlot:], h.MarshalCheckpoint(Checkpoint{LSN: ckpt}))
	payload := bytes.Repeat([]byte{byte(mlog.Dummy)}, blockPayload)
	for at := start; at < start+redoPart; at += blockSize {
		b = append(b, block(Format8030, at, blockSize, 12, payload)...)
	}
	return b
}

func (d redoDir) write(name string, b []byte) {
	d.t.Helper()
	if err := os.WriteFile(filepath.Join(d.dir, RedoDir, name), b, 0o600); err != nil {
		d.t.Fatal(err)
	}
}

func (d redoDir) rename(from, to string) {
	d.t.Helper()
	if err := os.Rename(filepath.Join(d.dir, RedoDir, from), filepath.Join(d.dir, RedoDir, to)); err != nil {
		d.t.Fatal(err)
	}
}

// TestRecycling reads a log whose files the server uses again: what is after
// is found under its new name, the spare file's valid blocks of the past are
// not looked at, and what is gone is known to be gone.
func TestRecycling(t *testing.T) {
	d := redoDir{t, t.TempDir()}
	if err := os.Mkdir(filepath.Join(d.dir, RedoDir), 0o700); err != nil {
		t.Fatal(err)
	}
	const start = innodb.LSN(1 << 20)
	d.write("#ib_redo5", d.content(start, FileFull, start+600))
	d.write("#ib_redo6", d.content(start+redoPart, 0, 0))
	d.write("#ib_redo7_tmp", d.content(start-redoPart, FileFull, start-100))
	f, err := OpenFiles(disk.OS, d.dir)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if _, c, err := f.Newest(); err != nil || c.LSN != start+600 {
		t.Fatalf("checkpoint %+v, %v", c, err)
	}
	cut := NewCutter(Format8030, start+600)
	read := func() (int, error) {
		b := make([]byte, 4*redoPart)
		n, err := f.ReadAt(b, cut.Position())
		cut.Feed(b[:n])
		for _, ok := cut.Next(); ok; _, ok = cut.Next() {
		}
		return n, err
	}
	if n, err := read(); err != nil || n != 2*redoPart-blockSize || cut.Stop().Cause != StopShort || cut.End() != start+2*redoPart+12 {
		t.Fatalf("%d bytes, %v, %v, end %d", n, err, cut.Stop(), cut.End())
	}
	// There is no more yet; the next file has its name only when it is complete.
	if n, err := read(); n != 0 || err != nil {
		t.Errorf("%d bytes, %v", n, err)
	}
	d.write("#ib_redo6", d.content(start+redoPart, FileFull, start+redoPart+100))
	d.rename("#ib_redo7_tmp", "#ib_redo8_tmp")
	d.write("#ib_redo8_tmp", d.content(start+2*redoPart, 0, 0))
	d.rename("#ib_redo8_tmp", "#ib_redo7")
	if _, c, err := f.Newest(); err != nil || c.LSN != start+redoPart+100 {
		t.Errorf("two files have a checkpoint: %+v, %v", c, err)
	}
	d.rename("#ib_redo5", "#ib_redo9_tmp")
	if n, err := read(); err != nil || n != redoPart || cut.End() != start+3*redoPart+12 {
		t.Errorf("%d bytes, %v, end %d, %v", n, err, cut.End(), cut.Stop())
	}
	if _, c, err := f.Newest(); err != nil || c.LSN != start+redoPart+100 {
		t.Errorf("checkpoint %+v, %v", c, err)
	}
	// A file that is open is used for something newer.
	was := f.log.(*redoFiles)
	if was.current.ID != 7 {
		t.Fatalf("file %d is open", was.current.ID)
	}
	d.write("#ib_redo7", d.content(start+20*redoPart, 0, 0))
	if took, err := was.take(was.current); took || err != nil {
		t.Errorf("a file was taken for its earlier life: %v, %v", took, err)
	}
	again := NewCutterAt(Format8030, start+2*redoPart+12)
	b := make([]byte, blockSize)
	if _, err := f.ReadAt(b, again.Position()); err != nil {
		t.Fatal(err)
	}
	again.Feed(b)
	if _, ok := again.Next(); ok || !again.Stop().Newer {
		t.Errorf("blocks of the future were taken: %v", again.Stop())
	}
	// It is cut to another size on the way.
	if err := os.Truncate(filepath.Join(d.dir, RedoDir, "#ib_redo7"), HeaderSize); err != nil {
		t.Fatal(err)
	}
	d.rename("#ib_redo7", "#ib_redo11_tmp")
	d.rename("#ib_redo6", "#ib_redo12_tmp")
	d.write("#ib_redo27", d.content(start+20*redoPart, 0, 0))
	var gone *GoneError
	if _, err := f.ReadAt(b, again.Position()); !errors.As(err, &gone) || gone.Now != start+20*redoPart {
		t.Errorf("a file that was cut: %v", err)
	}
	// And what was not open is gone.
	_, err = f.ReadAt(b, start+redoPart)
	if !errors.As(err, &gone) || gone.LSN != start+redoPart || gone.Now != start+20*redoPart {
		t.Errorf("error = %v, want a GoneError", err)
	}
}

// TestOpenRefuses: logs that are not whole, or that miss changes.
func TestOpenRefuses(t *testing.T) {
	const start = innodb.LSN(1 << 20)
	for name, files := range map[string]map[string]func(d redoDir) []byte{
		"empty":         {},
		"only spares":   {"#ib_redo5_tmp": func(d redoDir) []byte { return d.content(start, 0, start+12) }},
		"newest lost":   {"#ib_redo5": func(d redoDir) []byte { return d.content(start, FileFull, start+12) }},
		"no checkpoint": {"#ib_redo5": func(d redoDir) []byte { return d.content(start, 0, start-500) }},
		"no logging":    {"#ib_redo5": func(d redoDir) []byte { return d.content(start, NoLogging, start+12) }},
		"unsafe":        {"#ib_redo5": func(d redoDir) []byte { return d.content(start, CrashUnsafe, start+12) }},
		"being made":    {"#ib_redo5": func(d redoDir) []byte { return d.content(start, NotInitialized, start+12) }},
		"cut short":     {"#ib_redo5": func(d redoDir) []byte { return d.content(start, 0, start+12)[:1000] }},
		"hole": {
			"#ib_redo5": func(d redoDir) []byte { return d.content(start, FileFull, start+12) },
			"#ib_redo7": func(d redoDir) []byte { return d.content(start+2*redoPart, 0, 0) },
		},
	} {
		d := redoDir{t, t.TempDir()}
		if err := os.Mkdir(filepath.Join(d.dir, RedoDir), 0o700); err != nil {
			t.Fatal(err)
		}
		for f, content := range files {
			d.write(f, content(d))
		}
		if _, err := OpenFiles(disk.OS, d.dir); err == nil {
			t.Errorf("%s: opened", name)
		}
	}
	dir := t.TempDir()
	h := Header{Format: Format57, StartLSN: 8192}
	head := make([]byte, 64<<10)
	copy(head, h.Marshal())
	copy(head[firstSlot:], h.MarshalCheckpoint(Checkpoint{No: 2, LSN: 8204, Offset: 2060}))
	for name, b := range map[string][]byte{"ib_logfile0": head, "ib_logfile1": head[:60<<10]} {
		if err := os.WriteFile(filepath.Join(dir, name), b, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := OpenFiles(disk.OS, dir); err == nil || !strings.Contains(err.Error(), "ib_logfile1") {
		t.Errorf("files of two sizes: %v", err)
	}
}
