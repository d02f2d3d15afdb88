package mysqld

import (
	"fmt"
	"slices"
	"strings"

	"hb/xbstream/metadata"
)

// A Series is what differs between the release series of one flavor, as far
// as SQL and the metadata files go.
type Series struct {
	// Files are the names of the metadata files that the release's own tool
	// writes (seen with mariadb-backup 10.5.23, 10.11.18 and 11.8.6; the
	// names changed in 11.1). On MySQL they are XtraBackup's.
	Files metadata.Names

	// Stages: the server has BACKUP STAGE. True of MariaDB, as are all facts
	// up to ListsOpen.
	Stages bool
	// RecoverBinlogInfo: the checkpoints file has a recover_binlog_info line.
	RecoverBinlogInfo bool
	// SuperSees: SUPER includes BINLOG MONITOR and SLAVE MONITOR. True for
	// 10.5 and 10.11, false for 11.8 (run on all three; MariaDB's manual
	// names 11.0 as the change).
	SuperSees bool
	// GaleraDomain: the Galera file has the domain id after the position, and
	// there is a second copy of it (metadata.DonorGaleraInfoName).
	GaleraDomain bool
	// ListsOpen: INNODB_SYS_TABLESPACES lists the tablespaces that InnoDB has open, so it
	// omits discarded and missing ones. Before MariaDB 10.6.0 it lists the dictionary's
	// contents instead (per the manual; verified on 10.5, 10.11 and 11.8).
	ListsOpen bool

	// LogStatus: the server has LOCK INSTANCE FOR BACKUP and
	// performance_schema.log_status. Without it the position is taken under
	// FLUSH TABLES WITH READ LOCK or Percona's LOCK BINLOG FOR BACKUP.
	LogStatus bool
	// WaitsForPrepared: log_status answers only when no transaction is
	// prepared and not yet committed, so that position and LSN agree exactly,
	// except for XA transactions and for the GTID set. True of 9.7 (9.7.2,
	// sql/log_resource.cc, waits for sql/binlog.cc's count of prepared XIDs); taken as false of
	// all that is older. The end of the
	// binary log decides which transactions are committed.
	WaitsForPrepared bool
	// TablesLock: Percona Server's LOCK TABLES FOR BACKUP, which blocks DDL
	// and writes to non-transactional tables (have_backup_locks).
	TablesLock bool
	// BinlogLock: Percona Server's LOCK BINLOG FOR BACKUP, which blocks
	// commits (5.6 and 5.7 with have_backup_locks).
	BinlogLock bool
	// UnloggedBuilds: indexes are built on pages whose contents are not in the redo
	// log, and DDL can go on during a backup (5.7). 5.6 logs them, and in 8.0 and later
	// the backup lock waits for DDL.
	UnloggedBuilds bool
	// RedoConsumer: the server has innodb_redo_log_consumer_register().
	RedoConsumer bool

	// Encrypts: hb reads what a MySQL encrypts at rest, tablespaces, redo log and binary log,
	// which tests run on 9.7, whose formats these releases share. Of MariaDB it is false.
	Encrypts bool

	ListsFiles   bool // INFORMATION_SCHEMA.FILES lists all tablespaces
	ReplicaWords bool // SHOW REPLICA STATUS and the like
	BinlogStatus bool // SHOW BINARY LOG STATUS
	SourceWords  bool // the slave info file says CHANGE REPLICATION SOURCE TO
	Roles        bool // roles and dynamic privileges
}

// The MariaDB releases that hb backs up: from 10.5, whose redo log is the
// first with physical records, to before 12, which begins to change where the
// binary log and the redo log are kept. Servers of 10.5, 10.11 and 11.8 are what
// the tests run.
const (
	firstMajor, firstMinor = 10, 5
	beyondMajor            = 12
)

// mysqlSpans are the releases of MySQL that hb backs up, each from the first
// one for general use to before the next. 5.6, 5.7 and 9.7 are what the tests
// run; 8.0.30 to 9.7 share one redo log format. Which release writes which format: package
// mysqlredo.
var mysqlSpans = []struct{ from, before release }{
	{release{5, 6, 10}, release{5, 7, 0}},
	{release{5, 7, 9}, release{5, 8, 0}},
	{release{8, 0, 11}, release{8, 0, 29}}, // the redo of 8.0.29 has a form of its own
	{release{8, 0, 30}, release{9, 8, 0}},
}

// testedReleases are the releases that the tests run, each for a range of releases
// that share its formats.
var testedReleases = []struct {
	flavor       Flavor
	from, before release
	tested       []string
}{
	{MySQL, release{5, 6, 10}, release{5, 7, 0}, []string{"5.6.24"}},
	{MySQL, release{5, 7, 9}, release{5, 8, 0}, []string{"5.7.29"}},
	{MySQL, release{8, 0, 30}, release{9, 8, 0}, []string{"9.7.4"}},
	{MariaDB, release{10, 5, 0}, release{10, 8, 0}, []string{"10.5.23"}},
	{MariaDB, release{10, 8, 0}, release{11, 0, 0}, []string{"10.11.18"}},
	{MariaDB, release{11, 0, 0}, release{12, 0, 0}, []string{"11.8.6", "11.8.9"}},
}

// TestedWith returns the releases with v's formats that the tests run; none, if
// hb knows them only from the server's source, or if v is a fork.
func TestedWith(f Flavor, v Version) []string {
	for _, t := range testedReleases {
		if t.flavor == f && !v.Percona() && !v.before(t.from) && v.before(t.before) {
			return t.tested
		}
	}
	return nil
}

// Supported are these releases, for people.
var Supported = fmt.Sprintf("MySQL and Percona Server 5.6 (from 5.6.10), 5.7 (from 5.7.9), 8.0 (from 8.0.11, without 8.0.29) to 9.7, and MariaDB %d.%d to before %d.0",
	firstMajor, firstMinor, beyondMajor)

// mysqlFacts are what MySQL's releases learned, oldest first. A release knows
// all that stands up to it.
var mysqlFacts = []struct {
	from release
	set  func(d *Series)
}{
	// The first release for general use. Names as XtraBackup 2.4 and 8.0 write them.
	{release{5, 6, 10}, func(d *Series) { d.Files = metadata.XtraBackupNames }},
	// Run on both (source, TestBuilds): 5.7.29 builds indexes without redo, 5.6.24 with it. 5.7.9 is the
	// first release for general use, and the first with redo log format 1.
	{release{5, 7, 9}, func(d *Series) { d.UnloggedBuilds = true }},
	// The first release for general use. Its manual has LOCK INSTANCE FOR BACKUP, log_status, roles and
	// BACKUP_ADMIN; 9.7.2: sql/sql_backup_lock.cc, sql/log_resource.cc. All were run on 9.7.4 only.
	{release{8, 0, 11}, func(d *Series) { d.LogStatus, d.ListsFiles, d.Roles, d.UnloggedBuilds = true, true, true, false }},
	// The manual of 8.0, SHOW REPLICA STATUS: from 8.0.22.
	{release{8, 0, 22}, func(d *Series) { d.ReplicaWords = true }},
	// The first release with #innodb_redo, of which the consumer reads: 9.7.2,
	// storage/innobase/log/log0meb.cc.
	{release{8, 0, 30}, func(d *Series) { d.RedoConsumer, d.Encrypts = true, true }},
	// The manual of 8.3, SHOW BINARY LOG STATUS: added in 8.2.0. (8.4.0 lacks SHOW MASTER STATUS.)
	{release{8, 2, 0}, func(d *Series) { d.BinlogStatus = true }},
	// 8.4.0 lacks CHANGE MASTER TO (its release notes), and XtraBackup 8.4 writes the other.
	{release{8, 4, 0}, func(d *Series) { d.SourceWords = true }},
	// See Series.
	{release{9, 7, 0}, func(d *Series) { d.WaitsForPrepared = true }},
}

// knownComments are words in the version_comment of MySQL as its makers and
// the distributions build it, and of Percona Server. A fork calls itself
// otherwise.
var knownComments = []string{"mysql", "percona server", "source distribution", "(debian)", "(ubuntu)", "homebrew"}

// An UnsupportedError says that hb cannot back up this server.
type UnsupportedError struct {
	Flavor  Flavor
	Version Version
}

func (e *UnsupportedError) Error() string {
	name := fmt.Sprintf("%v %s", e.Flavor, e.Version.Full)
	if e.Flavor == MySQL && e.Version.Comment != "" {
		name = fmt.Sprintf("%s (%s)", e.Version.Full, e.Version.Comment)
	}
	return fmt.Sprintf("this server is %s; hb backs up %s", name, Supported)
}

// SeriesOf returns the series of a release, or an *UnsupportedError. On MySQL
// the release's Comment tells forks apart.
func SeriesOf(f Flavor, v Version) (Series, error) {
	switch {
	case f == MariaDB && v.AtLeast(firstMajor, firstMinor) && v.Major < beyondMajor:
		return mariadbSeries(v), nil
	case f == MySQL && v.supportedMySQL():
		var d Series
		for _, fact := range mysqlFacts {
			if !v.before(fact.from) {
				fact.set(&d)
			}
		}
		return d, nil
	}
	return Series{}, &UnsupportedError{Flavor: f, Version: v}
}

func (v Version) supportedMySQL() bool {
	comment := strings.ToLower(v.Comment)
	known := slices.ContainsFunc(knownComments, func(word string) bool { return strings.Contains(comment, word) })
	for _, span := range mysqlSpans {
		if known && !v.before(span.from) && v.before(span.before) {
			return true
		}
	}
	return false
}

// learn adds the facts that only the server's variables show.
func (d *Series) learn(v Vars) {
	d.TablesLock = v.String("have_backup_locks") == "YES"
	d.BinlogLock = d.TablesLock && !d.LogStatus
}

func mariadbSeries(v Version) Series {
	d := Series{
		Files:     metadata.XtraBackupNames,
		SuperSees: !v.AtLeast(11, 0),
		Stages:    true,
	}
	if v.AtLeast(10, 6) {
		d.RecoverBinlogInfo = true
		d.GaleraDomain = true
		d.ListsOpen = true
	}
	if v.AtLeast(11, 1) {
		d.Files = metadata.MariaDBNames
	}
	return d
}

// An UnsupportedFeatureError says that the server uses something whose data hb
// cannot copy correctly.
type UnsupportedFeatureError struct {
	Feature string // its name
	Detail  string // the evidence
}

func (e *UnsupportedFeatureError) Error() string {
	return fmt.Sprintf("the server has %s (%s): hb does not back that up", e.Feature, e.Detail)
}
