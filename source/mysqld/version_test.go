package mysqld

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"hb/xbstream/metadata"
)

const community = "MySQL Community Server - GPL"

// facts writes a MySQL series as the names of what it knows.
func facts(d Series) string {
	var out []string
	for _, f := range []struct {
		name string
		on   bool
	}{
		{"log_status", d.LogStatus}, {"consumer", d.RedoConsumer}, {"prepared", d.WaitsForPrepared}, {"files", d.ListsFiles},
		{"replica", d.ReplicaWords}, {"binlog", d.BinlogStatus}, {"sources", d.SourceWords}, {"roles", d.Roles},
		{"tables", d.TablesLock}, {"binlock", d.BinlogLock}, {"stages", d.Stages},
	} {
		if f.on {
			out = append(out, f.name)
		}
	}
	return strings.Join(out, " ")
}

func TestMySQLSeries(t *testing.T) {
	for full, want := range map[string]string{
		"5.6.10":              "",
		"5.6.51-log":          "",
		"5.7.9":               "",
		"5.7.44-48":           "",
		"8.0.11":              "log_status files roles",
		"8.0.21":              "log_status files roles",
		"8.0.22":              "log_status files replica roles",
		"8.0.28":              "log_status files replica roles",
		"8.0.30":              "log_status consumer files replica roles",
		"8.0.43-0ubuntu0.24":  "log_status consumer files replica roles",
		"8.1.0":               "log_status consumer files replica roles",
		"8.3.0":               "log_status consumer files replica binlog roles",
		"8.4.0":               "log_status consumer files replica binlog sources roles",
		"9.0.1":               "log_status consumer files replica binlog sources roles",
		"9.6.0":               "log_status consumer files replica binlog sources roles",
		"9.7.4-2":             "log_status consumer prepared files replica binlog sources roles",
		"9.7.99-commercial":   "log_status consumer prepared files replica binlog sources roles",
		"8.4.5-5 (Percona)":   "log_status consumer files replica binlog sources roles",
		"8.0.36-debug-asan-x": "log_status consumer files replica roles",
	} {
		f, v, err := ParseVersion(full)
		if err != nil {
			t.Fatal(err)
		}
		v.Comment = community
		d, err := SeriesOf(f, v)
		if got := facts(d); err != nil || got != want || d.Files != metadata.XtraBackupNames {
			t.Errorf("%s: %q, %v, want %q", full, got, err, want)
		}
	}
	for full, comment := range map[string]string{
		"5.5.62": community, "5.1.73": community, "5.6.9": community, "5.7.8-rc-log": community, "5.8.0": community,
		"6.0.11": community, "7.6.1": community, "8.0.10": community, "8.0.29": community, "9.8.0": community, "10.0.0": community, "26.1.0": community,
		"8.0.11-TiDB-v7.5.0": "TiDB Server (Apache License 2.0) Community Edition, MySQL 8.0 compatible"[:30],
		"5.7.25-OceanBase":   "OceanBase_CE 4.2.1.0", "8.0.33": "Dolt", "8.0.36-28.1": "Percona XtraDB Cluster (GPL), Release rel28",
		"5.6.21-webscalesql": "WebScaleSQL", "8.4.4": "",
	} {
		f, v, err := ParseVersion(full)
		if err != nil {
			t.Fatal(err)
		}
		v.Comment = comment
		_, err = SeriesOf(f, v)
		ue, ok := errors.AsType[*UnsupportedError](err)
		if !ok || ue.Version != v || !strings.Contains(err.Error(), full) || !strings.Contains(err.Error(), comment) || !strings.Contains(err.Error(), "5.6 (from 5.6.10), 5.7 (from 5.7.9), 8.0 (from 8.0.11, without 8.0.29) to 9.7") {
			t.Errorf("%s, %s: %v", full, comment, err)
		}
	}
	for _, comment := range []string{"MySQL Community Server (GPL)", "(Debian)", "(Ubuntu)", "Source distribution", "MySQL Enterprise Server - Commercial", "Percona Server (GPL), Release 27, Revision 2f8eeab"} {
		v := Version{Major: 8, Minor: 0, Patch: 35, Comment: comment}
		if _, err := SeriesOf(MySQL, v); err != nil || v.Percona() != strings.HasPrefix(comment, "Percona") {
			t.Errorf("%s: %v", comment, err)
		}
	}
	// Percona Server's backup locks are learned.
	for _, patch := range []Version{{Major: 5, Minor: 7, Patch: 44}, {Major: 8, Minor: 0, Patch: 35}} {
		patch.Comment = "Percona Server (GPL)"
		d, err := SeriesOf(MySQL, patch)
		if err != nil {
			t.Fatal(err)
		}
		d.learn(Vars{m: map[string]string{"have_backup_locks": "YES"}})
		if !d.TablesLock || d.BinlogLock == d.LogStatus {
			t.Errorf("%v: %s", patch, facts(d))
		}
	}
}

func TestParseVersion(t *testing.T) {
	for full, want := range map[string]string{
		"10.5.23-MariaDB-0+deb11u1-log":            "MariaDB 10.5.23 10.5",
		"11.8.6-MariaDB-0+deb13u1 from Debian-log": "MariaDB 11.8.6 11.8",
		"5.5.5-10.3.1-mariadb":                     "MariaDB 5.5.5 5.5",
		"8.4.3":                                    "MySQL 8.4.3 8.4",
		"5.7.29-32-log":                            "MySQL 5.7.29 5.7",
	} {
		f, v, err := ParseVersion(full)
		if got := fmt.Sprint(f, " ", v, " ", v.Series()); err != nil || got != want || v.Full != full {
			t.Errorf("%q: %s, %v, want %s", full, got, err, want)
		}
	}
	for _, full := range []string{"", "MariaDB", "10.5", "10.5.x", "10..5", "99999.1.1", "1.2.3.4", "-1.2.3"} {
		if f, v, err := ParseVersion(full); err == nil {
			t.Errorf("%q: %v %v, want an error", full, f, v)
		}
	}
}

func TestSeries(t *testing.T) {
	for full, want := range map[string]Series{
		"10.5.0-MariaDB":  {Files: metadata.XtraBackupNames, SuperSees: true},
		"10.6.9-MariaDB":  {SuperSees: true, RecoverBinlogInfo: true, GaleraDomain: true, ListsOpen: true},
		"10.11.1-MariaDB": {SuperSees: true, RecoverBinlogInfo: true, GaleraDomain: true, ListsOpen: true},
		"11.0.2-MariaDB":  {RecoverBinlogInfo: true, GaleraDomain: true, ListsOpen: true},
		"11.1.2-MariaDB":  {Files: metadata.MariaDBNames, RecoverBinlogInfo: true, GaleraDomain: true, ListsOpen: true},
		"11.8.6-MariaDB":  {Files: metadata.MariaDBNames, RecoverBinlogInfo: true, GaleraDomain: true, ListsOpen: true},
	} {
		if want.Files == (metadata.Names{}) {
			want.Files = metadata.XtraBackupNames
		}
		want.Stages = true
		f, v, err := ParseVersion(full)
		if err != nil {
			t.Fatal(err)
		}
		if d, err := SeriesOf(f, v); err != nil || d != want {
			t.Errorf("%s: %+v, %v, want %+v", full, d, err, want)
		}
	}
	for _, full := range []string{"10.4.30-MariaDB", "12.0.1-MariaDB", "8.4.3" /* without a comment */, "10.6.1"} {
		f, v, err := ParseVersion(full)
		if err != nil {
			t.Fatal(err)
		}
		_, err = SeriesOf(f, v)
		ue, ok := errors.AsType[*UnsupportedError](err)
		if !ok || ue.Version != v || !strings.Contains(err.Error(), full) || !strings.Contains(err.Error(), "MariaDB 10.5 to before 12.0") {
			t.Errorf("%s: %v", full, err)
		}
	}
}

// TestTestedWith: releases that are supported and not tested are known.
func TestTestedWith(t *testing.T) {
	for full, want := range map[string]string{
		"5.6.51": "5.6.24", "5.7.44": "5.7.29", "8.0.28": "", "8.0.30": "9.7.4", "8.4.3": "9.7.4",
		"10.5.1-MariaDB": "10.5.23", "10.7.8-MariaDB": "10.5.23", "10.8.3-MariaDB": "10.11.18", "11.4.2-MariaDB": "11.8.6 11.8.9",
	} {
		f, v, err := ParseVersion(full)
		if got := strings.Join(TestedWith(f, v), " "); got != want || err != nil {
			t.Errorf("%s: %q, %v; want %q", full, got, err, want)
		}
	}
	if got := TestedWith(MySQL, Version{Major: 5, Minor: 7, Patch: 29, Comment: "Percona Server (GPL)"}); got != nil {
		t.Errorf("a fork: %q", got)
	}
}
