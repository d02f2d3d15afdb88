package metadata

import (
	"errors"
	"io/fs"
	"reflect"
	"strings"
	"testing"
	"testing/fstest"
)

// Files as the peers write them, each form once.
var checkpointsForms = map[string]string{
	"mariadb-backup 10.5": "backup_type = full-backuped\nfrom_lsn = 0\nto_lsn = 45231\nlast_lsn = 45243\n",
	"mariadb-backup 10.11": "backup_type = full-backuped\nfrom_lsn = 0\nto_lsn = 45231\nlast_lsn = 45243\n" +
		"recover_binlog_info = 0\n",
	"XtraBackup 2.4": "backup_type = incremental\nfrom_lsn = 100\nto_lsn = 45231\nlast_lsn = 45243\n" +
		"compact = 0\nrecover_binlog_info = 1\n",
	"XtraBackup 8.0": "backup_type = full-prepared\nfrom_lsn = 0\nto_lsn = 45231\nlast_lsn = 45243\n" +
		"compact = 0\nrecover_binlog_info = 0\nflushed_lsn = 45231\n",
	"XtraBackup 8.4": "backup_type = full-backuped\nfrom_lsn = 0\nto_lsn = 18446744073709551615\nlast_lsn = 45243\n" +
		"flushed_lsn = 0\nredo_memory = 2097152\nredo_frames = 17\n",
	"a fork": "backup_type = full-backuped\nfrom_lsn = 0\nto_lsn = 1\nlast_lsn = 1\nflushed_lsn = 0\nredo_memory = 0\nredo_frames = 0\ndelta_backup = 1\n",
}

func TestCheckpoints(t *testing.T) {
	for form, text := range checkpointsForms {
		c, err := UnmarshalCheckpoints([]byte(text))
		if err != nil {
			t.Errorf("%s: %v", form, err)
			continue
		}
		back, err := c.Marshal()
		if err != nil || string(back) != text {
			t.Errorf("%s: came back as\n%s%v", form, back, err)
		}
	}
	c, err := UnmarshalCheckpoints([]byte(checkpointsForms["XtraBackup 2.4"]))
	if err != nil {
		t.Fatal(err)
	}
	if c.BackupType != Incremental || c.FromLSN != 100 || c.ToLSN != 45231 || c.LastLSN != 45243 || *c.Compact != 0 || *c.RecoverBinlogInfo != 1 || c.FlushedLSN != nil {
		t.Errorf("got %+v", c)
	}
	for name, text := range map[string]string{
		"empty":       "",
		"no type":     "from_lsn = 0\nto_lsn = 1\nlast_lsn = 1\n",
		"no last_lsn": "backup_type = full-backuped\nfrom_lsn = 0\nto_lsn = 1\n",
		"negative":    "backup_type = full-backuped\nfrom_lsn = 0\nto_lsn = -1\nlast_lsn = 1\n",
		"no number":   "backup_type = full-backuped\nfrom_lsn = 0\nto_lsn = x\nlast_lsn = 1\n",
		"cut":         "backup_type = full-backuped\nfrom_lsn = 0\nto_lsn = 1\nlast_l",
		"bad flag":    "backup_type = full-backuped\nfrom_lsn = 0\nto_lsn = 1\nlast_lsn = 1\ncompact = maybe\n",
		"other file":  "#!/bin/sh\n",
	} {
		if _, err := UnmarshalCheckpoints([]byte(text)); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
	if _, err := (&Checkpoints{BackupType: "a\nb"}).Marshal(); err == nil {
		t.Error("a line end in a value is written")
	}
}

const infoMariaDB = `uuid = 5c1a4f0e-1d1b-11f1-9a55-0242ac110002
name = 
tool_name = mariadb-backup
tool_command = --backup --stream=xbstream --password=...
tool_version = 10.11.18-MariaDB
ibbackup_version = 10.11.18-MariaDB
server_version = 10.11.18-MariaDB-log
start_time = 2026-11-20 10:00:00
end_time = 2026-11-20 10:00:05
lock_time = 0
binlog_pos = filename 'binlog.000003', position '1234', GTID of the last change '0-1-77'
innodb_from_lsn = 0
innodb_to_lsn = 45231
partial = N
incremental = N
format = mbstream
compressed = N
`

func TestInfo(t *testing.T) {
	xtra24 := strings.Replace(infoMariaDB, "compressed = N", "compact = Y\ncompressed = compressed\nencrypted = N", 1)
	xtra84 := strings.Replace(infoMariaDB, "compressed = N", "compressed = N\nencrypted = Y\nbackup_size = 123", 1)
	for form, text := range map[string]string{"mariadb-backup": infoMariaDB, "XtraBackup 2.4": xtra24, "XtraBackup 8.4": xtra84} {
		i, err := UnmarshalInfo([]byte(text))
		if err != nil {
			t.Errorf("%s: %v", form, err)
			continue
		}
		back, err := i.Marshal()
		if err != nil || string(back) != text {
			t.Errorf("%s: came back as\n%s%v", form, back, err)
		}
	}
	i, err := UnmarshalInfo([]byte(xtra24))
	if err != nil {
		t.Fatal(err)
	}
	pos := BinlogPos{File: "binlog.000003", Pos: 1234, GTID: "0-1-77"}
	if i.ToLSN != 45231 || !i.Compressed || i.Compact == nil || !*i.Compact || *i.Encrypted || i.Partial || i.Name != "" || i.BinlogPos != pos.InfoText() {
		t.Errorf("got %+v", i)
	}
	if i, err := UnmarshalInfo([]byte("uuid = 1\n")); err != nil || i.UUID != "1" || i.Compact != nil {
		t.Errorf("a short file: %+v, %v", i, err)
	}
	for name, text := range map[string]string{"bad flag": "partial = maybe\n", "bad LSN": "innodb_to_lsn = x\n", "no pair": "hello\n", "empty key": " = x\n"} {
		if _, err := UnmarshalInfo([]byte(text)); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
}

func TestBinlogPos(t *testing.T) {
	for text, want := range map[string]BinlogPos{
		"binlog.000003\t1234\n":                          {"binlog.000003", 1234, ""},
		"binlog.000003\t1234\t0-1-77\n":                  {"binlog.000003", 1234, "0-1-77"},
		"\t0\tuuid:1-5,\nuuid2:1\n":                      {"", 0, "uuid:1-5,uuid2:1"},
		"mysql-bin.1\t18446744073709551615\ta:1-2\r\n\n": {"mysql-bin.1", 1<<64 - 1, "a:1-2"},
	} {
		p, err := UnmarshalBinlogPos([]byte(text))
		if err != nil || *p != want {
			t.Errorf("%q: %+v, %v", text, p, err)
			continue
		}
		back, err := p.Marshal()
		if err != nil {
			t.Errorf("%q: %v", text, err)
		}
		if again, err := UnmarshalBinlogPos(back); err != nil || *again != want {
			t.Errorf("%q came back as %+v, %v", back, again, err)
		}
	}
	if text, err := (&BinlogPos{"f", 4, "g"}).Marshal(); string(text) != "f\t4\tg\n" || err != nil {
		t.Errorf("%q, %v", text, err)
	}
	for _, text := range []string{"", "\n", "binlog.000003", "binlog.000003 1234", "binlog.000003\tx", "\t4\n", "a\t-1\n"} {
		if p, err := UnmarshalBinlogPos([]byte(text)); err == nil {
			t.Errorf("%q: accepted as %+v", text, p)
		}
	}
}

const goldenMyCnf = `# These options were taken from the server by hb, for preparing this backup.

[mysqld]
innodb_checksum_algorithm=crc32
innodb_log_checksums=1
innodb_data_file_path=ibdata1:12M:autoextend
innodb_undo_directory=./
plugin_load=file_key_management.so
file_key_management_filename="/etc/keys #1"
skip_slave
innodb_log_checksums=ON
`

func TestMyCnf(t *testing.T) {
	c, err := UnmarshalMyCnf([]byte(goldenMyCnf))
	if err != nil {
		t.Fatal(err)
	}
	back, err := c.Marshal()
	if err != nil || string(back) != goldenMyCnf {
		t.Errorf("came back as\n%s%v", back, err)
	}
	for name, want := range map[string]string{
		"innodb_log_checksums": "ON", "innodb-data-file-path": "ibdata1:12M:autoextend",
		"file_key_management_filename": "/etc/keys #1", "skip_slave": "",
	} {
		if got, ok := c.Get(name); !ok || got != want {
			t.Errorf("Get(%q) = %q, %v", name, got, ok)
		}
	}
	if _, ok := c.Get("absent"); ok {
		t.Error("an option that is not there is found")
	}
	other := "; comment\n[client]\nuser = x\n[mysqld]\r\n a = 1 # one \n b='x y'\nc = \\\\ \\n\\s\n[mysql]\nd=1\n[mysqld]\ne=5\n"
	c, err = UnmarshalMyCnf([]byte(other))
	if want := []Pair{{"a", "1"}, {"b", "x y"}, {"c", "\\ \n "}, {"e", "5"}}; err != nil || !reflect.DeepEqual(c.Options, want) {
		t.Errorf("got %q, %v", c, err)
	}
	for name, text := range map[string]string{"no group": "a=1\n", "group without end": "[mysqld\n", "no option": "[mysqld]\n=1\n"} {
		if _, err := UnmarshalMyCnf([]byte(text)); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
	for _, o := range []Pair{{"", "x"}, {"a b", "x"}, {"a=b", "x"}, {"[a]", "x"}, {"a", "\x00"}} {
		if text, err := (&MyCnf{Options: []Pair{o}}).Marshal(); err == nil {
			t.Errorf("%q is written as %q", o, text)
		}
	}
}

func TestReadFamilies(t *testing.T) {
	old := fstest.MapFS{
		"xtrabackup_checkpoints": {Data: []byte(checkpointsForms["mariadb-backup 10.5"])},
		"xtrabackup_info":        {Data: []byte(infoMariaDB)},
		"xtrabackup_binlog_info": {Data: []byte("old\t4\n")},
		"backup-my.cnf":          {Data: []byte(goldenMyCnf)},
	}
	c, name, err := ReadCheckpoints(old)
	if err != nil || name != "xtrabackup_checkpoints" || c.ToLSN != 45231 {
		t.Errorf("%+v, %s, %v", c, name, err)
	}
	if i, name, err := ReadInfo(old); err != nil || name != "xtrabackup_info" || i.Format != "mbstream" {
		t.Errorf("%+v, %s, %v", i, name, err)
	}
	if p, err := ReadBinlogPos(old); err != nil || p.File != "old" {
		t.Errorf("%+v, %v", p, err)
	}
	if c, err := ReadMyCnf(old); err != nil || len(c.Options) != 8 {
		t.Errorf("%+v, %v", c, err)
	}
	both := fstest.MapFS{
		"mariadb_backup_checkpoints": {Data: []byte(checkpointsForms["XtraBackup 2.4"])},
		"xtrabackup_checkpoints":     {Data: []byte("not looked at")},
	}
	if c, name, err := ReadCheckpoints(both); err != nil || name != "mariadb_backup_checkpoints" || c.FromLSN != 100 {
		t.Errorf("%+v, %s, %v", c, name, err)
	}
	none := fstest.MapFS{}
	_, _, errC := ReadCheckpoints(none)
	_, _, errI := ReadInfo(none)
	_, errB := ReadBinlogPos(none)
	_, errM := ReadMyCnf(none)
	for _, err := range []error{errC, errI, errB, errM} {
		if !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("no file: %v", err)
		}
	}
	huge := fstest.MapFS{"xtrabackup_info": {Data: make([]byte, MaxTextFile+1)}}
	if _, _, err := ReadInfo(huge); err == nil {
		t.Error("a file of more than 1 MiB is read")
	}
}

// FuzzTexts: what is read, written and read again must be the same.
func FuzzTexts(f *testing.F) {
	for _, text := range checkpointsForms {
		f.Add([]byte(text))
	}
	f.Add([]byte(infoMariaDB))
	f.Add([]byte("binlog.000003\t1234\t0-1-77\n"))
	f.Add([]byte(goldenMyCnf))
	f.Add([]byte(goldenArchive))
	f.Add([]byte(`{"version":2,"external_tablespaces":[{"file_name":"/far/one.ibd","tablespace_name":"one","tablespace_type":"TABLESPACE"}]}`))
	f.Fuzz(func(t *testing.T, text []byte) {
		if c, err := UnmarshalCheckpoints(text); err == nil {
			again(t, c, (*Checkpoints).Marshal, UnmarshalCheckpoints)
		}
		if i, err := UnmarshalInfo(text); err == nil {
			again(t, i, (*Info).Marshal, UnmarshalInfo)
		}
		if p, err := UnmarshalBinlogPos(text); err == nil {
			again(t, p, (*BinlogPos).Marshal, UnmarshalBinlogPos)
		}
		if c, err := UnmarshalMyCnf(text); err == nil {
			again(t, c, (*MyCnf).Marshal, UnmarshalMyCnf)
		}
		if a, err := UnmarshalArchive(text); err == nil {
			again(t, a, (*Archive).Marshal, UnmarshalArchive)
		}
		if e, err := UnmarshalExternal(text); err == nil {
			again(t, e, (*External).Marshal, UnmarshalExternal)
		}
	})
}

func again[T any](t *testing.T, v *T, marshal func(*T) ([]byte, error), unmarshal func([]byte) (*T, error)) {
	t.Helper()
	text, err := marshal(v)
	if err != nil {
		return // read leniently, not written: a NUL, a carriage return
	}
	back, err := unmarshal(text)
	if err != nil {
		t.Fatalf("%+v, written as %q: %v", v, text, err)
	}
	text2, err := marshal(back)
	if err != nil || string(text2) != string(text) {
		t.Fatalf("%+v was written as %q, then as %q (%v)", v, text, text2, err)
	}
}
