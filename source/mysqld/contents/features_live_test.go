package contents

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"hb/source/mysqld"
	"hb/source/mysqld/mysqldtest"
	"hb/source/mysqld/mysqldtest/client"
)

func TestCheckFeatures(t *testing.T) {
	mysqldtest.Each(t, mysqldtest.MariaDB, func(t *testing.T, root *mysqldtest.Root) {
		keys := filepath.Join(t.TempDir(), "keys")
		if err := os.WriteFile(keys, []byte("1;770a8a65da156d24ee2a093277530142\n"), 0o600); err != nil {
			t.Fatal(err)
		}
		plugin := []string{"plugin-load-add=file_key_management", "file-key-management-filename=" + keys}
		s := mysqldtest.Start(t, root, mysqldtest.Options{Config: plugin})
		srv := client.Connect(t, client.Options(s))
		refused := func(want string) {
			t.Helper()
			err := CheckFeatures(t.Context(), srv)
			if fe, ok := errors.AsType[*mysqld.UnsupportedFeatureError](err); want == "" && err != nil || want != "" && (!ok || !strings.Contains(fe.Detail, want)) {
				t.Errorf("want %q: %v", want, err)
			}
		}
		refused("") // a key plugin encrypts nothing
		s.Exec(t, "CREATE DATABASE d", "CREATE TABLE d.plain (id INT) ENGINE=InnoDB ENCRYPTED=NO")
		refused("")
		s.Exec(t, "CREATE TABLE d.secret (id INT) ENGINE=InnoDB ENCRYPTED=YES")
		s.Exec(t, "SET GLOBAL innodb_encrypt_tables = ON")
		refused("") // pages are copied as they are
		s.Exec(t, "SET GLOBAL innodb_encrypt_tables = OFF", "SET GLOBAL aria_encrypt_tables = ON")
		refused("") // blocks, too
		plugins, err := Plugins(t.Context(), srv)
		if err != nil || len(plugins) < 20 || len(ProviderPlugins(plugins)) != 0 {
			t.Errorf("plugins: %v, %v", plugins, err)
		}
		if err := errors.Join(srv.Close(), s.Stop()); err != nil {
			t.Error(err)
		}
		s = mysqldtest.StartOn(t, root, s.Datadir, mysqldtest.Options{Config: append(plugin, "innodb-encrypt-log=ON")})
		srv = client.Connect(t, client.Options(s))
		refused("") // the redo log's reader knows the form
		if err := srv.Close(); err != nil {
			t.Error(err)
		}
	})
}

func TestMySQLFeatures(t *testing.T) {
	mysqldtest.EachServer(t, mysqldtest.MySQL, mysqldtest.Options{}, func(t *testing.T, s *mysqldtest.Server) {
		if err := CheckFeatures(t.Context(), client.Connect(t, client.Options(s))); err != nil {
			t.Errorf("plain server: %v", err)
		}
		dir := s.Datadir
		if err := s.Stop(); err != nil {
			t.Fatal(err)
		}
		// Reading only comes first: it starts on what was shut down alone.
		configs := []string{"innodb_read_only=ON", "innodb_force_recovery=1"}
		if s.Root.AtLeast(5, 7) {
			configs = append(configs, "innodb_log_checksums=OFF")
		}
		for _, config := range configs {
			s := mysqldtest.StartOn(t, s.Root, dir, mysqldtest.Options{Config: []string{config}})
			err := CheckFeatures(t.Context(), client.Connect(t, client.Options(s)))
			if fe, ok := errors.AsType[*mysqld.UnsupportedFeatureError](err); !ok || fe.Detail != config {
				t.Errorf("%s: %v", config, err)
			}
			// Killed: 5.6 and 5.7 may never end a shutdown in these states.
			if err := s.Kill(); err != nil {
				t.Error(err)
			}
		}
	})
}

// TestMySQLEncrypted encrypts one thing after the other.
func TestMySQLEncrypted(t *testing.T) {
	root := mysqldtest.Need(t, mysqldtest.MySQL97)
	s := mysqldtest.Start(t, root, mysqldtest.Options{Binlog: true})
	s.Exec(t, "CREATE DATABASE d", "CREATE TABLE d.plain (a INT PRIMARY KEY) ENGINE=InnoDB")
	srv := client.Connect(t, client.Options(s))
	check := func(want string) {
		t.Helper()
		srv := client.Connect(t, client.Options(s))
		err := CheckFeatures(t.Context(), srv)
		fe, ok := errors.AsType[*mysqld.UnsupportedFeatureError](err)
		if (want == "") != (err == nil) || (ok && !strings.Contains(fe.Error(), want)) {
			t.Errorf("error = %v, want %q", err, want)
		}
	}
	s.Exec(t, "ALTER INSTANCE DISABLE INNODB REDO_LOG")
	check("DISABLE INNODB REDO_LOG")
	s.Exec(t, "ALTER INSTANCE ENABLE INNODB REDO_LOG")
	check("")
	if err := errors.Join(srv.Close(), s.Stop()); err != nil {
		t.Fatal(err)
	}
	ring, config := keyringRoot(t, root)
	s = mysqldtest.StartOn(t, ring, s.Datadir, mysqldtest.Options{Binlog: true, Config: config})
	check("") // a keyring alone is not encryption
	s.Exec(t, "CREATE TABLE d.secret (a INT PRIMARY KEY) ENGINE=InnoDB ENCRYPTION='Y'")
	check("")
	s.Exec(t, "ALTER TABLE d.secret ENCRYPTION='N'")
	check("")
	s.Exec(t, "CREATE TABLESPACE g ADD DATAFILE 'g.ibd' ENCRYPTION='Y' ENGINE=InnoDB")
	check("")
	s.Exec(t, "DROP TABLESPACE g", "ALTER TABLESPACE mysql ENCRYPTION='Y'")
	check("")
	s.Exec(t, "ALTER TABLESPACE mysql ENCRYPTION='N'", "SET GLOBAL innodb_undo_log_encrypt=ON")
	check("")
	s.Exec(t, "SET GLOBAL innodb_undo_log_encrypt=OFF", "SET GLOBAL innodb_redo_log_encrypt=ON")
	check("")
	s.Exec(t, "SET GLOBAL innodb_redo_log_encrypt=OFF", "SET GLOBAL binlog_encryption=ON")
	check("")
}

// keyringRoot makes a root whose server loads the keyring component, which it does
// only for a manifest beside its program, and returns the lines that this takes.
func keyringRoot(t *testing.T, root *mysqldtest.Root) (*mysqldtest.Root, []string) {
	t.Helper()
	dir := t.TempDir()
	write := func(name, text string, mode os.FileMode) {
		t.Helper()
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), mode); err != nil {
			t.Fatal(err)
		}
	}
	lib := filepath.Join(root.Dir, "usr", "lib")
	read := func(path string) string {
		t.Helper()
		b, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		return string(b)
	}
	libs := filepath.Join(lib, "x86_64-linux-gnu")
	write("sbin/mysqld", read(filepath.Join(root.Dir, "usr", "sbin", "mysqld")), 0o755)
	write("sbin/mysqld.my", `{"components": "file://component_keyring_file"}`, 0o644)
	write("plugin/component_keyring_file.so", read(filepath.Join(lib, "mysql", "plugin", "component_keyring_file.so")), 0o644)
	write("plugin/component_keyring_file.cnf", `{"path": "`+dir+`/keys", "read_only": false}`, 0o644)
	write("run/mysqld", "#!/bin/sh\nexec "+libs+"/ld-linux-x86-64.so.2 --library-path "+libs+" "+dir+"/sbin/mysqld \"$@\"\n", 0o755)
	ring := *root
	ring.Dir = dir
	return &ring, []string{"plugin-dir=" + dir + "/plugin"}
}
