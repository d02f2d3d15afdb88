package apply

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"hb/sink/backupdir"
	"hb/stream/disk"
	"hb/xbstream/metadata"
)

// A BinlogPlaceError says that Run does not know where the restored server keeps
// its binary log.
type BinlogPlaceError struct {
	Base string // where the backed up server had it
	Name string // of its files
}

func (e *BinlogPlaceError) Error() string {
	return fmt.Sprintf("the server that this backup is of had its binary log outside of the data directory, at %s. A restored server needs the end of it, "+
		"which is in the backup, to know which prepared transactions are committed and which GTIDs were executed. Say what log_bin of the restored server is: "+
		"--log-bin=%[1]s if it is the same, --log-bin=%s if it is to be in the data directory", e.Base, e.Name)
}

// binlogFile is a file of the binary log that a restored server looks for.
type binlogFile struct {
	path    string
	content string // "": that of the file of that name in the backup
}

// findBinlogFiles returns where a server with that log_bin looks for its binary log's
// file and for its index; relative paths are in its data directory, at datadir. The
// server leaves out what follows the last dot of log_bin.
func findBinlogFiles(logBin, datadir, file string) []binlogFile {
	base := strings.TrimSuffix(logBin, filepath.Ext(logBin))
	at := base
	if !filepath.IsAbs(at) {
		at = filepath.Join(datadir, at)
	}
	// In its index a server writes the directory of log_bin before the name.
	entry := "./" + file
	if dir := filepath.Dir(base); dir != "." {
		entry = filepath.Join(dir, file)
	}
	return []binlogFile{{path: filepath.Join(filepath.Dir(at), file)}, {indexOf(at), entry + "\n"}}
}

// indexOf is where a server has the index of its binary log, unless log_bin_index says
// another place.
func indexOf(base string) string { return base + ".index" }

// binlogPlace is where the binary log of a backup goes, if it goes out of the directory.
type binlogPlace struct {
	system disk.System
	root   disk.Dir // of the backup
	files  []binlogFile
	// aside: files of a server that is stopped, in whose place the directory comes, are
	// set aside. Its later files, which the new index does not name, stay.
	aside bool
	warn  func(text string)
}

// findBinlog finds out where the binary log that came with a backup belongs, before
// anything is changed. A file that is there already, and is not the same, belongs to
// somebody.
func (a *applier) findBinlog() error {
	if a.verified { // changes are thrown away: no server will look for it
		return nil
	}
	m := a.backup.Manifest
	if m == nil || m.Binlog == nil || m.Binlog.File == "" || m.BinlogHome == nil && a.LogBin == "" {
		return nil
	}
	file := m.Binlog.File
	if filepath.Base(file) != file || !filepath.IsLocal(file) {
		return &backupdir.DamageError{File: metadata.ManifestName, Err: fmt.Errorf("the binary log file is called %.60q", file)}
	}
	switch there, err := backupdir.Exists(a.root, file); {
	case err != nil:
		return fmt.Errorf("looking for the binary log: %w", err)
	case !there:
		return nil // 5.6 and 5.7 need none
	case a.LogBin == "" && a.InPlace && m.BinlogHome.Index == indexOf(m.BinlogHome.Base):
		a.LogBin = m.BinlogHome.Base // the directory takes the place of the server's
	case a.LogBin == "":
		return &BinlogPlaceError{Base: m.BinlogHome.Base, Name: filepath.Base(m.BinlogHome.Base)}
	}
	datadir, err := filepath.Abs(a.dir)
	if err != nil {
		return err
	}
	warn := func(text string) { a.result.Warnings = append(a.result.Warnings, text) }
	a.binlog = binlogPlace{a.System, a.root, findBinlogFiles(a.LogBin, datadir, file), a.InPlace, warn}
	if m.BinlogHome != nil && filepath.Dir(m.BinlogHome.Index) != filepath.Dir(m.BinlogHome.Base) {
		a.result.Warnings = append(a.result.Warnings, fmt.Sprintf("the server that the backup is of had log_bin_index at %s; the binary log's index is now %s: "+
			"the restored server must have it there, or log_bin_index say so", m.BinlogHome.Index, a.binlog.files[1].path))
	}
	for _, f := range a.binlog.files {
		if _, err := a.binlog.has(f); err != nil {
			return err
		}
	}
	return nil
}

// fill puts the binary log where the restored server looks for it. Called again it
// changes nothing.
func (p *binlogPlace) fill() error {
	for _, f := range p.files {
		if done, err := p.has(f); done || err != nil {
			if err != nil {
				return err
			}
			continue
		}
		if err := p.put(f); err != nil {
			return fmt.Errorf("putting the binary log to %s: %w", f.path, err)
		}
	}
	return nil
}

// contentOf opens the content for a file.
func (p *binlogPlace) contentOf(f binlogFile) (io.ReaderAt, func() error, error) {
	if f.content != "" {
		return strings.NewReader(f.content), func() error { return nil }, nil
	}
	own, err := p.root.Open(filepath.Base(f.path))
	if err != nil {
		return nil, nil, fmt.Errorf("opening the binary log: %w", err)
	}
	return own, own.Close, nil
}

// has reports whether a file is where it belongs.
func (p *binlogPlace) has(f binlogFile) (done bool, err error) {
	dir, err := p.system.OpenDir(filepath.Dir(f.path))
	if errors.Is(err, fs.ErrNotExist) {
		return false, &backupdir.TargetError{Dir: filepath.Dir(f.path), Reason: "it is to hold the restored server's binary log (--log-bin), and does not exist: make it, for the server's user"}
	}
	if err != nil {
		return false, fmt.Errorf("opening the directory of the binary log: %w", err)
	}
	defer func() { err = errors.Join(err, dir.Close()) }()
	old, err := dir.Open(filepath.Base(f.path))
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("looking for the binary log: %w", err)
	}
	defer func() { err = errors.Join(err, old.Close()) }()
	content, end, err := p.contentOf(f)
	if err != nil {
		return false, err
	}
	defer func() { err = errors.Join(err, end()) }()
	same, err := sameContents(old, content)
	switch {
	case err != nil || same:
	case p.aside:
		err = checkAsideName(dir, f.path)
	default:
		err = &backupdir.TargetError{Dir: filepath.Dir(f.path), Reason: fmt.Sprintf("it has another %s already, of this or of another server: move those binary logs and their index away", filepath.Base(f.path))}
	}
	return same, err
}

// put makes a file, durably.
func (p *binlogPlace) put(f binlogFile) (err error) {
	dir, err := p.system.OpenDir(filepath.Dir(f.path))
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, dir.Close()) }()
	if err := p.setAside(dir, f.path); err != nil {
		return err
	}
	content, end, err := p.contentOf(f)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, end()) }()
	return writeNew(dir, filepath.Base(f.path), content)
}

// setAside renames a file of the old server's binary log, if it is there.
func (p *binlogPlace) setAside(dir disk.Dir, file string) error {
	if !p.aside {
		return nil
	}
	if there, err := backupdir.Exists(dir, filepath.Base(file)); !there || err != nil {
		return err
	}
	if err := renameAside(dir, file); err != nil {
		return fmt.Errorf("setting it aside: %w", err)
	}
	p.warn(fmt.Sprintf("set aside %s of the old server: it is %s now", file, file+asideSuffix))
	return nil
}

// writeNew writes a file under another name, gives it the owner of its directory,
// and renames it when it is durable.
func writeNew(dir disk.Dir, name string, content io.ReaderAt) error {
	like, err := dir.Stat(".")
	if err != nil {
		return err
	}
	f, err := dir.OpenFile(name+backupdir.ExtTemporary, os.O_WRONLY|os.O_CREATE|os.O_TRUNC|backupdir.NoFollow, 0o640)
	if err != nil {
		return err
	}
	_, err = io.Copy(f, io.NewSectionReader(content, 0, 1<<62))
	if err == nil {
		err = errors.Join(backupdir.SameOwner(f, like), f.Sync())
	}
	if err = errors.Join(err, f.Close()); err != nil {
		return err
	}
	if err := dir.Rename(name+backupdir.ExtTemporary, name); err != nil {
		return err
	}
	return disk.SyncDir(dir, ".")
}

// sameContents compares two files.
func sameContents(a, b io.ReaderAt) (bool, error) {
	x, y := make([]byte, 64<<10), make([]byte, 64<<10)
	for at := int64(0); ; {
		n, errX := a.ReadAt(x, at)
		m, errY := b.ReadAt(y, at)
		for _, err := range []error{errX, errY} {
			if err != nil && err != io.EOF {
				return false, err
			}
		}
		if n != m || !bytes.Equal(x[:n], y[:m]) {
			return false, nil
		}
		if n == 0 {
			return true, nil
		}
		at += int64(n)
	}
}
