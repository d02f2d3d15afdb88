package source

import (
	"context"
	"crypto/rand"
	"fmt"
	"maps"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"hb/source/mysqld"
	"hb/xbstream/metadata"
)

// sendArchiveHeader writes the archive's first file.
func (b *backup) sendArchiveHeader() error {
	head := metadata.Archive{
		Version: metadata.ArchiveVersion, HBVersion: b.opt.ToolVersion,
		ServerFlavor: b.sequence.flavor, ServerVersion: b.srv.Version.Full,
		PageSize: b.pageSize, StartLSN: b.follower.Checkpoint().LSN,
		RedoFormat: b.follower.Format().String(), Created: b.started.UTC(),
		Options: metadata.ArchiveFlags{Compressed: b.opt.Compressed, Encrypted: b.opt.Encrypted},
	}
	text, err := head.Marshal()
	if err != nil {
		return err
	}
	return b.archive.put(metadata.ArchiveName, text)
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

// sendFixups writes the files that bring names to their final state, and one
// for each database that has no file, so that its directory is made.
func (b *backup) sendFixups() error {
	fixups := b.registry.fixups(b.now)
	for _, name := range slices.Sorted(maps.Keys(fixups)) {
		if err := b.archive.put(name, []byte(fixups[name])); err != nil {
			return err
		}
	}
	has := make(map[string]bool)
	for _, f := range b.archive.files {
		db, _, _ := strings.Cut(f.name, "/")
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

// textFile is one metadata file.
type textFile struct {
	name    string
	content []byte
}

// metadataFiles makes the files that the peer of this server's release writes.
func (b *backup) metadataFiles(ctx context.Context) ([]textFile, error) {
	names := b.srv.Dialect.Files
	var out []textFile
	if b.spot != nil {
		text, err := b.spot.Marshal()
		if err != nil {
			return nil, err
		}
		out = append(out, textFile{names.BinlogInfo, text})
	}
	if text := b.slave.FileText(); text != "" {
		out = append(out, textFile{names.SlaveInfo, []byte(text)})
	}
	if g := b.mariadb.galera; g != nil {
		text := []byte(g.FileText(b.srv.Dialect))
		out = append(out, textFile{names.GaleraInfo, text})
		if b.srv.Dialect.GaleraDomain {
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
	external := b.externalSpaces()
	if len(external) == 0 && !b.srv.Dialect.LogStatus {
		return out, nil
	}
	if text, err = metadata.MarshalExternal(external); err != nil {
		return nil, err
	}
	return append(out, textFile{metadata.ExternalName, text}), nil
}

// checkpoints has the fields that the release's own tool writes: see
// metadata.Checkpoints.
func (b *backup) checkpoints() metadata.Checkpoints {
	c := metadata.Checkpoints{BackupType: metadata.FullBackup, ToLSN: b.newest, LastLSN: b.end}
	zero := new(uint64)
	switch d := &b.srv.Dialect; {
	case d.RecoverBinlogInfo:
		c.RecoverBinlogInfo = zero
	case b.srv.Flavor == mysqld.MariaDB:
	case !d.LogStatus:
		c.Compact, c.RecoverBinlogInfo = zero, zero
	case b.srv.Version.AtLeast(8, 4):
		c.FlushedLSN, c.RedoMemory, c.RedoFrames = zero, zero, zero
	default:
		c.FlushedLSN = zero
	}
	return c
}

// cnfOptions are the options of backup-my.cnf that are taken as they are, where
// the server has them.
var cnfOptions = []string{
	"innodb_checksum_algorithm", "innodb_log_checksums", "innodb_log_checksum_algorithm",
	"innodb_log_files_in_group", "innodb_log_file_size", "innodb_redo_log_capacity", "innodb_page_size", "innodb_log_block_size",
	"innodb_undo_tablespaces", "innodb_compression_level", "innodb_buffer_pool_filename",
	"server_id", "server_uuid", "lower_case_table_names",
}

// myCnf makes backup-my.cnf: what the peer's --prepare has to know.
func (b *backup) myCnf(ctx context.Context) ([]byte, error) {
	v := b.srv.Vars
	var cnf metadata.MyCnf
	cnf.Set("innodb_data_file_path", baseNames(v.DataFilePath()))
	cnf.Set("innodb_undo_directory", "./")
	for _, name := range cnfOptions {
		if v.Has(name) {
			cnf.Set(name, v.String(name))
		}
	}
	plugins, err := b.srv.Plugins(ctx)
	if err != nil {
		return nil, err
	}
	var load []string
	for _, p := range mysqld.ProviderPlugins(plugins) {
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
		UUID: newUUID(), ToolName: b.opt.Tool, ToolCommand: b.opt.Command,
		ToolVersion: b.opt.ToolVersion, IBBackupVersion: b.opt.ToolVersion,
		ServerVersion: b.srv.Version.Full,
		StartTime:     b.started.Format(metadata.InfoTime), EndTime: time.Now().Format(metadata.InfoTime),
		LockTime: strconv.Itoa(int(b.lockTime(mysqld.BlocksCommits).Seconds())),
		ToLSN:    b.newest, Format: b.sequence.infoFormat, Compressed: b.opt.Compressed,
	}
	if b.spot != nil {
		i.BinlogPos = b.spot.InfoText()
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

// lockTime is for how long any lock kept waiting what is named: waiters queue up
// from the moment when a lock is asked for.
func (b *backup) lockTime(what mysqld.Blocks) time.Duration {
	var d time.Duration
	var until time.Time
	for _, l := range b.srv.LockTimes() {
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

// sendManifest writes the archive's last file.
func (b *backup) sendManifest() error {
	b.manifest = metadata.Manifest{
		Version: metadata.ManifestVersion,
		FromLSN: b.follower.Checkpoint().LSN, CheckpointLSN: b.newest, LastLSN: b.end,
		Heads: metadata.CRC32(b.archive.w.HeadsCRC32()), Binlog: b.spot, Start: b.started.UTC(), End: time.Now().UTC(),
		Locks: metadata.LockTimes{
			DDL:    b.lockTime(mysqld.BlocksDDL).Milliseconds(),
			Commit: b.lockTime(mysqld.BlocksCommits).Milliseconds(),
		},
	}
	if b.layout.General {
		b.manifest.ReplayFrom = b.mysql.replayFrom
		b.manifest.UndoSpaces = b.mysql.spaceIDs(func(s mysqld.Tablespace) bool { return s.Kind == mysqld.SpaceUndo })
		b.manifest.TemporarySpaces = b.mysql.spaceIDs(func(s mysqld.Tablespace) bool {
			return s.Kind == mysqld.SpaceTemporary || isTemporary(s)
		})
	}
	for _, w := range b.warnings {
		b.manifest.AddWarning(w)
	}
	files := b.archive.files
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
	for _, f := range files {
		if err := w.Add(metadata.File{Path: f.name, Size: f.Size, CRC32: f.CRC32}); err != nil {
			return err
		}
	}
	if err := w.Close(); err != nil {
		return err
	}
	return out.Close()
}

func (b *backup) result() (*Result, error) {
	return &Result{Manifest: b.manifest, Locks: b.srv.LockTimes(), Bytes: b.archive.w.Written()}, nil
}
