package check

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/go-sql-driver/mysql"
	"golang.org/x/sys/unix"

	"hb/source/datadir"
	"hb/source/mysqld"
	"hb/source/mysqld/locks"
	"hb/source/subject"
	"hb/stream/disk"
)

func TestDescribeLap(t *testing.T) {
	for _, test := range []struct {
		rate    float64
		log     int64 // MiB
		kept    bool
		during  time.Duration // of a backup
		warning bool
		says    string
	}{
		{0, 96, false, time.Hour, false, "no redo was written during the measurement"},
		{1 << 20, 96, false, 96 * time.Second, false, "at 1.00 MiB/s it wraps in 1m36s"},
		{1 << 20, 96, false, 240 * time.Second, true, "; a backup takes about 4m0s (what), in which it wraps 2 times, and hb must keep up all the time: if hb falls behind by"},
		{10 << 20, 96, false, 0, true, "wraps in 9.6s; hb reads 38.1 MiB/s even on a busy machine: if hb falls behind by more than the size of the log, the backup fails; make"},
		{10 << 20, 96, true, 0, true, "the server's writers wait"},
		{1e-9, 96, false, time.Hour, false, "1000 days"},
		{40 << 20, 64 << 10, false, 0, true, "if hb falls behind"},
	} {
		var f Finding
		(&outlook{rate: test.rate, during: test.during, copied: "what"}).describeLap(&f, test.log<<20, test.kept)
		if f.Warning != test.warning || !strings.Contains(f.Text, test.says) {
			t.Errorf("%v bytes/s: %v, %q", test.rate, f.Warning, f.Text)
		}
	}
}

func TestDescribeSpace(t *testing.T) {
	for _, test := range []struct {
		rate         float64
		free, staged int64
		memory       bool
		warning      bool
		says         string
	}{
		{0, 1 << 30, 1 << 20, false, false, "/t has 1.00 GiB free; files of other engines and undo tablespaces take 1.00 MiB of it"},
		{1 << 20, 1 << 30, 0, false, false, "would fill the rest in 17m4s"},
		{1 << 20, 1 << 30, 1 << 29, false, true, "in 8m32s: give a larger place with --tmpdir"},
		{0, 1 << 30, 0, true, true, "in memory (tmpfs)"},
	} {
		var f Finding
		err := (&outlook{rate: test.rate}).describeSpace(&f, "/t", test.free, test.staged, test.memory)
		if err != nil || f.Warning != test.warning || !strings.Contains(f.Text, test.says) {
			t.Errorf("%+v: %v, %v, %q", test, err, f.Warning, f.Text)
		}
	}
	err := new(outlook).describeSpace(&Finding{}, "/t", 1<<20, 1<<21, false)
	if !errors.Is(err, unix.ENOSPC) || !strings.Contains(err.Error(), "2.00 MiB in /t until the end, where 1.00 MiB are free") {
		t.Errorf("no room: %v", err)
	}
}

func TestPlainTables(t *testing.T) {
	dir := t.TempDir()
	var files []datadir.File
	add := func(name string, size int64) {
		files = append(files, datadir.File{Path: filepath.Join(dir, filepath.Base(name)), Name: name, Size: size})
	}
	add("d/m.MYD", 100)
	add("d/m.MYI", 20)
	add("d/m.frm", 1000)
	add("d/p#P#p0.MYD", 300)
	add("d/p#P#p1.MYD", 300)
	add("d/a.ARZ", 5)
	add("d/g.MRG", 2)
	add("d/c.CSV", 2)
	add("d/db.opt", 10)
	add("mysql/user.MYD", 10000)
	add("d/being made.MAI", 7) // its file is not there yet
	add("d/being made.MAD", 7)
	add("d/short.MAI", 7) // and this one has no header yet
	if err := os.WriteFile(filepath.Join(dir, "short.MAI"), []byte("short"), 0o600); err != nil {
		t.Fatal(err)
	}
	tables, err := datadir.PlainTables(disk.OS, files)
	if err != nil {
		t.Fatal(err)
	}
	var f Finding
	describePlain(&f, tables, "a lock")
	want := "5 with 729 B, the largest: d/p (MyISAM, 600 B), d/m (MyISAM, 120 B), d/a (ARCHIVE, 5 B), d/c (CSV, 2 B), d/g (MERGE, 2 B); what"
	if !strings.HasPrefix(f.Text, want) || f.Warning {
		t.Errorf("%q, want %q", f.Text, want)
	}
	describePlain(&f, []datadir.PlainTable{{Name: "d/large", Engine: "MyISAM", Bytes: 2 << 30}}, "a lock")
	if !f.Warning || !strings.Contains(f.Text, "may wait long") {
		t.Errorf("a large one: %q", f.Text)
	}
	f = Finding{}
	if describePlain(&f, nil, "a lock"); f.Text != "there are none" || f.Warning {
		t.Errorf("none: %+v", f)
	}
}

// TestWithoutEffect: options without effect are named.
func TestWithoutEffect(t *testing.T) {
	all := subject.Options{
		GaleraInfo: true,
		MySQLOptions: subject.MySQLOptions{LockDDLPerTable: true, SafeSlave: true, DumpBufferPool: true,
			FTWRL: locks.FTWRL{WaitTimeout: 1, KillTimeout: 1}},
	}
	for _, test := range []struct {
		srv  *mysqld.Server
		want string
	}{
		{&mysqld.Server{Flavor: mysqld.MariaDB, Series: mysqld.Series{Stages: true}, Version: mysqld.Version{Full: "10.11.18"}},
			"without effect on MariaDB 10.11.18: --ftwrl-wait-timeout, --kill-long-queries-timeout, --lock-ddl-per-table, --safe-slave-backup, --dump-innodb-buffer-pool"},
		{&mysqld.Server{Flavor: mysqld.MySQL, Version: mysqld.Version{Full: "5.7.29"}}, "without effect on MySQL 5.7.29: --galera-info"},
		{&mysqld.Server{Flavor: mysqld.MySQL, Series: mysqld.Series{LogStatus: true}, Version: mysqld.Version{Full: "9.7.4"}},
			"without effect on MySQL 9.7.4: --galera-info, --lock-ddl-per-table"},
	} {
		if got := (&checker{&subject.Subject{Server: test.srv, Options: all}}).withoutEffect(); got != test.want {
			t.Errorf("%q, want %q", got, test.want)
		}
		if got := (&checker{&subject.Subject{Server: test.srv}}).withoutEffect(); got != "" {
			t.Errorf("no options: %q", got)
		}
	}
}

// TestFind: what the server refuses for want of a privilege is no failure of its
// own once the privilege is known to be missing.
func TestFind(t *testing.T) {
	denied := &mysqld.QueryError{Statement: "SHOW ENGINE INNODB STATUS", Err: &mysql.MySQLError{Number: 1227}}
	table := &mysqld.QueryError{Statement: "SELECT", Err: &mysql.MySQLError{Number: 1142}}
	feature := &mysqld.UnsupportedFeatureError{Feature: "an encrypted redo log", Detail: "x=ON"}
	missing := &mysqld.MissingPrivilegesError{User: "u@h", Missing: []mysqld.Privilege{mysqld.PrivReload, mysqld.PrivLogStatus}}
	for _, test := range []struct {
		err           error
		blind         bool
		warning, fail bool
		says          string
	}{
		{nil, true, false, false, ""},
		{denied, false, false, true, "SHOW ENGINE"},
		{denied, true, true, false, "not checked: "},
		{table, true, true, false, "not checked: "},
		{errors.Join(feature, denied), true, false, true, "an encrypted redo log"},
		{unix.EIO, true, false, true, "input/output error"},
		{missing, false, false, true, "run\nGRANT RELOAD ON *.* TO 'u'@'h';\nGRANT SELECT ON performance_schema.log_status TO 'u'@'h';"},
	} {
		c := check{"it", func(*checker, context.Context, *Finding) error { return test.err }}
		f := c.find(t.Context(), nil, test.blind)
		if f.Warning != test.warning || (f.Err != nil) != test.fail || !strings.Contains(f.Text, test.says) || f.Check != "it" {
			t.Errorf("%v: %+v", test.err, f)
		}
	}
}
