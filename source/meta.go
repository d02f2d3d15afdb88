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
		ServerFlavor: metadata.FlavorMariaDB, ServerVersion: b.srv.Version.Full,
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
	if b.position != nil {
		text, err := b.position.Marshal()
		if err != nil {
			return nil, err
		}
		out = append(out, textFile{names.BinlogInfo, text})
	}
	if text := b.slave.FileText(); text != "" {
		out = append(out, textFile{names.SlaveInfo, []byte(text)})
	}
	if b.galera != nil {
		text := []byte(b.galera.FileText(b.srv.Dialect))
		out = append(out, textFile{names.GaleraInfo, text})
		if b.srv.Dialect.GaleraDomain {
			out = append(out, textFile{metadata.DonorGaleraInfoName, text})
		}
	}
	checkpoints := metadata.Checkpoints{BackupType: metadata.FullBackup, ToLSN: b.newest, LastLSN: b.end}
	if b.srv.Dialect.RecoverBinlogInfo {
		checkpoints.RecoverBinlogInfo = new(uint64)
	}
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
	return append(out, textFile{names.Info, text}), nil
}

// myCnf makes backup-my.cnf: what the peer's --prepare has to know.
func (b *backup) myCnf(ctx context.Context) ([]byte, error) {
	v := b.srv.Vars
	var cnf metadata.MyCnf
	cnf.Set("innodb_checksum_algorithm", v.String("innodb_checksum_algorithm"))
	cnf.Set("innodb_data_file_path", baseNames(v.DataFilePath()))
	for _, name := range []string{"innodb_log_file_size", "innodb_page_size"} {
		cnf.Set(name, v.String(name))
	}
	cnf.Set("innodb_undo_directory", "./")
	cnf.Set("innodb_undo_tablespaces", v.String("innodb_undo_tablespaces"))
	cnf.Set("innodb_compression_level", v.String("innodb_compression_level"))
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
		LockTime: strconv.Itoa(int(b.lockTime(mysqld.StageBlockCommit).Seconds())),
		ToLSN:    b.newest, Format: "mbstream", Compressed: b.opt.Compressed,
	}
	if b.position != nil {
		i.BinlogPos = b.position.InfoText()
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

// lockTime is for how long what a stage and those after it block was blocked:
// waiters queue up from the moment when the stage is asked for.
func (b *backup) lockTime(stage mysqld.Stage) time.Duration {
	var d time.Duration
	for _, s := range b.stages.Times() {
		if s.Stage >= stage {
			d += s.Wait + s.Held
		}
	}
	return d
}

// sendManifest writes the archive's last file.
func (b *backup) sendManifest() error {
	b.manifest = metadata.Manifest{
		Version: metadata.ManifestVersion,
		FromLSN: b.follower.Checkpoint().LSN, CheckpointLSN: b.newest, LastLSN: b.end,
		Binlog: b.position, Start: b.started.UTC(), End: time.Now().UTC(),
		Locks: metadata.LockTimes{
			DDL:    b.lockTime(mysqld.StageBlockDDL).Milliseconds(),
			Commit: b.lockTime(mysqld.StageBlockCommit).Milliseconds(),
		},
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
	return &Result{Manifest: b.manifest, Stages: b.stages.Times(), Bytes: b.archive.w.Written()}, nil
}
