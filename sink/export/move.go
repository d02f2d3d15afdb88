package export

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"path"

	"hb/sink/backupdir"
	"hb/stream/disk"
	"hb/xbstream/innodb"
)

// place puts a file of the directory into another one, and returns how many bytes it has.
func (d *Directory) place(name string, to disk.Dir) (n int64, err error) {
	fail := func(err error) (int64, error) { return n, fmt.Errorf("moving %s: %w", name, err) }
	temporary := name + backupdir.ExtTemporary
	if err := to.Rename(path.Join(d.below, name), temporary); err != nil {
		return fail(err)
	}
	f, err := to.OpenFile(temporary, os.O_RDWR|backupdir.NoFollow, 0)
	if err != nil {
		return fail(err)
	}
	st, err := f.Stat()
	if err == nil {
		n = st.Size()
	}
	if err == nil && path.Ext(name) == backupdir.ExtTable {
		err = d.changeHead(f)
	}
	if err == nil {
		err = f.Sync()
	}
	if err = errors.Join(err, f.Close()); err != nil {
		return fail(err)
	}
	return n, to.Rename(temporary, name)
}

// changeHead does to page 0 of a tablespace what forgetDataDir does.
func (d *Directory) changeHead(f disk.File) error {
	head := make([]byte, innodb.MaxPageSize)
	n, err := f.ReadAt(head, 0)
	if err != nil && err != io.EOF {
		return err
	}
	was := bytes.Clone(head[:n])
	if err := d.forgetDataDir(head[:n]); err != nil || bytes.Equal(was, head[:n]) {
		return err
	}
	_, err = f.WriteAt(head[:n], 0)
	return err
}
