package mysqld

import (
	"slices"
	"strings"
	"testing"
)

func TestVars(t *testing.T) {
	v := Vars{m: map[string]string{
		"datadir": "/d/data/", "innodb_data_home_dir": "", "innodb_log_group_home_dir": "./", "innodb_undo_directory": "../undo",
		"aria_log_dir_path": "/aria/", "innodb_data_file_path": "ibdata1:12M;sub/ibdata2:10M:autoextend:max:1G;/abs/x:1M",
		"ignore_db_dirs": "lost+found,.snap", "innodb_page_size": "65536", "log_bin": "ON", "socket": "s.sock", "bad": "x",
		"innodb_directories": ` a ; "/b/c/";;../e`,
	}}
	for got, want := range map[string]string{
		v.Datadir(): "/d/data", v.InnodbHome(): "/d/data", v.LogDir(): "/d/data", v.UndoDir(): "/d/undo", v.AriaLogDir(): "/aria",
		v.SocketPath(): "/d/data/s.sock", strings.Join(v.IgnoredDirs(), "|"): "lost+found|.snap",
	} {
		if got != want {
			t.Errorf("%q, want %q", got, want)
		}
	}
	if got := v.Directories(); !slices.Equal(got, []string{"/d/data/a", "/b/c", "/d/e"}) {
		t.Errorf("directories %q", got)
	}
	files, err := v.SystemFiles()
	if err != nil || strings.Join(files, "|") != "/d/data/ibdata1|/d/data/sub/ibdata2|/abs/x" {
		t.Errorf("system files %q, %v", files, err)
	}
	if n, err := v.PageSize(); n != 65536 || err != nil {
		t.Errorf("page size %d, %v", n, err)
	}
	for _, name := range []string{"bad", "none"} {
		if n, err := v.Int(name); err == nil {
			t.Errorf("%s = %d, want an error", name, n)
		}
	}
	for _, spec := range []string{"", "ibdata1", "/dev/sda:5Graw", "/dev/sda:5Gnewraw", ":5M"} {
		if f, err := (Vars{m: map[string]string{"innodb_data_file_path": spec}}).SystemFiles(); err == nil {
			t.Errorf("%q: %q, want an error", spec, f)
		}
	}
	if n, err := (Vars{m: map[string]string{"innodb_page_size": "1000"}}).PageSize(); err == nil {
		t.Errorf("page size %d, want an error", n)
	}
}
