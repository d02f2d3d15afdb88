package sink

import (
	"os"
	"path/filepath"
	"testing"

	"hb/stream/disk"
	"hb/xbstream/metadata"
)

// FuzzBackupDir gives hostile metadata to what apply learns of a directory
// before it does anything. It must not fail but by an error.
func FuzzBackupDir(f *testing.F) {
	const checkpoints = "backup_type = full-backuped\nfrom_lsn = 0\nto_lsn = 45231\nlast_lsn = 45243\nflushed_lsn = 45231\n"
	const cnf = "[mysqld]\ninnodb_data_file_path=ibdata1:12M;ibdata2:12M:autoextend\ninnodb_page_size=16384\ninnodb_undo_tablespaces=2\ninnodb_checksum_algorithm=strict_crc32\n"
	header, err := testHeader().Marshal()
	if err != nil {
		f.Fatal(err)
	}
	manifest := `{"hb_manifest":1,"files":5,"bytes":98719,"heads_crc32":"1234abcd","from_lsn":100,"checkpoint_lsn":150,"last_lsn":200,` +
		`"start":"2026-11-20T10:00:00Z","end":"2026-11-20T10:05:00Z","lock_ms":{"ddl":12,"commit":3},"undo_spaces":[1,2],"replay_from":{"7":150}}` + "\n"
	f.Add(checkpoints, cnf, string(header), manifest, `{"stage":"finish","end":200,"format":1}`, "db/u\n")
	f.Add(checkpoints, "", "", "", `{"stage":"replay"}`, "../u")
	f.Fuzz(func(t *testing.T, checkpoints, cnf, header, manifest, state, renamed string) {
		dir := t.TempDir()
		if err := os.Mkdir(filepath.Join(dir, "db"), 0o700); err != nil {
			t.Fatal(err)
		}
		for name, text := range map[string]string{
			"xtrabackup_checkpoints": checkpoints, metadata.MyCnfName: cnf, metadata.ArchiveName: header,
			metadata.ManifestName: manifest, ApplyingName: state, "db/t.ren": renamed, "db/t.ibd": "", "ibdata1": "",
		} {
			if text == "" && name != "db/t.ibd" && name != "ibdata1" {
				continue
			}
			if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
				t.Fatal(err)
			}
		}
		root, err := disk.OS.OpenDir(dir)
		if err != nil {
			t.Fatal(err)
		}
		defer root.Close()
		for _, flavor := range []string{metadata.FlavorMariaDB, metadata.FlavorMySQL} {
			_, _ = readState(root, ApplyingName, flavor)
		}
		_, _ = readBackupDir(root)
		if result, err := Apply(t.Context(), dir, ApplyOptions{Memory: 8 << 20, Parallel: 1}); err == nil && !result.AlreadyApplied {
			t.Fatalf("a backup without pages was applied: %+v", result)
		}
		if left, err := os.ReadDir(filepath.Dir(dir)); err != nil || len(left) != 1 {
			t.Errorf("beside the directory: %v, %v", left, err)
		}
	})
}
