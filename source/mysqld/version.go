package mysqld

import (
	"cmp"
	"fmt"
	"strconv"
	"strings"

	"hb/xbstream/metadata"
)

// A Flavor is a family of servers that share formats.
type Flavor int

// The flavors.
const (
	MySQL Flavor = iota + 1
	MariaDB
)

// String is the family's name.
func (f Flavor) String() string {
	switch f {
	case MySQL:
		return "MySQL"
	case MariaDB:
		return "MariaDB"
	}
	return "unknown server"
}

// A Version is a server's release.
type Version struct {
	Major, Minor, Patch int
	// Full is what VERSION() says, such as
	// "11.8.6-MariaDB-0+deb13u1 from Debian-log".
	Full string
}

// maxVersionNumber bounds each part of a version.
const maxVersionNumber = 9999

// ParseVersion reads what VERSION() returns.
func ParseVersion(full string) (Flavor, Version, error) {
	v := Version{Full: full}
	number := full
	if i := strings.IndexFunc(full, func(r rune) bool { return r != '.' && (r < '0' || r > '9') }); i >= 0 {
		number = full[:i]
	}
	parts := strings.Split(number, ".")
	if len(parts) != 3 {
		return 0, Version{}, fmt.Errorf("the server's version %q is not of the form 1.2.3", full)
	}
	for i, dst := range []*int{&v.Major, &v.Minor, &v.Patch} {
		n, err := strconv.Atoi(parts[i])
		if err != nil || n > maxVersionNumber {
			return 0, Version{}, fmt.Errorf("the server's version %q is not of the form 1.2.3", full)
		}
		*dst = n
	}
	if strings.Contains(strings.ToLower(full), "mariadb") {
		return MariaDB, v, nil
	}
	return MySQL, v, nil
}

// Series is the release series, such as "10.11".
func (v Version) Series() string { return fmt.Sprintf("%d.%d", v.Major, v.Minor) }

// String is the plain number, such as "10.11.18".
func (v Version) String() string { return fmt.Sprintf("%d.%d.%d", v.Major, v.Minor, v.Patch) }

// AtLeast reports whether v is that series or a later one.
func (v Version) AtLeast(major, minor int) bool {
	return cmp.Or(cmp.Compare(v.Major, major), cmp.Compare(v.Minor, minor)) >= 0
}

// A Dialect is what differs between the release series of one flavor, as far
// as SQL and the metadata files go.
type Dialect struct {
	// Files are the names of the metadata files that the release's own tool
	// writes (seen with mariadb-backup 10.5.23, 10.11.18 and 11.8.6; the
	// names changed in 11.1).
	Files metadata.Names
	// RecoverBinlogInfo: the checkpoints file has a recover_binlog_info line.
	RecoverBinlogInfo bool
	// SuperSees: SUPER includes BINLOG MONITOR and SLAVE MONITOR. True for
	// 10.5 and 10.11, false for 11.8 (run on all three; MariaDB's manual
	// names 11.0 as the change).
	SuperSees bool
	// GaleraDomain: the Galera file has the domain id after the position, and
	// there is a second copy of it (metadata.DonorGaleraInfoName).
	GaleraDomain bool
}

// The MariaDB releases that hb backs up: from 10.5, whose redo log is the
// first with physical records, to before 12, which begins to change where the
// binary log and the redo log are kept. Servers of 10.5, 10.11 and 11.8 are what
// the tests run.
const (
	firstMajor, firstMinor = 10, 5
	beyondMajor            = 12
)

// An UnsupportedError says that hb cannot back up this server.
type UnsupportedError struct {
	Flavor  Flavor
	Version Version
}

func (e *UnsupportedError) Error() string {
	return fmt.Sprintf("this server is %v %s; hb backs up MariaDB %d.%d to before %d.0",
		e.Flavor, e.Version.Full, firstMajor, firstMinor, beyondMajor)
}

// DialectOf returns the dialect of a release, or an *UnsupportedError.
func DialectOf(f Flavor, v Version) (Dialect, error) {
	if f != MariaDB || !v.AtLeast(firstMajor, firstMinor) || v.Major >= beyondMajor {
		return Dialect{}, &UnsupportedError{Flavor: f, Version: v}
	}
	d := Dialect{
		Files:     metadata.XtraBackupNames,
		SuperSees: !v.AtLeast(11, 0),
	}
	if v.AtLeast(10, 6) {
		d.RecoverBinlogInfo = true
		d.GaleraDomain = true
	}
	if v.AtLeast(11, 1) {
		d.Files = metadata.MariaDBNames
	}
	return d, nil
}
