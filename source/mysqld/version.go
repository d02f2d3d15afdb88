package mysqld

import (
	"cmp"
	"fmt"
	"slices"
	"strconv"
	"strings"
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
	// Full is the answer to VERSION(), such as
	// "11.8.6-MariaDB-0+deb13u1 from Debian-log".
	Full string
	// Comment is version_comment: what MySQL and its forks call themselves,
	// such as "MySQL Community Server - GPL" or "Percona Server (GPL), Release
	// 27". ParseVersion leaves it empty.
	Comment string
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

// before reports whether v is older than that release.
func (v Version) before(r release) bool {
	return slices.Compare([]int{v.Major, v.Minor, v.Patch}, r[:]) < 0
}

// A release is a version's three numbers.
type release [3]int

// Percona reports whether the release is Percona Server's.
func (v Version) Percona() bool {
	return strings.Contains(strings.ToLower(v.Comment), "percona server")
}
