package committed

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"hb/sink/backupdir"
	"hb/stream/disk"
	"hb/xbstream/innodb/undo"
	"hb/xbstream/metadata"
)

// TestBinlog: where transactions were prepared for the binary log, MySQL 8.0 and later do not
// start without the file that says what became of them.
func TestBinlog(t *testing.T) {
	dir := t.TempDir()
	root, err := disk.OS.OpenDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer root.Close()
	internal := &PendingError{Tables: []Pending{{Transactions: []Transaction{{State: undo.Prepared, XID: &undo.XID{Format: 1, Global: []byte("MySQLXid12345678")}}}}}}
	open := &PendingError{Tables: []Pending{{Transactions: []Transaction{{State: undo.Active}}}}}
	write := func(name, text string) {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	check := func(what string, version string, pending *PendingError, missing bool, want string) {
		t.Helper()
		r := &runs{Server: &Server{}, dir: dir}
		options, err := r.binlog(root, &backupdir.Backup{Flavor: metadata.FlavorMySQL, ServerVersion: version}, pending)
		if _, is := errors.AsType[*backupdir.MissingError](err); is != missing || !missing && (err != nil || !slices.Contains(options, want)) {
			t.Errorf("%s: %q, %v", what, options, err)
		}
	}
	const without = "--loose-skip-log-bin"
	check("no binary log is named", "8.0.36", internal, true, "")
	check("no binary log is named", "8.0.36", open, false, without)
	check("5.7 has committed nothing by it", "5.7.29", internal, false, without)
	write("xtrabackup_binlog_info", "binlog.000007\t157\n")
	check("its file is missing", "8.0.36", internal, true, "")
	check("its file is missing", "8.0.36", open, false, without)
	write("binlog.000007", "log")
	check("it is there", "8.0.36", internal, false, "--log-bin=binlog")
	if text, err := os.ReadFile(filepath.Join(dir, "binlog.index")); err != nil || string(text) != "./binlog.000007\n" {
		t.Errorf("%q, %v", text, err)
	}
}
