package source

import (
	"context"
	"crypto/rand"
	"fmt"
	"io"
	"maps"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"hb/source/datadir"
	"hb/source/mysqld"
	"hb/source/mysqld/contents"
	"hb/source/mysqld/locks"
	"hb/xbstream"
	"hb/xbstream/metadata"
)

// sendArchiveHeader writes the archive's first file, which can be read without the
// rest.
func (b *backup) sendArchiveHeader() error {
	head := metadata.Archive{
		Version: metadata.ArchiveVersion, HBVersion: b.Options.ToolVersion,
		ServerFlavor: b.sequence.flavor, ServerVersion: b.Server.Version.Full,
		PageSize: b.PageSize, StartLSN: b.follower.Checkpoint().LSN,
		RedoFormat: b.follower.Format().String(), Created: b.started.UTC(),
		Options: b.Options.Stored,
	}
	text, err := head.Marshal()
	if err != nil {
		return err
	}
	if err := b.archive.put(metadata.ArchiveName, text); err != nil {
		return err
	}
	return b.archive.w.Cut()
}

// sendMetadata writes what describes the backup: the peers' files, and last the
// manifest, which proves that nothing is missing.
func (b *backup) sendMetadata(ctx context.Context) error {
	if err := b.sendFixups(); err != nil {
		return err
	}
	files, err := b.metadataFiles(ctx)
	if err != nil {
		return err
	}
	for _, f := range files {
		if err := b.archive.put(f.name, f.content); err != nil {
			return err
		}
	}
	return b.sendManifest()
}

// textFile is one metadata file.
type textFile struct {
	name    string
	content []byte
}

// metadataFiles makes the files that the peer of this server's release writes.
func (b *backup) metadataFiles(ctx context.Context) ([]textFile, error) {
	names := b.Server.Series.Files
	var out []textFile
	if b.at.Binlog != nil {
		text, err := b.at.Binlog.Marshal()
		if err != nil {
			return nil, err
		}
		out = append(out, textFile{names.BinlogInfo, text})
	}
	if text := b.at.Replica.FileText(); text != "" {
		out = append(out, textFile{names.SlaveInfo, []byte(text)})
	}
	if g := b.at.Galera; g != nil {
		text := []byte(g.FileText(b.Server.Series))
		out = append(out, textFile{names.GaleraInfo, text})
		if b.Server.Series.GaleraDomain {
			out = append(out, textFile{metadata.DonorGaleraInfoName, text})
		}
	}
	checkpoints := b.checkpoints()
	text, err := checkpoints.Marshal()
	if err != nil {
		return nil, err
	}
	out = append(out, textFile{names.Checkpoints, text})
	if text, err = b.myCnf(ctx); err != nil {
		return nil, err
	}
	out = append(out, textFile{metadata.MyCnfName, text})
	if text, err = b.info(); err != nil {
		return nil, err
	}
	out = append(out, textFile{names.Info, text})
	external := metadata.External{Spaces: b.family.externalSpaces(), System: b.Layout.System[0]}
	if len(external.Spaces) == 0 && !b.Server.Series.LogStatus {
		return out, nil
	}
	if text, err = external.Marshal(); err != nil {
		return nil, err
	}
	return append(out, textFile{metadata.ExternalName, text}), nil
}

// checkpoints has the fields that the release's own tool writes: see
// metadata.Checkpoints.
func (b *backup) checkpoints() metadata.Checkpoints {
	c := metadata.Checkpoints{BackupType: metadata.FullBackup, ToLSN: b.newest, LastLSN: b.at.LSN}
	zero := new(uint64)
	switch d := &b.Server.Series; {
	case d.RecoverBinlogInfo:
		c.RecoverBinlogInfo = zero
	case b.Server.Flavor == mysqld.MariaDB:
	case !d.LogStatus:
		c.Compact, c.RecoverBinlogInfo = zero, zero
	case b.Server.Version.AtLeast(8, 4):
		c.FlushedLSN, c.RedoMemory, c.RedoFrames = zero, zero, zero
	default:
		c.FlushedLSN = zero
	}
	return c
}

// cnfOptions are the options of backup-my.cnf that are the server's variables of the
// same names, if it has them.
var cnfOptions = []string{
	"innodb_checksum_algorithm", "innodb_log_checksums", "innodb_log_checksum_algorithm",
	"innodb_log_files_in_group", "innodb_log_file_size", "innodb_redo_log_capacity", "innodb_page_size", "innodb_log_block_size",
	"innodb_undo_tablespaces", "innodb_compression_level", "innodb_buffer_pool_filename",
	"server_id", "server_uuid", "lower_case_table_names",
}

// myCnf makes backup-my.cnf: what the peer's --prepare has to know.
func (b *backup) myCnf(ctx context.Context) ([]byte, error) {
	v := b.Server.Vars
	var cnf metadata.MyCnf
	cnf.Set("innodb_data_file_path", baseNames(v.DataFilePath()))
	cnf.Set("innodb_undo_directory", "./")
	for _, name := range cnfOptions {
		if v.Has(name) {
			cnf.Set(name, v.String(name))
		}
	}
	plugins, err := contents.Plugins(ctx, b.Server)
	if err != nil {
		return nil, err
	}
	var load []string
	for _, p := range contents.ProviderPlugins(plugins) {
		load = append(load, p.Name+"="+p.Library)
	}
	if len(load) > 0 {
		cnf.Set("plugin_dir", v.String("plugin_dir"))
		cnf.Set("plugin_load", strings.Join(load, ";"))
	}
	return cnf.Marshal()
}

// baseNames reduces the files of innodb_data_file_path to the names that they
// have in the backup.
func baseNames(spec string) string {
	parts := strings.Split(spec, ";")
	for i, part := range parts {
		name, size, _ := strings.Cut(part, ":")
		parts[i] = filepath.Base(name) + ":" + size
	}
	return strings.Join(parts, ";")
}

func (b *backup) info() ([]byte, error) {
	i := metadata.Info{
		UUID: newUUID(), ToolName: b.Options.Tool, ToolCommand: b.Options.Command,
		ToolVersion: b.Options.ToolVersion, IBBackupVersion: b.Options.ToolVersion,
		ServerVersion: b.Server.Version.Full,
		StartTime:     b.started.Format(metadata.InfoTime), EndTime: time.Now().Format(metadata.InfoTime),
		LockTime: strconv.Itoa(int(lockTime(b.locks.Times(), locks.BlocksCommits).Seconds())),
		ToLSN:    b.newest, Format: b.sequence.infoFormat, Compressed: b.Options.Stored.Compressed,
	}
	if b.at.Binlog != nil {
		i.BinlogPos = b.at.Binlog.InfoText()
	}
	return i.Marshal()
}

// newUUID makes a random UUID (version 4).
func newUUID() string {
	var u [16]byte
	rand.Read(u[:]) // never fails
	u[6] = u[6]&0x0F | 0x40
	u[8] = u[8]&0x3F | 0x80
	return fmt.Sprintf("%x-%x-%x-%x-%x", u[:4], u[4:6], u[6:8], u[8:10], u[10:])
}

// archive is the stream being written, and the names in it.
type archive struct {
	w *xbstream.Writer

	mu    sync.Mutex
	names datadir.NameSet
}

// create begins a file. A name that cannot be extracted beside the earlier ones is an
// error, whatever the cause.
func (a *archive) create(name string) (*xbstream.File, error) {
	if err := a.enter(name); err != nil {
		return nil, err
	}
	return a.w.Create(name)
}

func (a *archive) enter(name string) error {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.names == nil {
		a.names = make(datadir.NameSet)
	}
	return a.names.Add(name, "of the backup")
}

// put writes a whole small file.
func (a *archive) put(name string, content []byte) error {
	f, err := a.create(name)
	if err != nil {
		return err
	}
	if _, err := f.Write(content); err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	return f.Close()
}

// output is create for callers that need to know no more of the file.
func (a *archive) output(name string) (io.WriteCloser, error) { return a.create(name) }

// dropped returns the directories in the archive that are no longer databases.
func (a *archive) dropped(databases []string) []string {
	dropped := make(map[string]bool)
	for _, f := range a.w.Ended() {
		if db, _, in := strings.Cut(f.Path, "/"); in {
			dropped[db] = true
		}
	}
	for _, db := range databases {
		delete(dropped, db)
	}
	return slices.Sorted(maps.Keys(dropped))
}

// sendFixups writes the files that bring names to their final state, and one
// for each database that has no file, so that its directory is made.
func (b *backup) sendFixups() error {
	fixups := b.registry.Fixups(b.now)
	for _, name := range slices.Sorted(maps.Keys(fixups)) {
		if err := b.archive.put(name, []byte(fixups[name])); err != nil {
			return err
		}
	}
	has := make(map[string]bool)
	for _, f := range b.archive.w.Ended() {
		db, _, _ := strings.Cut(f.Path, "/")
		has[db] = true
	}
	for _, db := range b.databases {
		if !has[db] {
			if err := b.archive.put(db+"/db.opt", nil); err != nil {
				return err
			}
		}
	}
	return nil
}

// lockTime is for how long any lock of a list blocked what is named. The list is in
// the order in which hb asked for the locks: waiters queue up from that moment on.
func lockTime(list []locks.Timing, what locks.Blocks) time.Duration {
	var d time.Duration
	var until time.Time
	for _, l := range list {
		end := l.Began.Add(l.Wait + l.Held)
		if l.Blocks&what == 0 || !end.After(until) {
			continue
		}
		from := l.Began
		if until.After(from) {
			from = until // locks may be held together
		}
		d += end.Sub(from)
		until = end
	}
	return d
}

// sendIndex writes the index of all files so far, and returns where it begins in the
// archive; 0: the archive is too large for one, and has none. What stages gather is
// cut before it, so that the end of an archive can be read without the rest.
func (a *archive) sendIndex() (at int64, err error) {
	index, ok := a.w.Index()
	if !ok {
		return 0, nil
	}
	if err := a.w.Cut(); err != nil {
		return 0, err
	}
	at = a.w.Written()
	return at, a.put(metadata.IndexName, index)
}

// sendManifest writes the archive's last files, the index and the manifest.
func (b *backup) sendManifest() error {
	indexAt, err := b.archive.sendIndex()
	if err != nil {
		return err
	}
	b.manifest = metadata.Manifest{
		Version: metadata.ManifestVersion, Server: b.Identity,
		FromLSN: b.follower.Checkpoint().LSN, CheckpointLSN: b.newest, LastLSN: b.at.LSN,
		Heads: metadata.CRC32(b.archive.w.HeadsCRC32()), Binlog: b.at.Binlog, Start: b.started.UTC(), End: time.Now().UTC(),
		Locks: metadata.LockTimes{
			DDL:    lockTime(b.locks.Times(), locks.BlocksDDL).Milliseconds(),
			Commit: lockTime(b.locks.Times(), locks.BlocksCommits).Milliseconds(),
		},
	}
	b.family.describe(&b.manifest)
	tally := b.copier.Tally()
	b.manifest.UnsummedPages, b.manifest.UnprovenPages = tally.Unsummed, tally.Unproven
	if text := tally.Describe(); text != "" {
		b.Warn("%s", text)
	}
	for _, w := range b.Warnings() {
		b.manifest.AddWarning(w)
	}
	b.manifest.DroppedDatabases = b.archive.dropped(b.databases)
	files := b.archive.w.Ended()
	b.manifest.Files = int64(len(files))
	for _, f := range files {
		b.manifest.Bytes += f.Size
	}
	out, err := b.archive.create(metadata.ManifestName)
	if err != nil {
		return err
	}
	w, err := metadata.NewManifestWriter(out, b.manifest)
	if err != nil {
		return err
	}
	w.IndexAt = indexAt
	for _, f := range files {
		line := metadata.File{Path: f.Path, Size: f.Size, CRC32: f.CRC32}
		if id, ok := b.registry.SpaceOf(f.Path); ok {
			line.Space = &id
		}
		if err := w.Add(line); err != nil {
			return err
		}
	}
	if err := w.Close(); err != nil {
		return err
	}
	return out.Close()
}
