package source

import "fmt"

func (b *backup) sendArchiveHeader() error { return b.archive.put("hb-archive.json", []byte("{}\n")) }

func (b *backup) sendMetadata() error {
	if err := b.archive.put("xtrabackup_checkpoints", fmt.Appendf(nil, "backup_type = full-backuped\nfrom_lsn = 0\nto_lsn = %d\nlast_lsn = %d\n", b.newest, b.end)); err != nil {
		return err
	}
	if err := b.archive.put("backup-my.cnf", fmt.Appendf(nil, "[mysqld]\ninnodb_page_size=%d\ninnodb_undo_tablespaces=%s\ninnodb_undo_directory=./\ninnodb_data_file_path=%s\ninnodb_log_file_size=%s\n", b.pageSize,
		b.srv.Vars.String("innodb_undo_tablespaces"), b.srv.Vars.DataFilePath(), b.srv.Vars.String("innodb_log_file_size"))); err != nil {
		return err
	}
	if b.position != nil {
		if err := b.archive.put(b.srv.Dialect.Files.Binlog, []byte(b.position.FileText())); err != nil {
			return err
		}
	}
	for name, content := range b.registry.fixups(b.now) {
		if err := b.archive.put(name, []byte(content)); err != nil {
			return err
		}
	}
	return nil
}

func (b *backup) result() (*Result, error) {
	return &Result{Stages: b.stages.Times(), Bytes: b.archive.w.Written()}, nil
}
