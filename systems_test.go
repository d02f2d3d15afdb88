package main

import (
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"

	"hb/sink/backupdir"
	"hb/sink/catalog"
	"hb/sink/sinktest"
	"hb/source"
	"hb/source/pages"
	"hb/source/scope"
	"hb/source/since"
	"hb/stream"
	"hb/stream/disk"
	"hb/xbstream"
	"hb/xbstream/innodb"
	"hb/xbstream/innodb/mariadbredo"
	"hb/xbstream/innodb/mysqlredo"
	"hb/xbstream/metadata"
)

// TestSystems: hb says what it cannot do on a system that is not Linux, with an
// exit code of its own.
func TestSystems(t *testing.T) {
	if err := source.CheckSystem("linux"); err != nil {
		t.Error(err)
	}
	for _, system := range []string{"darwin", "windows"} {
		err := source.CheckSystem(system)
		if code := exitStatus(err); code != 4 || !strings.Contains(err.Error(), "only on Linux; on "+system) {
			t.Errorf("exit code %d: %v", code, err)
		}
	}
	if code := exitStatus(fmt.Errorf("creating it: %w", &disk.NameError{Name: "a:b", Reason: "it has a colon"})); code != 4 {
		t.Errorf("exit code %d of a name that cannot be", code)
	}
	if code := exitStatus(fmt.Errorf("db/t.ibd: %w", &innodb.UnsupportedError{What: "it is encrypted"})); code != 4 {
		t.Errorf("exit code %d of what hb cannot do", code)
	}
	if code := exitStatus(fmt.Errorf("db/t.ibd: %w", &innodb.InternalError{What: "no"})); code != 1 {
		t.Errorf("exit code %d of an internal error", code)
	}
}

// TestReadersExit: what is wrong with an archive or a directory has an exit code by its
// kind, which the tests of damaged archives go by.
func TestReadersExit(t *testing.T) {
	for _, test := range []struct {
		err  error
		code int
	}{
		{&innodb.UnsupportedError{What: "it is encrypted"}, 4}, {&metadata.VersionError{}, 4},
		{&mariadbredo.UnsupportedError{}, 4}, {&mysqlredo.UnsupportedError{}, 4}, {&mysqlredo.FlagsError{}, 4},
		{&catalog.IncompleteError{}, 6}, {&backupdir.MissingError{}, 6}, {io.ErrUnexpectedEOF, 6},
		{&xbstream.CorruptError{}, 7}, {&stream.DamageError{}, 7}, {&stream.NotArchiveError{}, 7}, {&backupdir.DamageError{}, 7},
		{&backupdir.TargetError{}, 8}, {&backupdir.NotBackupError{}, 8}, {&stream.EncryptedError{}, 10},
	} {
		wrapped := errors.Join(test.err, errors.New("closing it"))
		if code, told := exitStatus(wrapped), sinktest.Code(wrapped); code != test.code || told != test.code {
			t.Errorf("%T: exit code %d, in tests %d, want %d", test.err, code, told, test.code)
		}
	}
}

// TestDuplicateExit: a stray copy of a tablespace is refused like other files that a
// backup cannot hold.
func TestDuplicateExit(t *testing.T) {
	if code := exitStatus(fmt.Errorf("listing files: %w", &pages.DuplicateError{})); code != 4 {
		t.Errorf("exit code %d", code)
	}
}

// TestUnloggedExit: DDL in the way of a backup has the exit code of a backup that
// may be tried again.
func TestUnloggedExit(t *testing.T) {
	if code := exitStatus(fmt.Errorf("copying: %w", &source.UnloggedError{Name: "ibdata1"})); code != 5 {
		t.Errorf("exit code %d", code)
	}
}

// TestNameExit: a name that the server never had is a mistake in the command line; a table
// that was dropped meanwhile is not, nor is a base of other tables.
func TestNameExit(t *testing.T) {
	for code, err := range map[int]error{
		2: &scope.NameError{Option: "--databases", Name: "d", What: "database"}, 5: &scope.NameError{Option: "--databases", Name: "d", What: "database", Gone: true},
		11: &since.ScopeError{Base: "full.hb", Ours: &metadata.Scope{Databases: []string{"d"}}},
	} {
		if got := exitStatus(fmt.Errorf("backup: %w", err)); got != code {
			t.Errorf("%v: exit code %d, want %d", err, got, code)
		}
	}
}
