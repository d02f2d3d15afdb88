package apply

import (
	"fmt"
	"testing"
)

// TestFindBinlogFiles: where a server of 9.7.4 looks for its binary log, and what
// it writes into the index, as seen there.
func TestFindBinlogFiles(t *testing.T) {
	for logBin, want := range map[string]string{
		"binlog":                  "/data/x.000007 /data/binlog.index ./x.000007",
		"./binlog.log":            "/data/x.000007 /data/binlog.index ./x.000007",
		"sub/x":                   "/data/sub/x.000007 /data/sub/x.index sub/x.000007",
		"/var/log/mysql/x":        "/var/log/mysql/x.000007 /var/log/mysql/x.index /var/log/mysql/x.000007",
		"/var/log/mysql.d/x.more": "/var/log/mysql.d/x.000007 /var/log/mysql.d/x.index /var/log/mysql.d/x.000007",
	} {
		f := findBinlogFiles(logBin, "/data", "x.000007")
		if got := fmt.Sprintf("%s %s %s", f[0].path, f[1].path, f[1].content); len(f) != 2 || got != want+"\n" {
			t.Errorf("log_bin=%s: %q, want %q", logBin, got, want)
		}
	}
}
