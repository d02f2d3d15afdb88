package source_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"hb/source"
	"hb/source/mysqld"
	"hb/source/mysqld/mysqldtest"
)

// TestUnknownEngine: a table of an engine that nobody knows to be copied whole is
// refused by name, before anything is locked and when it appears during the backup;
// one that keeps no data of its own is not. There is no package with CONNECT or
// Mroonga here, so that a name in a definition is changed.
func TestUnknownEngine(t *testing.T) {
	mysqldtest.Each(t, mysqldtest.MariaDB, func(t *testing.T, root *mysqldtest.Root) {
		s := mysqldtest.Start(t, root, mysqldtest.Options{})
		s.Exec(t, "INSTALL SONAME 'ha_sphinx'", "INSTALL SONAME 'ha_archive'", "CREATE DATABASE d", "CREATE VIEW d.v AS SELECT 1",
			"CREATE SEQUENCE d.s", "CREATE TABLE d.arc (id INT) ENGINE=ARCHIVE", "CREATE TABLE d.mem (id INT) ENGINE=MEMORY",
			"CREATE TABLE d.parts (id INT) ENGINE=Aria PARTITION BY HASH (id) PARTITIONS 2", "CREATE TABLE d.inno (id INT, KEY (id)) ENGINE=InnoDB COMMENT 'ENGINE = CONNECT'",
			"CREATE TABLE d.remote (id BIGINT UNSIGNED NOT NULL, weight INT NOT NULL, query VARCHAR(3072) NOT NULL, INDEX (query)) ENGINE=SPHINX CONNECTION='sphinx://localhost:9312/t'")
		if _, err := tryBackup(t, s); err != nil {
			t.Fatal(err)
		}
		remote := filepath.Join(s.Datadir, "d", "remote.frm")
		definition, err := os.ReadFile(remote)
		if err != nil {
			t.Fatal(err)
		}
		unknown := bytes.ReplaceAll(definition, []byte("\x06\x00SPHINX"), []byte("\x06\x00MROONG"))
		made := filepath.Join(s.Datadir, "d", "new.frm")
		make := func() {
			if err := os.WriteFile(made, unknown, 0o640); err != nil {
				t.Error(err)
			}
		}
		refused := func(locks int, err error) {
			t.Helper()
			fe, ok := errors.AsType[*mysqld.UnsupportedFeatureError](err)
			if !ok || !strings.Contains(fe.Error(), "MROONG") || !strings.Contains(fe.Error(), "d/new") || locks > 0 {
				t.Errorf("after %d locks: %v", locks, err)
			}
		}
		began := false
		_, err = hooked(t, s, io.Discard, source.Options{Pace: func(context.Context, int) error {
			if !began {
				began = true
				make()
			}
			return nil
		}})
		refused(0, err)
		locks, err := tryBackup(t, s)
		refused(len(locks), err)
	})
}
