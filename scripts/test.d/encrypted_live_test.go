package testd

import (
	"bytes"
	"crypto/aes"
	"encoding/base64"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"filippo.io/age"

	"hb/scripts/test.d/hbtest"
	"hb/source/mysqld/mysqldtest"
	"hb/stream"
	"hb/stream/remote/remotetest"
	"hb/xbstream/keyring"
	"hb/xbstream/xbtest"
)

// sealedServer is a MySQL that encrypts at rest, and what commands need to back it up.
type sealedServer struct {
	*mysqldtest.Server
	dir     string
	options []string // of backup and check
	key     string   // the file of an identity
	to      string   // its recipient
}

// TestSealedExtents: MySQL encrypts the pages that have descriptors of extents but page 0,
// of which a table has more than one from 256 MiB on: with pages of 4 KiB, from 16 MiB on.
// To apply them, hb needs the keys; what verify cannot tell without them is no damage.
func TestSealedExtents(t *testing.T) {
	root := mysqldtest.Need(t, mysqldtest.MySQL97)
	dir, small := t.TempDir(), []string{"innodb-page-size=4k"}
	s := &sealedServer{Server: mysqldtest.Start(t, root, mysqldtest.Options{Keyring: filepath.Join(dir, "keyring"), Init: small}), dir: dir}
	s.options = []string{"--no-defaults", "-u", "root", "-S", s.Socket}
	s.key, s.to = identityFile(t, s.in("identity"))
	s.Exec(t, "CREATE DATABASE d", "CREATE TABLE d.t (id INT AUTO_INCREMENT PRIMARY KEY, v VARCHAR(1000)) ENCRYPTION='Y'",
		"INSERT INTO d.t (v) WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 1000) SELECT REPEAT('x', 1000) FROM n",
		"INSERT INTO d.t (v) SELECT a.v FROM d.t a JOIN (SELECT 1 FROM d.t LIMIT 20) b",
		"FLUSH TABLES d.t FOR EXPORT", "UNLOCK TABLES") // so that its pages are in the file
	sum := fmt.Sprint(s.Rows(t, "CHECKSUM TABLE d.t"))
	s.backup(t, "full", "--encrypt-to", s.to)
	if err := s.Stop(); err != nil {
		t.Fatal(err)
	}
	to := s.in("restored")
	hbtest.Succeed(t, hb(t, "extract", "-i", s.key, "-C", to, s.in("full")))
	if st, err := os.Stat(filepath.Join(to, "d", "t.ibd")); err != nil || st.Size() < 4096*4096+1 {
		t.Fatalf("the table has one page of descriptors: %v, %v", st, err)
	}
	verifies(t, 12, to)
	verifies(t, 0, "-i", s.key, to)
	hbtest.Succeed(t, hb(t, "apply", "-i", s.key, to))
	verifies(t, 12, to)
	verifies(t, 0, "-i", s.key, to)
	restored := mysqldtest.StartOn(t, root, to, mysqldtest.Options{Keyring: s.Keyring, Config: small})
	if got := fmt.Sprint(restored.Rows(t, "CHECKSUM TABLE d.t")); got != sum {
		t.Errorf("CHECKSUM TABLE: %s, want %s", got, sum)
	}
}

// startSealed starts a server with encrypted tables of several kinds.
func startSealed(t *testing.T) *sealedServer {
	root := mysqldtest.Need(t, mysqldtest.MySQL97)
	dir := t.TempDir()
	data := filepath.Join(dir, "data")
	if err := root.Initialise(data, nil); err != nil { // with an identity of its own
		t.Fatal(err)
	}
	s := &sealedServer{Server: mysqldtest.StartOn(t, root, data, mysqldtest.Options{Keyring: filepath.Join(dir, "keyring")}), dir: dir}
	s.options = []string{"--no-defaults", "-u", "root", "-S", s.Socket}
	s.key, s.to = identityFile(t, s.in("identity"))
	s.Exec(t, "CREATE DATABASE d", "ALTER TABLESPACE mysql ENCRYPTION='Y'", "CREATE TABLESPACE g ADD DATAFILE 'g.ibd' ENCRYPTION='Y'")
	for name, options := range map[string]string{"t": "ENCRYPTION='Y'", "plain": "", "zip": "ROW_FORMAT=COMPRESSED KEY_BLOCK_SIZE=8 ENCRYPTION='Y'",
		"packed": "COMPRESSION='zlib' ENCRYPTION='Y'", "general": "TABLESPACE g ENCRYPTION='Y'", "still": "ENCRYPTION='Y'"} {
		s.Exec(t, "CREATE TABLE d."+name+" (id INT AUTO_INCREMENT PRIMARY KEY, v VARCHAR(600)) "+options,
			"INSERT INTO d."+name+" (v) WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 900) SELECT CONCAT(SHA2(i, 256), REPEAT('x', i % 500)) FROM n")
	}
	return s
}

// identityFile makes an age identity in a file.
func identityFile(t *testing.T, name string) (file, recipient string) {
	t.Helper()
	id, err := age.GenerateX25519Identity()
	if err == nil {
		err = os.WriteFile(name, []byte(id.String()+"\n"), 0o600)
	}
	if err != nil {
		t.Fatal(err)
	}
	return name, id.Recipient().String()
}

func (s *sealedServer) in(name string) string { return filepath.Join(s.dir, name) }

// backup makes an archive.
func (s *sealedServer) backup(t *testing.T, name string, args ...string) {
	t.Helper()
	out, err := os.Create(s.in(name))
	if err != nil {
		t.Fatal(err)
	}
	defer out.Close()
	cmd := hb(t, slices.Concat([]string{"backup", "--manifest-out", s.in(name + ".json")}, s.options, args)...)
	cmd.Stdout = out
	hbtest.Succeed(t, cmd)
}

// strip takes the stages off an archive.
func (s *sealedServer) strip(t *testing.T, name, to string) {
	t.Helper()
	text := mustRead(t, s.key)
	ids, err := age.ParseIdentities(bytes.NewReader(text))
	if err != nil {
		t.Fatal(err)
	}
	r, err := stream.Open(bytes.NewReader(mustRead(t, s.in(name))), stream.Options{Identities: ids})
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	plain, err := io.ReadAll(r)
	if err == nil {
		err = os.WriteFile(s.in(to), plain, 0o600)
	}
	if err != nil {
		t.Fatal(err)
	}
}

// verifies runs hb verify, which must end with that code, and returns its last message. What
// follows "<" is standard input.
func verifies(t *testing.T, code int, args ...string) hbtest.Message {
	t.Helper()
	var in io.Reader
	if i := slices.Index(args, "<"); i >= 0 {
		args, in = args[:i], bytes.NewReader(mustRead(t, args[i+1]))
	}
	cmd := hb(t, append([]string{"verify", "--log-format=json"}, args...)...)
	cmd.Stdin = in
	r := hbtest.Finish(t, cmd)
	if r.Code != code {
		t.Errorf("verify %q: exit code %d, want %d\n%s", args, r.Code, code, r.Stderr)
	}
	list := hbtest.Messages(t, r.Stderr)
	return list[len(list)-1]
}

// sums are the checksums of all tables.
func (s *sealedServer) sums(t *testing.T, r *mysqldtest.Server) string {
	t.Helper()
	return fmt.Sprint(r.Rows(t, "CHECKSUM TABLE d.t, d.plain, d.zip, d.packed, d.general, d.still"))
}

// TestVerifySealed: hb verify without the keys tells by its exit code that it could not
// verify everything, and with them, or with the identity that opens those in the backup,
// verifies all: archives in files, at addresses and from pipes, and directories.
func TestVerifySealed(t *testing.T) {
	s := startSealed(t)
	stranger, _ := identityFile(t, s.in("stranger"))
	s.backup(t, "full", "--encrypt-to", s.to)
	s.backup(t, "bare")
	s.Exec(t, "SET GLOBAL innodb_redo_log_encrypt=ON")
	s.backup(t, "redo", "--encrypt-to", s.to)
	var names []string
	for _, r := range s.Rows(t, "SELECT CONCAT(NAME, '.ibd') FROM information_schema.INNODB_TABLESPACES WHERE ENCRYPTION = 'Y' ORDER BY 1") {
		names = append(names, r[0])
	}
	master := "INNODBKey-" + s.Value(t, "SELECT @@server_uuid") + "-1"
	if err := s.Stop(); err != nil {
		t.Fatal(err)
	}
	identity := "a restore needs only an identity that opens the keys in the backup (hb-keys.age)"
	s.lists(t, "full", names, nil, []string{master}, identity)
	s.lists(t, "bare", names, nil, []string{master}, "a restore needs the server's keyring file with "+master+" (--keyring)")
	s.lists(t, "redo", names, []string{"the redo log"}, []string{master}, identity)
	s.strip(t, "full", "stripped")
	s.strip(t, "redo", "redo stripped")
	complete := func(args ...string) {
		t.Helper()
		end := verifies(t, 0, args...)
		if names := fmt.Sprint(end["encrypted"]); end["sealed_pages"] != nil || !strings.Contains(names, "d/packed.ibd d/still.ibd d/t.ibd d/zip.ibd g.ibd mysql.ibd") || strings.Contains(names, "d/plain.ibd") {
			t.Errorf("%q: %v", args, end)
		}
	}
	partial := func(redo bool, args ...string) {
		t.Helper()
		end := verifies(t, 12, args...)
		if n, err := strconv.Atoi(fmt.Sprint(end["sealed_pages"])); n < 300 || err != nil || end["sealed_redo"] != redo || !strings.Contains(fmt.Sprint(end["msg"]), "not a complete verification") {
			t.Errorf("%q: %v", args, end)
		}
	}
	complete("-i", s.key, s.in("full"))
	complete("-i", s.key, s.in("stripped"))
	complete("--keyring", s.Keyring, s.in("stripped"))
	complete("--keyring", s.Keyring, s.in("bare"))
	complete("-i", s.key, "--replay", s.in("full"))
	complete("-i", s.key, s.in("redo"))
	complete("-i", s.key, "--replay", s.in("redo stripped"))
	partial(false, s.in("bare"))
	partial(false, s.in("stripped"))
	partial(true, s.in("redo stripped"))
	partial(false, "-i", s.key, "<", s.in("full")) // its keys come after its pages
	partial(false, "-i", s.key, "<", s.in("redo"))
	verifies(t, 10, "-i", stranger, s.in("stripped"))
	verifies(t, 10, "--replay", s.in("stripped"))

	remote := remotetest.New(t, mustRead(t, s.in("full")))
	cmd := hb(t, "verify", "-i", s.key, remote.Address("full.hb"))
	cmd.Env = append(os.Environ(), "SSL_CERT_FILE="+remote.Certificate(t))
	hbtest.Succeed(t, cmd)

	for _, name := range []string{"full", "redo"} {
		dir := s.in(name + " extracted")
		hbtest.Succeed(t, hb(t, "extract", "-i", s.key, "-C", dir, s.in(name)))
		partial(name == "redo", dir)
		complete("-i", s.key, dir)
		complete("--keyring", s.Keyring, dir)
		verifies(t, 10, "-i", stranger, dir)
	}
	some := s.in("some")
	hbtest.Succeed(t, hb(t, "extract", "-i", s.key, "--files", "d/zip.ibd", "-C", some, s.in("full"))) // as it is stored
	if got := mustRead(t, filepath.Join(some, "d", "zip.ibd")); !bytes.Equal(got, mustRead(t, filepath.Join(s.in("full extracted"), "d", "zip.ibd"))) {
		t.Error("hb extract --files has another d/zip.ibd")
	}
	dir := s.in("full extracted")
	hbtest.Succeed(t, hb(t, "apply", "-i", s.key, dir))
	if end := verifies(t, 12, dir); end["sealed_redo"] != false {
		t.Errorf("the recovered directory: %v", end)
	}
	complete("-i", s.key, dir)
}

// lists makes sure that hb list, which has an identity for the archive and no keys, tells what is
// encrypted, with which keys, and what a restore needs.
func (s *sealedServer) lists(t *testing.T, archive string, names, others, keys []string, needs string) {
	t.Helper()
	r := hbtest.Succeed(t, hb(t, "list", "--json", "-i", s.key, s.in(archive)))
	var list struct {
		Manifest struct {
			Encryption struct {
				Tablespaces         int
				Names, Others, Keys []string
				KeysInBackup        bool `json:"keys_in_backup"`
			}
		}
	}
	if err := json.Unmarshal([]byte(r.Stdout), &list); err != nil {
		t.Fatal(err)
	}
	e := list.Manifest.Encryption
	if len(names) == 0 || e.Tablespaces != len(names) || !slices.Equal(e.Names, names) || !slices.Equal(e.Others, others) || !slices.Equal(e.Keys, keys) ||
		e.KeysInBackup != strings.Contains(needs, "identity") {
		t.Errorf("%s: %+v, want %q, %q, %q", archive, e, names, others, keys)
	}
	if text := fmt.Sprintf("encrypted at rest: %d tablespaces: %s", len(names), names[0]); !strings.Contains(r.Stderr, text) || !strings.Contains(r.Stderr, needs) {
		t.Errorf("%s: hb list says %s, not %q and %q", archive, r.Stderr, text, needs)
	}
	long := hbtest.Succeed(t, hb(t, "list", "--long", "-i", s.key, s.in(archive))).Stdout
	if n := strings.Count(long, " (encrypted)\n"); n != len(names) || !strings.Contains(long, names[0]+" (encrypted)\n") {
		t.Errorf("%s: hb list --long marks %d tablespaces:\n%s", archive, n, long)
	}
}

// TestSealedChain: incremental backups of a server that encrypts, with master keys rotated and
// tables encrypted and decrypted between them. With only the identity the chain is verified,
// extracted, merged, and the merged backup is restored.
func TestSealedChain(t *testing.T) {
	s := startSealed(t)
	chain := []string{s.in("full"), s.in("inc 1"), s.in("inc 2")}
	s.backup(t, "full", "--encrypt-to", s.to)
	s.Exec(t, "ALTER INSTANCE ROTATE INNODB MASTER KEY", "ALTER TABLE d.t ENCRYPTION='N'", "ALTER TABLE d.plain ENCRYPTION='Y'",
		"UPDATE d.zip SET v = 'changed' WHERE id % 9 = 1")
	s.backup(t, "inc 1", "--encrypt-to", s.to, "--since", s.in("full.json"))
	s.Exec(t, "ALTER INSTANCE ROTATE INNODB MASTER KEY", "ALTER INSTANCE ROTATE INNODB MASTER KEY", "ALTER TABLE d.t ENCRYPTION='Y'",
		"UPDATE d.packed SET v = 'changed' WHERE id % 9 = 1", "SET GLOBAL innodb_redo_log_encrypt=ON", "UPDATE d.plain SET v = 'changed' WHERE id % 9 = 1")
	s.backup(t, "inc 2", "--encrypt-to", s.to, "--since", s.in("inc 1.json"))
	if text := string(mustRead(t, s.in("inc 1.json"))); strings.Contains(text, `"live":"`+keyring.SealedName) || !strings.Contains(text, `"path":"`+keyring.SealedName) {
		t.Errorf("the increment takes %s for a file of the server, or has none", keyring.SealedName)
	}
	want := s.sums(t, s.Server)
	if err := s.Stop(); err != nil {
		t.Fatal(err)
	}
	verifies(t, 0, append([]string{"-i", s.key, "--replay"}, chain...)...)
	merged, err := os.Create(s.in("merged"))
	if err != nil {
		t.Fatal(err)
	}
	defer merged.Close()
	cmd := hb(t, append([]string{"merge", "-i", s.key}, chain...)...)
	cmd.Stdout = merged
	hbtest.Succeed(t, cmd)
	if all := xbtest.ReadAll(t, bytes.NewReader(mustRead(t, s.in("merged")))); all[keyring.SealedName] == nil {
		t.Errorf("the merged archive has no %s", keyring.SealedName)
	}
	if end := verifies(t, 12, s.in("merged")); end["sealed_redo"] != true {
		t.Errorf("the merged archive without keys: %v", end)
	}
	verifies(t, 0, "-i", s.key, "--replay", s.in("merged"))

	s.mergeForAnother(t, chain)
	for i, args := range [][]string{append([]string{"-i", s.key}, chain...), {"-i", s.key, s.in("merged")}} {
		dir, ring := s.in(fmt.Sprint("restored", i)), s.in(fmt.Sprint("written", i))
		hbtest.Succeed(t, hb(t, append([]string{"extract", "-C", dir}, args...)...))
		hbtest.Succeed(t, hb(t, "apply", "-i", s.key, "--write-keyring", ring, dir))
		r := mysqldtest.StartOn(t, s.Root, dir, mysqldtest.Options{Keyring: ring})
		if got := s.sums(t, r); got != want {
			t.Errorf("%v: %s, want %s", args, got, want)
		}
		if err := r.Stop(); err != nil {
			t.Fatal(err)
		}
	}
}

// mergeForAnother merges a chain for another recipient: the keys in the archive are encrypted to
// that one, too, if an identity opens them, and stay as they are otherwise, with a warning.
func (s *sealedServer) mergeForAnother(t *testing.T, chain []string) {
	t.Helper()
	other, to := identityFile(t, s.in("other identity"))
	phrase := s.in("phrase")
	if err := os.WriteFile(phrase, []byte("a passphrase\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	merge := func(name string, args ...string) hbtest.Result {
		t.Helper()
		out, err := os.Create(s.in(name))
		if err != nil {
			t.Fatal(err)
		}
		defer out.Close()
		if name != "by phrase" {
			args = append([]string{"--encrypt-to", to}, args...)
		}
		cmd := hb(t, append([]string{"merge"}, args...)...)
		cmd.Stdout = out
		return hbtest.Succeed(t, cmd)
	}
	const warning = "no identity of -i opens the keys in the archives"
	if r := merge("for another", append([]string{"-i", s.key}, chain...)...); strings.Contains(r.Stderr, warning) {
		t.Errorf("merge warns: %s", r.Stderr)
	}
	verifies(t, 0, "-i", other, s.in("for another"))
	verifies(t, 0, "-i", other, "--replay", s.in("for another"))
	verifies(t, 10, "-i", s.key, s.in("for another"))

	var stripped []string
	for _, name := range chain {
		s.strip(t, filepath.Base(name), filepath.Base(name)+" stripped")
		stripped = append(stripped, name+" stripped")
	}
	if r := merge("kept", stripped...); !strings.Contains(r.Stderr, warning) {
		t.Errorf("merge does not warn: %s", r.Stderr)
	}
	if r := merge("by phrase", append([]string{"-i", s.key, "--encrypt-passphrase-file", phrase}, chain...)...); !strings.Contains(r.Stderr, "cannot be encrypted with a passphrase") {
		t.Errorf("merge does not warn: %s", r.Stderr)
	}
	verifies(t, 10, "-i", other, s.in("kept"))
	verifies(t, 0, "-i", other, "-i", s.key, s.in("kept"))
	verifies(t, 0, "-i", other, "--keyring", s.Keyring, "--replay", s.in("kept"))
}

// TestCheckSealed: hb check reports what is encrypted, with which keys, and what a restore
// needs. hb check --grants asks for what hb needs to find the keyring: without it and without
// --keyring the backup is refused before it begins.
func TestCheckSealed(t *testing.T) {
	s := startSealed(t)
	s.Exec(t, "CREATE USER few@localhost IDENTIFIED BY 'pw'", "GRANT BACKUP_ADMIN, PROCESS, RELOAD ON *.* TO few@localhost", "GRANT SELECT ON performance_schema.log_status TO few@localhost")
	account := []string{"--no-defaults", "-S", s.Socket, "-u", "few", "--password=pw"}
	const lacks = "GRANT SELECT ON performance_schema.keyring_component_status TO 'few'@'localhost';\n"
	grants := func(args ...string) string {
		t.Helper()
		return hbtest.Succeed(t, hb(t, slices.Concat([]string{"check", "--grants", "--no-definitions"}, account, args)...)).Stdout
	}
	if got := grants("--keyring", s.Keyring); got != "" {
		t.Errorf("with the keyring given, hb asks for %q", got)
	}
	if r := hbtest.Finish(t, hb(t, append([]string{"backup"}, account...)...)); r.Code != 3 || r.Stdout != "" || !strings.Contains(r.Stderr, lacks) {
		t.Errorf("a backup without that privilege: exit code %d, %s", r.Code, r.Stderr)
	}
	got := grants()
	if got != lacks {
		t.Fatalf("hb asks for %q", got)
	}
	s.Exec(t, strings.TrimSuffix(strings.TrimSpace(got), ";"))
	if got := grants(); got != "" {
		t.Errorf("with all that hb asked for: %q", got)
	}
	s.Exec(t, "SET GLOBAL innodb_redo_log_encrypt=ON")
	master := "INNODBKey-" + s.Value(t, "SELECT @@server_uuid") + "-1"
	encryption := func(args ...string) map[string]any {
		t.Helper()
		return reportObjects(t, hbtest.Succeed(t, hb(t, slices.Concat([]string{"check", "--log-format=json", "--rate-interval=10ms"}, account, args)...)).Stdout)["encryption"]
	}
	for _, c := range []struct {
		args   []string
		within bool
		want   string
	}{{nil, false, "a restore needs the server's keyring file"}, {[]string{"--encrypt-to", s.to}, true, "the backup has the keys"}} {
		f := encryption(c.args...)
		if f["keys_in_backup"] != c.within || fmt.Sprint(f["keys"]) != "["+master+"]" || fmt.Sprint(f["encrypted"]) != "[the redo log]" ||
			fmt.Sprint(f["encrypted_tablespaces"]) != "6" || !strings.Contains(fmt.Sprint(f["msg"]), c.want) {
			t.Errorf("%v: %v", c.args, f)
		}
	}
}

// secrets are the bytes that must be nowhere, by what they are.
type secrets map[string][]byte

// add enters a key, raw and as text.
func (s secrets) add(what string, key []byte) {
	s[what] = key
	s[what+", hex"] = []byte(hex.EncodeToString(key))
	s[what+", HEX"] = bytes.ToUpper(s[what+", hex"])
	s[what+", base64"] = []byte(base64.StdEncoding.EncodeToString(key))[:len(key)*4/3-1]
}

// keys are the master keys of the server's keyring, and those of tablespaces that they open.
func (s *sealedServer) keys(t *testing.T) secrets {
	t.Helper()
	var doc struct {
		Elements []struct {
			ID   string `json:"data_id"`
			Data string `json:"data"`
		} `json:"elements"`
	}
	if err := json.Unmarshal(mustRead(t, s.Keyring), &doc); err != nil {
		t.Fatal(err)
	}
	all, masters := make(secrets), make(map[string][]byte)
	for _, e := range doc.Elements {
		key, err := hex.DecodeString(e.Data)
		if err != nil || len(key) != 32 {
			continue // which one is in use
		}
		all.add(e.ID, key)
		masters[e.ID] = key
	}
	for _, name := range []string{"mysql.ibd", "g.ibd", "d/t.ibd", "d/still.ibd"} {
		info := mustRead(t, filepath.Join(s.Datadir, name))[10390:][:115]
		block, err := aes.NewCipher(masters[fmt.Sprintf("INNODBKey-%s-%d", info[7:43], binary.BigEndian.Uint32(info[3:]))])
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		plain := make([]byte, 64)
		for i := 0; i < len(plain); i += 16 {
			block.Decrypt(plain[i:], info[43+i:])
		}
		all.add("the key of "+name, plain[:32])
	}
	return all
}

// in makes sure that content has none of them.
func (s secrets) in(t *testing.T, where string, content []byte) {
	t.Helper()
	for what, key := range s {
		if bytes.Contains(content, key) {
			t.Errorf("%s has %s", where, what)
		}
	}
}

// watched runs hb, and looks all the time for secrets in every file that it has open, with a
// name or without, and in its environment and arguments.
func (s secrets) watched(t *testing.T, cmd *exec.Cmd, own ...string) (looks int) {
	t.Helper()
	var out, errs bytes.Buffer
	if cmd.Stdout == nil {
		cmd.Stdout = &out
	}
	cmd.Stderr = &errs
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	done := make(chan error, 1)
	go func() { done <- cmd.Wait() }()
	proc := fmt.Sprintf("/proc/%d/", cmd.Process.Pid)
	for {
		select {
		case err := <-done:
			if err != nil {
				t.Fatalf("%v: %v, %s", cmd.Args, err, errs.String())
			}
			s.in(t, "the output of "+cmd.Args[1], append(out.Bytes(), errs.Bytes()...))
			return looks
		case <-time.After(3 * time.Millisecond):
		}
		fds, _ := filepath.Glob(proc + "fd/*")
		for _, name := range append(fds, proc+"environ", proc+"cmdline") {
			to, _ := os.Readlink(name)
			if st, err := os.Stat(name); err != nil || !st.Mode().IsRegular() || slices.Contains(own, to) {
				continue
			}
			if content, err := os.ReadFile(name); err == nil { // it may be closed by now
				s.in(t, name+" -> "+to, content)
				looks++
			}
		}
	}
}

// TestSecretsNowhere: no key of the server is in the archive, in any file that hb has open
// while it works (spool, spilled records, doublewrite file), in what it prints, or in the
// directory; only the keyring that was asked for has them.
func TestSecretsNowhere(t *testing.T) {
	s := startSealed(t)
	s.Exec(t, "SET GLOBAL innodb_redo_log_encrypt=ON", "UPDATE d.t SET v = CONCAT(v, 'y')", "UPDATE d.zip SET v = CONCAT(v, 'y')")
	s.WriteOut(t)
	all := s.keys(t)
	if len(all) < 4*5 {
		t.Fatalf("%d secrets", len(all))
	}
	archive, dir, ring, spool := s.in("archive"), s.in("restored"), s.in("ring"), s.in("spool")
	if err := os.Mkdir(spool, 0o700); err != nil {
		t.Fatal(err)
	}
	out, err := os.Create(archive)
	if err != nil {
		t.Fatal(err)
	}
	defer out.Close()
	backup := hb(t, slices.Concat([]string{"backup", "--log-format=json", "--throttle=40MiB", "--tmpdir", spool}, s.options)...)
	backup.Stdout = out
	looks := all.watched(t, backup, s.Keyring)
	all.in(t, "the archive", mustRead(t, archive))
	s.backup(t, "sealed", "--encrypt-to", s.to)
	if err := s.Stop(); err != nil {
		t.Fatal(err)
	}
	s.strip(t, "sealed", "stripped")
	all.in(t, "the archive with "+keyring.SealedName, mustRead(t, s.in("stripped")))
	looks += all.watched(t, hb(t, "verify", "--replay", "--log-format=json", "--tmpdir", spool, "--keyring", s.Keyring, archive), s.Keyring)
	looks += all.watched(t, hb(t, "extract", "-i", s.key, "-C", dir, s.in("sealed")))
	looks += all.watched(t, hb(t, "apply", "--log-format=json", "--memory=1MiB", "-i", s.key, "--write-keyring", ring, dir), ring)
	err = filepath.WalkDir(dir, func(name string, d fs.DirEntry, err error) error {
		if err == nil && d.Type().IsRegular() {
			all.in(t, name, mustRead(t, name))
		}
		return err
	})
	if err != nil || looks < 50 {
		t.Errorf("%d looks, %v", looks, err)
	}
	t.Logf("%d looks for %d secrets", looks, len(all))
	if st, err := os.Stat(ring); err != nil || st.Mode().Perm() != 0o600 {
		t.Errorf("the keyring: %v, %v", st, err)
	}
}
