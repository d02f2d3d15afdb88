package sink

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path"
	"slices"
	"strings"
	"sync"

	"hb/sink/overlay"
	"hb/sink/replay"
	"hb/sink/replay/mariadb"
	"hb/sink/replay/mysql"
	"hb/source/innodb"
	"hb/stream/disk"
	"hb/xbstream/metadata"
)

// VerifyDir checks a directory as Verify does an archive: one that a backup was
// extracted into, hb's or another tool's, or one that was recovered since, of
// which every page must be whole and none newer than the recovery. It changes
// nothing. A directory that cannot be verified, as an extraction or recovery
// was not finished in it or a server runs on it, is a *NotBackupError.
func VerifyDir(ctx context.Context, dir string, o VerifyOptions) (_ *VerifyResult, err error) {
	tmp, err := o.open()
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, tmp.Close()) }()
	root, err := openBackup(disk.OS, dir)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, root.Close()) }()
	v := &dirVerifier{VerifyOptions: o, root: root, tmp: tmp}
	if err := v.run(ctx); err != nil {
		return nil, err
	}
	return &v.result, nil
}

// openBackup opens a directory that must be there.
func openBackup(system disk.System, dir string) (disk.Dir, error) {
	root, err := system.OpenDir(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, &NotBackupError{dir, "there is no such directory"}
	}
	if err != nil {
		return nil, fmt.Errorf("opening the backup directory: %w", err)
	}
	return root, nil
}

// dirVerifier verifies a directory.
type dirVerifier struct {
	VerifyOptions
	root   disk.Dir
	tmp    disk.Dir
	backup *backupDir
	listed map[string]metadata.File // by the manifest; nil: there is none
	files  []*dirFile
	empty  []string // directories without any
	sum    pageSum
	result VerifyResult
	// handed: it was made ready for recovery by the server, and has the log of
	// the backup. Its files are those of a recovered directory.
	handed bool

	mu sync.Mutex // of the warnings, while files are read
}

func (v *dirVerifier) run(ctx context.Context) (err error) {
	a := &applier{ApplyOptions: v.applyOptions(), dir: v.root.Name(), root: v.root}
	if err := a.open(); err != nil {
		return err
	}
	v.backup = a.backup
	unlock, err := lockSystemTablespace(v.root, v.backup.systemFiles[0])
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, unlock()) }()
	if st, err := readState(v.root, ApplyingName, v.backup.flavor); err != nil {
		return err
	} else if st.Stage != "" || v.backup.held() {
		return &NotBackupError{v.root.Name(), "hb apply was begun in it, and is not finished: run hb apply again"}
	}
	lsn, applied, err := a.done()
	if err != nil {
		return err
	}
	if v.result.HandedOver, err = exists(v.root, HandedOverName); err != nil {
		return fmt.Errorf("looking for %s: %w", HandedOverName, err)
	}
	v.handed = v.result.HandedOver && a.family.keepsLog()
	v.result.Applied = applied && !v.handed
	if err := v.readAll(ctx); err != nil {
		return err
	}
	v.summarize()
	if v.result.Applied {
		return v.concludeApplied(ctx, a, lsn)
	}
	return v.conclude(ctx)
}

// readAll compares the directory with its manifest, and verifies all pages.
func (v *dirVerifier) readAll(ctx context.Context) error {
	var err error
	if v.files, v.empty, err = listFiles(v.root); err != nil {
		return err
	}
	if v.backup.own {
		if v.listed, err = manifestOf(v.root); err != nil {
			return err
		}
	} else {
		v.warn("this backup was not made by hb: that no file is missing from it cannot be proven")
	}
	switch {
	case v.listed == nil:
	case v.result.Applied || v.handed:
		err = v.matchApplied()
	default:
		err = matchManifest(v.root, v.files, v.empty, v.listed)
	}
	if err != nil {
		return err
	}
	if err := v.choosePages(); err != nil {
		return err
	}
	if err := readFiles(ctx, v.root, v.files, v.Parallel, v.Progress); err != nil {
		return err
	}
	return matchContent(v.files, v.listed)
}

func (v *dirVerifier) warn(format string, args ...any) {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.result.Warnings = append(v.result.Warnings, fmt.Sprintf(format, args...))
}

// matchApplied makes sure that nothing is missing from a directory that was
// recovered, and leaves in the manifest only what recovery does not change.
func (v *dirVerifier) matchApplied() error {
	found := make(map[string]int64, len(v.files))
	for _, f := range v.files {
		found[f.path] = f.size
	}
	unchanged := make(map[string]metadata.File)
	for name, want := range v.listed {
		size, ok := found[name]
		switch v.recoveryMay(name) {
		case mayRemove:
		case mayChange:
			if !ok {
				return missing("%s is missing, which the backup held and recovery left", name)
			}
		default:
			unchanged[name] = want
			if !ok {
				return missing("%s is missing: it is in the manifest", name)
			}
			if size != want.Size {
				return &DamageError{name, fmt.Errorf("it has %d bytes, %d by the manifest: it is damaged, or a server has run on it", size, want.Size)}
			}
		}
	}
	v.listed = unchanged
	return nil
}

// What recovery does to a file of a backup.
const (
	mayNothing = iota
	mayChange
	mayRemove
)

func (v *dirVerifier) recoveryMay(name string) int {
	base, ext := strings.TrimSuffix(name, path.Ext(name)), path.Ext(name)
	switch {
	case v.handed && name == mariadb.LogName:
		return mayNothing
	case name == mariadb.LogName || name == mysql.LogName || ext == extDelete || ext == extRename || ext == ".isl":
		return mayRemove
	case name == v.backup.checkpointsName || slices.Contains(v.backup.systemFiles, name):
		return mayChange
	case ext == extTable:
		for _, fixup := range []string{extDelete, extRename} {
			if _, ok := v.listed[base+fixup]; ok {
				return mayRemove
			}
		}
		return mayChange
	case tablespaceName.MatchString(name):
		return mayChange
	}
	return mayNothing
}

// choosePages says by what the pages of each file are verified.
func (v *dirVerifier) choosePages() error {
	system, err := v.backup.systemSpace(v.root)
	if err != nil {
		return err
	}
	for _, f := range v.files {
		if i := slices.Index(v.backup.systemFiles, f.path); i >= 0 {
			f.pages = &checkedFile{File: system[i], name: f.path, sum: &v.sum}
		} else if tablespaceName.MatchString(f.path) {
			f.learn = v.learn
		}
	}
	return nil
}

// learn finds out what a tablespace's file is.
func (v *dirVerifier) learn(f *dirFile, file disk.File) error {
	first := make([]byte, min(f.size, innodb.MaxPageSize))
	if _, err := file.ReadAt(first, 0); err != nil && err != io.EOF {
		return fmt.Errorf("reading %s: %w", f.path, err)
	}
	feed := &pageFeed{checkedFile: checkedFile{name: f.path, sum: &v.sum}, foreign: !v.backup.own}
	if err := feed.identify(first); err != nil {
		return err
	}
	switch feed.state {
	case isSpace:
		f.pages = &feed.checkedFile
	case isZero:
		if v.result.Applied {
			return &DamageError{f.path, errors.New("page 0 was never written")}
		}
		f.zero = v.backup.own
	case unfit:
		if v.backup.own {
			return &DamageError{f.path, feed.why}
		}
		v.warn("the pages of %s cannot be verified: %v", f.path, feed.why)
	}
	return nil
}

func (v *dirVerifier) summarize() {
	r := &v.result
	r.Archive, r.Manifest, r.Foreign, r.Pages = v.backup.archive, v.backup.manifest, !v.backup.own, v.sum.pages
	for _, f := range v.files {
		r.Files++
		r.Bytes += f.size
	}
}

// conclude looks at a backup that was not recovered as recovery would.
func (v *dirVerifier) conclude(ctx context.Context) (err error) {
	dir := overlay.New(v.root.Name(), v.tmp)
	defer func() { err = errors.Join(err, dir.Discard()) }()
	for _, name := range v.empty {
		if err := dir.MkdirAll(name, dirMode); err != nil {
			return err
		}
	}
	for _, f := range v.files {
		if f.path == HandedOverName {
			continue
		}
		if err := dir.Add(f.path, f.size, func() (overlay.Content, error) { return v.root.Open(f.path) }); err != nil {
			return err
		}
	}
	if err := v.rehearse(ctx, dir, &v.result); err != nil || !v.backup.own {
		return err
	}
	return v.sum.checkNewest(v.result.LSN)
}

// concludeApplied looks at a backup that was recovered.
func (v *dirVerifier) concludeApplied(ctx context.Context, a *applier, lsn innodb.LSN) error {
	if err := a.family.checkApplied(lsn); err != nil {
		return err
	}
	if _, err := findTablespaces(v.root, v.backup, a.family.rules(), new(replay.Files)); err != nil {
		return badBackup(ctx, err)
	}
	if err := v.sum.checkNewest(lsn); err != nil {
		return fmt.Errorf("%w: it is damaged, or a server has run on it since", err)
	}
	v.result.LSN = lsn
	if v.result.HandedOver {
		v.warn("a server is to recover it, from a redo log that was made for it and cannot be verified")
	} else if v.Replay {
		v.warn("it was recovered before: there is no recovery to rehearse")
	}
	return nil
}

// applyOptions are those of the recovery that is looked at.
func (o *VerifyOptions) applyOptions() ApplyOptions {
	return ApplyOptions{Parallel: o.Parallel, Memory: o.Memory, Tool: "hb verify", Progress: o.Progress}
}

// rehearse does on dir what recovery does: all of it, or all but to recover
// pages.
func (o *VerifyOptions) rehearse(ctx context.Context, dir *overlay.Dir, r *VerifyResult) error {
	a := &applier{ApplyOptions: o.applyOptions(), dir: dir.Name(), root: dir, verified: true}
	var end innodb.LSN
	var err error
	if o.Replay {
		err = a.run(ctx)
		end = a.result.LSN
		if err == nil && a.result.AlreadyApplied {
			err = a.recoveredBefore()
		}
	} else {
		end, err = a.survey(ctx)
	}
	if err != nil {
		return badBackup(ctx, err)
	}
	r.FromLSN, r.LSN, r.MTRs = a.result.FromLSN, end, a.result.MTRs
	r.Replayed, r.Recovered = o.Replay, a.result.Pages
	r.Temporary += dir.Written()
	r.Warnings = slices.Concat(r.Warnings, a.result.Warnings)
	return nil
}

// systemSpace returns the files of the system tablespace in order, as their
// pages are to be verified.
func (b *backupDir) systemSpace(root disk.Dir) ([]innodb.File, error) {
	name := b.systemFiles[0]
	space, err := readSpace(root, name)
	if err == nil && space.ID != 0 {
		err = fmt.Errorf("it is tablespace %d", space.ID)
	}
	if err != nil {
		return nil, &DamageError{name, fmt.Errorf("page 0: %w", err)}
	}
	trxSys, err := readPage(root, name, &space, innodb.TrxSysPage)
	if err != nil {
		return nil, err
	}
	if _, err := space.Verify(trxSys, innodb.TrxSysPage); err != nil {
		return nil, &DamageError{name, err}
	}
	area := space.DoublewriteArea(trxSys)
	var files []innodb.File
	var pages int64
	for _, name := range b.systemFiles {
		st, err := root.Stat(name)
		if err != nil {
			return nil, fmt.Errorf("looking at the system tablespace: %w", err)
		}
		files = append(files, innodb.File{Space: space, First: innodb.PageNo(pages), Exempt: area})
		pages += st.Size() / int64(space.Physical)
	}
	return files, nil
}

// readPage reads a page of a tablespace's first file.
func readPage(root disk.Dir, name string, space *innodb.Space, no innodb.PageNo) ([]byte, error) {
	f, err := root.Open(name)
	if err != nil {
		return nil, fmt.Errorf("opening a tablespace: %w", err)
	}
	page := make([]byte, space.Physical)
	_, err = f.ReadAt(page, int64(no)*int64(space.Physical))
	if err == io.EOF {
		err = io.ErrUnexpectedEOF
	}
	if err := errors.Join(err, f.Close()); err != nil {
		return nil, fmt.Errorf("reading page %d of %s: %w", no, name, err)
	}
	return page, nil
}
