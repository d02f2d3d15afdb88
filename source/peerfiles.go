package source

import (
	"context"
	"crypto/rand"
	"fmt"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"hb/source/mysqld"
	"hb/source/mysqld/contents"
	"hb/source/mysqld/position"
	"hb/source/subject"
	"hb/xbstream/innodb"
	"hb/xbstream/metadata"
)

// textFile is one metadata file.
type textFile struct {
	name    string
	content []byte
}

// peerFiles makes the files that the peer of the server's release writes, and its
// --prepare reads. It knows of the backup what stands in them.
type peerFiles struct {
	*subject.Subject
	at             position.Moment
	newest         innodb.LSN // newest checkpoint in the redo
	started        time.Time
	commitsBlocked time.Duration
	external       []metadata.ExternalSpace
	format         string // of the archive, as the info file has it
	// Of an incremental backup: the LSN of the base that the peer's --prepare compares.
	incremental bool
	fromLSN     innodb.LSN
}

func (p *peerFiles) all(ctx context.Context) ([]textFile, error) {
	names := p.Server.Series.Files
	var out []textFile
	if p.at.Binlog != nil {
		text, err := p.at.Binlog.Marshal()
		if err != nil {
			return nil, err
		}
		out = append(out, textFile{names.BinlogInfo, text})
	}
	if text := p.at.Replica.FileText(); text != "" {
		out = append(out, textFile{names.SlaveInfo, []byte(text)})
	}
	if g := p.at.Galera; g != nil {
		text := []byte(g.FileText(p.Server.Series))
		out = append(out, textFile{names.GaleraInfo, text})
		if p.Server.Series.GaleraDomain {
			out = append(out, textFile{metadata.DonorGaleraInfoName, text})
		}
	}
	checkpoints := p.checkpoints()
	text, err := checkpoints.Marshal()
	if err != nil {
		return nil, err
	}
	out = append(out, textFile{names.Checkpoints, text})
	if text, err = p.myCnf(ctx); err != nil {
		return nil, err
	}
	out = append(out, textFile{metadata.MyCnfName, text})
	if text, err = p.info(); err != nil {
		return nil, err
	}
	out = append(out, textFile{names.Info, text})
	external := metadata.External{Spaces: p.external, System: p.Layout.System[0]}
	if len(external.Spaces) == 0 && !p.Server.Series.LogStatus {
		return out, nil
	}
	if text, err = external.Marshal(); err != nil {
		return nil, err
	}
	return append(out, textFile{metadata.ExternalName, text}), nil
}

// checkpoints has the fields that the release's own tool writes: see
// metadata.Checkpoints.
func (p *peerFiles) checkpoints() metadata.Checkpoints {
	c := metadata.Checkpoints{BackupType: metadata.FullBackup, FromLSN: p.fromLSN, ToLSN: p.newest, LastLSN: p.at.LSN}
	if p.incremental {
		c.BackupType = metadata.Incremental
	}
	zero := new(uint64)
	switch d := &p.Server.Series; {
	case d.RecoverBinlogInfo:
		c.RecoverBinlogInfo = zero
	case p.Server.Flavor == mysqld.MariaDB:
	case !d.LogStatus:
		c.Compact, c.RecoverBinlogInfo = zero, zero
	case p.Server.Version.AtLeast(8, 4):
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

// encryptionOptions are those with which MariaDB encrypts tablespaces, and that the peer
// reads them with. The secret of an encrypted key file is not among them.
var encryptionOptions = []string{
	"innodb_encrypt_tables", "innodb_encrypt_log",
	"file_key_management_encryption_algorithm", "file_key_management_filename",
}

// myCnf makes backup-my.cnf: what the peer's --prepare has to know.
func (p *peerFiles) myCnf(ctx context.Context) ([]byte, error) {
	v := p.Server.Vars
	var cnf metadata.MyCnf
	cnf.Set("innodb_data_file_path", baseNames(v.DataFilePath()))
	cnf.Set("innodb_undo_directory", "./")
	for _, name := range cnfOptions {
		if v.Has(name) {
			cnf.Set(name, v.String(name))
		}
	}
	plugins, err := contents.Plugins(ctx, p.Server)
	if err != nil {
		return nil, err
	}
	var load []string
	for _, plugin := range contents.ProviderPlugins(plugins) {
		load = append(load, plugin.Name+"="+plugin.Library)
	}
	if plugin := contents.KeyPlugin(plugins); plugin != nil {
		load = append(load, plugin.Name+"="+plugin.Library)
		now, err := p.Server.Refresh(ctx, encryptionOptions...) // SET GLOBAL innodb_encrypt_tables can come at any time
		if err != nil {
			return nil, err
		}
		for _, name := range encryptionOptions {
			if now.Has(name) && now.String(name) != "" {
				cnf.Set(name, now.String(name))
			}
		}
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

func (p *peerFiles) info() ([]byte, error) {
	i := metadata.Info{
		UUID: newUUID(), ToolName: p.Options.Tool, ToolCommand: p.Options.Command,
		ToolVersion: p.Options.ToolVersion, IBBackupVersion: p.Options.ToolVersion,
		ServerVersion: p.Server.Version.Full,
		StartTime:     p.started.Format(metadata.InfoTime), EndTime: time.Now().Format(metadata.InfoTime),
		LockTime: strconv.Itoa(int(p.commitsBlocked.Seconds())),
		FromLSN:  p.fromLSN, ToLSN: p.newest, Format: p.format, Compressed: p.Options.Stored.Compressed, Incremental: p.incremental, Partial: p.Layout.Scope != nil,
	}
	if p.at.Binlog != nil {
		i.BinlogPos = p.at.Binlog.InfoText()
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
