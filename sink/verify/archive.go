// Package verify finds out whether an archive or a directory is a good backup, and
// changes neither: an archive or a directory comes in, and a verdict comes out. It
// reads all of it, verifies every page, and does on an overlay what recovery does.
package verify

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"path"
	"runtime"
	"slices"
	"strings"
	"sync"
	"time"

	"filippo.io/age"

	"hb/sink/apply"
	"hb/sink/backupdir"
	"hb/sink/catalog"
	"hb/sink/replay/mariadb"
	"hb/sink/replay/mysql/scan"
	"hb/sink/verify/overlay"
	"hb/stream"
	"hb/stream/disk"
	"hb/stream/progress"
	"hb/xbstream"
	"hb/xbstream/innodb"
	"hb/xbstream/keyring"
	"hb/xbstream/metadata"
)

// Options adjusts Archive and Directory. The zero value is useful.
type Options struct {
	// Parallel is how many goroutines verify pages; 0: one for each
	// processor, at most 8.
	Parallel int `type:"count" help:"Number of workers (default: processors, at most 8)." placeholder:"N"`
	// Memory is about how many bytes the records of the redo log may take;
	// 0: DefaultMemory.
	Memory int64 `type:"size" help:"Memory for redo records (default 256MiB); more records are sorted on disk." placeholder:"SIZE"`
	// Tmpdir is where temporary files without a name are made: for the redo
	// log of an archive, and what Replay needs; "": the system's place.
	Tmpdir string `help:"Directory for temporary files: the redo log of an archive, and what --replay writes (default: TMPDIR or /tmp)." placeholder:"DIR" type:"path"`
	// Replay rehearses recovery: the whole redo log is applied to the pages,
	// and the result thrown away. For that the pages of an archive are put into
	// a temporary file, unless At has them.
	Replay bool `help:"Rehearse hb apply and throw the result away. Needs space in --tmpdir for the pages that the redo log changes; for an archive from a pipe, or one that is compressed or encrypted, for all tablespaces."`

	// Keys are those of what is encrypted at rest; nil: there are none. Without them
	// the result may be partial.
	Keys *keyring.Keys `kong:"-"`
	// Identities open the keys that the backup itself has: those of a directory, and
	// those that the recovery of an archive needs, whose pages are verified before
	// they come. nil: only Keys are used.
	Identities func() ([]age.Identity, error) `kong:"-"`
	// At, of Archive, is the archive that is read, where it can be read anywhere
	// and has no stages; or nil.
	At io.ReaderAt `kong:"-"`
	// Progress counts what is done, except for the reading of an archive,
	// which its reader can count; nil: nobody looks.
	Progress *progress.Tracker `kong:"-"`
}

// Result describes a backup, and what was verified.
type Result struct {
	catalog.Summary              // of a directory: without Dialect
	Pages           int64        // verified
	Tally           innodb.Tally // of them, those without a checksum
	FromLSN         innodb.LSN
	LSN             innodb.LSN // the end of the redo, or of an applied directory
	MTRs            uint64     // mini-transactions in the redo
	// Increment: an incremental backup by itself, of which only the archive was verified.
	Increment bool
	Applied   bool // a directory that was recovered before
	// HandedOver: a directory that was made ready for recovery by the server.
	HandedOver bool
	Replayed   bool   // recovery was rehearsed
	Recovered  uint64 // pages, by that
	Temporary  int64  // bytes that were put into temporary files
	// Encrypted are the files of tablespaces that may have encrypted pages, sorted, as
	// the backup names them.
	Encrypted []string
	// SealedRedo is what key of the redo log was missing; nil: it was verified.
	SealedRedo *keyring.MissingKeyError
	hasKeys    bool // the backup has a keyring.SealedName
	keyed      bool // there were keys when pages were verified
}

// Describe describes in a few lines the backup, and the findings, in the
// time that it took.
func (r *Result) Describe(took time.Duration) string {
	found := fmt.Sprintf("; %d mini-transactions of redo, unbroken to LSN %d", r.MTRs, r.LSN)
	switch {
	case r.SealedRedo != nil:
		found = ""
	case r.Increment:
		return fmt.Sprintf("%s\nverified in %s: the archive of an incremental backup, for LSN %d to %d", r.Summary.Describe(), took, r.FromLSN, r.LSN)
	case r.Applied && r.HandedOver:
		found = fmt.Sprintf(", none newer than LSN %d, to which a server will recover it", r.LSN)
	case r.Applied:
		found = fmt.Sprintf(", none newer than LSN %d; it was recovered: a server can start", r.LSN)
	case r.Replayed:
		found = fmt.Sprintf("; hb apply was rehearsed to LSN %d, with %d pages written", r.LSN, r.Recovered)
	}
	return fmt.Sprintf("%s\nverified in %s: %d pages%s%s", r.Summary.Describe(), took, r.Pages-r.Tally.Sealed, found, r.describeEncrypted())
}

// Facts are the result for programs.
func (r *Result) Facts() []slog.Attr {
	facts := append(r.Size(), r.About()...)
	facts = append(facts, slog.Int64("pages", r.Pages-r.Tally.Sealed), slog.Bool("applied", r.Applied), slog.Bool("by_server", r.HandedOver),
		slog.Uint64("from_lsn", uint64(r.FromLSN)), slog.Uint64("last_lsn", uint64(r.LSN)))
	if r.Replayed {
		facts = append(facts, slog.Uint64("recovered_pages", r.Recovered))
	}
	return append(facts, r.factsEncrypted()...)
}

// Archive reads an archive, already without its stages, to its end, and checks
// all that can be known of it: what extract checks, every page of every
// tablespace, that the redo log runs unbroken from its checkpoint to the end
// that the backup states, and that no tablespace is missing that the redo log
// changes. It changes nothing.
//
// A fault of the archive is an error that extract returns, a
// *DamageError, or a *MissingError. Of an archive that hb did not make a
// warning in the result is something that cannot be proven.
func Archive(ctx context.Context, r io.Reader, o Options) (_ *Result, err error) {
	tmp, err := o.open()
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, tmp.Close()) }()
	v := newVerifier(ctx, tmp, o)
	defer func() { err = errors.Join(err, v.close()) }()
	if err := v.run(r); err != nil {
		return nil, err
	}
	return &v.result, nil
}

// open sets defaults, and opens the place for temporary files.
func (o *Options) open() (disk.Dir, error) {
	if o.Parallel <= 0 {
		o.Parallel = min(runtime.GOMAXPROCS(0), catalog.MaxWorkers)
	}
	o.Parallel = min(o.Parallel, catalog.MaxParallel)
	if o.Memory <= 0 {
		o.Memory = apply.DefaultMemory
	}
	dir, err := stream.TempDir(o.Tmpdir)
	if err != nil {
		return nil, err
	}
	tmp, err := disk.OS.OpenDir(dir)
	if err != nil {
		return nil, fmt.Errorf("opening the directory for temporary files: %w", err)
	}
	return tmp, nil
}

// verifier verifies an archive. One goroutine follows the archive, as in an
// extraction; several others verify pages.
type verifier struct {
	Options
	ctx     context.Context
	fail    context.CancelCauseFunc
	buffers *catalog.Buffers
	jobs    chan pageJob
	workers sync.WaitGroup
	pending sync.WaitGroup // jobs

	cat      *catalog.Catalog
	pageSize int // of the server; 0: not known yet
	sum      backupdir.PageSum
	files    map[string]*verifiedFile // that have not ended
	tops     map[string]*verifiedFile // in no directory, of pages perhaps, that have ended
	room     int                      // bytes that may be kept yet
	dir      *overlay.Dir             // what recovery would look at
	tmp      disk.Dir
	logs     []*spooled
	held     disk.File // the pages of all files, where they are not read from the archive
	heldSize int64
	spooled  int64 // bytes of redo in temporary files
	result   Result
}

// pageJob is pages to verify, in memory that is given back afterwards.
type pageJob struct {
	file   *backupdir.PageFeed
	data   []byte
	off    int64
	buffer []byte
}

// verifiedFile is a file of the archive.
type verifiedFile struct {
	fileKind
	backupdir.PageFeed
	content []byte          // kept
	log     *spooled        // redo
	held    *overlay.Pieces // pages, for a rehearsal
}

// fileKind is what a file is to recovery.
type fileKind uint8

const (
	kindOther fileKind = iota
	kindName           // that it is there matters
	kindPages          // it has pages: of a tablespace, or perhaps of the system tablespace
	kindKept           // it is small, and its content matters
	kindRedo
)

// What is kept of an archive, beside the memory for each file: metadata, fix-ups,
// and pieces of pages, in bytes. Peers' lists of tablespaces may have 64 MiB.
const maxKept = 128 << 20

// keptNames are the files that recovery reads.
var keptNames = []string{
	metadata.ArchiveName, metadata.ManifestName, metadata.MyCnfName, metadata.ExternalName, keyring.SealedName,
	metadata.XtraBackupNames.Checkpoints, metadata.MariaDBNames.Checkpoints,
	metadata.XtraBackupNames.Info, metadata.MariaDBNames.Info,
}

// kindOf recognises a file by its name. Files of the system tablespace can have any.
func kindOf(file string) fileKind {
	top := !strings.Contains(file, "/")
	ext := path.Ext(file)
	switch {
	case top && slices.Contains(keptNames, file), ext == backupdir.ExtRename:
		return kindKept
	case top && (file == mariadb.LogName || file == scan.LogName):
		return kindRedo
	case ext == backupdir.ExtDelete, ext == backupdir.ExtCorrupt, ext == backupdir.ExtSecond, ext == backupdir.ExtMoved, ext == ".delta", slices.Contains(backupdir.PackedExts, ext):
		return kindName
	case file == metadata.DefinitionsName:
		return kindOther
	case top || backupdir.TablespaceName.MatchString(file):
		return kindPages
	}
	return kindOther
}

func newVerifier(ctx context.Context, tmp disk.Dir, o Options) *verifier {
	ctx, cancel := context.WithCancelCause(ctx)
	v := &verifier{
		Options: o, ctx: ctx, fail: cancel, buffers: catalog.NewBuffers(ctx), jobs: make(chan pageJob, catalog.QueueLength),
		cat: catalog.New(), files: make(map[string]*verifiedFile), tops: make(map[string]*verifiedFile),
		room: maxKept, dir: overlay.New("the archive", tmp), tmp: tmp,
	}
	for range o.Parallel {
		v.workers.Go(v.work)
	}
	return v
}

// work verifies pages. After a failure it only gives the memory back.
func (v *verifier) work() {
	for j := range v.jobs {
		if v.ctx.Err() == nil {
			if err := j.file.Check(j.data, j.off); err != nil {
				v.fail(err)
			}
		}
		v.buffers.Put(j.buffer)
		v.pending.Done()
	}
}

// close frees the verification's resources.
func (v *verifier) close() error {
	v.fail(nil)
	err := v.dir.Discard()
	for _, log := range v.logs {
		err = errors.Join(err, log.f.Close())
	}
	if v.held != nil {
		err = errors.Join(err, v.held.Close())
	}
	return err
}

// run follows the archive, waits for the workers, and then looks at the whole.
func (v *verifier) run(r io.Reader) error {
	rd := xbstream.NewReader(r, xbstream.ReaderOptions{Alloc: v.buffers.Get})
	if err := v.follow(rd); err != nil {
		v.fail(v.cat.Explain(err))
	}
	close(v.jobs)
	v.workers.Wait()
	if err := context.Cause(v.ctx); err != nil {
		return err
	}
	warnings := v.result.Warnings
	v.result.Summary = *v.cat.Summary(rd)
	v.result.Warnings = append(v.result.Warnings, warnings...)
	return v.conclude()
}

func (v *verifier) follow(rd *xbstream.Reader) error {
	for {
		if v.ctx.Err() != nil {
			return context.Cause(v.ctx)
		}
		ch, err := rd.Next()
		if err == io.EOF {
			return v.cat.Finish()
		}
		if err != nil {
			return err
		}
		if _, err := v.cat.Add(ch); err != nil {
			return err
		}
		if err := v.chunk(ch, rd.Pos()); err != nil {
			return err
		}
	}
}

// chunk takes a chunk, which ends at a position in the archive. Its memory goes
// to a worker, or back.
func (v *verifier) chunk(ch *xbstream.Chunk, end int64) error {
	switch ch.Type {
	case xbstream.Rename, xbstream.Remove:
		return v.moveFiles(ch)
	}
	f := v.files[ch.Path]
	if ch.First {
		f = v.begin(ch.Path)
	}
	if err := v.hold(f, ch, end-int64(len(ch.Data))); err != nil {
		return err
	}
	sent := false
	send := func(data []byte, off int64) error {
		if f.Lenient && f.Hopeless() {
			return nil
		}
		if ch.Type != xbstream.Payload {
			return f.Check(data, off)
		}
		sent = true
		return v.send(pageJob{&f.PageFeed, data, off, ch.Data})
	}
	err := v.take(f, ch, send)
	if !sent {
		v.buffers.Put(ch.Data)
	}
	return err
}

// send hands pages to the workers.
func (v *verifier) send(j pageJob) error {
	v.pending.Add(1)
	select {
	case v.jobs <- j:
		return nil
	case <-v.ctx.Done():
		v.pending.Done()
		v.buffers.Put(j.buffer)
		return context.Cause(v.ctx)
	}
}

func (v *verifier) begin(file string) *verifiedFile {
	f := &verifiedFile{fileKind: kindOf(file)}
	f.Name, f.Lenient, f.Foreign, f.PageSize, f.Sum, f.Keys = file, !strings.Contains(file, "/"), !v.cat.Own, v.pageSize, &v.sum, v.Keys
	if f.Lenient {
		f.Sum = new(backupdir.PageSum)
	}
	if v.Replay && f.fileKind == kindPages {
		f.held = &overlay.Pieces{From: v.At}
	}
	v.files[file] = f
	return f
}

// take gives a file the bytes of a chunk.
func (v *verifier) take(f *verifiedFile, ch *xbstream.Chunk, send func(data []byte, off int64) error) error {
	switch {
	case ch.Type == xbstream.Seek:
		return nil // the payload that follows has its place
	case ch.Type == xbstream.End:
		return v.end(f, ch)
	case f.fileKind == kindRedo:
		return v.spool(f, ch)
	case f.fileKind == kindKept:
		return v.keep(f, ch)
	case f.fileKind != kindPages:
		return nil
	}
	f.Pages = send
	before := len(f.Carry) + len(f.Head)
	if err := catalog.EachExtent(ch, f.Feed); err != nil {
		return err
	}
	return v.grow(len(f.Carry) + len(f.Head) - before)
}

// hold remembers, for a rehearsal, where the chunk's pages are: in the archive at
// at, or in a temporary file.
func (v *verifier) hold(f *verifiedFile, ch *xbstream.Chunk, at int64) error {
	if f.held == nil {
		return nil
	}
	if v.At != nil {
		return catalog.EachExtent(ch, func(off int64, data []byte) error {
			f.held.Add(off, int64(len(data)), at)
			at += int64(len(data))
			return nil
		})
	}
	if v.held == nil {
		var err error
		if v.held, err = overlay.Temporary(v.tmp); err != nil {
			return fmt.Errorf("making a temporary file for pages: %w", err)
		}
	}
	f.held.From = v.held
	return catalog.EachExtent(ch, func(off int64, data []byte) error { return v.holdData(f, off, data) })
}

// holdData puts data of a file into the temporary file, except for empty pages.
func (v *verifier) holdData(f *verifiedFile, off int64, data []byte) error {
	for part := range catalog.DataRuns(off, data, cmp.Or(v.pageSize, catalog.DefaultPage)) {
		n := int64(part.To - part.From)
		if _, err := v.held.WriteAt(data[part.From:part.To], v.heldSize); err != nil {
			return fmt.Errorf("putting pages into %s: %w (give another place with --tmpdir)", v.tmp.Name(), err)
		}
		f.held.Add(off+int64(part.From), n, v.heldSize)
		v.heldSize += n
	}
	return nil
}

// grow notes that n more bytes are kept.
func (v *verifier) grow(n int) error {
	if v.room -= n; v.room < 0 {
		return fmt.Errorf("the archive's metadata, and the pages that are cut between its chunks, take more than %d bytes", maxKept)
	}
	return nil
}

// keep keeps the content of a small file.
func (v *verifier) keep(f *verifiedFile, ch *xbstream.Chunk) error {
	most := maxKept
	switch {
	case f.Name == metadata.ManifestName:
		most = metadata.MaxManifestHead + 1
	case path.Ext(f.Name) == backupdir.ExtRename:
		most = backupdir.MaxRenameFile + 1
	}
	n := min(len(ch.Data), most-len(f.content))
	if ch.Type != xbstream.Payload || ch.Offset != int64(len(f.content)) || n <= 0 {
		return nil
	}
	f.content = append(f.content, ch.Data[:n]...)
	return v.grow(n)
}

// end enters a file that has ended in the directory that recovery would see.
func (v *verifier) end(f *verifiedFile, ch *xbstream.Chunk) error {
	delete(v.files, f.Name)
	if f.Name == metadata.ArchiveName && v.cat.Archive != nil {
		v.pageSize = v.cat.Archive.PageSize
	}
	switch f.fileKind {
	case kindOther:
		return v.dir.MkdirAll(path.Dir(f.Name), backupdir.DirMode)
	case kindName:
		return v.dir.AddBytes(f.Name, 0, nil)
	case kindKept:
		return v.dir.AddBytes(f.Name, ch.Offset, f.content)
	case kindRedo:
		return v.dir.Add(f.Name, ch.Offset, f.log.open)
	}
	return v.endPages(f, ch.Offset)
}

// minSystemFile is less than any file of the system tablespace has, whose sizes
// are given in MiB. Sizes that are smaller in no directory are not remembered.
const minSystemFile = innodb.MaxPageSize

func (v *verifier) endPages(f *verifiedFile, size int64) error {
	before := len(f.Carry)
	f.Pages = f.Check
	if err := f.Feed(size, nil); err != nil {
		return err
	}
	if err := f.PageFeed.End(); err != nil {
		return err
	}
	if err := v.grow(-before); err != nil {
		return err
	}
	if v.pageSize == 0 && f.State == backupdir.IsSpace {
		v.pageSize = f.Logical
	}
	v.result.noteEncrypted(f.Name, &f.PageFeed)
	if f.Lenient && size < minSystemFile && !backupdir.TablespaceName.MatchString(f.Name) {
		return nil
	}
	if f.Lenient {
		v.tops[f.Name] = f
	} else if f.State == backupdir.Unfit {
		if err := v.unfit(&f.PageFeed); err != nil {
			return err
		}
	}
	if f.held != nil {
		return v.dir.Add(f.Name, size, func() (overlay.Content, error) { return f.held, nil })
	}
	return v.dir.AddBytes(f.Name, size, f.Head)
}

// unfit decides of a tablespace's file whose pages cannot be verified.
func (v *verifier) unfit(f *backupdir.PageFeed) error {
	if !f.Foreign {
		return &backupdir.DamageError{File: f.Name, Err: f.Why}
	}
	v.warn("the pages of %s cannot be verified: %v", f.Name, f.Why)
	return nil
}

func (v *verifier) warn(format string, args ...any) {
	v.result.Warnings = append(v.result.Warnings, fmt.Sprintf(format, args...))
}

// moveFiles carries out the renames and removals of MariaDB's archive, on files that
// have ended.
func (v *verifier) moveFiles(ch *xbstream.Chunk) error {
	v.pending.Wait()
	if ch.Type == xbstream.Rename {
		if f := v.tops[ch.Path]; f != nil {
			delete(v.tops, ch.Path)
			f.Name = ch.NewPath
			v.tops[ch.NewPath] = f
		}
		return v.ifThere(v.dir.Rename(ch.Path, ch.NewPath))
	}
	for _, file := range ch.Removed {
		delete(v.tops, file)
		if err := v.ifThere(v.dir.Remove(file)); err != nil {
			return err
		}
	}
	return nil
}

// ifThere passes over files that the directory does not have: those that do
// not matter.
func (v *verifier) ifThere(err error) error {
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}

// spooled is a redo log of an archive, in a temporary file.
type spooled struct {
	f disk.File
}

func (s *spooled) open() (overlay.Content, error) {
	if s == nil {
		return nil, nil
	}
	return lent{s.f}, nil
}

// lent is a file that another one closes.
type lent struct{ disk.File }

func (lent) Close() error { return nil }

// spool puts redo into a temporary file.
func (v *verifier) spool(f *verifiedFile, ch *xbstream.Chunk) error {
	if f.log == nil {
		file, err := overlay.Temporary(v.tmp)
		if err != nil {
			return fmt.Errorf("making a temporary file for the redo log: %w", err)
		}
		f.log = &spooled{file}
		v.logs = append(v.logs, f.log)
	}
	write := func(off int64, data []byte) error {
		if _, err := f.log.f.WriteAt(data, off); err != nil {
			return fmt.Errorf("putting the redo log into %s: %w (give another place with --tmpdir)", v.tmp.Name(), err)
		}
		v.spooled += int64(len(data))
		return nil
	}
	return catalog.EachExtent(ch, write)
}

// conclude looks at what came as recovery would.
func (v *verifier) conclude() error {
	if v.cat.Archive != nil && v.cat.Archive.Options.Incremental {
		return v.concludeIncrement()
	}
	backup, err := backupdir.Read(v.dir)
	if err == nil {
		err = v.judgeTops(backup)
	}
	if err != nil {
		return badArchive(v.ctx, err)
	}
	if err := v.rehearse(v.ctx, v.dir, &v.result); err != nil {
		return badArchive(v.ctx, err)
	}
	v.result.keyed = !v.Keys.None()
	if text := v.result.count(&v.sum); text != "" {
		v.warn("%s", text)
	}
	v.result.Temporary += v.heldSize + v.spooled
	if !v.cat.Own {
		return nil
	}
	return v.sum.CheckNewest(v.result.LSN)
}

// concludeIncrement: an incremental backup is what hb backup wrote, to the byte. What its
// pages come to depends on the backups that it builds on.
func (v *verifier) concludeIncrement() error {
	if v.Replay {
		return stream.AsUsage(errors.New("this is an incremental backup: hb verify --replay ARCHIVE INCREMENT... rehearses it together with those that it builds on"))
	}
	m := v.result.Manifest
	v.result.Increment, v.result.FromLSN, v.result.LSN = true, m.FromLSN, m.LastLSN
	v.warn("this is an incremental backup: it is complete, but only hb verify ARCHIVE INCREMENT... proves the chain, its pages and its redo log")
	return nil
}

// judgeTops decides of the files in no directory, now that it is known which of
// them are the system tablespace.
func (v *verifier) judgeTops(b *backupdir.Backup) error {
	system, err := b.SystemSpace(v.dir)
	if err != nil {
		return err
	}
	for i, name := range b.SystemFiles {
		if err := v.judgeSystem(v.tops[name], &system[i]); err != nil {
			return err
		}
	}
	for name, f := range v.tops {
		if !backupdir.TablespaceName.MatchString(name) || slices.Contains(b.SystemFiles, name) {
			continue
		}
		if err := v.judgeTop(f, nil); err != nil {
			return err
		}
	}
	return nil
}

// judgeSystem decides of a file of the system tablespace, which must be as
// stated.
func (v *verifier) judgeSystem(f *verifiedFile, want *innodb.File) error {
	switch {
	case f.State == backupdir.Guessing: // nothing in it was ever written
		return nil
	case f.State == backupdir.IsSpace && (f.First != want.First || f.ID != 0 || f.FullCRC32 != want.FullCRC32 || f.Physical != want.Physical):
		return &backupdir.DamageError{File: f.Name, Err: fmt.Errorf("it starts at page %d of tablespace %d, but should start at page %d of the system tablespace", f.First, f.ID, want.First)}
	}
	return v.judgeTop(f, want.Exempt)
}

// judgeTop decides of a tablespace's file in no directory.
func (v *verifier) judgeTop(f *verifiedFile, area []innodb.PageRange) error {
	switch {
	case f.State == backupdir.Unfit:
		return v.unfit(&f.PageFeed)
	case f.State == backupdir.IsSpace:
		if err := f.Judge(area); err != nil {
			return err
		}
	}
	v.sum.Add(f.Sum)
	return nil
}

// badArchive is backupdir.AsDamage for an archive.
func badArchive(ctx context.Context, err error) error {
	if no, ok := errors.AsType[*backupdir.NotBackupError](err); ok {
		return &backupdir.DamageError{Err: errors.New(no.What)}
	}
	return backupdir.AsDamage(ctx, err)
}
