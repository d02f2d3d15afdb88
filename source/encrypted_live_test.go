package source_test

import (
	"bytes"
	"context"
	"encoding/hex"
	"errors"
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

	"hb/sink/apply"
	"hb/sink/extract"
	"hb/sink/verify"
	"hb/source"
	"hb/source/mysqld/mysqldtest"
	"hb/source/mysqld/mysqldtest/client"
	"hb/source/mysqld/mysqldtest/workload"
	"hb/xbstream/innodb"
	"hb/xbstream/keyring"
)

// encryptedServer is how a MariaDB encrypts what a test backs up.
type encryptedServer struct {
	name      string
	algorithm string // of its keys
	salted    bool   // the key file is encrypted, and hb finds no key by itself
	redo      bool   // the redo log is encrypted
	aria      bool   // Aria tables are encrypted, those of the server itself, too
	lines     []string
	// during runs while the backup does.
	during func(ctx context.Context, t *testing.T, s *mysqldtest.Server)
}

const (
	key1      = "770A8A65DA156D24EE2A093277530142"
	key2      = "a7addd9adea9978fda19f21e6be987880e68ac92632ca052e5bb42b1a506939a"
	keySecret = "the secret of the key file"
)

// keyFiles writes the key file of a server, and returns the lines that name it, and hb's
// options.
func (e *encryptedServer) keyFiles(t *testing.T) ([]string, keyring.Flags) {
	t.Helper()
	dir := t.TempDir()
	flags := keyring.Flags{KeyFile: filepath.Join(dir, "keys")}
	lines := []string{"plugin-load-add=file_key_management", "file-key-management-encryption-algorithm=" + e.algorithm}
	if err := os.WriteFile(flags.KeyFile, []byte("1;"+key1+"\n2;"+key2+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if e.salted {
		flags.KeySecretFile = filepath.Join(dir, "secret")
		if err := os.WriteFile(flags.KeySecretFile, []byte(keySecret), 0o600); err != nil {
			t.Fatal(err)
		}
		plain := flags.KeyFile
		flags.KeyFile += ".enc"
		command(t, exec.Command("openssl", "enc", "-aes-256-cbc", "-md", "sha1", "-pass", "file:"+flags.KeySecretFile, "-in", plain, "-out", flags.KeyFile), "")
		lines = append(lines, "file-key-management-filekey=FILE:"+flags.KeySecretFile)
	}
	return append(lines, "file-key-management-filename="+flags.KeyFile), flags
}

var encryptedServers = []encryptedServer{
	{name: "tables", algorithm: "aes_cbc", lines: []string{"innodb-encrypt-tables=ON", "innodb-encryption-threads=2"}},
	{name: "crc32, aes_ctr", algorithm: "aes_ctr", salted: true, lines: []string{"innodb-encrypt-tables=FORCE", "innodb-encryption-threads=1", "innodb-checksum-algorithm=crc32"}},
	{name: "redo", algorithm: "aes_cbc", redo: true, lines: []string{"innodb-encrypt-log=ON", "innodb-encrypt-tables=FORCE", "innodb-encryption-threads=1"}},
	{name: "Aria", algorithm: "aes_cbc", aria: true, lines: []string{"aria-encrypt-tables=ON", "innodb-encrypt-tables=ON", "innodb-encryption-threads=1"}},
	{name: "Aria, aes_ctr", algorithm: "aes_ctr", aria: true, salted: true, lines: []string{"aria-encrypt-tables=ON"}, during: switchAria},
	{name: "converted", algorithm: "aes_cbc", lines: []string{"innodb-encryption-threads=4", "innodb-encryption-rotation-iops=2000"}, during: convert},
	{name: "redo, aes_ctr", algorithm: "aes_ctr", redo: true, salted: true, lines: []string{"innodb-encrypt-log=ON", "innodb-encryption-threads=4", "innodb-encryption-rotation-iops=2000"}, during: convert},
	{name: "converted, crc32", algorithm: "aes_ctr", lines: []string{"innodb-encryption-threads=4", "innodb-encryption-rotation-iops=2000", "innodb-checksum-algorithm=crc32"}, during: convert},
}

// convert has the server encrypt and decrypt all tablespaces in turns.
func convert(ctx context.Context, t *testing.T, s *mysqldtest.Server) {
	for i := 0; ctx.Err() == nil; i++ {
		for _, q := range []string{
			"SET GLOBAL innodb_encrypt_tables=" + []string{"ON", "OFF"}[i%2],
			"ALTER TABLE enc.yes ENCRYPTED=" + []string{"NO", "YES"}[i%2],
			"ALTER TABLE enc.no ENCRYPTED=" + []string{"YES ENCRYPTION_KEY_ID=2", "NO ENCRYPTION_KEY_ID=1"}[i%2],
		} {
			if _, err := s.DB().ExecContext(ctx, q); err != nil && ctx.Err() == nil {
				t.Errorf("%s: %v", q, err)
			}
		}
		select {
		case <-ctx.Done():
		case <-time.After(700 * time.Millisecond):
		}
	}
}

// switchAria has the server make tables encrypted, and in clear, in turns.
func switchAria(ctx context.Context, t *testing.T, s *mysqldtest.Server) {
	for i := 0; ctx.Err() == nil; i++ {
		for _, q := range []string{
			"SET GLOBAL aria_encrypt_tables=" + []string{"OFF", "ON"}[i%2],
			"ALTER TABLE enc.aria ENGINE=Aria",
			"INSERT INTO enc.aria SELECT 10000 + 1000 * " + strconv.Itoa(i) + " + seq, MD5(seq), POINT(1, 1) FROM enc.seq_1_to_500",
		} {
			if _, err := s.DB().ExecContext(ctx, q); err != nil && ctx.Err() == nil {
				t.Errorf("%s: %v", q, err)
			}
		}
	}
}

// TestEncrypted backs encrypted servers up under load, and restores them with hb, given
// the keys, and with the peer's tools. Each copy obeys the load's rules and catches up as a
// replica; what hb leaves is encrypted as the server's files are.
func TestEncrypted(t *testing.T) {
	mysqldtest.Each(t, mysqldtest.MariaDB, func(t *testing.T, root *mysqldtest.Root) {
		for i, e := range encryptedServers {
			if !itsTurn(i, mysqldtest.MariaDB, root.Name) {
				continue
			}
			t.Run(e.name, func(t *testing.T) { e.test(t, root) })
		}
	})
}

func (e *encryptedServer) test(t *testing.T, root *mysqldtest.Root) {
	lines, flags := e.keyFiles(t)
	s := mysqldtest.Start(t, root, mysqldtest.Options{Binlog: true, Init: append(lines, e.lines...)})
	e.tables(t, s)
	load, err := workload.Prepare(t.Context(), s.DB(), workload.Options{DDLRate: 10})
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	archive := filepath.Join(dir, "archive")
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	workload.During(t, load, func() {
		go func() {
			defer close(done)
			if e.during != nil {
				e.during(ctx, t, s)
			}
		}()
		time.Sleep(time.Second)
		if e.redo || e.aria {
			backupWith(t, s, archive, loadKeys(t, flags))
		} else {
			backup(t, s, archive) // pages are verified without keys
		}
		cancel()
		<-done
	})
	if e.during == nil {
		e.backupByPeer(t, s, archive+".peer")
	}
	if e.aria {
		e.withoutKeys(t, s, flags)
	}
	e.verify(t, archive, flags, dir)
	target := filepath.Join(dir, "restored by hb")
	e.restore(t, archive, target, flags)
	keysNowhere(t, archive, target)
	if e.redo && e.during == nil {
		rowsNowhere(t, archive, target)
	}
	workload.VerifyCopy(t, s, target, true)
	target = filepath.Join(dir, "restored by the peer")
	e.restoreByPeer(t, root, archive, target, flags)
	workload.VerifyCopy(t, s, target, false)
	if e.during == nil {
		target = filepath.Join(dir, "of the peer, restored by hb")
		e.restore(t, archive+".peer", target, flags)
		workload.VerifyCopy(t, s, target, false)
	}
}

// backupByPeer makes an archive with mariadb-backup, under a load without DDL, which makes it fail,
// or miss files.
func (e *encryptedServer) backupByPeer(t *testing.T, s *mysqldtest.Server, archive string) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() {
		defer close(done)
		for i := 0; ctx.Err() == nil; i++ {
			for _, table := range []string{"yes", "other", "packed", "zip", "redundant"} {
				q := fmt.Sprintf("UPDATE enc.%s SET v = CONCAT('row ', SHA2(id + %d, 512)) WHERE id %% 10 = %d", table, i, i%10)
				if _, err := s.DB().ExecContext(ctx, q); err != nil && ctx.Err() == nil {
					t.Errorf("%s: %v", q, err)
				}
			}
		}
	}()
	out, err := os.Create(archive)
	if err != nil {
		t.Fatal(err)
	}
	cmd := s.Tool("mariadb-backup", "--defaults-file="+s.DefaultsFile, "--backup", "--stream=xbstream", "--target-dir="+t.TempDir())
	var complaint bytes.Buffer
	cmd.Stdout, cmd.Stderr = out, &complaint
	err = errors.Join(cmd.Run(), out.Close())
	cancel()
	<-done
	if text := complaint.String(); err != nil {
		t.Fatalf("mariadb-backup: %v\n%s", err, text[max(0, len(text)-2000):])
	}
}

// withoutKeys makes sure that a backup of encrypted Aria tables fails without the right keys.
func (e *encryptedServer) withoutKeys(t *testing.T, s *mysqldtest.Server, flags keyring.Flags) {
	t.Helper()
	s.Exec(t, "SET GLOBAL aria_encrypt_tables=OFF") // or preflight knows: see TestCheckEncrypted
	hidden := flags.KeyFile + ".hidden"
	if err := os.Rename(flags.KeyFile, hidden); err != nil {
		t.Fatal(err)
	}
	srv := client.Open(t, s)
	defer srv.Close()
	_, err := source.Run(t.Context(), srv, io.Discard, source.Options{Tmpdir: t.TempDir(), Tool: "hb", ToolVersion: "test"})
	if missing, ok := errors.AsType[*keyring.MissingKeyError](err); !ok || !strings.Contains(missing.Name, "key 1, version 1") || !strings.Contains(err.Error(), ".MA") {
		t.Errorf("a backup without keys: %v", err)
	}
	if err := os.Rename(hidden, flags.KeyFile); err != nil {
		t.Fatal(err)
	}
}

// tables makes tables of each format and of each setting.
func (e *encryptedServer) tables(t *testing.T, s *mysqldtest.Server) {
	t.Helper()
	s.Exec(t, "CREATE DATABASE enc")
	for name, options := range map[string]string{
		"standard": "", "yes": "ENCRYPTED=YES", "other": "ENCRYPTED=YES ENCRYPTION_KEY_ID=2",
		"packed": "PAGE_COMPRESSED=1 ENCRYPTED=YES", "zip": "ROW_FORMAT=COMPRESSED KEY_BLOCK_SIZE=8 ENCRYPTED=YES",
		"redundant": "ROW_FORMAT=REDUNDANT ENCRYPTED=YES", "no": "ENCRYPTED=NO",
	} {
		if name == "no" && strings.Contains(strings.Join(e.lines, " "), "FORCE") {
			continue
		}
		// The server encrypts spatial indexes only in full_crc32 tablespaces, which those of
		// ROW_FORMAT=COMPRESSED never are, and refuses other tables that have one.
		spatial := ", SPATIAL INDEX (p)"
		if name == "zip" || strings.Contains(strings.Join(e.lines, " "), "=crc32") {
			spatial = ""
		}
		s.Exec(t, "CREATE TABLE enc."+name+" (id INT PRIMARY KEY, v VARCHAR(300), p POINT NOT NULL"+spatial+") ENGINE=InnoDB "+options,
			"INSERT INTO enc."+name+" SELECT seq, CONCAT('row ', SHA2(seq, 512)), POINT(seq, -seq) FROM enc.seq_1_to_3000")
	}
	if e.aria {
		s.Exec(t, "CREATE TABLE enc.aria (id INT PRIMARY KEY, v VARCHAR(300), p POINT NOT NULL) ENGINE=Aria TRANSACTIONAL=1",
			"INSERT INTO enc.aria SELECT seq, CONCAT('row ', SHA2(seq, 512)), POINT(seq, -seq) FROM enc.seq_1_to_3000",
			"CREATE TABLE enc.aria_unsafe ENGINE=Aria TRANSACTIONAL=0 SELECT * FROM enc.aria")
	}
}

func (e *encryptedServer) verify(t *testing.T, archive string, flags keyring.Flags, tmpdir string) {
	t.Helper()
	for _, replay := range []bool{false, true} {
		o := verify.Options{Tmpdir: tmpdir, Replay: replay}
		if replay || e.redo {
			o.Keys = loadKeys(t, flags)
		}
		f, err := os.Open(archive)
		if err != nil {
			t.Fatal(err)
		}
		result, err := verify.Archive(t.Context(), f, o)
		f.Close()
		if err != nil || slices.ContainsFunc(result.Warnings, func(w string) bool { return !e.unproven(w) }) || result.Tally.Sealed != 0 {
			t.Fatalf("verify, rehearsal %v: %+v, %v", replay, result, err)
		}
	}
}

// unproven reports whether a warning is that nothing proves a key, which is so of hb's own
// archives where it had no keys, and only the redo log has the pages: see TestEncryptedYoung.
func (e *encryptedServer) unproven(warning string) bool {
	return e.salted && strings.Contains(warning, "nothing in the backup shows whether key 2")
}

func loadKeys(t *testing.T, flags keyring.Flags) *keyring.Keys {
	t.Helper()
	keys, err := flags.Load()
	if err != nil {
		t.Fatal(err)
	}
	return keys
}

// restore restores by hb: not without the keys, nor with other ones, before anything is
// changed, and then with them.
func (e *encryptedServer) restore(t *testing.T, archive, target string, flags keyring.Flags) {
	t.Helper()
	f, err := os.Open(archive)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if _, err := extract.Run(t.Context(), f, target, extract.Options{}); err != nil {
		t.Fatal(err)
	}
	before := contents(t, target)
	_, err = apply.Run(t.Context(), target, apply.Options{Tool: "hb test"})
	if missing, ok := errors.AsType[*keyring.MissingKeyError](err); !ok || !strings.Contains(missing.Name, "key 1, version 1") && !strings.Contains(missing.Name, "key 2, version 1") {
		t.Errorf("without keys: %v", err)
	}
	var wrong keyring.Keys
	for i, n := range []int{16, 32} {
		if err := wrong.AddMariaDB(keyring.MariaDBKey{ID: uint32(i + 1), Version: 1}, bytes.Repeat([]byte{7}, n)); err != nil {
			t.Fatal(err)
		}
	}
	_, err = apply.Run(t.Context(), target, apply.Options{Tool: "hb test", Keys: &wrong})
	if !keyring.IsKeyError(err) {
		t.Errorf("with wrong keys: %v", err)
	}
	changed := contents(t, target) != before
	copied := storedPages(t, target)
	known := false
	for _, p := range copied {
		known = known || p.sealed
	}
	// Where only the redo log has a table, hb learns that it needs the key as it makes page 0.
	if changed && known {
		t.Error("hb apply changed files although it had no keys")
	}
	result, err := apply.Run(t.Context(), target, apply.Options{Tool: "hb test", Keys: loadKeys(t, flags)})
	if err != nil {
		t.Fatal(err)
	}
	e.checkSealed(t, copied, storedPages(t, target))
	for _, w := range result.Warnings {
		peers := !strings.HasSuffix(archive, "archive") && strings.Contains(w, "nothing in the backup shows whether key 2")
		if !peers && !e.unproven(w) {
			t.Errorf("apply warns: %s", w)
		}
	}
	verifySystem(t, target, flags)
}

// verifySystem verifies a recovered directory with its keys: pages of an encrypted system
// tablespace that no server writes pass, and one that was lost does not. Without keys hb
// says that it looked for no such page.
func verifySystem(t *testing.T, target string, flags keyring.Flags) {
	t.Helper()
	const lost = 7 // the head of InnoDB's dictionary
	system := filepath.Join(target, "ibdata1")
	result, err := verify.Directory(t.Context(), target, verify.Options{Keys: loadKeys(t, flags)})
	if err != nil || slices.ContainsFunc(result.Warnings, unlooked) {
		t.Errorf("verify of what was recovered: %v, %+v", err, result)
	}
	result, err = verify.Directory(t.Context(), target, verify.Options{})
	if sealed := sealedAt(t, system, 2); err != nil || slices.ContainsFunc(result.Warnings, unlooked) != sealed {
		t.Errorf("verify without keys, inodes encrypted %v: %v, %+v", sealed, err, result)
	}
	before := overwrite(t, system, lost, make([]byte, pageBytes))
	_, err = verify.Directory(t.Context(), target, verify.Options{Keys: loadKeys(t, flags)})
	if err == nil || !strings.Contains(err.Error(), fmt.Sprintf("ibdata1: page %d is in use, and zero", lost)) {
		t.Errorf("verify with page %d lost: %v", lost, err)
	}
	overwrite(t, system, lost, before)
}

func unlooked(warning string) bool {
	return strings.Contains(warning, "hb did not look for pages of ibdata1 that were lost")
}

// sealedAt reports whether a page of a tablespace is encrypted.
func sealedAt(t *testing.T, path string, no innodb.PageNo) bool {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	space, err := innodb.ParseSpace(data)
	if err != nil {
		t.Fatal(err)
	}
	return space.Sealed(data[int(no)*space.Physical:][:space.Physical], no)
}

// contents sums the files of a directory up.
func contents(t *testing.T, dir string) string {
	t.Helper()
	out, err := exec.Command("sh", "-c", "cd \"$1\" && find . -type f | sort | xargs -d '\\n' sha256sum", "sh", dir).Output()
	if err != nil {
		t.Fatal(err)
	}
	return string(out)
}

// storedPage is how a page is stored.
type storedPage struct {
	lsn           innodb.LSN
	sealed, plain bool // plain: servers never encrypt it
	of            *innodb.Space
}

// storedPages are the pages of all tables in a directory.
func storedPages(t *testing.T, dir string) map[innodb.PageID]storedPage {
	t.Helper()
	all := make(map[innodb.PageID]storedPage)
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || filepath.Ext(path) != ".ibd" {
			return err
		}
		if _, err := os.Stat(strings.TrimSuffix(path, ".ibd") + ".del"); err == nil {
			return nil // its table was dropped while it was copied: hb apply removes both
		}
		content, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		space, err := innodb.ParseSpace(content)
		if errors.Is(err, innodb.ErrZeroHeader) {
			return nil
		}
		if err != nil {
			return fmt.Errorf("%s: %w", path, err)
		}
		for no := range innodb.PageNo(len(content) / space.Physical) {
			page := content[int(no)*space.Physical:][:space.Physical]
			kind := innodb.HeaderType(page)
			all[innodb.PageID{Space: space.ID, No: no}] = storedPage{innodb.HeaderLSN(page), space.Sealed(page, no),
				innodb.AllZero(page) || kind == innodb.TypeFSPHeader || kind == innodb.TypeXDES || kind == innodb.TypeRTree && !space.FullCRC32, &space}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return all
}

// checkSealed compares how pages were stored before and after the redo was applied: none that
// was written is in clear in a tablespace that is encrypted, nor one that was encrypted
// before. Where the server converts nothing, no page at all is in clear.
func (e *encryptedServer) checkSealed(t *testing.T, copied, now map[innodb.PageID]storedPage) {
	t.Helper()
	written, sealed := 0, 0
	for id, p := range now {
		c, old := copied[id]
		changed := !old || c.lsn != p.lsn
		encrypted := p.of.Encryption.Scheme == 1 && p.of.Encryption.Mode != 2
		if p.sealed {
			sealed++
		}
		if changed && encrypted {
			written++
		}
		if encrypted && !p.sealed && !p.plain && (changed || c.sealed || e.during == nil) {
			t.Errorf("page %v is encrypted: %v, and was before: %v (%+v)", id, p.sealed, c.sealed, p.of.Encryption)
		}
	}
	t.Logf("%d pages are encrypted; %d were written in encrypted tablespaces", sealed, written)
	if sealed == 0 || written == 0 {
		t.Error("the test proves nothing")
	}
}

// restoreByPeer restores with only the peer's tools, given the keys.
func (e *encryptedServer) restoreByPeer(t *testing.T, root *mysqldtest.Root, archive, target string, flags keyring.Flags) {
	t.Helper()
	if err := os.Mkdir(target, 0o755); err != nil {
		t.Fatal(err)
	}
	command(t, root.Tool("mbstream", "-x", "-C", target), archive)
	if e.salted { // the option that hb leaves out
		f, err := os.OpenFile(filepath.Join(target, "backup-my.cnf"), os.O_APPEND|os.O_WRONLY, 0)
		if err != nil {
			t.Fatal(err)
		}
		_, err = fmt.Fprintf(f, "file_key_management_filekey=FILE:%s\n", flags.KeySecretFile)
		if err := errors.Join(err, f.Close()); err != nil {
			t.Fatal(err)
		}
	}
	command(t, root.Tool("mariadb-backup", "--prepare", "--target-dir="+target), "")
}

// keysNowhere makes sure that no key is in an archive, nor in what a restore leaves.
func keysNowhere(t *testing.T, paths ...string) {
	t.Helper()
	var needles [][]byte
	for _, key := range []string{key1, key2} {
		raw, err := hex.DecodeString(key)
		if err != nil {
			t.Fatal(err)
		}
		needles = append(needles, raw, []byte(strings.ToLower(key)), []byte(strings.ToUpper(key)))
	}
	needles = append(needles, []byte(keySecret))
	for _, path := range paths {
		err := filepath.WalkDir(path, func(path string, d fs.DirEntry, err error) error {
			if err != nil || !d.Type().IsRegular() {
				return err
			}
			content, err := os.ReadFile(path)
			for i, needle := range needles {
				if bytes.Contains(content, needle) {
					t.Errorf("%s has key %d", path, i)
				}
			}
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
	}
}

// backupWith is backup with keys.
func backupWith(t *testing.T, s *mysqldtest.Server, archive string, keys *keyring.Keys) {
	t.Helper()
	srv := client.Open(t, s)
	defer srv.Close()
	f, err := os.Create(archive)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if _, err := source.Run(t.Context(), srv, f, source.Options{Parallel: 2, Tmpdir: t.TempDir(), Tool: "hb", ToolVersion: "test", Keys: keys}); err != nil {
		t.Fatal(err)
	}
}

// rowsNowhere makes sure that no row of a table that the test made is in clear in an archive or
// a directory, of a server that encrypts all tables and its redo log.
func rowsNowhere(t *testing.T, paths ...string) {
	t.Helper()
	row := []byte("row 4dff4ea340f0a823f15d3f4f01ab62ea") // with SHA2('1', 512)
	for _, path := range paths {
		err := filepath.WalkDir(path, func(path string, d fs.DirEntry, err error) error {
			if err != nil || !d.Type().IsRegular() {
				return err
			}
			content, err := os.ReadFile(path)
			if bytes.Contains(content, row) {
				t.Errorf("%s has a row in clear", path)
			}
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
	}
}

// TestEncryptedYoung: of a table that is so young that only the redo log has its pages, nothing
// but what the manifest has of them tells the right key from another. A backup that had no keys
// cannot tell, and apply warns of that.
func TestEncryptedYoung(t *testing.T) {
	mysqldtest.Each(t, mysqldtest.MariaDB, func(t *testing.T, root *mysqldtest.Root) {
		e := &encryptedServer{algorithm: "aes_cbc", salted: true}
		lines, flags := e.keyFiles(t)
		s := mysqldtest.Start(t, root, mysqldtest.Options{Binlog: true, Init: append(lines, "innodb-max-dirty-pages-pct=99")})
		s.Exec(t, "CREATE DATABASE d", "CREATE TABLE d.young (id INT PRIMARY KEY, v VARCHAR(300)) ENGINE=InnoDB ENCRYPTED=YES",
			"INSERT INTO d.young SELECT seq, SHA2(seq, 512) FROM d.seq_1_to_5000")
		dir := t.TempDir()
		wrong := new(keyring.Keys)
		if err := wrong.AddMariaDB(keyring.MariaDBKey{ID: 1, Version: 1}, bytes.Repeat([]byte{7}, 16)); err != nil {
			t.Fatal(err)
		}
		for name, keys := range map[string]*keyring.Keys{"with keys": loadKeys(t, flags), "without keys": nil} {
			archive, target := filepath.Join(dir, name), filepath.Join(dir, name+", restored")
			backupWith(t, s, archive, keys)
			f, err := os.Open(archive)
			if err != nil {
				t.Fatal(err)
			}
			_, err = extract.Run(t.Context(), f, target, extract.Options{})
			if err := errors.Join(err, f.Close()); err != nil {
				t.Fatal(err)
			}
			sealed := 0
			for _, p := range storedPages(t, target) {
				if p.sealed {
					sealed++
				}
			}
			if sealed > 0 {
				t.Errorf("%s: %d pages are encrypted on disk: the test proves nothing", name, sealed)
			}
			before := contents(t, target)
			if keys != nil {
				_, err = apply.Run(t.Context(), target, apply.Options{Tool: "hb test", Keys: wrong})
				if why, ok := errors.AsType[*keyring.WrongKeyError](err); !ok || why.Name != "key 1, version 1" {
					t.Errorf("%s: with another key: %v", name, err)
				}
				if contents(t, target) != before {
					t.Errorf("%s: hb apply changed files although it had another key", name)
				}
			}
			result, err := apply.Run(t.Context(), target, apply.Options{Tool: "hb test", Keys: loadKeys(t, flags)})
			if err != nil {
				t.Fatalf("%s: %v", name, err)
			}
			if warns := strings.Contains(strings.Join(result.Warnings, "\n"), "nothing in the backup shows whether key 1, version 1 is the server's"); warns == (keys != nil) {
				t.Errorf("%s: apply warns: %q", name, result.Warnings)
			}
			restored := mysqldtest.StartOn(t, root, target, mysqldtest.Options{Config: lines})
			if n := restored.Value(t, "SELECT COUNT(*) FROM d.young WHERE v = CONVERT(SHA2(id, 512) USING latin1)"); n != "5000" {
				t.Errorf("%s: %s rows", name, n)
			}
		}
	})
}

// TestEncryptedWrongKeys: a backup does not take other keys for the server's. It would have them
// in the archive, or refuse the right ones at the restore, and could not be restored. Keys that
// it lacks it names, if it is to have them.
func TestEncryptedWrongKeys(t *testing.T) {
	mysqldtest.Each(t, mysqldtest.MariaDB, func(t *testing.T, root *mysqldtest.Root) {
		e := &encryptedServer{algorithm: "aes_cbc", salted: true} // hb finds no key by itself
		lines, flags := e.keyFiles(t)
		s := mysqldtest.Start(t, root, mysqldtest.Options{Binlog: true, Init: lines})
		run(t, s, []string{"CREATE DATABASE d", "CREATE TABLE d.t (id INT PRIMARY KEY, v VARCHAR(300)) ENGINE=InnoDB ENCRYPTED=YES ENCRYPTION_KEY_ID=2",
			"INSERT INTO d.t SELECT seq, SHA2(seq, 512) FROM d.seq_1_to_5000", "FLUSH TABLES d.t FOR EXPORT", "UNLOCK TABLES"})
		identity, err := age.GenerateX25519Identity()
		if err != nil {
			t.Fatal(err)
		}
		key := func(text string) keyring.Secret {
			b, err := hex.DecodeString(text)
			if err != nil {
				t.Fatal(err)
			}
			return b
		}
		only1, wrong := new(keyring.Keys), new(keyring.Keys)
		for _, err := range []error{
			only1.AddMariaDB(keyring.MariaDBKey{ID: 1, Version: 1}, key(key1)), wrong.AddMariaDB(keyring.MariaDBKey{ID: 1, Version: 1}, key(key1)),
			wrong.AddMariaDB(keyring.MariaDBKey{ID: 2, Version: 1}, key(key1)),
		} {
			if err != nil {
				t.Fatal(err)
			}
		}
		for _, c := range []struct {
			name       string
			keys       *keyring.Keys
			recipients []age.Recipient
			wrong      bool
			lacks      bool
		}{
			{name: "the server's", keys: loadKeys(t, flags), recipients: []age.Recipient{identity.Recipient()}},
			{name: "none"},
			{name: "wrong", keys: wrong, wrong: true},
			{name: "wrong, for the archive", keys: wrong, recipients: []age.Recipient{identity.Recipient()}, wrong: true},
			{name: "not all", keys: only1},
			{name: "not all, for the archive", keys: only1, recipients: []age.Recipient{identity.Recipient()}, lacks: true},
		} {
			srv := client.Open(t, s)
			result, err := source.Run(t.Context(), srv, io.Discard, source.Options{Tmpdir: t.TempDir(), Tool: "hb", ToolVersion: "test", Keys: c.keys, Recipients: c.recipients})
			srv.Close()
			why, refused := errors.AsType[*keyring.WrongKeyError](err)
			if refused != c.wrong || refused && why.Name != "key 2, version 1" || !refused && err != nil {
				t.Errorf("%s: %v", c.name, err)
			}
			if lacks := strings.Contains(strings.Join(result.Manifest.Warnings, "\n"), "hb was not given [key 2, version 1]"); lacks != c.lacks {
				t.Errorf("%s: warnings %q", c.name, result.Manifest.Warnings)
			}
		}
	})
}

// TestEncryptedUnusedKey: a restore does not need a key that nothing in the backup is encrypted
// with to be what it was. One that something is encrypted with it refuses before it changes anything.
func TestEncryptedUnusedKey(t *testing.T) {
	mysqldtest.Each(t, mysqldtest.MariaDB, func(t *testing.T, root *mysqldtest.Root) {
		e := &encryptedServer{algorithm: "aes_cbc"}
		lines, flags := e.keyFiles(t)
		s := mysqldtest.Start(t, root, mysqldtest.Options{Binlog: true, Init: lines})
		run(t, s, []string{"CREATE DATABASE d", "CREATE TABLE d.t (id INT PRIMARY KEY, v VARCHAR(300)) ENGINE=InnoDB ENCRYPTED=YES ENCRYPTION_KEY_ID=2",
			"INSERT INTO d.t SELECT seq, SHA2(seq, 512) FROM d.seq_1_to_5000", "FLUSH TABLES d.t FOR EXPORT", "UNLOCK TABLES"})
		archive, target := filepath.Join(t.TempDir(), "archive"), filepath.Join(t.TempDir(), "restored")
		backupWith(t, s, archive, loadKeys(t, flags))
		unpack(t, archive, target)
		before := contents(t, target)
		other := func(old string) *keyring.Keys {
			t.Helper()
			b, err := os.ReadFile(flags.KeyFile)
			if err != nil {
				t.Fatal(err)
			}
			changed := keyring.Flags{KeyFile: filepath.Join(t.TempDir(), "changed")}
			if err := os.WriteFile(changed.KeyFile, bytes.Replace(b, []byte(old), []byte(old[2:]+old[:2]), 1), 0o600); err != nil {
				t.Fatal(err)
			}
			return loadKeys(t, changed)
		}
		_, err := apply.Run(t.Context(), target, apply.Options{Tool: "hb test", Keys: other(key2)})
		if why, ok := errors.AsType[*keyring.WrongKeyError](err); !ok || why.Name != "key 2, version 1" || contents(t, target) != before {
			t.Errorf("with another key 2: %v", err)
		}
		if _, err := apply.Run(t.Context(), target, apply.Options{Tool: "hb test", Keys: other(key1)}); err != nil {
			t.Fatalf("with another key 1, which nothing uses: %v", err)
		}
		restored := mysqldtest.StartOn(t, root, target, mysqldtest.Options{Config: lines})
		if n := restored.Value(t, "SELECT COUNT(*) FROM d.t WHERE v = CONVERT(SHA2(id, 512) USING latin1)"); n != "5000" {
			t.Errorf("%s rows", n)
		}
	})
}
