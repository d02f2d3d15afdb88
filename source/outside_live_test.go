package source_test

import (
	"errors"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"filippo.io/age"

	"hb/sink"
	"hb/sink/apply"
	"hb/sink/backupdir"
	"hb/sink/extract"
	"hb/source"
	"hb/source/mysqld/mysqldtest"
	"hb/xbstream/keyring"
)

// TestInPlace: a backup is restored in the place of a server that had tablespaces
// outside its data directory, and the server starts on what the backup has, not on
// the old files. MySQL 9.7 and MariaDB have encrypted them, and the backup has their keys.
func TestInPlace(t *testing.T) {
	servers := []string{mysqldtest.MySQL57, mysqldtest.MySQL97, mysqldtest.MariaDB105}
	if mysqldtest.Long() {
		servers = slices.Concat(mysqldtest.MySQL, mysqldtest.MariaDB)
	}
	mysqldtest.Each(t, servers, func(t *testing.T, root *mysqldtest.Root) {
		elsewhere := t.TempDir()
		o := mysqldtest.Options{Binlog: true}
		tables := map[string]string{"d.t": " DATA DIRECTORY='" + elsewhere + "'"}
		identity, err := age.GenerateX25519Identity()
		if err != nil {
			t.Fatal(err)
		}
		opt := source.Options{Recipients: []age.Recipient{identity.Recipient()}}
		encrypted, ring := "", filepath.Join(t.TempDir(), "keyring")
		switch {
		case root.MariaDB():
			encrypted = " ENCRYPTED=YES"
			lines, flags := (&encryptedServer{algorithm: "aes_cbc"}).keyFiles(t)
			o.Config, opt.Keys = lines, loadKeys(t, flags)
		case root.AtLeast(8, 0):
			encrypted, o.Keyring = " ENCRYPTION='Y'", ring
			o.Config = []string{"innodb-directories=" + elsewhere}
		}
		s := mysqldtest.Start(t, root, o)
		s.Exec(t, "CREATE DATABASE d")
		if !root.MariaDB() && root.AtLeast(5, 7) {
			s.Exec(t, "CREATE TABLESPACE far ADD DATAFILE '"+elsewhere+"/other.ibd'"+encrypted)
			tables["d.g"] = " TABLESPACE far"
		}
		for table, options := range tables {
			s.Exec(t, "CREATE TABLE "+table+" (id INT PRIMARY KEY) ENGINE=InnoDB"+options+encrypted, "INSERT INTO "+table+" VALUES (1), (2)")
		}
		archive := filepath.Join(t.TempDir(), "archive")
		result := hookedBackup(t, s, archive, hooks{opt: opt})
		if w := strings.Join(result.Manifest.Warnings, "\n"); !strings.Contains(w, "outside the data directory") || !strings.Contains(w, elsewhere) {
			t.Errorf("warnings at backup: %q", w)
		}
		for table := range tables {
			s.Exec(t, "INSERT INTO "+table+" VALUES (3)")
		}
		keys := opt.Keys
		if o.Keyring != "" {
			keys = keysOf(t, ring)
		}
		running := filepath.Join(t.TempDir(), "beside")
		if _, err := restoreInPlace(t, archive, running, keys); err == nil || !strings.Contains(err.Error(), "in use") {
			t.Errorf("while the server runs: %v", err)
		}
		if err := s.Stop(); err != nil {
			t.Fatal(err)
		}
		if err := os.Rename(s.Datadir, s.Datadir+".before"); err != nil {
			t.Fatal(err)
		}
		applied, err := apply.Run(t.Context(), running, apply.Options{Keys: keys})
		if err != nil || !strings.Contains(strings.Join(applied.Warnings, "\n"), "--in-place") {
			t.Errorf("without --in-place: %+v, %v", applied, err)
		}
		if applied, err = restoreInPlace(t, archive, s.Datadir, keys); err != nil || len(applied.Warnings) != len(tables) {
			t.Errorf("%+v, %v", applied, err)
		}
		r := mysqldtest.StartOn(t, root, s.Datadir, mysqldtest.Options{Config: o.Config, Keyring: o.Keyring})
		for table := range tables {
			hasTwo(t, r, table)
		}
		if encrypted != "" {
			byIdentity(t, root, archive, identity, o, slices.Sorted(maps.Keys(tables)))
		}
		if root.MariaDB() && root.AtLeast(10, 6) { // else 10.11.18 and 11.8.6 crash at the next ALTER
			r.Exec(t, "ALTER TABLE d.t FORCE, ALGORITHM=COPY")
		}
		r.Exec(t, "INSERT INTO d.t VALUES (4)", "ALTER TABLE d.t ADD v INT", "CREATE TABLE d.more (id INT PRIMARY KEY) ENGINE=InnoDB"+tables["d.g"]+encrypted)
		if root.MariaDB() || root.AtLeast(5, 7) {
			r.Exec(t, "DROP TABLE d.t")
		}
	})
}

// byIdentity restores a backup with encrypted tables outside the data directory by the identity
// alone, and starts a server with the keys that hb writes.
func byIdentity(t *testing.T, root *mysqldtest.Root, archive string, identity age.Identity, o mysqldtest.Options, tables []string) {
	t.Helper()
	dir := t.TempDir()
	target := filepath.Join(dir, "target")
	unpack(t, archive, target)
	_, err := apply.Run(t.Context(), target, apply.Options{})
	if _, ok := errors.AsType[*keyring.MissingKeyError](err); !ok {
		t.Errorf("without keys: %v", err)
	}
	with := apply.Options{Tool: "hb test", Identities: func() ([]age.Identity, error) { return []age.Identity{identity}, nil }}
	with.WriteKeyring = filepath.Join(dir, "written")
	if _, err := apply.Run(t.Context(), target, with); err != nil {
		t.Fatal(err)
	}
	if root.MariaDB() {
		o.Config = append(slices.Clone(o.Config), "file-key-management-filename="+with.WriteKeyring)
	} else {
		o.Keyring = with.WriteKeyring
	}
	s := mysqldtest.StartOn(t, root, target, mysqldtest.Options{Config: o.Config, Keyring: o.Keyring})
	for _, table := range tables {
		hasTwo(t, s, table)
	}
}

// hasTwo makes sure that a table is as the backup has it.
func hasTwo(t *testing.T, s *mysqldtest.Server, table string) {
	t.Helper()
	if got := s.Value(t, "SELECT GROUP_CONCAT(id ORDER BY id) FROM "+table); got != "1,2" {
		t.Errorf("%s has %s", table, got)
	}
	isSound(t, s, table)
}

func restoreInPlace(t *testing.T, archive, target string, keys *keyring.Keys) (*apply.Result, error) {
	t.Helper()
	f, err := os.Open(archive)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	_, applied, err := sink.Restore(t.Context(), f, target, extract.Options{}, apply.Options{Tool: "hb test", InPlace: true, Keys: keys})
	return applied, err
}

// TestByServerOutside: MariaDB recovers a table where its redo log names the file.
// A backup has tables with DATA DIRECTORY inside, so that --by-server is refused
// where the log names one, and right where it does not.
func TestByServerOutside(t *testing.T) {
	mysqldtest.Each(t, mysqldtest.MariaDB, func(t *testing.T, root *mysqldtest.Root) {
		elsewhere := filepath.Join(t.TempDir(), "elsewhere")
		if err := os.Mkdir(elsewhere, 0o777); err != nil {
			t.Fatal(err)
		}
		s := mysqldtest.Start(t, root, mysqldtest.Options{})
		s.Exec(t, "CREATE DATABASE d", "CREATE TABLE d.t (id INT PRIMARY KEY) ENGINE=InnoDB DATA DIRECTORY='"+elsewhere+"'", "INSERT INTO d.t VALUES (1), (2)")
		named := backedUp(t, s)
		if err := s.Stop(); err != nil {
			t.Fatal(err)
		}
		s = mysqldtest.StartOn(t, root, s.Datadir, mysqldtest.Options{})
		quiet := backedUp(t, s)
		if err := s.Stop(); err != nil {
			t.Fatal(err)
		}
		if err := os.Rename(elsewhere, elsewhere+".before"); err != nil {
			t.Fatal(err)
		}
		_, err := apply.Run(t.Context(), named, apply.Options{ByServer: true})
		if notBackup, ok := errors.AsType[*backupdir.NotBackupError](err); !ok || !strings.Contains(notBackup.What, elsewhere) {
			t.Errorf("the log names the file outside: %v", err)
		}
		for dir, byServer := range map[string]bool{named: false, quiet: true} {
			if _, err := apply.Run(t.Context(), dir, apply.Options{ByServer: byServer}); err != nil {
				t.Errorf("applied, by the server: %v: %v", byServer, err)
				continue
			}
			r := mysqldtest.StartOn(t, root, dir, mysqldtest.Options{})
			if got := r.Value(t, "SELECT GROUP_CONCAT(id ORDER BY id) FROM d.t"); got != "1,2" {
				t.Errorf("by the server: %v: the table has %s", byServer, got)
			}
			isSound(t, r, "d.t")
		}
	})
}

// backedUp is a backup of a server, extracted.
func backedUp(t *testing.T, s *mysqldtest.Server) string {
	t.Helper()
	base := t.TempDir()
	archive, dir := filepath.Join(base, "archive"), filepath.Join(base, "dir")
	backup(t, s, archive)
	f, err := os.Open(archive)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if _, err := extract.Run(t.Context(), f, dir, extract.Options{}); err != nil {
		t.Fatal(err)
	}
	return dir
}
