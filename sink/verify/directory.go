package verify

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"path"
	"slices"
	"strings"
	"sync"

	"hb/sink/apply"
	"hb/sink/backupdir"
	"hb/sink/replay/mariadb"
	"hb/sink/replay/mysql/scan"
	"hb/sink/verify/overlay"
	"hb/stream/disk"
	"hb/xbstream/innodb"
	"hb/xbstream/innodb/tde"
	"hb/xbstream/keyring"
	"hb/xbstream/metadata"
)

// Directory checks a directory as Archive does an archive: one that a backup was
// extracted into, hb's or another tool's, or one that was recovered since, of
// which every page must be whole and none newer than the recovery. It changes
// nothing. A directory that cannot be verified, as an extraction or recovery
// was not finished in it or a server runs on it, is a *NotBackupError.
func Directory(ctx context.Context, dir string, o Options) (_ *Result, err error) {
	tmp, err := o.open()
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, tmp.Close()) }()
	root, err := backupdir.Open(disk.OS, dir)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, root.Close()) }()
	v := &dirVerifier{Options: o, root: root, tmp: tmp}
	if err := v.run(ctx); err != nil {
		return nil, err
	}
	return &v.result, nil
}

// dirVerifier verifies a directory.
type dirVerifier struct {
	Options
	root   disk.Dir
	tmp    disk.Dir
	backup *backupdir.Backup
	listed map[string]metadata.File // by the manifest; nil: without one
	left   *backupdir.Applied       // what apply noted that it left; nil: nothing
	files  []*backupdir.File
	empty  []string // directories without any
	sum    backupdir.PageSum
	result Result
	// handed: it was made ready for recovery by the server, and has the log of
	// the backup. Its files are those of a recovered directory.
	handed bool

	mu sync.Mutex // of the result, while files are read
}

func (v *dirVerifier) run(ctx context.Context) (err error) {
	look, err := apply.Inspect(v.root, v.applyOptions())
	if err != nil {
		return err
	}
	v.backup = look.Backup()
	if keys := look.Keys(); !keys.None() {
		v.Keys = keys
	}
	unlock, err := backupdir.LockSystem(v.root, v.backup.SystemFiles[0])
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, unlock()) }()
	if st, err := backupdir.ReadState(v.root, backupdir.ApplyingName, v.backup.Flavor); err != nil {
		return err
	} else if st.Stage != "" || v.backup.Held() {
		return &backupdir.NotBackupError{Dir: v.root.Name(), What: "hb apply was begun in it, and is not finished: run hb apply again"}
	}
	lsn, applied, err := look.Recovered()
	if err != nil {
		return err
	}
	if v.result.hasKeys, err = backupdir.Exists(v.root, keyring.SealedName); err != nil {
		return err
	}
	if v.result.HandedOver, err = backupdir.Exists(v.root, backupdir.HandedOverName); err != nil {
		return fmt.Errorf("looking for %s: %w", backupdir.HandedOverName, err)
	}
	v.handed = v.result.HandedOver && look.KeepsLog()
	v.result.Applied = applied && !v.handed
	if err := v.checkUnused(look); err != nil {
		return err
	}
	if err := v.readAll(ctx); err != nil {
		return err
	}
	v.summarize()
	if v.result.Applied {
		return v.concludeApplied(ctx, look, lsn)
	}
	return v.conclude(ctx)
}

// checkUnused makes sure that no server has run on a recovered directory: nothing
// says any longer what belongs there, and the server makes sure of it itself.
func (v *dirVerifier) checkUnused(look *apply.Inspection) error {
	if !v.result.Applied || v.result.HandedOver {
		return nil
	}
	var err error
	if v.left, err = backupdir.ReadApplied(v.root); v.left == nil || err != nil {
		return err
	}
	same, err := v.left.SameLog(v.root)
	if err != nil {
		return fmt.Errorf("comparing the redo log with %s: %w", backupdir.AppliedName, err)
	}
	lsn := v.left.Lsn
	if !v.left.HasLog() {
		lsn = 0 // any log is a server's
	}
	if same || !look.RanSince(lsn) {
		return nil
	}
	return &backupdir.NotBackupError{Dir: v.root.Name(), What: fmt.Sprintf("a server has run on it since hb apply recovered it: its redo log is newer than LSN %d; it is no longer as hb left it, and hb has nothing to compare it with", v.left.Lsn)}
}

// readAll compares the directory with its manifest, and verifies all pages. Where files
// are missing or damaged, the error tells of all of them.
func (v *dirVerifier) readAll(ctx context.Context) error {
	var err error
	if v.files, v.empty, err = backupdir.ListFiles(v.root, ""); err != nil {
		return err
	}
	if v.backup.Own {
		if v.listed, err = backupdir.ReadManifest(v.root); err != nil {
			return err
		}
	} else {
		v.warn("this backup was not made by hb: that no file is missing from it cannot be proven")
	}
	if v.left != nil {
		err = v.left.Match(v.files)
	}
	switch {
	case v.listed == nil:
	case v.result.Applied || v.handed: // what recovery left tells more than what it found
		err = cmp.Or(err, v.matchApplied())
	default:
		err = cmp.Or(err, backupdir.MatchManifest(v.root, v.files, v.empty, v.listed))
	}
	if err != nil && !backupdir.OfContent(err) {
		return err
	}
	if chosen := v.choosePages(); chosen != nil {
		return cmp.Or(err, chosen)
	}
	err = errors.Join(err, backupdir.ReadFiles(ctx, v.root, v.files, v.Parallel, v.Progress))
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	if v.left != nil {
		err = errors.Join(err, v.left.MatchContent(v.files))
	}
	return errors.Join(err, backupdir.MatchContent(v.files, v.listed))
}

func (v *dirVerifier) warn(format string, args ...any) {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.result.Warnings = append(v.result.Warnings, fmt.Sprintf(format, args...))
}

// matchApplied makes sure that nothing is missing from a directory that was
// recovered, and leaves in the manifest only what recovery does not change.
func (v *dirVerifier) matchApplied() error {
	var wrong backupdir.Faults
	found := make(map[string]*backupdir.File, len(v.files))
	for _, f := range v.files {
		found[f.Path] = f
	}
	unchanged := make(map[string]metadata.File)
	for _, name := range slices.Sorted(maps.Keys(v.listed)) {
		want, f := v.listed[name], found[name]
		switch v.recoveryMay(name) {
		case mayRemove:
		case mayChange:
			if f == nil {
				wrong.Add(backupdir.Missing("%s is missing, which the backup held and recovery left", name))
			}
		default:
			unchanged[name] = want
			if f == nil {
				wrong.Add(backupdir.Missing("%s is missing: it is in the manifest", name))
			} else if f.Size != want.Size {
				wrong.Of(f, &backupdir.DamageError{File: name, Err: fmt.Errorf("it has %d bytes, %d by the manifest: it is damaged, or a server has run on it", f.Size, want.Size)})
			}
		}
	}
	v.listed = unchanged
	return wrong.Err()
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
	case name == mariadb.LogName || name == scan.LogName || ext == backupdir.ExtDelete || ext == backupdir.ExtRename || ext == ".isl":
		return mayRemove
	case name == v.backup.CheckpointsName || slices.Contains(v.backup.SystemFiles, name):
		return mayChange
	case ext == backupdir.ExtTable:
		for _, fixup := range []string{backupdir.ExtDelete, backupdir.ExtRename} {
			if _, ok := v.listed[base+fixup]; ok {
				return mayRemove
			}
		}
		return mayChange
	case backupdir.TablespaceName.MatchString(name):
		return mayChange
	}
	return mayNothing
}

// choosePages chooses how the pages of each file are verified.
func (v *dirVerifier) choosePages() error {
	system, err := v.backup.SystemSpace(v.root)
	if err != nil {
		return err
	}
	var usage func() (*innodb.Usage, error)
	var unwritten []innodb.PageNo
	if v.result.Applied {
		if usage, unwritten, err = v.systemUsage(system); err != nil {
			return err
		}
		if v.left != nil {
			unwritten = append(unwritten, v.left.Files[v.backup.SystemFiles[0]].Unwritten...)
		}
	}
	for _, f := range v.files {
		if i := slices.Index(v.backup.SystemFiles, f.Path); i >= 0 {
			f.Pages = &backupdir.CheckedFile{File: system[i], Name: f.Path, Sum: &v.sum}
			f.Usage, f.Unused = usage, unwritten
			if system[i].Encrypted() {
				v.result.Encrypted = append(v.result.Encrypted, f.Path)
			}
		} else if backupdir.TablespaceName.MatchString(f.Path) {
			f.Learn = v.learn
			if v.left != nil {
				f.Unused = v.left.Files[f.Path].Unwritten
			}
		}
	}
	return nil
}

// learn finds out which tablespace a file is.
func (v *dirVerifier) learn(f *backupdir.File, file disk.File) error {
	first := make([]byte, min(f.Size, innodb.MaxPageSize))
	if _, err := file.ReadAt(first, 0); err != nil && err != io.EOF {
		return fmt.Errorf("reading %s: %w", f.Path, err)
	}
	feed := &backupdir.PageFeed{CheckedFile: backupdir.CheckedFile{Name: f.Path, Sum: &v.sum}, Foreign: !v.backup.Own, Keys: v.Keys}
	if err := feed.Identify(first); err != nil {
		return err
	}
	v.mu.Lock()
	v.result.noteEncrypted(f.Path, feed)
	v.mu.Unlock()
	switch feed.State {
	case backupdir.IsSpace:
		f.Pages = &feed.CheckedFile
		if v.result.Applied {
			f.Usage = func() (*innodb.Usage, error) {
				return innodb.NewUsage(&feed.Space, func(page []byte, no innodb.PageNo) error { return readAtPage(file, page, no) })
			}
		}
	case backupdir.IsZero:
		if v.result.Applied {
			return &backupdir.DamageError{File: f.Path, Err: errors.New("page 0 was never written")}
		}
		f.Zero = v.backup.Own
	case backupdir.Unfit:
		if v.backup.Own {
			return &backupdir.DamageError{File: f.Path, Err: feed.Why}
		}
		v.warn("the pages of %s cannot be verified: %v", f.Path, feed.Why)
	}
	return nil
}

// systemUsage returns a function for which pages of the system tablespace are in use, nil
// if hb lacks a key, and those of them that no server ever writes, or had not written yet.
func (v *dirVerifier) systemUsage(files []innodb.File) (usage func() (*innodb.Usage, error), unwritten []innodb.PageNo, err error) {
	read := func(page []byte, no innodb.PageNo) error {
		i := len(files) - 1
		for i > 0 && files[i].First > no {
			i--
		}
		found, err := backupdir.ReadPage(v.root, v.backup.SystemFiles[i], &files[i].Space, no-files[i].First)
		copy(page, found)
		return err
	}
	usage = func() (*innodb.Usage, error) { return innodb.NewUsage(&files[0].Space, read) }
	if len(files[0].Exempt) == 0 {
		return usage, nil, nil
	}
	space := files[0].Space
	if space.Cipher, err = tde.Open(&space, nil, v.Keys); err == nil {
		unwritten, err = space.NeverWritten(read)
	}
	if keyring.IsKeyError(err) {
		v.warn("hb did not look for pages of %s that were lost (that are zero, and in use): %v", v.backup.SystemFiles[0], err)
		return nil, nil, nil
	}
	if _, ok := errors.AsType[*innodb.PageError](err); ok {
		return usage, nil, nil // then all count
	}
	return usage, unwritten, err
}

// readAtPage reads a page of a tablespace of one file. What is past its end is
// zero.
func readAtPage(f disk.File, page []byte, no innodb.PageNo) error {
	n, err := f.ReadAt(page, int64(no)*int64(len(page)))
	if err == io.EOF {
		clear(page[n:])
		err = nil
	}
	return err
}

func (v *dirVerifier) summarize() {
	r := &v.result
	r.Archive, r.Manifest, r.Foreign = v.backup.Archive, v.backup.Manifest, !v.backup.Own
	r.keyed = !v.Keys.None()
	if text := r.count(&v.sum); text != "" {
		v.warn("%s", text)
	}
	for _, f := range v.files {
		r.Files++
		r.Bytes += f.Size
	}
}

// conclude looks at a backup that was not recovered as recovery would.
func (v *dirVerifier) conclude(ctx context.Context) (err error) {
	dir := overlay.New(v.root.Name(), v.tmp)
	defer func() { err = errors.Join(err, dir.Discard()) }()
	for _, name := range v.empty {
		if err := dir.MkdirAll(name, backupdir.DirMode); err != nil {
			return err
		}
	}
	for _, f := range v.files {
		if f.Path == backupdir.HandedOverName {
			continue
		}
		if err := dir.Add(f.Path, f.Size, func() (overlay.Content, error) { return v.root.Open(f.Path) }); err != nil {
			return err
		}
	}
	if err := v.rehearse(ctx, dir, &v.result); err != nil || !v.backup.Own {
		return err
	}
	return v.sum.CheckNewest(v.result.LSN)
}

// concludeApplied looks at a backup that was recovered.
func (v *dirVerifier) concludeApplied(ctx context.Context, look *apply.Inspection, lsn innodb.LSN) error {
	if err := look.CheckRecovered(ctx, lsn); err != nil {
		return err
	}
	if err := v.sum.CheckNewest(lsn); err != nil {
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
