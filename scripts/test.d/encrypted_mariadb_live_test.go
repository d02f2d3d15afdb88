package testd

import (
	"bytes"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"hb/scripts/test.d/hbtest"
	"hb/source/mysqld/mysqldtest"
	"hb/stream/disk/disktest"
	"hb/xbstream/keyring"
	"hb/xbstream/xbtest"
)

// TestSealedChainMariaDB: incremental backups of a server that encrypts tablespaces, redo log and
// Aria tables, and converts tablespaces between them. With only the identity, after the server's
// key file is gone, the chain is verified, extracted and merged, and the server starts on either
// result with the key file that hb writes.
func TestSealedChainMariaDB(t *testing.T) {
	mysqldtest.Each(t, mysqldtest.MariaDB, func(t *testing.T, root *mysqldtest.Root) {
		dir := t.TempDir()
		keys := filepath.Join(dir, "keys")
		if err := os.WriteFile(keys, []byte("1;770A8A65DA156D24EE2A093277530142\n2;a7addd9adea9978fda19f21e6be987880e68ac92632ca052e5bb42b1a506939a\n"), 0o600); err != nil {
			t.Fatal(err)
		}
		config := func(file string) mysqldtest.Options {
			return mysqldtest.Options{Config: []string{"plugin-load-add=file_key_management", "file-key-management-filename=" + file,
				"file-key-management-encryption-algorithm=aes_ctr", "innodb-encrypt-log=ON", "aria-encrypt-tables=ON"}}
		}
		data := filepath.Join(dir, "data")
		if err := root.Initialise(data, nil); err != nil { // with an identity of its own
			t.Fatal(err)
		}
		s := &sealedServer{Server: mysqldtest.StartOn(t, root, data, config(keys)), dir: dir}
		s.options = []string{"--no-defaults", "-u", "root", "-S", s.Socket}
		s.key, s.to = identityFile(t, s.in("identity"))
		s.Exec(t, "CREATE DATABASE d")
		for name, options := range map[string]string{"t": "ENCRYPTED=YES", "plain": "ENCRYPTED=NO", "zip": "ROW_FORMAT=COMPRESSED KEY_BLOCK_SIZE=8 ENCRYPTED=YES",
			"packed": "PAGE_COMPRESSED=1 ENCRYPTED=YES", "other": "ENCRYPTED=YES ENCRYPTION_KEY_ID=2", "still": "ENCRYPTED=YES", "converted": ""} {
			s.Exec(t, "CREATE TABLE d."+name+" (id INT PRIMARY KEY, v VARCHAR(600)) ENGINE=InnoDB "+options,
				"INSERT INTO d."+name+" SELECT seq, CONCAT(SHA2(seq, 256), REPEAT('x', seq % 500)) FROM d.seq_1_to_900")
		}
		s.Exec(t, "CREATE TABLE d.aria ENGINE=Aria TRANSACTIONAL=1 SELECT * FROM d.t", "CREATE TABLE d.aria_still ENGINE=Aria SELECT * FROM d.t")
		sums := func(r *mysqldtest.Server) string {
			return fmt.Sprint(r.Rows(t, "CHECKSUM TABLE d.t, d.plain, d.zip, d.packed, d.other, d.still, d.converted, d.aria, d.aria_still EXTENDED"))
		}
		convert := func(to, version string) {
			s.Exec(t, "SET GLOBAL innodb_encryption_threads=4", "SET GLOBAL innodb_encrypt_tables="+to)
			mysqldtest.Await(t, "the server converts the table", func() bool {
				return s.Value(t, "SELECT COUNT(*) FROM information_schema.INNODB_TABLESPACES_ENCRYPTION WHERE NAME = 'd/converted' AND MIN_KEY_VERSION = "+version+" AND ROTATING_OR_FLUSHING = 0") == "1"
			})
		}
		s.byCommand(t, keys)
		chain := []string{s.in("full"), s.in("inc 1"), s.in("inc 2")}
		s.backup(t, "full", "--encrypt-to", s.to)
		s.backup(t, "bare")
		s.listsMariaDB(t)
		s.Exec(t, "ALTER TABLE d.t ENCRYPTED=NO", "ALTER TABLE d.plain ENCRYPTED=YES", "UPDATE d.zip SET v = 'changed' WHERE id % 9 = 1", "UPDATE d.aria SET v = 'changed' WHERE id % 9 = 1")
		convert("ON", "1")
		s.backup(t, "inc 1", "--encrypt-to", s.to, "--since", s.in("full.json"))
		s.Exec(t, "ALTER TABLE d.t ENCRYPTED=YES", "UPDATE d.packed SET v = 'changed' WHERE id % 9 = 1", "UPDATE d.other SET v = 'changed' WHERE id % 9 = 1")
		convert("OFF", "0")
		s.Exec(t, "UPDATE d.converted SET v = 'changed' WHERE id % 9 = 1", "INSERT INTO d.plain SELECT id + 1000, v FROM d.still")
		s.backup(t, "inc 2", "--encrypt-to", s.to, "--since", s.in("inc 1.json"))
		want := sums(s.Server)
		if err := s.Stop(); err != nil {
			t.Fatal(err)
		}
		if err := os.Remove(keys); err != nil {
			t.Fatal(err)
		}
		s.restoreChain(t, root, chain, config, sums, want)
	})
}

// listsMariaDB compares what hb list says of two archives with the server.
func (s *sealedServer) listsMariaDB(t *testing.T) {
	t.Helper()
	var names []string
	for _, r := range s.Rows(t, "SELECT CONCAT(NAME, '.ibd') FROM information_schema.INNODB_TABLESPACES_ENCRYPTION WHERE ENCRYPTION_SCHEME = 1 ORDER BY 1") {
		names = append(names, r[0])
	}
	others, both := []string{"the redo log", "Aria tables"}, []string{"key 1, version 1", "key 2, version 1"}
	s.lists(t, "full", names, others, both, "a restore needs only an identity that opens the keys in the backup (hb-keys.age)")
	s.lists(t, "bare", names, others, both, "a restore needs the server's key file with key 1, version 1, key 2, version 1 (--key-file, or --key-command)")
}

// byCommand makes sure that a backup whose keys come from a program has those of all tablespaces,
// also of such as no backup decrypts.
func (s *sealedServer) byCommand(t *testing.T, keys string) {
	t.Helper()
	program, dir := s.in("program"), s.in("by command")
	if err := os.WriteFile(program, []byte("#!/bin/sh\n[ $2 = 1 ] && sed -n \"s/^$1;//p\" '"+keys+"'\n"), 0o700); err != nil {
		t.Fatal(err)
	}
	s.backup(t, "by command.hb", "--encrypt-to", s.to, "--key-command", program)
	hbtest.Succeed(t, hb(t, "extract", "-i", s.key, "-C", dir, s.in("by command.hb")))
	s.otherKeyFile(t, string(mustRead(t, keys)), dir)
	written := s.in("written by command")
	hbtest.Succeed(t, hb(t, "apply", "-i", s.key, "--key-file", s.in("fewer"), "--write-keyring", written, dir))
	if got, want := string(mustRead(t, written)), strings.ToLower(string(mustRead(t, keys))); got != want {
		t.Errorf("the archive has the keys\n%s", got)
	}
}

// otherKeyFile makes sure that apply takes no key file that contradicts the keys in the backup, also
// in a key that it does not need, and changes nothing. It leaves one that lacks a key.
func (s *sealedServer) otherKeyFile(t *testing.T, keys, dir string) {
	t.Helper()
	before := disktest.ReadTree(t, dir)
	first, second, _ := strings.Cut(keys, "\n")
	for name, content := range map[string]string{
		"key 1": strings.Replace(first, "770A", "770B", 1) + "\n" + second, "key 2": first + "\n" + strings.Replace(second, "a7ad", "a7ae", 1),
	} {
		if err := os.WriteFile(s.in("fewer"), []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		r := hbtest.Finish(t, hb(t, "apply", "-i", s.key, "--key-file", s.in("fewer"), dir))
		if want := name + ", version 1 that was given is the wrong one"; r.Code != 10 || !strings.Contains(r.Stderr, want) {
			t.Errorf("another %s: exit code %d, %s", name, r.Code, r.Stderr)
		}
	}
	if after := disktest.ReadTree(t, dir); !maps.Equal(after, before) {
		t.Error("apply refused the keys, and changed the directory")
	}
	if err := os.WriteFile(s.in("fewer"), []byte(first+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
}

// restoreChain restores a chain of MariaDB, and what it merges to, by the identity.
func (s *sealedServer) restoreChain(t *testing.T, root *mysqldtest.Root, chain []string, config func(string) mysqldtest.Options, sums func(*mysqldtest.Server) string, want string) {
	t.Helper()
	verifies(t, 0, append([]string{"-i", s.key, "--replay"}, chain...)...)
	merged, err := os.Create(s.in("merged"))
	if err != nil {
		t.Fatal(err)
	}
	defer merged.Close()
	cmd := hb(t, append([]string{"merge", "-i", s.key}, chain...)...)
	cmd.Stdout = merged
	hbtest.Succeed(t, cmd)
	all := xbtest.ReadAll(t, bytes.NewReader(mustRead(t, s.in("merged"))))
	if all[keyring.SealedName] == nil || !strings.Contains(string(all["hb-manifest.json"]), `"key_checks":{"key 1, version 1":"bac958ec9b29093c"`) {
		t.Errorf("the merged archive has no %s, or its manifest does not tell keys from others", keyring.SealedName)
	}
	verifies(t, 0, "-i", s.key, "--replay", s.in("merged"))
	for i, args := range [][]string{append([]string{"-i", s.key}, chain...), {"-i", s.key, s.in("merged")}} {
		dir, written := s.in(fmt.Sprint("restored", i)), s.in(fmt.Sprint("written", i))
		hbtest.Succeed(t, hb(t, append([]string{"extract", "-C", dir}, args...)...))
		if r := hbtest.Finish(t, hb(t, "apply", dir)); r.Code != 10 || !strings.Contains(r.Stderr, "key 1, version 1") {
			t.Errorf("apply without keys: exit code %d, %s", r.Code, r.Stderr)
		}
		if r := hbtest.Succeed(t, hb(t, "apply", "-i", s.key, "--write-keyring", written, dir)); strings.Contains(r.Stderr, "warning") {
			t.Errorf("apply warns: %s", r.Stderr)
		}
		r := mysqldtest.StartOn(t, root, dir, config(written))
		if got := sums(r); got != want {
			t.Errorf("%v: %s, want %s", args, got, want)
		}
		for _, row := range r.Rows(t, "CHECK TABLE d.t, d.plain, d.zip, d.packed, d.other, d.still, d.converted, d.aria, d.aria_still, mysql.global_priv EXTENDED") {
			if row[3] != "OK" {
				t.Errorf("%q", row)
			}
		}
		if err := r.Stop(); err != nil {
			t.Fatal(err)
		}
	}
}
