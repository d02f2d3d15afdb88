package redo

import (
	"bytes"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"testing"

	"hb/stream/disk"
	"hb/xbstream/innodb"
	"hb/xbstream/innodb/innodbtest"
	"hb/xbstream/innodb/mariadbredo"
)

// meanwhile is a system on which something happens when a file's name is looked at.
type meanwhile struct {
	disk.System
	happens func()
}

func (m *meanwhile) Stat(path string) (fs.FileInfo, error) {
	if do := m.happens; do != nil {
		m.happens = nil
		do()
	}
	return m.System.Stat(path)
}

// TestResizedMeanwhile: the server writes to its log after that was read, then puts
// another in its place, before the reader looks at the name. Nothing is lost, and
// where the name passed through a log that nobody read, that is an overrun.
func TestResizedMeanwhile(t *testing.T) {
	const first = innodb.LSN(1 << 20)
	var mtrs [3][]byte
	for i := range mtrs {
		mtrs[i] = innodbtest.MTR(innodbtest.MariaDBWrite(5, 3, 100, string(rune('a'+i))), 1)
	}
	second := first + innodb.LSN(len(mtrs[0]))
	third := second + innodb.LSN(len(mtrs[1]))
	end := third + innodb.LSN(len(mtrs[2]))
	newLog := func(path string, at innodb.LSN, content []byte) {
		head := mariadbredo.BackupHead(mariadbredo.Format108, mariadbredo.Checkpoint{LSN: at, End: at}, "test")
		whole := append(append(head, content...), make([]byte, 1<<20-len(content))...)
		if err := os.WriteFile(path, whole, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for name, written := range map[string][]byte{"written before": mtrs[1], "two logs later": nil} {
		dir := t.TempDir()
		path := filepath.Join(dir, logName)
		newLog(path, first, mtrs[0])
		system := &meanwhile{System: disk.OS}
		l, err := openMariaDB(system, path, nil)
		if err != nil {
			t.Fatal(err)
		}
		system.happens = func() {
			f, err := os.OpenFile(path, os.O_WRONLY, 0)
			if err == nil {
				_, err = f.WriteAt(written, mariadbredo.Format108.Facts().HeaderSize+int64(second-first))
			}
			if err := errors.Join(err, f.Close(), os.Remove(path)); err != nil {
				t.Fatal(err)
			}
			newLog(path, third, mtrs[2])
		}
		var read []byte
		for tries := 0; err == nil && l.cutter.End() < end && tries < 10; tries++ {
			var got reading
			got, err = l.next(end)
			read = append(read, got.bytes...)
		}
		overrun, isOverrun := errors.AsType[*OverrunError](err)
		switch {
		case written == nil:
			if !isOverrun || overrun.Read != second || overrun.Now != third {
				t.Errorf("%s: %v", name, err)
			}
		case err != nil || !bytes.Equal(read, bytes.Join(mtrs[:], nil)):
			t.Errorf("%s: read %x, %v", name, read, err)
		}
		if err := l.close(); err != nil {
			t.Error(err)
		}
	}
}
